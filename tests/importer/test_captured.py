"""Run directories of `nsight-tools capture`: the report, with what was recorded beside it, in the report's time."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import installed_nsys
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from exports import MARK, call, domain, kernel, nvtx, write_parquetdir, write_sqlite

from nsight_tools import run_files
from nsight_tools.cli import program
from nsight_tools.errors import DatasetError, InputError
from nsight_tools.importer import import_report, read_manifest
from nsight_tools.importer.captured import RunDirectory
from nsight_tools.trace import open_trace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

UTC = 1_795_392_000_000_000_000
"""When the sessions here started, by the system's clock."""
MS = 1_000_000

RUN: dict[str, Any] = {
    "version": 1,
    "tool_version": "0.1.0",
    "status": "done",
    "kind": "engine",
    "arguments": ["capture", "/home/somebody/secret.engine"],
    "options": {"iterations": 100, "inputs": {"x": "/home/somebody/x.npy"}, "nsys_args": ["--foo=/home/somebody/y"]},
    "build": {
        "seconds": 2.0,
        "phases_s": {"parse": 2.0},
        "timing_cache": {"file": "/home/somebody/t", "misses": 3},
        "path": "e",
    },
    "versions": {"nsys": "2025.3"},
    "passes": [{"command": ["/home/somebody/bin/python"]}],
    "engine": {"path": "/home/somebody/e", "size_bytes": 300, "weights_bytes": None},
    "measured": {
        "benchmark": {"inferences": 7, "clock": [{"utc_ns": UTC}], "memory": {"engine_bytes": 5}, "shape_source": {}},
        "benchmark_2": {"inferences": 8, "throughput_per_s": 2.5},
        "timing": {"inferences": 9},
    },
    "tracing": {"wall_ns": {"untraced": 400_000, "traced": 800_000, "added": 400_000}},
    "telemetry": {"hz": 50.0, "samples": 3},
}
ROWS = (
    ("TARGET_INFO_GPU", {"id": 0, "name": "NVIDIA H200", "busLocation": "0000:3B:00.0"}),
    ("TARGET_INFO_GPU", {"id": 1, "name": "NVIDIA H200", "busLocation": "0000:18:00.0"}),
    ("ANALYSIS_DETAILS", {"duration": 2_000 * MS, "startTime": 0}),
    domain(1, "nsight_tools"),
    nvtx(0, 100, "inference", domainId=1),
    call(1, 2, correlationId=1),
    kernel(10, 50, correlationId=1),
)
STARTED = ("TARGET_INFO_SESSION_START_TIME", {"utcEpochNs": UTC})


def mark(at: int, utc: int | None, **values: Any) -> Any:
    event = {"eventType": MARK, "domainId": 1, "uint64Value": utc}
    return nvtx(at, None, "clock", **(event | values))


def telemetry(*samples: tuple[int, int, str | None], **columns: Any) -> pa.Table:
    """telemetry.parquet of samples: UTC, NVML's number, PCI bus location."""
    rows = [{"utc_ns": utc, "index": index, "bus_id": bus, **columns} for utc, index, bus in samples]
    return pa.Table.from_pylist(rows, run_files.TELEMETRY_SCHEMA)


SAMPLES = telemetry(
    (UTC - 5 * MS, 0, "0000:18:00.0"), (UTC - 5 * MS, 1, "00000000:3b:00.0"), (UTC + 7 * MS, 2, "0000:aa:00.0"),
    sm_clock_mhz=1980, clock_event_reasons=4,
)  # fmt: skip
BENCHMARK = pa.Table.from_pylist(
    [
        {"run": run, "inference": i, "start_ns": i, "wall_ns": 100 + i, "thread": 0, "stream": 0}
        for run in ("timing", "benchmark")
        for i in (1, 0)
    ],
    run_files.BENCHMARK_SCHEMA,
)


