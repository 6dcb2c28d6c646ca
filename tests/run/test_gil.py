"""Python's interpreter lock, drawn and of a real program under a real Nsight Systems."""

from __future__ import annotations

import sys
from pathlib import Path

import gil_program
import pytest
from drawn_trace import drawn
from installed_nsys import main, profile

from nsight_tools import open_trace
from nsight_tools.run.gil import Gil
from nsight_tools.timeline.intervals import Intervals

PROGRAM = Path(gil_program.__file__)


def test_who_waits_and_who_holds_it() -> None:
    trace = drawn(
        """
        nvtx 1:           [i.............]
        nvtx 1 GIL_Trace: .[w..].[h...]...
        nvtx 2 GIL_Trace: [h..].......[h.]
        nvtx 3 GIL_Trace: ....[h]........
        thread 1:         L...............
        stream 7:         ..#.............
        """,
        names={"w": "Waiting for GIL", "h": "Holding GIL"},
    )
    gil = Gil.of(trace)
    waits = gil.waiting(1000, 1)
    assert gil.traced
    assert (waits.start.tolist(), waits.end.tolist()) == ([1000], [6000])
    assert gil.holders(1000, 1, waits) == ((2, 4000), (3, 2000))
    assert gil.waiting(1000, 2).total == 0
    assert gil.holders(1000, 1, Intervals.union([], [])) == ()


def test_where_it_was_not_traced() -> None:
    gil = Gil.of(drawn("nvtx 1:   [i..]\nthread 1: L...\nstream 7: ..#."))
    assert (gil.traced, gil.waiting(1000, 1).total) == (False, 0)


@pytest.mark.nsys
def test_a_real_program(tmp_path: Path) -> None:
    """Its ranges are the profiler's, and around nothing; the inferences are the program's."""
    nsys = main()
    if not nsys.can("python_gil"):
        pytest.skip(f"nsys {nsys.version} traces no interpreter lock")
    report = profile(nsys, tmp_path / "gil.nsys-rep", [sys.executable, PROGRAM], None, traces="nvtx,python-gil")
    trace = open_trace(report, nsys=nsys.path)
    ranges = trace.frame("nvtx_ranges", ["domain", "kind", "depth"])
    told = ranges[ranges["domain"] == "GIL Trace"]
    assert len(told) > 10 * gil_program.INFERENCES
    assert set(told["kind"]) == {"profiler"}
    assert told["depth"].isna().all()
    found = trace.frame("inferences", ["pid", "tid", "start_ns", "end_ns"])
    assert len(found) == gil_program.INFERENCES
    (pid,), (tid,) = set(found["pid"]), set(found["tid"])
    gil = Gil.of(trace)
    within = gil.waiting(pid, tid).intersection(Intervals.union(found["start_ns"], found["end_ns"]))
    assert within.total > 0
    holders = gil.holders(pid, tid, within)
    assert len(holders) == 1
    assert holders[0][1] > 0.5 * within.total
