"""Everything that an inference needs, made before the first one: streams, buffers, addresses, bound calls."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from . import graphs, specs, toolkit, versions
from .engine import handle_of, word
from .outcome import Failure
from .samples import COMPUTE, IN_ORDER, OVERLAPPED, WHOLE
from .tensors import contents

if TYPE_CHECKING:
    from collections.abc import Callable

    from .engine import Engine
    from .ranges import Ranges
    from .samples import Stages
    from .task import Task
    from .tensors import Bytes, Tensor

NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: no implicit synchronization with the default stream."""
IN_FLIGHT = 2
"""Inferences under way on a lane whose copies overlap with compute: as trtexec, one computes while another copies."""

Events = tuple[Any, ...]


@dataclass(frozen=True)
class Slot:
    """One set of buffers of a lane, and the calls that run an inference in it.

    `before(events, ranges)` copies in and `after(events, ranges)` copies out, each recording its events; `enqueue()` is
    true where it worked. `inward` and `outward` are the copies alone; `fetch` copies outputs even where no inference
    does, into `hosts`, the host's buffers by tensor.
    """

    lane: int
    stages: Stages
    before: Callable[[Events, Ranges | None], None]
    enqueue: Callable[[], bool]
    after: Callable[[Events, Ranges | None], None]
    inward: list[Callable[[], None]]
    outward: list[Callable[[], None]]
    buffers: list[Any]
    fetch: list[Callable[[], None]]
    hosts: dict[str, Bytes]


class Lane:
    """An execution context, its streams, and one slot; or two, where copies overlap with compute."""

    def __init__(self, engine: Engine, task: Task, number: int) -> None:
        self.engine, self.task, self.number = engine, task, number
        cuda = self.cuda = toolkit.cuda()
        self.stream = None if task.default_stream else cuda.Stream(NON_BLOCKING)
        self.shapes, self.shape_source = engine.shapes(task, engine.profile_of(number, task.streams))
        self.context = engine.make_context(number, task.streams, self.stream, layer_ranges=task.layer_ranges)
        engine.set_shapes(self.context, self.shapes)
        self.host_inputs = {tensor.name: self._host_input(tensor) for tensor in engine.inputs if tensor.on_host}
        for name, array in self.host_inputs.items():
            self.context.set_tensor_address(name, array.ctypes.data)
        self.shapes |= engine.output_shapes(self.context)
        self._memory, self.memory_bytes = engine.give_memory(self.context, number, task.streams)
        self.slots: list[Slot] = []

    def nvtx_verbosity(self) -> str | None:
        """What TensorRT made of the verbosity asked for: never more than the engine was built with."""
        return word(versions.nvtx_verbosity(self.context))

    @property
    def buffer_bytes(self) -> int:
        """GPU memory of the inputs and outputs of all slots."""
        on_gpu = (tensor for tensor in self.engine.tensors if not tensor.on_host)
        return len(self.slots) * sum(max(tensor.size_bytes(self.shapes[tensor.name]), 1) for tensor in on_gpu)

    @property
    def activation_bytes(self) -> int:
        """GPU memory that TensorRT says the context needs for what lies between its layers."""
        return self.memory_bytes or self.engine.device_memory_bytes

    def _host_input(self, tensor: Tensor) -> Bytes:
        """A shape tensor: TensorRT reads its values on the host. As in trtexec, --shapes gives them."""
        if tensor.name in self.task.inputs:
            return contents(tensor, tensor.shape, self.task.inputs[tensor.name], np.random.default_rng())
        values = specs.named(self.task.shapes, tensor.name)
        if values is None or tensor.kind.numpy is None or len(values) != tensor.elements(tensor.shape):
            raise Failure(
                f"input {tensor.name} is a shape tensor: TensorRT needs its {tensor.elements(tensor.shape)} values",
                where=str(self.engine.path),
                hint=f"give them as --shapes {tensor.name}:…, as to trtexec",
            )
        return np.array(values, tensor.kind.numpy).view(np.uint8)

    def make_slots(self, *, overlap: bool, by_stage: bool) -> None:
        """Allocate and bind buffers, and capture graphs; replaces earlier slots.

        `by_stage` times the stages of inferences whose copies do not overlap by an event between them. Each event
        takes the GPU a microsecond or two: a traced run has its stages in the trace, and needs but two.
        """
        for slot in self.slots:
            for buffer in slot.buffers:
                buffer.free()
        self.slots = []
        cuda, stream = self.cuda, self.stream
        streams = (cuda.Stream(NON_BLOCKING), stream, cuda.Stream(NON_BLOCKING)) if overlap else (stream,) * 3
        for number in range(IN_FLIGHT if overlap else 1):
            self.slots.append(self._slot(streams, number, alone=not overlap, by_stage=by_stage))

    def _slot(self, streams: tuple[Any, Any, Any], number: int, *, alone: bool, by_stage: bool) -> Slot:
        addresses: list[tuple[str, int]] = []
        inward: list[Callable[[], None]] = []
        outward: list[Callable[[], None]] = []
        buffers: list[Any] = []
        hosts: dict[str, Bytes] = {}
        for tensor in self.engine.tensors:
            if tensor.name in self.host_inputs:
                continue
            size = max(tensor.size_bytes(self.shapes[tensor.name]), 1)
            host = hosts[tensor.name] = self._host_buffer(tensor, size, number)
            if tensor.on_host:
                addresses.append((tensor.name, host.ctypes.data))
                continue
            device = self._device_buffer(tensor, size)
            buffers.append(device)
            addresses.append((tensor.name, int(device)))
            if tensor.is_input:
                inward.append(partial(self.cuda.memcpy_htod_async, int(device), host, streams[0]))
                inward[-1]()
            else:
                outward.append(partial(self.cuda.memcpy_dtoh_async, host, int(device), streams[2]))
        self.cuda.Context.synchronize()
        enqueue = self._enqueue(addresses, alone=alone)
        if not self.task.data_transfers:
            return Slot(self.number, COMPUTE, *_compute_only(streams[1], enqueue), [], [], buffers, outward, hosts)
        if not alone:
            calls = _overlapped(streams, inward, enqueue, outward)
            return Slot(self.number, OVERLAPPED, *calls, inward, outward, buffers, outward, hosts)
        calls = _in_order(self.stream, inward, enqueue, outward, by_stage=by_stage)
        return Slot(self.number, IN_ORDER if by_stage else WHOLE, *calls, inward, outward, buffers, outward, hosts)

    def _host_buffer(self, tensor: Tensor, size: int, slot: int) -> Bytes:
        """A buffer; an input's is filled. Its random numbers depend on its name, and not on what other inputs are."""
        try:
            pinned = not self.task.pageable
            host: Bytes = self.cuda.pagelocked_empty(size, np.uint8) if pinned else np.empty(size, np.uint8)
        except (self.cuda.Error, MemoryError) as error:
            raise _out_of_memory(f"{size} bytes of host memory for {tensor.name}", error) from error
        host[:] = 0  # touched, so that no page is missing later
        if tensor.is_input:
            path = self.task.inputs.get(tensor.name)
            generator = np.random.default_rng([self.task.seed, self.number, slot, *tensor.name.encode()])
            values = contents(tensor, self.shapes[tensor.name], path, generator)
            host[: values.size] = values
        return host

    def _device_buffer(self, tensor: Tensor, size: int) -> Any:
        try:
            return self.cuda.mem_alloc(size)
        except (self.cuda.Error, MemoryError) as error:
            raise _out_of_memory(f"{size} bytes of GPU memory for {tensor.name}", error) from error

    def _enqueue(self, addresses: list[tuple[str, int]], *, alone: bool) -> Callable[[], bool]:
        self._set_addresses(addresses)
        execute = partial(self.context.execute_async_v3, handle_of(self.stream))
        if self.task.cuda_graph:
            return graphs.capture(self.engine, self.stream, execute)  # it holds the addresses
        if alone:
            return execute
        set_address = self.context.set_tensor_address

        def enqueue() -> bool:
            for name, address in addresses:
                set_address(name, address)
            return bool(execute())

        return enqueue

    def _set_addresses(self, addresses: list[tuple[str, int]]) -> None:
        self.engine.logger.forget()
        for name, address in addresses:
            if not self.context.set_tensor_address(name, address):
                raise self.engine.failure(f"TensorRT refuses the buffer of {name}", "report this")


