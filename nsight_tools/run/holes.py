"""Holes: times in which work is submitted to a GPU, has not started, and nothing that was traced runs there.

A hole has an owner only where something says whose it is. Dependent kernels follow one another within some
microseconds: shorter holes are no holes but gaps, and the launch's own latency.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import Bools, Ints, ints, words
from nsight_tools.run.driver import mode_of
from nsight_tools.run.engine import engine_layers
from nsight_tools.run.metrics import Metrics
from nsight_tools.timeline.accelerator import DLA, HOLE_NS, Spans, behind_a_layer
from nsight_tools.timeline.attribution import joint_key
from nsight_tools.timeline.intervals import Intervals
from nsight_tools.timeline.requests import ENQUEUE_PREFIX

if TYPE_CHECKING:
    from nsight_tools.run import Run
    from nsight_tools.trace import Trace

SLICE_NS = 500_000
"""GPUs are time-sliced between processes in steps of 1 to 2 ms: a hole that is shorter is another's."""
FOREIGN = 50.0
"""Percent: a GPU that is active for more than half of a hole works for somebody else; an idle one shows a few."""


class Owner(IntEnum):
    """Whose a hole is, by what says so."""

    UNKNOWN = 0
    OTHER_PROCESS = 1
    """GPU metrics: the GPU is active meanwhile."""
    ACCELERATOR = 2
    """A layer that launches nothing on the GPU stands between the launches on both sides: the DLA runs it."""
    MIGRATION = 3
    """Pages of managed memory move meanwhile."""
    CALLBACK = 4
    """The stream waits for the host: a callback, a value in memory."""
    EVENT = 5
    """The stream was told to wait for an event."""
    BATCHES = 6
    """Windows' driver model sends launches in batches."""


@dataclass(frozen=True)
class Holes:
    """Holes of one GPU within the window, shape (n,), in order of time, none of which overlap."""

    start: Ints
    end: Ints
    owner: Ints

    @property
    def length(self) -> Ints:
        return self.end - self.start

    def of(self, *owners: Owner) -> Intervals:
        """Those of these owners."""
        theirs = np.isin(self.owner, owners)
        return Intervals(self.start[theirs], self.end[theirs])


def holes(run: Run, device: int, least_ns: int = HOLE_NS) -> Holes:
    """The holes of a GPU that are longer than this, and whose they are."""
    kept = run.trace.once(_kept)
    if (device, least_ns) not in kept:
        kept[device, least_ns] = _holes(run, device, least_ns)
    return kept[device, least_ns]


def _kept(_trace: Trace) -> dict[tuple[int, int], Holes]:
    """What `holes` found in a trace, by GPU and least length."""
    return {}


def _holes(run: Run, device: int, least_ns: int) -> Holes:
    holes = waits(run, device, _running(run, device), least_ns)
    owner = np.full(len(holes), Owner.UNKNOWN)
    for kind, applies in _owners(run, device, holes):
        owner[applies & (owner == Owner.UNKNOWN)] = kind
    return Holes(holes.start, holes.end, owner)


def other_processes(run: Run) -> Intervals:
    """Time in which submitted work waits while another process has its GPU, as GPU metrics prove; none without them."""
    return Intervals.any_of(holes(run, device, SLICE_NS).of(Owner.OTHER_PROCESS) for device in run.gpus.devices)


def _migrates(run: Run) -> Bools:
    """Which of the GPU work moves pages of managed memory: that is what other work waits for, and fills no hole."""
    return run.work.kind.where(lambda kind: kind.startswith("managed"))


def _running(run: Run, device: int) -> Intervals:
    """Time in which a GPU runs anything but moves of pages."""
    moves = _migrates(run)
    if not moves.any():
        return run.gpus.busy(device)
    running = (run.work.device == device) & ~moves
    return Intervals.union(run.work.start[running], run.work.end[running])


def waits(run: Run, device: int, running: Intervals, least_ns: int) -> Intervals:
    """Times of the window in which work is submitted to a GPU and not even `running` runs, longer than this."""
    work = run.work
    # While nothing runs nothing starts either: a long idle stretch that work waits in has one that waits for all of it.
    rows = np.flatnonzero((work.device == device) & (work.call_end >= 0) & (work.start - work.call_end > least_ns))
    idle = Intervals.union(work.call_end[rows], work.start[rows]).subtract(running)
    idle = idle.subtract(run.profiler).intersection(run.gpus.window(device))
    long = idle.end - idle.start > least_ns
    return Intervals(idle.start[long], idle.end[long])


