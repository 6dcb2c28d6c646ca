"""FUS005: matrix multiplications off the Tensor Cores. FUS006: generated kernels, and kernels that only move data."""

from __future__ import annotations

from typing import Any

import pytest
from drawing import table
from drawn_trace import drawn, evidence_of, only
from nsight_analyses.layers.fus005_layers_off_tensor_cores import (
    CUDA_CORE_KERNEL,
    TENSOR_CORE_KERNEL,
    layers_off_tensor_cores,
)
from nsight_analyses.layers.fus006_generated_and_moving_kernels import generated_and_moving_kernels

from nsight_tools.analysis import Status
from nsight_tools.findings import Confidence, Severity

WARNING, INFO = Severity.WARNING, Severity.INFO
FFMA = "sm80_xmma_fprop_implicit_gemm_f32f32_f32f32_f32_nhwckrsc_nhwc_tilesize64x16x16_stage3_g1_ffma_simple"
TENSOR = "sm80_xmma_fprop_implicit_gemm_f16f16_f16f16_f16_nhwckrsc_nhwc_tilesize64x32x64_g1_tensor16x8x16"
DEPTHWISE = "sm50_xmma_fprop_conv2d_c1_k1_f16f16_f16_f16_nchwkcrs_nchw_tilesize10x10x8"
HOPPER: dict[str, Any] = {"gpu": {"compute_major": 9, "compute_minor": 0}}


@pytest.mark.parametrize(
    "name",
    [
        TENSOR,
        "sm90_xmma_fprop_implicit_gemm_f32f32_tf32f32_f32_tilesize256x32x32_cgasize1x1x1_warpgroupsize1x1x1_g1_beta0",
        "volta_s884cudnn_fp16_128x128_ldg8_relu_exp_interior_nhwc_tn_v1",
        "trt_volta_h884cudnn_256x64_ldg8_relu_exp_small_nhwc_tn_v1",
        "trt_turing_h1688cudnn_128x128_ldg8_relu_exp_medium_nhwc_tn_v1",
        "turing_fp16_s1688gemm_fp16_128x64_ldg8_f2f_tn",
        "trt_ampere_int8x4_imma_conv",
        "trt_turing_int8_i8816cudnn_int8_256x64_ldg16_relu_singleBuffer_medium_nt_v1",
        "cutlass_80_tensorop_f16_s16816gemm_relu_f16_256x64_32x4_nn_align8",
        "ampere_fp16_s16816gemm_fp16_64x64_sliced1x2_ldg8_f2f_stages_64x5_tn",
        "nvjet_tst_192x192_64x4_2x1_v_bz_coopB_bias_TNN",
        "sm90_xmma_gemm_bf16bf16_wgmma",
    ],
)
def test_names_of_tensor_core_kernels(name: str) -> None:
    assert TENSOR_CORE_KERNEL.search(name)


@pytest.mark.parametrize(
    "name",
    [
        FFMA,
        "volta_sgemm_32x32_sliced1x4_nn",
        "trt_maxwell_scudnn_winograd_128x128_ldg1_ldg4_relu_tile148n_nt_v0",
        "void implicit_convolve_sgemm<float, float, (int)1024, (int)5>",
        "sm50_xmma_cublas_gemvx_f16f16_f32_f32_nn_n_int32_unit_n_launch_param4x32x1_strided_unit_stride",
        "trt_volta_hcudnn_128x128_relu_small_nn_v1",
    ],
)
def test_names_of_cuda_core_kernels(name: str) -> None:
    assert CUDA_CORE_KERNEL.search(name)
    assert not TENSOR_CORE_KERNEL.search(name)


def tensor(shape: list[int], dtype: str) -> list[dict[str, Any]]:
    return [{"name": "t", "shape": shape, "dtype": dtype, "format": "row major"}]


