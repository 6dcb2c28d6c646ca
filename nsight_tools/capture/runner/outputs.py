"""An engine's outputs for fixed inputs, read once after the measured run: what a change did to the results.

They are those of the first stream's first buffers, as it was measured: with its CUDA graph, if it has one.
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from . import toolkit
from .loop import EnqueueError
from .outcome import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from .engine import Engine
    from .lanes import Lane
    from .task import Task
    from .tensors import Bytes, Shape, Tensor

    Array = NDArray[Any]

OUTPUTS, INPUTS = "outputs.npz", "inputs.npz"
"""Arrays by tensor, in the task's folder."""
MOST_VALUES = 1 << 24
"""Of all outputs, in the file: 64 MB of float32. Larger ones are thinned out (`every`). Off by two, it is twice the
disk, or an error that is known from half as many values: with millions of them the measures do not move."""


def keep(engine: Engine, task: Task, lane: Lane) -> dict[str, Any]:
    """Run the lane's first slot once more and write its outputs; what result.json says of them, and of the inputs.

    Raises EnqueueError where it cannot be run.
    """
    slot, synchronize = lane.slots[0], toolkit.cuda().Context.synchronize
    for copy in slot.inward:
        copy()
    synchronize()
    if not slot.enqueue():
        raise EnqueueError("the inference whose outputs are kept could not be enqueued")
    synchronize()
    for fetch in slot.fetch:
        fetch()
    synchronize()
    hosts = {**lane.host_inputs, **slot.hosts}
    given = [_given(tensor, lane.shapes[tensor.name], hosts[tensor.name], task) for tensor in engine.inputs]
    if task.keep_inputs:
        arrays = dict(_arrays(engine.inputs, lane.shapes, hosts))
        write_atomically(task.output / INPUTS, packed(arrays))
    share = MOST_VALUES // max(len(engine.outputs), 1)
    arrays, told = {}, []
    for tensor in engine.outputs:
        shape = lane.shapes[tensor.name]
        said: dict[str, Any] = {
            **tensor.as_json(shape),
            "values": math.prod(shape),
            "not_read": _unreadable(engine, tensor),
        }
        if not said["not_read"]:
            whole = as_array(tensor, shape, hosts[tensor.name])
            said |= {"every": every(shape, share), **_odd(whole)}
            arrays[tensor.name] = thinned(whole, said["every"])
        told.append(said)
    write_atomically(task.output / OUTPUTS, packed(arrays))
    return {"inputs": given, "outputs": told}


def every(shape: Shape, most: int) -> int:
    """1, or so that every so-manieth value of an array of this shape makes at most `most`.

    It has no divisor in common with any extent: else it would meet some channels, rows or columns only.
    """
    step = -(-math.prod(shape) // max(most, 1))
    if step <= 1:
        return 1
    while math.gcd(step, math.prod(shape)) > 1:
        step += 1
    return step


def thinned(array: Array, step: int) -> Array:
    """Every so-manieth value, in one dimension; the array as it is for 1."""
    return array if step == 1 else np.ascontiguousarray(array.reshape(-1)[::step])


def as_array(tensor: Tensor, shape: Shape, content: Bytes) -> Array:
    """A buffer as an array of the tensor's type; of BF16, which NumPy lacks, as float32."""
    count = tensor.elements(shape)
    if tensor.kind.name == "bfloat16":
        wide = content[: 2 * count].view(np.uint16).astype(np.uint32) << 16
        return wide.view(np.float32).reshape(shape)
    assert tensor.kind.numpy is not None  # others are not read
    dtype = np.dtype(tensor.kind.numpy)
    return content[: count * dtype.itemsize].view(dtype).reshape(shape)


def packed(arrays: Mapping[str, Array]) -> memoryview:
    """A file of NumPy's `.npz`; unlike `numpy.savez` it takes every name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return buffer.getbuffer()


def read(path: Path) -> dict[str, Array]:
    """The arrays of such a file or of `numpy.savez`, by name; of a `.npy`, its array under no name.

    Raises OSError, ValueError, EOFError or zipfile.BadZipFile.
    """
    with path.open("rb") as file:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded as archive:
            return {name: archive[name] for name in archive.files}


def _readable(tensor: Tensor) -> bool:
    return tensor.kind.numpy is not None or tensor.kind.name == "bfloat16"


def _unreadable(engine: Engine, tensor: Tensor) -> str | None:
    """Why an output is not read; None where it is."""
    layout = engine.engine.get_tensor_format(tensor.name)
    if layout != engine.trt.TensorFormat.LINEAR:
        return f"its format is {layout.name}, and only LINEAR ones are read"
    return None if _readable(tensor) else f"NumPy has no {tensor.kind.name}"


def _arrays(
    tensors: list[Tensor], shapes: Mapping[str, Shape], hosts: Mapping[str, Bytes]
) -> Iterator[tuple[str, Array]]:
    for tensor in tensors:
        if _readable(tensor):
            shape = tensor.shape if tensor.on_host else shapes[tensor.name]
            yield tensor.name, as_array(tensor, shape, hosts[tensor.name])


def _given(tensor: Tensor, shape: Shape, content: Bytes, task: Task) -> dict[str, Any]:
    """An input, and what it was filled with: of random numbers the seed, since other types round them."""
    drawn = tensor.name not in task.inputs and not tensor.on_host
    source = f"seed {task.seed}" if drawn else f"sha256 {hashlib.sha256(content.tobytes()).hexdigest()}"
    return {**tensor.as_json(shape), "from": source}


def _odd(array: Array) -> dict[str, int]:
    """How many values are not finite, of all of them."""
    if array.dtype.kind != "f":
        return {"nan": 0, "infinite": 0}
    return {"nan": int(np.isnan(array).sum()), "infinite": int(np.isinf(array).sum())}
