"""Where the boxes of a graph stand: Graphviz' dot lays them out, in columns that are read like a newspaper's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from nsight_tools.errors import NothingToShow, bring

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

Point = tuple[float, float]

GUTTER = 26.0
"""Between two columns, for the lines that go on in the next."""
_STEP = 5.0
"""Between two such lines."""
_FEW = 2
"""Lines from one column into the next that an eye still follows."""
_INCH = 72.0


@dataclass(frozen=True)
class Placed:
    """The boxes' middles, and lines as Bézier curves (a point, then three for each curve), y downwards."""

    width: float
    height: float
    middles: Mapping[int, Point]
    curves: tuple[tuple[tuple[int, int], tuple[Point, ...]], ...]
    """Each with the edge that it is of."""
    bends: tuple[tuple[tuple[int, int], tuple[Point, ...]], ...] = ()
    """Lines from one column into the next, as corners."""

    def moved(self, right: float, down: float) -> Placed:
        """The same, further right and down."""

        def all_of(lines: Iterable[tuple[tuple[int, int], tuple[Point, ...]]]) -> Any:
            return tuple((edge, tuple((x + right, y + down) for x, y in points)) for edge, points in lines)

        middles = {box: (x + right, y + down) for box, (x, y) in self.middles.items()}
        return replace(self, middles=middles, curves=all_of(self.curves), bends=all_of(self.bends))


