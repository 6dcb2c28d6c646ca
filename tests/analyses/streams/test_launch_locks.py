from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from drawing import table
from drawn_trace import drawn, evidence_of, only
from nsight_analyses.streams.str005_threads_that_wait_for_locks import threads_that_wait_for_locks

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence, Severity
from nsight_tools.tables import TABLES

if TYPE_CHECKING:
    from nsight_tools.trace import Trace

TWO = """
    nvtx 1:   [i..................]
    nvtx 2:   [i..................]
    thread 1: L.........L..........
    thread 2: .L..........L........
    stream 7: .##........##........
    stream 8: ..##........##.......
"""
"""Two threads, an inference each at the same time, with two kernels; the GPU is idle from 4 to 11 and from 15 on."""


def wait(name: str, thread: int, start_us: int, end_us: int) -> dict[str, Any]:
    return {"name": name, "pid": 1000, "tid": thread, "start_ns": start_us * 1000, "end_ns": end_us * 1000}


def trace(*waits: dict[str, Any], picture: str = TWO, untraced: tuple[int, int] | None = None) -> Trace:
    tables = {"osrt_calls": table("osrt_calls", list(waits))} if waits else {}
    if untraced:
        rows = [
            {"run": run, "measured_by": "runner", "inference": at, "start_ns": at * 10_000, "wall_ns": wall * 1000}
            | {"enqueue_ns": None, "compute_ns": None, "thread": 0, "stream": 0}
            for run, wall in zip(("benchmark", "timing"), untraced, strict=True)
            for at in range(20)
        ]
        tables["benchmark"] = pa.Table.from_pylist(rows, TABLES["benchmark"].schema)
    return drawn(picture, tables=tables)


def test_a_wait_counts_where_the_gpu_is_idle() -> None:
    finding = only(threads_that_wait_for_locks, trace(wait("pthread_mutex_lock", 1, 2, 9)))
    assert finding.recoverable_ns == 5_000  # 4 to 9
    assert evidence_of(finding, "time in waits for a lock, all threads").value == 7_000
    assert evidence_of(finding, "of it with an idle GPU").value == 5_000
    assert finding.explains == ("gaps", "enqueue")


def test_waits_of_both_threads_at_once_count_once() -> None:
    waits = wait("pthread_rwlock_wrlock", 1, 4, 9), wait("pthread_rwlock_rdlock", 2, 6, 10)
    finding = only(threads_that_wait_for_locks, trace(*waits))
    assert finding.recoverable_ns == 6_000
    assert evidence_of(finding, "time in waits for a lock, all threads").value == 5_000 + 4_000


def test_tracing_may_lengthen_what_is_held_so_that_only_an_untraced_run_makes_it_a_warning() -> None:
    waits = (wait("pthread_mutex_lock", 1, 4, 10),)
    alone = only(threads_that_wait_for_locks, trace(*waits))
    assert (alone.severity, alone.confidence) == (Severity.INFO, Confidence.LOW)
    sure = only(threads_that_wait_for_locks, trace(*waits, untraced=(15, 20)))
    assert (sure.severity, sure.confidence) == (Severity.WARNING, Confidence.MEDIUM)
    assert sure.recoverable_ns == round(6_000 * 15 / 21)  # an inference takes 21 µs traced, and 15 untraced


@pytest.mark.parametrize(
    "waits",
    [
        [wait("pthread_mutex_lock", 1, 1, 4)],  # kernels run
        [wait("poll", 1, 4, 10)],  # for no lock
        [wait("pthread_cond_wait", 1, 4, 10)],
        [wait("pthread_mutex_lock", 3, 4, 10)],  # a thread that makes no inferences
        [wait("pthread_mutex_lock", 1, 4, 5)],  # 1 of 21 us
    ],
    ids=["kernels run", "poll", "condition", "another thread", "less than 5 percent"],
)
def test_what_is_no_such_wait(waits: list[dict[str, Any]]) -> None:
    assert threads_that_wait_for_locks.run(trace(*waits)).status is Status.CLEAR


def test_without_calls_of_the_operating_system_an_idle_gpu_leaves_it_open() -> None:
    outcome = threads_that_wait_for_locks.run(trace())
    assert outcome.status is Status.COULD_NOT_RUN
    assert "--trace=cuda,nvtx,osrt" in outcome.reason
    busy = TWO.replace(".##........##........", ".####################")
    assert threads_that_wait_for_locks.run(trace(picture=busy)).status is Status.CLEAR


def test_threads_one_after_the_other_do_not_wait_for_each_other() -> None:
    turns = """
    nvtx 1:   [i......]...........
    nvtx 2:   ..........[i.......]
    thread 1: L..................
    thread 2: ..........L.........
    stream 7: .##................
    stream 8: ...........##.......
    """
    assert threads_that_wait_for_locks.run(trace(wait("pthread_mutex_lock", 1, 3, 6), picture=turns)).status is (
        Status.CLEAR
    )
    one = "nvtx 1:   [i.........]\nthread 1: L...L......\nstream 7: .##..##...."
    assert threads_that_wait_for_locks.run(trace(picture=one)).status is Status.NOT_APPLICABLE


def contended(beside: int, alone: int, length: int, period: int = 200) -> str:
    """Two threads with so many launches of `length` µs beside each other's, and so many of 4 µs alone, a period."""
    pair = "L" * length + "." * 4
    mine = pair * beside + ("LLLL" + "." * 8) * alone
    other = pair * beside + ("...." + "...." + "....") * alone
    body, other = (part.ljust(period, ".")[:period] for part in (mine, other))
    return "\n".join(
        (
            "nvtx 1:   " + ("[i" + "." * (period - 3) + "]") * 6,
            "nvtx 2:   " + ("[i" + "." * (period - 3) + "]") * 6,
            "thread 1: " + body * 6,
            "thread 2: " + other * 6,
            "stream 7: " + ("." * (period - 10) + "#" * 10) * 6,
        )
    )


@pytest.mark.parametrize(("length", "told"), [(24, True), (7, False)])
def test_launches_that_take_longer_beside_another_threads_say_it_without_the_operating_system(
    length: int, told: bool
) -> None:
    outcome = threads_that_wait_for_locks.run(drawn(contended(4, 6, length)))
    assert (outcome.status == Status.FINDINGS) == told
    for finding in outcome.findings:
        assert finding.message.startswith(
            "launch calls take 24.0 µs while another thread is in one, and 4.00 µs otherwise"
        )
        assert (finding.severity, finding.confidence, finding.recoverable_ns) == (Severity.INFO, Confidence.LOW, None)


@pytest.mark.parametrize(("length", "told"), [(20, True), (19, False)])
def test_where_none_is_alone_a_launch_of_10_us_waits_for_nobody(length: int, told: bool) -> None:
    outcome = threads_that_wait_for_locks.run(drawn(contended(5, 0, length, period=120)))
    assert (outcome.status == Status.FINDINGS) == told


@pytest.mark.parametrize(("period", "told"), [(200, True), (420, False)])
def test_a_fifth_of_the_inferences_time_has_to_pass_so(period: int, told: bool) -> None:
    outcome = threads_that_wait_for_locks.run(drawn(contended(4, 6, 24, period)))
    assert (outcome.status == Status.FINDINGS) == told
