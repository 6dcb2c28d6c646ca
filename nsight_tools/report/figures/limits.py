"""What limits the layers: a roofline in shares of the hardware's peaks, and an inference's kernels in their order."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from nsight_tools import units
from nsight_tools.errors import NothingToShow
from nsight_tools.report.figures.style import (
    Drawing,
    colour,
    layer_name,
    legend,
    name,
    of_trace,
    plots,
    time_axis,
    tip,
    wide,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes

    from nsight_tools.run.limits import LayerLimit, Part
    from nsight_tools.trace import Trace

    Floats = npt.NDArray[np.float64]

ROLES = {
    "memory": "other",
    "tensor": "launch",
    "issue": "compute",
    "occupancy": "copy",
    "latency": "unknown",
    "not told": "grid",
}
"""What a limit is drawn in."""
LANES = {
    "sms_active": ("SMs active", "occupancy"),
    "sm_issue": ("issue", "issue"),
    "tensor_active": ("Tensor Cores", "tensor"),
    "memory": ("device memory", "memory"),
}
"""What is said of a share of the peak, and the limit that it shows, in whose colour it is drawn."""
_LEAST = 1e-3
"""Least share of a peak on the roofline: samples are whole percents, and a mean of hundreds of them a tenth of that."""
_WIDEST = 1e3
"""Most that a layer may be right of the ridge: a whole peak of computation against the least share of memory's."""
_LABELS = 6
_AREA, _LARGEST = 8_000.0, 1_500.0
"""Points squared that all kernel time is, as circles, unless one of them would be larger than the second."""
_MUST = 0.1
"""Share of the kernel time that a roofline has to be about: what shows less says nothing of the engine."""


def _told(trace: Trace) -> Sequence[LayerLimit]:
    from nsight_tools.run.limits import of_regions, why_no_limits

    layers = of_regions(trace)
    if not layers:
        raise NothingToShow(f"what limits the layers is not known: {why_no_limits(trace) or 'no kernel was judged'}")
    return layers


@of_trace
def roofline(trace: Trace) -> Drawing:
    """The layers of an inference by what they take of the peak to compute, and of the memory's beside it.

    y is the share of its peak of the unit that computes the most, Tensor Cores or instruction issue, x that share over
    the one of device memory: arithmetic intensity, in units of the GPU's own ridge, without counting any FLOPs. The
    roof is where either is at its peak. Area is time.

    Raises NothingToShow where nothing can be told of the layers, or of device memory.

    Example:
        >>> from nsight_tools import figures, open_trace
        >>> figure = figures.roofline(open_trace("sample_traces/limits/detector_metrics.sqlite"))
        >>> figure.savefig("roofline.png")
    """
    layers = _told(trace)
    shown = [layer for layer in layers if _told_apart(layer)]
    if not any(layer.memory is not None for layer in layers):
        raise NothingToShow("what device memory moves is not among the report's GPU metrics")
    whole = sum(layer.time_ns for layer in layers)
    about = sum(layer.time_ns for layer in shown) / max(whole, 1)
    if about < _MUST:
        raise NothingToShow(
            f"only layers of {units.share(about)} of the kernel time take enough of device memory, and of a unit that "
            "computes, to be told from none"
        )
    areas = min(_AREA, _LARGEST * whole / max(layer.time_ns for layer in shown))
    size = [max(areas * layer.time_ns / whole, 4.0) for layer in shown]
    points = [_point(layer) for layer in shown]
    figure, (axes,) = plots([3.4], title=False)
    _roof(axes, points)
    for limit, role in ROLES.items():
        for at in (at for at, layer in enumerate(shown) if layer.limit == limit):
            right, up, tensor = points[at]
            paint = colour(role)
            circle = axes.scatter(
                [right],
                [up],
                [size[at]],
                facecolors=paint if tensor else "none",
                edgecolors=colour("muted") if tensor and limit in {"latency", "not told"} else paint,
                linewidths=0.5 if tensor else 1.2,
                alpha=0.85,
                zorder=3,
            )
            tip(circle, f"{name(shown[at].name, 200)}: {units.duration(shown[at].time_ns)}, {shown[at].because}")
    _named(figure, axes, shown, points, size)
    used = {layer.limit for layer in shown}
    legend(
        figure,
        [
            *((ROLES[limit], f"{_WORDS.get(limit, limit)}-bound") for limit in ROLES if limit in used - {"not told"}),
            *([(ROLES["not told"], "not told")] if "not told" in used else []),
            _key("by Tensor Cores"),
            _key("by other instructions", filled=False),
        ],
    )
    if len(shown) < len(layers):
        figure.note = (
            f"{len(layers) - len(shown)} of {len(layers)} layers, {units.share(1 - about)} of the kernel time, are "
            "left out: device memory or what computes is not told from none."
        )
    return figure


