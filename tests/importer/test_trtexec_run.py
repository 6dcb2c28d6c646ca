"""What trtexec wrote of a run, as a dataset without a trace: which files are one engine's, and what is said of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

import nsight_tools
from nsight_tools import open_trace
from nsight_tools.cli import program
from nsight_tools.errors import InputError
from nsight_tools.importer.trtexec_run import TrtexecRun
from nsight_tools.run.layer_times import layer_times, traced_medians

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsight_tools import Trace

LAYERS = {
    "Layers": [
        {"Name": "conv1 + relu1", "LayerType": "CaskConvolution", "Inputs": [], "Outputs": []},
        {"Name": "fc", "LayerType": "CaskGemmConvolution", "Inputs": [], "Outputs": []},
    ],
    "Bindings": ["x", "y"],
}
TREX = {"performance_summary": {"Throughput": 1155.36}, "device_information": {"SMs": 108.0}}
"""What TensorRT's engine explorer makes of trtexec's output, in `….metadata.json`: none of the three."""


def profile() -> list[dict[str, Any]]:
    rows = {"conv1 + relu1": 0.06, "fc": 0.03, "a constant": 0.0}
    return [{"count": 4216}, *({"name": n, "timeMs": 10 * t, "averageMs": t, "percentage": 1} for n, t in rows.items())]


def times(enqueue: float = 0.02, h2d: float = 0.01, compute: float = 0.1, count: int = 60) -> list[dict[str, float]]:
    """Inferences one behind the other: copied in, computed, copied out; milliseconds."""
    found = []
    for at in range(count):
        start = at * 1.0
        moments = {"startH2dMs": start, "endH2dMs": start + h2d, "startEnqMs": start, "endEnqMs": start + enqueue}
        moments |= {"startComputeMs": start + h2d, "endComputeMs": start + h2d + compute}
        moments |= {"startD2hMs": start + h2d + compute, "endD2hMs": start + h2d + compute + 0.01}
        spans = {"h2dMs": h2d, "computeMs": compute, "d2hMs": 0.01, "latencyMs": h2d + compute + 0.01}
        found.append(moments | spans)
    return found


def write(folder: Path, **files: Any) -> Path:
    """JSON files in a folder; `_` in a name is a dot of it. The folder."""
    for name, value in files.items():
        (folder / name.replace("_", ".")).write_text(json.dumps(value), "utf-8")
    return folder


@pytest.fixture
def explored(tmp_path: Path) -> Path:
    """An engine and all that stands beside it where TensorRT's engine explorer worked on it."""
    (tmp_path / "m.engine").write_bytes(b"a plan")
    return write(
        tmp_path,
        m_engine_graph_json=LAYERS,
        m_engine_profile_json=profile(),
        m_engine_timing_json=times(),
        m_engine_metadata_json=TREX,
        m_engine_profile_metadata_json=TREX,
        other_engine_profile_json=profile(),
    )


@pytest.mark.parametrize("given", ["m.engine", "m.engine.graph.json", "m.engine.profile.json", "m.engine.timing.json"])
def test_the_files_of_an_engine_are_told_by_its_name(explored: Path, given: str) -> None:
    trace = open_trace(explored / given)
    assert (trace.rows("layers"), trace.rows("layer_times"), trace.rows("benchmark")) == (2, 3, 60)
    assert trace.manifest["trtexec"] == {
        "--exportTimes": "m.engine.timing.json",
        "--exportProfile": "m.engine.profile.json",
        "--exportLayerInfo": "m.engine.graph.json",
    }
    first = trace.table("layer_times").to_pylist()[0]
    assert first == {
        "layer": 0, "name": "conv1 + relu1", "inferences": 4216, "total_ns": 600_000, "average_ns": 60_000,
        "median_ns": None, "measured_by": "trtexec",
    }  # fmt: skip
    assert trace.table("benchmark", ["compute_ns"])["compute_ns"][0].as_py() == 100_000
    assert "nsight-tools capture" in (trace.missing("kernels") or "")


def test_what_has_no_name_in_common_is_read_alone(tmp_path: Path) -> None:
    write(tmp_path, times_json=times(), profile_json=profile(), layers_json=LAYERS)
    assert TrtexecRun.of(tmp_path / "times.json") == TrtexecRun(times=tmp_path / "times.json")
    both = open_trace(tmp_path / "profile.json", layers=tmp_path / "layers.json", untraced=tmp_path / "times.json")
    assert (both.rows("layers"), both.rows("layer_times"), both.rows("benchmark")) == (2, 3, 60)


def test_a_dataset_is_made_again_where_a_file_came(explored: Path) -> None:
    left = explored / "m.engine.timing.json"
    text = left.read_text("utf-8")
    left.unlink()
    assert open_trace(explored / "m.engine").rows("benchmark") == 0
    left.write_text(text, "utf-8")
    assert open_trace(explored / "m.engine").rows("benchmark") == 60