def off(kernel: int, *, others: int, layer: dict[str, Any] | None = None, name: str = FFMA, **options: Any) -> Any:
    """An inference of layer `a`, of one kernel that takes `kernel` µs, and of layer `b`, which takes `others`."""
    rows = [
        {"layer": 0, "name": "a", "type": "CaskConvolution"} | (layer or {}),
        {"layer": 1, "name": "b", "type": "CaskPooling"},
    ]
    return drawn(
        f"""
        nvtx 1:          [i..........{"." * (kernel + others)}]
        nvtx 1 TensorRT: [e.........{"." * (kernel + others)}]
        nvtx 1 TensorRT: .[a.][b.]
        thread 1:        ..L...L...
        stream 7:        ............{"#" * kernel}{"%" * others}
        """,
        kernel_names=[name, "pooling"],
        tables={"layers": table("layers", rows)},
        **(HOPPER | options),
    )


@pytest.mark.parametrize(
    ("kernel", "others", "found"), [(5, 95, True), (5, 96, False)], ids=["5 % of the kernel time", "less"]
)
def test_fus005_threshold(kernel: int, others: int, found: bool) -> None:
    outcome = layers_off_tensor_cores.run(off(kernel, others=others))
    assert [(f.severity, f.confidence, f.recoverable_ns) for f in outcome.findings] == (
        [(INFO, Confidence.LOW, 5000)] if found else []
    )


@pytest.mark.parametrize(
    ("kernel", "others", "dtype", "found"),
    [
        (10, 77, "FP32", True),
        (10, 77, "FP16", False),
        (20, 67, "FP16", True),
        (19, 68, "FP16", False),
    ],
    ids=["all in FP32", "TensorRT's choice among FP16 layers", "a fifth of the inference time", "less"],
)
def test_fus005_what_tensorrt_chose_is_no_news(kernel: int, others: int, dtype: str, found: bool) -> None:
    """Of an inference of 100 µs; in an engine that works in half precision FP32 was allowed not to be."""
    outcome = layers_off_tensor_cores.run(off(kernel, others=others, layer=conv(64, 64, dtype)))
    assert bool(outcome.findings) == found


@pytest.mark.parametrize(("tail", "found"), [(0, True), (1, False)])
def test_fus005_of_2_5_percent_of_the_inference_time(tail: int, found: bool) -> None:
    trace = drawn(
        f"""
        nvtx 1:   [i{"." * (77 + tail)}]
        thread 1: L.l
        stream 7: .##%%
        """,
        kernel_names=[FFMA, "pooling"],
        **HOPPER,
    )
    assert bool(layers_off_tensor_cores.run(trace).findings) == found


def conv(channels: int, maps: int, dtype: str = "FP16", **more: Any) -> dict[str, Any]:
    return {"inputs": tensor([8, channels, 4, 4], dtype), "outputs": tensor([8, maps, 4, 4], dtype)} | more


def gemm(inner: int, last: int) -> dict[str, Any]:
    ends = {"inputs": tensor([8, 128, inner], "FP16"), "outputs": tensor([8, 128, last], "FP16")}
    return {"type": "MatrixMultiply", **ends}


@pytest.mark.parametrize(
    ("layer", "dimension"),
    [
        (conv(3, 64, "FP32"), "C 3 is no multiple of 4"),
        (conv(4, 64, "FP32"), ""),
        (conv(12, 64), "C 12 is no multiple of 8"),
        (conv(8, 10), "K 10 is no multiple of 8"),
        (conv(24, 64, "INT8"), "C 24 is no multiple of 16"),
        (conv(8, 64, "INT8"), ""),
        (conv(24, 1, "FP32"), ""),
        (conv(-1, 64), ""),
        (gemm(100, 64), "K 100 is no multiple of 8"),
        (gemm(64, 1001), "N 1001 is no multiple of 8"),
        (gemm(64, 64), ""),
        ({}, ""),
    ],
)
def test_fus005_names_the_misaligned_dimension(layer: dict[str, Any], dimension: str) -> None:
    finding = only(layers_off_tensor_cores, off(30, others=70, layer=layer))
    explained = evidence_of(finding, "of it in layers with a misaligned dimension").value
    assert explained == (30_000 if dimension else 0)
    if dimension:
        assert dimension in finding.cause
        assert finding.recommendation.startswith("pad the misaligned channels")
    else:
        assert finding.cause == "TensorRT timed such a kernel as the fastest that it was allowed"
    assert evidence_of(finding, "layer").detail.startswith(f"a ({layer['inputs'][0]['dtype']}" if layer else "a: ")


