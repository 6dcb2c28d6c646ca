"""What the runner's processes are ordered to do, as `task.json` has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nsight_tools.capture.options import plain
from nsight_tools.capture.runner.options import given

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nsight_tools.capture.options import Build, Load


def of_probe(load: Load, build: Build) -> dict[str, Any]:
    """See whether this Python has what is needed and asked for."""
    return {**plain(load), "settings": build.settings, "runtime": build.runtime}


def of_build(model: Path, engine: Path, load: Load, build: Build, *, profiles: int) -> dict[str, Any]:
    """Build `engine` of an ONNX model; for dynamic shapes with so many optimization profiles."""
    return {
        "onnx": str(model.absolute()),
        "engine": str(engine),
        "settings": build.settings,
        "runtime": build.runtime,
        "shapes": load.shapes,
        "batch": load.batch,
        "profiles": profiles,
        "device": load.device,
    }


def of_loading(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What of these settings loads an engine, and does not only build it."""
    return {option.name: value for option, value in given(settings) if option.of != "build"}


def of_run(engine: Path, load: Load, build: Build) -> dict[str, Any]:
    """Run an engine; what is measured or traced beside that is left out, for the caller to ask for."""
    return {
        **plain(load),
        "engine": str(engine),
        "settings": of_loading(build.settings),
        "runtime": build.runtime,
        "inputs": {name: str(path.absolute()) for name, path in load.inputs.items()},
        "layer_ranges": False,
        "ranges": False,
        "capture_range": False,
        "throughput": False,
        "own_cost": False,
        "further_context": False,
        "outputs": False,
        "keep_inputs": False,
        "inspect": False,
    }