def placed(
    sizes: Sequence[Point], edges: Collection[tuple[int, int]], width: float, height: float, most: float
) -> Placed:
    """Boxes of these sizes, in as few columns as keep them within `height`, or come nearest to it within `width`.

    Columns that more than a few lines go between are harder to read than one that is long: there are such only where
    it would be higher than `most`. Raises NothingToShow where pygraphviz, which brings dot, is not installed.
    """
    whole = _dot(dict(enumerate(sizes)), edges)
    best = whole
    widest = max(w for w, _ in sizes) + GUTTER
    for columns in range(2, int((width + GUTTER) // widest) + 1):
        if best.height <= height or whole.width > width:
            break
        tried = _columns(sizes, edges, whole, columns)
        few = len(tried.bends) <= _FEW * (columns - 1)
        if tried.width <= width and tried.height < best.height and (few or best.height > most):
            best = tried
    return best


def _columns(sizes: Sequence[Point], edges: Collection[tuple[int, int]], whole: Placed, columns: int) -> Placed:
    """The boxes in several columns, cut where the fewest tensors cross."""
    column_of = _cut(whole, edges, columns)
    columns = max(column_of.values()) + 1
    ports: dict[int, tuple[int, int, bool]] = {}  # what stands for a line that leaves or enters a column
    number: dict[tuple[int, int, bool], int] = {}

    def port(source: int, column: int, enters: bool) -> int:
        key = (source, column, enters)
        if key not in number:
            number[key] = len(sizes) + len(number)
            ports[number[key]] = key
        return number[key]

    inside: list[dict[tuple[int, int], tuple[int, int]]] = [{} for _ in range(columns)]
    for source, target in sorted(edges):
        first, last = column_of[source], column_of[target]
        for column in range(first, last + 1):
            begin = source if column == first else port(source, column, enters=True)
            end = target if column == last else port(source, column, enters=False)
            inside[column].setdefault((begin, end), (source, target))
    parts = []
    for column in range(columns):
        boxes = {box: size for box, size in enumerate(sizes) if column_of[box] == column}
        mine = {port: key for port, key in ports.items() if key[1] == column}
        parts.append(
            _dot(
                boxes | dict.fromkeys(mine, (2.0, 2.0)),
                inside[column],
                [port for port, key in mine.items() if key[2]],
                [port for port, key in mine.items() if not key[2]],
            )
        )
    return _side_by_side(parts, inside, ports, number)


def _cut(whole: Placed, edges: Collection[tuple[int, int]], columns: int) -> dict[int, int]:
    """Which column each box goes into: cut near equal heights, where the fewest boxes have lines that cross."""
    heights = sorted({round(y, 1) for _, y in whole.middles.values()})
    between = [(above + below) / 2 for above, below in pairwise(heights)]
    cuts: list[float] = []
    room = whole.height / columns
    for number in range(1, columns):
        goal = number * room
        near = [cut for cut in between if abs(cut - goal) <= room / 4 and cut > max(cuts, default=0.0)]
        if near:
            cuts.append(min(near, key=lambda cut: (_crossing(whole, edges, cut), abs(cut - goal))))
    return {box: sum(y > cut for cut in cuts) for box, (_, y) in whole.middles.items()}


def _crossing(whole: Placed, edges: Collection[tuple[int, int]], cut: float) -> int:
    return len({a for a, b in edges if whole.middles[a][1] < cut < whole.middles[b][1]})


def _side_by_side(
    parts: Sequence[Placed],
    inside: Sequence[Mapping[tuple[int, int], tuple[int, int]]],
    ports: Mapping[int, tuple[int, int, bool]],
    number: Mapping[tuple[int, int, bool], int],
) -> Placed:
    """One picture of several columns, with the lines from each into the next."""
    most = max((sum(1 for key in ports.values() if key[1] == c and not key[2]) for c in range(len(parts))), default=0)
    head = (most + 1) * _STEP
    right, moved = 0.0, []
    for column, part in enumerate(parts):
        moved.append(part.moved(right, head))
        lines = sum(1 for key in ports.values() if key[1] == column and not key[2])
        right += part.width + max(GUTTER, (lines + 3) * _STEP)
    width = right - max(GUTTER, 3 * _STEP)
    foot = max(part.height for part in parts) + head
    middles = {box: at for part in moved for box, at in part.middles.items()}
    curves = tuple((inside[c].get(edge, edge), curve) for c, part in enumerate(moved) for edge, curve in part.curves)
    bends = []
    at = 0.0
    for column, part in enumerate(parts[:-1]):
        leaving = sorted((middles[port][0], port) for port, key in ports.items() if key[1] == column and not key[2])
        edge_x = at + part.width + _STEP
        for rank, (x, port) in enumerate(reversed(leaving)):
            source = ports[port][0]
            entry = middles[number[source, column + 1, True]]
            bottom, gutter = foot + (rank + 1) * _STEP, edge_x + (rank + 1) * _STEP
            top = head - (rank + 1) * _STEP
            corners = ((x, middles[port][1]), (x, bottom), (gutter, bottom), (gutter, top), (entry[0], top), entry)
            bends.append(((source, source), corners))
        at += part.width + max(GUTTER, (len(leaving) + 3) * _STEP)
    boxes = {box: place for box, place in middles.items() if box not in ports}
    return Placed(width, foot + head, boxes, curves, tuple(bends))


def _dot(
    sizes: Mapping[int, Point], edges: Iterable[tuple[int, int]], first: Sequence[int] = (), last: Sequence[int] = ()
) -> Placed:
    """Boxes laid out by dot, from top to bottom; `first` and `last` in its first and last rank.

    Nothing from a trace gets there: boxes are numbers.
    """
    try:
        import pygraphviz
    except ImportError as error:
        raise NothingToShow(f"the engine's graph is laid out by Graphviz: {bring('graph')}") from error
    graph = pygraphviz.AGraph(directed=True, strict=False, nodesep="0.12", ranksep="0.2")
    graph.node_attr.update(shape="box", label="", fixedsize="true")
    graph.edge_attr.update(dir="none")
    for box, (width, height) in sizes.items():
        graph.add_node(box, width=width / _INCH, height=height / _INCH)
    graph.add_edges_from(edges)
    for chosen, rank in ((first, "source"), (last, "sink")):
        if chosen:
            graph.add_subgraph(chosen, rank=rank)
    graph.layout("dot")
    left, bottom, right, top = (float(number) for number in graph.graph_attr["bb"].split(","))
    middles = {}
    for box in sizes:
        x, y = (float(number) for number in graph.get_node(box).attr["pos"].split(","))
        middles[box] = (x - left, top - y)
    curves = []
    for edge in graph.edges():
        points = [point.split(",") for point in edge.attr["pos"].split()]
        curve = tuple((float(x) - left, top - float(y)) for x, y in points)
        curves.append(((int(edge[0]), int(edge[1])), curve))
    return Placed(right - left, top - bottom, middles, tuple(curves))
