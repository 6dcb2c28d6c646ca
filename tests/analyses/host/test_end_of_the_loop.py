"""MEM001 at the end of a run: memory that is freed while the GPU still works for the last inference."""

from __future__ import annotations

import pytest
from drawn_trace import drawn
from nsight_analyses.host.mem001_allocations_in_steady_state import allocations_in_steady_state

AHEAD = """
    nvtx 1:   [i.][i.][i.]............
    thread 1: L...L...L...SSSS.AA.....
    stream 7: .####.######.###########
"""
"""Inferences that are launched ahead; the thread waits for something, and then frees what the last one uses."""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (AHEAD, False),
        (AHEAD.replace("SSSS.AA.....", "SSSS.AA.SSSS"), True),
        (AHEAD.replace("AA", "..").replace("L...SSSS", "L.AASSSS"), True),
    ],
    ids=["the end of the program", "it waits for the GPU behind that", "within the inference"],
)
def test_what_is_freed_behind_the_last_wait_ends_the_run(text: str, found: bool) -> None:
    outcome = allocations_in_steady_state.run(drawn(text, other_api="cudaFree"))
    assert bool(outcome.findings) == found
