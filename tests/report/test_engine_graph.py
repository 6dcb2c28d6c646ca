"""The engine's graph: what is put together, where it stands, and what its cells say."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from drawing import table
from drawn_trace import drawn
from hypothesis import given, settings
from hypothesis import strategies as st

from nsight_tools import Trace, figures
from nsight_tools.errors import NothingToShow
from nsight_tools.report.figures.engine import HEIGHT, SCREEN, WIDTH, drawing, places
from nsight_tools.report.figures.engine.regions import CHAIN, MOST, MOST_EDGES, ROWS, Box, Folded, folded
from nsight_tools.report.figures.style import wide
from nsight_tools.run.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SVG = "{http://www.w3.org/2000/svg}"


def tensor(name: str, dtype: str = "FP16") -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": [1, 8, 4], "format": "Row major linear"}


def layer(
    number: int, name: str, reads: Sequence[str], writes: str, kind: str = "Conv", **types: str
) -> dict[str, Any]:
    return {
        "layer": number,
        "name": name,
        "type": kind,
        "inputs": [tensor(each, types.get("read", "FP16")) for each in reads],
        "outputs": [tensor(writes, types.get("written", "FP16"))],
        "source": "inspector",
    }


def engine(layers: Iterable[tuple[Any, ...]]) -> Trace:
    return Trace.from_tables({"layers": table("layers", [layer(n, *each) for n, each in enumerate(layers)])})


def chain(count: int) -> Trace:
    return engine((f"conv{n}", [f"t{n}"], f"t{n + 1}") for n in range(count))


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{_SVG}text")]


def cells(svg: str) -> list[ET.Element]:
    """The cells of layers: those that say something, unlike those of the legend."""
    every = ET.fromstring(svg).iter(f"{_SVG}rect")
    return [each for each in every if "cell" in each.get("class", "").split() and each.find(f"{_SVG}title") is not None]


def level(count: int, edges: set[tuple[int, int]], boxes: int, kinds: Sequence[str | None] | None = None) -> Folded:
    """The level with so many boxes."""
    return next(each for each in folded(count, edges, kinds or ["x"] * count) if len(each.boxes) == boxes)


def test_tensors_lead_from_layer_to_layer() -> None:
    """Two layers fill parts of one tensor; a weight's constant is no layer; what is read too early goes back."""
    rows = [
        layer(0, "weights", [], "w", "Constant"),
        layer(1, "left", ["x", "late"], "joined"),
        layer(2, "right", ["x", "w"], "joined"),
        layer(3, "last", ["joined"], "late"),
        layer(4, "end", ["joined"], "y"),
    ]
    found = Engine.of(Trace.from_tables({"layers": table("layers", rows)}))
    names = [each.name for each in found.layers]
    assert names == ["left", "right", "last", "end"]
    edges = {(names[edge.source], names[edge.target]) for edge in found.edges}
    assert edges == {("left", "last"), ("left", "end"), ("right", "last"), ("right", "end")}
    assert [(read.name, by) for read, by in found.inputs] == [("x", (0, 1))]
    assert [(written.name, by) for written, by in found.outputs] == [("y", (3,))]


def test_chains_stand_in_one_box() -> None:
    """0 > 1 > 2 forks to 3 > 4 and 5, which 6 joins."""
    edges = {(0, 1), (1, 2), (2, 3), (3, 4), (2, 5), (4, 6), (5, 6)}
    chains = level(7, edges, 4)
    assert [box.rows for box in chains.boxes] == [((0, 1, 2),), ((3, 4),), ((5,),), ((6,),)]
    assert chains.edges == {(0, 1), (0, 2), (1, 3), (2, 3)}


@pytest.mark.parametrize(
    "title",
    ["PWN(PWN(PWN(PWN(p2o.Mul.162))))", "MMMMMMMM@MMMMMMMMWWWWWWWWWWWW", "/model/layer4/conv2/Conv + /add", "iii"],
)
def test_words_of_a_box_stay_within_it(title: str) -> None:
    drawn = drawing.box((100, 100), title, ("CaskGemmMatrixMultiplication", "1,038.17 µs"), [[("cell", "")]], "", "")
    found = ET.fromstring(f"<svg>{drawn}</svg>").findall("g/text")
    name, what = (each.text or "" for each in found)
    assert max(wide(name, 11), wide(what, 10)) <= drawing.BOX - 10
    assert what.startswith("Cask")
    assert what.endswith("n · 1,038.17 µs")
    assert len(name) >= min(len(title), 9)
    assert name.count("…") <= 1


