"""The GPU: its primary context, which TensorRT uses too, and what CUDA calls it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .outcome import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator


class Device:
    """One GPU and its primary context; `current` makes it this thread's."""

    def __init__(self, cuda: Any, number: int) -> None:
        try:
            cuda.init()
            count = cuda.Device.count()
        except cuda.Error as error:
            raise Failure(
                f"CUDA cannot be used: {error}", where="GPU", hint="check that nvidia-smi lists a GPU here"
            ) from error
        if not 0 <= number < count:
            raise Failure(
                f"there is no GPU {number}: CUDA sees {count}", where="GPU", hint="--device counts visible GPUs from 0"
            )
        self.cuda = cuda
        self.device = cuda.Device(number)
        self.context: Any = None

    @contextmanager
    def current(self) -> Iterator[None]:
        """Push the primary context; it is popped whatever happens, since PyCUDA aborts a thread that keeps one."""
        if self.context is None:
            try:
                self.context = self.device.retain_primary_context()
            except self.cuda.Error as error:
                hint = "the GPU may be out of memory, or in exclusive mode and taken: see nvidia-smi"
                raise Failure(f"no CUDA context: {error}", where="GPU", hint=hint) from error
        self.context.push()
        try:
            yield
        finally:
            self.context.pop()

    @property
    def capability(self) -> tuple[int, int]:
        """Compute capability, major and minor."""
        major, minor = self.device.compute_capability()
        return int(major), int(minor)

    def free_bytes(self) -> int:
        """Memory of the GPU that a program can still get, by CUDA; its context is the thread's."""
        free, _ = self.cuda.mem_get_info()
        return int(free)

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.device.name(),
            "bus_id": self.device.pci_bus_id(),
            "compute_capability": list(self.capability),
            "memory_bytes": int(self.device.total_memory()),
        }
