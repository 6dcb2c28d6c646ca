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
    percentiles = ", ".join(f"{name} {units.duration(took)}" for name, took in times)
    return f"{_rate(speed.throughput_per_s)} inferences a second, {percentiles}"


def again(measured: Measured) -> str:
    """By how much the same differs when it is measured again; empty where it was not."""
    if not measured.repeats:
        return ""
    spreads = measured.spreads()
    within = ", ".join(f"{label} within {units.share(spreads[name])}" for name, label in SPREADS.items())
    return f"measured {len(measured.repeats)} times: {within}; of single runs, a difference of less is noise"


def takes(measured: Measured) -> str:
    """What an engine takes: memory, energy, time to build; nothing of what was not measured."""
    parts = [_memory(measured.memory)] if measured.memory else []
    if measured.energy and measured.energy.joules_per_inference is not None:
        parts.append(_each(measured.energy))
    if measured.build_s is not None:
        parts.append(f"built in {units.duration(1e9 * measured.build_s)}")
    return " · ".join(text for text in parts if text)


def every(measured: Measured) -> Iterator[tuple[str, str]]:
    """All of it, but for the build's phases, as labels and values."""
    runs = [("Without the profiler", measured.speed), ("The same, transfers overlapped", measured.overlapped)]
    runs += [(f"The same, measured again ({at})", run) for at, run in enumerate(measured.repeats[1:], 2)]
    for label, speed in runs:
        if speed:
            yield label, f"{speed.inferences:,} inferences, {told(speed)}"
    if said := again(measured):
        yield "Repeats", said
    if measured.memory:
        yield from _of_memory(measured.memory)
    if measured.energy:
        yield "Energy", _energy(measured.energy)
    if host := measured.host:
        yield "Host", f"other programs kept {units.number(host.busy_with_others)} of {host.cores} cores busy"


def _rate(per_second: float) -> str:
    """So many a second: whole from 100 on."""
    return f"{per_second:,.0f}" if per_second >= 99.5 else units.number(per_second)


def _memory(of: Memory) -> str:
    """`GPU memory: 1.08 GB of the process, …; a further context takes 210 MB, and 37 fit`."""
    peaks = ((of.process_peak, "of the process"), (of.gpu_peak, "in use by all"))
    parts = [", ".join(f"{units.size(peak)} {whose}" for peak, whose in peaks if peak is not None)]
    held = (("the engine", of.engine), ("weights", of.weights), ("activations of a context", of.activations))
    parts.append(", ".join(f"{label} {units.size(size)}" for label, size in held if size is not None))
    if of.further_contexts is not None:
        parts.append(f"a further context takes {units.size(of.further_context)}, and {of.further_contexts:,} fit")
    text = "; ".join(text for text in parts if text)
    return f"GPU memory: {text}" if text else ""


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
    yield from ((label, units.size(size)) for label, size in sizes if size is not None)
    if of.further_contexts is not None:
        yield "Further contexts that fit", f"{of.further_contexts:,}"
    elif of.no_further_context:
        yield "Further contexts that fit", f"not told: {of.no_further_context}"


def _energy(of: Energy) -> str:
    if of.joules is None:
        return f"not told: {of.problem}"
    whole = f"{_each(of)}: {units.energy(of.joules)} in {units.duration(1e9 * (of.seconds or 0.0))} by "
    by_power = of.by_power_joules if of.source == "counter" else None
    known = _SOURCES[of.source]
    return (
        f"{whole}{known}" if by_power is None else f"{whole}{known} ({units.energy(by_power)} by {_SOURCES['power']})"
    )


def _each(of: Energy) -> str:
    others = (of.processes or 1) - 1
    others_too = f", with what {units.number(others)} other {'process' if others == 1 else 'processes'} used"
    return f"{units.energy(of.joules_per_inference)} an inference{others_too if others > 0 else ''}"
