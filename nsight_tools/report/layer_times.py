"""What layers take by TensorRT's own profiler, beside the trace, in words: where both agree, and where not and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools import units
from nsight_tools.report import safe
from nsight_tools.run.layer_times import AGREE, LONG_NS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.run.layer_times import LayerTime, LayerTimes

ROWS = 12
"""Layers that a page lists unless it shows everything."""
NAMED = 3
"""Names of layers that a sentence gives."""
_NAME = 60


def told(times: LayerTimes) -> str:
    """One line: all layers together by both, and what the two disagree about."""
    layers = sum(layer.profiler_ns is not None for layer in times.layers)
    takes = "takes" if layers == 1 else "take"
    whole = f"{units.plural(layers, 'layer')} {takes} {units.duration(times.profiler_ns)} in an inference"
    if not times.traced_ns:
        return f"TensorRT's own profiler: {whole}"
    parts = [f"TensorRT's own profiler: {whole}, and {units.duration(times.traced_ns)} by the trace"]
    return "; ".join([*parts, *_short(times), *_long(times), *_unknown(times)])


def largest(times: LayerTimes) -> list[LayerTime]:
    """The layers in order of time, the profiler's before the trace's; without those that took none."""
    took = [layer for layer in times.layers if layer.profiler_ns or layer.traced_ns]
    return sorted(took, key=lambda layer: -(layer.profiler_ns or layer.traced_ns or 0))


def share(layer: LayerTime, times: LayerTimes) -> float:
    """The layer's part of the time of all layers, by the side that its time is of."""
    whole = times.profiler_ns if layer.profiler_ns else times.traced_ns
    return (layer.profiler_ns or layer.traced_ns or 0) / max(whole, 1)


def _short(times: LayerTimes) -> Iterator[str]:
    """What the profiler's events cost, as short layers tell."""
    if times.event_ns is None:
        return
    which = f"{units.plural(len(times.short), 'layer')} below {units.duration(LONG_NS)}"
    if times.added_ns:
        yield f"its events around each layer add {units.duration(times.added_ns)} to it (median of the {which})"
    else:
        yield f"its events cost nothing that shows in the {which}"


def _long(times: LayerTimes) -> Iterator[str]:
    """Whether long layers agree beyond that."""
    if not (layers := times.long):
        return
    bound, beyond = units.duration(LONG_NS), "without that, " if times.added_ns else ""
    first = layers[0]
    most = abs(first.beyond(times.added_ns))
    if most <= AGREE:
        yield f"{beyond}{units.plural(len(layers), 'layer')} of {bound} and more agree within {units.share(most)}"
        return
    apart = sum(abs(layer.beyond(times.added_ns)) > AGREE for layer in layers)
    yield (
        f"{beyond}{apart} of {units.plural(len(layers), 'layer')} of {bound} and more differ by more than "
        f"{units.share(AGREE)}, most {safe.elided(first.name, _NAME)}: {units.duration(first.profiler_ns)}, "
        f"and {units.duration(first.traced_ns)} by the trace"
    )


def _unknown(times: LayerTimes) -> Iterator[str]:
    for side, other in (("profiler", "trace"), ("traced", "profiler")):
        if layers := times.only(side):
            took = units.duration(sum(layer.profiler_ns or layer.traced_ns or 0 for layer in layers))
            names = ", ".join(safe.elided(layer.name, _NAME) for layer in layers[:NAMED])
            more = ", …" if len(layers) > NAMED else ""
            yield f"the {other} does not know {units.plural(len(layers), 'layer')} of {took} ({names}{more})"
