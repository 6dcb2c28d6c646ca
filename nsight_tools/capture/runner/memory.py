"""What an engine takes of the GPU's memory: what TensorRT says, and by how much CUDA's free memory became less."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .lanes import Lane
from .outcome import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .device import Device
    from .engine import Engine
    from .task import Task


class Memory:
    """Free memory of the GPU, bytes, from before an engine is loaded on.

    What other programs take or give back meanwhile counts as the engine's own.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._before = device.free_bytes()
        self._found: dict[str, Any] = {}

    def loaded(self) -> None:
        """The engine is loaded, and has no context yet."""
        self._found["engine_bytes"] = max(self._before - self._device.free_bytes(), 0)

    def measured(self, lanes: Sequence[Lane]) -> None:
        """Inferences ran in these contexts, whose buffers are still there."""
        free = self._device.free_bytes()
        self._found |= {
            "free_bytes": free,
            "taken_bytes": max(self._before - free, 0),
            "activations_bytes": lanes[0].activation_bytes,
            "buffers_bytes": lanes[0].buffer_bytes,
        }

    def try_one_more(self, engine: Engine, task: Task) -> None:
        """Make one more context with its buffers, and count how many of the kind the free memory holds.

        A context takes what CUDA's free memory became less by, and no less than TensorRT and the buffers say: small
        ones find room in what is allocated already.
        """
        before = self._device.free_bytes()
        try:
            lane = Lane(engine, replace(task, streams=task.streams + 1), task.streams)
            lane.make_slots(overlap=task.overlap_transfers, by_stage=False)
        except (Failure, self._device.cuda.Error, MemoryError) as error:
            self._found["no_further_context"] = str(error)
            return
        asked = lane.activation_bytes + lane.buffer_bytes
        takes = max(before - self._device.free_bytes(), asked, 1)
        self._found |= {"further_context_bytes": takes, "further_contexts": self._found["free_bytes"] // takes}

    def as_json(self) -> dict[str, Any]:
        return self._found
