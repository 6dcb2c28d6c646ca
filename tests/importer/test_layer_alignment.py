"""Layers of kernels by their order: in a CUDA graph, or where no layer ranges were on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from drawn_trace import drawn
from exports import call, domain, kernel, nvtx, write_sqlite

from nsight_tools.errors import InputError
from nsight_tools.importer import MANIFEST, import_report
from nsight_tools.trace import Trace, open_trace

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ["im2col", "gemm", "pointwise"]


def layers(trace: Trace) -> list[tuple[str | None, str | None]]:
    """Layer and its source of each kernel, in order of start."""
    rows = trace.table("launches", ["work", "layer", "layer_source"]).to_pylist()
    return [(row["layer"], row["layer_source"]) for row in rows if row["work"] == "kernel"]


def test_a_graph_has_the_layers_of_the_eager_run_before_it() -> None:
    trace = drawn(
        """
        nvtx 1:          [i................]..[i.........].
        nvtx 1 TensorRT: .[conv..][relu.]..................
        thread 1:        ..L..L....L..........G............
        stream 7:        ...##..##...##........nnmmnnn.....
        """,
        kernel_names=NAMES * 2,
    )
    ranges = [("conv", "range"), ("conv", "range"), ("relu", "range")]
    assert layers(trace) == ranges + [(layer, "order") for layer, _ in ranges]


def test_auxiliary_streams_are_in_the_order_of_their_launches() -> None:
    trace = drawn(
        """
        nvtx 1:          [i...........]..[i...........].
        nvtx 1 TensorRT: .[a.][b.][c.]..................
        thread 1:        .L...L...L.......L...L...L......
        stream 7:        ..##......##.......##.....##....
        stream 8:        ......##........................
        stream 9:        ........................#.......
        """,
        kernel_names=["one", "two", "three", "one", "two", "three"],
        kernel_calls=[0, 1, 2, 3, 4, 5],
    )
    swapped = drawn(
        """
        nvtx 1:          [i...........]..[i...........].
        nvtx 1 TensorRT: .[a.][b.][c.]..................
        thread 1:        .L...L...L......L.L..L.........
        stream 7:        ..##......##......##...##......
        stream 8:        ......##.................##....
        """,
        kernel_names=["one", "two", "three", "one", "three", "two"],
        kernel_calls=[0, 1, 2, 3, 5, 4],
    )
    assert [layer for layer, _ in layers(trace)] == ["a", "b", "c"] * 2
    assert [layer for layer, _ in layers(swapped)] == ["a", "b", "c", "a", "c", "b"]


def test_what_runs_around_the_engine_gets_no_layer() -> None:
    trace = drawn(
        """
        nvtx 1:          [i................]..[i..............].
        nvtx 1 TensorRT: .[conv..][relu.].......................
        thread 1:        ..L..L....L........L.G....L............
        stream 7:        ...##..##...##.......#nnmmnnn..#.......
        """,
        kernel_names=[*NAMES, "resize", *NAMES, "argmax"],
    )
    assert [layer for layer, _ in layers(trace)[3:]] == [None, "conv", "conv", "relu", None]


@pytest.mark.parametrize(
    "names",
    [
        ["im2col", "other", "pointwise"],  # another engine's kernels
        ["pointwise", "gemm", "im2col"],  # the same in another order
    ],
)
def test_another_engine_tells_nothing(names: list[str]) -> None:
    trace = drawn(
        """
        nvtx 1:          [i................]..[i.........].
        nvtx 1 TensorRT: .[conv..][relu.]..................
        thread 1:        ..L..L....L..........G............
        stream 7:        ...##..##...##........nnmmnnn.....
        """,
        kernel_names=[*NAMES, *names],
    )
    assert layers(trace)[3:] == [(None, None)] * 3


def test_kernels_outside_of_layers_in_a_run_with_layers_stay_so() -> None:
    trace = drawn(
        """
        nvtx 1:          [i...................].
        nvtx 1 TensorRT: .[conv..][relu.].......
        thread 1:        ..L..L....L......L.....
        stream 7:        ...##..##...##.....##..
        """,
        kernel_names=[*NAMES, "gemm"],
    )
    assert [layer for layer, _ in layers(trace)] == ["conv", "conv", "relu", None]


PAYLOAD = {"Name": "conv", "LayerType": "CaskConvolution", "Inputs": [], "Outputs": [], "TacticName": "gemm"}


def eager(path: Path, names: list[str], *, ranges: bool = True, count: int = 2) -> Path:
    """An export of `count` inferences of so many kernels, each of a layer of its own where there are `ranges`."""
    rows: list[Any] = [domain(1, "TensorRT"), domain(2, "nsight_tools")]
    for number in range(count):
        begin = number * (len(names) + 1) * 10_000
        rows.append(nvtx(begin, begin + len(names) * 10_000 + 5_000, "inference", domainId=2))
        for at, name in enumerate(names):
            start, correlation = begin + 1_000 + at * 10_000, number * 100 + at + 1
            if ranges:
                text = json.dumps(PAYLOAD | {"Name": f"layer {at}"})
                rows.append(nvtx(start, start + 5_000, f"layer {at}", domainId=1, jsonText=text))
            rows.append(call(start + 1_000, start + 2_000, correlationId=correlation))
            rows.append(kernel(start + 3_000, start + 8_000, name, correlationId=correlation))
    return write_sqlite(path, *rows)


def test_a_layer_pass_gives_layers_and_their_table(tmp_path: Path) -> None:
    report = eager(tmp_path / "report.sqlite", NAMES, ranges=False)
    layer_pass = eager(tmp_path / "layer_pass.sqlite", NAMES)
    trace = open_trace(report, layer_pass=layer_pass)
    assert layers(trace) == [(f"layer {at}", "order") for at in range(3)] * 2
    assert trace.table("layers")["name"].to_pylist() == [f"layer {at}" for at in range(3)]
    assert trace.manifest["layers_by_order"] == {"kernels": 6, "attributed": {"layer pass": 6}, "in_common": 1.0}
    assert trace.manifest["source"]["layer_pass"] == layer_pass.name
    # From its dataset it is the same; without it nothing is known.
    again = open_trace(report, layer_pass=tmp_path / "layer_pass.sqlite.trace")
    assert layers(again) == layers(trace)
    assert layers(open_trace(report)) == [(None, None)] * 6


def test_a_layer_pass_of_another_engine_gives_neither(tmp_path: Path) -> None:
    report = eager(tmp_path / "report.sqlite", NAMES, ranges=False)
    trace = open_trace(report, layer_pass=eager(tmp_path / "layer_pass.sqlite", ["gemm", "softmax"]))
    assert layers(trace) == [(None, None)] * 6
    assert trace.rows("layers") == 0
    assert trace.manifest["layers_by_order"] == {
        "kernels": 6,
        "attributed": {},
        "in_common": pytest.approx(1 / 2),
    }


def test_a_changed_layer_pass_is_imported_again(tmp_path: Path) -> None:
    report = eager(tmp_path / "report.sqlite", NAMES, ranges=False)
    layer_pass = eager(tmp_path / "layer_pass.sqlite", ["softmax"])
    made = import_report(report, layer_pass=layer_pass)
    before = (made / MANIFEST).stat().st_mtime_ns
    import_report(report, layer_pass=layer_pass)
    assert (made / MANIFEST).stat().st_mtime_ns == before
    layer_pass.unlink()
    eager(layer_pass, NAMES)
    assert layers(open_trace(report, layer_pass=layer_pass))[0] == ("layer 0", "order")


@pytest.mark.parametrize(("name", "problem"), [("absent.sqlite", "does not exist"), ("report.sqlite", "report itself")])
def test_no_layer_pass(tmp_path: Path, name: str, problem: str) -> None:
    report = eager(tmp_path / "report.sqlite", NAMES, ranges=False)
    with pytest.raises(InputError, match=problem):
        import_report(report, layer_pass=tmp_path / name)
    assert not (tmp_path / "report.sqlite.trace").exists()


def test_a_layer_pass_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    report = eager(tmp_path / "report.sqlite", NAMES, ranges=False)
    (tmp_path / "broken.sqlite").write_bytes(b"no export")
    with pytest.raises(InputError, match=r"broken\.sqlite"):
        import_report(report, layer_pass=tmp_path / "broken.sqlite")
    assert not (tmp_path / "report.sqlite.trace").exists()


def listed(names: list[str]) -> str:
    """An inspector's list of layers whose tactics are these; a reformat before each, which may launch nothing."""
    reformat = {"LayerType": "Reformat", "Inputs": [], "Outputs": []}
    rows: list[dict[str, Any]] = []
    for at, name in enumerate(names):
        rows.append(reformat | {"Name": f"reformat {at}", "LayerType": "NoOp" if at else "Reformat"})
        rows.append(PAYLOAD | {"Name": f"layer {at}", "TacticName": name})
    return json.dumps({"Layers": rows})


