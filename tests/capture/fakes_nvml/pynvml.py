"""NVML as recorded, of the GPU that the fakes make: it draws WATTS, and the runner's processes hold HELD bytes each."""

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parents[1]))
from recorded_nvml import RecordedNvml

WATTS, HELD, USED = 250, 1_000_000_000, 3_000_000_000


def _processes(_handle):
    """The runner's processes, as their command lines tell: python, and the runner's folder."""
    pids = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())
    return [SimpleNamespace(pid=pid, usedGpuMemory=HELD) for pid in pids if _is_runner(pid)]


def _is_runner(pid):
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return (
        len(words) > 1 and words[0] == os.environ["FAKE_NVML_PYTHON"].encode() and words[1].endswith(b"/capture/runner")
    )


sys.modules["pynvml"] = RecordedNvml(
    instead={
        "nvmlDeviceGetPciInfo": lambda _index: SimpleNamespace(busId="00000000:18:00.0"),
        "nvmlDeviceGetFieldValues": lambda _gpu, ids: [
            SimpleNamespace(fieldId=each, nvmlReturn=0, valueType=1, value=SimpleNamespace(uiVal=1000 * WATTS))
            for each in ids
        ],
        "nvmlDeviceGetTotalEnergyConsumption": lambda _gpu: round(time.time() * 1000 * WATTS),
        "nvmlDeviceGetComputeRunningProcesses": _processes,
        "nvmlDeviceGetMemoryInfo": lambda _gpu, version=None: SimpleNamespace(used=USED, total=4 * USED),
    }
)
