"""What TensorRT's versions differ in, each difference from both sides: as it was, and as it is since."""

from __future__ import annotations

from types import SimpleNamespace as Made
from typing import Any

import pytest

from nsight_tools.capture.runner import versions


def tensorrt(version: str = "10.3.0", name: str = "tensorrt", **members: Any) -> Any:
    return Made(__name__=name, __version__=version, **members)


RTX = tensorrt("1.7.1.116", "tensorrt_rtx_bindings.tensorrt_rtx")


@pytest.mark.parametrize(
    ("trt", "rtx", "name", "api"),
    [
        (tensorrt("8.6.0"), False, "TensorRT 8.6.0", (8, 6)),
        (tensorrt("10.13.0.35"), False, "TensorRT 10.13.0.35", (10, 13)),
        (tensorrt("11"), False, "TensorRT 11", (11, 0)),
        (RTX, True, "TensorRT-RTX 1.7.1.116", versions.RTX_IS_LIKE),
        (tensorrt("1.2", "tensorrt_rtx"), True, "TensorRT-RTX 1.2", versions.RTX_IS_LIKE),
    ],
)
def test_which_one_it_is(trt: Any, rtx: bool, name: str, api: tuple[int, int]) -> None:
    assert (versions.is_rtx(trt), versions.name(trt), versions.api(trt)) == (rtx, name, api)
    assert versions.builds_without_gpu(trt) is rtx


def test_the_timing_cache_of_rtx_does_nothing() -> None:
    assert versions.passes_over(RTX, "timing_cache_file")
    assert not versions.passes_over(RTX, "sparsity")
    assert not versions.passes_over(tensorrt("11.0"), "timing_cache_file")


def test_tensors_have_names_since_8_5() -> None:
    assert versions.names_tensors(tensorrt(IExecutionContext=Made(execute_async_v3=1)))
    assert not versions.names_tensors(tensorrt(IExecutionContext=Made(execute_async_v2=1)))


@pytest.mark.parametrize(
    ("flags", "typed", "bits"),
    [
        (Made(EXPLICIT_BATCH=0), False, 0b1),
        (Made(EXPLICIT_BATCH=0, STRONGLY_TYPED=1), True, 0b11),
        (Made(STRONGLY_TYPED=1), True, 0b10),
        (Made(STRONGLY_TYPED=1), False, 0),
    ],
)
def test_the_flag_of_the_batch_dimension_is_gone_in_10(flags: Any, typed: bool, bits: int) -> None:
    assert versions.network_flags(tensorrt(NetworkDefinitionCreationFlag=flags), strongly_typed=typed) == bits


def test_plugins_are_registered_where_there_is_something_to_register() -> None:
    called: list[Any] = []
    versions.standard_plugins(tensorrt(init_libnvinfer_plugins=lambda *given: called.append(given)), "log")
    versions.standard_plugins(RTX, "log")
    assert called == [("log", "")]


def test_a_parser_names_nodes_since_10() -> None:
    assert versions.node_name(Made(node_name=lambda: "conv")) == "conv"
    assert versions.node_name(Made()) == ""


def test_precision_flags_are_gone_in_11() -> None:
    before, after = (tensorrt(BuilderFlag=flags) for flags in (Made(FP16=0, BF16=17), Made(TF32=7)))
    assert (versions.has_weak_types(before), versions.has_bf16(before)) == (True, True)
    assert (versions.has_weak_types(after), versions.has_bf16(after)) == (False, False)
    assert not versions.has_bf16(tensorrt(BuilderFlag=Made(FP16=0)))  # until 8.6


def test_types_of_tensors_are_fixed_in_11() -> None:
    class Fixed:
        @property
        def dtype(self) -> str:
            return "HALF"

    free = Made(dtype="FLOAT")
    assert versions.set_type(free, "HALF")
    assert free.dtype == "HALF"
    assert not versions.set_type(Fixed(), "FLOAT")


@pytest.mark.parametrize(("trt", "shared"), [(tensorrt("8.6.0"), False), (tensorrt("10.0"), True), (RTX, True)])
def test_profiles_are_shared_since_10(trt: Any, shared: bool) -> None:
    assert versions.shares_profiles(trt) is shared


def test_what_an_engine_tells_came_bit_by_bit() -> None:
    new = Made(num_aux_streams=2, profiling_verbosity="DETAILED", device_memory_size_v2=7, get_engine_stat=lambda _: 9)
    old = Made(device_memory_size=5)
    counted = tensorrt(EngineStat=Made(TOTAL_WEIGHTS_SIZE=0))
    assert (versions.aux_streams(new), versions.aux_streams(old)) == (2, None)
    assert (versions.profiling_verbosity(new), versions.profiling_verbosity(old)) == ("DETAILED", None)
    assert (versions.device_memory_bytes(new), versions.device_memory_bytes(old)) == (7, 5)
    assert versions.device_memory_bytes(Made(device_memory_size=5, device_memory_size_v2=0)) == 0
    assert (versions.weights_bytes(counted, new), versions.weights_bytes(tensorrt(), new)) == (9, None)
    assert versions.weights_bytes(counted, Made(get_engine_stat=lambda _: -1)) is None


def test_layer_ranges_are_a_contexts_since_8_5() -> None:
    trt = tensorrt(ProfilingVerbosity=Made(DETAILED="all", NONE="none"))
    new, old = Made(nvtx_verbosity="x"), Made()
    for wanted, verbosity in ((True, "all"), (False, "none")):
        versions.set_layer_ranges(trt, new, wanted=wanted)
        versions.set_layer_ranges(trt, old, wanted=wanted)
        assert versions.nvtx_verbosity(new) == verbosity
    assert versions.nvtx_verbosity(old) is None


def test_a_context_may_say_which_shapes_are_missing() -> None:
    assert versions.missing_shapes(Made(infer_shapes=lambda: ("x",))) == ["x"]
    assert versions.missing_shapes(Made()) == []
