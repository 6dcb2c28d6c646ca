"""Which requests are found on real traces, marked and with their marks hidden; and what ranks wait for each other."""

from __future__ import annotations

import sqlite3
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from shared_corpus import CASES, WHY_ABSENT, corpus_folder, decompress

from nsight_tools.run import Run
from nsight_tools.run.collectives import waiting
from nsight_tools.tables import BUCKETS
from nsight_tools.trace import Trace, open_trace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.corpus

FOLDERS = ("h200", "pairs", "programs", "nccl", "public", "cases")
TRACES = [name for folder in FOLDERS for name in corpus_folder(folder)]
MARKED = [name for folder in FOLDERS[:4] for name in corpus_folder(folder)]
"""Those of which we know where each request begins."""


@pytest.fixture(scope="session")
def opened(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Trace]:
    """Gives a trace of the corpus or of the cases, with marks hidden where it is asked for; imported once."""

    @cache
    def get(name: str, hidden: str = "") -> Trace:
        folder, _, file = name.rpartition("/")
        source = (CASES if folder == CASES.name else corpus / folder) / file
        if not source.is_file():
            pytest.skip(WHY_ABSENT)
        export = tmp_path_factory.mktemp("export") / source.stem
        decompress(source, export)
        if hidden:
            hide(export, hidden)
        return open_trace(export)

    return get


def hide(export: Path, which: str) -> None:
    """Delete NVTX ranges from an export: the program's and the runner's own (not TensorRT's), or all."""
    database = sqlite3.connect(export)
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "NVTX_EVENTS" in tables:
        theirs = "(SELECT domainId FROM NVTX_EVENTS WHERE eventType = 75 AND text = 'TensorRT')"
        rest = "" if which == "all" else f" AND coalesce(domainId, 0) NOT IN {theirs}"
        database.execute(f"DELETE FROM NVTX_EVENTS WHERE eventType IN (59, 60){rest}")
    database.commit()
    database.close()


def run_of(opened: Callable[..., Trace], name: str) -> Run:
    return Run.of(opened(f"{name}.sqlite.zst"))


# Which they are


@pytest.mark.parametrize(
    ("name", "source", "count", "enqueues"),
    [
        ("cases/c07_partitions", "enqueue_pattern", 40, 11),
        ("cases/c15_torch_launchbound", "program_range", 20, 0),
        ("cases/c27_tp_nccl", "enqueue_range", 40, 1),
        ("cases/c29_multi_engine", "enqueue_pattern", 40, 6),
        ("cases/c29_multi_engine_marked", "program_range", 40, 6),
        *((f"programs/{name}", "program_range", 60, 0) for name in ("eventchain", "itemsync", "pageable", "pinned")),
        ("programs/graph", "program_range", 60, 1),
        ("nccl/exposed_both", "program_range", 100, 0),
        ("nccl/straggler_rank0", "program_range", 50, 0),
        ("nccl/straggler_rank1", "program_range", 50, 0),
    ],
)
def test_requests_are_those_that_the_texts_name(
    opened: Callable[..., Trace], name: str, source: str, count: int, enqueues: int
) -> None:
    requests = run_of(opened, name).requests
    assert requests.source.counts() == {source: count}
    assert set(requests.enqueues.tolist()) == {enqueues}


@pytest.mark.parametrize("name", ["c29_multi_engine", "c29_multi_engine_marked"])
def test_neither_of_two_engines_is_an_outlier_of_the_other(opened: Callable[..., Trace], name: str) -> None:
    requests = run_of(opened, f"cases/{name}").requests
    assert [(one.count, one.steady) for one in requests.populations] == [(40, 40)]
    assert not requests.mark.counts()


@pytest.mark.parametrize(
    ("name", "wall", "kernels", "busy", "up", "down"),
    [
        ("pinned", 4_509, 165, 951, 89.7, 2.2),
        ("pageable", 6_094, 165, 864, 588.1, 2.1),
        ("itemsync", 6_195, 173, 907, 90.3, 13.6),
        ("graph", 1_290, 165, 860, 89.8, 2.2),
        ("eventchain", 531, 12, 204, 0.0, 0.0),
    ],
)
def test_steps_of_programs(
    opened: Callable[..., Trace], name: str, wall: int, kernels: int, busy: int, up: float, down: float
) -> None:
    """Medians over the steps by SQL over the export, as the text beside them has them; microseconds."""
    frame = opened(f"programs/{name}.sqlite.zst").frame("inferences")
    assert set(frame["kernels"]) == {kernels}
    assert (frame["range_end_ns"] - frame["range_start_ns"]).median() / 1000 == pytest.approx(wall, rel=0.002)
    assert frame["compute_ns"].median() / 1000 == pytest.approx(busy, rel=0.02)
    copied = frame["exposed_h2d_ns"] + frame["exposed_d2h_ns"] + frame["hidden_copy_ns"]
    assert copied.median() / 1000 == pytest.approx(up + down, rel=0.02, abs=0.1)


# What is found where nothing is marked


def beginnings(run: Run) -> dict[tuple[int, int], np.ndarray]:
    """When each thread begins its requests."""
    requests = run.requests
    return {thread: np.sort(requests.start[rows]) for thread, rows in requests.of_threads().items()}


UNLIKE = {
    # Of four contexts on one thread three enqueue without any work: 150 of its 200 marked requests only copy. What can
    # be found is the fourth's enqueue, every fourth of the marks.
    "h200/det_multi4.sqlite.zst": 4,
}


