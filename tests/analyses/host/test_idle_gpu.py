"""The GPU's idle time in a program in which nothing repeats, by what the host does meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from drawing import US, table
from drawn_trace import drawn
from nsight_analyses.host.lch008_idle_gpu import idle_gpu

from nsight_tools.analysis import Status
from nsight_tools.findings import Severity

WORK = "##........####......##"
THREADS = {
    "its thread runs other code": "LL......L..........L..",
    "its thread waits for the GPU": "LLSSSSSSL.SSSSSSSSSL..",
    "its thread launches or copies": "LL.LLLLLL.LLLLLLLLLL..",
}


def idle(thread: str, work: str = WORK, **options: Any) -> Any:
    return idle_gpu.run(drawn(f"stream 7: {work}\nthread 1: {thread}", **options))


@pytest.mark.parametrize(("owner", "thread"), THREADS.items())
def test_the_owner_is_what_the_thread_does_that_launches_the_next_work(owner: str, thread: str) -> None:
    (finding,) = idle(thread).findings
    assert finding.evidence[0].metric == owner
    assert finding.severity is Severity.WARNING
    assert finding.recoverable_ns == 14 * US


@pytest.mark.parametrize(
    ("call", "owner"),
    [
        ("cudaMalloc", "its thread manages memory"),
        ("cudaHostAlloc", "its thread manages memory"),
        ("cuModuleLoadData", "its thread loads code"),
        ("cudaGraphInstantiate", "its thread builds graphs"),
        ("cudaGetLastError", "its thread runs other code"),
    ],
)
def test_calls_are_told_by_what_they_do(call: str, owner: str) -> None:
    (finding,) = idle("LLAAAAAAL.AAAAAAAAAL..", other_api=call).findings
    assert finding.evidence[0].metric == owner


def test_every_owner_has_its_part_and_all_of_them_are_the_idle_time() -> None:
    (finding,) = idle("LL...SSSL.....SSSSSL..").findings
    parts = {each.metric: each.value for each in finding.evidence if each.metric.startswith(("its", "submitted"))}
    assert sum(int(value) for value in parts.values()) == (8 + 6) * US


def test_submitted_work_that_waits_is_told_apart() -> None:
    (finding,) = idle("L.L.L.................").findings
    assert finding.evidence[0].metric == "submitted work waits"


def test_what_another_thread_holds_the_driver_for() -> None:
    text = f"stream 7: {WORK}\nthread 1: LL......L..........L..\nthread 2: ..AAAAAA..AAAAAAAAA..."
    (finding,) = idle_gpu.run(drawn(text, other_api="cuModuleLoadData")).findings
    assert finding.evidence[0].metric == "another thread holds the driver"


@pytest.mark.parametrize(("gap", "found"), [(1, False), (2, True)])
def test_from_5_percent_on(gap: int, found: bool) -> None:
    work = "#" * 30 + "." * gap + "#" * 8
    assert bool(idle("L" + "." * (29 + gap - 1) + "L" + "." * 8, work).findings) == found


@pytest.mark.parametrize(("gap", "severity"), [(9, Severity.INFO), (10, Severity.WARNING)])
def test_from_20_percent_on_it_is_a_warning(gap: int, severity: Severity) -> None:
    work = "#" * 30 + "." * gap + "#" * 10
    (finding,) = idle("L" + "." * (29 + gap - 1) + "L" + "." * 10, work).findings
    assert finding.severity is severity


def test_a_program_with_inferences_is_told_by_their_parts() -> None:
    text = "\n".join(
        ("stream 7: " + "..##...#" * 8, "thread 1: " + "L....L.." * 8, "nvtx 1:   " + "[i.....]" * 8),
    )
    assert idle_gpu.run(drawn(text)).status is Status.NOT_APPLICABLE


def test_the_profilers_own_time_is_no_idle_time() -> None:
    overhead = table("profiler_overhead", [{"start_ns": 2 * US, "end_ns": 10 * US}])
    (finding,) = idle(THREADS["its thread runs other code"], tables={"profiler_overhead": overhead}).findings
    parts = [int(each.value) for each in finding.evidence if each.metric.startswith(("its", "submitted"))]
    assert sum(parts) == 6 * US


@pytest.mark.parametrize(("long", "says"), [(900, "sets the pace"), (1100, "runs code outside of CUDA calls")])
def test_many_short_stretches_are_the_framework_between_launches(long: int, says: str) -> None:
    """Forty stretches of 24 µs are 960 in all; a single one that is longer than those together is something else."""
    thread, work = "L" + "." * 25, ".##" + "." * 23
    (finding,) = idle(thread * 41 + "." * long + "L", work * 41 + "." * long + "##").findings
    assert says in finding.cause
