"""What each layer takes by TensorRT's own profiler, `IProfiler`: without Nsight Systems, by CUDA events around each.

An enqueue waits for its work then, and hands over the time of every layer in the order in which they ran. What stands
between two layers is the profiler's own: an event each, and on a GPU that is done with one layer before the next is
launched, the launch.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from .outcome import Failure, write_atomically

if TYPE_CHECKING:
    from pathlib import Path

FILE = "profile.json"
"""Layer times as trtexec's --exportProfile writes them."""


class Reports:
    """What a profiler was told: layers by name and their times in ms, enqueue after enqueue."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.times_ms: list[float] = []
        self.profiler: Any = None
        """Who is told: held here for as long as the context may call it."""

    def write(self, path: Path, inferences: int) -> None:
        """Write the times of the last so many inferences; those of the warm-up came before.

        Raises Failure where the enqueues did not all report the same layers, so that no time is an inference's.
        """
        layers = self._layers()
        enqueues = len(self.names) // len(layers) if layers else 0
        if inferences and enqueues <= inferences:  # what leads is the warm-up's, always
            what = "reported other layers in one enqueue than in another" if layers else "reported no layer"
            hint = "capture without it: the layer pass tells layers by their ranges"
            raise Failure(f"TensorRT's profiler {what}", where="--profiler", hint=hint)
        rows = []
        if inferences:
            rows = _rows(layers, np.array(self.times_ms, np.float64).reshape(enqueues, -1)[-inferences:])
        text = json.dumps([{"count": int(inferences)}, *rows], indent=1)
        write_atomically(path, text.encode("utf-8", "surrogateescape"))

    def _layers(self) -> list[str]:
        """The layers of one enqueue: the shortest beginning of which all that was reported is made."""
        names, count = self.names, len(self.names)
        for at in range(1, count):
            if count % at == 0 and names[at] == names[0] and names == names[:at] * (count // at):
                return names[:at]
        return names


def _rows(layers: list[str], times: Any) -> list[dict[str, Any]]:
    """An object for each layer; `times` is in ms, shape (inferences, layers)."""
    totals, whole = times.sum(axis=0), max(float(times.sum()), 1e-12)
    medians, averages = np.median(times, axis=0), times.mean(axis=0)
    return [
        {
            "name": name,
            "timeMs": float(totals[at]),
            "averageMs": float(averages[at]),
            "medianMs": float(medians[at]),
            "percentage": 100 * float(totals[at]) / whole,
        }
        for at, name in enumerate(layers)
    ]


def attached(trt: Any, context: Any) -> Reports:
    """Give a context a profiler of our own; what that is told from then on is in what is returned."""

    class Profiler(trt.IProfiler):  # type: ignore[misc]  # of TensorRT's own bindings, which are loaded at run time
        """Keeps what it is told; TensorRT calls it at the end of an enqueue."""

        def __init__(self, reports: Reports) -> None:
            trt.IProfiler.__init__(self)  # pybind11 wants its own initializer called, not super()'s
            self._names, self._times = reports.names, reports.times_ms

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self._names.append(layer_name)
            self._times.append(ms)

    reports = Reports()
    reports.profiler = context.profiler = Profiler(reports)
    return reports
