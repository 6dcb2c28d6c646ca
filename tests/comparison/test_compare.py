from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from comparison.loops import jitter, loop, outcome, unjudged
from drawing import table
from drawn_trace import drawn

from nsight_tools import compare, headline
from nsight_tools.comparison import Change, Effect, Metric, Verdict, regressed
from nsight_tools.comparison.families import family
from nsight_tools.findings import Severity
from nsight_tools.run_files import benchmark

if TYPE_CHECKING:
    from nsight_tools.analysis import Outcome
    from nsight_tools.comparison import Comparison, Difference
    from nsight_tools.trace import Trace

NONE: tuple[list[Outcome], list[Outcome]] = [], []


def compared(before: Trace, after: Trace, *outcomes: list[Outcome]) -> Comparison:
    return compare(before, after, names=("b", "a"), outcomes=(outcomes[0], outcomes[1]) if outcomes else NONE)


def named(differences: tuple[Difference, ...], name: str) -> Difference:
    return next(each for each in differences if each.name == name)


def aspects(comparison: Comparison, effect: Effect) -> list[str]:
    return [each.aspect for each in comparison.setup if each.effect is effect]


def test_two_runs_of_the_same_are_noise() -> None:
    found = compared(loop(jitter(60, 20, seed=1)), loop(jitter(60, 20, seed=2)))
    assert found.throughput.verdict is found.latency.verdict is Verdict.NOISE
    assert found.setup == ()
    assert all(each.share is None for each in found.buckets)
    assert regressed(found, 0) is False


def test_a_longer_kernel_makes_it_slower_and_compute_explains_it() -> None:
    found = compared(loop(jitter(60, 20, seed=1)), loop(jitter(60, 30, seed=2)))
    assert found.verdict is Verdict.SLOWER
    assert found.wall is not None
    assert found.traced_wall is not None
    assert found.wall.difference == pytest.approx(10_000, rel=0.1)
    assert found.wall.effect == 1
    assert found.throughput.verdict is Verdict.SLOWER
    compute = named(found.buckets, "compute")
    assert compute.change is Change.MORE
    assert compute.share == pytest.approx(1, abs=0.1)
    assert sum(each.difference or 0 for each in found.buckets) == pytest.approx(found.traced_wall.difference)
    assert named(found.kernels, "kernel").difference == pytest.approx(compute.difference)
    assert [regressed(found, percent) for percent in (5, 30, 60)] == [True, True, False]


def test_the_way_back_is_faster_and_no_regression() -> None:
    found = compared(loop(jitter(60, 30, seed=2)), loop(jitter(60, 20, seed=1)))
    assert found.verdict is Verdict.FASTER
    assert regressed(found, 0) is False


def test_warm_up_is_left_out_of_both() -> None:
    found = compared(loop([200, *jitter(60, 20)]), loop([200, *jitter(60, 20)]))
    assert (found.before.inferences, found.before.left_out) == (60, 1)


def test_few_inferences_tell_nothing() -> None:
    found = compared(loop(jitter(19, 20)), loop(jitter(60, 30)))
    assert found.verdict is Verdict.CANNOT_TELL
    assert "BEFORE has 19" in found.untold[0]
    assert regressed(found, 5) is None


def test_another_batch_is_judged_by_the_input_and_another_shape_is_not() -> None:
    """Twice the inputs in 45 µs, where one took 25: faster for each, slower for an inference."""
    before = loop(jitter(40, 20), grid=100, size_bytes=1000)
    batch = compared(before, loop(jitter(40, 40), grid=200, size_bytes=2000))
    assert batch.leads is Metric.THROUGHPUT
    assert (batch.throughput.verdict, batch.latency.verdict) == (Verdict.FASTER, Verdict.SLOWER)
    assert aspects(batch, Effect.CHANGE) == ["batch"]
    assert (batch.before.inputs, batch.after.inputs) == (1, 2)
    assert [regressed(batch, 5, metric) for metric in (None, "throughput", "latency", "both")] == [
        *(False, False, True, True),
    ]
    back = compared(loop(jitter(40, 40), grid=200, size_bytes=2000), before)
    assert (back.throughput.verdict, back.latency.verdict) == (Verdict.SLOWER, Verdict.FASTER)
    shape = compared(before, loop(jitter(40, 40), grid=170, size_bytes=1700))
    assert shape.throughput.verdict is shape.latency.verdict is Verdict.NOT_COMPARABLE
    assert shape.latency.measured is Verdict.SLOWER
    assert aspects(shape, Effect.BLOCKS) == ["bytes copied to the GPU, of an inference"]
    assert regressed(shape, 5) is None


