"""The engine's graph: layers as cells of boxes, tensors as lines, coloured by time, precision, or what limits them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsight_tools import units
from nsight_tools.errors import NothingToShow
from nsight_tools.report.figures.engine import colours, drawing
from nsight_tools.report.figures.engine.places import Placed, placed
from nsight_tools.report.figures.engine.regions import Box, Folded, folded
from nsight_tools.report.figures.style import name
from nsight_tools.run import Run
from nsight_tools.run.engine import Engine, time_by_layer
from nsight_tools.trace import as_trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from os import PathLike

    from nsight_tools.report.figures.engine.colours import Mode
    from nsight_tools.run.engine import Layer, Tensor
    from nsight_tools.trace import Trace

WIDTH, HEIGHT = 990.0, 1300.0
"""Pixels that the picture has at most: a page's column, and what a printed page has room for at that width."""
SCREEN = 800.0
"""Pixels from which on a second column is begun."""
_TERMINALS = 8
"""Inputs, and outputs, of the engine that stand by themselves."""
_CELLS = 600
"""Cells at most, some 300 bytes each."""
_NAME = 120
"""Letters of a name that is shown where the mouse points."""
_FRAMES = (("reformat", "converts a tensor"), ("quantize", "Q or DQ"))


@dataclass(frozen=True)
class EngineGraph:
    """The engine's graph; notebooks show it.

    Example:
        >>> from nsight_tools import figures, open_trace
        >>> graph = figures.engine_graph(open_trace("sample_traces/detector_pageable.sqlite"))
        >>> len(graph.parts) > 1
        True
    """

    parts: tuple[str, ...]
    picture: Placed
    modes: tuple[Mode, ...]
    """The ways to colour it that there is something to say for; the first is shown first."""
    note: str = ""

    def svg(self, label: str = "", style: str = "") -> str:
        """An `<svg>` element. Its colours come from the page's style (`colours.style`), or from `style`.

        Example:
            >>> from nsight_tools import figures, open_trace
            >>> graph = figures.engine_graph(open_trace("sample_traces/detector_pageable.sqlite"))
            >>> graph.svg(label="the engine").startswith("<svg")
            True
        """
        return drawing.svg(self.parts, self.picture, WIDTH, label, style)

    def __repr__(self) -> str:
        return f"<EngineGraph by {' or '.join(mode.name for mode in self.modes)}>"

    def _repr_svg_(self) -> str:
        return self.svg(style=colours.alone(self.modes[0]))


def engine_graph(trace: Trace | PathLike[str] | str) -> EngineGraph:
    """The engine's layers as its list has them, with what each takes of the judged inferences' kernel time.

    Chains stand in one box, larger engines' blocks too, until all of it has room on a page. Raises NothingToShow where
    no layers are known, or no tensors between them, and where pygraphviz is not installed.

    Example:
        >>> from nsight_tools import figures, open_trace
        >>> graph = figures.engine_graph(open_trace("sample_traces/detector_pageable.sqlite"))
        >>> [mode.name for mode in graph.modes]
        ['time', 'precision']
    """
    trace = as_trace(trace, "figures.engine_graph")
    engine = Engine.of(trace)
    if not engine.layers:
        why = trace.missing("layers")
        raise NothingToShow("the engine's layers are not known" + (f": {why}" if why else ""))
    if len(engine.layers) > 1 and not engine.edges:
        raise NothingToShow(
            "the engine's list of layers has no tensors; build it with DETAILED profiling verbosity to see its graph"
        )
    return _Drawn(trace, engine).graph()


