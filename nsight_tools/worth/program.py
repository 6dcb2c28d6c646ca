"""A loop as a program: the calls of a request in order, the work that they launch, and what each took.

Every time is kept with the bound that held in the trace. A piece of GPU work starts when its launch has reached the GPU
(`latency`, from the launch call's return) and when what is before it on its stream, its copy engine, or behind an event
has ended (`gap`): the later of the two was the bound, and has the residual; the other one has what is usual in the
trace. A wait returns `wake` after what it waits for, where it waited, and takes `length` where it did not. So the
program replays its own trace exactly, and a change to one thing moves the others as far as their bounds allow.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nsight_tools.cuda_names import CallKind
from nsight_tools.worth.known import HOLE_NS, POLLS_NS

if TYPE_CHECKING:
    import numpy.typing as npt

    from nsight_tools.columns import Bools, Ints
    from nsight_tools.worth.ranges import Floats

KERNEL, TO_GPU, TO_HOST = 0, 1, 2
"""What a piece of work is, and the engine that runs it: kernels and sets, copies in, copies out."""
NEVER = -1e18
"""A time before all others, ns."""
FEWEST_WAITS = 5
"""Waits of which a median says something."""
MOST_BESIDE = 0.2
"""Share of the requests that begin beside the one before from which on kernels are taken to share the GPU: none does
where one thread's launches are the limit, nearly all where the GPU is."""


@dataclass(frozen=True)
class Program:
    """R requests of one kind, each m steps of a host thread and q pieces of work; all times in ns."""

    kind: npt.NDArray[np.int8]
    blocking: Bools
    own: int
    ranges: Floats
    lag: Ints
    """Which request a wait is for: so many before its own; shape (m,)."""
    pause: Floats
    other: Floats
    length: Floats
    """Of a call that does not wait, shape (R, m); of a blocking copy and a wait, without the waiting."""
    wake: Floats
    """From the end of what was waited for to the call's return, shape (R, m); NaN where nothing was waited for."""
    waited: Floats
    """How long what a wait is for still ran when it began, shape (R, m); below 0 where it had ended."""
    step: Ints
    queue: Ints
    engine: npt.NDArray[np.int8]
    after: Ints
    """Which piece of work of its request each waits for by an event, -1 for none; shape (q,)."""
    pageable: Bools
    size: Ints
    filled: Floats
    """What share of the GPU's room for blocks each kernel takes while it runs, shape (q,)."""
    duration: Floats
    gap: Floats
    latency: Floats
    begin: Floats
    """From a request's start to its first own call, shape (R,)."""
    rest: Floats
    """From the return of its last call to the end of its range, shape (R,)."""
    follows: Bools
    """Whether the request before is the one that ran before it, shape (R,)."""
    in_graph: Bools
    """Work that a CUDA graph launched, and that is not its first: it waits for no launch of its own; shape (q,)."""
    for_event: bool
    """Its waits are for events: those of a program that asks for it sleep, where streams' and contexts' mostly poll."""
    beside: float
    """Share of the requests that start on the GPU before the kernels of the one before have ended."""
    lanes: int
    """Streams that the requests' kernels ran on, all together."""
    promised: Bools
    """Work that a change put into a CUDA graph, shape (q,)."""
    heads: Bools
    """The first work of each such graph, shape (q,)."""
    repinned: Bools
    """Copies whose memory a change has pinned, shape (q,)."""
    made: Bools
    """Launches of graphs that a change made, shape (m,)."""
    unblocked: Bools
    """Calls that a change let return at once, shape (m,)."""
    changed_wait: bool = False
    """A change made the waits poll."""

    @property
    def requests(self) -> int:
        return len(self.begin)

    @property
    def waits(self) -> bool:
        """Whether its host ever waits for the GPU; one that never does runs ahead of it, and a wall means little."""
        return bool((self.kind == CallKind.SYNC).any() or self.blocking.any())

    @property
    def holes(self) -> float:
        """How long the GPU waits in a request, between its kernels, for nothing that the trace shows, ns."""
        behind = (self.engine == KERNEL) & np.append(False, self.queue[1:] == self.queue[:-1])
        gap = self.gap[:, behind]
        return float(np.median(np.where(gap > HOLE_NS, gap, 0.0).sum(axis=1))) if gap.size else 0.0

    @property
    def shares_gpu(self) -> bool:
        """Whether kernels of one request run beside those of the next: their times are not their own."""
        return self.lanes > 1 and self.beside > MOST_BESIDE

    @cached_property
    def polls(self) -> bool | None:
        """Whether its waits poll for the end of the GPU's work, or sleep; None where it never waited."""
        if self.changed_wait:
            return True
        wake = self.wake[:, self.kind == CallKind.SYNC]
        wake = wake[~np.isnan(wake)]
        return None if wake.size < FEWEST_WAITS else bool(np.median(wake) < POLLS_NS)

    @property
    def launches(self) -> int:
        return int((self.kind == CallKind.LAUNCH).sum())

    def typical(self, requests: int = 8) -> Program:
        """As many requests that all take what is usual: the mean of the host's times, the middle of the GPU's.

        Not the median of the host's: they are skewed, and the sum of the medians of 100 calls is 5 % less than the
        median of their sum. What the host does before a request is known of those that follow another.
        """
        host = self.follows if self.follows.any() else ~self.follows
        rows: dict[str, Any] = {"follows": np.ones(requests, np.bool_)}
        for name in ("waited", "duration", "gap", "latency", "begin", "rest"):
            rows[name] = np.repeat(_middle(getattr(self, name))[None], requests, axis=0)
        for name in ("pause", "other", "length"):
            rows[name] = np.repeat(getattr(self, name)[host].mean(axis=0)[None], requests, axis=0)
        rows["wake"] = np.repeat(_middle(self.wake)[None], requests, axis=0)
        return replace(self, **rows)


def _middle(times: Floats) -> Floats:
    """Means over the requests without the first and last tenth, shape (m,); NaN where half of them have no time."""
    there = ~np.isnan(times).reshape(len(times), -1)
    ordered = np.sort(times.reshape(len(times), -1), axis=0)
    means = np.full(ordered.shape[1], np.nan)
    for count in np.unique(there.sum(axis=0)).tolist():
        rows = there.sum(axis=0) == count
        if 2 * count > len(times):
            means[rows] = ordered[count // 10 : count - count // 10, rows].mean(axis=0)
    middle: Floats = means.reshape(times.shape[1:])
    return middle
