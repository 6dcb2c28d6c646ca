"""What layers take by TensorRT's own profiler and by the trace, and what is said where the two differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from drawn_loop import loop

from nsight_tools.report.layer_times import largest, share, told
from nsight_tools.run.layer_times import LayerTime, LayerTimes, layer_times, traced_medians
from nsight_tools.tables import TABLES
from nsight_tools.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

RUN = """
    stream 7:         ....####%%%..####...
    thread 1:         .LlL................
    nvtx 1:           [i.................]
    nvtx 1 TensorRT:  [conv].............."""
"""The three kernels under `conv` take 11 us together."""


def measured(*rows: tuple[str, int | None, int | None], by: str = "runner") -> pa.Table:
    """Table `layer_times` of names, averages and medians in ns."""
    told = [
        {"layer": at, "name": name, "inferences": 10, "average_ns": average, "median_ns": median, "measured_by": by}
        for at, (name, average, median) in enumerate(rows)
    ]
    return pa.Table.from_pylist(told, TABLES["layer_times"].schema)


def test_a_layer_is_its_work_in_an_inference() -> None:
    trace = loop(RUN)
    assert set(traced_medians(trace)) == {"conv"}
    (took,) = traced_medians(trace).values()
    work = trace.frame("launches", ["start_ns", "end_ns", "layer", "inference"]).dropna()
    by_hand = (work["end_ns"] - work["start_ns"]).groupby(work["inference"].astype(int)).sum()
    assert took == by_hand.median()


def test_both_sides_stand_beside_each_other() -> None:
    rows = measured(("conv", 9_000, 8_000), ("fc", 2_000, None), ("gone", 0, 0))
    found = layer_times(loop(RUN, tables={"layer_times": rows}))
    assert found is not None
    conv, fc, gone = found.layers
    assert conv.traced_ns == traced_medians(loop(RUN))["conv"]
    assert (conv.profiler_ns, fc.profiler_ns, gone.profiler_ns) == (8_000, 2_000, 0)
    assert (fc.traced_ns, gone.traced_ns) == (None, None)
    assert (found.measured_by, found.inferences, found.profiler_ns) == ("runner", 10, 10_000)
    assert [each.name for each in largest(found)] == ["conv", "fc"]
    assert share(conv, found) == 0.8
    assert [each.name for each in found.only("profiler")] == ["fc"]  # what took no time is missed by nobody


def test_layers_of_one_name_are_added_up() -> None:
    found = layer_times(Trace.from_tables({"layer_times": measured(("a", 1, 5), ("b", 1, 1), ("a", 3, None))}))
    assert found is not None
    assert [(each.name, each.profiler_ns) for each in found.layers] == [("a", 8), ("b", 1)]
    assert found.traced_ns == 0


def test_without_the_profiler_there_is_nothing() -> None:
    assert layer_times(loop(RUN)) is None


def times(*layers: tuple[str, int | None, int | None]) -> LayerTimes:
    return LayerTimes(tuple(LayerTime(name, "", profiler, traced) for name, profiler, traced in layers), "runner", 10)


SAID: Sequence[tuple[Any, list[str], list[str]]] = (
    (
        times(
            ("a", 62_000, 60_000), ("b", 93_000, 90_000), ("c", 4_000, 2_000), ("d", 9_000, 7_500), ("e", 6_000, 1_000)
        ),
        [
            "5 layers take 174 µs in an inference, and 160 µs by the trace",
            "its events around each layer add 2.00 µs to it (median of the 3 layers below 50.0 µs)",
            "without that, 2 layers of 50.0 µs and more agree within 1.1 %",
        ],
        ["differ by", "does not know"],
    ),
    (
        times(("a", 60_000, 50_000), ("b", 90_000, 90_000)),
        ["1 of 2 layers of 50.0 µs and more differ by more than 5.0 %, most a: 60.0 µs, and 50.0 µs by the trace"],
        ["its events", "agree", "without that"],
    ),
    (
        times(("a", 70_000, 60_000), ("b", 7_000, 4_000)),
        ["without that, 1 of 1 layer of 50.0 µs and more differ by more than 5.0 %, most a: 70.0 µs"],
        [],
    ),
    (
        times(("a", 9_000, 7_500), ("b", 4_000, 3_000), ("z", 0, None)),
        ["its events around each layer add 1.25 µs to it (median of the 2 layers below 50.0 µs)"],
        ["50.0 µs and more", "does not know"],
    ),
    (times(("a", 7_000, 7_000)), ["its events cost nothing that shows in the 1 layer below 50.0 µs"], []),
    (
        times(("a", 7_000, 7_000), ("b", 3_000, None), ("c", None, 4_000)),
        ["the trace does not know 1 layer of 3.00 µs (b)", "the profiler does not know 1 layer of 4.00 µs (c)"],
        [],
    ),
    (times(("a", 7_000, None)), ["TensorRT's own profiler: 1 layer takes 7.00 µs in an inference"], ["trace"]),
)


@pytest.mark.parametrize(("found", "there", "absent"), SAID)
def test_what_the_two_disagree_about_is_said(found: LayerTimes, there: list[str], absent: list[str]) -> None:
    said = told(found)
    assert [words for words in there if words not in said] == [], said
    assert [words for words in absent if words in said] == [], said
