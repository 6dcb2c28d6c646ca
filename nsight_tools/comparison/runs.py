"""What one trace gives to compare: its inferences in order of time, and what each of them spent on what."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nsight_tools import run_files
from nsight_tools.columns import Bools, Ints, ints, words
from nsight_tools.comparison.pieces import Pieces
from nsight_tools.findings import NOISE_SHARE
from nsight_tools.run import Run
from nsight_tools.run.flow import pauses
from nsight_tools.summary import summarize
from nsight_tools.tables import BUCKETS
from nsight_tools.timeline.attribution import joint_key
from nsight_tools.timeline.intervals import at_a_time, distinct
from nsight_tools.worth.known import POLLS_NS
from nsight_tools.worth.program import FEWEST_WAITS
from nsight_tools.worth.untraced import Known

if TYPE_CHECKING:
    from nsight_tools.comparison.resampling import Floats
    from nsight_tools.summary import Summary
    from nsight_tools.trace import Trace

BENCHMARK = "benchmark"


@dataclass(frozen=True, eq=False)
class Speeds:
    """Times of a run without the profiler, in order of time, ns: walls, and from one completion on a GPU to the next.

    `calls` is what the host's calls of each inference take, as long as `walls`, or empty where that was not measured.
    `at_a_time` is how many were under way.
    """

    walls: Floats = field(default_factory=lambda: np.zeros(0))
    periods: Floats = field(default_factory=lambda: np.zeros(0))
    calls: Floats = field(default_factory=lambda: np.zeros(0))
    at_a_time: float = 1.0


class ComparedRun:
    """One trace's judged inferences (`run.Requests`), as arrays of shape (n,) in order of start.

    Or the steady ones of the `population` of that number.
    """

    def __init__(self, trace: Trace, population: int | None = None) -> None:
        self.trace = trace
        table = trace.table("inferences")
        self.run = Run.of(trace)
        requests = self.run.requests
        self.judged = requests.judged if population is None else requests.steady & (requests.population == population)
        self._leads = population is None or bool(np.array_equal(self.judged, requests.judged))
        """Whether these are the judged ones, of which the untraced run is."""
        self._rows = np.flatnonzero(self.judged)
        self.left_out = table.num_rows - len(self._rows)
        self._table = table.take(pa.array(self._rows))
        self._all = table.num_rows

    def __len__(self) -> int:
        return len(self._rows)

    def of_population(self, number: int) -> ComparedRun:
        """The same run's inferences of another population; what is read of its launches is read once."""
        other = ComparedRun(self.trace, number)
        other.__dict__["_launches"] = self._launches
        return other

    @cached_property
    def summary(self) -> Summary:
        return summarize(self.trace)

    def column(self, name: str) -> Floats:
        values: Floats = ints(self._table[name]).astype(np.float64)
        return values

    @cached_property
    def wall(self) -> Floats:
        return self.column("wall_ns")

    @cached_property
    def periods(self) -> Floats:
        """Time from one completion on a GPU to the next, shape (m,), in order of time."""
        periods: Floats = self.run.flow.completions(self.judged).astype(np.float64)
        return periods

    @cached_property
    def usual_periods(self) -> Floats:
        """The same to inferences that are no outliers."""
        periods: Floats = self.run.flow.completions(self.judged & ~self.run.requests.outlier).astype(np.float64)
        return periods

    @cached_property
    def untraced(self) -> Speeds:
        """The run without the profiler; empty where there is none, or it is not of these inferences."""
        known = Known.of(self.trace)
        mine = known.untraced is not None and self._leads
        return self._speeds(BENCHMARK, known.rows) if mine else Speeds()

    @cached_property
    def repeats(self) -> list[Speeds]:
        """The same of each time that it was made, the first time included; none where there is none."""
        if not self.untraced.walls.size:
            return []
        count = len(self.summary.measured.repeats)
        return [self.untraced, *(self._speeds(run_files.benchmark(number)) for number in range(2, count + 1))]

    @cached_property
    def untraced_walls(self) -> Floats:
        """The walls of all of them, one run behind the other."""
        found: Floats = np.concatenate([np.zeros(0), *(each.walls for each in self.repeats)])
        return found

    def _speeds(self, run: str, rows: Ints | None = None) -> Speeds:
        """Of one run of table `benchmark`; of these rows of it, where some are given."""
        table = self.trace.table("benchmark", ["run", "start_ns", "wall_ns", "enqueue_ns"])
        (every,) = np.nonzero(words(table["run"]).among(run))
        start, wall = ints(table["start_ns"])[every], ints(table["wall_ns"])[every]
        kept = np.ones(every.size, np.bool_) if rows is None else np.isin(every, rows)
        order, done = np.argsort(start, kind="stable"), np.argsort(start + wall, kind="stable")
        since = np.diff((start + wall)[done])
        counts = kept[done[1:]] & ~pauses(since, wall[done])
        gpus = len(distinct(self.run.requests.device[self.judged]))
        mine = order[kept[order]]
        walls: Floats = wall[mine].astype(np.float64)
        calls: Floats = ints(table["enqueue_ns"])[every][mine].astype(np.float64)
        known = calls if (calls >= 0).all() else np.zeros(0)
        return Speeds(walls, gpus * since[counts].astype(np.float64), known, at_a_time(start, start + wall))

    @property
    def buckets(self) -> Floats:
        """Of each inference, shape (n, buckets)."""
        return np.stack([self.column(f"{bucket}_ns") for bucket in BUCKETS], axis=1)

    @cached_property
    def in_flight(self) -> float:
        """How many inferences run at a time, while any does: in the untraced run, where it is more.

        Tracing slows the thread that feeds several streams, until hardly two are under way at once.
        """
        start, end = ints(self._table["start_ns"]), ints(self._table["end_ns"])
        return max(self.untraced.at_a_time, at_a_time(start, end))

    @cached_property
    def polls(self) -> bool | None:
        """Whether its threads poll for the GPU's end, or sleep until it; None where too few waits tell."""
        late = self.run.flow.late_ns
        late = late[late >= 0]
        return bool(np.median(late) < POLLS_NS) if late.size >= FEWEST_WAITS else None

    @property
    def paced(self) -> bool:
        """Whether inferences come at a pace that is not the program's own: another program, or a clock, sets it."""
        between = self.run.flow.between
        if between.total_ns < NOISE_SHARE * max(between.whole_ns, 1):
            return False
        if between.waits is not None or not between.regular:
            return between.waited_for
        # A loop of its own starts one when the one before is done: starts vary as much as walls, and a clock's do not.
        turns = list(self.run.flow.turns.values())
        start, wall = self.run.requests.start, self.run.requests.wall
        steadier = all(2 * np.std(np.diff(start[turn.rows])) < np.std(wall[turn.rows]) for turn in turns)
        return steadier or bool(between.each_ns > np.median(wall[self.judged]))

    @property
    def threads(self) -> int:
        return len(distinct(joint_key(ints(self._table["pid"]), ints(self._table["tid"]))))

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(sorted(words(self._table["source"]).counts()))

    @cached_property
    def _launches(self) -> pa.Table:
        names = ["start_ns", "end_ns", "stream", "work", "row", "api_call", "tid", "layer", "inference"]
        return self.trace.table("launches", names)

    @cached_property
    def _owned(self) -> tuple[Ints, Ints]:
        """Of the work that belongs to compared inferences: the inference's position, and the row in `launches`."""
        position = np.full(self._all + 1, -1, np.int64)
        position[self._rows] = np.arange(len(self._rows))
        owner = position[ints(self._launches["inference"])]
        rows = np.flatnonzero(owner >= 0)
        return owner[rows], rows

    @cached_property
    def _kernels(self) -> tuple[Ints, Ints]:
        owner, rows = self._owned
        kernels = words(self._launches["work"]).among("kernel")[rows]
        return owner[kernels], rows[kernels]

    @property
    def kernel_rows(self) -> tuple[Ints, Ints]:
        """Of the kernels of compared inferences: the inference's position, and the row in `kernels`."""
        owner, rows = self._kernels
        return owner, ints(self._launches["row"])[rows]

    @property
    def _duration(self) -> Ints:
        return ints(self._launches["end_ns"]) - ints(self._launches["start_ns"])

    @cached_property
    def layers(self) -> Pieces:
        owner, rows = self._kernels
        return Pieces(len(self), owner, words(self._launches["layer"])[rows], self._duration[rows])

    @cached_property
    def kernels(self) -> Pieces:
        owner, rows = self._kernels
        name = words(self.trace.table("kernels", ["short_name"])["short_name"])
        return Pieces(len(self), owner, name[ints(self._launches["row"])[rows]], self._duration[rows])

    def blocks_by_kernel(self) -> dict[str, float]:
        """Thread blocks of an inference by kernel name: what a batch or a shape changes."""
        axes = self.trace.table("kernels", ["grid_x", "grid_y", "grid_z"])
        blocks = ints(axes["grid_x"]) * ints(axes["grid_y"]) * ints(axes["grid_z"])
        _, rows = self._kernels
        sums = np.bincount(
            self.kernels.word.codes,
            weights=blocks[ints(self._launches["row"])[rows]],
            minlength=len(self.kernels.word.dictionary),
        )
        return {
            name: float(sums[i]) / max(len(self), 1) for i, name in enumerate(self.kernels.word.dictionary) if sums[i]
        }

    @cached_property
    def _copies(self) -> tuple[Ints, pa.Table]:
        owner, rows = self._owned
        moves = words(self._launches["work"]).among("copy")[rows]
        taken = self.trace.table("memory_ops", ["kind", "size_bytes", "src_memory", "dst_memory"]).take(
            pa.array(ints(self._launches["row"])[rows[moves]])
        )
        return owner[moves], taken

    def copied(self, kind: str) -> Floats:
        """Bytes that each inference copies."""
        owner, table = self._copies
        chosen = words(table["kind"]).among(kind)
        size = ints(table["size_bytes"])[chosen]
        sums: Floats = np.bincount(owner[chosen], size, len(self)).astype(np.float64, copy=False)
        return sums

    def host_memory(self) -> tuple[str, ...]:
        """Kinds of host memory that copies of inferences read and write."""
        _, table = self._copies
        up, down = (words(table["kind"]).among(kind) for kind in ("h2d", "d2h"))
        sides = (table["src_memory"].filter(pa.array(up)), table["dst_memory"].filter(pa.array(down)))
        return tuple(sorted({kind for side in sides for kind in pc.unique(side).to_pylist() if kind}))

    @cached_property
    def launch_calls(self) -> Floats:
        """API calls of each inference that the GPU runs something for."""
        owner, rows = self._owned
        call = ints(self._launches["api_call"])[rows]
        first = np.zeros(call.size, np.bool_)
        first[np.unique(call, return_index=True)[1]] = True
        counts: Floats = np.bincount(owner[first & (call >= 0)], minlength=len(self)).astype(np.float64)
        return counts

    @cached_property
    def graphs(self) -> bool:
        """Whether inferences are launches of CUDA graphs, traced whole or node by node."""
        if self.column("graphs").any():
            return True
        _, rows = self._kernels
        node = self.trace.table("kernels", ["graph_node_id"])["graph_node_id"]
        held: Bools = ints(node)[ints(self._launches["row"])[rows]] >= 0
        return bool(held.size and held.mean() > 0.5)