def test_what_is_copied_and_the_tactics_may_be_the_change() -> None:
    before = loop(jitter(40, 20), grid=100, size_bytes=1000)
    same_work = compared(before, loop(jitter(40, 20), grid=100, size_bytes=250))
    assert same_work.verdict is Verdict.NOISE
    assert aspects(same_work, Effect.CHANGE) == ["bytes copied to the GPU, of an inference"]
    tactics = compared(before, loop(jitter(40, 10), name="cudnn_conv", grid=37, size_bytes=1000))
    assert tactics.verdict is Verdict.FASTER
    assert tactics.setup == ()


def test_kernels_of_one_side_only_are_matched_by_family() -> None:
    found = compared(loop(jitter(40, 20), name="sm80_xmma_fprop_a"), loop(jitter(40, 10), name="sm90_xmma_fprop_b"))
    (kernel,) = found.kernels
    assert kernel.name == "convolution, other tactics"
    assert kernel.change is Change.LESS


def built(chosen: dict[str, tuple[str, int]], **build: object) -> Trace:
    """A run of an engine whose layers have these tactics, by name and number."""
    layers = [
        {
            "layer": at, "name": name, "tactic": tactic, "attributes": json.dumps({"TacticValue": number}),
            "source": "inspector",
        }
        for at, (name, (tactic, number)) in enumerate(chosen.items())
    ]  # fmt: skip
    trace = loop(jitter(40, 20), tables={"layers": table("layers", layers)})
    trace.manifest = {**trace.manifest, "run": {"build": build}}
    return trace


def test_two_builds_that_chose_other_tactics() -> None:
    before = built({"a": ("one", 1), "b": ("two", 2), "c": ("three", 3)}, tactics={"layers": 3, "sha256": "x"})
    after = built({"a": ("one", 1), "b": ("two", 9), "c": ("other", 3)}, tactics={"layers": 3, "sha256": "y"})
    found = compared(before, after)
    (change,) = [each for each in found.setup if each.effect is Effect.CHANGE]
    assert (change.aspect, change.before, change.after) == ("tactics", "b: two 2", "b: two 9")
    assert change.why.startswith("2 of 3 layers have another tactic")
    assert "The two builds chose other tactics." in found.notes
    same = compared(before, before)
    assert same.setup == ()
    assert "The two builds chose the same tactics." in same.notes


def test_builds_are_told_phase_by_phase() -> None:
    before = built({}, phases_s={"parse": 1.0, "build": 40.0, "serialize": None})
    after = built({}, phases_s={"parse": 1.0, "build": 10.0, "serialize": 2.0})
    (note,) = compared(before, after).notes
    assert (
        note
        == "The build took 41.0 s before and 13.0 s after, once each: parse 1.00 s → 1.00 s, build 40.0 s → 10.0 s."
    )
    assert compared(before, built({}, phases_s="x", tactics=[1])).notes == ()


def test_another_driver_mode_confounds() -> None:
    sides = []
    for mode in ("default", "exclusive process"):
        trace = built({})
        gpus = [{"persistence_mode": True, "compute_mode": mode}]
        trace.manifest = {**trace.manifest, "run": {"machine": {"before": {"gpus": gpus}}}}
        sides.append(trace)
    assert aspects(compared(*sides), Effect.CONFOUNDS) == ["driver mode"]
    assert compared(sides[0], sides[0]).setup == ()


def test_another_gpu_blocks_and_another_driver_confounds() -> None:
    before, after = loop(jitter(40, 20), gpu={"name": "L4"}), loop(jitter(40, 20), gpu={"name": "H200"})
    before.manifest = {**before.manifest, "system": {"driver": "550.1", "tensorrt": "10.9"}}
    after.manifest = {**after.manifest, "system": {"driver": "580.2", "tensorrt": "11.0"}}
    found = compared(before, after)
    assert aspects(found, Effect.BLOCKS) == ["GPU"]
    assert aspects(found, Effect.CONFOUNDS) == ["driver", "TensorRT"]
    assert "trtexec uses a CUDA graph" in found.setup[-1].why


