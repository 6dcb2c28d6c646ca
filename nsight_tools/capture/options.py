"""What a capture is asked for. `run.json` keeps all of it; names are trtexec's where they mean the same."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nsight_tools import run_files
from nsight_tools.capture.runner.options import OPTIONS, given
from nsight_tools.errors import INTERRUPTED, InputError, NsightToolsError

if TYPE_CHECKING:
    from collections.abc import Mapping

ONNX = ".onnx"


class CaptureError(NsightToolsError):
    """A capture that cannot be made as asked."""


class InterruptedCaptureError(CaptureError):
    """A capture that was interrupted before there was anything to keep."""

    exit_code = INTERRUPTED


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
class Checking:
    """What an engine's outputs are compared with, and what the measures must be."""

    reference: str | None = None
    """onnxruntime, an ONNX model, a file of arrays, or another capture; None for nothing."""
    accuracy: tuple[str, ...] = ()
    """Limits as `nsight_tools.accuracy.limits` reads them; the default ones where there are none."""


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
    gpu_metrics: bool = True
    """GPU metrics are sampled where that is allowed and, of a command, where it runs no longer than a minute."""
    gpu_metrics_hz: int | None = None
    """They are sampled at this rate, and it is an error where they cannot be."""
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


def model_of(path: Path) -> Path:
    """The same path, of what is there and is named as an engine or an ONNX model; raises InputError else."""
    if not path.is_file():
        raise InputError(path, "does not exist" if not path.exists() else "is no file")
    if path.suffix not in (*run_files.ENGINES, ONNX):
        raise InputError(path, "is neither an engine nor ONNX", hint=f"name it {', '.join((*run_files.ENGINES, ONNX))}")
    return path


def refuse_to_build(model: Path, build: Build) -> None:
    """Raises CaptureError where an engine that is built already would be built otherwise."""
    of_builds = [option.line for option, _ in given(build.settings) if option.of == "build"]
    of_builds += ["--save-engine"] if build.save_engine else []
    if of_builds:
        raise CaptureError(
            f"{of_builds[0]} is how an engine is built, and {model.name} is built already",
            hint="give the ONNX model, or leave the option out",
        )


def load_of(options: Mapping[str, Any]) -> Load:
    """How an engine is run, from options as the command line names them; what is not among them is as by default."""
    usual, told = Load(), {name: value for name, value in options.items() if value is not None}
    threads = told.get("threads", usual.threads)
    return Load(
        shapes=told.get("shapes", {}),
        batch=told.get("batch"),
        inputs={name: Path(file) for name, file in told.get("load_inputs", ())},
        iterations=told.get("iterations", usual.iterations),
        duration_s=told.get("duration", usual.duration_s),
        warm_up_ms=told.get("warm_up", usual.warm_up_ms),
        streams=max(told.get("streams", usual.streams), threads),
        threads=threads,
        cuda_graph=told.get("use_cuda_graph", False),
        spin_wait=told.get("use_spin_wait", False),
        data_transfers=not told.get("no_data_transfers", False),
        overlap_transfers=told.get("overlap_transfers", False),
        default_stream=told.get("default_stream", False),
        pageable=told.get("pageable", False),
        sleep_ms=told.get("idle_time", usual.sleep_ms),
        device=told.get("device", usual.device),
    )


def settings_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """How one is built and loaded, by name of `runner.options.OPTIONS`: what is given of the options."""
    told = {option.name: options.get(option.name) for option in OPTIONS}
    return {name: value for name, value in told.items() if value is not False and value not in (None, [])}