def _key(words: str, *, filled: bool = True) -> Line2D:
    paint = colour("muted")
    face = paint if filled else "none"
    return Line2D([], [], marker="o", linestyle="", color=paint, markerfacecolor=face, label=words)


_WORDS = {"tensor": "Tensor", "issue": "issue"}


def _told_apart(layer: LayerLimit) -> bool:
    """Whether both shares are told from nothing."""
    memory, (_, computes) = layer.memory, _computes(layer)
    return memory is not None and memory.low > 0 and computes is not None and computes.low > 0


def _computes(layer: LayerLimit) -> tuple[str, Part | None]:
    """The unit that computes the most, and its share of its peak."""
    known = {unit: layer.parts[unit] for unit in ("tensor_active", "sm_issue") if unit in layer.parts}
    return max(known.items(), key=lambda item: item[1].share) if known else ("", None)


def _point(layer: LayerLimit) -> tuple[float, float, bool]:
    """Where a layer stands, and whether Tensor Cores compute the most."""
    unit, computes = _computes(layer)
    assert computes is not None
    assert layer.memory is not None
    y = max(computes.share, _LEAST)
    return min(y / max(layer.memory.share, _LEAST), _WIDEST), y, unit == "tensor_active"


def _roof(axes: Axes, points: Sequence[tuple[float, float, bool]]) -> None:
    """Both axes, the roof, and what is near it by the bar that limits are told by."""
    from nsight_tools.run.limits.verdict import PEAK_SHARE

    xs, ys = [x for x, _, _ in points], [y for _, y, _ in points]
    left, right = min(0.25, min(xs) / 1.5), max(10.0, max(xs) * 1.5)
    bottom = min(0.1, min(ys) / 1.5)
    for share, look in ((1.0, "-"), (PEAK_SHARE, (0, (4, 3)))):
        corner = [(max(left, bottom / share), max(left * share, bottom)), (1.0, share), (right, share)]
        axes.plot(*zip(*corner, strict=True), color=colour("muted"), linewidth=1.0, linestyle=look, zorder=2)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, 1.6)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:g} %"))
    axes.tick_params(which="minor", length=0)
    axes.grid(which="major")
    axes.set_xlabel("share of the computing peak over share of device memory's: arithmetic intensity, 1 at the ridge")
    axes.set_ylabel("of the computing peak")
    axes.text(
        *(0.93, 0.98, "device memory's peak"),
        rotation=45,
        rotation_mode="anchor",
        transform_rotates_text=True,
        ha="right",
        va="bottom",
        color=colour("muted"),
    )
    axes.annotate(
        "computing peak",
        (right, 1.0),
        xytext=(-2, 2),
        textcoords="offset points",
        ha="right",
        va="bottom",
        color=colour("muted"),
    )


def _named(
    figure: Drawing,
    axes: Axes,
    layers: Sequence[LayerLimit],
    points: Sequence[tuple[float, float, bool]],
    size: Sequence[float],
) -> None:
    """The longest layers' names, under the roof, where they cover no circle, no line and no other's."""
    pixel = figure.dpi / 72  # of a point
    middle = axes.transData.transform([point[:2] for point in points])
    radius = np.sqrt(size) / 2 * pixel
    least = axes.get_window_extent().min
    most = axes.get_window_extent().x1, axes.transData.transform((1.0, 1.0))[1]
    taken = np.concatenate([_around(middle, radius), *(_around(line, np.ones(1)) for line in _drawn(axes))])
    named = 0
    for layer, point, at, r in list(zip(layers, points, middle, radius, strict=True))[: 3 * _LABELS]:
        words = layer_name(layer.name)
        half = np.array([wide(words, _SMALL) / 2, _SMALL * 0.6]) * pixel
        side, above = (r + 3 * pixel + half[0], 0.0), (0.0, r + 2 * pixel + half[1])
        for way in (side, (-side[0], 0.0), above, (0.0, -above[1])):
            place = np.concatenate([at + way - half, at + way + half])
            fits = (place[:2] > least).all() and (place[2:] < most).all()
            if fits and not ((taken[:, :2] < place[2:]) & (taken[:, 2:] > place[:2])).all(axis=1).any():
                taken = np.vstack([taken, place])
                axes.annotate(
                    words,
                    point[:2],
                    xytext=(way[0] / pixel, way[1] / pixel),
                    textcoords="offset points",
                    ha="center",
                    va="center",
                    fontsize=_SMALL,
                    zorder=4,
                )
                named += 1
                break
        if named == _LABELS:
            return


_SMALL = 8.0
"""Of letters in a plot."""


def _around(middle: Floats, half: Floats) -> Floats:
    """Boxes around points, (n, 4): left, bottom, right, top."""
    return np.concatenate([middle - half[:, None], middle + half[:, None]], axis=1)


