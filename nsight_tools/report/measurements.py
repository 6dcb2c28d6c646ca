"""What was measured without the profiler, in words: speed, how far repeats differ, memory, energy, time to build."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools import units

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.measured import Energy, Measured, Memory, Speed

SPREADS = {
    "throughput_per_s": "throughput",
    "p50_ns": "p50",
    "p90_ns": "p90",
    "p95_ns": "p95",
    "p99_ns": "p99",
}
"""Fields of `Speed` in which repeats differ, and what they are called."""
_SOURCES = {"counter": "NVML's counter", "power": "NVML's power, integrated"}


def told(speed: Speed) -> str:
    """`1,728 inferences a second, p50 517 µs, p90 …`."""
    times = ((name, getattr(speed, f"{name}_ns")) for name in ("p50", "p90", "p95", "p99"))
    said = ", ".join(f"{name} {units.duration(took)}" for name, took in times)
    return f"{_rate(speed.throughput_per_s)} inferences a second, {said}"


def again(found: Measured) -> str:
    """By how much the same differs when it is measured again; empty where it was not."""
    if not found.repeats:
        return ""
    spreads = found.spreads()
    said = ", ".join(f"{label} within {units.share(spreads[name])}" for name, label in SPREADS.items())
    return f"measured {len(found.repeats)} times: {said}; of single runs, a difference of less is noise"


def takes(found: Measured) -> str:
    """What an engine takes: memory, energy, time to build; nothing of what was not measured."""
    parts = [_memory(found.memory)] if found.memory else []
    if found.energy and found.energy.joules_per_inference is not None:
        parts.append(_each(found.energy))
    if found.build_s is not None:
        parts.append(f"built in {units.duration(1e9 * found.build_s)}")
    return " · ".join(each for each in parts if each)


def every(found: Measured) -> Iterator[tuple[str, str]]:
    """All of it, but for the build's phases, as labels and values."""
    runs = [("Without the profiler", found.speed), ("The same, transfers overlapped", found.overlapped)]
    runs += [(f"The same, measured again ({at})", each) for at, each in enumerate(found.repeats[1:], 2)]
    for label, speed in runs:
        if speed:
            yield label, f"{speed.inferences:,} inferences, {told(speed)}"
    if said := again(found):
        yield "Repeats", said
    if found.memory:
        yield from _of_memory(found.memory)
    if found.energy:
        yield "Energy", _energy(found.energy)


def _rate(per_second: float) -> str:
    """So many a second: whole from 100 on."""
    return f"{per_second:,.0f}" if per_second >= 99.5 else units.number(per_second)


def _memory(of: Memory) -> str:
    """`GPU memory: 1.08 GB of the process, …; a further context takes 210 MB, and 37 fit`."""
    peaks = ((of.process_peak, "of the process"), (of.gpu_peak, "in use by all"))
    parts = [", ".join(f"{units.size(each)} {whose}" for each, whose in peaks if each is not None)]
    held = (("the engine", of.engine), ("weights", of.weights), ("activations of a context", of.activations))
    parts.append(", ".join(f"{label} {units.size(each)}" for label, each in held if each is not None))
    if of.further_contexts is not None:
        parts.append(f"a further context takes {units.size(of.further_context)}, and {of.further_contexts:,} fit")
    said = "; ".join(each for each in parts if each)
    return f"GPU memory: {said}" if said else ""


def _of_memory(of: Memory) -> Iterator[tuple[str, str]]:
    sizes = (
        ("GPU memory of the process, at most", of.process_peak),
        ("GPU memory in use by all, at most", of.gpu_peak),
        ("Serialized engine", of.file),
        ("Engine on the GPU, once loaded", of.engine),
        ("Weights, by TensorRT", of.weights),
        ("Activations of a context, by TensorRT", of.activations),
        ("Inputs and outputs of a context", of.buffers),
        ("A further context takes", of.further_context),
    )
    yield from ((label, units.size(each)) for label, each in sizes if each is not None)
    if of.further_contexts is not None:
        yield "Further contexts that fit", f"{of.further_contexts:,}"
    elif of.no_further_context:
        yield "Further contexts that fit", f"not told, for none could be made: {of.no_further_context}"


def _energy(of: Energy) -> str:
    if of.joules is None:
        return f"not told: {of.problem}"
    whole = f"{_each(of)}: {units.energy(of.joules)} in {units.duration(1e9 * (of.seconds or 0.0))} by "
    beside = of.by_power_joules if of.source == "counter" else None
    known = _SOURCES[of.source]
    return f"{whole}{known}" if beside is None else f"{whole}{known} ({units.energy(beside)} by {_SOURCES['power']})"


def _each(of: Energy) -> str:
    others = (of.processes or 1) - 1
    beside = f", with what {units.number(others)} other {'process' if others == 1 else 'processes'} used"
    return f"{units.energy(of.joules_per_inference)} an inference{beside if others > 0 else ''}"
