"""What each layer takes in an inference: by its kernels in the trace, and by TensorRT's own profiler beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import words
from nsight_tools.run import Run

if TYPE_CHECKING:
    from nsight_tools.columns import Ints
    from nsight_tools.trace import Trace

LONG_NS = 50_000
"""Layers from here on have to agree; those below tell what the profiler's events cost. On an H200 (three engines of
TensorRT 8.6) that was 2.8 to 3.2 us a layer, long or short: 6 % of it. Off by two, fewer short layers tell that cost,
or AGREE is asked where it is an eighth of a layer."""
AGREE = 0.05
"""Share by which both may differ where the events' cost is taken off: 0.6 % in seven of eight such layers there, and
5.0 % in the first, before which there is none."""


@dataclass(frozen=True)
class LayerTime:
    """One layer: medians over inferences in ns; None where that side does not know the layer."""

    name: str
    type: str = ""
    profiler_ns: int | None = None
    traced_ns: int | None = None
    """Of the time of its kernels, copies and sets, added up."""

    @property
    def both(self) -> bool:
        """Whether both sides know it and saw it take time."""
        return bool(self.profiler_ns and self.traced_ns)

    @property
    def differs(self) -> float:
        """By which share of the traced time the profiler's is more."""
        return self.beyond(0)

    def beyond(self, event_ns: int) -> float:
        """The same without what the profiler's events add to it."""
        return ((self.profiler_ns or 0) - event_ns) / (self.traced_ns or 1) - 1


@dataclass(frozen=True)
class LayerTimes:
    """Every layer that TensorRT's profiler or the trace knows, in order of execution."""

    layers: tuple[LayerTime, ...]
    measured_by: str = ""
    """As in table `layer_times`; empty where there is none."""
    inferences: int | None = None
    """That the profiler measured."""

    @property
    def profiler_ns(self) -> int:
        """All layers together, by the profiler."""
        return sum(layer.profiler_ns or 0 for layer in self.layers)

    @property
    def traced_ns(self) -> int:
        """The same by the trace."""
        return sum(layer.traced_ns or 0 for layer in self.layers)

    @property
    def long(self) -> list[LayerTime]:
        """Those of at least LONG_NS in the trace that both know; first in which they differ most beyond the events."""
        layers = [layer for layer in self.layers if layer.both and (layer.traced_ns or 0) >= LONG_NS]
        return sorted(layers, key=lambda layer: -abs(layer.beyond(self.added_ns)))

    @property
    def short(self) -> list[LayerTime]:
        """Those that are shorter, in order of execution."""
        return [layer for layer in self.layers if layer.both and (layer.traced_ns or 0) < LONG_NS]

    @property
    def event_ns(self) -> int | None:
        """What the profiler's events add to a short layer, ns: the median difference; None where there is none."""
        added = [(layer.profiler_ns or 0) - (layer.traced_ns or 0) for layer in self.short]
        return round(float(np.median(added))) if added else None

    @property
    def added_ns(self) -> int:
        """What the events add to each layer, as far as short layers tell: at least nothing."""
        return max(self.event_ns or 0, 0)

    def only(self, side: str) -> list[LayerTime]:
        """Layers that took time by `profiler` or `traced` and that the other does not know."""
        other = {"profiler": "traced_ns", "traced": "profiler_ns"}[side]
        return [layer for layer in self.layers if getattr(layer, f"{side}_ns") and getattr(layer, other) is None]


def layer_times(trace: Trace) -> LayerTimes | None:
    """The layers' times; the same object for all who ask. None where TensorRT's profiler measured none."""
    return trace.once(_layer_times)


def _layer_times(trace: Trace) -> LayerTimes | None:
    rows = trace.table("layer_times").to_pylist()
    if not rows:
        return None
    traced = traced_medians(trace)
    types = {row["name"]: row["type"] or "" for row in trace.table("layers", ["name", "type"]).to_pylist()}
    profiled: dict[str, int | None] = {}
    for row in rows:  # of one name: added up, as the trace adds what is in ranges of one name
        took = row["average_ns"] if row["median_ns"] is None else row["median_ns"]
        before = profiled.get(row["name"])
        profiled[row["name"]] = before if took is None else took + (before or 0)
    names = [*profiled, *(name for name in traced if name not in profiled)]
    layers = (LayerTime(name, types.get(name, ""), profiled.get(name), traced.get(name)) for name in names)
    return LayerTimes(tuple(layers), rows[0]["measured_by"], rows[0]["inferences"])


def traced_medians(trace: Trace) -> dict[str, int]:
    """The median time of each layer's work in the judged inferences that ran it, ns, by name; empty without layers."""
    return {name: round(float(np.median(times))) for name, times in traced_layers(trace).items()}


def traced_layers(trace: Trace) -> dict[str, Ints]:
    """What each layer's work took in each judged inference that ran it, ns, by name, shape (inferences,)."""
    run = Run.of(trace)
    layer = words(trace.table("launches", ["layer"])["layer"])
    chosen = np.flatnonzero((layer.codes >= 0) & (run.work.inference >= 0) & run.judges(run.work.inference))
    if not len(chosen):
        return {}
    took = (run.work.end - run.work.start)[chosen]
    key = layer.codes[chosen].astype(np.int64) * (1 << 32) + run.work.inference[chosen]
    pairs, place = np.unique(key, return_inverse=True)
    sums = np.zeros(len(pairs), np.int64)
    np.add.at(sums, place.ravel(), took)
    code = pairs >> 32
    ends = np.flatnonzero(np.diff(code)) + 1
    by_layer = zip(np.split(code, ends), np.split(sums, ends), strict=True)
    return {layer.dictionary[of[0]]: times for of, times in by_layer}