def _drawn(axes: Axes) -> Iterator[Floats]:
    """Points of the lines of a plot, a few pixels from one to the next; shape (n, 2)."""
    for line in axes.lines:
        corners = axes.transData.transform(np.column_stack(line.get_data()))
        for corner, other in pairwise(corners):
            steps = np.linspace(0, 1, max(int(np.hypot(*(other - corner)) / 4), 2))
            yield corner + steps[:, None] * (other - corner)


@of_trace
def limits(trace: Trace) -> Drawing:
    """The kernels of an inference in their order, laid end to end: what limits their layers, and shares of the peaks.

    Raises NothingToShow where nothing can be told.

    Example:
        >>> from nsight_tools import figures, open_trace
        >>> figure = figures.limits(open_trace("sample_traces/limits/detector_metrics.sqlite"))
        >>> figure.savefig("limits.png")
    """
    layers = _told(trace)
    device = layers[0].device
    kernels = _kernels(trace, device)
    if not kernels:
        raise NothingToShow("no kernel has a place of its own in an inference")
    by_name = {layer.name: layer for layer in layers if layer.device == device}
    time = np.array([kernel["time_ns"] for kernel in kernels])
    edges = np.append(0, np.cumsum(time))
    shares = {metric: [_share(kernel, metric) for kernel in kernels] for metric in LANES}
    known = {metric: values for metric, values in shares.items() if any(value is not None for value in values)}
    figure, (strip, *lanes) = plots([0.3, *[0.62] * len(known)], gap=0.16)
    verdicts = [_limit(kernel, by_name) for kernel in kernels]
    _colours(strip, edges, verdicts)
    for axes, (metric, values) in zip(lanes, known.items(), strict=True):
        heights = np.array([np.nan if value is None else value for value in values], float)
        words, limit = LANES[metric]
        axes.stairs(np.nan_to_num(heights), edges, fill=True, color=colour(ROLES[limit]), linewidth=0)
        axes.set_ylim(0, 1)
        axes.set_yticks([0, 1], ["0", "100 %"])
        axes.grid(axis="y")
        axes.set_ylabel(f"{words}\n{_mean(heights, time)}", rotation=0, ha="right", va="center", labelpad=14)
    lanes_or_strip = (lanes or [strip])[-1]
    time_axis(lanes_or_strip, 0, int(edges[-1]), "of kernels, one behind the other")
    strip.set_title(f"{len(kernels)} kernels of an inference, by what limits their layers")
    used = set(verdicts)
    legend(figure, [(role, limit) for limit, role in ROLES.items() if limit in used])
    figure.note = _together(kernels)
    return figure


def _kernels(trace: Trace, device: int) -> list[dict[str, Any]]:
    """The kernels of an inference in their order: time, layer, name, and the shares by metric."""
    from nsight_tools.run.limits import layer_limits

    kernels: dict[int, dict[str, Any]] = {}
    for row in layer_limits(trace).to_pylist():
        if row["of"] == "kernel" and row["device"] == device:
            kernel = kernels.setdefault(row["position"], {**row, "shares": {}})
            kernel["shares"][row["metric"]] = row["share"]
    return [kernels[position] for position in sorted(kernels)]


def _share(kernel: Mapping[str, Any], metric: str) -> float | None:
    shares: Mapping[str, float] = kernel["shares"]
    if metric != "memory":
        return shares.get(metric)
    both = [shares[metric_name] for metric_name in ("dram_read", "dram_write") if metric_name in shares]
    return min(sum(both), 1.0) if both else None


def _mean(shares: Floats, time: npt.NDArray[np.int64]) -> str:
    """The mean over the time for which it is known: what is low all the time is not seen in a lane."""
    known = ~np.isnan(shares)
    return f"mean {units.share(float(np.average(shares[known], weights=time[known])))}"


def _limit(kernel: Mapping[str, Any], layers: Mapping[str, LayerLimit]) -> str:
    told = layers.get(kernel["layer"]) or layers.get(kernel["kernel"])
    return told.limit if told else "not told"


def _colours(axes: Axes, edges: Any, verdicts: Sequence[str]) -> None:
    """A stretch of colour for each run of kernels with the same limit."""
    begin = 0
    for at in range(1, len(verdicts) + 1):
        if at == len(verdicts) or verdicts[at] != verdicts[begin]:
            axes.axvspan(edges[begin], edges[at], color=colour(ROLES[verdicts[begin]]), linewidth=0)
            begin = at
    axes.set_yticks([])


def _together(kernels: Iterable[Mapping[str, Any]]) -> str:
    """How much of it was told as one with a neighbour."""
    every = list(kernels)
    shared = sum(kernel["time_ns"] for kernel in every if kernel["together"] is not None)
    if not shared:
        return ""
    share = units.share(shared / max(sum(kernel["time_ns"] for kernel in every), 1))
    return f"{share} of the time is of kernels that are not told from their neighbours: they have one height."
