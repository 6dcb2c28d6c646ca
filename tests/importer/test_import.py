"""An import is whole or not at all, is used again while it holds, and keeps to itself what is private."""

from __future__ import annotations

import json
import multiprocessing
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from exports import KERNEL, call, copy, domain, kernel, nvtx, process, write_parquetdir, write_sqlite
from patience import PATIENCE_S

from nsight_tools.errors import DatasetError, InputError, NsysError, OutputError
from nsight_tools.importer import import_report, read_manifest
from nsight_tools.trace import Trace, open_trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROWS = (
    domain(1, "nsight_tools"),
    nvtx(0, 100, "inference", domainId=1),
    call(1, 2, correlationId=1),
    kernel(10, 50, correlationId=1),
    call(3, 4, "cudaMemcpyAsync_v3020", correlationId=2),
    copy(60, 70, correlationId=2),
)


@pytest.fixture
def report(tmp_path: Path) -> Path:
    folder = tmp_path / "reports"
    folder.mkdir()
    return write_sqlite(folder / "run.sqlite", *ROWS)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def content(dataset: Path) -> dict[str, tuple[bytes, int]]:
    """Every file's bytes, and when it was written."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(dataset.iterdir())}


def opened(dataset: Path) -> Trace:
    return Trace(dataset, read_manifest(dataset))


class TestWhere:
    def test_beside_the_report(self, report: Path) -> None:
        dataset = import_report(report)
        assert dataset == report.parent / "run.sqlite.trace"
        assert names(report.parent) == ["run.sqlite", "run.sqlite.trace"]
        assert names(dataset) == sorted(
            ["manifest.json"]
            + [f"{t}.parquet" for t in ("api_calls", "inferences", "kernels", "launches", "memory_ops", "nvtx_ranges")]
        )

    def test_beside_a_parquetdir(self, report: Path) -> None:
        folder = write_parquetdir(report.parent / "run", report)
        before = names(folder)
        assert import_report(folder) == report.parent / "run.trace"
        assert names(folder) == before
        assert read_manifest(report.parent / "run.trace")["source"]["kind"] == "parquetdir"

    def test_in_another_folder(self, report: Path, tmp_path: Path) -> None:
        dataset = import_report(report, tmp_path / "new" / "out")
        assert dataset == tmp_path / "new" / "out" / "run.sqlite.trace"
        assert opened(dataset).rows("kernels") == 1
        assert names(report.parent) == ["run.sqlite"]

    def test_a_folder_that_cannot_be_made(self, report: Path, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(OutputError, match="file/out: cannot be made") as raised:
            import_report(report, tmp_path / "file" / "out")
        assert raised.value.hint == "choose another folder"

    def test_in_the_cache_where_the_reports_folder_is_read_only(
        self, report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        read_only(monkeypatch, report.parent)
        dataset = import_report(report)
        assert dataset.is_relative_to(tmp_path / "cache" / "nsight-tools")
        assert opened(dataset).rows("kernels") == 1
        assert names(report.parent) == ["run.sqlite"]
        before = content(dataset)
        assert import_report(report) == dataset
        assert content(dataset) == before, "found again"

    def test_reports_of_one_name_have_datasets_of_their_own_there(
        self, report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = tmp_path / "other"
        other.mkdir()
        twin = write_sqlite(other / "run.sqlite", *ROWS, kernel(60, 70))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        read_only(monkeypatch, report.parent, other)
        assert [opened(import_report(path)).rows("kernels") for path in (report, twin, report)] == [1, 2, 1]

    def test_a_name_that_is_hard_to_write(self, tmp_path: Path) -> None:
        path = write_sqlite(tmp_path / "a b?c%20#d'é.sqlite", *ROWS)
        assert open_trace(path).sql("SELECT count(*) AS n FROM kernels")["n"].to_pylist() == [1]

    def test_a_source_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"nothing\.sqlite: does not exist"):
            import_report(tmp_path / "nothing.sqlite")

    def test_a_name_that_is_mistyped_and_a_folder_that_is_not_there(self, report: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=rf"runn\.sqlite: does not exist; did you mean '{report.name}'\?"):
            import_report(report.with_name("runn.sqlite"))
        with pytest.raises(InputError, match=r"does not exist; there is no folder .*absent"):
            import_report(tmp_path / "absent" / "run.sqlite")

    @pytest.mark.parametrize("beside", [True, False])
    def test_a_report_without_nsys_and_its_export(self, tmp_path: Path, *, beside: bool) -> None:
        report = tmp_path / "run.nsys-rep"
        report.write_bytes(b"NVIDIA Tegra Profiler Report 2025.3.1\0")
        if beside:
            write_sqlite(tmp_path / "run.sqlite", *ROWS)
        with pytest.raises(NsysError) as raised:
            import_report(report, nsys=tmp_path / "absent")
        assert (raised.value.hint == "give run.sqlite, which stands beside it and is read without nsys") is beside

    def test_a_text_file_is_no_report_whether_or_not_there_is_an_nsys(self, tmp_path: Path) -> None:
        (tmp_path / "notes.nsys-rep").write_text("what I saw\n")
        with pytest.raises(InputError, match=r"notes\.nsys-rep: a text file, not an Nsight Systems report"):
            import_report(tmp_path / "notes.nsys-rep", nsys=tmp_path / "absent")


def read_only(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """As the importer asks: root may write anywhere, whatever a folder's mode says."""
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path not in folders and may(path, mode))