@pytest.mark.parametrize(
    ("channels", "kernel", "severity"),
    [(3, 28, WARNING), (3, 27, INFO), (64, 80, INFO)],
    ids=["misaligned, 20 % of the inference time", "less", "aligned"],
)
def test_fus005_severity_is_of_what_a_dimension_explains(channels: int, kernel: int, severity: Severity) -> None:
    trace = off(kernel, others=140 - 13 - kernel, layer=conv(channels, 64, "FP32"))
    assert trace.table("inferences")["wall_ns"][0].as_py() == 140_000
    assert only(layers_off_tensor_cores, trace).severity == severity


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (conv(64, 64, attributes='{"Groups": 64}'), FFMA),
        (conv(64, 64), DEPTHWISE),
        (conv(64, 64), TENSOR),
        (conv(3, 64), "generatedNativePointwise"),
        (conv(3, 64, tactic=TENSOR), FFMA),
        ({"type": "PointWiseV2"}, FFMA),
        ({"type": None}, "generatedNativePointwise"),
    ],
    ids=[
        "grouped",
        "depthwise by name",
        "tensor cores",
        "no known name",
        "tactic",
        "other type",
        "no type, other name",
    ],
)
def test_fus005_clear(layer: dict[str, Any], name: str) -> None:
    assert layers_off_tensor_cores.run(off(50, others=50, layer=layer, name=name)).status == Status.CLEAR


def test_fus005_goes_by_kernel_names_where_there_are_no_layers() -> None:
    finding = only(layers_off_tensor_cores, drawn("stream 7: ##%%%", kernel_names=[FFMA, "reduce"], **HOPPER))
    assert finding.message.startswith("1 kernel that multiplies matrices takes 40 % of the kernel time")
    assert (finding.severity, finding.recoverable_ns, finding.recoverable_ns_per_inference) == (INFO, 2000, None)
    assert finding.cause.startswith("they work in FP32, or")
    assert evidence_of(finding, "layer").detail == FFMA


@pytest.mark.parametrize(
    ("major", "reason"), [(6, "the GPU has no Tensor Cores: its compute capability is 6.x"), (7, "")]
)
def test_fus005_gpus_without_tensor_cores(major: int, reason: str) -> None:
    outcome = layers_off_tensor_cores.run(drawn("stream 7: ##", kernel_names=FFMA, gpu={"compute_major": major}))
    assert outcome.reason.startswith(reason)
    assert outcome.status == (Status.NOT_APPLICABLE if reason else Status.FINDINGS)


def test_fus005_speaks_of_tf32_only_where_there_is_one() -> None:
    turing, ampere = (
        only(layers_off_tensor_cores, drawn("stream 7: ##", kernel_names=FFMA, gpu={"compute_major": major}))
        for major in (7, 8)
    )
    assert turing.recommendation == "where the accuracy holds, allow FP16 for what works in FP32"
    assert ampere.recommendation == f"{turing.recommendation}, or TF32 if it was switched off"


def test_fus005_fp32_cannot_be_misaligned_before_tf32() -> None:
    trace = off(10, others=90, layer=conv(3, 64, "FP32"), gpu={"compute_major": 7})
    finding = only(layers_off_tensor_cores, trace)
    assert evidence_of(finding, "of it in layers with a misaligned dimension").value == 0


MOVE = "void genericReformat::copyPackedKernel<__half, float>"


@pytest.mark.parametrize(
    ("made", "moved", "says"),
    [
        (25, 2, "generated kernels take 25 % of the kernel time"),
        (24, 2, None),
        (24, 3, "kernels that only move data take 3.0 % of the kernel time"),
        (30, 10, "generated kernels take 30 % and kernels that only move data take 10 % of the kernel time"),
    ],
)
def test_fus006_shares(made: int, moved: int, says: str | None) -> None:
    names = ["__myl_AddCastMeanSubMul_0xf2543c36ff9f104b", MOVE, "gemm"]
    trace = drawn(f"stream 7: {'#' * made}{'%' * moved}{'#' * (100 - made - moved)}", kernel_names=names)
    outcome = generated_and_moving_kernels.run(trace)
    assert [finding.message for finding in outcome.findings] == ([] if says is None else [says])
    if says:
        (finding,) = outcome.findings
        assert finding.severity == INFO
        assert finding.recoverable_ns == (moved * 1000 if moved >= 3 else None)
        assert evidence_of(finding, "kernel time in generated kernels").value == made * 1000
        assert evidence_of(finding, "kernel").detail == (names[0] if made >= 25 else MOVE)


