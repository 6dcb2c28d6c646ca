"""What differs between two traces besides the times: machine, measurement, work, and the change itself.

Each difference is one of three. It *blocks* one verdict or both, where the two do not measure the same thing: another
GPU, a GPU that was shared on one side, requests that come at another program's pace. It *confounds*, where it may have
caused part of the difference: driver, clock, versions, tracing. Or it may be the very *change* that is judged: streams,
threads, a batch, a CUDA graph, pinned memory, another precision, other tactics. Facts that one side does not record are
not compared.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from nsight_tools import units
from nsight_tools.analysis import Status
from nsight_tools.capture import machine
from nsight_tools.comparison.alike import IN_FLIGHT
from nsight_tools.comparison.conditions import SM_CLOCK
from nsight_tools.comparison.inputs import FLAGS_11
from nsight_tools.comparison.result import BOTH, Change, Effect, Metric, SetupDifference
from nsight_tools.findings import Severity
from nsight_tools.run.engine import tensors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from nsight_tools.analysis import Outcome
    from nsight_tools.comparison.inputs import Carried
    from nsight_tools.comparison.result import Difference
    from nsight_tools.comparison.runs import ComparedRun
    from nsight_tools.findings import Finding

    Pair = tuple[ComparedRun, ComparedRun]

CLOCK_SHARE = 0.02
"""A clock that differs by more than this changes kernel times by about as much: 2 % is what trtexec calls unstable."""
CAPTURE = "capture"
"""The topic of the analysis that says whether a capture is fit to conclude from."""
CONDITIONS = frozenset({"clock", "contention", "variation", "limits"})
"""Topics of analyses that judge what an inference ran under, and not what it does."""
CONDITIONS_SHARE = 0.05
"""Of an inference: what conditions cost one side more than the other, from which on they are the difference. Of a
host's cores: what other programs keep busy for one side more than for the other."""


def differences(
    runs: Pair,
    conditions: Sequence[Difference],
    outcomes: tuple[Sequence[Outcome], Sequence[Outcome]],
    load: Carried,
) -> tuple[SetupDifference, ...]:
    """Every difference in set-up that the traces tell: what blocks first, then what confounds, then the change.

    `load` has those of what an inference carries.
    """
    measured = all(run.untraced.walls.size for run in runs)
    differing = [
        *_machine(runs),
        *_cores(runs),
        *_judged_conditions(runs, outcomes, measured=measured),
        *_clock(conditions),
        *_measurement(runs, measured=measured),
        *load.setup,
        *_engine(runs),
        *_how(runs),
    ]
    return tuple(sorted(differing, key=lambda difference: tuple(Effect).index(difference.effect)))


def _machine(runs: Pair) -> Iterator[SetupDifference]:
    before, after = ([_gpu(gpu) for gpu in run.summary.gpus] for run in runs)
    if before and after and {*before} != {*after}:
        yield _differ("GPU", (_list(before), _list(after)), Effect.BLOCKS, "another GPU runs at another speed", BOTH)
    elif len(before) != len(after) and before and after:
        why = "throughput is that of a GPU"
        yield _differ("GPUs", (str(len(before)), str(len(after))), Effect.CHANGE, why)
    system: tuple[dict[str, Any], ...] = tuple(dict(run.trace.manifest.get("system") or {}) for run in runs)
    words = {
        "driver": "a driver can change kernels, launches and clocks",
        "cuda": "libraries of another CUDA version bring other kernels",
        "cpu": "launches and everything else on the host depend on the CPU",
        "os": "launches go through the operating system's scheduler",
        "tensorrt": "another TensorRT version chooses other tactics and fusions",
    }
    for fact, why in words.items():
        one, other = (known.get(fact) for known in system)
        if one and other and one != other and "unknown" not in {one, other}:
            flags = fact == "tensorrt" and (_major(one) < 11) != (_major(other) < 11)
            label = {"cuda": "CUDA", "cpu": "CPU", "os": "operating system", "tensorrt": "TensorRT"}.get(fact, fact)
            reason = f"{why}; {FLAGS_11}" if flags else why
            yield _differ(label, (str(one), str(other)), Effect.CONFOUNDS, reason)

    modes = ["; ".join(_modes(run)) for run in runs]
    if all(modes) and modes[0] != modes[1]:
        why = "persistence, compute mode, MIG, MPS and a driver model decide what a launch costs and what is shared"
        yield _differ("driver mode", modes, Effect.CONFOUNDS, why)


