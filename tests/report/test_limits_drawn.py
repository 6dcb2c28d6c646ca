"""The roofline, the strip of limits, and limits in the engine's graph: what stands where, and what is left out."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from drawing import table as drawn_table
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox
from report.test_engine_graph import cells, layer, texts

from nsight_tools import Trace, figures
from nsight_tools.errors import NothingToShow
from nsight_tools.report.figures.limits import _point
from nsight_tools.run.limits import of_layers
from nsight_tools.run.limits import table as limits_table

if TYPE_CHECKING:
    from collections.abc import Mapping

Shares = dict[str, tuple[float, float, float]]


def about(share: float, *, width: float = 0.02) -> tuple[float, float, float]:
    return share, max(share - width, 0.0), min(share + width, 1.0)


def told(limits: Mapping[str, Mapping[str, float]], together: tuple[str, ...] = (), time_ns: int = 20_000) -> Trace:
    """A trace of an engine of these layers, a kernel each, with these shares of the hardware's peaks."""
    rows = []
    for position, (name, shares) in enumerate(limits.items()):
        for metric, value in shares.items():
            share, low, high = about(value)
            base = {"device": 0, "layer": name, "kernels": 1, "time_ns": time_ns, "metric": metric, "share": share}
            base |= {"low": low, "high": high, "together": 1 if name in together else None}
            rows.append(base | {"of": "kernel", "position": position, "kernel": f"kernel of {name}"})
            rows.append(base | {"of": "layer", "position": None, "kernel": None})
    engine = [layer(n, name, [f"t{n}"], f"t{n + 1}") for n, name in enumerate(limits)]
    trace = Trace.from_tables({"layers": drawn_table("layers", engine)})
    said = {limits_table._ABOUT: json.dumps({"method": limits_table.METHOD, "notes": [], "why": ""}).encode()}
    trace._made[limits_table._kept] = pa.Table.from_pylist(rows, limits_table.SCHEMA).replace_schema_metadata(said)
    return trace


BUSY = {"sms_active": 0.95, "sm_issue": 0.1, "tensor_active": 0.02, "dram_read": 0.05, "dram_write": 0.05}
LIMITS = {
    "copy": {**BUSY, "dram_read": 0.5, "dram_write": 0.4},
    "gemm": {**BUSY, "tensor_active": 0.9},
    "hash": {**BUSY, "sm_issue": 0.8},
    "few": {**BUSY, "sms_active": 0.1},
    "cached": {**BUSY, "dram_read": 0.0, "dram_write": 0.0},
}


def test_a_layer_stands_by_its_shares_of_both_peaks() -> None:
    """Under the memory's roof what moves the most; right of the ridge what computes the most."""
    found = {each.name: _point(each) for each in of_layers(told(LIMITS))}
    assert found["copy"] == (pytest.approx(0.1 / 0.9), 0.1, False)
    assert found["gemm"] == (pytest.approx(9.0), 0.9, True)
    assert found["hash"] == (pytest.approx(8.0), 0.8, False)
    for x, y, _ in found.values():
        assert y <= min(x, 1.0) + 1e-9 or x >= 1.0  # nothing is above the roof


def test_what_is_not_told_from_nothing_is_left_out() -> None:
    figure = figures.roofline(told(LIMITS))
    offsets = np.concatenate([np.ma.getdata(each.get_offsets()) for each in figure.axes[0].collections])
    assert len(offsets) == 4
    told_of = re.findall(r"<title>(\w+): ", figures.svg(figure, "x"))
    assert sorted(told_of) == ["copy", "few", "gemm", "hash"]
    assert figure.note == (
        "1 of 5 layers, 20 % of the kernel time, are left out: device memory or what computes is not told from none."
    )


