"""Convolutions and matrix multiplications off the Tensor Cores."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_analyses.layers.layer_times import Kernels, device_majors
from nsight_analyses.measure import EFFORT_SHARE
from nsight_tools.analysis import COMPUTE, analysis
from nsight_tools.errors import NotApplicable
from nsight_tools.findings import NOISE_SHARE, Change, Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.run.engine import Layer, engine_layers
from nsight_tools.run.limits import NAMES, LayerLimit, Part, of_kernels, of_layers
from nsight_tools.run.limits.verdict import MEMORY, NOT_TOLD, OCCUPANCY
from nsight_tools.units import share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace

OFF_SHARE = 0.05
"""NVIDIA's skill for layer profiles: matrix multiplications off the Tensor Cores from 5 % of the time on."""
MISALIGNED_WARNING = 0.2
"""Of the inference time: where memory bounds them, layers on the Tensor Cores still take half; 10 % is a warning."""
FIRST_TENSOR_CORES = 7
"""Compute capability 7.0, Volta."""
FIRST_TF32 = 8
"""Compute capability 8.0, Ampere: before it, Tensor Cores take no FP32."""
ALIGNMENT = {"FP32": 4, "FP16": 8, "BF16": 8, "INT8": 16, "FP8": 16}
"""Multiples that Tensor Core kernels want of channels, K and N: 16 bytes; FP32 runs on them as TF32."""
TENSOR_CORE_KERNEL = re.compile(
    r"tensor\d+x\d+|imma|hmma|dmma|qmma|wmma|tensorop|gmma|warpgroup|nvjet|i\d*88\d|[shidt]\d*(884|1688|16816|16832)",
    re.IGNORECASE,
)
CUDA_CORE_KERNEL = re.compile(
    r"ffma|hfma|dp4a|sm50_xmma|[sdh]gemm|[sh]cudnn|gemv|convolve_|gcgemm|winograd|maxwell_|pascal_", re.IGNORECASE
)
"""`xmma` alone says neither: `sm80_xmma_…_ffma_…` runs on CUDA cores, `sm80_xmma_…_tensor16x8x16_…` does not."""
USED = 0.02
"""Share of the Tensor Cores' peak: the samples are whole percents, so that less than one to either side is not told.
A layer that computes on them is at 10 % and more; if it is off by two, the same ones are found."""
PADDING_BRINGS_NOTHING = (MEMORY, OCCUPANCY)
_DEPTHWISE_KERNEL = re.compile(r"depthwise|conv\dd_c1_k1|grouped_direct", re.IGNORECASE)
_SINGLE_KERNEL = re.compile(r"f32f32_f32f32|sgemm|scudnn")
_HALF_KERNEL = re.compile(r"f16f16|bf16|fp16|hmma|imma|h\d*(884|1688|16816)|i8i8|e4m3|\bhgemm", re.IGNORECASE)
_MATRIX_KERNEL = re.compile(r"fprop|dgrad|conv\dd_|convolve|deconv|gemm|gemv|[sh]cudnn|winograd|nvjet", re.IGNORECASE)


@dataclass(frozen=True)
class Slow:
    """A layer (or a kernel without layer) off the Tensor Cores, with the dimension that explains it, if one does."""

    name: str
    time: int
    kernel: str
    dtype: str
    misaligned: str
    of_layer: bool
    tensor: Part | None = None
    """Share of their peak that the Tensor Cores are active at, where GPU metrics tell."""
    limit: str = ""
    """What limits the layer, where they tell."""


