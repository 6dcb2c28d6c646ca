"""The machine as NVML describes it, for run.json: before and after a capture."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsight_tools.capture import nvml
from nsight_tools.run_files import bus_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_COMPUTE_MODES = {0: "default", 1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}
_SWITCH = {0: False, 1: True}
_DRIVER_MODELS = {0: "WDDM", 1: "TCC", 2: "MCDM"}
"""By nvmlDriverModel_t. Windows alone has them."""
_MPS_PIPES = "/tmp/nvidia-mps"  # noqa: S108 (NVIDIA's own default)


def state() -> dict[str, Any]:
    """Driver, CUDA version, and each GPU's settings and state; null where a GPU does not say.

    Without NVML, `reason` says why. Nothing tells one machine from another of its kind: no UUID, no serial number, and
    of other processes only how many they are and the memory that they use.
    """
    try:
        with nvml.opened() as n:
            cuda = nvml.ask(n, "nvmlSystemGetCudaDriverVersion")
            return {
                "driver": nvml.ask(n, "nvmlSystemGetDriverVersion", then=nvml.text),
                "cuda": cuda and f"{cuda // 1000}.{cuda % 1000 // 10}",
                "mps": _mps(),
                "gpus": [_gpu(n, index) for index in range(n.nvmlDeviceGetCount())],
            }
    except nvml.NoNvmlError as error:
        return {"reason": str(error)}


def _gpu(n: Any, index: int) -> dict[str, Any]:
    try:
        handle = n.nvmlDeviceGetHandleByIndex(index)
    except n.NVMLError as error:
        return {"index": index, "reason": str(error)}

    def get(function: str, *constants: str, then: Any = lambda value: value) -> Any:
        try:
            arguments = [getattr(n, name) for name in constants]
        except AttributeError:  # an nvidia-ml-py that does not know it
            return None
        return nvml.ask(n, f"nvmlDeviceGet{function}", handle, *arguments, then=then)

    where = get("PciInfo", then=lambda pci: bus_id(nvml.text(pci.busId)))
    return {
        "index": index,
        "name": get("Name", then=nvml.text),
        "bus_id": where,
        "numa_node": _numa_node(where),
        "cpus": _cpus(n, handle),
        "clocks_mhz": {
            name: {
                "now": get("ClockInfo", clock),
                "max": get("MaxClockInfo", clock),
                "applied": get("ApplicationsClock", clock),
            }
            for name, clock in (("sm", "NVML_CLOCK_SM"), ("memory", "NVML_CLOCK_MEM"))
        },
        "clock_event_reasons": get("CurrentClocksEventReasons") or get("CurrentClocksThrottleReasons"),
        "power_mw": {
            "now": get("PowerUsage"),
            "limit": get("EnforcedPowerLimit"),
            "default_limit": get("PowerManagementDefaultLimit"),
            "max_limit": get("PowerManagementLimitConstraints", then=lambda limits: limits[1]),
        },
        "temperature_c": get("Temperature", "NVML_TEMPERATURE_GPU"),
        "persistence_mode": get("PersistenceMode", then=_SWITCH.get),
        "compute_mode": get("ComputeMode", then=_COMPUTE_MODES.get),
        "driver_model": get("CurrentDriverModel", then=_DRIVER_MODELS.get),
        "mig": get("MigMode", then=lambda modes: _SWITCH.get(modes[0])),
        "mig_instances": _of_instances(n, handle, "nvmlDeviceGetName", nvml.text),
        "mig_sms": _of_instances(n, handle, "nvmlDeviceGetAttributes_v2", lambda mig: mig.multiprocessorCount),
        "ecc": get("EccMode", then=lambda modes: _SWITCH.get(modes[0])),
        "pcie": {
            "generation": get("CurrPcieLinkGeneration"),
            "max_generation": get("MaxPcieLinkGeneration"),
            "width": get("CurrPcieLinkWidth"),
            "max_width": get("MaxPcieLinkWidth"),
        },
        "memory_bytes": get("MemoryInfo", then=lambda memory: {"total": memory.total, "used": memory.used}),
        "processes": get("ComputeRunningProcesses", then=_processes),
        "mps_processes": get("MPSComputeRunningProcesses", then=len),
    }


def _mps() -> dict[str, Any]:
    """Whether CUDA's Multi-Process Service runs for programs started from here, and what share of the SMs they get."""
    pipes = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY") or _MPS_PIPES)
    running = False
    with contextlib.suppress(OSError, ValueError):
        pid = int((pipes / "nvidia-cuda-mps-control.pid").read_text(encoding="ascii"))
        running = Path(f"/proc/{pid}").exists()
    return {"running": running, "active_thread_percentage": os.environ.get("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE")}


def _of_instances(n: Any, handle: Any, function: str, then: Callable[[Any], Any]) -> list[Any] | None:
    """What each MIG instance of a GPU says, as its name, "NVIDIA H200 MIG 1g.18gb"; null where it has no MIG."""
    most = nvml.ask(n, "nvmlDeviceGetMaxMigDeviceCount", handle)
    if most is None:
        return None
    instances = (nvml.ask(n, "nvmlDeviceGetMigDeviceHandleByIndex", handle, index) for index in range(most))
    return [nvml.ask(n, function, instance, then=then) for instance in instances if instance is not None]


def modes(state: Mapping[str, Any]) -> list[str]:
    """How the driver runs each GPU of a `state`, in words; nothing of what is not known. Alike GPUs are said once."""
    gpus, mps = state.get("gpus"), state.get("mps")
    told = [", ".join(_modes(gpu)) for gpu in gpus if isinstance(gpu, dict)] if isinstance(gpus, list) else []
    if isinstance(mps, dict) and mps.get("running"):
        share = mps.get("active_thread_percentage")
        told.append(f"MPS, {share} % of the SMs" if share else "MPS")
    return [each for each in dict.fromkeys(told) if each]


def _modes(gpu: Mapping[str, Any]) -> Iterator[str]:
    if model := gpu.get("driver_model"):
        yield f"{model} driver"
    switches = {"persistence_mode": "persistence", "mig": "MIG", "ecc": "ECC"}
    for name, word in switches.items():
        if isinstance(gpu.get(name), bool):
            yield f"{word} {'on' if gpu[name] else 'off'}"
    if instances := gpu.get("mig_instances"):
        yield " and ".join(str(each or "unnamed") for each in instances)
    if mode := gpu.get("compute_mode"):
        yield f"compute mode {mode}"


def _processes(processes: list[Any]) -> dict[str, Any]:
    used = [process.usedGpuMemory for process in processes]
    return {"count": len(processes), "memory_used_bytes": None if None in used else sum(used)}


def _cpus(n: Any, handle: Any) -> str | None:
    """CPUs near the GPU, as 0-15,32-47."""
    words = 64  # of 64 CPUs each
    masks = nvml.ask(n, "nvmlDeviceGetCpuAffinity", handle, words, then=list)
    if masks is None:
        return None
    mask = sum(int(word) << 64 * at for at, word in enumerate(masks))
    runs = [(ones.start(), ones.end() - 1) for ones in re.finditer("1+", f"{mask:b}"[::-1])]
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs) or None


def _numa_node(where: str | None) -> int | None:
    """The GPU's NUMA node, by Linux; null where the machine has one only and says so."""
    with contextlib.suppress(OSError, ValueError):
        node = int(Path(f"/sys/bus/pci/devices/{where}/numa_node").read_text(encoding="ascii"))
        return node if node >= 0 else None
    return None