class _Drawn:
    """One engine's graph in the making."""

    def __init__(self, trace: Trace, engine: Engine) -> None:
        from nsight_tools.run.limits import of_layers

        self._engine, self._layers = engine, engine.layers
        run = Run.of(trace)
        times = time_by_layer(run)
        self._all = sum(times.values())
        self._times = [times.get(layer.name, 0) for layer in engine.layers]
        self._of, self._per = max(run.count, 1), "an inference" if run.count else "in all"
        self._limits = {limit.name: limit for limit in of_layers(trace)}
        self._tensors = {(edge.source, edge.target): edge.tensor for edge in engine.edges}

    def graph(self) -> EngineGraph:
        """Put together as far as it needs to be, laid out, and drawn."""
        kinds = [None if layer.reformats else layer.type for layer in self._layers]
        for level in folded(len(self._layers), self._tensors, kinds):
            terminals = self._terminals(level)
            sizes = [drawing.size(len(box.rows)) for box in level.boxes] + [drawing.TERMINAL] * len(terminals)
            ends = {edge for number, (*_, edges) in enumerate(terminals, len(level.boxes)) for edge in edges(number)}
            picture = placed(sizes, level.edges | ends, WIDTH, SCREEN, HEIGHT)
            if picture.height <= HEIGHT and picture.width <= WIDTH:
                break
        modes = self._modes()
        picture = picture.moved(0.0, _KEY)
        picture = Placed(picture.width, picture.height + _KEY, picture.middles, picture.curves, picture.bends)
        return EngineGraph(tuple(self._parts(level, terminals, picture, modes)), picture, modes, self._note(level))

    def _parts(
        self, level: Folded, terminals: Sequence[_Terminal], picture: Placed, modes: Sequence[Mode]
    ) -> Iterator[str]:
        also = [frame for frame in _FRAMES if any(_frame(layer).strip() == frame[0] for layer in self._layers)]
        used = {colours.datatype(layer.writes) for layer in self._layers} | set(colours.TIME.classes)
        used |= {colours.limit(limit.limit) for limit in self._limits.values()}
        yield from (drawing.legend(mode, 2.0, used, also) for mode in modes)
        yield '<g class="lines">'
        box_of = {layer: number for number, box in enumerate(level.boxes) for layer in box.layers}
        tensors: dict[tuple[int, int], list[str]] = {}
        for (source, target), tensor in self._tensors.items():
            tensors.setdefault((box_of[source], box_of[target]), []).append(_tensor(tensor))
        yield from (drawing.curve(points, "; ".join(tensors.get(edge, ())[:4])) for edge, points in picture.curves)
        for (source, _), points in picture.bends:
            yield drawing.bend(points, next((words[0] for edge, words in tensors.items() if edge[0] == source), ""))
        yield "</g>"
        for number, box in enumerate(level.boxes):
            yield self._box(box, picture.middles[number])
        for number, (title, hover, _) in enumerate(terminals, len(level.boxes)):
            yield drawing.terminal(picture.middles[number], title, hover)

    def _box(self, box: Box, at: tuple[float, float]) -> str:
        layers = [self._layers[number] for number in box.layers]
        time = sum(self._times[number] for number in box.layers)
        chief = max(box.layers, key=lambda number: (not self._layers[number].reformats, self._times[number]))
        if len(layers) == 1:
            what = layers[0].type or "layer"
        elif len(box.rows) > 1:
            what = f"{len(box.rows)} \N{MULTIPLICATION SIGN} {len(box.rows[0])} layers"
        else:
            what = f"{len(layers)} layers"
        counted = Counter(layer.type or "of unknown type" for layer in layers)
        types = ", ".join(f"{count} {kind}" for kind, count in counted.most_common())
        hover = "; ".join(filter(None, (what, self._time(time), types)))
        rows = [self._cells(row) for row in box.rows]
        kind = " forks" if box.forks else ""
        frames = {_frame(layer) for layer in layers}
        kind += frames.pop() if len(frames) == 1 else ""
        took = units.duration(time / self._of) if time else ""
        return drawing.box(at, self._layers[chief].name, (what, took), rows, kind, hover)

    def _cells(self, row: Sequence[int]) -> list[tuple[str, str]]:
        """The cells of a row: a layer each, or several that follow one another where the engine has too many."""
        per_cell = -(-len(self._layers) // _CELLS)
        return [self._cell(row[at : at + per_cell]) for at in range(0, len(row), per_cell)]

    def _cell(self, numbers: Sequence[int]) -> tuple[str, str]:
        """The classes of a cell, and what is said of it."""
        layers = [self._layers[number] for number in numbers]
        time = sum(self._times[number] for number in numbers)
        frames, types = {_frame(layer) for layer in layers}, {colours.datatype(layer.writes) for layer in layers}
        classes = "cell" + (frames.pop() if len(frames) == 1 else "")
        classes += f" {types.pop()}" if len(types) == 1 else " d0"
        classes += f" {colours.step(time / self._all)}" if self._all else ""
        limits = [self._limits[layer.name] for layer in layers if layer.name in self._limits]
        told = {limit.limit for limit in limits}
        classes += f" {colours.limit(told.pop() if len(told) == 1 else '')}" if self._limits else ""
        names = " … ".join(dict.fromkeys(name(layer.name, _NAME) for layer in (layers[0], layers[-1])))
        ends = (layers[0].inputs, layers[-1].outputs)
        lines = [
            f"{len(layers)} layers: {names}" if len(layers) > 1 else names,
            layers[0].type if len(layers) == 1 else "",
            self._time(time) or "no kernel seen" * bool(self._all),
            f"limited by {limits[0].limit}: {limits[0].because}" if len(limits) == 1 else "",
            " → ".join(_tensor(side[0]) for side in ends if side),
        ]
        return classes, "; ".join(filter(None, lines))

    def _time(self, time: int) -> str:
        """What a layer takes, and its share; empty where no kernel of it was seen."""
        return f"{units.duration(time / self._of)}, {units.share(time / self._all)}" if time else ""

    def _modes(self) -> tuple[Mode, ...]:
        known = any(colours.datatype(layer.writes) != "d0" for layer in self._layers)
        modes = [colours.TIME] * bool(self._all) + [colours.PRECISION] * known
        modes += [colours.LIMIT] * bool(self._limits)
        return tuple(modes or [colours.PRECISION])

    def _terminals(self, level: Folded) -> list[_Terminal]:
        """The engine's inputs and outputs: title, what is said of them, and their edges, given their number."""
        box_of = {layer: number for number, box in enumerate(level.boxes) for layer in box.layers}
        return [
            *_pooled("inputs", self._engine.inputs, box_of, lambda mine, box: (mine, box)),
            *_pooled("outputs", self._engine.outputs, box_of, lambda mine, box: (box, mine)),
        ]

    def _note(self, level: Folded) -> str:
        times = f"Times are {self._per}. " if self._all else "No kernel is known to belong to a layer: no times. "
        if len(level.boxes) == len(self._layers):
            return times
        return f"{times}{len(self._layers):,} layers in {len(level.boxes):,} boxes, named after their longest layer."


_KEY = 24.0
"""Height of the legend."""
_Terminal = tuple[str, str, "Callable[[int], set[tuple[int, int]]]"]


def _pooled(
    what: str,
    tensors: Sequence[tuple[Tensor, tuple[int, ...]]],
    box_of: dict[int, int],
    edge: Callable[[int, int], tuple[int, int]],
) -> list[_Terminal]:
    """Each of these tensors, or all as one where they are many."""

    def edges(layers: Sequence[int]) -> Callable[[int], set[tuple[int, int]]]:
        return lambda mine: {edge(mine, box_of[layer]) for layer in layers}

    if len(tensors) > _TERMINALS:
        every = [layer for _, layers in tensors for layer in layers]
        names = ", ".join(name(tensor.name) for tensor, _ in tensors)
        return [(f"{len(tensors)} {what}", names, edges(every))]
    return [(str(tensor.name), f"{what[:-1]} {_tensor(tensor)}", edges(layers)) for tensor, layers in tensors]


def _frame(layer: Layer) -> str:
    """The class of what only converts tensors."""
    return " quantize" if layer.quantizes else " reformat" if layer.reformats else ""


def _tensor(tensor: Tensor) -> str:
    """A tensor in words: name, datatype, shape and layout, as far as known."""
    shape = "\N{MULTIPLICATION SIGN}".join(str(size) for size in tensor.shape or ())
    return " ".join(filter(None, (name(tensor.name, _NAME), tensor.dtype, shape, tensor.format)))
