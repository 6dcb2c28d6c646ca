"""NVML without a GPU: what it answered on a real one, and a module that answers so again.

    python tests/capture/recorded_nvml.py FILE.json

records what the sampling and run.json ask, without and with a load (PyTorch). UUIDs and process ids are left out.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

RECORDING = Path(__file__).with_name("nvml_h200.json")


class NVMLError(Exception):
    """As pynvml's: carries NVML's number."""

    def __init__(self, value: int) -> None:
        super().__init__(f"error {value}")
        self.value = value


class RecordedNvml(ModuleType):
    """A module pynvml that replays a recording: each call gives its next answer, and the last one from then on.

    `gpus` of the recorded kind are there. What `instead` holds replaces a function; `constants` are more of them, and
    `without` functions and constants that this pynvml lacks.
    """

    NVMLError = NVMLError

    def __init__(
        self,
        *,
        gpus: int = 1,
        names: list[str] | None = None,
        instead: dict[str, Callable[..., Any]] | None = None,
        without: set[str] | None = None,
        constants: dict[str, int] | None = None,
    ) -> None:
        super().__init__("pynvml")
        recording = json.loads(RECORDING.read_text(encoding="utf-8"))
        self._constants, self._answers = recording["constants"] | (constants or {}), recording["answers"]
        self._given: dict[tuple[str, str, int], int] = {}
        self._without = without or set()
        self.started = 0
        self._functions: dict[str, Callable[..., Any]] = {
            "nvmlInit": lambda: self._count(1),
            "nvmlShutdown": lambda: self._count(-1),
            "nvmlDeviceGetCount": lambda: gpus,
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetUUID": lambda index: f"GPU-{index}{index}{index}{index}-beef",
            "nvmlDeviceGetPciInfo": lambda index: SimpleNamespace(busId=f"00000000:{index + 0x3A:02X}:00.0"),
            **({"nvmlDeviceGetName": lambda index: names[index]} if names else {}),
            **(instead or {}),
        }

    def _count(self, by: int) -> None:
        self.started += by

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in self._without:
            raise AttributeError(name)
        if name in self._functions:
            return self._functions[name]
        if name in self._constants:
            return self._constants[name]
        if name in self._answers:
            return lambda *arguments, **more: self._replay(name, *arguments, *more.values())
        raise AttributeError(name)

    def _replay(self, name: str, *arguments: Any) -> Any:
        gpu, rest = (arguments[0], arguments[1:]) if name.startswith("nvmlDevice") else (0, arguments)
        key = json.dumps(list(rest))
        if key not in self._answers[name]:
            raise NVMLError(self._constants["NVML_ERROR_NOT_SUPPORTED"])
        answers = self._answers[name][key]
        at = self._given.get((name, key, gpu), 0)
        self._given[name, key, gpu] = at + 1
        answer = answers[min(at, len(answers) - 1)]
        if isinstance(answer, dict) and "error" in answer:
            raise NVMLError(answer["error"])
        return _object(answer)


def _object(answer: Any) -> Any:
    if isinstance(answer, list):
        return [_object(part) for part in answer]
    return SimpleNamespace(**{k: _object(v) for k, v in answer.items()}) if isinstance(answer, dict) else answer


class Recorder(ModuleType):
    """Passes calls on to a pynvml, and keeps what they answered, by function and arguments behind the handle."""

    def __init__(self, real: Any) -> None:
        super().__init__("pynvml")
        self._real = real
        self.constants: dict[str, int] = {}
        self.answers: dict[str, dict[str, list[Any]]] = {}

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if isinstance(found, int):
            self.constants[name] = found
        if not name.startswith(("nvmlDeviceGet", "nvmlSystemGet")) or name in _EACH_ITS_OWN:
            return found
        return lambda *arguments, **more: self._call(name, found, arguments, more)

    def _call(self, name: str, function: Any, arguments: tuple[Any, ...], more: dict[str, Any]) -> Any:
        rest = (*(arguments[1:] if name.startswith("nvmlDevice") else arguments), *more.values())
        kept = self.answers.setdefault(name, {}).setdefault(json.dumps(list(rest)), [])
        try:
            answer = function(*arguments, **more)
        except self._real.NVMLError as error:
            kept.append({"error": error.value})
            raise
        kept.append(_plain(answer))
        return answer

    def write(self, path: Path) -> None:
        """Write the recording, with the constants that a replay needs besides."""
        for error in ("NOT_SUPPORTED", "GPU_IS_LOST", "RESET_REQUIRED", "FUNCTION_NOT_FOUND", "UNKNOWN"):
            getattr(self, f"NVML_ERROR_{error}")
        content = {"constants": self.constants, "answers": dict(sorted(self.answers.items()))}
        path.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")


_EACH_ITS_OWN = ("nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetUUID", "nvmlDeviceGetPciInfo")
_KEPT = {
    *("fieldId", "nvmlReturn", "valueType", "value", "uiVal", "ullVal", "gpu", "memory", "total", "used", "free"),
    *("reserved", "violationTime", "referenceTime", "usedGpuMemory"),
}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (int, str)):
        return value
    if isinstance(value, bytes):
        return value.decode()
    if hasattr(value, "__len__"):
        return [_plain(part) for part in value]
    return {name: _plain(getattr(value, name)) for name in sorted(_KEPT) if hasattr(value, name)}


def _load(ended: threading.Event) -> None:
    import torch  # type: ignore[import-not-found, unused-ignore]  # where there is a GPU

    matrix = torch.randn(16384, 16384, device="cuda", dtype=torch.bfloat16)
    pinned = torch.empty(1 << 28, dtype=torch.uint8).pin_memory()
    device = torch.empty_like(pinned, device="cuda")
    while not ended.wait(0):
        torch.matmul(matrix, matrix)
        device.copy_(pinned, non_blocking=True)
        torch.cuda.synchronize()


def main(path: Path) -> None:
    """Record what the sampling and run.json ask."""
    import pynvml

    from nsight_tools.capture import machine, telemetry

    sys.modules["pynvml"] = recorder = Recorder(pynvml)
    machine.state()
    ended = threading.Event()
    loading = threading.Thread(target=_load, args=(ended,))
    with telemetry.sampling(path.with_suffix(".parquet"), hz=50):
        time.sleep(0.5)
        loading.start()
        time.sleep(5)  # PyTorch takes its time to start
    ended.set()
    loading.join()
    recorder.write(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
