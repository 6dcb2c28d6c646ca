"""MEM001: allocations in steady state."""

from __future__ import annotations

from typing import Any

import pytest
from drawing import table
from drawn_trace import Case, drawn, evidence_of, only
from nsight_analyses.host.lch004_slow_inferences import slow_inferences
from nsight_analyses.host.mem001_allocations_in_steady_state import allocations_in_steady_state

from nsight_tools.analysis import Status
from nsight_tools.findings import Severity

TWO = """
    nvtx 1:   [i.......][i.......]
    thread 1: L.........L.AA......
    stream 7: ..##########..######
"""
"""The steady state is both inferences: 20 µs."""
ALLOCATE: dict[str, Any] = {"other_api": "cudaMalloc"}


def six(at: int) -> str:
    """Inferences of 9 µs, one of which allocates for 10 more."""
    lanes = ["LAAAAAAAAAA........" if one == at else "L........" for one in range(6)]
    return f"""
        nvtx 1:   {"".join("[i" + "." * (len(lane) - 3) + "]" for lane in lanes)}
        thread 1: {"".join(lanes)}
        stream 7: {"".join(".######".rjust(len(lane) - 2, ".") + ".." for lane in lanes)}
    """


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "in the second of two inferences",
            TWO,
            Severity.WARNING,
            2,
            {"allocations and frees": 1, "host time": 2},
            says="cudaMalloc (1 times)",
            options=ALLOCATE,
        ),
        Case("in one of six", six(3), Severity.WARNING, 10, {"allocations and frees": 1}, options=ALLOCATE),
        Case("in the first of six, which is warm-up", six(0), options=ALLOCATE),
        Case(
            "between two inferences",
            """
            nvtx 1:   [i.......]......[i.......]
            thread 1: L..........AAA..L.........
            stream 7: .#########.......########.
            """,
            Severity.WARNING,
            3,
            {"allocations and frees": 1},
            options=ALLOCATE,
        ),
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
            says="from a pool, in the stream's order, which waits for nothing",
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


def slow(reasons: str, *, who: int = 1) -> str:
    """Twelve inferences of 20 µs, and others of 40 where a thread is in so many calls of 20 µs, A, or does nothing."""
    turns = "".join(f".{each}.." for each in reasons) + "." * (12 - len(reasons))
    rows = {"nvtx 1": "", "thread 1": "", "thread 2": "", "stream 7": ""}
    for turn in turns:
        late = 0 if turn == "." else 20
        rows["nvtx 1"] += "[i" + "." * (late + 17) + "]"
        rows["thread 1"] += ("A" if turn == "A" and who == 1 else ".") * late + "L" + "." * 19
        rows["thread 2"] += ("A" if turn == "A" and who == 2 else ".") * late + "." * 20
        rows["stream 7"] += "." * (late + 1) + "#" * 17 + ".."
    return "\n".join(f"{label + ':':<10}{row}" for label, row in rows.items())


@pytest.mark.parametrize(
    ("reasons", "apis", "follows"),
    [
        ("AAA", ["cudaMalloc"] * 3, True),
        ("AAAA", ["cudaMalloc"] * 3 + ["cuModuleLoadData"], False),
        ("AAAx", ["cudaMalloc"] * 3, False),
    ],
    ids=["by the allocations", "one by a module", "one by something else"],
)
def test_inferences_that_are_slow_by_these_allocations_are_told_of_once(
    reasons: str, apis: list[str], follows: bool
) -> None:
    trace = drawn(slow(reasons), other_api=apis)
    assert slow_inferences.run(trace).status == Status.FINDINGS
    explains = only(allocations_in_steady_state, trace).explains
    assert ("slow inferences" in explains) == follows


def test_inferences_that_another_threads_allocations_make_slow_do_not_follow() -> None:
    """This thread's own are short, and not what they are slow by."""
    short = slow("AAA", who=2).replace("L...................L", "LA..................L")
    trace = drawn(short, other_api="cudaMalloc")
    assert "memory is allocated" in only(slow_inferences, trace).cause
    assert "slow inferences" not in only(allocations_in_steady_state, trace).explains