def test_pinned_memory_is_the_change() -> None:
    found = compared(loop(jitter(40, 20), memory="pageable"), loop(jitter(40, 20), memory="pinned"))
    assert aspects(found, Effect.CHANGE) == ["host memory of the copies"]
    assert found.verdict is Verdict.UNDECIDED


@pytest.mark.parametrize(
    ("before", "after", "effects"),
    [
        (outcome("THR002"), outcome("THR002", 10_000), [Effect.BLOCKS]),
        (outcome("THR002"), outcome("THR002", 100, severity=Severity.INFO), [Effect.CONFOUNDS]),
        (outcome("THR002", 10_000), outcome("THR002", 10_100), [Effect.CONFOUNDS]),
        (outcome("THR001", 100, severity=Severity.INFO), outcome("THR001", 120, severity=Severity.INFO), []),
        (unjudged("THR001"), unjudged("THR001"), []),
        (outcome("CAP001", 0, severity=Severity.ERROR), outcome("CAP001"), [Effect.BLOCKS]),
        (outcome("PCI001", 10_000), outcome("PCI001"), []),
    ],
)
def test_conditions_of_one_side_only(before: Outcome, after: Outcome, effects: list[Effect]) -> None:
    found = compared(loop(jitter(40, 20)), loop(jitter(40, 20)), [before], [after])
    assert [each.effect for each in found.setup] == effects


def clocked(kernels: list[int], mhz: float) -> Trace:
    """A loop with a sample of the clock in every kernel."""
    plain = loop(kernels)
    starts = plain.table("kernels")["start_ns"].to_pylist()
    metric = "GPC Clock Frequency [MHz]"
    rows = [
        {"time_ns": start + 500, "device": 0, "metric": metric, "means": "sm_clock", "value": mhz + at % 3}
        for at, start in enumerate(starts)
    ]
    return loop(kernels, tables={"gpu_metrics": table("gpu_metrics", rows)})


def test_a_lower_clock_explains_longer_kernels() -> None:
    found = compared(clocked(jitter(60, 20), 1980), clocked(jitter(60, 22), 1800))
    assert aspects(found, Effect.CONFOUNDS) == ["SM clock, while its kernels run"]
    assert found.verdict is Verdict.SLOWER
    assert any(note.endswith("the clock explains it.") for note in found.notes)


def test_a_promise_is_held_against_what_came() -> None:
    before, after = loop(jitter(60, 30), copy=12), loop(jitter(60, 30), copy=2)
    findings = [outcome("FUS002", 5_000), outcome("PCI002", 11_000), outcome("PCI006", 2_000), outcome("THR001", 1_000)]
    now = [outcome("FUS002", 5_000), outcome("PCI002"), outcome("PCI006", 100), unjudged("THR001")]
    found = compared(before, after, findings, now)
    first, second, third, last = found.predictions
    assert [first.code, second.code, third.code, last.code] == ["PCI002", "FUS002", "PCI006", "THR001"]
    assert (first.status, first.remaining_ns, first.shared_with) == ("gone", 0, ("PCI006",))
    assert first.came is not None
    assert first.came.difference == pytest.approx(-10_000, rel=0.05)
    assert (second.status, second.remaining_ns) == ("still_there", 5_000)
    assert second.came is not None
    assert second.came.change in {Change.NOISE, Change.SAME}
    assert (third.status, third.remaining_ns) == ("smaller", 100)
    assert (last.status, last.remaining_ns) == ("unjudged", None)


def benchmarked(kernels: list[int], *runs: list[int]) -> Trace:
    """A loop with untraced runs of these walls: the benchmark, and the same again."""
    rows = [
        {"run": benchmark(number), "inference": at, "start_ns": at * 100_000, "wall_ns": wall}
        for number, walls in enumerate(runs, 1)
        for at, wall in enumerate(walls)
    ]
    rows += [{"run": "timing", "inference": at, "start_ns": at, "wall_ns": 7} for at in range(50)]
    return loop(kernels, tables={"benchmark": table("benchmark", rows)})