Calls = tuple[
    "Callable[[Events, Ranges | None], None]", "Callable[[], bool]", "Callable[[Events, Ranges | None], None]"
]


def _compute_only(stream: Any, enqueue: Callable[[], bool]) -> Calls:
    """No copies: two events around compute."""

    def before(events: Events, _ranges: Ranges | None) -> None:
        events[0].record(stream)

    def after(events: Events, _ranges: Ranges | None) -> None:
        events[1].record(stream)

    return before, enqueue, after


def _in_order(  # noqa: C901 (two functions that need their names)
    stream: Any,
    inward: list[Callable[[], None]],
    enqueue: Callable[[], bool],
    outward: list[Callable[[], None]],
    *,
    by_stage: bool,
) -> Calls:
    """Copy in, compute, copy out, one after the other on one stream: events around them all, or between them too."""

    def before(events: Events, ranges: Ranges | None) -> None:
        if ranges:
            ranges.push(ranges.h2d)
        events[0].record(stream)
        for copy in inward:
            copy()
        if by_stage:
            events[1].record(stream)
        if ranges:
            ranges.pop()

    def after(events: Events, ranges: Ranges | None) -> None:
        if ranges:
            ranges.push(ranges.d2h)
        if by_stage:
            events[2].record(stream)
        for copy in outward:
            copy()
        events[-1].record(stream)
        if ranges:
            ranges.pop()

    return before, enqueue, after


def _overlapped(
    streams: tuple[Any, Any, Any],
    inward: list[Callable[[], None]],
    enqueue: Callable[[], bool],
    outward: list[Callable[[], None]],
) -> Calls:
    """A stream each for copies in, compute and copies out, as trtexec: events order them, and time each stage."""
    stream_in, stream, stream_out = streams

    def before(events: Events, ranges: Ranges | None) -> None:
        if ranges:
            ranges.push(ranges.h2d)
        events[0].record(stream_in)
        for copy in inward:
            copy()
        events[1].record(stream_in)
        stream.wait_for_event(events[1])
        events[2].record(stream)
        if ranges:
            ranges.pop()

    def after(events: Events, ranges: Ranges | None) -> None:
        if ranges:
            ranges.push(ranges.d2h)
        events[3].record(stream)
        stream_out.wait_for_event(events[3])
        events[4].record(stream_out)
        for copy in outward:
            copy()
        events[5].record(stream_out)
        if ranges:
            ranges.pop()

    return before, enqueue, after


def _out_of_memory(what: str, error: Exception) -> Failure:
    return Failure(
        f"no {what}: {error}",
        where="buffers",
        hint="free memory (see nvidia-smi), or use fewer streams or a smaller batch",
    )