TACTICS = [f"sm90_xmma_{letter}" for letter in "abcdefghijkl"]


def test_an_engines_list_tells_the_layers_whose_tactics_are_the_kernels(tmp_path: Path) -> None:
    kernels = [f"{name}_execute_kernel_trt" for name in TACTICS]
    names = ["void genericReformat::copyPackedKernel<float>()", *kernels[:6], "splitK_reduce", *kernels[6:]]
    report = eager(tmp_path / "report.sqlite", names, ranges=False)
    (tmp_path / "report.layers.json").write_text(listed(TACTICS))
    known = [f"layer {at}" for at in range(12)]
    assert [layer for layer, _ in layers(open_trace(report))][:14] == ["reformat 0", *known[:6], None, *known[6:]]


@pytest.mark.parametrize(
    "tactics",
    [
        TACTICS[:9],  # too few to be sure
        [*TACTICS[:10], "sm90_other", "sm90_another"],  # a sixth of them is not found
        TACTICS[::-1],
    ],
)
def test_another_engines_list_tells_nothing(tmp_path: Path, tactics: list[str]) -> None:
    report = eager(tmp_path / "report.sqlite", [f"{name}_execute" for name in TACTICS], ranges=False)
    (tmp_path / "report.layers.json").write_text(listed(tactics))
    assert {layer for layer, _ in layers(open_trace(report))} == {None}
