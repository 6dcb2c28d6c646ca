"""Measurements of one thread: written into memory that is there beforehand, read out when nothing is measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

INTEGERS = (
    "inference", "start_ns", "wall_ns", "enqueue_ns", "gpu_ns", "h2d_ns", "compute_ns", "d2h_ns", "thread", "stream",
)  # fmt: skip
"""Columns of samples.npz beside `run`: int64, -1 for null; as in the dataset's table `benchmark`."""
NULL = -1
MOST_ROWS = 8192
"""Rows between two read-outs, and so the most CUDA events that are alive: six a row."""


Stages = Mapping[str, "tuple[int, int]"]
"""Which two of an inference's events, by their place in the row, a column of `INTEGERS` lies between."""
WHOLE: Stages = {"gpu_ns": (0, 1)}
COMPUTE: Stages = {**WHOLE, "compute_ns": (0, 1)}
IN_ORDER: Stages = {"gpu_ns": (0, 3), "h2d_ns": (0, 1), "compute_ns": (1, 2), "d2h_ns": (2, 3)}
OVERLAPPED: Stages = {"gpu_ns": (0, 5), "h2d_ns": (0, 1), "compute_ns": (2, 3), "d2h_ns": (4, 5)}


class Samples:
    """Up to `rows` inferences of one thread, with a set of CUDA events each, `filled` of them measured."""

    def __init__(self, cuda: Any, rows: int, stages: Stages, *, spin_wait: bool) -> None:
        flags = cuda.event_flags
        last = flags.DEFAULT if spin_wait else flags.BLOCKING_SYNC
        self.rows, self.stages, self.filled, self.paused_ns = rows, stages, 0, 0
        self.number, self.started, self.enqueued_from, self.enqueued_to, self.ended, self.stream = (
            [0] * rows for _ in range(6)
        )
        before = max(end for _, end in stages.values())
        self.events = [(*(cuda.Event() for _ in range(before)), cuda.Event(last)) for _ in range(rows)]
        self._collected: list[dict[str, NDArray[np.int64]]] = []

    def collect(self) -> None:
        """Read out what is filled, with the times between its events, and empty it; the work must be done."""
        rows, self.filled = self.filled, 0
        host = {
            name: np.array(column[:rows], np.int64)
            for name, column in (
                ("inference", self.number),
                ("start_ns", self.started),
                ("end_ns", self.ended),
                ("enqueue_ns", self.enqueued_to),
                ("stream", self.stream),
            )
        }
        host["enqueue_ns"] -= np.array(self.enqueued_from[:rows], np.int64)
        host["wall_ns"] = host["end_ns"] - host["start_ns"]
        events = self.events[:rows]
        for name in ("gpu_ns", "h2d_ns", "compute_ns", "d2h_ns"):
            if name in self.stages:
                first, last = self.stages[name]
                elapsed_ms = np.array([row[first].time_till(row[last]) for row in events], np.float64)
                host[name] = np.rint(elapsed_ms * 1e6).astype(np.int64)
            else:
                host[name] = np.full(rows, NULL, np.int64)
        self._collected.append(host)

    def columns(self, thread: int) -> dict[str, NDArray[np.int64]]:
        """All that was measured, with times of the host's own clock; `end_ns` beside the columns of `INTEGERS`."""
        names = [*(name for name in INTEGERS if name != "thread"), "end_ns"]
        self.collect()
        parts = self._collected
        columns = {name: np.concatenate([part[name] for part in parts]) for name in names}
        columns["thread"] = np.full(columns["inference"].size, thread, np.int64)
        return columns


def merge(parts: list[dict[str, NDArray[np.int64]]]) -> dict[str, NDArray[np.int64]]:
    """The threads' columns in one, ordered by inference, times from the first start."""
    columns = {name: np.concatenate([part[name] for part in parts]) for name in (*INTEGERS, "end_ns")}
    order = np.argsort(columns["inference"], kind="stable")
    columns = {name: column[order] for name, column in columns.items()}
    if order.size:
        first = columns["start_ns"].min()
        columns["start_ns"] -= first
        columns["end_ns"] -= first
    return columns
