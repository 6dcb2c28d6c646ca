"""DLA001 to DLA003 where the engine's list says what a DLA runs; the lists are made after public ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from drawing import table
from drawn_trace import drawn, evidence_of, only
from nsight_analyses.layers.dla001_holes_of_an_accelerator import holes_of_an_accelerator
from nsight_analyses.layers.dla002_layers_left_to_the_gpu import layers_left_to_the_gpu
from nsight_analyses.layers.dla003_reformats_at_the_border import reformats_at_the_border

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence, Severity
from nsight_tools.report.content import TraceReport
from nsight_tools.report.formats.text.trace import render
from nsight_tools.run.dla import Dla, subgraph
from nsight_tools.run.engine import Layer
from nsight_tools.summary import summarize
from nsight_tools.tables import BUCKETS

if TYPE_CHECKING:
    from nsight_tools.trace import Trace

FIRST, SECOND = "{ForeignNode[conv_0...relu_9]}", "{ForeignNode[conv_11...relu_20]}"
TO = f"Reformatting CopyNode for Input Tensor 0 to {FIRST}"


def listed(*rows: tuple[str, str | None, str, str]) -> dict[str, Any]:
    """The engine's list of layers of a name and a type, each of which reads a tensor and writes one."""

    def side(name: str) -> list[dict[str, Any]]:
        return [{"name": name, "shape": [1], "dtype": "FP16", "format": "linear"}] if name else []

    named = [
        {"layer": at, "name": name, "type": kind, "inputs": side(read), "outputs": side(written)}
        for at, (name, kind, read, written) in enumerate(rows)
    ]
    return {"layers": table("layers", named)}


ENGINE = (
    (TO, "Reformat", "input", "a"),
    (FIRST, "DLA", "a", "b"),
    ("from the first", "Reformat", "b", "c"),
    ("softmax", "CaskSoftMaxV2", "c", "d"),
    ("between others", "Reformat", "d", "e"),
    ("gather", "Gather", "e", "f"),
    (SECOND, "DLA", "f", "g"),
    ("last", "NoOp", "g", "output"),
)


def engine(*rows: tuple[str, str | None, str, str], hole: int = 60) -> Trace:
    """A reformat of 4 µs, a hole in which the DLA runs its first subgraph, and a kernel of 5 µs of the softmax."""
    return drawn(
        f"""
        nvtx 1:          [i{"." * (hole + 16)}]
        nvtx 1 TensorRT: [e............]
        nvtx 1 TensorRT: .[r.][d.][s.]
        thread 1:        ..L.......l...{"S" * (hole + 3)}.
        stream 7:        ....####{"." * hole}%%%%%
        """,
        names={"r": TO, "d": FIRST, "s": "softmax"},
        tables=listed(*rows),
    )


def buckets(trace: Trace) -> list[dict[str, int]]:
    """The parts of each inference, in microseconds, that have any time; they sum to the whole to the nanosecond."""
    rows = trace.table("inferences", ["wall_ns", *(f"{each}_ns" for each in BUCKETS)]).to_pylist()
    for row in rows:
        assert row.pop("wall_ns") == sum(row.values())
    return [{name.removesuffix("_ns"): time // 1000 for name, time in row.items() if time} for row in rows]


@pytest.mark.parametrize(("hole", "parts"), [(53, (50, 0)), (54, (0, 51))])
def test_the_dla_is_a_part_of_its_own(hole: int, parts: tuple[int, int]) -> None:
    """From when work behind it is submitted, 3 us after the GPU is idle, where that waits for more than 50 us."""
    (found,) = buckets(engine(*ENGINE, hole=hole))
    assert (found["compute"], found.get("accelerator", 0)) == (9, parts[1])
    assert (found["sync"] > 50) == (not parts[1])


def test_what_no_list_calls_a_dla_is_no_part_of_its_own() -> None:
    assert "accelerator" not in buckets(engine())[0]


def test_inferences_under_way_at_once_each_wait_for_their_own() -> None:
    """While the GPU runs the other one's kernels (4 and 5 us), neither waits for the DLA but for the GPU."""
    text = f"""
        nvtx 1:          [i{"." * 96}]
        nvtx 1 TensorRT: [e............]
        nvtx 1 TensorRT: .[r.][d.][s.]
        thread 1:        ..L.......l...{"S" * 84}.
        stream 7:        ....####{"." * 70}%%%%%
        nvtx 2:          ..............[i{"." * 96}]
        nvtx 2 TensorRT: ..............[e............]
        nvtx 2 TensorRT: ...............[r.][d.][s.]
        thread 2:        ................L.......l...{"S" * 84}.
        stream 8:        ..................####{"." * 75}%%%%%
    """
    named = {"r": TO, "d": FIRST, "s": "softmax"}
    first, second = buckets(drawn(text, names=named, tables=listed(*ENGINE), kernel_calls=[0, 2, 1, 3]))
    assert (first["accelerator"], first["other_work"]) == (78 - 11 - 4, 4)
    assert (second["accelerator"], second["other_work"]) == (97 - 25 - 5, 5)


def test_the_text_says_what_the_dla_takes() -> None:
    page = render([TraceReport("x", summarize(engine(*ENGINE)), [])])
    assert "the GPU waits for the DLA" in page
    assert "DLA 72 %" in page


def test_layers_by_where_they_run() -> None:
    dla = Dla.of(trace := engine(*ENGINE))
    assert [layer.name for layer in dla.layers] == [FIRST, SECOND]
    assert [layer.name for layer in dla.borders] == [TO, "from the first", "last"]
    assert [layer.name for layer in dla.fallback] == ["softmax", "gather"]
    assert dla.cuts == dla.fallback
    assert Dla.of(trace) is dla


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (FIRST, "conv_0...relu_9"),
        ("{conv_0,relu_1,pool_2}", "conv_0,relu_1,pool_2"),
        ("conv_0", "conv_0"),
    ],
)
def test_the_subgraph_of_a_name(name: str, found: str) -> None:
    assert subgraph(Layer(name)) == found


