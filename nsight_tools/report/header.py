"""The header of a trace in words: what ran, what was recorded, what an inference is here, what was measured beside."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from nsight_tools import units
from nsight_tools.report import accurate, layer_times, measurements, safe, trtexec
from nsight_tools.units import plural
from nsight_tools.worth.untraced import SOURCES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nsight_tools.summary import Summary

_AS_IN = {
    "this trace": "other inferences",
    "layer pass": "the layer pass (another run, with layer ranges)",
    "layer list": "the engine's list of layers",
}
_REQUESTS = {
    "inference_range": "the NVTX range {name}",
    "program_range": "the program's own NVTX range {name}, which holds the launches of each turn",
    "enqueue_pattern": "{enqueues} that come in a fixed order on their thread",
    "enqueue_range": "one enqueue, by TensorRT's ranges",
    "graph_launch": "one launch of a CUDA graph",
    "iteration": "an iteration, found in what repeats on the GPU ({alike} alike)",
}


def about(summary: Summary) -> list[str]:
    """What ran, what was recorded, and what was taken for an inference."""
    if summary.trtexec:
        return trtexec.facts(summary)
    lines = [" · ".join(_machine(summary)), " · ".join(_recorded(summary))]
    return [*lines, " · ".join(_requests(summary))] if summary.inferences else lines


def measured(summary: Summary) -> list[str]:
    """What was measured without the profiler."""
    runs = summary.measured
    layers = layer_times.told(summary.layer_times) if summary.layer_times else ""
    if summary.trtexec:
        return [layers] if layers else []
    told = (_untraced_run(summary), measurements.again(runs), measurements.takes(runs), layers)
    accuracy = [accurate.told(runs.accuracy)] if runs.accuracy else []
    return [*filter(None, told), *accuracy, *accurate.odd(runs.outputs)]


def _machine(s: Summary) -> list[str]:
    machine = [_gpus(s.gpus)]
    machine += [
        f"{label} {safe.elided(str(version), 40)}"
        for version, label in ((s.driver, "driver"), (s.cuda, "CUDA"))
        if version
    ]
    # An export names the version that exported it, a report the one that captured it.
    done = "captured" if s.captured_by else "exported"
    return [*machine, *s.clocks, f"{done} by nsys {safe.elided(str(s.nsys_version or 'of unknown version'), 40)}"]


def _recorded(s: Summary) -> list[str]:
    counts = s.counts
    recorded = ["duration not recorded" if s.duration_ns is None else f"{units.duration(s.duration_ns)} traced"]
    recorded += [plural(counts.get("kernels") or 0, "kernel")]
    if counts.get("graph_launches"):
        recorded.append(plural(counts["graph_launches"], "whole-graph launch", "whole-graph launches"))
    recorded += [plural(s.inferences, "inference"), plural(s.streams, "stream")]
    if s.processes > 1:
        recorded.append(plural(s.processes, "process", "processes"))
    if s.layers_by_order:
        recorded.append(_by_order(s.layers_by_order))
    return recorded


def _requests(s: Summary) -> list[str]:
    """What an inference is here and why, which of them are judged, and the options that say otherwise."""
    known = {
        "name": f"'{safe.elided(s.inference_name, 60)}'" if s.inference_name else "a range",
        "enqueues": f"{plural(s.enqueues, 'enqueue')} of {plural(s.engines, 'engine')}",
        "alike": units.share(s.alike),
    }
    sources = str(s.inference_source or "").split(" and ")
    requests = ["an inference is " + " or ".join(_REQUESTS.get(source, source).format(**known) for source in sources)]
    if s.enqueues > 1 and "enqueue_pattern" not in sources:
        requests.append(f"{known['enqueues']} in each")
    if len(s.populations) > 1:
        judged, *others = s.populations
        share = sum(population.time_ns for population in others) / max(
            sum(population.time_ns for population in s.populations), 1
        )
        kernels = f" ({plural(judged.kernels, 'kernel')} each)" if judged.kernels else ""
        rest = f"{sum(other.count for other in others):,} do other work, {units.share(share)} of the time"
        requests.append(
            f"judged: {judged.count:,} that take the most time{kernels}; {rest} "
            "(--group-by tells them apart in another way)"
        )
    other = f"'{safe.elided(s.other_name, 60)}'" if s.other_name else "NAME"
    return [*requests, f"others: --inference-range {other}"]


def _untraced_run(s: Summary) -> str:
    """How fast the run without the profiler was and who timed it, or why that is not taken; empty without one."""
    run = s.untraced_run
    if run is None:
        return ""
    if run.program_ns is not None:
        return f"without the profiler: {_program(s, run.program_ns)}"
    by = SOURCES.get(run.measured_by, run.measured_by)
    where = f" ({safe.elided(run.file, 60)})" if run.file else ""
    if run.problem:
        return f"without the profiler: times by {by}{where} are not taken, for {run.problem}"
    timed = f"{plural(run.inferences, 'inference')} timed by {by}{where}"
    speed = s.measured.speed
    return f"without the profiler: {measurements.told(speed)}; {timed}" if speed else f"without the profiler: {timed}"


def _program(s: Summary, took_ns: int) -> str:
    """What the time of a whole program says: no more than a bound, where all that it does are inferences alike."""
    sentence = f"the program took {units.duration(took_ns)} in all; its inferences were not timed"
    if s.inferences and len(s.populations) == 1:
        sentence += f", and take {units.duration(took_ns / s.inferences)} each at most, if it did the same"
    return f"{sentence} (nsight_tools.inference() times them)"


def _by_order(ordered: Mapping[str, Any]) -> str:
    """How the layers of kernels are known that have no layer range around them."""
    sources, kernels = ordered["attributed"], ordered["kernels"]
    if not sources:
        least = units.share(ordered["in_common"])
        return (
            f"layers of {plural(kernels, 'kernel')} unknown: what has layers has {least} of the kernels' order at most"
        )
    known = units.share(sum(sources.values()) / kernels)
    where = " and ".join(_AS_IN.get(source, source) for source in sources)
    return f"layers of {known} of {plural(kernels, 'kernel')} known by their order, as in {where}"


def _gpus(gpus: Sequence[Mapping[str, Any]]) -> str:
    if not gpus:
        return "GPU not recorded"
    names = Counter(safe.elided(str(gpu.get("name") or "unnamed GPU"), 80) for gpu in gpus)
    return ", ".join(name if count == 1 else f"{count} x {name}" for name, count in names.items())
