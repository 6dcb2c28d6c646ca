"""Long traces are worked through piece by piece: whatever the pieces, the result is the same to the bit."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from drawing import table
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nsight_tools import trace as traces
from nsight_tools.analysis import Status, analyze
from nsight_tools.cuda_names import does
from nsight_tools.importer import launches, stored_columns, writer
from nsight_tools.importer.inferences import write_inferences
from nsight_tools.importer.nesting import Nesting
from nsight_tools.importer.writer import write_table
from nsight_tools.summary import summarize
from nsight_tools.tables import TABLES
from nsight_tools.timeline import accounting, attribution, intervals, ownership
from nsight_tools.timeline.intervals import Intervals, covered, shared, windows
from nsight_tools.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZES = (
    (writer, "CHUNK_ROWS"),
    (launches, "CHUNK_ROWS"),
    (accounting, "BATCH"),
    (attribution, "CHUNK"),
    (ownership, "CHUNK"),
    (intervals, "CHUNK"),
    (stored_columns, "BATCH_ROWS"),
    (traces, "BATCH_ROWS"),
)
"""Everything that says how much is worked on at a time."""
LAYERS = ("conv", "relu", "Reformatting CopyNode for Input Tensor 0", "add", "scale")
KERNELS = ("sm80_xmma_fprop_f16f16", "generatedNativePointwise", "sgemm_128x64_nn", "copyPackedKernel")


def in_pieces(size: int) -> ExitStack:
    """With this, everything is worked on in pieces of `size`."""
    stack = ExitStack()
    for module, name in SIZES:
        stack.enter_context(patch.object(module, name, size))
    return stack


@dataclass
class Program:
    """A made run: each thread makes inferences on a stream of its own, with random times; rows of the tables."""

    seed: int
    threads: int
    each: int
    kernels: int
    devices: int
    longest_us: int
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def tables(self) -> dict[str, pa.Table]:
        random = np.random.default_rng(self.seed)
        self.rows = {name: [] for name in ("kernels", "memory_ops", "api_calls", "nvtx_ranges", "synchronizations")}
        busy = [0] * self.devices
        for thread in range(self.threads):
            now = int(random.integers(0, 50_000))
            free = busy[thread % self.devices] if random.random() < 0.5 else 0
            for _ in range(self.each):
                now, free = self._inference(random, thread, now, free)
            busy[thread % self.devices] = free
        gpus = [{"device": at, "name": "GPU", "sm_count": 132, "compute_major": 9} for at in range(self.devices)]
        streams = [
            {
                "pid": 1000 + thread % 2,
                "context": 1,
                "stream": 7 + thread,
                "kind": ("legacy_default", "blocking")[thread % 2],
            }
            for thread in range(self.threads)
        ]
        found = {name: table(name, rows) for name, rows in self.rows.items()}
        nested = found["nvtx_ranges"]
        found["nvtx_ranges"] = Nesting()(nested)
        return found | {"gpus": table("gpus", gpus), "streams": table("streams", streams)}

    def _inference(self, random: np.random.Generator, thread: int, now: int, free: int) -> tuple[int, int]:
        """Rows of one inference from `now` on; when its thread goes on, and when its stream is free."""
        who = {"pid": 1000 + thread % 2, "tid": 10 + thread}
        where = {"pid": who["pid"], "device": thread % self.devices, "context": 1, "stream": 7 + thread}
        begin, slow = now, 5 if random.random() < 0.1 else 1

        def span(low: int, high: int) -> int:
            return int(random.integers(low, high)) * slow

        def called(name: str, length: int) -> int:
            nonlocal now
            number = len(self.rows["api_calls"]) + 1
            call = {"start_ns": now, "end_ns": now + length, "correlation_id": number, "name": name, "kind": "runtime"}
            self.rows["api_calls"].append(who | call | {"return_value": 0, "does": does(name)})
            now += length + span(50, 900)
            return number

        def ran(table_name: str, number: int, length: int, **columns: Any) -> None:
            nonlocal free
            start = max(free, now) + span(100, 1_500)
            free = start + length
            row = where | {"start_ns": start, "end_ns": free, "correlation_id": number}
            self.rows[table_name].append(row | columns)

        def copied(kind: str, memory: str) -> None:
            names = {"kind": kind, "size_bytes": span(1_000, 4_000_000)}
            ends = {"src_memory": memory, "dst_memory": "device"}
            if kind == "d2h":
                ends = {"src_memory": "device", "dst_memory": memory}
            ran("memory_ops", called("cudaMemcpyAsync", span(1_000, 9_000)), span(500, 60_000), **names, **ends)

        memory = "pageable" if thread % 2 else "pinned"
        for _ in range(int(random.integers(1, 5)) if random.random() < 0.2 else 2):  # most of them do the same work
            copied("h2d", memory)
        for at in range(self.kernels):
            name, since = LAYERS[at % len(LAYERS)], now
            grid = {f"{what}_{axis}": 1 for what in ("grid", "block") for axis in "xyz"} | {"grid_x": 16 * (1 + at % 9)}
            kernel = KERNELS[at % len(KERNELS)]
            ran(
                "kernels",
                called("cudaLaunchKernel", span(1_500, 6_000)),
                span(500, 1_000 * self.longest_us),
                name=kernel,
                short_name=kernel,
                **grid,
            )
            if random.random() < 0.1:
                called("cudaStreamSynchronize", span(1_000, 20_000))
                now = max(now, free)
            self._range(since, now, "TensorRT", name, who)
            now += span(10, 800)
        copied("d2h", memory)
        called("cudaStreamSynchronize", max(free - now, 0) + span(500, 2_000))
        self._range(begin, now, "nsight_tools", "inference", who)
        return now + span(100, 40_000), free

    def _range(self, start: int, end: int, domain: str, name: str, who: dict[str, int]) -> None:
        row = {"start_ns": start, "end_ns": end, "domain": domain, "name": name, "kind": "push_pop"}
        self.rows["nvtx_ranges"].append(who | row)


def imported(tables: dict[str, pa.Table], folder: Path) -> Trace:
    """The dataset of these tables, on disk, with what the importer derives."""
    for name, rows in tables.items():
        write_table(folder / f"{name}.parquet", TABLES[name], rows)
    write_inferences(folder)
    counts = {path.stem: pq.read_metadata(path).num_rows for path in folder.glob("*.parquet")}
    states = {
        name: {"rows": counts.get(name, 0), "status": "present" if counts.get(name) else "empty", "reason": None}
        for name in TABLES
    }
    return Trace(folder, {"source": {"name": "made"}, "tables": states})


def everything(program: Program) -> dict[str, Any]:
    """All that is derived from a run and found in it."""
    with tempfile.TemporaryDirectory() as folder:
        trace = imported(program.tables(), Path(folder))
        derived = {name: trace.table(name).to_pylist() for name in ("launches", "inferences", "enqueues")}
        return derived | {"outcomes": analyze(trace), "summary": summarize(trace)}


programs = st.builds(
    Program,
    seed=st.integers(0, 2**32 - 1),
    threads=st.integers(1, 4),
    each=st.integers(1, 14),
    kernels=st.integers(1, 12),
    devices=st.integers(1, 2),
    longest_us=st.integers(1, 60),
)


FRUITFUL = (Program(1, 1, 12, 10, 1, 2), Program(3, 2, 14, 12, 1, 20), Program(5, 4, 14, 12, 1, 60))


@settings(max_examples=2)
@example(FRUITFUL[0], 7)
@example(FRUITFUL[1], 16)
@example(FRUITFUL[2], 1)
@given(programs, st.integers(1, 40))
def test_attribution_accounting_and_findings_do_not_depend_on_the_pieces(program: Program, size: int) -> None:
    whole = everything(program)
    with in_pieces(size):
        assert everything(program) == whole


def test_the_made_runs_give_the_rules_something_to_find() -> None:
    outcomes = [outcome for program in FRUITFUL for outcome in everything(program)["outcomes"]]
    found = {outcome.code for outcome in outcomes if outcome.status == Status.FINDINGS}
    assert found >= {"FUS001", "FUS002", "FUS005", "LCH003", "LCH004", "LCH005", "PCI001", "PCI002", "STR001", "THR003"}


times = st.integers(-50, 200)
raw = st.lists(st.tuples(times, times), max_size=40).map(lambda pairs: np.array(pairs, np.int64).reshape(-1, 2).T)


@given(raw, raw, st.integers(1, 9))
def test_interval_sets_do_not_depend_on_the_pieces(one: np.ndarray, other: np.ndarray, size: int) -> None:
    def results() -> Iterator[np.ndarray]:
        a, b = Intervals.union(*one), Intervals.union(*other)
        for made in (a, b, a.intersection(b), a.subtract(b), b.subtract(a), shared(*one), Intervals.any_of([a, b])):
            yield from (made.start, made.end)
        yield from (a.coverage(*other), a.contains(other[0]), np.array(covered(*one)))

    whole = list(results())
    with in_pieces(size):
        for piecewise, expected in zip(results(), whole, strict=True):
            np.testing.assert_array_equal(piecewise, expected)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 30))
def test_windows_hold_whole_lanes(rows: list[int], size: int) -> None:
    lane = np.array(sorted(rows))
    with in_pieces(size):
        pieces = list(windows(lane))
    assert [row for piece in pieces for row in range(piece.start, piece.stop)] == list(range(lane.size))
    for piece in pieces:
        assert piece.stop == lane.size or lane[piece.stop] != lane[piece.stop - 1]
