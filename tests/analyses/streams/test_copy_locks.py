"""STR005: copies that hold a lock of the driver, and launches of other threads that wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from drawing import table
from drawn_trace import drawn, evidence_of, only
from nsight_analyses.streams.str005_threads_that_wait_for_locks import threads_that_wait_for_locks

from nsight_tools.analysis import Status
from nsight_tools.findings import Change, Confidence, Severity

if TYPE_CHECKING:
    from nsight_tools.trace import Trace

WARNING, INFO = Severity.WARNING, Severity.INFO
PAGEABLE = {"memory": "pageable"}


def threads(copy: int, launch: int, *, apart: int = 0, length: int = 200, who: int = 2, **options: Any) -> Trace:
    """Two threads with an inference each of so many microseconds, in which the GPU is never idle.

    One copies for `copy` µs; the other is in a launch that is `launch` µs long, and returns `apart` µs after the copy.
    """
    begins = copy + apart - launch
    return drawn(
        f"""
        nvtx 1:   [i{"." * (length - 3)}]
        nvtx 2:   [i{"." * (length - 3)}]
        thread 1: {"C" * copy}{"." * (length - copy)}
        thread {who}: {"." * begins}{"L" * launch}{"." * (length - begins - launch)}
        stream 7: {">" * copy}
        stream 8: {"." * (copy + apart)}{"#" * (length - copy - apart)}
        stream 9: {"%" * length}
        """,
        **{"kernel_calls": [None, 0], **PAGEABLE, **options},
    )


def test_a_launch_waits_for_another_threads_pageable_copy() -> None:
    finding = only(threads_that_wait_for_locks, threads(100, 80))
    assert (finding.severity, finding.confidence, finding.recoverable_ns) == (WARNING, Confidence.MEDIUM, 80_000)
    assert finding.message == (
        "a thread's launch calls wait 1 times for another thread's copy, 80.0 µs each: 40 % of the inferences' time"
    )
    assert "hold a lock of the driver until they are done (cudaMemcpyAsync (1))" in finding.cause
    assert finding.recommendation.startswith("allocate the host buffers of these copies page-locked")
    assert finding.change == (Change("pageable", value=False),)
    assert finding.explains == ("enqueue", "compute-bound", "gaps")
    longest = evidence_of(finding, "longest")
    assert (longest.start_ns, longest.end_ns) == (20_000, 100_000)


@pytest.mark.parametrize(
    ("trace", "found"),
    [
        (threads(100, 51), True),
        (threads(100, 50), False),
        (threads(100, 90, apart=20), True),
        (threads(100, 90, apart=21), False),
        (threads(100, 80, memory="pinned"), False),
        (threads(100, 80, memory="pinned", copy_api="cudaMemcpy"), True),
        (threads(100, 80, copy_api="cudaMemsetAsync"), False),
    ],
    ids=[
        "a launch of more than 50 µs",
        "50 µs",
        "it returns 20 µs behind the copy",
        "later: it waits for something else",
        "a pinned copy",
        "a blocking copy",
        "another call",
    ],
)
def test_what_waits_for_a_copy(trace: Trace, found: bool) -> None:
    assert threads_that_wait_for_locks.run(trace).status == (Status.FINDINGS if found else Status.CLEAR)


@pytest.mark.parametrize(
    ("length", "severity"),
    [(600, WARNING), (601, INFO), (1200, INFO), (1201, None)],
    ids=["10 % of the inferences' time", "less", "5 %", "less than 5 %"],
)
def test_share_of_the_inferences_time(length: int, severity: Severity | None) -> None:
    outcome = threads_that_wait_for_locks.run(threads(100, 60, length=length))
    assert [finding.severity for finding in outcome.findings] == ([] if severity is None else [severity])


@pytest.mark.parametrize(
    ("waits", "confidence", "says"),
    [
        ((2, 25), Confidence.HIGH, "; 1 of these waits are in a lock of the operating system"),
        ((2, 110), Confidence.MEDIUM, ""),
        ((1, 25), Confidence.MEDIUM, ""),
    ],
    ids=["in that launch", "behind it", "of the thread that copies"],
)
def test_a_lock_of_the_operating_system_proves_it(waits: tuple[int, int], confidence: Confidence, says: str) -> None:
    thread, start = waits
    lock = {"name": "pthread_mutex_lock", "pid": 1000, "tid": thread, "start_ns": start * 1000}
    osrt = table("osrt_calls", [lock | {"end_ns": (start + 60) * 1000}])
    finding = only(threads_that_wait_for_locks, threads(100, 80, tables={"osrt_calls": osrt}))
    assert finding.confidence == confidence
    assert finding.cause.endswith(f"wait for that lock{says}")


def test_threads_of_two_processes_share_no_lock() -> None:
    text = f"""
        nvtx 1 pid 1:   [i{"." * 197}]
        nvtx 1 pid 2:   [i{"." * 197}]
        thread 1 pid 1: {"C" * 100}
        thread 1 pid 2: {"." * 20}{"L" * 80}
        stream 7 pid 1: {">" * 100}
        stream 8 pid 2: {"." * 100}{"#" * 100}
    """
    assert threads_that_wait_for_locks.run(drawn(text, **PAGEABLE)).status == Status.CLEAR


def test_inferences_that_warm_up_do_not_count() -> None:
    """Each thread's first inference holds the other's up, and is far slower than its others."""
    turn = f"[i{'.' * 17}]"
    text = f"""
        nvtx 1:   [i{"." * 197}]{turn * 6}
        nvtx 2:   [i{"." * 197}]{turn * 6}
        thread 1: {"C" * 100}L{"." * 99}{("C.L" + "." * 17) * 6}
        thread 2: {"." * 20}{"L" * 80}c{"." * 99}{("LC." + "." * 17) * 6}
        stream 7: {">" * 100}.#{"." * 98}{(".>.##" + "." * 15) * 6}
        stream 8: {"." * 100}#<{"." * 98}{(".##<." + "." * 15) * 6}
        stream 9: {"%" * 320}
    """
    trace = drawn(text, kernel_calls=[None, *range(14)], **PAGEABLE)
    assert trace.table("inferences")["mark"].to_pylist().count("warm_up") == 2
    assert threads_that_wait_for_locks.run(trace).status == Status.CLEAR
