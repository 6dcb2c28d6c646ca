"""Is there a TensorRT engine in a trace at all?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools.errors import CouldNotRun, NotApplicable
from nsight_tools.run import Run

if TYPE_CHECKING:
    from nsight_tools.trace import Trace


def no_layers(trace: Trace, reason: str) -> CouldNotRun | NotApplicable:
    """Why there are no layers to look into: the program runs no TensorRT, where that is certain, else `reason`."""
    if Run.of(trace).tensorrt is False:
        return NotApplicable("the program runs no TensorRT: no NVTX range, no layer and no kernel is its own")
    return CouldNotRun(reason)