def test_an_untraced_benchmark_is_the_headline() -> None:
    before = benchmarked(jitter(40, 20), jitter(50, 18_000, 100, seed=1))
    after = benchmarked(jitter(40, 30), jitter(50, 17_000, 100, seed=2))
    found = compared(before, after)
    assert found.latency.source == found.throughput.source == "untraced"
    assert found.latency.verdict is Verdict.FASTER
    assert found.throughput.verdict is Verdict.NOISE  # one each 100 µs, on both sides
    assert found.wall is not None
    assert found.wall.difference == pytest.approx(-1_000, abs=80)
    assert found.traced_wall is not None
    assert found.traced_wall.change is Change.MORE
    assert compared(before, loop(jitter(40, 30))).latency.source == "mixed"
    assert compared(loop(jitter(40, 20)), loop(jitter(40, 30))).latency.source == "trace"


@pytest.mark.parametrize(
    ("cores", "before", "after", "blocked"),
    [(32, 0.2, 6.0, True), (32, 3.0, 4.5, False), (4, 0.2, 1.3, True), (4, 0.2, 0.9, False)],
)
def test_a_host_that_others_kept_busy_on_one_side(cores: int, before: float, after: float, blocked: bool) -> None:
    """By a core or a twentieth of all, whichever is more: what launches and waits take is not the change's alone."""
    sides = []
    for busy, seed in ((before, 1), (after, 2)):
        trace = benchmarked(jitter(40, 20), jitter(50, 18_000 - 1_000 * seed, 100, seed=seed))
        told = {"benchmark": {"cores": {"count": cores, "busy_with_others": busy}}}
        trace.manifest = {**trace.manifest, "run": {"measured": told}}
        sides.append(trace)
    found = compared(*sides)
    assert found.latency.measured is Verdict.FASTER
    assert (found.latency.verdict is Verdict.NOT_COMPARABLE) is blocked
    assert aspects(found, Effect.BLOCKS) == ["cores that other programs kept busy"] * blocked
    assert compared(sides[0], benchmarked(jitter(40, 20), jitter(50, 16_000, 100))).setup == ()


def repeated(times: int, seed: int, apart: float) -> Trace:
    """A loop that is measured so often, each time by as much slower or faster as chance has it: `apart`, in ns."""
    drawn = np.random.default_rng(seed).normal(18_000, apart, times)
    return benchmarked(jitter(40, 20), *(jitter(50, round(each), 5, seed=seed) for each in drawn))


def test_two_repeats_that_are_close_by_chance_make_no_verdict() -> None:
    """The same on both sides: runs differ by more than any run's own interval, and two say little of by how much."""
    found = [compared(repeated(2, seed, 100), repeated(2, 100 + seed, 100)).latency.verdict for seed in range(20)]
    assert set(found) == {Verdict.NOISE}


def test_many_repeats_tell_less_than_is_usual_apart() -> None:
    before, after = repeated(6, 1, 20), repeated(6, 2, 20)
    found = compared(before, after).latency
    assert found.verdict is Verdict.NOISE
    assert found.difference is not None
    assert "untraced runs, means of 6 and 6)" in headline(compared(before, after))
    slower = benchmarked(jitter(40, 20), *(jitter(50, 18_300 + 20 * number, 5, seed=number) for number in range(6)))
    told = compared(before, slower).latency
    assert told.verdict is Verdict.SLOWER  # by 1.9 %, and the first of the runs by 1.6
    assert told.repeats == (6, 6)
    p50 = named(compared(before, slower).measurements, "p50")
    assert (p50.change, p50.difference) == (Change.UNKNOWN, pytest.approx(350, abs=20))
    # Single runs of BEFORE lie 44 ns apart, and the means of six are told from 27 on.
    near = benchmarked(jitter(40, 20), *(jitter(50, 18_037 + 2 * number, 5, seed=number) for number in range(6)))
    apart = named(compared(before, near).measurements, "p50")
    assert (apart.change, apart.difference) == (Change.UNKNOWN, pytest.approx(36, abs=6))
    assert told.difference is not None
    assert told.difference.difference == pytest.approx(350, abs=20)
    assert told.difference.low == pytest.approx(350 - 3.25 * np.hypot(37.4, 17) / np.sqrt(6), abs=40)
    alone = compared(before, loop(jitter(40, 20)))
    assert alone.latency.source == "mixed"
    assert alone.latency.repeats == (6, 0)
    once = compared(repeated(1, 1, 20), repeated(1, 7, 20)).latency.difference
    assert once is not None
    assert "capture --repeat tells" in once.detail


