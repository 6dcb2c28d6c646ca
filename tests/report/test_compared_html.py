"""A comparison's page: what a reader meets in which order, and that names of the traces do nothing in it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from report import fakes
from report.inert import Page, check
from report.test_report_comparison import COMPUTE, LATENCY, WALL, blocked_by, comparison, walls

from nsight_tools import NsightToolsError, figures
from nsight_tools.comparison import Change, Comparison, Effect, Metric, SetupDifference, Side
from nsight_tools.errors import NothingToShow
from nsight_tools.report.formats.html import comparison as compared_html

BARE = Comparison(Side("b", {}, 0, 0), Side("a", {}, 0, 0), untold=("x",))


def text_of(*comparisons: Comparison) -> str:
    return " ".join(Page(compared_html.render(comparisons)).text.split())


def test_order_of_a_reader() -> None:
    text = text_of(comparison())
    place = 0
    for part in (
        "after.sqlite against before.sqlite",
        "Faster in latency: 4.00 ms → 2.00 ms per inference",
        "Faster in throughput: 4.10 ms → 2.10 ms per input",
        "Where as traced, only copies to the GPU",
        "Set-up may be the change: host memory",
        "BEFORE 100 inferences (2 left out: warm-up)",
        "What else differs",
        "a note",
        "Time of an inference",
        "wall, median",
        "Where the difference lies",
        "only copies to the GPU",
        "Layers and kernels that changed most",
        "2 more changed",
        "None of 1 kernels changed beyond noise",
        "What BEFORE's findings promised",
        "Pin the host's buffers",
        "copies are pageable",
        "95 % of the promise came back",
        "Work and conditions",
        "What could not be compared, and why",
    ):
        found = text.casefold().find(part.casefold(), place)
        assert found >= 0, part
        place = found


def test_what_is_not_comparable_says_so_where_promises_are_held_against_it() -> None:
    blocked = (SetupDifference("GPU", "L4", "H200", Effect.BLOCKS, "another GPU", tuple(Metric)),)
    text = text_of(comparison(**blocked_by(blocked)))
    assert "Set-up not comparable: GPU." in text
    assert "Not comparable: none of this shows what a finding gave." in text


def test_figures_are_drawn_from_the_comparison_alone() -> None:
    written = compared_html.render([comparison()])
    assert written.count("<svg") == 4  # no kernel changed
    assert compared_html.render([comparison()]) == written


def test_several_are_sections_whose_ids_do_not_clash() -> None:
    page = Page(compared_html.render([comparison(), comparison()]))
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    links = {str(a["href"]).removeprefix("#") for tag, a in page.tags if tag == "a"}
    assert links <= set(ids)
    assert [a["id"] for tag, a in page.tags if tag == "section"] == ["overview", "c1", "c2"]


def test_nothing_to_show() -> None:
    text = text_of(BARE)
    assert "No figure: BEFORE and AFTER have no inferences." in text
    assert "Where nothing that both have often enough could be compared." in text
    assert "Nothing else that both traces record differs." in text
    for draw in (figures.compared_walls, figures.compared_over_time, figures.compared_buckets, figures.compared_parts):
        with pytest.raises(NothingToShow):
            draw(BARE)
    assert issubclass(NothingToShow, NsightToolsError)


@pytest.mark.parametrize("text", [fakes.HOSTILE, fakes.LONG, '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "שלום"])
def test_hostile_names(text: str) -> None:
    written = compared_html.render([comparison(text), comparison(text)])
    check(written)
    assert len(written) < 400_000


def labels(figure: figures.Drawing) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_bars_sum_to_the_wall_and_noise_is_called_noise() -> None:
    drawing = figures.compared_buckets(comparison())
    before, after = (sum(value or 0 for value in side) for side in ((2e6, 1.99e6), (1.95e6, 9e4)))
    assert {"3.99 ms", "2.04 ms"} <= set(labels(drawing))
    assert (before, after) == (3.99e6, 2.04e6)
    assert any(text.startswith("noise: ") for text in labels(drawing))
    assert "−2.00 ms (−50 %)" in labels(drawing)  # noqa: RUF001 (a minus)


def test_the_distribution_is_the_runs_own() -> None:
    """Every inference is a step; of a long run, quantiles of it."""
    for count in (100, 5_000):
        before = walls(4e6, count)
        found = comparison()
        found = replace(found, before=replace(found.before, walls=before))
        line = figures.compared_walls(found).axes[0].lines[0]
        value, share = (list(each) for each in (line.get_xdata(), line.get_ydata()))
        assert (share[0], share[-1], value[0], value[-1]) == (0, 1, before.min(), before.max())
        for part in (0.1, 0.5, 0.9):
            at = next(place for place, each in enumerate(share) if each >= part)
            assert abs((before <= value[at]).mean() - part) <= 2 / 100


def test_what_lies_beyond_the_edges_is_counted() -> None:
    found = comparison()
    slow = found.after.walls.copy()
    slow[7] = 1e9
    found = replace(found, after=replace(found.after, walls=slow))
    assert figures.compared_walls(found).note == "Slower inferences beyond the right edge: 1."
    assert "Slower inferences above the upper edge: 1." in figures.compared_over_time(found).note


def test_parts_are_those_that_changed_most() -> None:
    figure = figures.compared_parts(comparison(), "layers")
    assert sum(text.startswith("layer ") for text in labels(figure)) == 10
    changed = replace(COMPUTE, name="gemm", change=Change.MORE, difference=5e4, low=1e4, high=9e4)
    assert "gemm" in labels(figures.compared_parts(comparison(kernels=(changed,))))
    with pytest.raises(NothingToShow, match="none of 1 kernels changed beyond noise"):
        figures.compared_parts(comparison())


def test_a_wall_without_difference_is_drawn() -> None:
    same = replace(WALL, after=WALL.before, difference=0.0, low=0.0, high=0.0, change=Change.SAME)
    still = walls(4e6) * 0 + 4e6
    found = comparison(latency=replace(LATENCY, difference=same, traced=same))
    sides = [replace(side, walls=still) for side in (found.before, found.after)]
    assert "<svg" in compared_html.render([replace(found, before=sides[0], after=sides[1])])