@pytest.mark.parametrize(
    ("name", "made", "moved"),
    [
        ("__myl_MoveConc_0x1f", 1, 1),
        ("__myl_CastMulAdd_0x1f", 1, 0),
        ("generatedNativePointwise", 1, 0),
        ("_gemm_mha_v2_0x1f", 0, 0),
        ("void at::native::CatArrayBatchedCopy<float>", 0, 1),
        ("nchwToNhwcKernel", 0, 1),
        (TENSOR, 0, 0),
    ],
)
def test_fus006_by_kernel_name(name: str, made: int, moved: int) -> None:
    outcome = generated_and_moving_kernels.run(drawn("stream 7: #", kernel_names=name))
    found = [evidence_of(f, "kernel time in generated kernels").value for f in outcome.findings]
    assert found == ([made * 1000] if made or moved else [])
    assert [f.recoverable_ns for f in outcome.findings] == ([moved * 1000 or None] if made or moved else [])


TO_TENSORRT = "a fusion that TensorRT knows, one layout throughout, or a plugin would take them in"
TO_FRAMEWORKS = "one memory format throughout (channels_last), or a compiler that fuses them, would take them in"


@pytest.mark.parametrize(
    ("names", "ranges", "remedy"),
    [
        (["void at::native::CatArrayBatchedCopy<float>", "gemm"], "", TO_FRAMEWORKS),
        (["nchwToNhwcKernel", "triton_poi_fused_add_0"], "nvtx 1:          [i.........]", TO_FRAMEWORKS),
        (["nchwToNhwcKernel", "sm80_xmma_gemm"], "", TO_TENSORRT),
        (["void at::native::CatArrayBatchedCopy<float>", "gemm"], "nvtx 1 TensorRT: [e.........]", TO_TENSORRT),
    ],
    ids=["PyTorch", "torch.compile", "TensorRT or another library", "TensorRT within PyTorch"],
)
def test_fus006_speaks_of_the_program_that_it_is(names: list[str], ranges: str, remedy: str) -> None:
    picture = f"""
        {ranges:28}
        thread 1:        Ll.........
        stream 7:        ..##%%%%%..
    """
    finding = only(generated_and_moving_kernels, drawn(picture, kernel_names=names))
    assert finding.recommendation.endswith(remedy)


def test_fus006_leaves_reformat_layers_to_fus002_and_counts_regions() -> None:
    region = "{ForeignNode[/encoder/Add.../head/MatMul]}"
    trace = drawn(
        """
        nvtx 1:          [i.....................]
        nvtx 1 TensorRT: [e.....................]
        nvtx 1 TensorRT: .[r.][f.]
        thread 1:        ..L...L...
        stream 7:        .......#####%%%%%%%%%%
        """,
        kernel_names=[MOVE, "__myl_Add_0x1"],
        names={"r": "Reformatting CopyNode for Input Tensor 0 to f", "f": region},
    )
    finding = only(generated_and_moving_kernels, trace)
    assert evidence_of(finding, "kernel time that only moves data").value == 0
    regions = evidence_of(finding, "regions that Myelin compiled")
    assert (regions.value, regions.detail) == (1, region)


def test_fus006_only_looks_at_inferences() -> None:
    trace = drawn(
        """
        nvtx 1:   ..........[i......]
        thread 1: L..........L.......
        stream 7: .#####......%%%%%..
        """,
        kernel_names=[MOVE, "gemm"],
    )
    assert generated_and_moving_kernels.run(trace).status == Status.CLEAR
    none = drawn("nvtx 1:   [i...]\nthread 1: .C...\nstream 7: ..>>.")
    assert generated_and_moving_kernels.run(none).reason == "no kernel was recorded"
