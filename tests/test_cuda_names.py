"""What names say: of calls, of kernels."""

from __future__ import annotations

import pytest

from nsight_tools.cuda_names import WORDS, CallKind, call_kinds, communicates, does

CALLS = {
    "launch": "cudaLaunchKernel cuLaunchKernel cuLaunchKernelEx cudaLaunchKernelExC cudaLaunchCooperativeKernel "
    "cuLaunchCooperativeKernel cudaLaunchKernel_ptsz cudaLaunch",
    "graph_launch": "cudaGraphLaunch cuGraphLaunch cuGraphLaunch_ptsz",
    "copy": "cudaMemcpyAsync cuMemcpyHtoDAsync cuMemcpy2DAsync cudaMemcpyPeerAsync",
    "blocking_copy": "cudaMemcpy cuMemcpyDtoH cudaMemcpy2D cudaMemcpyToSymbol",
    "set": "cuMemsetD32Async cudaMemset",
    "wait": "cudaStreamSynchronize cuStreamSynchronize cuCtxSynchronize cudaDeviceSynchronize cuEventSynchronize "
    "cudaThreadSynchronize",
    "stream_wait": "cudaStreamWaitEvent cuStreamWaitEvent cuStreamWaitValue32",
    "record": "cudaEventRecord cuEventRecordWithFlags",
    "query": "cudaEventQuery cuStreamQuery",
    "callback": "cuLaunchHostFunc cudaStreamAddCallback",
    "build_graph": "cudaGraphAddMemcpyNode cuGraphExecMemsetNodeSetParams cudaGraphInstantiate cudaGraphAddKernelNode "
    "cudaStreamBeginCapture cuStreamEndCapture cudaGraphExecUpdate",
    "load_module": "cuModuleLoadData cuLibraryLoadData cuModuleGetFunction",
    "allocate": "cudaMalloc cuMemAlloc cudaMallocManaged cudaMallocPitch cuMemCreate",
    "free": "cudaFree cuMemFree cudaFreeArray",
    "pin": "cudaHostAlloc cudaMallocHost cuMemHostAlloc cuMemAllocHost cudaHostRegister",
    "unpin": "cudaFreeHost cuMemFreeHost cudaHostUnregister",
    "allocate_pooled": "cudaMallocAsync cuMemAllocAsync cudaMallocFromPoolAsync",
    "free_pooled": "cudaFreeAsync cuMemFreeAsync",
    "prefetch": "cudaMemPrefetchAsync cuMemAdvise",
    "other": "cudaGetDevice cuCtxGetCurrent cudaFuncGetAttributes",
}


def test_every_word_is_tested() -> None:
    assert set(CALLS) == set(WORDS)


@pytest.mark.parametrize("word", CALLS)
def test_what_a_call_does(word: str) -> None:
    assert {name: does(name) for name in CALLS[word].split()} == dict.fromkeys(CALLS[word].split(), word)


def test_kinds_of_calls() -> None:
    told = {word: CallKind(kind) for word, kind in zip(WORDS, call_kinds(WORDS).tolist(), strict=True)}
    assert {word for word, kind in told.items() if kind is CallKind.COPY} == {"copy", "blocking_copy", "set"}
    assert told["wait"] is CallKind.SYNC
    assert (told["launch"], told["graph_launch"]) == (CallKind.LAUNCH, CallKind.GRAPH_LAUNCH)
    assert told["stream_wait"] is CallKind.OTHER  # the stream waits, and not the host


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        ("ncclDevKernel_AllReduce_Sum_f16_RING_LL(ncclDevKernelArgsStorage<(unsigned long)4096>)", True),
        ("ncclKernel_AllGather_RING_LL_Sum_int8_t(ncclDevComm *, unsigned long, ncclWork *)", True),
        ("nvshmemi_transfer_kernel", True),
        ("void tensorrt_llm::kernels::oneShotAllReduceKernel<__half, 8>(AllReduceParams)", True),
        ("void vllm::cross_device_reduce_1stage<__half, 2>(RankData *, RankSignals, Signal *, T1 *, int, int)", True),
        ("void at::native::reduce_kernel<512, 1>(ReduceOp)", False),
        ("sm80_xmma_gemm_f16f16_f16f16_f16_nn_n_tilesize64x64x64_stage3_warpsize2x2x1_tensor16x8x16_kernel", False),
        ("void broadcast_add_kernel(float *)", False),
    ],
)
def test_which_kernels_communicate(kernel: str, expected: bool) -> None:
    assert communicates(kernel) is expected
