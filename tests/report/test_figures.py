"""Figures say what the columns say, whatever they put together."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import pyarrow as pa
import pytest
from drawing import with_column
from drawn_trace import drawn
from hypothesis import given
from hypothesis import strategies as st
from report import fakes

from nsight_tools import Trace, figures
from nsight_tools.errors import NothingToShow
from nsight_tools.findings import Evidence
from nsight_tools.report.figures import lanes
from nsight_tools.report.figures.accounting import BARS
from nsight_tools.report.figures.data import Shown, envelope, occupancy
from nsight_tools.report.figures.lanes import BOXES, Lane, draw
from nsight_tools.report.figures.layers import halvings
from nsight_tools.report.figures.style import plots, styled
from nsight_tools.summary import summarize
from nsight_tools.tables import TABLES
from nsight_tools.worth import Pricing, Wall
from nsight_tools.worth.ranges import Range

if TYPE_CHECKING:
    from collections.abc import Callable

ALL = (
    figures.inference_accounting,
    figures.inferences_over_time,
    figures.transfers,
    figures.streams,
    figures.clocks,
    figures.inference_layers,
    figures.launches,
    figures.grids,
)
PICTURE = """
    nvtx 1:            [i.............].[i.............]
    nvtx 1 TensorRT:   ....[conv...]......[conv....]....
    thread 1:          CLLL.......C....CLLL.......C....S
    stream 7:          .>>####%%##<<....>>####%%##<<....
"""


def inferences(walls: list[int]) -> Trace:
    """A trace of nothing but inferences of these lengths, one after the other, half of each compute."""
    wall = np.array(walls)
    end = np.cumsum(wall)
    columns = {name: np.zeros(len(wall), np.int64) for name in TABLES["inferences"].names}
    columns |= {"inference": np.arange(len(wall)), "start_ns": end - wall, "end_ns": end, "wall_ns": wall}
    columns |= {"compute_ns": wall // 2, "launch_ns": wall - wall // 2}
    words = {"source": ["inference_range"] * len(wall), "mark": [None] * len(wall)}
    schema = TABLES["inferences"].schema
    arrays = [pa.array(words.get(f.name, columns[f.name])).cast(f.type) for f in schema]
    return Trace.from_tables({"inferences": pa.Table.from_arrays(arrays, schema=schema)})


@pytest.mark.parametrize("draw_it", ALL)
def test_an_empty_trace_has_nothing_to_show(draw_it: Callable[..., object]) -> None:
    with pytest.raises(NothingToShow, match=r"."):
        draw_it(Trace.from_tables({}))


@pytest.mark.parametrize("draw_it", [each for each in ALL if each is not figures.grids])
def test_each_is_svg_with_its_axes_labelled(draw_it: Callable[..., figures.Drawing]) -> None:
    figure = draw_it(drawn(PICTURE))
    assert figure.axes[-1].get_xlabel()
    root = ET.fromstring(figures.svg(figure, label="it"))
    assert root.get("aria-label") == "it"
    assert root.get("viewBox")


def test_the_callers_style_is_left_alone() -> None:
    before = dict(mpl.rcParams)
    figures.svg(figures.inference_accounting(drawn(PICTURE)))
    assert dict(mpl.rcParams) == before


def test_bars_sum_to_the_inference() -> None:
    """The median of 40, 10, 30, 20 and 50 is inference 2; the bars end where it ends."""
    figure = figures.inference_accounting(inferences([40_000, 10_000, 30_000, 20_000, 50_000]))
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["near the median, no. 2", "slowest, no. 4"]
    ends = [max(p.get_x() + p.get_width() for p in axes.patches if round(p.get_y() + 0.33) == row) for row in (0, 1)]
    assert ends == [30_000, 50_000]


def test_the_bar_without_the_profiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the 20 us of launch, 12 (8 to 15) are the profiler's."""
    trace = inferences([40_000])
    wall = Wall(Range(25_000, 28_000, 32_000), "drawn")
    monkeypatch.setattr(Pricing, "wall", wall)
    axes = figures.inference_accounting(trace).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "near the median, no. 0",
        "without the profiler",
        "slowest, no. 0",
    ]
    assert "28.0 µs" in [text.get_text() for text in axes.texts]