@analysis(
    "FUS005", needs={"kernels"}, topic="tensor cores", bucket=COMPUTE, picture="layers", warns_from=MISALIGNED_WARNING
)
def layers_off_tensor_cores(trace: Trace) -> Iterator[Finding]:
    """Convolutions or matrix multiplications do not use the Tensor Cores.

    Measures: layers whose `layers.type` is a convolution or a matrix multiplication and of whose kernels (and tactic)
    one is named as CUDA cores' (ffma, sgemm, scudnn, sm50_xmma, gemv, …) and none as Tensor Cores' (tensor16x8x16,
    imma, hmma, gmma, s1688, 16816, nvjet, …), as a share of all kernels' time; kernels that are in no layer go by their
    own name. From 5 % on, as in NVIDIA's skill for layer profiles, and 2.5 % of the inference time, of what could be
    changed: layers with a misaligned dimension, and all of them where nothing in the engine works in half precision.
    Where GPU metrics tell how active the Tensor Cores are (`layer_limits`), that decides before the names: a layer that
    uses 2 % of their peak for sure is not counted, whatever its kernels are called, and one that stays below is, where
    no name says otherwise. A misaligned dimension then explains only what neither device memory nor idle SMs limit:
    padding moves more bytes, and fills no SM.
    Otherwise TensorRT was allowed to and timed these as faster, which is worth a look only if they take a fifth of the
    inference time. Names that say neither are not counted. Depthwise
    and grouped convolutions are not counted either: with so few channels a group there is nothing for Tensor Cores.
    A dimension explains it where it is no multiple of 4 (FP32, as TF32 from compute capability 8.0 on), 8 (FP16) or 16
    (INT8): channels in and out of a convolution (C, K), inner and last dimension of a multiplication (K, N). One that
    padding would double, as a single channel, explains nothing: the padding would cost what it brings. The bound is
    these layers' kernel time. A warning only where layers with such a dimension take 20 % of the inference time:
    precision is the user's choice.

    Why it matters: Tensor Cores multiply 8 times as fast as CUDA cores or more; memory-bound layers gain less.

    Remedy: pad the misaligned dimension to the next multiple (in the network, with zeros); for FP32 layers allow TF32
    (TensorRT's default) or FP16. NVIDIA's TensorRT Best Practices, "Optimizing for Tensor Cores".

    Blind spots: TensorRT times both kinds and takes the faster: a layer with few channels, a first layer with 3, or a
    matrix-vector product can be best as it is, so the confidence is low. GPUs before compute capability 7.0 have no
    Tensor Cores; the GTX 16 series (7.5) has none either and is not told apart. Kernels are known by their names.
    """
    run = Run.of(trace)
    kernels = Kernels.of(run)
    majors = device_majors(run, kernels)
    if majors and max(majors) < FIRST_TENSOR_CORES:
        raise NotApplicable(
            f"the GPU has no Tensor Cores: its compute capability is {max(majors)}.x, they came with 7.0"
        )
    engine, total = engine_layers(trace), int(kernels.time.sum())
    tf32 = max(majors, default=FIRST_TF32) >= FIRST_TF32
    slow = sorted(_off(kernels, engine, _Measured.of(run), tf32=tf32), key=lambda layer: -layer.time)
    lost = sum(layer.time for layer in slow)
    misaligned = [layer for layer in slow if layer.misaligned]
    explained = sum(layer.time for layer in misaligned)
    single = sum(layer.time for layer in slow if layer.dtype == "FP32" and not layer.misaligned)
    # Where others work in half precision, TensorRT was allowed to: FP32 is then what it found fastest for these.
    actionable = explained if _half_precision(kernels, engine) else lost
    part = run.gpus.share(lost, kernels.device)
    if part < EFFORT_SHARE and (actionable < OFF_SHARE * total or part * actionable < NOISE_SHARE * lost):
        return
    yield Finding(
        "FUS005",
        Severity.WARNING,
        Confidence.MEDIUM if all(layer.tensor for layer in slow) else Confidence.LOW,
        f"{_counted(slow)} {share(lost / total)} of the kernel time without the Tensor Cores",
        _cause(slow, misaligned, explained / lost),
        "; ".join(_advice(explained, single, tf32=tf32)),
        act="let these layers use the Tensor Cores",
        evidence=(
            Evidence("kernel time off the Tensor Cores", lost, "ns"),
            Evidence("share of the kernel time", lost / total, "ratio"),
            Evidence(
                "of it in layers with a misaligned dimension", explained, "ns", detail=f"{len(misaligned)} layers"
            ),
            Evidence("of it in FP32 without one", single, "ns"),
            *(Evidence("layer", layer.time, "ns", detail=_described(layer)) for layer in slow[:5]),
        ),
        change=(Change("fp16"),) if single else (),
        loss=Loss(
            lost,
            explained / run.window_ns,
            "kernel time of these layers; what they would take on the Tensor Cores is not known",
        ),
    )


def _half_precision(kernels: Kernels, engine: dict[str, Layer]) -> bool:
    """Whether some layer works in 16 bits or fewer; by names of kernels, where no layer has a datatype."""
    types = {layer.dtype for layer in engine.values() if layer.multiplies and layer.dtype}
    if types:
        return types != {"FP32"}
    used = np.flatnonzero(np.bincount(kernels.name.codes, minlength=len(kernels.name.dictionary)))
    return any(_HALF_KERNEL.search(kernels.name.dictionary[at]) for at in used.tolist())


def _counted(slow: list[Slow]) -> str:
    what = "layer" if slow[0].of_layer else "kernel"
    one = len(slow) == 1
    return f"1 {what} that multiplies matrices takes" if one else f"{len(slow)} {what}s that multiply matrices take"


