"""Two builds of one model: what each changed, and what that did in time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from comparison.loops import jitter
from drawing import table
from drawn_trace import drawn

from nsight_tools import compare
from nsight_tools.comparison import Change
from nsight_tools.report import compared_builds

if TYPE_CHECKING:
    from nsight_tools.comparison.result import Builds, Rebuilt
    from nsight_tools.trace import Trace

Spec = tuple[str, str, str, str, int]
"""A layer: name, `reads -> writes`, type of what it reads, tactic, and how long its kernel takes in µs; 0 for none."""


def run(*layers: Spec, count: int = 40, seed: int = 0) -> Trace:
    """A loop of inferences of these layers, each of one kernel, of which the last one's length varies."""
    lines = {"stream 7": "", "thread 1": "", "nvtx 1": "", "nvtx 1 TensorRT": ""}
    launching = [at for at, spec in enumerate(layers) if spec[4]]
    for more in jitter(count, 20, seed=seed):
        busy = (
            "".join("#%"[place % 2] * layers[at][4] for place, at in enumerate(launching))
            + "#%"[len(launching) % 2] * more
        )
        launches = len(launching) + 1
        lines["thread 1"] += "." + ".L.." * launches + "S" * (len(busy) + 2)
        lines["nvtx 1 TensorRT"] += (
            "." + "".join(f"[{chr(97 + at)}]." for at in launching) + "...." + "." * (len(busy) + 2)
        )
        lines["stream 7"] += "." + "...." * launches + "." + busy + "."
        lines["nvtx 1"] += "[i" + "." * (4 * launches + len(busy)) + "]"
    text = "\n".join(f"{label + ':':<18}{line}" for label, line in lines.items())
    rows = [_row(at, *spec[:4]) for at, spec in enumerate(layers)]
    names = {chr(97 + at): spec[0] for at, spec in enumerate(layers)}
    return drawn(text, names=names, tables={"layers": table("layers", rows)})


def _row(at: int, name: str, ends: str, dtype: str, tactic: str) -> dict[str, Any]:
    reads, _, writes = ends.partition(" -> ")
    kind = "NoOp" if name.startswith("noop") else "Reformat" if name.startswith("to ") else "CaskConvolution"
    tensors = [[{"name": each, "shape": [1], "dtype": dtype, "format": "Row major linear"} for each in names.split()]
               for names in (reads, writes)]  # fmt: skip
    known = {"inputs": tensors[0], "outputs": tensors[1], "tactic": tactic or None, "attributes": None}
    return {"layer": at, "name": name, "type": kind, **known, "metadata": None, "source": "inspector"}


def builds(before: Trace, after: Trace) -> Builds:
    found = compare(before, after, names=("b", "a"), outcomes=([], [])).builds
    assert found is not None
    return found


def region(found: Builds, *writes: str) -> Rebuilt:
    return next(each for each in found.regions if each.writes == writes)


FP16 = run(
    ("conv1 + relu1", "x -> t", "FP16", "hmma_1", 30),
    ("conv2", "t -> u", "FP16", "hmma_2", 20),
    ("pool", "u -> v", "FP16", "pool", 10),
    ("fc", "v -> y", "FP16", "gemm_a", 10),
)
INT8 = run(
    ("to int8", "x -> x8", "FP16", "", 12),
    ("conv1", "x8 -> t8", "INT8", "imma_1", 20),
    ("to fp16", "t8 -> c", "INT8", "", 11),
    ("relu1", "c -> t", "FP16", "", 9),
    ("conv2", "t -> u", "INT8", "imma_2", 12),
    ("pool", "u -> v", "FP16", "pool", 10),
    ("noop", "v -> v2", "FP16", "", 0),
    ("fc", "v2 -> y", "FP16", "gemm_b", 14),
    seed=1,
)


