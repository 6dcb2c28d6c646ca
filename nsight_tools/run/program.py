"""What kind of program was traced: with TensorRT, or another one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nsight_tools.columns import words

if TYPE_CHECKING:
    from nsight_tools.run.recorded import Recorded

_ITS_KERNELS = re.compile(r"xmma|cask|myl|trt|nvinfer|generatedNative|cudnn|cutlass|nchw|nhwc", re.IGNORECASE)
"""Names that TensorRT's kernels have in any version; others' libraries share some, which leaves it open."""
_TORCH = re.compile(r"\bat::native::|\bat_cuda_detail|c10::|triton_")
"""Names that kernels of PyTorch have."""
_FRAMEWORKS = re.compile(_TORCH.pattern + r"|\bxla::|paddle::|\bonnxruntime::|ggml_|vllm::|tensorrt_llm::")
"""Names that kernels of frameworks have."""


def runs_tensorrt(run: Recorded) -> bool | None:
    """Whether the program runs TensorRT; None where the trace leaves it open.

    It does where its ranges or an engine's layers are there. It does not where a framework's own kernels run and no
    range is TensorRT's, or where no CUDA graph hides anything, and no kernel could be its own.
    """
    trace = run.trace
    if trace.rows("layers") or run.requests.source.among("enqueue_range").any():
        return True
    if (trace.manifest.get("run") or {}).get("model") or (trace.manifest.get("system") or {}).get("tensorrt"):
        return True
    domains = words(trace.table("nvtx_ranges", ["domain"])["domain"]).counts()
    enqueues = words(trace.table("enqueues", ["kind"])["kind"])
    if "TensorRT" in domains or enqueues.among("enqueue_range").any():
        return True
    names = words(trace.table("kernels", ["name"])["name"]).counts()
    if any(_FRAMEWORKS.search(name) for name in names):
        return False
    hidden = trace.rows("graph_launches") or run.calls.does.among("graph_launch").any()
    if not names or hidden or any(_ITS_KERNELS.search(name) for name in names):
        return None
    return False


def runs_torch(run: Recorded) -> bool:
    """Whether kernels of PyTorch's own run."""
    return any(_TORCH.search(name) for name in words(run.trace.table("kernels", ["name"])["name"]).counts())
