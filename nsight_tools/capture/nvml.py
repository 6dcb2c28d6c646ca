"""NVML as a capture asks it: which GPUs, and what each says of itself.

What a GPU, its driver or the installed nvidia-ml-py does not say is None. Times that calls take were measured on an
H200 (driver 580).
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from nsight_tools.hardware import LANE_BYTES_PER_S
from nsight_tools.run_files import TELEMETRY_SCHEMA, bus_id

Read = Callable[[], Any]
Way = Callable[[Any, Any], Read]
"""Given the module pynvml and a device's handle, a call that reads something of it."""


class NoNvmlError(Exception):
    """NVML cannot be asked here, for the reason that the text gives."""


class LostGpuError(Exception):
    """A GPU no longer answers: it fell off the bus, or waits for a reset."""


@contextlib.contextmanager
def opened() -> Iterator[Any]:
    """The module pynvml, with NVML started. Raises NoNvmlError where there is none, no driver, or no GPU."""
    try:
        import pynvml
    except ImportError as error:
        raise NoNvmlError("nvidia-ml-py is not installed") from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NoNvmlError(f"NVML does not start: {error}") from error
    try:
        if not pynvml.nvmlDeviceGetCount():
            raise NoNvmlError("NVML finds no GPU")
        yield pynvml
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def ask(n: Any, function: str, *arguments: Any, then: Callable[[Any], Any] = lambda value: value) -> Any:
    """What a function of NVML answers, put through `then`; None where it has no answer."""
    try:
        return then(getattr(n, function)(*arguments))
    except Exception as error:
        if isinstance(error, n.NVMLError) or _is_missing(error):
            return None
        raise


def _is_missing(error: Exception) -> bool:
    """Whether the installed nvidia-ml-py lacks a function, or finds the driver's to be of another version."""
    return isinstance(error, AttributeError) or type(error).__name__ == "NVMLLibraryMismatchError"


def visible(n: Any) -> tuple[list[int], str]:
    """NVML's numbers of the GPUs that a CUDA program started from here would see, and how they were chosen.

    CUDA_VISIBLE_DEVICES holds CUDA's numbers or UUIDs, up to the first that names none. NVML counts in order of the
    PCI bus; CUDA does so with CUDA_DEVICE_ORDER=PCI_BUS_ID, and in effect where all GPUs are of one model. Where
    neither holds, a number may mean any GPU, and all are taken.
    """
    every = list(range(n.nvmlDeviceGetCount()))
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return every, "all GPUs"
    handles = [ask(n, "nvmlDeviceGetHandleByIndex", index) for index in every]
    chosen: list[int] = []
    for token in map(str.strip, named.split(",")):
        if token.isdecimal():
            alike = len({ask(n, "nvmlDeviceGetName", handle) for handle in handles}) == 1
            if not alike and os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
                return every, "all GPUs: which ones CUDA_VISIBLE_DEVICES means is known with CUDA_DEVICE_ORDER alone"
            matching = [int(token)] if int(token) in every else []
        else:
            matching = _by_uuid(n, token, handles)
        if len(matching) != 1:
            break
        chosen += matching
    return sorted(set(chosen)), "CUDA_VISIBLE_DEVICES"


def _by_uuid(n: Any, token: str, handles: list[Any]) -> list[int]:
    """GPUs whose UUID begins with `token`, or on which the MIG instance of that UUID is."""
    uuids = [ask(n, "nvmlDeviceGetUUID", handle) or "" for handle in handles]
    if token.startswith("MIG-GPU-"):  # MIG-GPU-<uuid>/<GPU instance>/<compute instance>, up to driver 450
        token = token.removeprefix("MIG-").partition("/")[0]
    elif token.startswith("MIG-"):
        instance = ask(n, "nvmlDeviceGetHandleByUUID", token)
        parent = instance and ask(n, "nvmlDeviceGetDeviceHandleFromMigDeviceHandle", instance)
        token = (parent and ask(n, "nvmlDeviceGetUUID", parent)) or ""
    return [index for index, uuid in enumerate(uuids) if token.startswith("GPU-") and uuid.startswith(token)]


