"""What a capture measured without the profiler: speed, memory, energy, time to build, and how far repeats differ."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nsight_tools import run_files
from nsight_tools.accuracy import Accuracy
from nsight_tools.columns import ints, words
from nsight_tools.units import duration
from nsight_tools.worth.untraced import Known

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import pyarrow as pa

    from nsight_tools.columns import Bools, Ints
    from nsight_tools.trace import Trace

ENERGY_TAKES_NS = 10_000_000_000
"""A run that is shorter tells no energy: the counter is read ten times a second, so that both ends of a run are off by
0.1 s or less each, which is 2 % of 10 s. Off by two, that is 4 %, or 1 %."""
_SAMPLED = ("time_ns", "device", "memory_used_bytes", "own_memory_bytes", "power_mw", "energy_mj", "processes")
HOLE_NS = 1_000_000_000
"""Without a sample for so long, power says nothing of the time between."""


@dataclass(frozen=True)
class Speed:
    """How fast the inferences of one run were; each percentile is a time that one of them had, in ns."""

    inferences: int
    throughput_per_s: float
    p50_ns: int
    p90_ns: int
    p95_ns: int
    p99_ns: int


@dataclass(frozen=True)
class Memory:
    """Memory of the GPU, in bytes; None where it was not measured. Peaks are of the time of the benchmark."""

    process_peak: int | None = None
    """What NVML says that the process held at most, its CUDA context included."""
    gpu_peak: int | None = None
    """What was in use by all processes, at most."""
    file: int | None = None
    """The serialized engine."""
    engine: int | None = None
    """What CUDA had less of once the engine was loaded: weights and code."""
    weights: int | None = None
    """All weights, as TensorRT counts them."""
    activations: int | None = None
    """What TensorRT says that a context needs for what lies between its layers."""
    buffers: int | None = None
    """Inputs and outputs of a context."""
    further_context: int | None = None
    """What one more context took, with its buffers."""
    further_contexts: int | None = None
    """How many such contexts the memory holds that was free beside those of the benchmark."""
    no_further_context: str = ""
    """Why none could be made, or why what it took is not known."""

    @property
    def known(self) -> bool:
        return self != Memory()


@dataclass(frozen=True)
class Energy:
    """What the GPU used in the benchmark, or why that is not told. What other processes used counts as well."""

    joules_per_inference: float | None = None
    joules: float | None = None
    source: str = ""
    """counter (NVML's own) or power (its samples, integrated)."""
    by_power_joules: float | None = None
    """The integral of power, whatever the source."""
    seconds: float | None = None
    processes: int | None = None
    """Processes that were on the GPU, at most."""
    problem: str = ""


@dataclass(frozen=True)
class Host:
    """The host's cores during the run without the profiler, over all times that it was made."""

    cores: int
    busy_with_others: float
    """How many other programs kept busy, on average."""


@dataclass(frozen=True)
class Output:
    """An output of the engine, of one inference of the run without the profiler."""

    name: str
    dtype: str
    values: int
    nan: int = 0
    infinite: int = 0
    not_read: str = ""
    """Why its values are not known; empty where they are."""


@dataclass(frozen=True)
class Measured:
    """All that was measured without the profiler; None where it was not."""

    speed: Speed | None = None
    overlapped: Speed | None = None
    """The same with transfers that overlap."""
    repeats: tuple[Speed, ...] = ()
    """The same measured again and again, the first time included; none where it was measured once."""
    memory: Memory | None = None
    energy: Energy | None = None
    host: Host | None = None
    build_s: float | None = None
    outputs: tuple[Output, ...] = ()
    """Those that the capture kept."""
    accuracy: Accuracy | None = None
    """They beside those of a reference."""

    def spread(self, name: str) -> float | None:
        """By how much the repeats differ in a field of `Speed`: from the least to the most, in its unit."""
        values = [getattr(repeat, name) for repeat in self.repeats]
        return max(values) - min(values) if values else None

    def spreads(self) -> dict[str, float]:
        """The same as shares of the median repeat, by field."""
        names = [name for name in asdict(self.repeats[0]) if name != "inferences"] if self.repeats else []
        medians = {name: float(np.median([getattr(repeat, name) for repeat in self.repeats])) for name in names}
        return {name: (self.spread(name) or 0.0) / middle for name, middle in medians.items() if middle}


def measured(trace: Trace) -> Measured:
    """What the dataset holds of it; the same object for all who ask."""
    return trace.once(_measured)


def of_one_run(run: Mapping[str, Any], rows: pa.Table, telemetry: pa.Table | None) -> Measured:
    """The same of one benchmark by itself, without a dataset.

    `run` says of it what `run.json` does, `rows` are its inferences (`run_files.BENCHMARK_SCHEMA`), and `telemetry` was
    sampled meanwhile (`run_files.TELEMETRY_SCHEMA`).
    """
    told = _mapping(_mapping(run.get("measured")).get("benchmark"))
    start, wall = (np.asarray(rows[name].to_numpy()) for name in ("start_ns", "wall_ns"))
    window = _between(told.get("clock"), 0)
    samples = None
    if telemetry is not None and window:
        at = telemetry.rename_columns(
            [{"utc_ns": "time_ns", "index": "device"}.get(n, n) for n in telemetry.column_names]
        )
        samples = _Samples.chosen(at, run, window)
    memory = _memory(run, samples)
    return Measured(
        speed=_speed(start, wall, told) if len(wall) else None,
        memory=memory if memory.known else None,
        energy=_energy(run, samples),
    )


def _measured(trace: Trace) -> Measured:
    run = _mapping(trace.manifest.get("run"))
    if trace.manifest.get("untraced_file"):
        run = {**run, "measured": {}}  # the times are of another run than what was captured beside them
    speeds = dict(_speeds(trace, run))
    repeats = tuple(speed for name, speed in speeds.items() if name.startswith("benchmark"))
    seconds = _number(_mapping(run.get("build")).get("seconds"))
    window = _window(trace, run)
    samples = _Samples.of(trace, run, window) if window else None
    memory = _memory(run, samples)
    return Measured(
        speed=speeds.get("benchmark"),
        overlapped=speeds.get("throughput"),
        repeats=repeats if len(repeats) > 1 else (),
        memory=memory if memory.known else None,
        energy=_energy(run, samples),
        host=_host(run, speeds),
        build_s=seconds,
        outputs=tuple(outputs(run)),
        accuracy=Accuracy.of_json(run.get("accuracy")),
    )


def outputs(run: Mapping[str, Any]) -> Iterator[Output]:
    """Those that a capture kept, as its `run.json` says it."""
    told = _mapping(run.get("outputs")).get("outputs")
    for output in map(_mapping, told if isinstance(told, list) else ()):
        name, dtype, reason = (output.get(key) for key in ("name", "dtype", "not_read"))
        if isinstance(name, str) and isinstance(dtype, str):
            values, nan, infinite = (_whole(output.get(key)) or 0 for key in ("values", "nan", "infinite"))
            yield Output(name, dtype, values, nan, infinite, reason if isinstance(reason, str) else "")


def _speeds(trace: Trace, run: Mapping[str, Any]) -> Iterator[tuple[str, Speed]]:
    """Each run without the profiler, by its name, in the order in which they were made."""
    known = Known.of(trace)
    if known.untraced is None:
        return
    table = trace.table("benchmark", ["run", "start_ns", "wall_ns"])
    names, start, wall = words(table["run"]), ints(table["start_ns"]), ints(table["wall_ns"])
    rates = _mapping(run.get("measured"))
    rates = {**rates, "throughput": _mapping(rates.get("benchmark")).get("throughput")}
    number, name = 1, run_files.benchmark(1)
    while len(rows := known.rows if number == 1 else np.flatnonzero(names.among(name))):
        yield name, _speed(start[rows], wall[rows], rates.get(name))
        number += 1
        name = run_files.benchmark(number)
    if len(rows := np.flatnonzero(names.among("throughput"))):
        yield "throughput", _speed(start[rows], wall[rows], rates["throughput"])


def _speed(start: Ints, wall: Ints, told: object) -> Speed:
    """Of inferences by start and wall, shape (n,); the runner's own rate leaves out when it read events out."""
    p50, p90, p95, p99 = (int(time) for time in np.percentile(wall, (50, 90, 95, 99), method="inverted_cdf"))
    rate = _number(_mapping(told).get("throughput_per_s"))
    rate = rate or len(wall) * 1e9 / max(int((start + wall).max() - start.min()), 1)
    return Speed(len(wall), rate, p50, p90, p95, p99)


def _window(trace: Trace, run: Mapping[str, Any]) -> tuple[int, int] | None:
    """When the run without the profiler began and ended, in the report's time; None where that is not known."""
    held = _mapping(run.get("measured")).get("benchmark") or (
        run.get("untraced") if not trace.manifest.get("untraced_file") else None
    )
    offset = _whole(_mapping(trace.manifest.get("clock")).get("offset_ns"))
    return None if offset is None else _between(_mapping(held).get("clock"), offset)


def _between(marks: object, offset_ns: int) -> tuple[int, int] | None:
    """The first and the last of the clock's marks, less an offset; None where they are not two."""
    utc = [_whole(_mapping(mark).get("utc_ns")) for mark in marks] if isinstance(marks, list) else []
    if len(utc) < 2 or utc[0] is None or utc[-1] is None or utc[0] >= utc[-1]:
        return None
    return utc[0] - offset_ns, utc[-1] - offset_ns


@dataclass(frozen=True)
class _Samples:
    """NVML's samples of the GPUs that ran, in the report's time, and when the run without the profiler was."""

    columns: Mapping[str, Ints]
    """Shape (n,) each, in order of time; -1 for null."""
    gpu: Ints
    """Number of the GPU of each."""
    window: tuple[int, int]

    @classmethod
    def of(cls, trace: Trace, run: Mapping[str, Any], window: tuple[int, int]) -> _Samples:
        used = np.unique(ints(trace.table("launches", ["device"])["device"]))
        return cls.chosen(trace.table("telemetry", [*_SAMPLED, "bus_id"]), run, window, used)

    @classmethod
    def chosen(
        cls, table: pa.Table, run: Mapping[str, Any], window: tuple[int, int], used: Ints | None = None
    ) -> _Samples:
        """Those of the GPU that `run` names; else of those in use, by number; else of all."""
        buses = words(table["bus_id"])
        told = _mapping(run.get("device")).get("bus_id")
        if isinstance(told, str):
            mine = [bus for bus in buses.dictionary if run_files.bus_id(bus) == run_files.bus_id(told)]
            chosen = buses.among(*mine)
        else:
            chosen = np.isin(ints(table["device"]), used) if used is not None else np.ones(len(table), np.bool_)
        order = np.flatnonzero(chosen)
        columns = {name: ints(table[name])[order] for name in _SAMPLED}
        return cls(columns, buses.codes[order], window)

    @property
    def inside(self) -> Bools:
        time = self.columns["time_ns"]
        within: Bools = (time >= self.window[0]) & (time <= self.window[1])
        return within

    def peak(self, name: str) -> int | None:
        """The highest value of a column in the window, summed over the GPUs; None where no sample has one."""
        values, inside = self.columns[name], self.inside
        peaks = [int(values[inside & (self.gpu == gpu)].max(initial=-1)) for gpu in np.unique(self.gpu)]
        known = [peak for peak in peaks if peak >= 0]
        return sum(known) if known else None

    def series(self, name: str) -> tuple[Ints, Ints] | None:
        """Times and values of a column that reach over the window without a hole, of one GPU; None where none do."""
        known = self.columns[name] >= 0
        time, values = self.columns["time_ns"][known], self.columns[name][known]
        if len(np.unique(self.gpu)) != 1 or not len(time) or time[0] > self.window[0] or time[-1] < self.window[1]:
            return None
        first, last = np.searchsorted(time, self.window[0], "right") - 1, np.searchsorted(time, self.window[1])
        time, values = time[first : last + 1], values[first : last + 1]
        return None if np.diff(time).max(initial=0) > HOLE_NS else (time, values)


def _memory(run: Mapping[str, Any], samples: _Samples | None) -> Memory:
    engine = _mapping(run.get("engine"))
    taken = _mapping(_mapping(_mapping(run.get("measured")).get("benchmark")).get("memory"))
    reason = taken.get("no_further_context")
    if samples and (samples.peak("processes") or 0) > 1:  # what CUDA has free then tells of all of them
        taken = {name: size for name, size in taken.items() if name in {"activations_bytes", "buffers_bytes"}}
        reason = reason or "other processes took and freed memory of this GPU meanwhile"
    return Memory(
        process_peak=samples.peak("own_memory_bytes") if samples else None,
        gpu_peak=samples.peak("memory_used_bytes") if samples else None,
        file=_whole(engine.get("size_bytes")),
        engine=_whole(taken.get("engine_bytes")),
        weights=_whole(engine.get("weights_bytes")),
        activations=_whole(taken.get("activations_bytes", engine.get("device_memory_bytes"))),
        buffers=_whole(taken.get("buffers_bytes")),
        further_context=_whole(taken.get("further_context_bytes")),
        further_contexts=_whole(taken.get("further_contexts")),
        no_further_context=reason if isinstance(reason, str) else "",
    )


def _energy(run: Mapping[str, Any], samples: _Samples | None) -> Energy | None:
    """Of an engine's benchmark; None where none was made. Of a command nobody knows when its inferences ran."""
    benchmark = _mapping(_mapping(run.get("measured")).get("benchmark"))
    inferences = _whole(benchmark.get("inferences"))
    if not inferences:
        return None
    if samples is None or not samples.inside.any():
        return Energy(problem="NVML was not sampled while it ran")
    begin, end = samples.window
    seconds, processes = (end - begin) / 1e9, samples.peak("processes")
    if end - begin < ENERGY_TAKES_NS:
        least = ENERGY_TAKES_NS // 1_000_000_000
        problem = f"the run lasted {duration(end - begin)}, and energy takes {least} s to tell: --duration {least}"
        return Energy(seconds=seconds, processes=processes, problem=problem)
    counted, by_power = _counted(samples), _integral(samples)
    joules = by_power if counted is None else counted
    if joules is None:
        problem = "NVML tells neither energy nor power all through the run"
        return Energy(seconds=seconds, processes=processes, problem=problem)
    source = "power" if counted is None else "counter"
    return Energy(joules / inferences, joules, source, by_power, seconds, processes)


def _host(run: Mapping[str, Any], names: Iterable[str]) -> Host | None:
    """Of the runs of these names that tell it; None where none does."""
    told = [_mapping(_mapping(_mapping(run.get("measured")).get(name)).get("cores")) for name in names]
    both = [(_whole(each.get("count")), _number(each.get("busy_with_others"))) for each in told]
    known = [(cores, busy) for cores, busy in both if cores and busy is not None]
    return Host(known[0][0], float(np.mean([busy for _, busy in known]))) if known else None


def _counted(samples: _Samples) -> float | None:
    """Joules in the window by NVML's counter, which is taken to grow evenly from sample to sample."""
    if (series := samples.series("energy_mj")) is None:
        return None
    begin, end = np.interp(samples.window, *series)
    return float(end - begin) / 1e3 if end > begin else None


def _integral(samples: _Samples) -> float | None:
    """Joules in the window by the samples of power, in trapezoids."""
    if (series := samples.series("power_mw")) is None:
        return None
    time, power = series
    inner = time[(time > samples.window[0]) & (time < samples.window[1])]
    at = np.array([samples.window[0], *inner, samples.window[1]], np.float64)
    watts = np.interp(at, time, power) / 1e3
    return float(((watts[1:] + watts[:-1]) / 2 * np.diff(at)).sum() / 1e9)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: object) -> float | None:
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value) and value >= 0
    return float(value) if known else None  # type: ignore[arg-type]


def _whole(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < 1 << 63 else None