def _modes(run: ComparedRun) -> list[str]:
    recorded = dict(run.trace.manifest.get("run") or {}).get("machine")
    before = recorded.get("before") if isinstance(recorded, dict) else None
    return machine.modes(before) if isinstance(before, dict) else []


def _cores(runs: Pair) -> Iterator[SetupDifference]:
    """Other programs on the host, while each side was measured without the profiler."""
    before, after = (run.summary.measured.host if run.untraced.walls.size else None for run in runs)
    if before is None or after is None:
        return
    differ = abs(before.busy_with_others - after.busy_with_others)
    if differ >= max(1.0, CONDITIONS_SHARE * max(before.cores, after.cores)):
        said = (f"{units.number(each.busy_with_others)} of {each.cores}" for each in (before, after))
        why = "launches and waits take longer beside other programs: measure both sides on a host that is as busy"
        yield _differ("cores that other programs kept busy", said, Effect.BLOCKS, why, BOTH)


def _differ(
    aspect: str, values: Iterable[str], effect: Effect, why: str, blocks: tuple[Metric, ...] = ()
) -> SetupDifference:
    before, after = values
    return SetupDifference(aspect, before, after, effect, why, blocks)


def _gpu(gpu: dict[str, Any]) -> str:
    sms = f" ({gpu['sm_count']} SMs)" if gpu.get("sm_count") else ""
    return f"{gpu.get('name') or 'unnamed GPU'}{sms}"


def _major(version: object) -> int:
    head = str(version).partition(".")[0]
    return int(head) if head.isdecimal() else 0


def _judged_conditions(
    runs: Pair, outcomes: tuple[Sequence[Outcome], Sequence[Outcome]], *, measured: bool
) -> Iterator[SetupDifference]:
    """What the analyses say of clocks and other processes, and what spoils a capture.

    A spoilt trace says nothing against times that both sides have `measured` without the profiler.
    """
    by_code = [{outcome.code: outcome for outcome in side} for side in outcomes]
    for code in sorted({*by_code[0], *by_code[1]}):
        sides = [side.get(code) for side in by_code]
        findings = [_said(outcome) for outcome in sides]
        ranks = [_rank(_worst(outcome)) for outcome in sides]
        topic = next(outcome.topic for outcome in sides if outcome is not None)
        costs = [_cost(outcome) / float(np.median(run.wall)) for outcome, run in zip(sides, runs, strict=True)]
        if topic == CAPTURE and any(_spoilt(outcome) for outcome in sides):
            why = "a capture that is not fit to conclude from is not fit to compare"
            effect = Effect.CONFOUNDS if measured else Effect.BLOCKS
            yield _differ(f"capture ({code})", findings, effect, why, () if measured else BOTH)
        elif topic in CONDITIONS and abs(costs[0] - costs[1]) >= CONDITIONS_SHARE:
            why = f"it costs {units.share(costs[0])} of an inference before and {units.share(costs[1])} after"
            yield _differ(f"GPU conditions ({code})", findings, Effect.BLOCKS, why, BOTH)
        elif topic in CONDITIONS and (ranks[0] != ranks[1] or ranks[0] > 1):
            why = "the GPU may not have had the same to give to both"
            yield _differ(f"GPU conditions ({code})", findings, Effect.CONFOUNDS, why)


def _spoilt(outcome: Outcome | None) -> bool:
    return outcome is not None and any(finding.severity is Severity.ERROR for finding in outcome.findings)


def _cost(outcome: Outcome | None) -> float:
    """What an inference loses by an analysis: the largest of its bounds, since they may count the same time."""
    findings = outcome.findings if outcome else ()
    return max((finding.recoverable_ns_per_inference or 0.0 for finding in findings), default=0.0)


def _worst(outcome: Outcome | None) -> Finding | None:
    return max(outcome.findings, key=_rank) if outcome and outcome.findings else None


