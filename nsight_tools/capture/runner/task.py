"""What a process of the runner is asked to do: TASK.json, checked."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import options, versions
from .outcome import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

TASKS = ("probe", "build", "benchmark", "timing", "layers", "profiler")
RUNS = TASKS[2:]


@dataclass(frozen=True)
class Task:
    """One process of the runner: options are named as in trtexec where they mean the same."""

    task: str
    output: Path
    verbose: bool = False
    runtime: str = "tensorrt"
    """One of `versions.RUNTIMES`."""
    device: int = 0
    engine: Path | None = None
    """Serialized engine: what `build` writes, and what the runs read."""
    onnx: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    """How it is built and loaded, by name of `options.OPTIONS`."""
    profiles: int = 1
    """Optimization profiles to build for dynamic shapes: one for each stream that is to run at the same time."""
    shapes: dict[str, list[int]] = field(default_factory=dict)
    batch: int | None = None
    iterations: int = 10
    duration_s: float = 0.0
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
    """Host sleep after each inference."""
    inputs: dict[str, Path] = field(default_factory=dict)
    seed: int = 0
    layer_ranges: bool = False
    ranges: bool = False
    capture_range: bool = False
    throughput: bool = False
    """Measure with overlapped transfers, too."""
    own_cost: bool = False
    """Measure what the runner's loop itself costs, too."""
    further_context: bool = False
    """Measure what one more context takes of the GPU's memory, too."""
    outputs: bool = False
    """Keep the outputs of one inference, too."""
    keep_inputs: bool = False
    """And its inputs."""
    inspect: bool = False

    def __post_init__(self) -> None:
        problem = next((text for wrong, text in self._rules() if wrong), None)
        if problem:
            raise Failure(problem, where="task")

    def _rules(self) -> Iterator[tuple[bool, str]]:
        yield self.task not in TASKS, f"task is {self.task!r}, not one of {', '.join(TASKS)}"
        known = ", ".join(versions.RUNTIMES)
        yield self.runtime not in versions.RUNTIMES, f"runtime is {self.runtime!r}, not one of {known}"
        yield not self.output.is_dir(), f"output is no folder: {self.output}"
        yield self.task in RUNS and self.engine is None, f"{self.task} needs an engine"
        yield self.task == "build" and None in (self.onnx, self.engine), "build needs onnx and engine"
        counts = min(self.iterations, self.streams, self.threads, self.profiles)
        yield counts < 1, "iterations, streams, threads and profiles are at least 1"
        yield min(self.duration_s, self.warm_up_ms, self.sleep_ms) < 0, "times are not negative"
        many = f"{self.threads} threads for {self.streams} streams"
        yield self.threads > self.streams, f"{many}: each thread needs a stream of its own"
        alone = self.streams == 1 and not self.overlap_transfers
        no_default = "the default stream is one stream: not with several, and not with overlapped transfers"
        yield self.default_stream and not alone, no_default
        yield self.default_stream and self.cuda_graph, "CUDA cannot capture a graph on the legacy default stream"
        yield "use_dla_core" in self.settings and self.cuda_graph, "CUDA cannot capture what runs on a DLA into a graph"
        yield from ((True, problem) for problem in options.problems(self.settings))


def read_task(text: bytes) -> Task:
    """The task in TASK.json; unknown keys and values of the wrong kind are failures that name them."""
    try:
        content: dict[str, Any] = json.loads(text)
        known = {f.name: f for f in fields(Task)}
        unknown = sorted(content.keys() - known.keys())
    except (ValueError, AttributeError, TypeError) as error:
        raise Failure(f"not a JSON object: {error}", where="task") from error
    if unknown:
        raise Failure(f"unknown: {', '.join(unknown)}", where="task")
    for name, default in (("task", ""), ("output", "")):
        content.setdefault(name, default)
    try:
        for name in ("output", "engine", "onnx"):
            if content.get(name) is not None:
                content[name] = Path(content[name])
        for name in ("shapes", "inputs", "settings"):
            content[name] = dict(content.get(name) or {})
        content["inputs"] = {name: Path(path) for name, path in content["inputs"].items()}
        nullable = {name for name, f in known.items() if "None" in str(f.type)}
        return Task(**{name: value for name, value in content.items() if value is not None or name in nullable})
    except (TypeError, AttributeError) as error:
        raise Failure(f"a value of the wrong kind: {error}", where="task") from error
