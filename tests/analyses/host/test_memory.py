"""MEM001: allocations in steady state."""

from __future__ import annotations

from typing import Any

import pytest
from drawing import table
from drawn_trace import Case, drawn, evidence_of, only
from nsight_analyses.host.allocations import allocates
from nsight_analyses.host.mem001_allocations_in_steady_state import allocations_in_steady_state

from nsight_tools.analysis import Status
from nsight_tools.findings import Severity

TWO = """
    nvtx 1:   [i.......][i.......]
    thread 1: L.........L.AA......
    stream 7: ..##########..######
"""
"""The steady state is the second inference: 9 µs."""
ALLOCATE: dict[str, Any] = {"other_api": "cudaMalloc"}


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "in the second inference",
            TWO,
            Severity.WARNING,
            2,
            {"allocations and frees": 1, "host time": 2},
            says="cudaMalloc (1 times)",
            options=ALLOCATE,
        ),
        Case("in the first", TWO.replace("L.........L.AA", "L.AA......L..."), options=ALLOCATE),
        Case("another call", TWO),
        Case(
            "on another thread",
            TWO.replace(".AA.", "....") + "    thread 2: ............AA......",
            options=ALLOCATE,
        ),
        Case(
            "from a pool",
            TWO,
            Severity.INFO,
            2,
            says="from a pool",
            options={"other_api": "cudaMallocAsync"},
        ),
        Case(
            "a call inside of a call counts once",
            TWO + "    thread 1: ............AAAAA.....",
            Severity.WARNING,
            5,
            {"allocations and frees": 1},
            options={"other_api": ["cudaMalloc", "cuMemAlloc"]},
        ),
    ],
    ids=str,
)
def test_case(case: Case) -> None:
    case.check(allocations_in_steady_state)


def loop(allocating: int, inferences: int, gap: int) -> str:
    """So many inferences after the first, of which some allocate for 1 µs."""
    one = "." * gap
    calls = "".join(("LA" if at < allocating else "L.") + one for at in range(inferences))
    return f"""
        nvtx 1:   [i]{"." * (gap - 1)}{("[i" + one[1:] + "]") * inferences}
        thread 1: L.{one}{calls}
        stream 7: .#{one}{(".#" + one) * inferences}
    """


@pytest.mark.parametrize(
    ("allocating", "found"), [(2, True), (1, False)], ids=["one of ten inferences", "one of twenty, 0.5 % of the time"]
)
def test_few(allocating: int, found: bool) -> None:
    outcome = allocations_in_steady_state.run(drawn(loop(allocating, 20, 9), other_api="cudaFree"))
    assert bool(outcome.findings) == found


def test_what_was_collected_of_the_memory() -> None:
    usage = [
        {"time_ns": 12_500, "pid": 1000, "kind": "allocate", "size_bytes": 4096},
        {"time_ns": 13_500, "pid": 1000, "kind": "free", "size_bytes": 4096},
        {"time_ns": 1_500, "pid": 1000, "kind": "allocate", "size_bytes": 1},
    ]
    trace = drawn(TWO, tables={"memory_usage": table("memory_usage", usage)}, **ALLOCATE)
    allocated = evidence_of(only(allocations_in_steady_state, trace), "allocated on the GPU")
    assert (allocated.value, allocated.unit, allocated.detail) == (4096, "bytes", "in 1 pieces")


def test_one_inference_is_no_steady_state() -> None:
    outcome = allocations_in_steady_state.run(drawn("nvtx 1:   [i.]\nthread 1: .AA.", **ALLOCATE))
    assert outcome.status == Status.COULD_NOT_RUN


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        *((name, True) for name in ("cudaMalloc", "cudaFree", "cudaHostAlloc", "cuMemAlloc", "cuMemCreate")),
        *((name, True) for name in ("cudaMallocAsync", "cuMemFreeAsync", "cudaMallocFromPoolAsync_ptsz")),
        *((name, False) for name in ("cudaMemcpyAsync", "cuMemGetInfo", "cudaMemsetAsync", "cudaMallocFoo")),
    ],
)
def test_names(name: str, answer: bool) -> None:
    assert allocates(name) == answer