def test_what_repeats_differ_by_is_noise() -> None:
    """AFTER is faster by 1 µs beyond any doubt of its own run, and was slower by as much when it was measured again."""
    once = benchmarked(jitter(40, 20), jitter(50, 18_000, 100, seed=1))
    faster = jitter(50, 17_000, 100, seed=2)
    assert compared(once, benchmarked(jitter(40, 20), faster)).verdict is Verdict.FASTER
    again = benchmarked(jitter(40, 20), faster, jitter(60, 18_100, 100, seed=3), jitter(50, 17_400, 100, seed=4))
    found = compared(once, again)
    assert found.verdict is Verdict.NOISE
    assert found.wall is not None
    assert found.wall.difference == pytest.approx(-500, abs=80)  # the mean of three runs
    assert found.wall.drift == pytest.approx(1_100, abs=80)
    assert "untraced runs, means of 1 and 3, too few to tell less than 6.1 % from noise" in headline(found)
    assert found.after.walls.size == 160
    p50 = named(found.measurements, "p50")
    assert p50.difference == pytest.approx(-500, abs=80)
    assert p50.change is Change.NOISE
    assert p50.drift == pytest.approx(1_100, abs=80)
    (note,) = [each for each in found.notes if "differs from itself" in each]
    assert note.startswith("AFTER was measured 3 times, and differs from itself by up to ")
    assert "with --repeat" in " ".join(found.untold)
    vague = benchmarked(jitter(40, 20), jitter(50, 17_100, 6_000, seed=2))
    steady = benchmarked(jitter(40, 20), *(jitter(50, 18_000, 5, seed=number) for number in range(3)))
    assert compared(steady, vague).latency.verdict is Verdict.NOISE  # by 5 %, of one run that knows it to 10
    close = benchmarked(jitter(40, 20), faster, jitter(60, 17_200, 100, seed=3))
    told = compared(once, close)
    assert told.verdict is Verdict.FASTER
    assert named(told.measurements, "p50").change is Change.UNKNOWN
    assert "with --repeat" not in " ".join(compared(close, again).untold)


def test_what_both_captures_measured_stands_side_by_side() -> None:
    """Without an interval; what one side did not measure is left out."""
    sides = []
    for engine, build in ((900, 40.0), (800, None)):
        trace = benchmarked(jitter(40, 20), jitter(50, 18_000, 100, seed=1))
        memory = {"engine_bytes": engine, "activations_bytes": 7}
        run = {"measured": {"benchmark": {"memory": memory}}, "build": {"seconds": build}}
        trace.manifest = {**trace.manifest, "run": run}
        sides.append(trace)
    found = compared(*sides)
    assert [each.name for each in found.measurements] == [
        *("inferences a second", "p50", "p90", "p95", "p99", "engine on the GPU", "activations of a context"),
    ]
    memory = named(found.measurements, "engine on the GPU")
    assert (memory.before, memory.after, memory.difference, memory.low) == (900, 800, -100, None)
    assert memory.change is Change.UNKNOWN
    assert named(found.measurements, "activations of a context").change is Change.SAME
    both = compared(sides[0], sides[0])
    assert named(both.measurements, "build").before == 40e9


def test_what_came_of_a_promise_of_host_time_is_told_by_the_untraced_walls() -> None:
    """As traced nothing changed on the host; without the profiler 3 µs came back, and kernels took 2 of them."""
    before = benchmarked(jitter(60, 20), jitter(60, 40_000, 100, seed=1))
    after = benchmarked(jitter(60, 22), jitter(60, 37_000, 100, seed=2))
    promised = [outcome("LCH001", 6_000), outcome("FUS002", 1_000)]
    found = compared(before, after, promised, [outcome("LCH001"), outcome("FUS002")])
    came = {each.code: each.came for each in found.predictions}
    assert came["LCH001"] is not None
    assert came["LCH001"].difference == pytest.approx(-5_000, abs=100)
    assert came["LCH001"].change is Change.LESS
    assert came["FUS002"] is not None
    assert came["FUS002"].difference == pytest.approx(2_000, abs=100)