def test_names_in_a_roofline_cover_nothing() -> None:
    """Forty layers close to each other, of which only some have room for a name."""
    crowd = {f"layer_{n}": {**BUSY, "sm_issue": 0.15 + 0.01 * n, "dram_read": 0.02 + 0.002 * n} for n in range(40)}
    figure = figures.roofline(told(LIMITS | crowd))
    renderer = FigureCanvasAgg(figure).get_renderer()
    (axes,) = figure.axes
    names = [
        text.get_window_extent(renderer) for text in axes.texts if " peak" not in text.get_text().replace("'s", "")
    ]
    circles = [
        Bbox.from_bounds(*(middle - radius), 2 * radius, 2 * radius)
        for each in axes.collections
        for middle, area in zip(axes.transData.transform(each.get_offsets()), each.get_sizes(), strict=True)
        for radius in [np.sqrt(area) / 2 * figure.dpi / 72]
    ]
    assert len(circles) == 44
    assert 2 <= len(names) <= 6
    for at, name in enumerate(names):
        assert not any(name.overlaps(other) for other in [*circles, *names[:at]])
        assert axes.get_window_extent().count_contains(name.corners()) == 4
        assert name.y1 < axes.transData.transform((1, 1))[1]  # above the roof stands what it is


def test_kernels_stand_in_their_order_end_to_end() -> None:
    figure = figures.limits(told(LIMITS, together=("hash", "few")))
    strip, *lanes = figure.axes
    assert len(strip.patches) == 5  # each is limited by something else than the one before
    assert [axes.get_ylabel() for axes in lanes] == [
        "SMs active\nmean 78 %",
        "issue\nmean 24 %",
        "Tensor Cores\nmean 20 %",
        "device memory\nmean 24 %",
    ]
    heights, edges, _ = lanes[-1].patches[0].get_data()  # type: ignore[attr-defined]
    assert heights.tolist() == pytest.approx([0.9, 0.1, 0.1, 0.1, 0.0])
    assert edges.tolist() == [0, 20_000, 40_000, 60_000, 80_000, 100_000]
    assert figure.note.startswith("40 % of the time is of kernels that are not told")


def test_a_roofline_of_next_to_nothing_is_none() -> None:
    """Eleven of twelve layers move nothing."""
    idle = {f"cached_{n}": LIMITS["cached"] for n in range(11)}
    with pytest.raises(NothingToShow, match=r"only layers of 8.3 % of the kernel time"):
        figures.roofline(told(idle | {"copy": LIMITS["copy"]}))


def test_metrics_that_were_not_sampled_have_no_lane() -> None:
    figure = figures.limits(told({"a": {"sms_active": 0.9, "sm_issue": 0.7}}))
    assert [axes.get_ylabel() for axes in figure.axes[1:]] == ["SMs active\nmean 90 %", "issue\nmean 70 %"]
    with pytest.raises(NothingToShow, match="device memory"):
        figures.roofline(told({"a": {"sms_active": 0.9, "sm_issue": 0.7}}))


def test_it_says_why_there_is_nothing() -> None:
    empty = Trace.from_tables({}, missing={"kernels": "no CUDA activity was traced"})
    for draw in (figures.roofline, figures.limits):
        with pytest.raises(NothingToShow, match="no CUDA activity was traced"):
            draw(empty)


def test_the_engine_is_coloured_by_limit() -> None:
    graph = figures.engine_graph(told(LIMITS))
    assert [mode.name for mode in graph.modes] == ["precision", "limit"]
    svg = graph.svg()
    assert [(each.get("class") or "").split()[-1] for each in cells(svg)] == ["l0", "l1", "l2", "l3", "l4"]
    assert {"memory", "tensor", "issue", "occupancy", "latency"} <= set(texts(svg))
    assert "not told" not in texts(svg)


def test_names_in_a_roofline_do_nothing() -> None:
    evil = "</text><script>alert(1)</script>\u202e"
    svg = figures.svg(figures.roofline(told({evil: LIMITS["gemm"]})))
    assert "<script" not in svg
    assert "\u202e" not in svg
