"""Is there a TensorRT engine in a trace at all?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools.errors import NotApplicable
from nsight_tools.run import Run

if TYPE_CHECKING:
    from nsight_tools.errors import CouldNotRun
    from nsight_tools.trace import Trace

EAGER_RUN = (
    "capture an eager run (no CUDA graph, or its capture inside the collection) with TensorRT's NVTX ranges on, or "
    "give one as --layer-pass"
)
"""What has kernels in the ranges of their layers."""


def no_layers(trace: Trace, otherwise: CouldNotRun) -> CouldNotRun | NotApplicable:
    """Why there are no layers to look into: the program runs no TensorRT, where that is certain, or `otherwise`."""
    if Run.of(trace).tensorrt is False:
        return NotApplicable("the program runs no TensorRT: no NVTX range, no layer and no kernel is its own")
    return otherwise