def _rank(finding: Finding | None) -> int:
    """0 for no finding, 1 for info, 2 for what is worth acting on."""
    return 0 if finding is None else 1 if finding.severity is Severity.INFO else 2


def _said(outcome: Outcome | None) -> str:
    if finding := _worst(outcome):
        return finding.message
    silent = {Status.CLEAR, Status.NOT_APPLICABLE}
    return "nothing found" if outcome is not None and outcome.status in silent else "could not be judged"


def _clock(conditions: Sequence[Difference]) -> Iterator[SetupDifference]:
    for condition in conditions:
        ratio = condition.relative(condition.difference)
        if (
            condition.name == SM_CLOCK
            and ratio is not None
            and abs(ratio) > CLOCK_SHARE
            and condition.change is not Change.NOISE
        ):
            clocks = (units.quantity(value, condition.unit) for value in (condition.before, condition.after))
            scaled = 1 / (1 + ratio) - 1
            word = "more" if scaled > 0 else "less"
            why = f"kernels that the clock limits take {units.share(abs(scaled))} {word} time by that alone"
            yield _differ(condition.name, clocks, Effect.CONFOUNDS, why)


def _measurement(runs: Pair, *, measured: bool) -> Iterator[SetupDifference]:
    """What was taken for an inference, how inferences came, and how that was recorded."""
    yield from _inferences(runs)
    yield from _pace(runs)
    yield from _recording(runs, measured=measured)


def _inferences(runs: Pair) -> Iterator[SetupDifference]:
    """What an inference is on each side."""
    sources = [" and ".join(run.sources) for run in runs]
    chosen = [run.trace.manifest["source"].get("inference_range") or "" for run in runs]
    if sources[0] != sources[1]:
        ranged = any("inference_range" in run.sources for run in runs)
        why = "a range can hold host work that an enqueue or a graph launch does not"
        effect = Effect.BLOCKS if ranged else Effect.CONFOUNDS
        yield _differ("inferences", sources, effect, why, (Metric.LATENCY,) if ranged else ())
    elif chosen[0] != chosen[1]:
        why = "other ranges were named as inferences"
        yield _differ("--inference-range", (option or "default" for option in chosen), Effect.BLOCKS, why, BOTH)


def _pace(runs: Pair) -> Iterator[SetupDifference]:
    """When inferences come, and how many are under way."""
    before, after = runs
    if any(run.paced for run in runs):
        paces = (f"every {units.duration(float(run.periods.mean()))}" if run.paced else "its own" for run in runs)
        why = "inferences come when they are asked for: how many a second there could be is not seen"
        yield _differ("pace", paces, Effect.BLOCKS, why, (Metric.THROUGHPUT,))
    flights = sorted((before.in_flight, after.in_flight))
    if before.threads != after.threads or flights[1] > IN_FLIGHT * flights[0]:
        in_flight = (f"{run.in_flight:.2g}, from {_threads(run.threads)}" for run in runs)
        why = "an inference that others overlap waits for them: its latency grows where throughput does"
        yield _differ("inferences in flight", in_flight, Effect.CHANGE, why)


_RECORDED = {
    "graph_trace": "CUDA graphs traced as",
    "memory_usage": "memory usage",
    "cpu_sampling_hz": "CPU sampling",
}
"""The options of a capture that decide what the profiler costs."""


def _recording(runs: Pair, *, measured: bool) -> Iterator[SetupDifference]:
    """What the profiler was asked for, and which one it was."""
    before, after = runs
    captures = [dict(run.trace.manifest.get("capture") or {}) for run in runs]
    for option, label in _RECORDED.items():
        one, other = (capture.get(option) for capture in captures)
        matters = option != "graph_trace" or (before.graphs and after.graphs)
        if one is not None and other is not None and one != other and matters:
            why = "the profiler costs another amount of time: node by node about a tenth of an inference"
            # Two untraced benchmarks are the same whatever the trace beside them holds.
            spoilt = option == "graph_trace" and not measured
            effect = Effect.BLOCKS if spoilt else Effect.CONFOUNDS
            told = why if spoilt else why.partition(":")[0]
            yield _differ(label, (str(one), str(other)), effect, told, BOTH if spoilt else ())
    versions = [run.summary.nsys_version or "" for run in runs]
    if all(versions) and versions[0] != versions[1]:
        why = "another version of Nsight Systems costs another amount of time"
        yield _differ("Nsight Systems", versions, Effect.CONFOUNDS, why)


