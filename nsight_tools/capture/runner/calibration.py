"""INT8 ranges of a network: of its Q/DQ layers, of calibration data, or placeholders where they are asked for."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import outputs, toolkit
from .outcome import Failure
from .tensors import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from .applied import Building

    Batch = dict[str, NDArray[Any]]

PLACEHOLDER_RANGE = 4.0
"""Dynamic range of every tensor where placeholders are asked for; trtexec's are 2 and 4. Times are all that is read."""
CACHE = ".cache"
WHERE = "--calibration-data"


def give_ranges(building: Building, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Give the network the ranges that INT8 needs; what they are from, or None where INT8 is not allowed.

    Raises Failure where there are none, and no placeholders are asked for.
    """
    if not {"int8", "best"} & settings.keys():
        return None
    if any(layer.type.name in {"QUANTIZE", "DEQUANTIZE"} for layer in building.layers()):
        return {"int8_ranges": "model"}
    if "calibration_data" in settings:
        return _calibrate(building, Path(settings["calibration_data"]))
    if "placeholder_ranges" in settings:
        _placeholders(building)
        return {"int8_ranges": "placeholder"}
    raise Failure(
        "the model has no Q/DQ layers and there is no calibration data, so that INT8 has no ranges",
        where="--int8" if "int8" in settings else "--best",
        hint="quantize the model (NVIDIA ModelOpt does), or give --calibration-data; --placeholder-ranges measures "
        "times alone, with results that mean nothing",
    )


def _placeholders(building: Building) -> None:
    """Without ranges TensorRT refuses INT8; with these, times hold and results mean nothing."""
    tensors = building.inputs()
    for layer in building.layers():
        tensors += [layer.get_output(i) for i in range(layer.num_outputs)]
    for tensor in tensors:
        if tensor is not None:
            tensor.set_dynamic_range(-PLACEHOLDER_RANGE, PLACEHOLDER_RANGE)


def _calibrate(building: Building, path: Path) -> dict[str, Any]:
    cache = _bytes(path) if path.suffix == CACHE else None
    files = [] if cache is not None else _files(path)
    digest = hashlib.sha256(cache or b"")
    batches: Sequence[Batch] = [_batch(building, file, digest) for file in files]
    first = {name: array.shape for name, array in batches[0].items()} if batches else {}
    for file, batch in zip(files, batches, strict=True):
        if {name: array.shape for name, array in batch.items()} != first:
            raise Failure(
                f"has other shapes than {files[0].name}", where=str(file), hint="all batches are of one shape"
            )
    building.config.int8_calibrator = _calibrator(building.trt, batches, cache)
    if any(-1 in tensor.shape for tensor in building.inputs()):
        _profile(building, first)
    return {
        "int8_ranges": "calibration cache" if cache is not None else "calibration",
        "calibration_batches": len(batches),
        "calibration_sha256": digest.hexdigest(),
    }


def _files(path: Path) -> list[Path]:
    found = sorted([*path.glob("*.npz"), *path.glob("*.npy")]) if path.is_dir() else [path]
    if not found or not path.exists():
        what = "holds no .npz and no .npy" if path.exists() else "does not exist"
        hint = "each is a batch: .npz with an array for each input, or .npy where there is one input"
        raise Failure(what, where=f"{WHERE} {path}", hint=hint)
    return found


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Failure(f"cannot be read: {error.strerror}", where=f"{WHERE} {path}", hint="check the path") from error


def _batch(building: Building, file: Path, digest: Any) -> Batch:
    digest.update(_bytes(file))
    try:
        arrays = outputs.read(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise Failure(f"cannot be read as a batch: {error}", where=str(file)) from error
    inputs = building.inputs()
    if "" in arrays and len(inputs) == 1:
        arrays = {inputs[0].name: arrays[""]}
    batch = {}
    for tensor in inputs:
        kind, array = kind_of(tensor.dtype, tensor.name), arrays.get(tensor.name)
        if array is None:
            raise Failure(f"has no array for input {tensor.name}", where=str(file), hint="name arrays as the inputs")
        fits = len(array.shape) == len(tensor.shape) and all(
            b in {-1, a} for a, b in zip(array.shape, tensor.shape, strict=True)
        )
        if not fits or array.dtype.name != kind.numpy:
            raise Failure(
                f"has {array.dtype} {list(array.shape)} for input {tensor.name}, which is {kind.name} "
                f"{list(tensor.shape)}",
                where=str(file),
            )
        batch[tensor.name] = np.ascontiguousarray(array)
    return batch


def _profile(building: Building, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """The profile that dynamic inputs are calibrated with; a cache needs none of its own."""
    if shapes:
        profile = building.builder.create_optimization_profile()
        for name, shape in shapes.items():
            profile.set_shape(name, shape, shape, shape)
        building.config.set_calibration_profile(profile)


def _calibrator(trt: Any, batches: Sequence[Batch], cache: bytes | None) -> Any:
    """TensorRT's entropy calibrator over these batches, or over a cache that another calibration left."""

    class Calibrator(trt.IInt8EntropyCalibrator2):  # type: ignore[misc]  # TensorRT has no type stubs
        def __init__(self) -> None:
            trt.IInt8EntropyCalibrator2.__init__(self)
            self._waiting: Iterator[Batch] = iter(batches)
            self._buffers: dict[str, Any] = {}

        def get_batch_size(self) -> int:
            return next((array.shape[0] for batch in batches for array in batch.values() if array.shape), 1)

        def get_batch(self, names: Sequence[str]) -> list[int] | None:
            batch = next(self._waiting, None)
            if batch is None:
                return None
            cuda = toolkit.cuda()
            for name in names:
                if name not in self._buffers:
                    self._buffers[name] = cuda.mem_alloc(max(batch[name].nbytes, 1))
                cuda.memcpy_htod(int(self._buffers[name]), batch[name])
            return [int(self._buffers[name]) for name in names]

        def read_calibration_cache(self) -> bytes | None:
            return cache

        def write_calibration_cache(self, cache: Any) -> None:
            """Nothing is kept: the data is what a build is made from."""

    return Calibrator()