def test_long_chains_are_cut_into_equal_parts() -> None:
    count = 3 * CHAIN - 2
    found = level(count, set(pairwise(range(count))), 3)
    assert {len(box.layers) for box in found.boxes} == {CHAIN - 1, CHAIN} or {len(b.layers) for b in found.boxes} == {
        13
    }
    assert all(len(box.rows) == 1 and not box.forks for box in found.boxes)


def residual(blocks: int, first: int = 0) -> set[tuple[int, int]]:
    """Blocks of two layers with a way around them, that a third layer joins."""
    edges = set()
    for block in range(blocks):
        at = first + 3 * block
        edges |= {(at, at + 1), (at + 1, at + 2), (at + 2, at + 3), (at, at + 3)}
    return edges


def test_repeated_blocks_have_a_row_each() -> None:
    count = 3 * 12 + 1
    found = level(count, residual(12), 2)
    assert found.boxes[0] == Box(((0,),))
    assert found.boxes[1].rows == tuple((n, n + 1, n + 2) for n in range(1, count, 3))
    assert found.boxes[1].forks


def test_what_only_converts_does_not_make_blocks_differ() -> None:
    """A layer more makes another block of one, unless it is only a reformat."""
    edges = residual(12)
    late = {(a + (a > 4), b + (b > 4)) for a, b in edges if (a, b) != (4, 5)} | {(4, 5), (5, 6)}
    same = level(38, late, 2, [None if n == 5 else "x" for n in range(38)])
    assert [len(row) for row in same.boxes[1].rows] == [3, 4, *[3] * 10]
    assert min(len(each.boxes) for each in folded(38, late, ["x"] * 38)) == 4  # once, the other one, ten times


def test_what_prepares_weights_stands_with_its_reader() -> None:
    """3 reads 1, which comes from the input, and 2, which comes from nothing."""
    found = level(5, {(0, 1), (1, 3), (2, 3), (3, 4)}, 1)
    assert found.boxes[0].layers == (0, 1, 2, 3, 4)


@given(st.data())
@settings(max_examples=60)
def test_any_engine_is_put_together_without_circles(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 60))
    ends = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1))
    edges = {(min(pair), max(pair)) for pair in data.draw(st.sets(ends, max_size=120)) if pair[0] != pair[1]}
    kinds = data.draw(st.lists(st.sampled_from(["a", "b", None]), min_size=count, max_size=count))
    levels = list(folded(count, edges, kinds))
    assert levels
    for found in levels:
        assert sorted(layer for box in found.boxes for layer in box.layers) == list(range(count))
        assert all(a < b for a, b in found.edges)
        of = {layer: number for number, box in enumerate(found.boxes) for layer in box.layers}
        assert found.edges == {(of[a], of[b]) for a, b in edges if of[a] != of[b]}


def test_a_graph_that_cannot_be_folded_is_cut() -> None:
    """Each layer reads several before it, so that there is neither chain nor block."""
    count = 3 * MOST
    edges = {(n - back, n) for n in range(count) for back in (1, 2, 5) if back <= n}
    levels = list(folded(count, edges, ["x"] * count))
    assert {len(each.boxes) for each in levels} == {100, 50, 25}


def test_a_graph_of_many_tensors_is_cut_further() -> None:
    """Each layer reads all before it: only so few boxes are left that Graphviz is done with them soon."""
    count = 60
    edges = {(a, b) for b in range(count) for a in range(b)}
    (found,) = folded(count, edges, ["x"] * count)
    assert len(found.edges) == 25 * 24 / 2 <= MOST_EDGES


def test_a_deep_network_has_several_boxes_of_rows() -> None:
    found = next(each for each in folded(3 * 60 + 1, residual(60), ["x"] * 181) if len(each.boxes) < 10)
    assert [len(box.rows) for box in found.boxes] == [1, ROWS, ROWS, 60 - 2 * ROWS]


def test_a_tall_graph_stands_in_columns() -> None:
    """Read like a newspaper; every line that is cut goes on in the next column."""
    count = 60
    edges = set(pairwise(range(count))) | {(0, count - 1)}
    picture = places.placed([(100.0, 40.0)] * count, edges, WIDTH, SCREEN, HEIGHT)
    assert picture.height <= SCREEN < 60 * 40
    assert picture.width <= WIDTH
    boxes = sorted(picture.middles.values())
    assert all(abs(x - u) >= 100 or abs(y - v) >= 40 for n, (x, y) in enumerate(boxes) for u, v in boxes[:n])
    assert edges <= {edge for edge, _ in picture.curves}
    for (source, _), corners in picture.bends:  # from below a box to above all of the next column
        assert corners[0][1] > picture.middles[source][1]
        assert corners[-1][0] > corners[0][0]


