"""The conditions that two runs ran under: clocks, power, temperature, while their kernels ran."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import Bools, Ints, ints, words
from nsight_tools.comparison.judge import of_series
from nsight_tools.comparison.resampling import thinned
from nsight_tools.run.samples import Samples, clock_samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.comparison.resampling import Floats
    from nsight_tools.comparison.result import Difference
    from nsight_tools.comparison.runs import ComparedRun
    from nsight_tools.run import Run

SM_CLOCK = "SM clock, while its kernels run"
_TELEMETRY = (
    ("memory_clock_mhz", "memory clock", "MHz", 1.0),
    ("power_mw", "power", "W", 1e-3),
    ("temperature_c", "temperature", "°C", 1.0),
)
_NVML = {"Power": ("power", "W"), "Temperature": ("temperature", "°C")}


def conditions(before: ComparedRun, after: ComparedRun) -> tuple[Difference, ...]:
    """What both runs know of clocks, power and temperature; what only one knows has no difference."""
    measured = [_samples(run) for run in (before, after)]
    empty = np.zeros(0)
    keys = {**measured[0], **measured[1]}
    return tuple(
        of_series(name, unit, *(thinned(side.get((name, unit), empty)) for side in measured), beside=len(keys))
        for name, unit in keys
    )


def _samples(run: ComparedRun) -> dict[tuple[str, str], Floats]:
    """Series of measurements by name and unit; of what several sources know, the first one's."""
    series_by_name: dict[tuple[str, str], Floats] = {}
    for name, unit, series in (*_while_busy(run.run), *_plugin(run)):
        if series.size:
            series_by_name.setdefault((name, unit), series)
    return series_by_name


def _while_busy(run: Run) -> Iterator[tuple[str, str, Floats]]:
    """What was sampled of the GPUs while they were busy, by the one rule of what counts (`run.samples`)."""
    devices = run.gpus.devices
    clocks = [samples[1] for device in devices if (samples := clock_samples(run, device)) is not None]
    yield SM_CLOCK, "MHz", np.concatenate([np.zeros(0), *clocks])
    for column, name, unit, factor in _TELEMETRY:
        series = [Samples.of(run, device).known(column)[1] * factor for device in devices]
        yield name, unit, np.concatenate([np.zeros(0), *series])


def _plugin(run: ComparedRun) -> Iterator[tuple[str, str, Floats]]:
    table = run.trace.table("nvml_metrics")
    metric, here = words(table["metric"]), _on(run, ints(table["device"]))
    for word, (name, unit) in _NVML.items():
        yield name, unit, table["value"].to_numpy()[metric.among(word) & here]


def _on(run: ComparedRun, device: Ints) -> Bools:
    """Samples of the GPUs that the run used; of unknown ones too."""
    used = np.unique(ints(run.trace.table("launches", ["device"])["device"]))
    return np.isin(device, np.append(used, -1))