def names_only(*names: str) -> Dla:
    return Dla.of(engine(*((name, None, "", "") for name in names)))


def test_a_list_of_names_tells_a_dla_by_its_border() -> None:
    dla = names_only("images to nvm", FIRST, "head from nvm", "images copy finish", "head copy finish", "softmax")
    assert [layer.name for layer in dla.layers] == [FIRST]
    assert [layer.name for layer in dla.fallback] == ["softmax"]
    assert len(dla.borders) == 4


def test_without_a_border_or_by_its_type_it_is_a_region_of_the_gpu() -> None:
    assert names_only(FIRST, "softmax").layers == ()
    assert Dla.of(engine((FIRST, "Myelin", "a", "b"), ("x to nvm", "Reformat", "b", "c"))).layers == ()
    assert names_only(FIRST).borders == names_only(FIRST).fallback == names_only(FIRST).cuts == ()


def test_dla001_is_sure_of_a_layer_whose_type_is_known() -> None:
    finding = only(holes_of_an_accelerator, engine(*ENGINE))
    assert finding.confidence == Confidence.HIGH
    assert evidence_of(finding, "GPU waits for the accelerator").value == 57_000  # from the launch on
    assert evidence_of(finding, "subgraph on the DLA").value == "conv_0...relu_9"


def test_dla001_a_layer_of_the_gpu_that_launches_nothing_is_no_accelerators() -> None:
    assert holes_of_an_accelerator.run(engine((FIRST, "NoOp", "a", "b"))).status == Status.CLEAR


def test_dla002_layers_between_two_subgraphs() -> None:
    finding = only(layers_left_to_the_gpu, engine(*ENGINE, hole=600))
    assert (finding.severity, finding.confidence, finding.recoverable_ns) == (Severity.INFO, Confidence.HIGH, None)
    assert finding.message.startswith("2 layers of an engine for the DLA (Deep Learning Accelerator) run on the GPU")
    assert finding.cause == "the DLA has 2 subgraphs; 2 of these layers stand between two of them"
    assert evidence_of(finding, "kernel time of layers on the GPU").value == 5_000
    layer = evidence_of(finding, "layer")
    assert (layer.value, layer.detail) == (5_000, "softmax, between two subgraphs")


def test_dla002_one_subgraph_and_a_layer_behind_it() -> None:
    rows = ENGINE[:4]
    finding = only(layers_left_to_the_gpu, engine(*rows))
    assert finding.message.startswith("1 layer of an engine for the DLA (Deep Learning Accelerator) runs on the GPU")
    assert finding.cause == "the DLA has 1 subgraph"
    assert layers_left_to_the_gpu.run(engine(*rows, hole=600)).status == Status.CLEAR  # 5 µs are nothing of it


def test_dla002_all_on_the_dla() -> None:
    assert layers_left_to_the_gpu.run(engine(*ENGINE[:3])).status == Status.CLEAR


@pytest.mark.parametrize(
    ("hole", "severity"), [(20, Severity.WARNING), (60, Severity.INFO), (200, None)], ids=["a lot", "some", "nothing"]
)
def test_dla003_reformats_at_the_border(hole: int, severity: Severity | None) -> None:
    trace = engine(*ENGINE, hole=hole)
    if severity is None:
        assert reformats_at_the_border.run(trace).status == Status.CLEAR
        return
    finding = only(reformats_at_the_border, trace)
    assert (finding.severity, finding.recoverable_ns, finding.explains) == (severity, 4_000, ("reformats",))
    assert evidence_of(finding, "layer").detail == TO
    assert finding.cause == "1 layer at the border of 2 subgraphs only changes a tensor's datatype or layout"


@pytest.mark.parametrize("analysis", [layers_left_to_the_gpu, reformats_at_the_border], ids=lambda each: each.code)
def test_without_a_dla_there_is_nothing_to_look_for(analysis: Any) -> None:
    assert analysis.run(engine(("conv", "CaskConvolution", "a", "b"))).status == Status.NOT_APPLICABLE
