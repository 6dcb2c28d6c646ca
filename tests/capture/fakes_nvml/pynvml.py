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
    """The runner's processes of this test, as their command lines tell: python, the runner, a task in TMPDIR."""
    pids = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())
    return [SimpleNamespace(pid=pid, usedGpuMemory=HELD) for pid in pids if _is_runner(pid)]


def _is_runner(pid):
    try:
        python, runner, task, *_ = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return False
    ours = python == os.environ["FAKE_NVML_PYTHON"].encode() and runner.endswith(b"/capture/runner")
    return ours and task.startswith(os.environ["TMPDIR"].encode())


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
