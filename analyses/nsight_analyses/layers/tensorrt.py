"""Is there a TensorRT engine in a trace at all?"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nsight_tools.columns import words
from nsight_tools.cuda_names import CallKind
from nsight_tools.errors import CouldNotRun, NotApplicable
from nsight_tools.run import Run

if TYPE_CHECKING:
    from nsight_tools.trace import Trace

_ITS_KERNELS = re.compile(r"xmma|cask|myl|trt|nvinfer|generatedNative|cudnn|cutlass|nchw|nhwc", re.IGNORECASE)
"""Names that TensorRT's kernels have in any version; others' libraries share some, which leaves it open."""


def no_layers(trace: Trace, reason: str) -> CouldNotRun | NotApplicable:
    """Why there are no layers to look into: the program runs no TensorRT, where that is certain, else `reason`."""
    if _none(trace):
        return NotApplicable("the program runs no TensorRT: no NVTX range, no layer and no kernel is its own")
    return CouldNotRun(reason)


def _none(trace: Trace) -> bool:
    """Whether a trace has nothing of TensorRT's, though NVTX was traced and no CUDA graph could hide an engine."""
    if not trace.rows("nvtx_ranges") or not trace.rows("kernels") or trace.rows("layers"):
        return False
    if (trace.manifest.get("system") or {}).get("tensorrt") or trace.rows("graph_launches"):
        return False
    if (Run.of(trace).calls.kind == CallKind.GRAPH_LAUNCH).any():
        return False
    domains = words(trace.table("nvtx_ranges", ["domain"])["domain"])
    names = words(trace.table("kernels", ["name"])["name"])
    return "TensorRT" not in domains.counts() and not any(_ITS_KERNELS.search(name) for name in names.counts())