@pytest.fixture
def run_directory(tmp_path: Path) -> Callable[..., Path]:
    """Makes a run directory with an SQLite report; None leaves a file out."""

    def make(
        *rows: Any,
        name: str = "model.capture",
        run: Any = RUN,
        samples: pa.Table | None = SAMPLES,
        benchmark: pa.Table | None = BENCHMARK,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        write_sqlite(folder / "report.sqlite", *ROWS, *(rows or [STARTED]))
        if run is not None:
            (folder / "run.json").write_text(json.dumps(run))
        for table, file in ((samples, "telemetry.parquet"), (benchmark, "benchmark.parquet")):
            if table is not None:
                pq.write_table(table, folder / file)
        return folder

    return make


class TestTables:
    def test_telemetry_is_in_the_reports_time_and_of_its_gpus(self, run_directory: Callable[..., Path]) -> None:
        trace = open_trace(run_directory())
        rows = trace.table("telemetry").to_pylist()
        found = [(row["time_ns"], row["device"], row["bus_id"]) for row in rows]
        assert found == [(-5 * MS, 0, "0000:3B:00.0"), (-5 * MS, 1, "0000:18:00.0"), (7 * MS, None, "0000:aa:00.0")]
        assert {row["sm_clock_mhz"] for row in rows} == {1980}
        assert {row["power_mw"] for row in rows} == {None}
        assert trace.missing("telemetry") is None

    @pytest.mark.parametrize(
        ("state", "sms"),
        [
            pytest.param({"mig": True, "mig_sms": [16, 16]}, 16, id="partitions of one size"),
            pytest.param({"mig": True, "mig_sms": [16, 60]}, None, id="of two: nobody knows on which it ran"),
            pytest.param({"mig": True, "mig_sms": [60, 132]}, 132, id="the report has one of them"),
            pytest.param({"mig": True, "mig_sms": None}, None, id="of sizes that are not known"),
            pytest.param({"mig": True}, None, id="of a capture that did not ask"),
            pytest.param({"mig": False, "mig_sms": []}, 132, id="none"),
            pytest.param({"mig": None}, 132, id="a GPU that has no such thing"),
            pytest.param({"mig": True, "mig_sms": [16], "bus_id": "0000:18:00.0"}, 132, id="another GPU's"),
            pytest.param({"mig": True, "mig_sms": [16], "bus_id": None}, 132, id="one whose place is not known"),
            pytest.param("broken", 132, id="nothing that a capture writes"),
        ],
    )
    def test_kernels_have_the_sms_of_their_partition(
        self, run_directory: Callable[..., Path], state: Any, sms: int | None
    ) -> None:
        gpu = {"bus_id": "00000000:3B:00.0"} | state if isinstance(state, dict) else state
        folder = run_directory(
            STARTED,
            ("TARGET_INFO_GPU", {"id": 2, "busLocation": "0000:3b:00.0", "smCount": 132}),
            run=RUN | {"machine": {"before": {"gpus": [gpu]}}},
        )
        rows = open_trace(folder).table("gpus", ["device", "sm_count"]).to_pylist()
        assert {row["device"]: row["sm_count"] for row in rows}[2] == sms

    def test_what_earlier_captures_did_not_sample_is_null(self, run_directory: Callable[..., Path]) -> None:
        before = SAMPLES.drop_columns(["energy_mj", "own_memory_bytes"])
        table = open_trace(run_directory(samples=before)).table("telemetry")
        assert table["energy_mj"].null_count == table["own_memory_bytes"].null_count == 3
        with pytest.raises(InputError, match="has no column power_mw"):
            open_trace(run_directory(name="other.capture", samples=SAMPLES.drop_columns("power_mw")))

    def test_repeats_are_apart(self, run_directory: Callable[..., Path]) -> None:
        again = BENCHMARK.set_column(0, "run", pa.array(["timing", "benchmark_2"] * 2).dictionary_encode())
        counts = open_trace(run_directory(benchmark=again)).frame("benchmark")["run"].value_counts()
        assert counts.to_dict() == {"timing": 2, "benchmark_2": 2}

    def test_benchmark(self, run_directory: Callable[..., Path]) -> None:
        rows = open_trace(run_directory()).table("benchmark", ["run", "inference", "wall_ns"]).to_pylist()
        assert [tuple(row.values()) for row in rows] == [
            ("benchmark", 0, 100), ("benchmark", 1, 101), ("timing", 0, 100), ("timing", 1, 101)
        ]  # fmt: skip

    def test_words_may_be_plain_text(self, run_directory: Callable[..., Path]) -> None:
        plain = BENCHMARK.set_column(0, "run", BENCHMARK["run"].cast(pa.string()))
        assert open_trace(run_directory(benchmark=plain)).rows("benchmark") == 4

    def test_layers(self, run_directory: Callable[..., Path]) -> None:
        folder = run_directory()
        (folder / "layers.json").write_text(json.dumps({"Layers": [{"Name": "conv1", "LayerType": "Convolution"}]}))
        assert open_trace(folder).table("layers")["name"].to_pylist() == ["conv1"]
        (folder / "other.json").write_text(json.dumps({"Layers": ["given"]}))
        assert open_trace(folder, layers=folder / "other.json").table("layers")["name"].to_pylist() == ["given"]

    @pytest.mark.parametrize("name", ["layer_pass.nsys-rep", "layer_pass.sqlite"])
    def test_the_layer_pass_is_found(self, run_directory: Callable[..., Path], name: str) -> None:
        folder = run_directory()
        run = RunDirectory.of(folder)
        assert run is not None
        assert run.layer_pass is None
        (folder / name).touch()
        assert run.layer_pass == folder / name

    def test_a_layer_pass_that_cannot_be_read_keeps_nobody_from_the_report(
        self, run_directory: Callable[..., Path]
    ) -> None:
        folder = run_directory()
        broken = folder / "layer_pass.sqlite"
        broken.write_bytes(b"no export")
        source = open_trace(folder).manifest["source"]
        assert source["layer_pass"] == broken.name
        assert source["layer_pass_problem"] == f"{broken.name} is no SQLite database"
        broken.unlink()
        assert open_trace(folder).manifest["source"]["layer_pass_problem"] is None

    def test_what_is_not_there_says_why(self, run_directory: Callable[..., Path]) -> None:
        reason = "NVML does not start: Driver Not Loaded"
        run = {**RUN, "kind": "command", "telemetry": {"reason": reason}}
        run["untraced"] = {"reason": "--no-untraced was given"}
        trace = open_trace(run_directory(run=run, samples=None, benchmark=None))
        assert trace.missing("telemetry") == f"NVML was not sampled: {reason}"
        assert trace.missing("benchmark") == "no run without the profiler: --no-untraced was given"
        assert trace.rows("telemetry") == trace.rows("benchmark") == 0

    def test_a_file_that_is_lost(self, run_directory: Callable[..., Path]) -> None:
        trace = open_trace(run_directory(samples=None, benchmark=None))
        assert trace.missing("telemetry") == trace.missing("benchmark") == "the run directory holds none"

    def test_why_there_are_no_gpu_metrics(self, run_directory: Callable[..., Path]) -> None:
        lacking = {"reason": "it runs for 80 s; to have them, give --gpu-metrics", "nsys_said": "/home/somebody"}
        trace = open_trace(run_directory(run={**RUN, "gpu_metrics": lacking}))
        assert trace.missing("gpu_metrics") == f"GPU metrics were not sampled: {lacking['reason']}"
        assert trace.manifest["run"]["gpu_metrics"] == {"reason": lacking["reason"]}

    def test_a_report_that_tells_no_time(self, run_directory: Callable[..., Path]) -> None:
        trace = open_trace(run_directory(call(3, 4)))
        assert trace.manifest["clock"] is None
        assert "does not say when it began" in (trace.missing("telemetry") or "")
        assert trace.rows("benchmark") == 4

    def test_a_plain_report_has_neither(self, tmp_path: Path) -> None:
        trace = open_trace(write_sqlite(tmp_path / "report.sqlite", *ROWS, STARTED))
        assert trace.missing("telemetry") == "capture with nsight-tools capture"
        assert trace.manifest["run"] is None
        assert trace.manifest["clock"]["offset_ns"] == UTC


class TestManifest:
    def test_the_run(self, run_directory: Callable[..., Path]) -> None:
        manifest = open_trace(run_directory()).manifest
        run = manifest["run"]
        assert {name: run[name] for name in ("status", "versions", "tracing", "telemetry")} == {
            name: RUN[name] for name in ("status", "versions", "tracing", "telemetry")
        }
        assert run["options"] == {"iterations": 100, "inputs": {"x": "x.npy"}, "nsys_args": ["y"]}
        cache = {"file": "t", "misses": 3}
        assert run["build"] == {"seconds": 2.0, "phases_s": {"parse": 2.0}, "timing_cache": cache}
        assert run["engine"] == {"size_bytes": 300, "weights_bytes": None}
        benchmark = {"inferences": 7, "clock": [{"utc_ns": UTC}], "memory": {"engine_bytes": 5}}
        assert run["measured"] == {"benchmark": benchmark, "benchmark_2": {"inferences": 8, "throughput_per_s": 2.5}}
        assert "somebody" not in json.dumps(manifest)

    @pytest.mark.parametrize("odd", [3, [1], {"benchmark": 4}])
    def test_what_no_capture_wrote_is_left_out(self, run_directory: Callable[..., Path], odd: Any) -> None:
        run = open_trace(run_directory(run={**RUN, "measured": odd, "engine": "x", "build": 1})).manifest["run"]
        assert run["measured"] == {}
        assert run.keys().isdisjoint({"engine", "build"})


class TestClock:
    def test_by_the_sessions_start(self, run_directory: Callable[..., Path]) -> None:
        clock = open_trace(run_directory()).manifest["clock"]
        assert clock == {
            "source": "session_start",
            "marks": 0,
            "offset_ns": UTC,
            "error_ns": 1 * MS + 1 * MS,  # and 500 ppm of the two seconds that it lasts
            "drift_ns": None,
        }

    def test_by_marks(self, run_directory: Callable[..., Path]) -> None:
        """The mark that was made soonest after the clock was read is nearest; the others say how far off it may be."""
        marks = [mark(1 * MS, UTC + 40_000 + 1 * MS - 30_000), mark(900 * MS, UTC + 40_000 + 900 * MS - 80_000)]
        trace = open_trace(run_directory(STARTED, marks))
        assert trace.manifest["clock"] == {
            "source": "marks",
            "marks": 2,
            "offset_ns": UTC + 10_000,
            "error_ns": 50_000 + 100_000,
            "drift_ns": -50_000,
        }
        assert trace.table("telemetry")["time_ns"][0].as_py() == -5 * MS - 10_000

    def test_marks_alone(self, run_directory: Callable[..., Path]) -> None:
        clock = open_trace(run_directory(mark(5, UTC + 5))).manifest["clock"]
        assert (clock["source"], clock["offset_ns"], clock["error_ns"]) == ("marks", UTC, 100_000)
        assert clock["drift_ns"] is None

    def test_what_is_no_mark_of_ours(self, run_directory: Callable[..., Path]) -> None:
        others = [
            mark(5, 17),  # another program's idea of a clock
            mark(5, None),
            mark(5, UTC + 9 * MS, domainId=0),
            mark(5, UTC + 9 * MS, textId="clocks"),
            nvtx(5, 9, "clock", domainId=1, uint64Value=UTC + 9 * MS),
        ]
        assert open_trace(run_directory(STARTED, others)).manifest["clock"]["source"] == "session_start"


class TestInputs:
    def test_the_directory_and_its_report_are_the_same(self, run_directory: Callable[..., Path]) -> None:
        folder = run_directory()
        dataset = import_report(folder)
        assert dataset == folder / "report.sqlite.trace"
        written = (dataset / "manifest.json").stat().st_mtime_ns
        assert import_report(folder / "report.sqlite") == dataset
        assert (dataset / "manifest.json").stat().st_mtime_ns == written

    def test_whatever_its_name(
        self, run_directory: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(run_directory(name="anything"))
        assert open_trace(".").rows("telemetry") == 3
        assert import_report(".", tmp_path / "out") == tmp_path / "out" / "anything.trace"

    def test_the_report_as_parquetdir(self, run_directory: Callable[..., Path]) -> None:
        folder = run_directory()
        write_parquetdir(folder / "report", folder / "report.sqlite")
        (folder / "report.sqlite").unlink()
        assert open_trace(folder).rows("telemetry") == 3
        assert open_trace(folder / "report").rows("benchmark") == 4

    def test_datasets_of_several_in_one_folder(self, run_directory: Callable[..., Path], tmp_path: Path) -> None:
        folders = [run_directory(name=name) for name in ("a.capture", "b.capture")]
        result = CliRunner().invoke(program, ["import", "-o", str(tmp_path / "out"), *map(str, folders)])
        assert result.exit_code == 0, result.output
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.capture.trace", "b.capture.trace"]

    def test_analyze(self, run_directory: Callable[..., Path]) -> None:
        result = CliRunner().invoke(program, ["analyze", str(run_directory()), "--format", "json"])
        assert result.exit_code == 0, result.output
        assert json.loads(result.output)

    def test_a_copy_elsewhere_is_a_plain_report(self, run_directory: Callable[..., Path], tmp_path: Path) -> None:
        copy = shutil.copy(run_directory() / "report.sqlite", tmp_path / "report.sqlite")
        assert open_trace(copy).rows("telemetry") == 0

    def test_another_export_in_it_is_a_plain_one(self, run_directory: Callable[..., Path]) -> None:
        folder = run_directory()
        (folder / "report.sqlite").rename(folder / "layer_pass.sqlite")
        assert open_trace(folder / "layer_pass.sqlite").rows("telemetry") == 0

    def test_a_report_beside_another_programs_run_json(self, run_directory: Callable[..., Path]) -> None:
        folder = run_directory(run={"version": "1", "epochs": 3})
        assert open_trace(folder / "report.sqlite").rows("telemetry") == 0


class TestAgain:
    @pytest.mark.parametrize("name", ["telemetry.parquet", "benchmark.parquet", "run.json", "report.sqlite"])
    def test_a_change_of_any_file_is_seen(self, run_directory: Callable[..., Path], name: str) -> None:
        folder = run_directory()
        before = read_manifest(import_report(folder))["source"]
        if name == "report.sqlite":
            write_sqlite(folder / name, *ROWS, STARTED, kernel(60, 70))
        elif name == "run.json":
            (folder / name).write_text(json.dumps({**RUN, "status": "interrupted"}))
        else:
            pq.write_table(pq.read_table(folder / name).slice(1), folder / name)
        after = read_manifest(import_report(folder))
        assert after["source"]["sha256"] != before["sha256"]
        rows = {table: state["rows"] for table, state in after["tables"].items()}
        changed = {"telemetry.parquet": rows["telemetry"] == 2, "benchmark.parquet": rows["benchmark"] == 3}
        changed |= {"run.json": after["run"]["status"] == "interrupted", "report.sqlite": rows["kernels"] == 2}
        assert [file for file, seen in changed.items() if seen] == [name]

    def test_a_file_that_went_is_seen(self, run_directory: Callable[..., Path]) -> None:
        folder = run_directory()
        open_trace(folder)
        (folder / "telemetry.parquet").unlink()
        assert open_trace(folder).rows("telemetry") == 0

    def test_run_json_that_came_later_is_seen(self, run_directory: Callable[..., Path]) -> None:
        folder = run_directory(run=None)
        assert open_trace(folder / "report.sqlite").rows("telemetry") == 0
        (folder / "run.json").write_text(json.dumps(RUN))
        assert open_trace(folder / "report.sqlite").rows("telemetry") == 3


class TestBroken:
    @pytest.mark.parametrize(
        ("file", "content", "message"),
        [
            ("run.json", b"{", r"run\.json: is damaged: .*capture again"),
            ("run.json", b"[" * 100_000, r"run\.json: is damaged: .*capture again"),
            ("run.json", b"\xff\xfe", r"run\.json: is damaged: "),
            ("run.json", b"[]", r"run\.json: is not of nsight-tools capture; give the report itself"),
            ("run.json", b'{"version": 1}', r"run\.json: is not of nsight-tools capture"),
            (
                "run.json",
                b'{"version": 2, "tool_version": "9.0"}',
                r"run\.json: was written by a newer nsight-tools \(9\.0\); update nsight-tools",
            ),
            ("telemetry.parquet", b"PAR1 but no more", r"telemetry\.parquet: is no Parquet file: .*capture again"),
            ("benchmark.parquet", b"", r"benchmark\.parquet: is no Parquet file: "),
        ],
    )
    def test_a_file_that_cannot_be_read(
        self, run_directory: Callable[..., Path], file: str, content: bytes, message: str
    ) -> None:
        folder = run_directory()
        (folder / file).write_bytes(content)
        with pytest.raises(InputError, match=message):
            import_report(folder)
        assert [path.name for path in folder.iterdir() if path.suffix not in (".json", ".parquet", ".sqlite")] == []

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda rows: rows.drop_columns("wall_ns"), "has no column wall_ns: no capture wrote it so"),
            (lambda rows: _with(rows, "wall_ns", ["slow"] * 4), "has other values: "),
            (lambda rows: _with(rows, "thread", [1 << 40] * 4), "has other values: "),
            (lambda rows: _with(rows, "inference", pa.nulls(4, pa.int32())), "column inference has nulls"),
        ],
    )
    def test_a_table_of_another_kind(
        self, run_directory: Callable[..., Path], change: Callable[[pa.Table], pa.Table], message: str
    ) -> None:
        with pytest.raises(InputError, match=f"benchmark\\.parquet: .*{message}"):
            import_report(run_directory(benchmark=change(BENCHMARK)))

    def test_no_report(self, run_directory: Callable[..., Path]) -> None:
        folder = run_directory()
        (folder / "report.sqlite").unlink()
        with pytest.raises(InputError, match=r"model\.capture: holds run\.json, but no report; put report\.nsys-rep"):
            open_trace(folder)

    def test_no_report_but_its_dataset(self, run_directory: Callable[..., Path]) -> None:
        folder = run_directory()
        before = open_trace(folder)
        (folder / "report.sqlite").unlink()
        assert open_trace(folder).table("kernels") == before.table("kernels")
        with pytest.raises(DatasetError, match=r"is imported already; give the report that it was made from"):
            open_trace(folder, inference_range="other")
        (folder / "report.sqlite.trace" / "manifest.json").unlink()
        with pytest.raises(InputError, match=r"or give the dataset that was made of it"):
            open_trace(folder)

    def test_a_capture_that_was_cut_off(self, run_directory: Callable[..., Path]) -> None:
        folder = run_directory(run=None)
        (folder / "report.nsys-rep").write_bytes(b"")
        with pytest.raises(
            InputError, match=r"has no run\.json: its capture did not come to its end; it left 3 .*; give .*nsys-rep"
        ):
            import_report(folder)

    def test_telemetry_that_has_wild_values(self, run_directory: Callable[..., Path]) -> None:
        wild = telemetry((-(1 << 63), 0, "nowhere"), ((1 << 63) - 1, 0, None))
        rows = open_trace(run_directory(samples=wild)).table("telemetry").to_pylist()
        assert {row["bus_id"] for row in rows} == {"nowhere", None}
        assert {row["device"] for row in rows} == {None}