def _owners(run: Run, device: int, holes: Intervals) -> list[tuple[Owner, Bools]]:
    calls, work = run.calls, run.work
    moves = _migrates(run) & (work.device == device)
    moved = Intervals.union(work.start[moves], work.end[moves])
    held = calls.does.among("callback")
    every = np.ones(len(holes), np.bool_)
    return [
        (Owner.OTHER_PROCESS, active_in(Metrics.of(run.trace), device, holes)),
        (Owner.ACCELERATOR, _behind_a_layer(run, device, holes)),
        (Owner.MIGRATION, 2 * moved.coverage(holes.start, holes.end) > holes.end - holes.start),
        (Owner.CALLBACK, every & bool(held.any())),
        (Owner.EVENT, _behind_an_event(run, device, holes)),
        (Owner.BATCHES, every & _sends_batches(run, device)),
    ]


def _sends_batches(run: Run, device: int) -> bool:
    """Whether a GPU's driver model holds launches back: the recorded one, else Windows' own."""
    system = str((run.trace.manifest.get("system") or {}).get("os") or "").lower()
    return (mode_of(run, device).model or ("WDDM" if "windows" in system else "")) == "WDDM"


def active_in(metrics: Metrics, device: int, holes: Intervals) -> Bools:
    """Stretches in which a GPU is active on average, whoever works there; those without a sample are not counted."""
    time, value = metrics.active(device)
    total = np.append(0, np.cumsum(value))
    first, last = np.searchsorted(time, holes.start), np.searchsorted(time, holes.end)
    active: Bools = total[last] - total[first] > FOREIGN * np.maximum(last - first, 1)
    return active


def _next_work(run: Run, device: int, holes: Intervals) -> Ints:
    """The row of the work that ends each hole."""
    rows = np.flatnonzero(run.work.device == device)
    at = np.searchsorted(run.work.start[rows], holes.end)
    next_: Ints = rows[np.minimum(at, rows.size - 1)] if rows.size else np.zeros(len(holes), np.int64)
    return next_


def _behind_a_layer(run: Run, device: int, holes: Intervals) -> Bools:
    """Whether a layer's range that launched no kernel stands between the launches around each hole.

    A layer that the engine's list knows to be no DLA's is none: some of the GPU's layers launch nothing, either.
    """
    none = np.zeros(len(holes), np.bool_)
    if not len(holes):
        return none
    table = run.trace.table("nvtx_ranges", ["start_ns", "end_ns", "pid", "tid", "domain", "name"])
    layer = words(table["domain"]).among("TensorRT") & (ints(table["end_ns"]) > ints(table["start_ns"]))
    known = {name: listed.type for name, listed in engine_layers(run.trace).items()}
    layer &= words(table["name"]).where(
        lambda name: not name.startswith(ENQUEUE_PREFIX) and known.get(name, "") in ("", DLA)
    )
    rows = np.flatnonzero(layer)
    if not rows.size:
        return none
    layers = Spans(
        ints(table["start_ns"])[rows],
        ints(table["end_ns"])[rows],
        joint_key(ints(table["pid"])[rows], ints(table["tid"])[rows]),
    )
    work = run.work
    launches = Spans(work.call_start, work.call_end, joint_key(work.pid, work.tid))
    there = np.flatnonzero(work.call_start >= 0)
    following = launches[_next_work(run, device, holes)]
    return behind_a_layer(layers, launches[there], work.device[there] == device, following)


def _behind_an_event(run: Run, device: int, holes: Intervals) -> Bools:
    """Whether the thread made a stream wait for an event between its last launch and that of what ends each hole."""
    behind = np.zeros(len(holes), np.bool_)
    calls, work = run.calls, run.work
    waits_ = calls.does.among("stream_wait")
    if not waits_.any() or not len(holes):
        return behind
    following = _next_work(run, device, holes)
    for tid in np.unique(work.tid[following]).tolist():
        here = work.tid[following] == tid
        issued = calls.start[waits_ & (calls.tid == tid)]
        launches = np.sort(work.call_start[(work.tid == tid) & (work.call_start >= 0)])
        called = work.call_start[following[here]]
        previous = np.where(
            np.searchsorted(launches, called) > 0, launches[np.searchsorted(launches, called) - 1], called - 1
        )
        behind[here] = np.searchsorted(issued, called) > np.searchsorted(issued, previous)
    return behind