def launched(waits: list[int], walls: list[int], *, graph: bool) -> Trace:
    """One engine of three kernels, launched one by one or as a CUDA graph, which waits so many µs for the host first.

    `walls` are the times of its untraced benchmark in ns.
    """
    lines = {"stream 7": "", "thread 1": "", "nvtx 1": ""}
    for wait in waits:
        lines["stream 7"] += "....>>" + "." * wait + ("nnmmnn" if graph else "##%%##") + "..."
        lines["thread 1"] += (".C.G.." if graph else ".C.LlL") + "." * wait + "S" * 7 + ".."
        lines["nvtx 1"] += "[i" + "." * (wait + 11) + "]."
    rows = [
        {"run": "benchmark", "inference": at, "start_ns": at * 10**6, "wall_ns": wall} for at, wall in enumerate(walls)
    ]
    text = "\n".join(f"{label + ':':<10} {line}" for label, line in lines.items())
    return drawn(text, tables={"benchmark": table("benchmark", rows)})


def test_a_graph_against_its_eager_engine_is_judged_by_the_untraced_runs() -> None:
    """Traced node by node, the graph looks slower than it is; without the profiler it is what it was made for."""
    eager = launched(jitter(40, 5, seed=1), jitter(300, 16_230, 90, seed=2), graph=False)
    graph = launched(jitter(40, 9, seed=3), jitter(300, 15_140, 90, seed=4), graph=True)
    found = compared(eager, graph)
    assert (found.verdict, found.latency.source) == (Verdict.FASTER, "untraced")
    assert found.wall is not None
    assert found.wall.low is not None
    assert found.wall.high is not None
    assert found.wall.low < -1_090 < found.wall.high < 0
    assert found.traced_wall is not None
    assert found.traced_wall.change is Change.MORE
    assert aspects(found, Effect.CHANGE) == ["launches"]
    assert not found.blocking
    calls = named(found.work, "launch and copy calls")
    assert (calls.before, calls.after, calls.change) == (4, 2, Change.LESS)
    assert named(found.work, "kernels").change is Change.SAME
    assert found.before.walls.size == found.after.walls.size == 300
    assert headline(found).startswith("faster in latency: 16.2 µs → 15.1 µs per inference")
    assert "untraced runs" in headline(found)
    assert regressed(compared(graph, eager), 5) is True


def test_without_inferences_kernels_are_compared_call_by_call() -> None:
    def calls(gap: int) -> Trace:
        return drawn("stream 7: " + ("####" + "." * gap) * 40)

    found = compared(calls(1), calls(6))
    assert found.verdict is Verdict.CANNOT_TELL
    (kernel,) = found.kernels
    assert (kernel.before, kernel.after, kernel.change) == (4_000, 4_000, Change.SAME)
    assert named(found.work, "share of the time: idle").difference == pytest.approx(0.4, abs=0.01)
    assert "What changed lies in what runs between the kernels" in found.notes[0]
    assert any("--inference-range" in each for each in found.untold)


def test_inferences_on_one_side_only_are_not_compared() -> None:
    found = compared(loop(jitter(40, 20)), drawn("stream 7: " + "####." * 40))
    assert aspects(found, Effect.BLOCKS) == ["inferences"]
    assert found.verdict is Verdict.CANNOT_TELL


def test_an_empty_trace_is_no_accident() -> None:
    found = compared(drawn("stream 7: ####"), drawn("nvtx 1: [x]"))
    assert found.verdict is Verdict.CANNOT_TELL
    assert found.kernels == ()


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        ("sm80_xmma_fprop_implicit_gemm_f16f16", "convolution"),
        ("sm80_xmma_gemm_f16f16_f16f16_f16_tn", "matrix multiplication"),
        ("nvjet_tst_192x192_64x4", "matrix multiplication"),
        ("flash_fwd_kernel", "attention"),
        ("ncclDevKernel_SendRecv", "communication"),
        ("copyPackedKernel", "format conversion"),
        ("vectorized_layer_norm_kernel", "normalization"),
        ("generatedNativePointwise", "pointwise"),
        ("__myl_Fc_0x1", "generated by Myelin"),
        ("my_kernel", "other"),
    ],
)
def test_families(kernel: str, expected: str) -> None:
    assert family(kernel) == expected
