"""What the layer rules share: the kernels of inferences by layer and name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nsight_tools.columns import words
from nsight_tools.errors import CouldNotRun
from nsight_tools.run import Run
from nsight_tools.timeline.attribution import Words
from nsight_tools.timeline.intervals import distinct, pieces

if TYPE_CHECKING:
    from nsight_tools.columns import Bools, Ints
    from nsight_tools.run.work import Work
    from nsight_tools.trace import Trace


@dataclass(frozen=True)
class Kernels:
    """Kernels of the inferences (all kernels where there are no inferences), summed by layer, name and GPU.

    All have the shape (sums,); `time` is in nanoseconds. In order of layer and name.
    """

    time: Ints
    device: Ints
    name: Words
    layer: Words

    @classmethod
    def of(cls, run: Run) -> Kernels:
        """Raises CouldNotRun where none ran."""
        kernels = run.trace.once(_summed)
        if not len(kernels.time):
            raise CouldNotRun("no kernel was recorded" + (" for any inference" if run.count else ""))
        return kernels

    def __getitem__(self, chosen: Any) -> Kernels:
        return Kernels(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    def by_layer(self) -> dict[str, dict[str, int]]:
        """Nanoseconds by layer, in it by kernel; the layer is "" where a kernel has none."""
        found: dict[str, dict[str, int]] = {}
        for layer, name, time in zip(
            self.layer.codes.tolist(), self.name.codes.tolist(), self.time.tolist(), strict=True
        ):
            times = found.setdefault(self.layer.dictionary[layer] if layer >= 0 else "", {})
            kernel = self.name.dictionary[name]
            times[kernel] = times.get(kernel, 0) + time
        return found


def of_inferences(run: Run, work: Work) -> Bools:
    """Which of this work are kernels of judged inferences; all kernels, where there are no inferences."""
    return work.kind.among("kernel") & run.judges(work.inference)


MOST_SUMS = 1 << 22
"""Pairs of layers and names that are counted in a table; of more, which no engine has, only those that occur."""


def _summed(trace: Trace) -> Kernels:
    run = Run.of(trace)
    devices = np.array(run.gpus.devices, np.int64)
    layer = words(trace.table("launches", ["layer"])["layer"])
    name = words(trace.table("kernels", ["name"])["name"])
    width = len(name.dictionary) * max(devices.size, 1)
    size = (len(layer.dictionary) + 1) * width
    table, sparse = np.full(size if size <= MOST_SUMS else 0, -1, np.int64), []
    for rows in pieces(len(run.work)):
        work = run.work[rows]
        chosen = np.flatnonzero(of_inferences(run, work))
        time, device = (work.end - work.start)[chosen], np.searchsorted(devices, work.device[chosen])
        key = (layer.codes[rows][chosen].astype(np.int64) + 1) * width
        key += name.codes[work.row[chosen]].astype(np.int64) * max(devices.size, 1) + device
        if table.size:
            table[key] = np.maximum(table[key], 0)
            np.add.at(table, key, time)
        else:
            sparse.append(_sums(key, time))
    if table.size:
        keys = np.flatnonzero(table >= 0)
        times = table[keys]
    else:
        none = np.zeros(0, np.int64)
        keys, times = _sums(*(np.concatenate(column) for column in zip((none, none), *sparse, strict=True)))
    rest, device = np.divmod(keys, max(devices.size, 1))
    codes = np.divmod(rest, max(len(name.dictionary), 1))
    return Kernels(times, devices[device], Words(codes[1], name.dictionary), Words(codes[0] - 1, layer.dictionary))


def _sums(key: Ints, time: Ints) -> tuple[Ints, Ints]:
    """The distinct keys in order, and the sum of the times of each."""
    keys, place = np.unique(key, return_inverse=True)
    sums = np.zeros(keys.size, np.int64)
    np.add.at(sums, place.ravel(), time)
    return keys, sums


def device_majors(run: Run, kernels: Kernels) -> list[int]:
    """Major compute capabilities of the GPUs that ran these kernels, where known."""
    ran = (run.gpus.of(device) for device in distinct(kernels.device))
    return [gpu.compute_major for gpu in ran if gpu.compute_major is not None]
