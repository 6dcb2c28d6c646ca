"""Times of a run without the profiler, as whoever measured them wrote them: rows of one table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from drawing import table

from nsight_tools import run_files
from nsight_tools.errors import InputError
from nsight_tools.importer import untraced
from nsight_tools.self_timing import COLUMNS
from nsight_tools.tables import TABLES

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

MS = 1_000_000


def own_times(folder: Path, *walls: int, pid: int = 1, start: int = 100, **columns: list[Any]) -> Path:
    """What a process wrote whose inferences take so long, ns, one behind the other."""
    count = len(walls)
    found: dict[str, list[Any]] = {name: [None] * count for name in COLUMNS}
    found |= {"number": [*range(count)], "thread": [1] * count, "wall_ns": [*walls]}
    found["start_ns"] = [start + sum(walls[:at]) for at in range(count)]
    path = folder / f"{pid}.json"
    written = {"nsight_tools_times": 1, "pid": pid, "full": False, "events": None, "columns": found | columns}
    path.write_text(json.dumps(written), encoding="utf-8")
    return path


def trtexec_times(folder: Path, inferences: list[dict[str, float]]) -> Path:
    path = folder / "times.json"
    rows = [", ".join(f'"{name}" : {value:g}' for name, value in one.items()) for one in inferences]  # six digits
    path.write_text("[\n" + "\n, ".join(f"{{ {row} }}" for row in rows) + "\n]\n", encoding="utf-8")
    return path


def one(start: float, *, copies: float = 0.1, enqueue: float = 0.3, compute: float = 0.8) -> dict[str, float]:
    """An inference of trtexec that begins at `start` ms: a copy, 0.05 ms, kernels, 0.05 ms, a copy."""
    at = start + copies + 0.05
    done = at + compute
    found = {"startEnqMs": start + 0.02, "endEnqMs": start + 0.02 + enqueue}
    found |= {"startH2dMs": start, "endH2dMs": start + copies, "startComputeMs": at, "endComputeMs": done}
    found |= {"startD2hMs": done + 0.05, "endD2hMs": done + 0.05 + copies, "h2dMs": copies, "computeMs": compute}
    return found | {"d2hMs": copies, "latencyMs": 2 * copies + compute}


def values(rows: pa.Table, *names: str) -> list[Any]:
    return [tuple(row.values()) if len(row) > 1 else next(iter(row.values())) for row in rows.select(names).to_pylist()]


class TestOwnTimes:
    def test_of_one_process(self, tmp_path: Path) -> None:
        path = own_times(tmp_path, 5, 7, enqueue_ns=[2, 3], number=[4, 6])
        rows = untraced.read(path)
        assert rows.schema.equals(TABLES["benchmark"].schema)
        assert values(rows, "run", "measured_by", "inference", "start_ns", "wall_ns", "enqueue_ns", "compute_ns") == [
            ("benchmark", "host_clock", 4, 0, 5, 2, None),
            ("benchmark", "host_clock", 6, 5, 7, 3, None),
        ]

    def test_of_several_processes_on_one_clock(self, tmp_path: Path) -> None:
        paths = [own_times(tmp_path, 5, 5, pid=8, start=103), own_times(tmp_path, 4, pid=9, start=100)]
        assert values(untraced.of_json(paths), "start_ns", "thread") == [(0, 1), (3, 0), (8, 0)]

    def test_events_are_another_source(self, tmp_path: Path) -> None:
        rows = untraced.read(own_times(tmp_path, 5, 7, gpu_ns=[3, 4], compute_ns=[2, 3]))
        assert values(rows, "measured_by", "gpu_ns") == [("cuda_events", 3), ("cuda_events", 4)]

    def test_what_leads_and_is_slow_is_warm_up(self, tmp_path: Path) -> None:
        rows = untraced.read(own_times(tmp_path, 900, 300, *[100] * 20, 300, *[100] * 5))
        assert values(rows, "run") == ["warm_up"] * 2 + ["benchmark"] * 26

    def test_numbers_of_the_programs_own_that_are_too_large_are_counted(self, tmp_path: Path) -> None:
        assert values(untraced.read(own_times(tmp_path, 5, 7, number=[1 << 40, 3])), "inference") == [0, 1]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"nsight_tools_times": 2}, "was written by another version"),
            ({"columns": 7}, "columns are no lists of one length"),
            ({"columns": {"number": [1]}}, "columns are no lists of one length"),
        ],
    )
    def test_damage(self, tmp_path: Path, change: dict[str, Any], message: str) -> None:
        path = own_times(tmp_path, 5, 7)
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        with pytest.raises(InputError, match=message):
            untraced.read(path)

    @pytest.mark.parametrize(
        ("column", "value"),
        [("wall_ns", None), ("wall_ns", "5"), ("start_ns", 1.5), ("wall_ns", -1), ("thread", 1 << 63)],
    )
    def test_a_value_that_nobody_writes(self, tmp_path: Path, column: str, value: Any) -> None:
        with pytest.raises(InputError, match=f"is damaged: {column} holds "):
            untraced.read(own_times(tmp_path, 5, 7, **{column: [1, value]}))


class TestTrtexec:
    def test_inferences(self, tmp_path: Path) -> None:
        rows = untraced.read(trtexec_times(tmp_path, [one(2.0), one(4.0)]))
        names = ("run", "measured_by", "inference", "start_ns", "wall_ns", "enqueue_ns", "h2d_ns", "compute_ns")
        (first, second) = values(rows, *names)
        assert first[:4] == ("benchmark", "trtexec", 0, 0)
        assert first[4:] == pytest.approx((1.1 * MS, 0.3 * MS, 0.1 * MS, 0.8 * MS), abs=1)
        assert second[2:4] == (1, 2 * MS)

    def test_moments_that_are_too_coarse_are_not_subtracted(self, tmp_path: Path) -> None:
        """After 1,000 s the last of six digits is 10 ms: what trtexec subtracted itself is still exact."""
        rows = untraced.read(trtexec_times(tmp_path, [one(1_000_000.0), one(1_000_002.0)]))
        assert values(rows, "wall_ns", "enqueue_ns", "gpu_ns", "compute_ns") == [(1 * MS, None, None, 800_000)] * 2

    def test_coarse_moments_of_one_part_only(self, tmp_path: Path) -> None:
        """After 1 s it is 10 us, which is a third of this enqueue and nothing of the whole."""
        rows = untraced.read(trtexec_times(tmp_path, [one(1_000.0 + 2 * at, enqueue=0.03) for at in range(9)]))
        assert set(values(rows, "enqueue_ns")) == {None}
        assert all(abs(wall - 1.1 * MS) <= 0.01 * MS for wall in values(rows, "wall_ns"))

    def test_without_transfers(self, tmp_path: Path) -> None:
        rows = untraced.read(trtexec_times(tmp_path, [one(2.0, copies=0.0), one(4.0, copies=0.0)]))
        assert values(rows, "h2d_ns", "d2h_ns") == [(0, 0)] * 2
        assert values(rows, "wall_ns") == pytest.approx([0.9 * MS] * 2, abs=1)

    def test_what_does_not_say_when(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"lacks when inferences begin and end; write them with trtexec --expo"):
            untraced.read(trtexec_times(tmp_path, [{"latencyMs": 1.0}]))

    @pytest.mark.parametrize("value", ["1e300", "Infinity", "NaN", '"2"'])
    def test_a_time_that_nothing_takes(self, tmp_path: Path, value: str) -> None:
        path = trtexec_times(tmp_path, [one(2.0), one(4.0)])
        path.write_text(path.read_text().replace('"computeMs" : 0.8', f'"computeMs" : {value}'))
        assert values(untraced.read(path), "compute_ns") == [None] * 2

    def test_another_of_its_exports(self, tmp_path: Path) -> None:
        path = tmp_path / "profile.json"
        path.write_text('[{"count": 10}, {"name": "conv", "timeMs": 5.0}]')
        with pytest.raises(InputError, match="is trtexec's --exportProfile: layer times, not times of inferences"):
            untraced.read(path)


class TestParquet:
    ROWS = ({"run": "benchmark", "wall_ns": 5, "measured_by": "trtexec"}, {"run": "timing", "wall_ns": 6})

    def test_of_a_dataset_without_its_traced_runs(self, tmp_path: Path) -> None:
        pq.write_table(table("benchmark", [dict(row) for row in self.ROWS]), tmp_path / "benchmark.parquet")
        rows = untraced.read(tmp_path / "benchmark.parquet")
        assert values(rows, "run", "measured_by", "wall_ns") == [("benchmark", "trtexec", 5)]

    def test_of_a_run_directory(self, tmp_path: Path) -> None:
        rows = table("benchmark", [dict(row) for row in self.ROWS]).select(run_files.BENCHMARK_SCHEMA.names)
        pq.write_table(rows, tmp_path / "benchmark.parquet")
        assert values(untraced.read(tmp_path / "benchmark.parquet"), "measured_by") == ["runner"]

    def test_one_that_holds_only_a_traced_run(self, tmp_path: Path) -> None:
        pq.write_table(table("benchmark", [dict(self.ROWS[1])]), tmp_path / "benchmark.parquet")
        with pytest.raises(InputError, match="holds no inference without the profiler; give trtexec's"):
            untraced.read(tmp_path / "benchmark.parquet")

    def test_another_table(self, tmp_path: Path) -> None:
        pq.write_table(table("streams", []), tmp_path / "streams.parquet")
        with pytest.raises(InputError, match=r"has no column run: it is no benchmark\.parquet"):
            untraced.read(tmp_path / "streams.parquet")

    def test_one_that_was_cut_off(self, tmp_path: Path) -> None:
        (tmp_path / "benchmark.parquet").write_bytes(b"PAR1 and no more")
        with pytest.raises(InputError, match=r"is no benchmark\.parquet: "):
            untraced.read(tmp_path / "benchmark.parquet")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no JSON"),
        (b"{", "is no JSON"),
        (b"[" * 100_000, "is no JSON: it is nested too deeply"),
        (b"{}", "has no list of times of inferences"),
        (b"[]", "has no list of times of inferences"),
        (b"\x00\xff\x00", "is no JSON"),
    ],
)
def test_what_is_no_such_file(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "times.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as raised:
        untraced.read(path)
    assert "trtexec" in raised.value.hint


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file or directory"):
        untraced.read(tmp_path / "nothing.json")
    with pytest.raises(InputError, match=r"is a folder; name a file in it, as benchmark\.parquet"):
        untraced.read(tmp_path)


def test_a_whole_process() -> None:
    assert values(untraced.of_process(1.5), "run", "measured_by", "wall_ns") == [("program", "process", 1500 * MS)]