def call(function: str, *constants: str, then: Callable[[Any], Any] | None = None) -> Way:
    """A way to read by a function of NVML that takes a handle and some of NVML's constants."""

    def bind(n: Any, handle: Any) -> Read:
        read = partial(getattr(n, function), handle, *(getattr(n, name) for name in constants))
        return read if then is None else lambda: then(read())

    return bind


_VALUES = {0: "dVal", 1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal", 6: "usVal"}
"""Members of nvmlValue_t by nvmlValueType_t."""
_UNSIGNED_INT = 1


def _fields(n: Any, handle: Any, numbers: list[int]) -> list[Any]:
    fields = list(n.nvmlDeviceGetFieldValues(handle, numbers))
    for field in fields:
        if field.nvmlReturn:
            raise n.NVMLError(field.nvmlReturn)
    return fields


def _value(field: Any) -> int:
    return int(getattr(field.value, _VALUES[field.valueType]))


def field(name: str) -> Way:
    """A way to read by one of NVML's numbered fields."""

    def bind(n: Any, handle: Any) -> Read:
        numbers = [getattr(n, name)]
        return lambda: _value(_fields(n, handle, numbers)[0])

    return bind


class CountedTraffic:
    """PCIe traffic to and from the GPU since the last call, bytes per second, by the GPU's own counters (0.3 ms).

    The counters have 32 bits on an H200, so they come round every 80 ms at full speed: a difference says something only
    while the link cannot have carried more than they hold.
    """

    def __init__(self, n: Any, handle: Any) -> None:
        self._n, self._handle = n, handle
        self._numbers = [n.NVML_FI_DEV_PCIE_COUNT_RX_BYTES, n.NVML_FI_DEV_PCIE_COUNT_TX_BYTES]
        generation = ask(n, "nvmlDeviceGetMaxPcieLinkGeneration", handle) or max(LANE_BYTES_PER_S)
        lanes = ask(n, "nvmlDeviceGetMaxPcieLinkWidth", handle) or 16
        self._at_most = LANE_BYTES_PER_S.get(generation, max(LANE_BYTES_PER_S.values())) * lanes
        self._before: tuple[int, list[int]] | None = None

    def __call__(self) -> tuple[int | None, int | None]:
        now, fields = time.monotonic_ns(), _fields(self._n, self._handle, self._numbers)
        counters = [_value(field) for field in fields]
        before, self._before = self._before, (now, counters)
        if before is None:
            return None, None
        seconds = (now - before[0]) / 1e9
        modulus = 1 << (32 if fields[0].valueType == _UNSIGNED_INT else 64)
        if not 0 < seconds * self._at_most < modulus:
            return None, None
        rx, tx = (round((new - old) % modulus / seconds) for new, old in zip(counters, before[1], strict=True))
        # More than the link carries: the counters were reset, as by a GPU that was.
        return (rx, tx) if max(rx, tx) <= 1.1 * self._at_most else (None, None)


class SampledTraffic:
    """PCIe traffic, bytes per second, of GPUs without counters.

    NVML measures it over 20 ms and returns only then, so a thread of its own asks, and each answer is given once.
    """

    EVERY_S = 0.2

    def __init__(self, n: Any, handle: Any) -> None:
        self._n, self._handle = n, handle
        self._latest: tuple[int | None, ...] = self._measure()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pcie throughput", daemon=True)
        self._thread.start()

    def __call__(self) -> tuple[int | None, ...]:
        latest, self._latest = self._latest, (None, None)
        return latest

    def _measure(self) -> tuple[int, ...]:
        directions = (self._n.NVML_PCIE_UTIL_RX_BYTES, self._n.NVML_PCIE_UTIL_TX_BYTES)
        return tuple(
            self._n.nvmlDeviceGetPcieThroughput(self._handle, way) * 1000 for way in directions
        )  # it says KB/s

    def _run(self) -> None:
        while not self._stopped.wait(self.EVERY_S):
            with contextlib.suppress(self._n.NVMLError):
                self._latest = self._measure()

    def close(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._thread.join(1)


class Processes:
    """How many processes compute on the GPU, and how many bytes of its memory the captured ones hold.

    Those are this process and all below it. Where no pid that NVML lists is known here, as in a container that counts
    its own, it is what all hold beyond what they held at first. None while there are none, or where NVML does not say.
    """

    def __init__(self, n: Any, handle: Any) -> None:
        self._list = partial(n.nvmlDeviceGetComputeRunningProcesses, handle)
        self._own: dict[int, bool] = {}
        self._first = _held(self._list())

    def __call__(self) -> tuple[int, int | None]:
        processes = self._list()
        if any(_is_here(process.pid) for process in processes):
            return len(processes), _held([process for process in processes if self._is_own(process.pid)])
        held = _held(processes)
        return len(processes), None if held is None else max(held - (self._first or 0), 0) or None

    def _is_own(self, pid: int) -> bool:
        if pid not in self._own:
            self._own[pid] = os.getpid() in ancestors(pid)
        return self._own[pid]


def ancestors(pid: int) -> list[int]:
    """A process and all above it, as far as Linux tells."""
    line: list[int] = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        while pid > 0 and pid not in line:
            line.append(pid)
            # The name, in brackets, may hold anything.
            pid = int(
                Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]
            )
    return line


def _is_here(pid: int) -> bool:
    return pid > 0 and Path(f"/proc/{pid}").exists()


def _held(processes: list[Any]) -> int | None:
    """Bytes of GPU memory that processes hold together; None where there are none, or NVML does not say."""
    used = [process.usedGpuMemory for process in processes]
    return None if not used or None in used else sum(used)


@dataclass(frozen=True)
class Reading:
    """Columns of table `telemetry` that are read together, by the first of these ways that the GPU answers to."""

    columns: tuple[str, ...]
    ways: tuple[Way, ...]
    rate: Literal["once", "seldom", "always"] = "always"


READINGS = (
    Reading(("sm_clock_mhz",), (call("nvmlDeviceGetClockInfo", "NVML_CLOCK_SM"),)),
    Reading(("memory_clock_mhz",), (call("nvmlDeviceGetClockInfo", "NVML_CLOCK_MEM"),)),
    Reading(("max_sm_clock_mhz",), (call("nvmlDeviceGetMaxClockInfo", "NVML_CLOCK_SM"),), "once"),
    # From Ampere on nvmlDeviceGetPowerUsage is an average over a second.
    Reading(("power_mw",), (field("NVML_FI_DEV_POWER_INSTANT"), call("nvmlDeviceGetPowerUsage"))),
    Reading(("power_limit_mw",), (call("nvmlDeviceGetEnforcedPowerLimit"),)),
    Reading(("temperature_c",), (call("nvmlDeviceGetTemperature", "NVML_TEMPERATURE_GPU"),)),
    Reading(
        ("slowdown_temperature_c",),
        (call("nvmlDeviceGetTemperatureThreshold", "NVML_TEMPERATURE_THRESHOLD_SLOWDOWN"),),
        "once",
    ),
    Reading(
        ("clock_event_reasons",),
        (call("nvmlDeviceGetCurrentClocksEventReasons"), call("nvmlDeviceGetCurrentClocksThrottleReasons")),
    ),
    Reading(
        ("gpu_utilization_percent", "memory_utilization_percent"),
        (call("nvmlDeviceGetUtilizationRates", then=lambda rates: (rates.gpu, rates.memory)),),
    ),
    Reading(
        ("memory_used_bytes",),
        (  # the older one counts what the driver keeps for itself as used
            lambda n, handle: lambda: n.nvmlDeviceGetMemoryInfo(handle, version=n.nvmlMemory_v2).used,
            call("nvmlDeviceGetMemoryInfo", then=lambda memory: memory.used),
        ),
    ),
    Reading(("pcie_generation",), (call("nvmlDeviceGetCurrPcieLinkGeneration"),)),
    Reading(("pcie_width",), (call("nvmlDeviceGetCurrPcieLinkWidth"),)),
    Reading(("pcie_max_generation",), (call("nvmlDeviceGetMaxPcieLinkGeneration"),), "once"),
    Reading(("pcie_max_width",), (call("nvmlDeviceGetMaxPcieLinkWidth"),), "once"),
    Reading(("pcie_rx_bytes_per_s", "pcie_tx_bytes_per_s"), (CountedTraffic, SampledTraffic)),
    # 0.7 ms each. Nanoseconds: seen to grow by 2.24 s in 2.24 s of a load that was held back throughout.
    *(
        Reading(
            (f"{what}_violation_ns",),
            (
                call("nvmlDeviceGetViolationStatus", policy, then=lambda status: status.violationTime),
                field(f"NVML_FI_DEV_PERF_POLICY_{what.upper()}"),
            ),
            "seldom",
        )
        for what, policy in (("power", "NVML_PERF_POLICY_POWER"), ("thermal", "NVML_PERF_POLICY_THERMAL"))
    ),
    Reading(("processes", "own_memory_bytes"), (Processes,)),
    Reading(
        ("energy_mj",),
        (call("nvmlDeviceGetTotalEnergyConsumption"), field("NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION")),
        "seldom",
    ),
)

_LARGEST = {field.name: (1 << 31 if field.type == "int32" else 1 << 63) - 1 for field in TELEMETRY_SCHEMA}


class Device:
    """One GPU, and the ways to read it that it answers to."""

    def __init__(self, n: Any, index: int) -> None:
        self._n = n
        self.index = index
        handle = n.nvmlDeviceGetHandleByIndex(index)
        self.bus_id: str | None = ask(n, "nvmlDeviceGetPciInfo", handle, then=lambda pci: bus_id(text(pci.busId)))
        self.lacks: list[str] = []
        self.failures = 0
        """Readings that failed in a GPU that had answered them before."""
        self._once: dict[str, int | None] = {}
        self._reads: list[tuple[Reading, Read]] = []
        for reading in READINGS:
            read, values = self._first(reading, handle)
            if read is None:
                self.lacks += reading.columns
            elif reading.rate == "once":
                self._once |= values
            else:
                self._reads.append((reading, read))

    def _first(self, reading: Reading, handle: Any) -> tuple[Read | None, dict[str, int | None]]:
        for way in reading.ways:
            try:
                read = way(self._n, handle)
                return read, _named(reading, read())
            except Exception as error:
                if not isinstance(error, self._n.NVMLError) and not _is_missing(error):
                    raise
        return None, {}

    def sample(self, *, seldom: bool) -> dict[str, Any]:
        """A row of telemetry.parquet; with what is read seldom, if so. Raises LostGpuError where the GPU is gone."""
        row: dict[str, Any] = {"utc_ns": time.time_ns(), "index": self.index, "bus_id": self.bus_id, **self._once}
        for reading, read in self._reads:
            if reading.rate == "seldom" and not seldom:
                continue
            try:
                row |= _named(reading, read())
            except self._n.NVMLError as error:
                if error.value in (self._n.NVML_ERROR_GPU_IS_LOST, self._n.NVML_ERROR_RESET_REQUIRED):
                    raise LostGpuError(str(error)) from error
                self.failures += 1
        return row

    def close(self) -> None:
        """End what reads by itself."""
        for _, read in self._reads:
            if isinstance(read, SampledTraffic):
                read.close()


def _named(reading: Reading, value: Any) -> dict[str, int | None]:
    """Values by column; None for what NVML says instead of a value (all bits set)."""
    values = value if isinstance(value, tuple) else (value,)
    pairs = zip(reading.columns, values, strict=True)
    return {name: one if one is not None and 0 <= one <= _LARGEST[name] else None for name, one in pairs}


def text(value: str | bytes) -> str:
    """What NVML says in words: its older bindings give bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
