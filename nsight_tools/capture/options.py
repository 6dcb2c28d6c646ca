"""What a capture is asked for. `run.json` keeps all of it; names are trtexec's where they mean the same."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from nsight_tools.errors import NsightToolsError

ONNX = ".onnx"


class CaptureError(NsightToolsError):
    """A capture that cannot be made as asked."""


class InterruptedCaptureError(CaptureError):
    """A capture that was interrupted before there was anything to keep."""

    exit_code = 130


@dataclass(frozen=True)
class Build:
    """How an engine is built from ONNX, and loaded."""

    settings: dict[str, Any] = field(default_factory=dict)
    """Values by name of `runner.options.OPTIONS`."""
    save_engine: Path | None = None
    runtime: str = "tensorrt"
    """One of `runner.versions.RUNTIMES`: what builds the engine and runs it."""


@dataclass(frozen=True)
class Load:
    """How the engine is run."""

    shapes: dict[str, list[int]] = field(default_factory=dict)
    batch: int | None = None
    inputs: dict[str, Path] = field(default_factory=dict)
    iterations: int = 100
    duration_s: float = 3.0
    warm_up_ms: float = 200.0
    streams: int = 1
    threads: int = 1
    cuda_graph: bool = False
    spin_wait: bool = False
    data_transfers: bool = True
    overlap_transfers: bool = False
    default_stream: bool = False
    pageable: bool = False
    sleep_ms: float = 0.0
    device: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Recording:
    """What is recorded around it."""

    single_pass: bool = False
    untraced: bool = True
    """A wrapped command runs without the profiler first."""
    profiler: bool = False
    """An engine runs with TensorRT's own profiler, too, without nsys."""
    repeat: int = 1
    """An engine is measured so often without the profiler."""
    graphs: Literal["node", "graph"] = "node"
    gpu_metrics_hz: int | None = None
    telemetry_hz: float = 50.0
    """0 for none."""
    memory_usage: bool = False
    capture_range: bool = False
    """Of a wrapped command: only from its cudaProfilerStart to its cudaProfilerStop."""
    nsys_args: tuple[str, ...] = ()


def plain(options: object) -> dict[str, Any]:
    """Options as JSON values."""

    def value(item: Any) -> Any:
        if isinstance(item, Path):
            return str(item)
        if isinstance(item, dict):
            return {key: value(part) for key, part in item.items()}
        return list(item) if isinstance(item, tuple) else item

    return {key: value(item) for key, item in asdict(options).items()}  # type: ignore[call-overload]