def _engine(runs: Pair) -> Iterator[SetupDifference]:
    names = [set(run.trace.table("layers", ["name"])["name"].to_pylist()) for run in runs]
    if all(names) and names[0] != names[1]:
        common = len(names[0] & names[1])
        layers_of = (f"{len(layers):,} layers" for layers in names)
        why = f"another engine: {common:,} layers have the same name in both"
        yield _differ("engine", layers_of, Effect.CHANGE, why)
    types = [_precisions(run) for run in runs]
    if all(types) and types[0] != types[1]:
        yield _differ("precision of the layers' outputs", types, Effect.CHANGE, "other precisions take other kernels")
    elif names[0] == names[1]:
        yield from _tactics(runs)


def _tactics(runs: Pair) -> Iterator[SetupDifference]:
    """Of layers that both engines have: which tactics the builder chose otherwise."""
    before, after = (_chosen(run) for run in runs)
    both = before.keys() & after.keys()
    others = sorted(name for name in both if before[name] != after[name])
    if others:
        tactics_of = (f"{others[0]}: {' '.join(side[others[0]])}" for side in (before, after))
        why = (
            f"{len(others):,} of {len(both):,} layers have another tactic: a build times them anew, unless a timing "
            "cache has them"
        )
        yield _differ("tactics", tactics_of, Effect.CHANGE, why)


def _chosen(run: ComparedRun) -> dict[str, tuple[str, ...]]:
    """A layer's tactic by name and number, where the engine tells it."""
    tactics = {}
    for layer in run.trace.table("layers", ["name", "tactic", "attributes"]).to_pylist():
        number = json.loads(layer["attributes"] or "{}").get("TacticValue")
        told = tuple(str(text) for text in (layer["tactic"], number) if text)
        if told:
            tactics[layer["name"]] = told
    return tactics


def _precisions(run: ComparedRun) -> str:
    count: dict[str, int] = {}
    for layer in run.trace.table("layers", ["outputs"]).to_pylist():
        for tensor in tensors(layer["outputs"]):
            if tensor.dtype:
                count[tensor.dtype] = count.get(tensor.dtype, 0) + 1
    return ", ".join(f"{number} {dtype}" for dtype, number in sorted(count.items(), key=lambda item: -item[1]))


def _how(runs: Pair) -> Iterator[SetupDifference]:
    before, after = runs
    if before.graphs != after.graphs:
        launches = ("CUDA graph" if run.graphs else "one launch for each kernel" for run in runs)
        yield _differ("launches", launches, Effect.CHANGE, "a graph launches all of its kernels with one call")
    memory = [run.host_memory() for run in runs]
    if all(memory) and memory[0] != memory[1]:
        why = "copies from and to pageable memory are slower, and hold the host up"
        yield _differ("host memory of the copies", (_list(kinds) for kinds in memory), Effect.CHANGE, why)
    polls = [run.polls for run in runs]
    if None not in polls and polls[0] != polls[1]:
        waits = ("polls" if polling else "sleeps" for polling in polls)
        why = "a thread that polls for the GPU's end goes on at once, and keeps a core busy"
        yield _differ("waits", waits, Effect.CHANGE, why)
    lanes = [run.run.flow.lanes for run in runs]
    if lanes[0] != lanes[1]:
        why = "inferences of several streams or threads run beside each other"
        yield _differ("streams that inferences take turns on", map(str, lanes), Effect.CHANGE, why)
    streams = [int(run.column("streams").max(initial=0)) for run in runs]
    if streams[0] != streams[1]:
        why = "auxiliary streams, or copies beside kernels"
        yield _differ("streams of an inference", map(units.number, streams), Effect.CHANGE, why)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)


def _threads(count: float) -> str:
    return f"{units.number(count)} {'thread' if count == 1 else 'threads'}"
