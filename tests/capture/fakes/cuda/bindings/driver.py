"""NVIDIA's driver bindings, as far as the runner uses them: graphs."""

import enum

import fake_gpu as gpu


class CUresult(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901


class CUstreamCaptureMode(enum.IntEnum):
    CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1


OK = CUresult.CUDA_SUCCESS


class CUstream(int):
    pass


def cuStreamBeginCapture(stream, mode):
    gpu.note("begin_capture", stream)
    gpu.QUEUES[stream].capturing = []
    return (OK,)


def cuStreamEndCapture(stream):
    captured, gpu.QUEUES[stream].capturing = gpu.QUEUES[stream].capturing, None
    gpu.note("end_capture", stream)
    return (OK, captured) if captured else (CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, None)


def cuGraphInstantiate(graph, flags):
    return (OK, sum(graph))


def cuGraphDestroy(graph):
    return (OK,)


def cuGraphUpload(executable, stream):
    return (OK,)


def cuGraphLaunch(executable, stream):
    gpu.note("graph_launch", stream)
    gpu.QUEUES[stream].work(executable)
    return (OK,)