class TestAgain:
    def test_unchanged_is_used_as_it_is(self, report: Path) -> None:
        dataset = import_report(report)
        before = content(dataset)
        assert import_report(report) == dataset
        assert content(dataset) == before

    def test_only_touched_is_used_as_it_is(self, report: Path) -> None:
        before = content(import_report(report))
        os.utime(report, (1, 1))
        assert content(import_report(report)) == before

    def test_force_imports_anew(self, report: Path) -> None:
        before = content(import_report(report))
        after = content(import_report(report, force=True))
        assert after["manifest.json"][1] > before["manifest.json"][1]
        assert {name: data for name, (data, _) in after.items()} == {name: data for name, (data, _) in before.items()}

    def test_a_changed_source_is_imported_anew(self, report: Path) -> None:
        import_report(report)
        write_sqlite(report, *ROWS, kernel(60, 70))
        assert opened(import_report(report)).rows("kernels") == 2

    def test_changed_content_of_the_same_size_is_imported_anew(self, report: Path) -> None:
        import_report(report)
        size = report.stat().st_size
        with closing(sqlite3.connect(report)) as database, database:
            database.execute(f"UPDATE {KERNEL} SET start = 11")
        assert report.stat().st_size == size
        assert opened(import_report(report)).table("kernels")["start_ns"].to_pylist() == [11]

    def test_a_layers_json_that_appears_changes_or_goes(self, report: Path) -> None:
        beside = report.with_name("run.layers.json")
        found = []
        for text in (None, '["a"]', '["b", "c"]', None):
            beside.unlink(missing_ok=True)
            if text is not None:
                beside.write_text(text)
            found.append(opened(import_report(report)).table("layers")["name"].to_pylist())
        assert found == [[], ["a"], ["b", "c"], []]

    def test_asking_for_the_environment_too_imports_anew(self, report: Path) -> None:
        import_report(report)
        before = content(import_report(report, keep_environment=True))
        assert read_manifest(report.parent / "run.sqlite.trace")["source"]["keep_environment"]
        assert content(import_report(report, keep_environment=True)) == before

    @pytest.mark.parametrize(
        "damage", ["not JSON", "{}", '{"dataset_version": 0, "tables": {}, "source": {"name": "x"}}']
    )
    def test_a_damaged_dataset_or_one_of_another_version_is_made_anew(self, report: Path, damage: str) -> None:
        dataset = import_report(report)
        (dataset / "manifest.json").write_text(damage)
        assert opened(import_report(report)).rows("kernels") == 1


def full(*_: Any, **__: Any) -> Any:
    """A disk that has no room left."""
    raise OSError(28, "No space left on device")


