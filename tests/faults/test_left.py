"""What a capture that was killed left: it can be read, kept, and goes with the next capture."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nsight_tools import files, open_trace, run_files
from nsight_tools.capture import rundir
from nsight_tools.errors import InputError, OutputError

if TYPE_CHECKING:
    from pathlib import Path

SAMPLES = 50


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """The folder of a capture that was killed while it sampled: two batches of rows, and a third that is cut off."""
    folder = rundir.partial_of(tmp_path / "model.capture")
    folder.mkdir()
    stream = run_files.telemetry_stream(folder / run_files.TELEMETRY)
    rows = [{"utc_ns": at, "index": 0, "bus_id": "0000:3b:00.0"} for at in range(SAMPLES)]
    batch = pa.RecordBatch.from_pylist(rows, run_files.TELEMETRY_STREAMED)
    with pa.ipc.new_stream(stream, run_files.TELEMETRY_STREAMED) as writer:
        for _ in range(3):
            writer.write_batch(batch)
    os.truncate(stream, stream.stat().st_size - batch.nbytes // 2)
    return folder


def test_its_samples_are_kept_and_named(left: Path) -> None:
    for _ in range(2):  # also when it is asked for again
        with pytest.raises(InputError) as raised:
            open_trace(left)
        assert "its capture did not come to its end" in raised.value.message
        assert f"it left {2 * SAMPLES} samples of the GPUs in telemetry.parquet" in raised.value.message
        assert "move the folder to keep it" in raised.value.hint
    kept = pq.read_table(left / run_files.TELEMETRY)
    assert kept["utc_ns"].to_pylist() == [*range(SAMPLES)] * 2


def test_a_report_in_it_is_named(left: Path) -> None:
    (left / run_files.REPORT).touch()
    with pytest.raises(InputError, match=r"give .*report\.nsys-rep, if that can be read, and move the folder"):
        open_trace(left)


def test_one_that_is_being_written_is_left_alone(left: Path) -> None:
    lock = files.held(left)
    assert lock is not None
    before = sorted(left.iterdir())
    with pytest.raises(InputError, match="is being written by a capture; wait for its end"):
        open_trace(left)
    assert sorted(left.iterdir()) == before
    os.close(lock)


def test_the_next_capture_of_its_name_removes_it(left: Path, tmp_path: Path) -> None:
    with rundir.made(tmp_path / "model.capture", force=False) as folder:
        assert folder == left
        assert list(folder.iterdir()) == []
        rundir.write_run(folder, {"version": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["model.capture"]


def test_two_captures_of_one_name_do_not_share_a_folder(tmp_path: Path) -> None:
    with rundir.made(tmp_path / "model.capture", force=False) as folder:
        rundir.write_run(folder, {"version": 1})
        with (
            pytest.raises(OutputError, match="is being written by another capture"),
            rundir.made(tmp_path / "model.capture", force=True),
        ):
            pass
    assert (tmp_path / "model.capture" / run_files.RUN).is_file()