def _cause(slow: list[Slow], misaligned: list[Slow], part: float) -> str:
    if not slow[0].of_layer:
        return "they work in FP32, or what chose them found them faster: which layers they belong to is not recorded"
    rest = "TensorRT timed such a kernel as the fastest that it was allowed"
    if not misaligned:
        return rest
    most = misaligned[0]
    said = f"{share(part)} of it has a dimension that Tensor Cores cannot take as it is, as {most.misaligned}"
    return said if len(misaligned) == len(slow) else f"{said}; for the others {rest}"


def _advice(explained: int, single: int, *, tf32: bool) -> Iterator[str]:
    if explained:
        yield "pad the misaligned channels or dimensions in the network, build again and compare"
    if single:
        yield "where the accuracy holds, allow FP16 for what works in FP32" + ", or TF32 if it was switched off" * tf32
    if not (explained or single):
        yield "nothing to change unless a layer is large: then try another precision or batch and compare"


def _described(layer: Slow) -> str:
    tensor = f"Tensor Cores {layer.tensor}" if layer.tensor else ""
    limit = f"limited by {NAMES[layer.limit]}" if layer.limit and layer.limit != NOT_TOLD else ""
    facts = ", ".join(fact for fact in (layer.dtype, layer.misaligned, tensor, limit) if fact)
    if not layer.of_layer:
        return layer.kernel
    return f"{layer.name}{f' ({facts})' if facts else ''}: {layer.kernel}"


def _off(kernels: Kernels, engine: dict[str, Layer], measured: _Measured, *, tf32: bool) -> Iterator[Slow]:
    for name, times in kernels.by_layer().items():
        layer = engine.get(name)
        if name and layer is not None and layer.type:
            if layer.multiplies and layer.groups == 1:
                yield from _judge(name, times, layer, measured, tf32=tf32)
            continue
        matrices = {kernel: time for kernel, time in times.items() if _MATRIX_KERNEL.search(kernel)}
        if name:
            yield from _judge(name, matrices, None, measured, tf32=tf32)
            continue
        for kernel, time in matrices.items():
            yield from _judge(kernel, {kernel: time}, None, measured, tf32=tf32)


def _judge(name: str, times: dict[str, int], layer: Layer | None, measured: _Measured, *, tf32: bool) -> Iterator[Slow]:
    named = [*times, layer.tactic if layer else ""]
    tensor, limit = measured.about(name)
    if any(TENSOR_CORE_KERNEL.search(name) or _DEPTHWISE_KERNEL.search(name) for name in named):
        return
    if not times or (tensor is not None and tensor.low >= USED):
        return
    told = [kernel for kernel in times if CUDA_CORE_KERNEL.search(kernel)]
    if told or CUDA_CORE_KERNEL.search(named[-1]) or (tensor is not None and tensor.high < USED):
        longest = max(told or times, key=lambda kernel: times[kernel])
        dtype = layer.dtype if layer else "FP32" if _SINGLE_KERNEL.search(longest) else ""
        fits = limit in PADDING_BRINGS_NOTHING or (dtype == "FP32" and not tf32)
        misaligned = "" if fits else _misaligned(layer)
        yield Slow(name, sum(times.values()), longest, dtype, misaligned, name not in times, tensor, limit)


@dataclass(frozen=True)
class _Measured:
    """What GPU metrics tell of layers and kernels, by name: how active the Tensor Cores are, and what limits them."""

    layers: dict[str, LayerLimit]
    kernels: dict[str, Part]

    @classmethod
    def of(cls, run: Run) -> _Measured:
        """Nothing where there are none."""
        if not run.trace.rows("gpu_metrics"):
            return cls({}, {})
        return cls({each.name: each for each in of_layers(run.trace)}, of_kernels(run.trace, "tensor_active"))

    def about(self, name: str) -> tuple[Part | None, str]:
        """Of a layer, or of a kernel without one."""
        if name in self.layers and not self.layers[name].together:
            return self.layers[name].parts.get("tensor_active"), self.layers[name].limit
        return self.kernels.get(name), ""


def _misaligned(layer: Layer | None) -> str:
    """The first dimension that Tensor Cores cannot take, as "C 3 is no multiple of 4"; empty where all fit."""
    if layer is None or layer.dtype not in ALIGNMENT:
        return ""
    wanted, at = ALIGNMENT[layer.dtype], 1 if layer.convolves else -1
    for letters, tensors in (("CK", layer.inputs), ("KN", layer.outputs)):
        shape = (tensors[0].shape if tensors else None) or ()
        padded = -(-shape[at] // wanted) * wanted if len(shape) > 1 else 0
        if shape and shape[at] < padded < 2 * shape[at]:
            return f"{letters[0 if layer.convolves else 1]} {shape[at]} is no multiple of {wanted}"
    return ""
