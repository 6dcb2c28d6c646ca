"""The runner's ranges, payloads and clock marks arrive in a real report: made TensorRT and GPU, real nvtx and nsys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import installed_nsys
import pytest
from runner_cases import Ran, command, engine, journal_of

from nsight_tools.trace import Trace, open_trace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

INFERENCES = 12
EVENTS = INFERENCES * 5 + 2
"""The ranges of each inference, and the clock's two marks."""
AROUND_RANGES_NS = 50_000_000  # a busy machine may take the thread away between a range's end and the clock


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], tuple[Ran, Trace]]:
    """Gives the runner's own words and the report of one more run."""
    return lambda: _profiled(tmp_path_factory.mktemp("runner"))


@pytest.fixture(scope="module")
def traced(profiled: Callable[[], tuple[Ran, Trace]]) -> tuple[Ran, Trace]:
    return profiled()


def _profiled(folder: Path) -> tuple[Ran, Trace]:
    nsys = installed_nsys.main()
    arguments, environment, output = command(
        folder, real_nvtx=True, engine=engine(folder), streams=2, threads=2, iterations=INFERENCES
    )
    report = folder / "report.nsys-rep"
    installed_nsys.profile(nsys, report, arguments, EVENTS, traces="nvtx", environment=environment)
    return Ran(0, "", output, journal_of(folder)), open_trace(report)


@pytest.mark.nsys
def test_ranges_nest_and_carry_their_number(traced: tuple[Ran, Trace]) -> None:
    _, trace = traced
    rows = trace.table("nvtx_ranges").to_pylist()
    assert {row["domain"] for row in rows} == {"nsight_tools"}
    inferences = [i for i, row in enumerate(rows) if row["name"] == "inference"]
    assert sorted(rows[i]["payload"] for i in inferences) == [*range(INFERENCES)]
    for number in inferences:
        within = [row["name"] for row in rows if row["parent"] == number]
        assert within == ["h2d", "enqueue", "d2h", "synchronize"]
    assert len(rows) == EVENTS


@pytest.mark.nsys
def test_clock_marks_carry_the_time(traced: tuple[Ran, Trace], profiled: Callable[[], tuple[Ran, Trace]]) -> None:
    """A busy machine may take the thread away between the clock and its mark: in one run, not in every one."""
    apart = _marks_apart_from_clock(traced)
    for _ in range(installed_nsys.ATTEMPTS):
        if abs(apart) < 1_000_000:
            break
        apart = _marks_apart_from_clock(profiled())
    assert abs(apart) < 1_000_000


def _marks_apart_from_clock(of: tuple[Ran, Trace]) -> int:
    """How much longer than by the clock it was between the marks, which carry its time; nanoseconds."""
    ran, trace = of
    marks = [row for row in trace.table("nvtx_ranges").to_pylist() if row["kind"] == "mark"]
    assert [row["name"] for row in marks] == ["clock", "clock"]
    clock = [entry["utc_ns"] for entry in ran.result["run"]["clock"]]
    assert [row["payload"] for row in marks] == clock
    between: int = marks[1]["start_ns"] - marks[0]["start_ns"]
    return between - int(clock[1] - clock[0])


@pytest.mark.nsys
def test_the_runner_measures_what_the_trace_shows(traced: tuple[Ran, Trace]) -> None:
    ran, trace = traced
    rows = [row for row in trace.table("nvtx_ranges").to_pylist() if row["name"] == "inference"]
    samples = ran.samples
    assert len(rows) == INFERENCES
    walls = dict(zip(samples["inference"].tolist(), samples["wall_ns"].tolist(), strict=True))
    for row in rows:
        more = walls[row["payload"]] - (row["end_ns"] - row["start_ns"])
        assert -100_000 < more < AROUND_RANGES_NS
