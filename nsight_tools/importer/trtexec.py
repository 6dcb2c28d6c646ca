"""What trtexec writes as JSON: the engine's layers, how long each of them took, and how long each inference took.

All three can be lists of objects, told apart by the names in these. Which names there are varies by version; what one
does not write is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from nsight_tools.errors import InputError
from nsight_tools.importer.untrusted_json import parsed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class EngineLayers:
    """What `--exportLayerInfo` writes, and `IEngineInspector.get_engine_information`."""

    option: ClassVar[str] = "--exportLayerInfo"
    holds: ClassVar[str] = "the engine's layers"
    how: ClassVar[str] = "write them with trtexec --exportLayerInfo, or with the engine inspector"

    layers: list[dict[str, Any]]
    """Each with its Name, and with nothing else where the engine was built without DETAILED verbosity."""


@dataclass(frozen=True)
class LayerTimes:
    """What one layer took, as IProfiler measured it."""

    name: str
    time_ms: float | None = None
    """Of all inferences that were measured, together."""
    average_ms: float | None = None
    median_ms: float | None = None
    percentage: float | None = None
    """Of the time of all layers."""


@dataclass(frozen=True)
class Profile:
    """What `--exportProfile` writes: layers in order of execution."""

    option: ClassVar[str] = "--exportProfile"
    holds: ClassVar[str] = "layer times"
    how: ClassVar[str] = "write them with trtexec --exportProfile"

    count: int | None
    """Inferences that were measured."""
    layers: list[LayerTimes]


@dataclass(frozen=True)
class InferenceTimes:
    """One inference: moments since the run began, and what its parts took. Each is written with six digits."""

    start_enqueue_ms: float | None = None
    end_enqueue_ms: float | None = None
    start_h2d_ms: float | None = None
    end_h2d_ms: float | None = None
    start_compute_ms: float | None = None
    end_compute_ms: float | None = None
    start_d2h_ms: float | None = None
    end_d2h_ms: float | None = None
    h2d_ms: float | None = None
    compute_ms: float | None = None
    d2h_ms: float | None = None
    latency_ms: float | None = None
    """Copies and compute together, without what lies between them."""


@dataclass(frozen=True)
class Times:
    """What `--exportTimes` writes: inferences in order."""

    option: ClassVar[str] = "--exportTimes"
    holds: ClassVar[str] = "times of inferences"
    how: ClassVar[str] = "write them with trtexec --exportTimes"

    inferences: list[InferenceTimes]


Wanted = TypeVar("Wanted", EngineLayers, Profile, Times)


def read(path: Path, wanted: type[Wanted]) -> Wanted:
    """What a file holds, which has to be what is `wanted`.

    Raises InputError where it cannot be read, is another one of the three, or none of them.
    """
    try:
        # TensorRT writes a raw 0x1E between fused ONNX layers: not strict JSON.
        value = told(parsed(path.read_text(encoding="utf-8", errors="replace")))
    except (OSError, ValueError) as error:
        raise InputError(path, f"is no JSON: {error}", hint=wanted.how) from error
    if isinstance(value, wanted):
        return value
    what = f"is trtexec's {value.option}: {value.holds}, not" if value else "has no list of"
    raise InputError(path, f"{what} {wanted.holds}", hint=wanted.how)


_LAYER_TIMES = {
    "timeMs": "time_ms",
    "averageMs": "average_ms",
    "medianMs": "median_ms",
    "percentage": "percentage",
}
_INFERENCE_TIMES = {
    "startEnqMs": "start_enqueue_ms",
    "endEnqMs": "end_enqueue_ms",
    "startH2dMs": "start_h2d_ms",
    "endH2dMs": "end_h2d_ms",
    "startComputeMs": "start_compute_ms",
    "endComputeMs": "end_compute_ms",
    "startD2hMs": "start_d2h_ms",
    "endD2hMs": "end_d2h_ms",
    "h2dMs": "h2d_ms",
    "computeMs": "compute_ms",
    "d2hMs": "d2h_ms",
    "latencyMs": "latency_ms",
    # Older versions' names for the copies.
    "startInMs": "start_h2d_ms",
    "endInMs": "end_h2d_ms",
    "startOutMs": "start_d2h_ms",
    "endOutMs": "end_d2h_ms",
    "inMs": "h2d_ms",
    "outMs": "d2h_ms",
}


def as_json(value: EngineLayers | Profile | Times) -> Any:
    """What trtexec writes of it, by the names of its newest version; what is None is left out."""
    if isinstance(value, EngineLayers):
        return {"Layers": value.layers, "Bindings": []}
    if isinstance(value, Times):
        return [_named(inference, _INFERENCE_TIMES) for inference in value.inferences]
    rows = [{"name": layer.name, **_named(layer, _LAYER_TIMES)} for layer in value.layers]
    return [{"count": value.count}, *rows] if value.count is not None else rows


def _named(value: LayerTimes | InferenceTimes, names: Mapping[str, str]) -> dict[str, float]:
    """The numbers of a row by trtexec's names; where it has had two for one, by the first."""
    numbers: dict[str, float] = {}
    of = {ours: theirs for theirs, ours in reversed([*names.items()])}
    for ours in dict.fromkeys(names.values()):
        if (number := getattr(value, ours)) is not None:
            numbers[of[ours]] = number
    return numbers


def told(value: object) -> EngineLayers | Profile | Times | None:
    """Which of the three a JSON value is; None where it is none, as a list of nothing."""
    items = value.get("Layers") if isinstance(value, dict) else value or None
    if not isinstance(items, list) or not all(isinstance(item, (dict, str)) for item in items):
        return None
    objects: list[dict[str, Any]] = [{"Name": item} if isinstance(item, str) else item for item in items]
    if all("Name" in item for item in objects):
        return EngineLayers(objects)
    names = {name for item in objects for name in item}
    if names & _INFERENCE_TIMES.keys():
        return Times([InferenceTimes(**_numbers(item, _INFERENCE_TIMES)) for item in objects])
    if names & {"count", *_LAYER_TIMES}:
        count = next((item["count"] for item in objects if type(item.get("count")) is int), None)
        named = [item for item in objects if isinstance(item.get("name"), str)]
        return Profile(count, [LayerTimes(item["name"], **_numbers(item, _LAYER_TIMES)) for item in named])
    return None


def _numbers(item: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, float]:
    """What an object says of `names`, where it is a number, by our names."""
    return {ours: float(item[theirs]) for theirs, ours in names.items() if _is_number(item.get(theirs))}


def _is_number(value: object) -> bool:
    return isinstance(value, float) or (type(value) is int and abs(value) < 1 << 53)