def test_the_slowest_is_never_left_out() -> None:
    """7,001 inferences of about 1 ms and one of 3: bars of many, and one as high as the slowest."""
    walls = np.random.default_rng(1).integers(900_000, 1_100_000, 7_001)
    walls[4_321] = 3_000_000
    figure = figures.inferences_over_time(inferences(walls.tolist()))
    axes = figure.axes[0]
    tops = axes.patches[1].get_data()  # launch, on compute
    assert len(tops.values) <= BARS
    assert tops.values.max() == 3_000_000
    assert tops.values[4_321 // 18] == 3_000_000
    assert "slowest of 18" in figure.note
    assert axes.get_ylim()[1] >= 3_000_000


def test_a_bar_that_is_cut_says_its_length() -> None:
    figure = figures.inferences_over_time(inferences([1_000_000] * 99 + [80_000_000]))
    assert figure.axes[0].get_ylim()[1] < 5_000_000
    assert [text.get_text() for text in figure.axes[0].texts] == ["80.0 ms"]


def test_clocks_from_telemetry() -> None:
    """Samples every 5 us; held back by power (0x4) from 10 to 20 us, and by heat too (0x20) in its last sample."""
    values = {
        "time_ns": [5_000, 10_000, 15_000, 20_000],
        "device": [0] * 4,
        "sm_clock_mhz": [1980, 1700, 1500, 1980],
        "max_sm_clock_mhz": [1980] * 4,
        "clock_event_reasons": [0, 0x4, 0x24, 0x1],
    }
    schema = TABLES["telemetry"].schema
    columns = [pa.array(values.get(f.name, [None] * 4)).cast(f.type) for f in schema]
    figure = figures.clocks(drawn(PICTURE, tables={"telemetry": pa.Table.from_arrays(columns, schema=schema)}))
    clock, reasons, latency = figure.axes
    assert clock.get_title(loc="left") == "SM clock (MHz)"
    assert set(clock.lines[0].get_ydata()) == {1980, 1700, 1500}
    held = {
        label.get_text(): (spans[:, 0].min(), spans[:, 0].max())
        for label, spans in zip(
            reasons.get_yticklabels(), [patch.get_path().vertices for patch in reasons.patches], strict=True
        )
    }
    assert held == {"software power cap": (10_000, 20_000), "software thermal slowdown": (15_000, 20_000)}
    assert latency.get_title(loc="left").startswith("Time of each inference")


@given(st.lists(st.tuples(st.integers(0, 5_000), st.integers(1, 400)), min_size=1, max_size=30))
def test_occupancy_is_the_busy_time(pieces: list[tuple[int, int]]) -> None:
    start = np.array([at for at, _ in pieces])
    end = start + np.array([length for _, length in pieces])
    share, edges = occupancy(start, end, 0, 6_000, 60)
    busy = np.zeros(6_000, bool)
    for one, other in zip(start.tolist(), end.tolist(), strict=True):
        busy[one:other] = True
    assert np.allclose(share, busy.reshape(60, 100).mean(axis=1))
    assert (edges[0], edges[-1]) == (0, 6_000)


@given(st.lists(st.tuples(st.integers(0, 999), st.floats(-1e6, 1e6)), min_size=1, max_size=200))
def test_envelopes_keep_the_extremes(samples: list[tuple[int, float]]) -> None:
    time, value = np.array([t for t, _ in samples]), np.array([v for _, v in samples])
    middle, least, most = envelope(time, value, 0, 1_000, 10)
    assert (least.min(), most.max()) == (value.min(), value.max())
    assert len(middle) == len({t // 100 for t, _ in samples})


def test_a_crowded_lane_shows_shares() -> None:
    """5,000 boxes, each half of its place: every column is half full, and the figure says that lanes are shares."""

    @styled
    def crowded() -> tuple[bool, np.ndarray]:
        start = np.arange(5_000) * 1_000
        _, (axes,) = plots([1.0])
        pooled = draw(axes, [Lane("x").add("compute", start, start + 500)], 0, 5_000_000)
        return pooled, axes.patches[0].get_path().vertices

    pooled, corners = crowded()
    boxes = corners.reshape(-1, 5, 2)
    heights = boxes[:, 2, 1] - boxes[:, 0, 1]
    assert pooled
    assert len(boxes) < BOXES
    area = (heights * (boxes[:, 1, 0] - boxes[:, 0, 0])).sum()
    assert area == pytest.approx(0.62 * 0.5 * 5_000_000, rel=0.01)


def test_every_copy_is_a_mark_or_counted() -> None:
    figure = figures.transfers(drawn(PICTURE))
    marks = sum(len(line.get_xdata()) for line in figure.axes[0].lines if line.get_linestyle() == "None")
    assert marks == 4
    rates = sorted(
        round(float(y), 3) for line in figure.axes[0].lines if len(line.get_xdata()) == 2 for y in line.get_ydata()
    )
    assert rates[:4] == [500.0] * 4  # 1 MB in 2 µs


def test_a_finding_chooses_the_inference() -> None:
    shown = Shown.of(trace := drawn(PICTURE))
    end = int(shown.windows[1][1])
    finding = fakes.finding(evidence=(Evidence("longest", 1, "ns", end - 3_000, end - 1_000),))
    assert shown.around(finding)[2].startswith("Inference 1")
    assert "Inference 1" in figures.launches(trace, finding).axes[0].get_title(loc="left")


def test_a_warm_up_is_no_example() -> None:
    """The worst place lies in the first inference, which warms up: the next worst is shown, else a median inference."""
    tables = {name: table for name in TABLES if (table := (trace := drawn(PICTURE)).table(name)).num_rows}
    marks = ["warm_up"] + [None] * (trace.rows("inferences") - 1)
    marked = Trace.from_tables(tables | {"inferences": with_column(tables["inferences"], "mark", marks)})
    shown = Shown.of(marked)
    long, short = Evidence("longest", 1, "ns", 0, 6_000), Evidence("longest", 1, "ns", 20_000, 20_100)
    assert shown.around(fakes.finding(evidence=(long, short)))[2] == (
        "Inference 1, near the median, where the worst case lies but for the warm-up"
    )
    assert "worst" not in shown.around(fakes.finding(evidence=(long,)))[2]


def test_the_bars_are_what_the_table_says() -> None:
    """The 99th percentile is the same inference's in both."""
    trace = drawn(PICTURE)
    p99 = Shown.of(trace).p99
    assert p99 is not None
    assert (times := summarize(trace).times) is not None
    assert Shown.of(trace).wall[p99] == times.wall_p99_ns


def test_the_inference_near_the_median_has_the_usual_parts() -> None:
    """Of 20 inferences, number 9 is the median one, but owes its time to launches as no other does."""
    trace = inferences([1_000_000 + 1_000 * at for at in range(20)])
    shown = Shown.of(trace)
    for bucket, time in (("launch", 900_000), ("compute", 109_000)):
        shown.buckets[bucket] = shown.buckets[bucket].copy()
        shown.buckets[bucket][9] = time
    assert shown.typical == 10
    assert Shown.of(inferences([3, 1])).typical == 1
    assert Shown.of(inferences([7])).typical == 0


@pytest.mark.parametrize(("sms", "most"), [(132, 5_000), (128, 128), (132, 40), (1, 1), (3, 10)])
def test_grids_are_told_apart_at_the_number_of_sms_and_its_half(sms: int, most: int) -> None:
    edges = halvings(sms, most)
    assert edges[0] == 1
    assert (np.diff(edges) > 0).all()
    assert edges[-1] > min(most, sms - 1)
    assert sms in edges
    assert sms == 1 or sms / 2 in edges


def test_work_that_waits_for_another_stream_is_marked() -> None:
    """Work of stream 8 is launched at 2 and starts at 5: it waits for stream 7 from 2 to 5."""
    figure = figures.streams(
        drawn("""
            thread 1: Ll........
            stream 7: .####.....
            stream 8: .....####.
        """)
    )
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["stream 7", "stream 8", "no traced work"]
    marked = [p for p in axes.patches if mpl.colors.to_hex(p.get_facecolor()) == figures.COLOURS["alarm"][0]]
    (spans,) = [p.get_path().vertices[:, 0] for p in marked]
    assert (spans.min(), spans.max()) == (2_000, 5_000)


def test_who_points_at_a_piece_reads_what_it_is_and_how_long() -> None:
    trace = drawn(PICTURE)
    said = {
        name: [
            title.text or ""
            for title in ET.fromstring(figures.svg(draw_it(trace))).iter()
            if title.tag.endswith("title")
        ]
        for name, draw_it in (
            ("streams", figures.streams),
            ("launches", figures.launches),
            ("copies", figures.transfers),
        )
    }
    assert any(re.fullmatch(r"stream 7, kernels: \d.* [nµ]s, from \d.* on", each) for each in said["streams"])
    assert any(each.startswith("host thread, launch calls: ") for each in said["launches"])
    assert any(" are launched and not started" in each for each in said["launches"])
    assert any(re.match(r"\d+ cop(y|ies) to the GPU, \w+ memory: .*/s, median .*/s", each) for each in said["copies"])
    assert any(each.startswith("copies to the GPU: ") for each in said["copies"])


def test_of_more_pieces_than_one_tells_one_by_one_the_sum_is_told() -> None:
    start = np.arange(lanes.SINGLE + 1) * 1_000
    ((_, said),) = lanes._told(start, start + 500, 0)
    assert said == "41 pieces, 20.5 µs together, the longest 500 ns"
    assert [each for _, each in lanes._told(start[:2], start[:2] + 500, 0)] == [
        "500 ns, from 0 ns on",
        "500 ns, from 1.00 µs on",
    ]


@pytest.mark.parametrize(
    "text", [fakes.HOSTILE, fakes.LONG, "$\\frac{1}{0}$", 'id="x" url(#y) #0072b2 \'q', "漢字 שלום"]
)
def test_hostile_names_in_figures(text: str) -> None:
    trace = drawn(PICTURE, kernel_names=text, names={"conv": text})
    for draw_it in (figures.inference_layers, figures.streams, figures.launches):
        root = ET.fromstring(figures.svg(draw_it(trace)))
        assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
            "svg", "g", "defs", "path", "text", "tspan", "use", "clipPath", "rect", "title",
        }  # fmt: skip


def test_what_looks_like_an_id_or_a_colour_stays_as_it_is() -> None:
    text = 'url(#y) #0072b2 id="z"'
    svg = figures.svg(
        figures.inference_layers(
            drawn(PICTURE.replace("[conv...]", ".........").replace("[conv....]", ".........."), kernel_names=text)
        )
    )
    assert text in "".join(ET.fromstring(svg).itertext())