@pytest.mark.parametrize(("before", "found"), [("first", False), ("second", True)])
def test_what_is_allocated_before_the_first_is_set_up(before: str, found: bool) -> None:
    """A slow inference, then five that are not, before the first of which, or of the second, memory is allocated."""
    first, second = ("AAAA", "....") if before == "first" else ("....", "AAAA")
    text = f"""
        nvtx 1:   [{"i".ljust(38, ".")}]....[i......]....{"[i......]" * 4}
        thread 1: {"L".ljust(40, ".")}{first}L........{second}{"L........" * 4}
        stream 7: {".######".ljust(44, ".")}{".######".ljust(13, ".")}{".######.." * 4}
    """
    outcome = allocations_in_steady_state.run(drawn(text, **ALLOCATE))
    assert outcome.status == (Status.FINDINGS if found else Status.CLEAR)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        *((name, True) for name in ("cudaFree", "cudaHostAlloc", "cudaFreeHost", "cudaHostRegister")),
        *(
            (name, True)
            for name in ("cudaMallocManaged", "cudaMallocPitch", "cuMemAlloc_v2", "cuMemCreate", "cuMemMap")
        ),
        *((name, True) for name in ("cudaMallocFromPoolAsync_ptsz", "cuMemFreeAsync")),
        *((name, False) for name in ("cudaMemcpyAsync", "cuMemGetInfo", "cudaMemsetAsync", "cudaMallocFoo")),
        *((name, False) for name in ("cuModuleLoadData", "cudaGraphInstantiate", "cudaStreamSynchronize")),
    ],
)
def test_what_a_call_does_decides(name: str, found: bool) -> None:
    outcome = allocations_in_steady_state.run(drawn(TWO, other_api=name))
    assert outcome.status == (Status.FINDINGS if found else Status.CLEAR)
    assert [f"{name} (1 times)" in finding.cause for finding in outcome.findings] == [True] * found


@pytest.mark.parametrize("took", [5, 2000], ids=["short", "200 times as long as an inference"])
def test_a_long_allocation_between_inferences_is_no_pause(took: int) -> None:
    """A thread that is in a call does not pause, however long that takes."""
    idle = "." * took
    text = f"""
        nvtx 1:   {"[i......]" * 3}{idle}{"[i......]" * 3}
        thread 1: {"L........" * 3}{"A" * took}{"L........" * 3}
        stream 7: {".#######." * 3}{idle}{".#######." * 3}
    """
    finding = only(allocations_in_steady_state, drawn(text, **ALLOCATE))
    assert (finding.severity, finding.recoverable_ns) == (Severity.WARNING, 1000 * took)


@pytest.mark.parametrize(("length", "severity"), [(11, Severity.WARNING), (12, Severity.INFO)], ids=["5 %", "less"])
def test_5_percent_of_the_threads_time_is_a_warning(length: int, severity: Severity) -> None:
    """1 µs of two inferences, of which the first takes 9."""
    text = f"""
        nvtx 1:   [i......][i{"." * (length - 3)}]
        thread 1: L........LA{"." * (length - 2)}
        stream 7: .#######..{"#" * (length - 1)}
    """
    assert only(allocations_in_steady_state, drawn(text, **ALLOCATE)).severity == severity


def loop(allocating: int, inferences: int, length: int) -> str:
    """So many inferences of so many µs, of which some allocate for 1 µs."""
    rest = "." * (length - 2)
    calls = "".join(("LA" if at < allocating else "L.") + rest for at in range(inferences))
    return f"""
        nvtx 1:   {("[i" + rest[1:] + "]") * inferences}
        thread 1: {calls}
        stream 7: {(".#" + rest) * inferences}
    """


@pytest.mark.parametrize(
    ("allocating", "inferences", "length", "found"),
    [(2, 20, 11, True), (2, 21, 11, False), (1, 20, 5, True), (1, 21, 5, False)],
    ids=["in every tenth inference", "in fewer", "1 % of the time", "less"],
)
def test_few(allocating: int, inferences: int, length: int, found: bool) -> None:
    outcome = allocations_in_steady_state.run(drawn(loop(allocating, inferences, length), other_api="cudaFree"))
    assert outcome.status == (Status.FINDINGS if found else Status.CLEAR)


def test_what_was_collected_of_the_memory() -> None:
    usage = [
        {"time_ns": 12_500, "pid": 1000, "kind": "allocate", "size_bytes": 4096},
        {"time_ns": 13_500, "pid": 1000, "kind": "free", "size_bytes": 4096},
        {"time_ns": 12_500, "pid": 2000, "kind": "allocate", "size_bytes": 1},
        {"time_ns": 20_500, "pid": 1000, "kind": "allocate", "size_bytes": 1},
    ]
    trace = drawn(TWO, tables={"memory_usage": table("memory_usage", usage)}, **ALLOCATE)
    allocated = evidence_of(only(allocations_in_steady_state, trace), "allocated on the GPU")
    assert (allocated.value, allocated.unit, allocated.detail) == (4096, "bytes", "in 1 pieces")


def test_one_inference_is_no_steady_state() -> None:
    outcome = allocations_in_steady_state.run(drawn("nvtx 1:   [i.]\nthread 1: .AA.", **ALLOCATE))
    assert (outcome.status, outcome.reason) == (
        Status.COULD_NOT_RUN,
        "fewer than two inferences: there is no steady state to look into",
    )