def test_lines_side_by_side_are_cut_only_for_a_page() -> None:
    """Six layers on the way down are read on the way up."""
    edges = set(pairwise(range(16))) | {(n, 15 - n) for n in range(6)}
    sizes = [(100.0, 40.0)] * 16
    assert places.placed(sizes, edges, WIDTH, 500, HEIGHT).bends == ()
    assert len(places.placed(sizes, edges, WIDTH, 500, 500).bends) > 2


def test_small_engines_show_every_layer() -> None:
    svg = figures.engine_graph(chain(6)).svg()
    assert [text for text in texts(svg) if text.startswith("conv")] == [f"conv{n}" for n in range(6)]
    assert {"t0", "t6"} <= set(texts(svg))


def test_large_engines_have_a_cell_for_each_layer() -> None:
    graph = figures.engine_graph(chain(400))
    assert len(cells(graph.svg())) == 400
    assert graph.picture.height <= HEIGHT + 30
    assert "400 layers in 29 boxes" in graph.note
    assert len(graph.svg()) < 250_000
    assert len(cells(figures.engine_graph(chain(3_000)).svg())) <= 3_000 / 5 + 3_000 / CHAIN


def test_conversions_are_framed() -> None:
    rows = [
        layer(0, "Reformatting CopyNode for Input Tensor 0 to conv", ["x"], "a", "Reformat", read="FP32"),
        layer(1, "q", ["a"], "b", "Scale", written="INT8"),
        layer(2, "conv", ["b"], "c", "CaskConvolution", read="INT8", written="INT8"),
        layer(3, "dq", ["c"], "d", "Scale", read="INT8", written="FP32"),
        layer(4, "scale", ["d"], "y", "Scale", read="FP32", written="FP32"),
    ]
    svg = figures.engine_graph(Trace.from_tables({"layers": table("layers", rows)})).svg()
    assert [each.get("class") for each in cells(svg)] == [
        "cell reformat d2",
        "cell quantize d4",
        "cell d4",
        "cell quantize d1",
        "cell d1",
    ]
    assert {"converts a tensor", "Q or DQ", "INT8", "FP32"} <= set(texts(svg))
    assert "for conv" in texts(svg)


def test_times_are_an_inference() -> None:
    """Two inferences: conv runs for 6 and 4 microseconds, tail for 2 in each; a third layer is never seen."""
    rows = [layer(0, "conv", ["x"], "a"), layer(1, "tail", ["a"], "b"), layer(2, "idle", ["b"], "y")]
    trace = drawn(
        """
        nvtx 1:            [i...................].[i...................]
        nvtx 1 TensorRT:   ....[conv][tail]........[conv][tail].........
        thread 1:          .....L.....L.............L.....L.............
        stream 7:          ......######..##..........####....##.........
        """,
        tables={"layers": table("layers", rows)},
    )
    graph = figures.engine_graph(trace)
    said = [each.findtext(f"{_SVG}title", "") for each in cells(graph.svg())]
    assert "5.00 µs, 71 %" in said[0]
    assert "2.00 µs, 29 %" in said[1]
    assert "no kernel seen" in said[2]
    assert [(each.get("class") or "").split()[-1] for each in cells(graph.svg())] == ["s7", "s7", "s0"]
    assert [mode.name for mode in graph.modes] == ["time", "precision"]
    assert "Times are an inference" in graph.note


def test_names_do_nothing() -> None:
    """Names go neither to Graphviz nor, as they are, into the page."""
    evil = '"]; n [image="/etc/passwd"] </text><script>alert(1)</script>\u202e\x1b[31m'
    svg = figures.engine_graph(engine([(evil, ["<b>"], evil), ("b", [evil], "y\x00")])).svg()
    tags = {element.tag.removeprefix(_SVG) for element in ET.fromstring(svg).iter()}
    assert tags == {"svg", "g", "rect", "title", "text", "path"}
    assert not set(svg) & {"\u202e", "\x1b", "\x00"}


def test_it_says_why_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NothingToShow, match="layers are not known: no ranges"):
        figures.engine_graph(Trace.from_tables({}, missing={"layers": "no ranges"}))
    names = [{"layer": n, "name": f"conv{n}", "source": "inspector"} for n in range(3)]
    with pytest.raises(NothingToShow, match="DETAILED"):
        figures.engine_graph(Trace.from_tables({"layers": table("layers", names)}))
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    with pytest.raises(NothingToShow, match=r"nsight-tools\[graph\]"):
        figures.engine_graph(chain(3))


def test_what_shows_no_page_does_not_load_graphviz() -> None:
    code = "import sys, nsight_tools.report.notebook, nsight_tools.report.figures; print('pygraphviz' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_a_notebook_shows_it_by_itself() -> None:
    alone = figures.engine_graph(chain(3))._repr_svg_()
    ET.fromstring(alone)
    assert "--compute:#0072b2" in alone
