"""Two verdicts on pairs whose truth without the profiler is known, and on the halves of one run, which are the same."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from drawing import table
from shared_corpus import CORPUS

import nsight_tools
from nsight_tools.comparison import Change, Judgement, Metric, Verdict
from nsight_tools.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nsight_tools.comparison import Comparison

pytestmark = pytest.mark.corpus

NONE: tuple[list[nsight_tools.Outcome], list[nsight_tools.Outcome]] = [], []
NEAR = 0.05
"""A size is right where it is so near the truth, as a share of what was before, or the truth lies in its interval."""
DIRECTIONS = {Verdict.FASTER: -1, Verdict.SLOWER: 1}


@dataclass(frozen=True)
class Pair:
    """Two captures, what each measured without the profiler, and what is said of them."""

    before: dict[str, Any]
    after: dict[str, Any]
    change: str
    found: Comparison

    def truth(self, metric: Metric) -> float:
        """By how much time grew, as a share of what was before."""
        if metric is Metric.LATENCY:
            return float(self.after["median_us"]["wall"] / self.before["median_us"]["wall"] - 1)
        return float(self.before["throughput_per_s"] / self.after["throughput_per_s"] - 1)

    @property
    def one_at_a_time(self) -> bool:
        """Whether no inference waits for another on either side: a wall is a latency then."""
        sides = self.before, self.after
        return all(side["median_us"]["wall"] * side["throughput_per_s"] < 1.5e6 for side in sides)


def size_holds(judgement: Judgement, truth: float) -> bool:
    found = judgement.difference
    assert found is not None
    point, low, high = (found.relative(each) for each in (found.difference, found.low, found.high))
    assert point is not None
    assert low is not None
    assert high is not None
    return abs(point - truth) <= NEAR or low <= truth <= high


def pairs(corpus_file: Callable[[str], Path], given: Callable[[Trace, dict[str, Any]], Trace]) -> list[Pair]:
    truth = json.loads((CORPUS / "pairs" / "truth.json").read_text("utf-8"))
    untraced = {name: capture["untraced"] for name, capture in truth["captures"].items()}
    traces = {
        name: given(nsight_tools.open_trace(corpus_file(f"pairs/{name}.sqlite.zst")), untraced[name])
        for name in untraced
    }
    return [
        Pair(
            untraced[before],
            untraced[after],
            pair["change"],
            nsight_tools.compare(traces[before], traces[after], outcomes=NONE),
        )
        for pair in truth["pairs"]
        for before, after in [(pair["before"], pair["after"])]
    ]


@pytest.fixture(scope="module")
def alone(corpus_file: Callable[[str], Path]) -> list[Pair]:
    """All pairs, by their traces alone."""
    return pairs(corpus_file, lambda trace, _: trace)


def test_traces_alone_decide_no_throughput_wrongly(alone: list[Pair]) -> None:
    decided = [pair for pair in alone if pair.found.throughput.verdict in DIRECTIONS]
    assert len(decided) >= 8
    for pair in decided:
        truth = pair.truth(Metric.THROUGHPUT)
        assert DIRECTIONS[pair.found.throughput.verdict] * truth > 0, pair.change
        assert size_holds(pair.found.throughput, truth), pair.change
    others = {pair.found.throughput.verdict for pair in alone if pair not in decided}
    assert others <= {Verdict.UNDECIDED}


def test_traces_alone_decide_no_latency_wrongly(alone: list[Pair]) -> None:
    ones = [pair for pair in alone if pair.one_at_a_time]
    assert len(ones) == 7
    decided = [pair for pair in ones if pair.found.latency.verdict in DIRECTIONS]
    assert len(decided) >= 3
    for pair in decided:
        truth = pair.truth(Metric.LATENCY)
        assert DIRECTIONS[pair.found.latency.verdict] * truth > 0, pair.change
        assert size_holds(pair.found.latency, truth), pair.change
    several = [pair for pair in alone if not pair.one_at_a_time and pair.found.latency.verdict in DIRECTIONS]
    assert all(DIRECTIONS[p.found.latency.verdict] * p.truth(Metric.LATENCY) > 0 for p in several)


def test_throughput_leads_where_several_are_in_flight(alone: list[Pair]) -> None:
    for pair in alone:
        assert (pair.found.leads is Metric.LATENCY) == pair.one_at_a_time, pair.change
        assert not pair.found.blocking
        # No capture has more than four threads, or streams: estimates of wall and period must not make it more.
        assert max(side.in_flight for side in (pair.found.before, pair.found.after)) <= 4.0, pair.change


def measured(trace: Trace, untraced: dict[str, Any]) -> Trace:
    """With an untraced run of the medians that the capture measured, half a percent around them."""
    count = 400
    spread = 1 + 0.005 * np.random.default_rng(int(untraced["inferences"])).standard_normal(count)
    wall = 1e3 * untraced["median_us"]["wall"] * spread
    start = np.arange(count) * 1e9 / untraced["throughput_per_s"]
    enqueue = round(1e3 * untraced["median_us"]["enqueue"])
    rows = [
        {
            "run": "benchmark",
            "measured_by": "runner",
            "inference": at,
            "start_ns": round(begin),
            "wall_ns": round(each),
            "enqueue_ns": enqueue,
        }
        for at, (begin, each) in enumerate(zip(start.tolist(), wall.tolist(), strict=True))
    ]
    return trace.with_untraced(table("benchmark", rows), "benchmark.parquet")


def test_untraced_runs_of_both_decide_every_pair(corpus_file: Callable[[str], Path]) -> None:
    for pair in pairs(corpus_file, measured):
        for judgement in pair.found.judgements:
            truth = pair.truth(judgement.metric)
            assert judgement.source == "untraced"
            assert DIRECTIONS[judgement.verdict] * truth > 0, (pair.change, judgement.metric)
            assert judgement.difference is not None
            assert judgement.difference.change in {Change.LESS, Change.MORE}
            assert judgement.difference.relative(judgement.difference.difference) == pytest.approx(truth, abs=0.005)


def only(trace: Trace, kept: np.ndarray[Any, np.dtype[np.bool_]]) -> Trace:
    """The trace, in which all other inferences are warm-up."""
    inferences = trace.table("inferences")
    at = inferences.schema.get_field_index("mark")
    marks = inferences["mark"].cast(pa.string()).to_pylist()
    field = inferences.schema.field("mark")
    column = pa.array([mark if keep else "warm_up" for mark, keep in zip(marks, kept.tolist(), strict=True)])
    half = Trace(trace.path, trace.manifest)
    half._given = {"inferences": inferences.set_column(at, field, column.cast(field.type))}
    return half


@pytest.mark.parametrize("split", ["one by one", "at a place"])
@pytest.mark.parametrize("name", ["det_static", "det_static_streams4_graph", "resnet50_streams4"])
def test_halves_of_one_run_are_noise(corpus_file: Callable[[str], Path], name: str, split: str) -> None:
    """Of a run with one in flight, and with four: any half of the inferences, and any half of the time, as a ring."""
    trace = nsight_tools.open_trace(corpus_file(f"pairs/{name}.sqlite.zst"))
    rows, random = trace.rows("inferences"), np.random.default_rng(5)
    verdicts = []
    for _ in range(20):
        order = random.permutation(rows) if split == "one by one" else np.roll(np.arange(rows), random.integers(rows))
        kept = np.isin(np.arange(rows), order[: rows // 2])
        found = nsight_tools.compare(only(trace, kept), only(trace, ~kept), outcomes=NONE)
        verdicts.append((found.throughput.verdict, found.latency.verdict))
    for of_metric in zip(*verdicts, strict=True):
        assert of_metric.count(Verdict.NOISE) >= 19