@pytest.mark.parametrize(
    ("files", "given", "words"),
    [
        ({}, "m.engine", "is an engine, beside which trtexec wrote nothing"),
        ({"m_engine_a_json": profile()}, "m.engine.b.json", "does not exist"),
        (
            {"m_engine_a_json": profile(), "m_engine_b_json": profile()},
            "m.engine",
            "a.json and m.engine.b.json both hold",
        ),
        ({"a_json": TREX}, "a.json", "is none of trtexec's files"),
        ({"a_json": []}, "a.json", "is none of trtexec's files"),
        ({"a_json": [{"count": 5}]}, "a.json", "holds no layer"),
    ],
)
def test_what_cannot_be_read_is_said_and_leaves_nothing(
    tmp_path: Path, files: dict[str, Any], given: str, words: str
) -> None:
    (tmp_path / "m.engine").write_bytes(b"a plan")
    write(tmp_path, **files)
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match=words):
        open_trace(tmp_path / given)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_text_that_is_no_json_and_options_of_ranges_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("&&&& PASSED", "utf-8")
    with pytest.raises(InputError, match="is no JSON"):
        open_trace(tmp_path / "a.json")
    write(tmp_path, b_json=profile())
    with pytest.raises(InputError, match=r"nothing\.json: does not exist"):
        open_trace(tmp_path / "b.json", layers=tmp_path / "nothing.json")
    with pytest.raises(InputError, match="has no ranges and no kernels"):
        open_trace(tmp_path / "b.json", inference_range="x")


def said(*arguments: Path | str) -> str:
    done = CliRunner().invoke(program, ["analyze", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


BOUNDS: Sequence[tuple[dict[str, float], str]] = (
    ({}, "The GPU's compute bounds it; no trace"),
    ({"enqueue": 0.079}, "The GPU's compute bounds it; no trace"),
    ({"enqueue": 0.09}, "The host's enqueue takes 90 % of the compute and bounds it"),
    ({"h2d": 0.099}, "The GPU's compute bounds it; no trace"),
    ({"h2d": 0.12}, "Copies to the GPU take 120 µs, the compute 100 µs: they bound it"),
)


@pytest.mark.parametrize(("parts", "words"), BOUNDS, ids=str)
def test_times_say_what_bounds_a_run_by_trtexecs_own_tests(tmp_path: Path, parts: dict[str, float], words: str) -> None:
    write(tmp_path, times_json=times(**parts))
    assert words in said(tmp_path / "times.json")


def test_too_few_times_say_so(tmp_path: Path) -> None:
    write(tmp_path, times_json=times(count=3))
    text = said(tmp_path / "times.json")
    assert "The times that trtexec wrote are not taken: it has 3 of the 10 inferences that are needed; no trace" in text


def test_no_format_repeats_for_each_rule_that_there_is_no_trace(explored: Path) -> None:
    for form in ("text", "markdown", "html"):
        page = said(explored / "m.engine", "--format", form)
        assert "THR001" not in page
        # It has inferences, by their times.
        assert "none were found" not in page


def test_what_there_is_is_shown_and_no_rule_complains(explored: Path) -> None:
    text = said(explored / "m.engine")
    for words in (
        "60 inferences: ",
        "medians: copies to the GPU 10.0 µs, compute 100 µs, copies to the host 10.0 µs, enqueue on the host 20.0 µs",
        "TensorRT's own profiler: 3 layers take 90.0 µs in an inference",
        "conv1 + relu1 60.00 67 % CaskConvolution",
    ):
        assert words in text
    assert "CAP001" not in text
    assert "nsys" not in text


@pytest.mark.parametrize("form", ["json", "html", "markdown", "junit"])
def test_every_format_takes_it(explored: Path, form: str) -> None:
    assert said(explored / "m.engine", "--format", form)


def test_no_rule_fails_on_it(explored: Path) -> None:
    trace: Trace = open_trace(explored / "m.engine")
    failed = [each.code for each in nsight_tools.analyze(trace) if each.findings]
    assert failed == []


SAMPLES = Path(__file__).resolve().parents[2] / "sample_traces"


def test_a_profile_beside_a_report_stands_beside_its_layers(tmp_path: Path) -> None:
    """The layers that the trace knows, half of them timed 1.5 us longer, and one that it does not know."""
    report = Path(shutil.copy(SAMPLES / "detector_pageable.sqlite", tmp_path / "run.sqlite"))
    traced = traced_medians(open_trace(report))
    rows = [{"name": name, "averageMs": (ns + 1_500) / 1e6} for name, ns in traced.items()]
    (tmp_path / "run.profile.json").write_text(json.dumps([{"count": 9}, *rows, {"name": "?", "averageMs": 0.001}]))
    trace = open_trace(report)
    assert trace.rows("layer_times") == len(traced) + 1
    found = layer_times(trace)
    assert found is not None
    assert (found.event_ns, [each.name for each in found.only("profiler")]) == (1_500, ["?"])
    text = said(report)
    assert "its events around each layer add 1.50 µs to it" in text
    assert "the trace does not know 1 layer of 1.00 µs (?)" in text
    assert "medians of an inference by TensorRT's own profiler, and by the trace" in said(report, "--all")
    page = said(report, "--format", "html")
    assert "Layers by TensorRT&#39;s own profiler" in page or "Layers by TensorRT's own profiler" in page
    (tmp_path / "run.profile.json").unlink()
    assert open_trace(report).rows("layer_times") == 0


def test_a_profile_beside_a_report_that_is_none_is_refused(tmp_path: Path) -> None:
    report = Path(shutil.copy(SAMPLES / "detector_pageable.sqlite", tmp_path / "run.sqlite"))
    (tmp_path / "run.profile.json").write_text(json.dumps(times()))
    with pytest.raises(InputError, match="is trtexec's --exportTimes: times of inferences, not layer times"):
        open_trace(report)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.profile.json", "run.sqlite"]