@pytest.mark.parametrize("hidden", ["own", "all"])
@pytest.mark.parametrize("name", MARKED)
def test_the_period_of_hidden_requests(opened: Callable[..., Trace], name: str, hidden: str) -> None:
    """Thread by thread: within 2 % of the marked one, or none is said to be found."""
    marked, found = beginnings(Run.of(opened(name))), beginnings(Run.of(opened(name, hidden)))
    assert found.keys() <= marked.keys()
    assert not found or found.keys() == marked.keys()
    times = UNLIKE.get(name, 1)
    for thread, begins in found.items():
        known = marked[thread]
        assert abs(begins.size * times - known.size) <= times, thread
        if times == 1:
            assert np.median(np.diff(begins)) == pytest.approx(np.median(np.diff(known)), rel=0.02), thread
        assert (begins[-1] - begins[0]) == pytest.approx(known[-1] - known[0], rel=0.05), thread


@pytest.mark.parametrize("name", MARKED)
def test_of_all_it_is_found(opened: Callable[..., Trace], name: str) -> None:
    requests = Run.of(opened(name, "all")).requests
    assert set(requests.source.counts()) <= {"iteration", "graph_launch"}
    assert len(requests) == pytest.approx(len(Run.of(opened(name)).requests) / UNLIKE.get(name, 1), abs=1)


@pytest.mark.parametrize(
    ("name", "count"),
    [("c07_partitions", 40), ("c15_torch_launchbound", 20), ("c27_tp_nccl", 40), ("c29_multi_engine", 40)],
)
def test_blocks_that_are_alike_within_a_request_are_none(opened: Callable[..., Trace], name: str, count: int) -> None:
    """Partitions, and layers with their collectives: without any range as with them."""
    requests = Run.of(opened(f"cases/{name}.sqlite.zst", "all")).requests
    assert requests.source.counts() == {"iteration": count}


def test_layers_that_are_loaded_one_by_one_are_no_iterations(opened: Callable[..., Trace]) -> None:
    assert not len(run_of(opened, "public/nsysai_h100_2gpu_1s_2026.2.1").requests)


# Accounting


@pytest.mark.parametrize("name", TRACES)
def test_the_accounting_closes_on_every_request(opened: Callable[..., Trace], name: str) -> None:
    frame = opened(name).frame("inferences")
    assert frame[[f"{bucket}_ns" for bucket in BUCKETS]].sum(axis=1).tolist() == frame["wall_ns"].tolist()
    assert (frame["end_ns"] - frame["start_ns"] == frame["wall_ns"]).all()


@pytest.mark.parametrize("name", MARKED)
def test_it_closes_with_the_marks_hidden_too(opened: Callable[..., Trace], name: str) -> None:
    frame = opened(name, "all").frame("inferences")
    assert frame[[f"{bucket}_ns" for bucket in BUCKETS]].sum(axis=1).tolist() == frame["wall_ns"].tolist()


# Communication

BY_SQL = {
    # microseconds a step, medians over 50 steps: communication, exposed, other kernels, one collective
    ("exposed_both", 0): (401, 401, 1_164, 33.4),
    ("exposed_both", 1): (667, 667, 1_149, 54.2),
    ("straggler_rank0", 0): (2_008, 2_008, 1_158, 39.3),
    ("straggler_rank1", 1): (413, 413, 2_719, 34.4),
}


@pytest.mark.parametrize(("name", "device"), BY_SQL)
def test_communication_of_a_step(opened: Callable[..., Trace], name: str, device: int) -> None:
    run = run_of(opened, f"nccl/{name}")
    rank = next(one for one in run.ranks if one.device == device)
    each = np.bincount(rank.request, rank.duration)
    frame = run.trace.frame("inferences")
    mine = frame[run.requests.judged & (run.requests.device == device)]
    talks = mine["exposed_communication_ns"] + mine["hidden_communication_ns"]
    talk, exposed, other, one = BY_SQL[name, device]
    for found, wanted in (
        (np.median(each[each > 0]), talk),
        (talks.median(), talk),
        (mine["exposed_communication_ns"].median(), exposed),
        (mine["compute_ns"].median(), other),
        (rank.other / rank.requests, other),
        (np.median(rank.duration), one),
    ):
        assert found / 1000 == pytest.approx(wanted, rel=0.05)
    assert rank.exposed == rank.time  # every collective stands between two layers


def test_waiting_for_a_peer_in_one_report(opened: Callable[..., Trace]) -> None:
    """GPU 1's collectives begin before GPU 0's and wait for them; from when both run, one takes 33 us."""
    found = waiting(run_of(opened, "nccl/exposed_both").ranks, one_clock=True)
    assert found is not None
    late, early = found
    assert early.each / 1000 == pytest.approx(265, rel=0.05)
    assert [one.transfer / 1000 for one in found] == pytest.approx([400, 400], rel=0.05)
    assert late.each < 0.05 * early.each


def test_waiting_for_a_peer_by_a_report_of_each(opened: Callable[..., Trace]) -> None:
    """The wait is the fast rank's: 1,595 us of its 2,008; clocks of two reports say nothing of each other."""
    both = [run_of(opened, f"nccl/straggler_rank{rank}").ranks[0] for rank in (0, 1)]
    found = waiting(both, one_clock=False)
    assert found is not None
    fast, slow = found
    assert fast.each / 1000 == pytest.approx(1_595, rel=0.05)
    assert [one.transfer / 1000 for one in found] == pytest.approx([413, 413], rel=0.05)
    assert slow.each < 0.05 * fast.each
