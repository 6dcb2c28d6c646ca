"""What to change, in the words of trtexec, of the APIs that a program calls, and of our own `capture`."""

from __future__ import annotations

from dataclasses import dataclass

from nsight_tools.capture.runner.options import BY_NAME
from nsight_tools.findings import Change


@dataclass(frozen=True)
class Said:
    """One change: trtexec's flag, what a program calls, and our own option; empty where there is none."""

    trtexec: str
    api: str
    option: str

    def __str__(self) -> str:
        told = [f"trtexec {self.trtexec}" if self.trtexec else "", self.api, f"nsight-tools capture {self.option}"]
        return "; ".join(each for each in told if each)


_WORDS: dict[str, tuple[str, str]] = {
    "use_cuda_graph": (
        "--useCudaGraph",
        "cudaStreamBeginCapture around enqueueV3, after one enqueue with the same shapes, then cudaGraphLaunch",
    ),
    "use_spin_wait": ("--useSpinWait", "cudaDeviceScheduleSpin, and events without cudaEventBlockingSync"),
    "streams": ("--infStreams={value}", "an execution context for each of {value} streams, with buffers of its own"),
    "threads": ("--threads", "{value} host threads that enqueue, each for contexts of its own"),
    "overlap_transfers": (
        "without --exposeDMA",
        "cudaMemcpyAsync of the next inference on a stream of its own, two sets of page-locked buffers",
    ),
    "no_data_transfers": ("--noDataTransfers", "inputs and outputs that stay on the GPU"),
    "batch": ("--shapes with {value} as first dimension", "setInputShape with {value} as first dimension"),
    "pageable": ("", "cudaHostAlloc or cudaMallocHost for the host's buffers"),
    "default_stream": ("", "enqueueV3 on a stream made by cudaStreamCreateWithFlags with cudaStreamNonBlocking"),
}
"""By option of how an engine is run: trtexec's flag and the API, for the value that is a remedy (False of what is a
mistake). How one is built and loaded says its own table."""


def said(change: Change) -> Said:
    """A change in everybody's words; of an option that is not known here only itself."""
    row = BY_NAME.get(change.option)
    words = (row.trtexec, row.api) if row else _WORDS.get(change.option, ("", ""))
    trtexec, api = (word.format(value=change.value) for word in words)
    option = f"--{change.option.replace('_', '-')}"
    if isinstance(change.value, bool):
        return Said(trtexec, api, option if change.value else f"without {option}")
    return Said(trtexec, api, f"{option} {change.value}")


ONE_STREAM = ("use_cuda_graph", "overlap_transfers", "streams", "threads")
"""Options that the default stream does not allow: CUDA cannot capture on it, and it is one stream."""
OFF_DEFAULT = Change("default_stream", value=False)
"""What comes before them, where a program enqueues there."""
_DONE = {
    "use_cuda_graph": "use a CUDA graph",
    "use_spin_wait": "spin while the host waits",
    "overlap_transfers": "overlap copies with kernels",
    "pageable": "pin the host's buffers",
    "default_stream": "leave the default stream",
    "streams": "use {value} streams",
    "threads": "use {value} threads",
    "fp16": "allow FP16",
}


def done(change: Change) -> str:
    """What to do, in a few words: `use a CUDA graph`."""
    return _DONE.get(change.option, said(change).option).format(value=change.value)