class TestWholeOrNotAtAll:
    @pytest.mark.parametrize(
        "stage",
        [
            "nsight_tools.importer.streaming.SortedWriter.add",
            "nsight_tools.importer.machine.gpus",
            "nsight_tools.importer.inferences.write_inferences",
            "json.dumps",
        ],
        ids=["tables", "small tables", "what is derived", "manifest"],
    )
    def test_a_full_disk_leaves_nothing_new_and_what_was_there_whole(
        self, report: Path, monkeypatch: pytest.MonkeyPatch, stage: str
    ) -> None:
        problem = "reports: cannot be written: No space left on device; make room, or use -o"
        with monkeypatch.context() as failing:
            failing.setattr(stage, full)
            with pytest.raises(OutputError, match=problem):
                import_report(report)
        assert names(report.parent) == ["run.sqlite"]
        before = content(import_report(report))
        with monkeypatch.context() as failing:
            failing.setattr(stage, full)
            with pytest.raises(OutputError, match=problem):
                import_report(report, force=True)
        assert names(report.parent) == ["run.sqlite", "run.sqlite.trace"]
        assert content(report.parent / "run.sqlite.trace") == before

    def test_a_failure_at_the_last_moment_puts_the_earlier_dataset_back(
        self, report: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        dataset = import_report(report)
        before, rename = content(dataset), Path.rename

        def fails(self: Path, target: Path) -> Path:
            return full() if target == dataset and ".old." not in self.name else rename(self, target)

        monkeypatch.setattr("nsight_tools.files._exchanged", lambda *_: False)
        monkeypatch.setattr(Path, "rename", fails)
        with pytest.raises(OutputError, match="No space left on device"):
            import_report(report, force=True)
        assert content(dataset) == before
        assert names(report.parent) == ["run.sqlite", "run.sqlite.trace"]

    def test_an_interruption_leaves_nothing(self, report: Path) -> None:
        def interrupted(stage: str, _share: float | None) -> None:
            if stage == "reading nvtx_ranges":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            import_report(report, progress=interrupted)
        assert names(report.parent) == ["run.sqlite"]

    def test_a_source_that_changes_while_it_is_read_is_an_error(self, report: Path) -> None:
        def meanwhile(stage: str, _share: float | None) -> None:
            if stage == "reading nvtx_ranges":
                with report.open("ab") as file:
                    file.write(b"more")

        with pytest.raises(InputError, match="changed while it was read; import it again when it is complete"):
            import_report(report, progress=meanwhile)
        assert names(report.parent) == ["run.sqlite"]

    def test_what_an_earlier_import_left_goes(self, report: Path) -> None:
        left = report.parent / "run.sqlite.trace.abc.partial"
        left.mkdir()
        (left / "kernels.parquet").touch()
        import_report(report)
        assert names(report.parent) == ["run.sqlite", "run.sqlite.trace"]

    def test_the_dataset_can_be_read_by_others(self, report: Path) -> None:
        assert import_report(report).stat().st_mode & 0o755 == 0o755

    def test_progress_is_told_and_ends_with_done(self, report: Path) -> None:
        told: list[tuple[str, float | None]] = []
        import_report(report, progress=lambda stage, share: told.append((stage, share)))
        assert told[-1] == ("done", 1.0)
        shares = [share for _, share in told if share is not None]
        assert shares == sorted(shares)
        assert "reading kernels" in [stage for stage, _ in told]


def _import(path: Path, start: Any, results: Any) -> None:
    start.wait()
    try:
        dataset = import_report(path, force=True)
        results.put((str(dataset), opened(dataset).rows("kernels")))
    except Exception as error:  # noqa: BLE001 (what the other process has to be told)
        results.put((repr(error), 0))


@pytest.fixture
def processes() -> Iterator[Any]:
    context = multiprocessing.get_context("spawn")
    running: list[Any] = []

    def run(target: Callable[..., None], *arguments: Any) -> None:
        running.append(context.Process(target=target, args=arguments))
        running[-1].start()

    run.context = context  # type: ignore[attr-defined]
    yield run
    for each in running:
        each.join(PATIENCE_S)
        assert each.exitcode == 0


def test_two_imports_at_once_both_succeed(report: Path, processes: Any) -> None:
    start, results = processes.context.Barrier(2), processes.context.Queue()
    for _ in range(2):
        processes(_import, report, start, results)
    assert [results.get(timeout=PATIENCE_S) for _ in range(2)] == [(str(report.parent / "run.sqlite.trace"), 1)] * 2
    assert names(report.parent) == ["run.sqlite", "run.sqlite.trace"]


SECRET = "hunter2-secret"  # noqa: S105 (what must not be found)
PRIVATE = (
    ("TARGET_INFO_SYSTEM_ENV", {"name": "Hostname", "value": SECRET}),
    ("META_DATA_CAPTURE", {"name": "ENVIRONMENT_VARIABLE", "value": f"TOKEN={SECRET}"}),
    ("META_DATA_CAPTURE", {"name": "COMMAND_ARGUMENT", "value": SECRET}),
    ("META_DATA_EXPORT", {"name": "EXPORT_USER", "value": SECRET}),
    ("ProcessStreams", {"globalPid": process(), "filenameId": "stdout", "contentId": f"password: {SECRET}"}),
    ("DIAGNOSTIC_EVENT", {"timestamp": 0, "severity": 1, "source": 1, "text": f"wrote /home/{SECRET}/report"}),
)


class TestPrivacy:
    def everything(self, dataset: Path) -> str:
        trace = opened(dataset)
        tables = "".join(str(trace.table(name).to_pylist()) for name in trace.manifest["tables"])
        return tables + json.dumps(trace.manifest) + "".join(map(str, dataset.iterdir()))

    def test_what_is_private_is_left_out(self, tmp_path: Path) -> None:
        dataset = import_report(write_sqlite(tmp_path / "run.sqlite", *ROWS, *PRIVATE))
        assert SECRET not in self.everything(dataset)
        assert opened(dataset).missing("environment") == "import with --keep-environment"
        assert opened(dataset).table("diagnostics")["text"].to_pylist() == ["wrote ~/report"]
        assert not any(SECRET.encode() in path.read_bytes() for path in dataset.iterdir())

    # Fails while the writer asks for the least word of `environment.source`: it orders by a dictionary there.
    def test_unless_it_is_asked_for(self, tmp_path: Path) -> None:
        dataset = import_report(write_sqlite(tmp_path / "run.sqlite", *ROWS, *PRIVATE), keep_environment=True)
        found = opened(dataset).table("environment").to_pylist()
        assert [(r["source"], r["name"], r["value"]) for r in found] == [
            ("META_DATA_CAPTURE", "COMMAND_ARGUMENT", SECRET),
            ("META_DATA_CAPTURE", "ENVIRONMENT_VARIABLE", f"TOKEN={SECRET}"),
            ("ProcessStreams", "stdout", f"password: {SECRET}"),
            ("TARGET_INFO_SYSTEM_ENV", "Hostname", SECRET),
        ]


def test_the_manifest_says_what_was_imported(report: Path) -> None:
    manifest = read_manifest(import_report(report))
    assert manifest["source"]["name"] == "run.sqlite"
    assert manifest["source"]["size_bytes"] == report.stat().st_size
    assert len(manifest["source"]["sha256"]) == 64
    assert manifest["tables"]["kernels"] == {"rows": 1, "status": "present", "reason": None}
    assert manifest["tables"]["synchronizations"] == {"rows": 0, "status": "empty", "reason": None}
    assert manifest["tables"]["gpu_metrics"]["status"] == "not_collected"


class TestInferenceRange:
    """Which NVTX ranges are inferences, where the user says so."""

    ROWS = (
        domain(1, "app"),
        nvtx(0, 10, "step 1", domainId=1),
        nvtx(20, 30, "step 2", domainId=1),
        nvtx(40, 50, "step 3"),
        nvtx(60, 70, "stepper"),
    )

    @pytest.mark.parametrize(
        ("named", "starts"),
        [
            ("step 1", [0]),
            ("step *", [0, 20, 40]),
            ("step *@app", [0, 20]),
            ("step*", [0, 20, 40, 60]),
        ],
    )
    def test_by_name_and_domain(self, tmp_path: Path, named: str, starts: list[int]) -> None:
        trace = open_trace(write_sqlite(tmp_path / "a.sqlite", *self.ROWS), inference_range=named)
        assert trace.table("inferences")["range_start_ns"].to_pylist() == starts

    def test_another_range_is_another_dataset(self, tmp_path: Path) -> None:
        path = write_sqlite(tmp_path / "a.sqlite", *self.ROWS)
        assert open_trace(path, inference_range="step 1").rows("inferences") == 1
        assert open_trace(path, inference_range="step *").rows("inferences") == 3
        assert open_trace(path).rows("inferences") == 0

    def test_a_name_that_no_range_has_is_an_error_that_names_some(self, tmp_path: Path) -> None:
        path = write_sqlite(tmp_path / "a.sqlite", *self.ROWS)
        with pytest.raises(InputError, match=r"has no NVTX range named 'stop'; its most frequent ones are .*step 1"):
            open_trace(path, inference_range="stop")
        assert [file.name for file in tmp_path.iterdir()] == ["a.sqlite"]

    def test_a_dataset_has_its_inferences_already(self, tmp_path: Path) -> None:
        dataset = import_report(write_sqlite(tmp_path / "a.sqlite", *self.ROWS))
        with pytest.raises(DatasetError, match="is imported already; give the report"):
            open_trace(dataset, inference_range="step *")


def test_layers_json_can_be_named(tmp_path: Path) -> None:
    path = write_sqlite(tmp_path / "a.sqlite", nvtx(0, 1))
    (tmp_path / "engine.json").write_text('{"Layers": ["one"]}')
    assert open_trace(path, layers=tmp_path / "engine.json").table("layers")["name"].to_pylist() == ["one"]
    with pytest.raises(InputError, match=r"nowhere\.json: does not exist"):
        open_trace(path, layers=tmp_path / "nowhere.json")
