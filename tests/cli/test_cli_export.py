"""`export` and `annotate`: files that appear whole or not at all, and what cannot be done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from report.perfetto_reader import read

import nsight_tools
from nsight_tools import nsys
from nsight_tools.errors import NsysError
from nsight_tools.report import nvtxt
from nsight_tools.report.content import TraceReport
from nsight_tools.report.formats.perfetto import timeline as perfetto
from nsight_tools.summary import Summary

if TYPE_CHECKING:
    from cli.harness import Run

HEADER = b"NVIDIA Tegra Profiler Report 2023@4@4@54-234433681190v0.\n" + bytes(100)
SAMPLES = Path(__file__).resolve().parents[2] / "sample_traces"


@pytest.fixture
def sample(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A real export, with the real importer and analyses."""
    _ = run  # its fakes first, then these
    monkeypatch.setattr(nsight_tools, "open_trace", nsight_tools.trace.open_trace)
    monkeypatch.setattr(nsight_tools, "registry", nsight_tools.analysis.registry)
    return Path(shutil.copy(SAMPLES / "detector_pageable.sqlite", tmp_path))


def test_export_writes_a_trace(run: Run, sample: Path, tmp_path: Path) -> None:
    to = tmp_path / "trace.perfetto-trace"
    done = run("export", sample, "--format", "perfetto", "-o", to)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")
    found = read(to.read_bytes())
    assert found.on("1. PCI001")
    assert len(found.slices) > 10_000


def test_export_to_standard_output(run: Run, sample: Path) -> None:
    assert read(run("export", sample, "-o", "-").stdout_bytes).slices


