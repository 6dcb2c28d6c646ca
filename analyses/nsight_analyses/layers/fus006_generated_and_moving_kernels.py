"""Generated kernels, and kernels that only move data."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nsight_analyses.layers.layer_times import Kernels
from nsight_tools.analysis import COMPUTE, analysis
from nsight_tools.findings import NOISE_SHARE, Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.run.engine import Layer, engine_layers
from nsight_tools.units import share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace

GENERATED_SHARE = 0.25
"""NVIDIA's skill for layer profiles looks at generated kernels from 25 % of the time on."""
MOVED_SHARE = 0.03
"""The same skill's bar for shape and cast layers."""
_GENERATED = re.compile(r"^__myl_|\bkgen|generatedNativePointwise")
_MOVES = re.compile(
    r"genericReformat|copyPacked|copyVectorized|nchw_?to|nhwc_?to|_to_nchw|_to_nhwc|nchwTo|nhwcTo|transpose|permut|"
    r"shuffle(?!d)|CatArrayBatchedCopy|copy_kernel|CopyKernel|^__myl_(Move|Tran|Resh|Conc|Slic|Cast|Repl)+_"
)
"""Myelin writes the operations that it fused into a kernel's name, some cut to four letters: `__myl_MoveConc_…`."""
_REGION = re.compile(r"\{ForeignNode\[(.*)\]\}")


@analysis("FUS006", needs={"kernels"}, topic="generated kernels", bucket=COMPUTE, picture="layers")
def generated_and_moving_kernels(trace: Trace) -> Iterator[Finding]:
    """A good part of the kernel time is generated kernels, or kernels that only move data.

    Measures: by kernel name, the share of the inferences' kernel time in kernels that TensorRT generated (Myelin's
    `__myl_…`, `kgen`, and `generatedNativePointwise`), and in kernels that copy, transpose, shuffle or convert without
    computing. Kernels of reformat layers are left out of the latter where layers are known. From 25 %
    or 3 % on, the bars of NVIDIA's skill for layer profiles, and 2.5 % of the inference time. Regions that Myelin
    compiled as one (`{ForeignNode[…]}`) are counted by name. Only information: a share is no loss. For data movement
    the bound is its kernel time.

    Why it matters: generated kernels are where an engine's time goes that no library kernel (convolution, GEMM,
    attention) covers: normalizations, activations, masks. A large share says that the network is bound by memory, not
    by mathematics, and that a fusion (attention, a normalization with its neighbours) did not happen.

    Remedy: look at the largest ones' names, which spell the operations fused; write attention and normalization in the
    form that TensorRT knows (opset's LayerNormalization, unmasked or additive-mask attention), or use a plugin; for
    transposes keep one layout through the network. NVIDIA's TensorRT Best Practices, "Layer Fusion".

    Blind spots: kernels are known by name only, and generated ones can be the best there is. Where layers are not known
    (a CUDA graph captured before the collection, and no layer pass), reformats count as movement here.
    """
    run = Run.of(trace)
    kernels = Kernels.of(run)
    engine, time, total = engine_layers(trace), kernels.time, int(kernels.time.sum())
    reformats = kernels.layer.where(lambda name: engine.get(name, Layer(name)).reformats)
    generated = kernels.name.where(lambda name: bool(_GENERATED.search(name)))
    moves = kernels.name.where(lambda name: bool(_MOVES.search(name))) & ~reformats
    made, moved = int(time[generated].sum()), int(time[moves].sum())
    many, much = (
        spent >= bar * max(total, 1) and run.gpus.share(spent, kernels.device) >= NOISE_SHARE
        for spent, bar in ((made, GENERATED_SHARE), (moved, MOVED_SHARE))
    )
    if not (many or much):
        return
    regions = [name for name in dict.fromkeys(kernels.layer.dictionary) if _REGION.search(name)]
    said = [f"generated kernels take {share(made / total)}"] * many + [
        f"kernels that only move data take {share(moved / total)}"
    ] * much
    yield Finding(
        "FUS006",
        Severity.INFO,
        Confidence.MEDIUM,
        f"{' and '.join(said)} of the kernel time",
        "no library kernel covers these operations, or none could take them in"
        if many
        else "tensors change layout, datatype or place between kernels",
        "look at the operations in the largest kernels' names: "
        + (
            "one memory format throughout (channels_last), or a compiler that fuses them, would take them in"
            if run.tensorrt is False
            else "a fusion that TensorRT knows, one layout throughout, or a plugin would take them in"
        ),
        act="fuse the kernels that only move data",
        evidence=(
            Evidence("kernel time in generated kernels", made, "ns"),
            Evidence("kernel time that only moves data", moved, "ns"),
            *(
                Evidence("regions that Myelin compiled", len(regions), "count", detail="; ".join(regions[:3]))
                for _ in regions[:1]
            ),
            *(
                Evidence("kernel", spent, "ns", detail=name)
                for name, spent in _largest(kernels[generated & many | moves & much])
            ),
        ),
        loss=Loss(moved, run.gpus.share(moved, kernels.device), "kernel time of the kernels that only move data")
        if much
        else None,
    )


def _largest(kernels: Kernels) -> list[tuple[str, int]]:
    times: dict[str, int] = {}
    for by_kernel in kernels.by_layer().values():
        for name, time in by_kernel.items():
            times[name] = times.get(name, 0) + time
    return sorted(times.items(), key=lambda item: -item[1])[:5]