def _with(rows: pa.Table, name: str, values: Any) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, pa.array(values))


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("00000000:18:00.0", "0000:18:00.0"),
        ("0000:3B:00.0", "0000:3b:00.0"),
        ("00010000:01:00.0", "10000:01:00.0"),
        ("nowhere", "nowhere"),
    ],
)
def test_bus_ids_in_one_way(text: str, normal: str) -> None:
    assert run_files.bus_id(text) == normal


MARKS = """
    import json, sys, time
    import nvtx
    taken = []
    for number in range(40):
        before = time.time_ns()
        nvtx.mark("clock", domain="nsight_tools", payload=before)
        after = time.time_ns()
        nvtx.mark("witness", domain="app", payload=number)
        taken.append((before, after, time.time_ns()))
        time.sleep(0.02)
    json.dump(taken, open(sys.argv[1], "w"))
"""


@pytest.mark.nsys
@pytest.mark.parametrize("by", ["marks", "session_start"])
def test_alignment_holds_within_its_error(tmp_path: Path, by: str) -> None:
    """Marks of a real report, each made between two readings of the system's clock, are where those say."""
    nsys = installed_nsys.main()
    folder = tmp_path / "run.capture"
    folder.mkdir()
    source = MARKS if by == "marks" else MARKS.replace('domain="nsight_tools"', 'domain="other"')
    (folder / "marks.py").write_text(textwrap.dedent(source))
    program = [sys.executable, folder / "marks.py", folder / "taken.json"]
    installed_nsys.profile(nsys, folder / "report.nsys-rep", program, 80, traces="nvtx")
    (folder / "run.json").write_text(json.dumps(RUN))
    taken = np.array(json.loads((folder / "taken.json").read_text()))
    pq.write_table(telemetry(*((int(utc), 0, None) for utc in taken[:, 1])), folder / "telemetry.parquet")

    trace = open_trace(folder)
    clock = trace.manifest["clock"]
    assert clock["source"] == by
    witnesses = trace.sql("SELECT start_ns FROM nvtx_ranges WHERE name = 'witness' ORDER BY start_ns")
    utc = witnesses["start_ns"].to_numpy() + clock["offset_ns"]
    assert len(utc) == 40
    assert (utc >= taken[:, 1] - clock["error_ns"]).all()
    assert (utc <= taken[:, 2] + clock["error_ns"]).all()
    assert clock["error_ns"] < 20 * MS
    samples = trace.table("telemetry")["time_ns"].to_numpy()
    assert (
        np.abs(witnesses["start_ns"].to_numpy() - samples).max() < clock["error_ns"] + (taken[:, 2] - taken[:, 1]).max()
    )
