"""Clock, power and who else is on the GPU, with the latency of the inferences under them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator

from nsight_tools.columns import ints, words
from nsight_tools.errors import NothingToShow
from nsight_tools.hardware import REASONS, SETTINGS
from nsight_tools.report.figures.data import COLUMNS, Floats, Shown, envelope, occupancy
from nsight_tools.report.figures.lanes import Lane, draw
from nsight_tools.report.figures.style import Drawing, colour, duration_axis, of_trace, plots, since, time_axis
from nsight_tools.run import Run
from nsight_tools.run.metrics import Metrics
from nsight_tools.timeline.intervals import Intervals

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nsight_tools.columns import Ints
    from nsight_tools.findings import Finding
    from nsight_tools.trace import Trace


@dataclass(frozen=True)
class Series:
    """One quantity over time: its label with the unit, times, values, and the most that it can be."""

    label: str
    time: Ints
    value: Floats
    limit: float | None = None
    limit_label: str = ""


@of_trace
def clocks(trace: Trace, finding: Finding | None = None) -> Drawing:  # noqa: ARG001 (as all figures of findings)
    """SM clock, power, temperature and the reasons for a lower clock, of the first GPU at work, over the inferences.

    From `telemetry` where the capture has it, else from `gpu_metrics` and `nvml_metrics`. Each column shows the lowest
    and the highest sample in it. Below: how busy the GPU is by its own count and with this process's work, and the
    slowest inference of each column.

    Raises NothingToShow where nothing was sampled and there are no inferences.

    Example:
        >>> from nsight_tools import figures, open_trace
        >>> figure = figures.clocks(open_trace("sample_traces/detector_throttled.capture"))
        >>> figure.savefig("clocks.png")
    """
    shown = Shown.of(trace)
    lo, hi = shown.span
    device = int(shown.work.device[0]) if len(shown.work) else 0
    series = _sampled(trace, device)
    reasons = _reasons(trace, device)
    active = _metric(trace, device, "active")
    if not series and not len(shown.wall):
        raise NothingToShow("neither clocks nor power were sampled, and there are no inferences")
    heights = [0.8] * len(series)
    heights += [0.22 * len(reasons) + 0.12] * bool(reasons) + [0.8] * bool(active) + [1.1] * bool(len(shown.wall))
    figure, axes = plots(heights, gap=0.36, legend=False)
    rows = iter(axes)
    for line in series:
        _band(next(rows), line, lo, hi)
    if reasons:
        below = next(rows)
        draw(below, reasons, lo, hi, letters=26)
        below.set_title("Reasons for a lower clock (NVML)")
    if active:
        _activity(next(rows), shown, active, device, lo, hi)
    if len(shown.wall):
        _latency(next(rows), shown, lo, hi)
    time_axis(axes[-1], lo, hi, since(lo))
    figure.note = (
        "Where several samples fall on one point of the time axis, a bar from the lowest to the highest stands for "
        "them, and the slowest of the inferences."
    )
    if not series:
        figure.note = "Neither clock nor power was sampled."
    return figure


def _sampled(trace: Trace, device: int) -> list[Series]:
    """Clock, power and temperature, from the best source that has each."""
    lines = [s for s in (_telemetry(trace, device, *columns) for columns in _TELEMETRY) if s]
    have = {line.label for line in lines}
    highest = Run.of(trace).gpus.of(device).max_sm_clock_mhz
    if _TELEMETRY[0][0] not in have and (clock := _metric(trace, device, "sm_clock")):
        lines.insert(0, Series("SM clock (MHz)", *clock, highest, "highest clock of this GPU"))
    plugin = trace.table("nvml_metrics", ["time_ns", "device", "metric", "value"])
    for metric, label in (("Power", "Power (W)"), ("Temperature", "Temperature (°C)")):
        mine = words(plugin["metric"]).among(metric) & (ints(plugin["device"]) == device)
        if label not in have and mine.any():
            lines.append(Series(label, ints(plugin["time_ns"])[mine], plugin["value"].to_numpy()[mine]))
    return lines


_TELEMETRY = (
    ("SM clock (MHz)", "sm_clock_mhz", 1.0, "max_sm_clock_mhz", "highest clock of this GPU"),
    ("Power (W)", "power_mw", 1e3, "power_limit_mw", "power limit"),
    ("Temperature (°C)", "temperature_c", 1.0, "slowdown_temperature_c", "slows down here"),
)


def _telemetry(trace: Trace, device: int, label: str, column: str, unit: float, limit: str, said: str) -> Series | None:
    table = trace.table("telemetry", ["time_ns", "device", column, limit])
    mine = (ints(table["device"]) == device) & (ints(table[column]) >= 0)
    if not mine.any():
        return None
    most = ints(table[limit])[mine].max() / unit
    return Series(
        label, ints(table["time_ns"])[mine], ints(table[column])[mine] / unit, most if most > 0 else None, said
    )


def _reasons(trace: Trace, device: int) -> list[Lane]:
    """A lane for each reason that was in force, from sample to sample."""
    table = trace.table("telemetry", ["time_ns", "device", "clock_event_reasons"])
    mask = ints(table["clock_event_reasons"])
    mine = (ints(table["device"]) == device) & (mask >= 0)
    time, mask = ints(table["time_ns"])[mine], mask[mine]
    if len(time) < 2:
        return []
    until = np.append(time[1:], time[-1] + int(np.median(np.diff(time))))
    lanes = []
    for bit, reason in sorted((REASONS | SETTINGS).items()):
        held = (mask & bit) > 0
        if held.any():
            times = Intervals.union(time[held], until[held])
            lanes.append(Lane(reason).add("alarm", times.start, times.end))
    return lanes


def _metric(trace: Trace, device: int, metric: str) -> tuple[Ints, Floats] | None:
    """The samples of a GPU metric that means this."""
    metrics = Metrics.of(trace)
    time, value = metrics.clock(device) if metric == "sm_clock" else metrics.active(device)
    return (time, value) if time.size else None


def _band(axes: Axes, series: Series, lo: int, hi: int) -> None:
    middle, least, most = envelope(series.time, series.value, lo, hi)
    role = {"S": "compute", "P": "d2h", "T": "copy"}[series.label[0]]
    axes.fill_between(middle, least, most, color=colour(role), alpha=0.3, linewidth=0)
    axes.plot(
        middle,
        (least + most) / 2,
        color=colour(role),
        linewidth=0.9,
        drawstyle="steps-mid" if len(middle) < 200 else "default",
    )
    axes.set_title(series.label)
    axes.grid(axis="y")
    values = [*least, *most, *([series.limit] if series.limit else [])]
    room = 0.12 * max(max(values) - min(values), 0.05 * max(values)) if values else 1.0
    axes.set_ylim(min(values) - room, max(values) + room) if values else None
    axes.yaxis.set_major_locator(MaxNLocator(4))
    if series.limit:
        axes.axhline(series.limit, color=colour("muted"), linestyle=(0, (5, 3)), linewidth=1.0)
        axes.annotate(
            f"{series.limit_label}: {series.limit:,.0f}",
            (1.0, 1.0),
            xycoords="axes fraction",
            xytext=(0, 5),
            textcoords="offset points",
            ha="right",
            va="bottom",
            color=colour("muted"),
            fontsize=8.5,
        )


def _activity(axes: Axes, shown: Shown, active: tuple[Ints, Floats], device: int, lo: int, hi: int) -> None:
    middle, least, most = envelope(*active, lo, hi, 240)
    mine = shown.work[shown.work.device == device]
    share, edges = occupancy(mine.start, mine.end, lo, hi, 240)
    axes.stairs(100 * share, edges, fill=True, color=colour("compute"), alpha=0.85, linewidth=0)
    axes.fill_between(middle, least, most, color=colour("alarm"), alpha=0.3, linewidth=0)
    axes.plot(middle, (least + most) / 2, color=colour("alarm"), linewidth=0.9)
    axes.set_ylim(0, 108)
    axes.set_yticks([0, 50, 100])
    axes.grid(axis="y")
    axes.set_title("GPU busy (%): the line by its own count, any process; the area with this process's work")


def _latency(axes: Axes, shown: Shown, lo: int, hi: int) -> None:
    middle, least, most = envelope(shown.windows[0], shown.wall.astype(np.float64), lo, hi, COLUMNS)
    axes.vlines(middle, least, most, color=colour("other"), linewidth=0.8)
    axes.plot(middle, most, ".", color=colour("other"), markersize=3)
    duration_axis(axes, 1.08 * float(shown.wall.max()))
    axes.set_title(f"Time of each inference ({axes.get_ylabel()})")
    axes.set_ylabel("")