def test_export_that_fails_leaves_nothing(
    run: Run, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> int:
        raise NsysError("it broke")

    monkeypatch.setattr(perfetto, "write", breaks)
    to = tmp_path / "out" / "trace"
    to.parent.mkdir()
    done = run("export", sample, "-o", to)
    assert (done.exit_code, done.stderr) == (2, "nsight-tools: error: it broke\n")
    assert list(to.parent.iterdir()) == []


@pytest.mark.parametrize(("command", "input_"), [("export", "broken.sqlite"), ("annotate", "broken.nsys-rep")])
def test_an_output_is_asked_for(run: Run, command: str, input_: str) -> None:
    done = run(command, input_)
    assert done.exit_code == 2
    assert "Missing option '-o'" in done.stderr


@pytest.mark.parametrize("command", ["export", "annotate"])
def test_help_ends_with_an_example(run: Run, command: str) -> None:
    shown = run(command, "--help").stdout
    assert f"\n  Example:\n    nsight-tools {command} report.nsys-rep " in shown


def test_annotate_takes_reports_only(run: Run, sample: Path, tmp_path: Path) -> None:
    done = run("annotate", sample, "-o", tmp_path / "to.nsys-rep")
    assert done.exit_code == 2
    assert "annotate takes the .nsys-rep" in done.stderr


def test_annotate_with_nothing_to_show(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nsys, "find", lambda _explicit: nsys.Nsys(tmp_path / "nsys", nsys.Version((2023, 4))))
    monkeypatch.setattr(nsys.Nsys, "nvtxt_importer", lambda *_: tmp_path)
    nothing = TraceReport("cold", Summary("cold"), [])
    monkeypatch.setattr(TraceReport, "of", lambda *_: nothing)
    monkeypatch.setattr(nvtxt, "render", lambda *_: ("", 0))
    report = tmp_path / "cold.nsys-rep"
    report.write_bytes(HEADER)
    done = run("annotate", report, "-o", tmp_path / "to.nsys-rep")
    assert done.exit_code == 2
    assert "neither findings nor inferences to show; nsight-tools analyze says what it lacks" in done.stderr


def test_annotate_looks_for_its_tool_before_the_work(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nsys, "find", lambda _explicit: nsys.Nsys(tmp_path / "nsys", nsys.Version((2023, 4))))
    report = tmp_path / "crash.nsys-rep"  # opening it would fail
    report.write_bytes(HEADER)
    done = run("annotate", report, "-o", tmp_path / "to.nsys-rep")
    assert done.exit_code == 2
    assert "brings no ImportNvtxt" in done.stderr


def test_annotate_without_nsys_says_how_to_get_it(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_explicit: object) -> nsys.Nsys:
        raise NsysError("no nsys", hint=nsys.HOW_TO_GET)

    monkeypatch.setattr(nsys, "find", none)
    report = tmp_path / "report.nsys-rep"
    report.write_bytes(HEADER)
    done = run("annotate", report, "-o", tmp_path / "to.nsys-rep")
    assert done.exit_code == 2
    assert "install the package nsight-systems" in done.stderr


class TestTrtexec:
    def test_a_folder_is_written_and_read_again(self, run: Run, sample: Path, tmp_path: Path) -> None:
        done = run("export", sample, "--format", "trtexec", "-o", tmp_path / "out")
        assert (done.exit_code, done.stdout) == (0, "")
        names = sorted(path.name for path in (tmp_path / "out").iterdir())
        assert names == [f"{sample.name}.{kind}.json" for kind in ("graph", "profile", "timing")]
        assert [name for name in names if name not in done.stderr] == []
        again = nsight_tools.open_trace(tmp_path / "out" / names[0])
        assert again.rows("layers") == nsight_tools.open_trace(sample).rows("layers")
        assert again.rows("benchmark") > 10
        assert again.rows("layer_times") > 10

    def test_what_is_there_is_kept(self, run: Run, sample: Path, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        done = run("export", sample, "--format", "trtexec", "-o", tmp_path / "out")
        assert done.exit_code == 2
        assert "out: exists already; name a new folder with -o" in done.stderr

    def test_what_cannot_be_read_leaves_no_folder(self, run: Run, sample: Path, tmp_path: Path) -> None:
        sample.write_bytes(b"")
        done = run("export", sample, "--format", "trtexec", "-o", tmp_path / "out")
        assert done.exit_code == 2
        assert [path.name for path in tmp_path.iterdir()] == [sample.name]


class TestDesigner:
    @pytest.mark.usefixtures("sample")
    def test_a_folder_of_all_that_is_opened(self, run: Run, tmp_path: Path) -> None:
        capture = tmp_path / "m.capture"
        shutil.copytree(SAMPLES / "detector_pageable.capture", capture)
        (capture / "m.engine").write_bytes(b"a plan")
        (tmp_path / "m.onnx").write_bytes(b"a model")
        layers = json.loads((capture / "layers.json").read_text(encoding="utf-8"), strict=False)
        first = next(layer for layer in layers["Layers"] if layer.get("Metadata"))
        to = tmp_path / "nodes"
        done = run("export", capture, "--format", "dl-designer", "--onnx", tmp_path / "m.onnx", "-o", to)
        assert (done.exit_code, done.stdout) == (0, ""), done.stderr
        assert sorted(path.name for path in to.iterdir()) == ["STEPS.md", "m.engine", "m.onnx", "nodes.csv"]
        assert (to / "m.onnx").read_bytes() == b"a model"
        assert first["Name"] in (to / "nodes.csv").read_text(encoding="utf-8")
        assert " ONNX nodes in " in done.stderr

    def test_a_model_goes_with_this_format_alone(self, run: Run, sample: Path, tmp_path: Path) -> None:
        done = run("export", sample, "--onnx", sample, "-o", tmp_path / "x")
        assert done.exit_code == 2
        assert "--onnx is an option of --format dl-designer" in done.stderr

    def test_layers_without_nodes_leave_no_folder(self, run: Run, sample: Path, tmp_path: Path) -> None:
        (tmp_path / "l.json").write_text('{"Layers": ["a", "b"]}', encoding="utf-8")
        (sample.parent / "detector_pageable.layers.json").unlink(missing_ok=True)
        done = run(
            *("export", sample, "--layers", tmp_path / "l.json", "--format", "dl-designer", "-o", tmp_path / "out")
        )
        assert done.exit_code == 2
        assert not (tmp_path / "out").exists()