def test_int8_is_slower_because_of_these_regions() -> None:
    found = builds(FP16, INT8)
    assert (found.rebuilt, found.alike, found.reformats) == (3, 1, (0, 2))
    first, second, third = found.regions
    assert (first.reads, first.writes) == (("x",), ("t",))
    assert first.changed == ("fusion", "precision", "reformats")
    assert (first.before.layers, first.after.layers) == (("conv1 + relu1",), ("conv1", "relu1"))
    assert (first.before.precision, first.after.precision) == ("FP16", "FP16, INT8")
    assert (first.before.reformats, first.after.reformats) == (0, 2)
    assert (first.before.tactics, first.after.tactics) == (("hmma_1",), ("imma_1",))
    assert (first.time.before, first.time.after, first.time.change) == (30_000, 52_000, Change.MORE)
    assert (second.writes, second.changed, second.time.difference) == (("u",), ("precision",), -8_000)
    assert second.time.change is Change.LESS
    assert (third.writes, third.changed, third.time.difference) == (("y",), ("tactic",), 4_000)
    assert [(each.name, each.difference) for each in found.totals] == [
        ("fusion, precision, reformats", 22_000), ("precision", -8_000), ("tactic", 4_000), ("built alike", 0),
        ("reformats, wherever they are", 23_000),
    ]  # fmt: skip
    assert compared_builds.answer(found) == (
        "3 of 4 regions were built otherwise: the kernels' time changes by +18.0 µs; +22.0 µs where fusion, "
        "precision and reformats differ; \N{MINUS SIGN}8.00 µs where precision differs; +4.00 µs where tactic differs; "
        "of all that, +23.0 µs are in reformats (0 → 2 layers)"
    )
    assert compared_builds.built(first.after) == ("FP16, INT8 · 2 layers, 2 reformats: conv1, relu1 · imma_1")
    assert compared_builds.unshown(found, 2) == "1 more were built otherwise; 1 were built alike"


def test_the_other_way_round() -> None:
    forth, back = builds(FP16, INT8), builds(INT8, FP16)
    assert [each.changed for each in forth.regions] == [each.changed for each in back.regions]
    assert [each.time.difference for each in forth.regions] == [-(each.time.difference or 0) for each in back.regions]


def test_slower_after_the_upgrade() -> None:
    """The same fusions and precisions; one tactic is another, one layer only has another name."""
    old = run(("conv", "x -> t", "FP16", "sm80_a", 20), ("PWN(relu)", "t -> y", "FP16", "", 8))
    new = run(("conv", "x -> t", "FP16", "sm80_b", 31), ("relu", "t -> y", "FP16", "", 8), seed=1)
    found = builds(old, new)
    (only,) = found.regions
    assert (only.writes, only.changed, only.time.difference) == (("t",), ("tactic",), 11_000)
    assert found.alike == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (FP16, FP16),
        (FP16, run(("conv1", "x -> t", "FP16", "hmma", 30), ("conv2", "t -> other", "FP16", "hmma_2", 20))),
        (FP16, run(("conv1", "", "FP16", "", 30))),
    ],
    ids=["the same build", "another model", "names only"],
)
def test_what_are_no_two_builds_of_one_model(before: Trace, after: Trace) -> None:
    assert compare(before, after, names=("b", "a"), outcomes=([], [])).builds is None


def test_a_myelin_region_is_one_with_what_it_holds() -> None:
    apart = run(
        ("a", "x -> t", "FP16", "k", 9), ("b", "t -> s", "FP16", "k", 9), ("c", "s -> y", "FP16", "k", 9),
    )  # fmt: skip
    whole = run(("a", "x -> t", "FP16", "k", 9), ("{ForeignNode[b...c]}", "t -> y", "FP16", "__myl", 12), seed=1)
    found = builds(apart, whole)
    assert (found.alike, region(found, "y").changed) == (1, ("fusion",))
    assert region(found, "y").time.difference == -6_000
    assert region(found, "y").after.layers == ("{ForeignNode[b...c]}",)
