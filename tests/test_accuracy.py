"""The measures of accuracy against plain loops and by hand, the limits, and what does not fit."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nsight_tools import accuracy
from nsight_tools.accuracy import Accuracy, AccuracyError, Agreement, compared, judged, limits
from nsight_tools.report import accurate

Array = np.ndarray[Any, Any]


def one(array: object, reference: object) -> Agreement:
    (found,) = compared({"y": np.asarray(array)}, {"y": np.asarray(reference)})
    return found


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_the_measures_are_those_of_a_plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nsight_tools.accuracy.measures._BLOCK", 7)  # several blocks, and one that is not full
    a, r = normal(1, 5, 6), normal(2, 5, 6)
    a[0, :4] = r[0, :4]
    pairs = [(float(x), float(y)) for x, y in zip(a.ravel(), r.ravel(), strict=True)]
    outside = sum(abs(x - y) > 1e-5 + 1e-5 * abs(y) for x, y in pairs)
    square = sum((x - y) ** 2 for x, y in pairs)
    lengths = [math.sqrt(sum(pair[side] ** 2 for pair in pairs)) for side in (0, 1)]
    found = one(a, r)
    assert (found.values, found.broken, found.alike, found.whole) == (30, 0, 0, False)
    assert found.l0 == outside / 30 == 26 / 30
    assert found.l1 == pytest.approx(sum(abs(x - y) for x, y in pairs) / 30)
    assert found.l2 == pytest.approx(square / 30)
    assert found.lInf == pytest.approx(max(abs(x - y) for x, y in pairs))
    assert found.cos == pytest.approx(sum(x * y for x, y in pairs) / lengths[0] / lengths[1])
    assert found.rel == pytest.approx(math.sqrt(square) / lengths[1])


def test_what_is_the_same_is_the_same() -> None:
    r = normal(1, 4, 10)
    same = one(r, r)
    assert (same.l0, same.l1, same.l2, same.lInf, same.rel, same.top1) == (0, 0, 0, 0, 0, 1)
    assert same.cos == pytest.approx(1)


def test_cos_is_blind_to_the_scale_and_rel_is_not() -> None:
    r = normal(1, 4, 10)
    assert one(2 * r, r).cos == pytest.approx(1)
    assert one(2 * r, r).rel == pytest.approx(1)


@pytest.mark.parametrize(("a", "r", "cos"), [([0.0, 0], [0.0, 0], 1), ([1.0, 0], [0.0, 0], 0), ([0.0, 0], [0.0, 3], 0)])
def test_zeros_have_no_direction(a: list[float], r: list[float], cos: float) -> None:
    assert one(a, r).cos == cos


def test_what_fp16_cannot_hold_is_no_error() -> None:
    """A sigmoid of noise: all but zeros, as of a text detector. A copy in FP16 passes, and so do zeros; ones do not."""
    r = np.full((1, 1, 8, 8), 1e-9, np.float32)
    for passes, a in ((True, r.astype(np.float16)), (True, np.zeros_like(r)), (False, np.ones_like(r))):
        found = judged({"y": a}, {"y": r}, "it")
        assert found.passed is passes
        assert found.outputs[0].faint
    assert not one(normal(1, 3, 4), normal(2, 3, 4)).faint


def test_nan_and_infinity_are_told_and_in_no_mean() -> None:
    r = normal(1, 4, 10)
    a = r.copy()
    a[0, 0], a[1, 1] = np.nan, np.inf
    found = judged({"y": a}, {"y": r}, "it")
    (each,) = found.outputs
    assert (each.broken, each.alike) == (2, 0)
    assert each.l0 == 2 / 40
    assert {each.l1, each.l2, each.lInf, each.cos, each.rel} == {None}
    assert found.failures == ("output y: 2 of 40 values are NaN or infinite on one side only",)
    assert judged({"y": a}, {"y": r}, "it", limits("l0:1")).failures == found.failures


def test_masks_of_infinity_on_both_sides_are_left_out() -> None:
    a, r = normal(1, 4, 10), normal(1, 4, 10)
    a[:, 7:] = r[:, 7:] = -np.inf
    a[0, 0] += 1
    found = one(a, r)
    assert (found.broken, found.alike) == (0, 12)
    assert found.l1 == pytest.approx(1 / 28)
    assert found.lInf == pytest.approx(1)
    a[0, 9] = np.inf  # of the other sign: not the same
    assert one(a, r).broken == 1


def test_nothing_finite_tells_nothing() -> None:
    nothing = np.full((2, 3), np.nan)
    found = judged({"y": nothing}, {"y": nothing}, "it")
    assert {found.outputs[0].l0, found.outputs[0].cos} == {None}
    assert found.failures == ("output y: rel cannot be told: no value is finite, and must be at most 0.05",)


def test_an_output_without_values_is_the_same() -> None:
    nothing = np.zeros((0, 4), np.float32)
    assert judged({"y": nothing}, {"y": nothing}, "it", limits("l0:0,rel:0,cos:1")).passed


@pytest.mark.parametrize(
    ("shape", "looks"),
    [((8, 1000), True), ((1, 1000, 1, 1), True), ((1, 1, 1000), True), ((8, 2), True), ((8, 1), False),
     ((1000,), False), ((1, 8400, 85), False), ((1, 1, 640, 640), False), ((), False), ((0, 10), False)],
)  # fmt: skip
def test_what_looks_like_classes(shape: tuple[int, ...], looks: bool) -> None:
    assert accuracy.classes(shape) is looks
    assert (one(np.zeros(shape), np.zeros(shape)).top1 is not None) is looks


def test_the_first_class_is_the_same_or_a_tie() -> None:
    r = np.array([[1.0, 2, 3], [3, 2, 1], [5, 5, 0], [1, 2, 3]])
    a = np.array([[1.0, 2, 3], [3, 2, 1], [4, 5, 0], [3, 2, 1]])
    assert one(a, r).top1 == 0.75
    a[0] = np.nan
    assert one(a, r).top1 == 0.5
    assert one(r.astype(int), r.astype(int)).top1 is None


def test_whole_numbers_have_a_limit_of_their_own() -> None:
    places = np.arange(40).reshape(1, 40)
    for off, passes in ((2, True), (3, False)):
        moved = places.copy()
        moved[0, :off] += 1_000_000
        found = judged({"boxes": moved}, {"boxes": places}, "it")
        assert found.passed is passes
    assert found.failures == ("output boxes: l0 is 0.075, and must be at most 0.05",)
    assert judged({"b": np.array([True])}, {"b": np.array([1])}, "it").passed


def half(r: Array) -> Array:
    return r.astype(np.float16).astype(np.float32)


def test_the_default_lets_fp16_pass_and_a_broken_int8_not() -> None:
    """Twenty layers of a made network, in FP16 throughout, and in INT8 with ranges too small and too large."""
    layers = [normal(seed, 64, 64) / 8 for seed in range(20)]

    def run(rounded: Any) -> Array:
        x = normal(99, 8, 64)
        for w in layers:
            x = rounded(np.tanh(rounded(x) @ rounded(w)) * 2)
        return np.asarray(x)

    def int8(scale: float) -> Any:
        return lambda x: np.clip(np.rint(x / scale), -127, 127) * scale

    reference = {"y": run(lambda x: x)}
    assert judged({"y": run(half)}, reference, "it").passed
    assert not judged({"y": run(int8(0.5 / 127))}, reference, "it").passed
    assert not judged({"y": run(int8(60 / 127))}, reference, "it").passed


def test_limits_are_read() -> None:
    assert [each.text for each in limits("cos:0.999, LINF:3,rel:1e-2")] == ["cos:0.999", "lInf:3", "rel:0.01"]
    assert limits("cos:0.999")[0].said() == "cos at least 0.999"
    assert limits("l0:0")[0].said() == "l0 at most 0"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "nothing: give a measure and its limit, as cos:0.999; there are l0, l1, l2, lInf, cos, rel and top1"),
        ("cos", "cos: give a measure and its limit"),
        ("cosine:0.9", "cosine:0.9: give a measure"),
        ("cos:1.2", "cos:1.2: the limit of cos is a number from 0 to 1"),
        ("l1:-1", "l1:-1: the limit of l1 is a number from 0 upwards"),
        ("l2:nan", "l2:nan: the limit of l2 is a number"),
        ("lInf:inf", "lInf:inf: the limit"),
        ("cos:0.9,,", "nothing: give"),
        ("top1:x", "top1:x: the limit of top1 is a number from 0 to 1"),
    ],
)
def test_limits_that_are_none(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"give|limit") as raised:
        limits(text)
    assert str(raised.value).startswith(words)


def test_each_limit_is_for_each_output() -> None:
    r = {"a": normal(1, 2, 5), "b": normal(2, 2, 5)}
    found = judged({"a": r["a"], "b": r["b"] + 1}, r, "it", limits("lInf:0.5,l1:2,top1:1"))
    assert found.failures == ("output b: lInf is 1, and must be at most 0.5",)
    # What does not look like classes has no first one to lose, beside an output that has.
    mixed = {"a": normal(1, 2, 5), "m": normal(1, 2, 5, 5)}
    assert judged(mixed, mixed, "it", limits("top1:1")).passed


@pytest.mark.parametrize("asked", ["top1:0.9", "top1:0.9,rel:0.1"])
def test_a_limit_that_no_output_can_be_held_to_does_not_pass(asked: str) -> None:
    r = {"m": normal(1, 2, 5, 5)}
    found = judged(r, r, "it", limits(asked))
    assert not found.passed
    assert found.failures == ()
    said = "top1 at least 0.9: no output looks like classes (a batch of rows, a number for each class)"
    assert accurate.verdict(found) == f"not judged: {said}"
    assert Accuracy.of_json(found.as_json()) == found
    assert found.as_json()["failures"] == [said]
    broken = judged({"m": r["m"] + 9}, r, "it", limits("top1:0.9,rel:0.1"))
    assert accurate.verdict(broken).startswith("accuracy is lost: output m: rel is")


def test_no_outputs_are_not_judged() -> None:
    assert judged({"m": normal(1, 2)}, {"m": normal(1, 2)}, "it").passed  # of whole numbers there are none
    assert judged({}, {}, "it").unjudged == (
        "rel at most 0.05: no output is there to compare",
        "l0 at most 0.05: no output is there to compare",
    )


def test_a_cosine_of_nearly_one_ends_with_no_point() -> None:
    r = normal(1, 4, 10)
    agreement = replace(one(r, r), cos=1 - 1e-12)
    assert "cos 1," in accurate.measures(agreement)


DOES_NOT_FIT = [
    ({"y": np.zeros(2)}, {"x": np.zeros(2)}, "ref has no output y: it has x; give a reference of the same model"),
    ({"y": np.zeros(2)}, {"x": np.zeros(2), "y": np.zeros(2)}, "the run has no output x: it has y"),
    ({"y": np.zeros((2, 3))}, {"y": np.zeros((3, 2))}, "output y is 2x3, and 3x2 in ref; give a reference of the same"),
    ({"y": np.zeros(2)}, {"y": np.zeros(2, int)}, "output y is float64, and int64 in ref"),
    ({"y": np.zeros(2)}, {"y": np.array(["a", "b"])}, "output y is float64, and <U1 in ref"),
    ({"y": np.zeros(2)}, {}, "ref has no output y: it has none"),
]


@pytest.mark.parametrize(("outputs", "reference", "words"), DOES_NOT_FIT)
def test_a_reference_that_does_not_fit(outputs: Any, reference: Any, words: str) -> None:
    with pytest.raises(AccuracyError) as raised:
        compared(outputs, reference, "ref")
    assert str(raised.value).startswith(words)
    assert "\n" not in str(raised.value)


def test_it_is_kept_as_json() -> None:
    r = normal(1, 4, 10)
    a = half(r)
    a[0, 0] = np.nan
    found = judged({"y": a, "n": np.arange(3)}, {"y": r, "n": np.arange(3)}, "a file")
    data = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert data["passed"] is False
    assert Accuracy.of_json(data) == found
    for damaged in (None, {}, {**data, "outputs": 3}, {**data, "limits": [{"measure": "x", "bound": 1, "of": "all"}]}):
        assert Accuracy.of_json(damaged) is None
    data["outputs"][1]["cos"] = "what"
    assert Accuracy.of_json(data) is None
