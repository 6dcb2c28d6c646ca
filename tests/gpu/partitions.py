"""Inferences of engines and operators around them, as a framework runs a network that it cut into pieces.

    partitions.py torch|pycuda COUNT ENGINE [ENGINE]   # `names` behind them: each operator of PyTorch is a range, too

An operator before the first engine, two between engines, one behind the last one, each `TIMES` times; each is a kernel.
With `torch` they are PyTorch's, on tensors that the engines read and write themselves; with `pycuda` they are this
file's own kernels, for an interpreter that has TensorRT and no PyTorch.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import nsight_tools

WARM_UP = 20
TIMES = 40
"""How often each operator runs in an inference: what is less than 2.5 % of its time is no finding."""
BEFORE, BETWEEN, BEHIND = ("exp",), ("sqrt", "mul"), ("neg",)


class Torch:
    """PyTorch's operators and tensors."""

    def __init__(self) -> None:
        import torch

        self._torch, self._stream = torch, torch.cuda.Stream()
        self.stream, self.profiler = self._stream.cuda_stream, torch.cuda.profiler

    def around(self, *, names: bool) -> Any:
        torch, found = self._torch, ExitStack()
        found.enter_context(torch.inference_mode())
        found.enter_context(torch.cuda.stream(self._stream))
        if names:
            found.enter_context(torch.autograd.profiler.emit_nvtx())
        return found

    def image(self, count: int) -> Any:
        return self._torch.rand(count)

    def upload(self, image: Any) -> Any:
        return image.cuda()

    def empty(self, count: int) -> Any:
        return self._torch.empty(count, device="cuda")

    def part(self, tensor: Any, count: int) -> Any:
        return tensor[:count]

    def apply(self, name: str, tensor: Any) -> Any:
        given = (tensor, 0.5) if name == "mul" else (tensor,)
        return getattr(self._torch, name)(*given)

    def address(self, tensor: Any) -> int:
        return int(tensor.data_ptr())

    def download(self, tensor: Any) -> None:
        tensor.cpu()  # waits


BLOCK = 256
_BODY = {
    "exp": "ex2.approx.f32 %f, %f;",
    "sqrt": "sqrt.approx.f32 %f, %f;",
    "mul": "mul.f32 %f, %f, 0f3F000000;",
    "neg": "neg.f32 %f, %f;",
}
_KERNEL = """
.visible .entry op_{name}(.param .u64 from, .param .u64 to, .param .u32 count)
{{
    .reg .pred %p; .reg .b32 %i, %n, %b, %t; .reg .b64 %x, %y, %o; .reg .f32 %f;
    ld.param.u64 %x, [from]; ld.param.u64 %y, [to]; ld.param.u32 %n, [count];
    mov.u32 %i, %ctaid.x; mov.u32 %b, %ntid.x; mov.u32 %t, %tid.x; mad.lo.s32 %i, %i, %b, %t;
    setp.ge.u32 %p, %i, %n;
    @%p bra DONE;
    cvta.to.global.u64 %x, %x; cvta.to.global.u64 %y, %y; mul.wide.u32 %o, %i, 4;
    add.s64 %x, %x, %o; add.s64 %y, %y, %o;
    ld.global.f32 %f, [%x]; {body} st.global.f32 [%y], %f;
DONE:
    ret;
}}
"""
PTX = ".version 7.0\n.target sm_70\n.address_size 64\n" + "".join(
    _KERNEL.format(name=name, body=body) for name, body in _BODY.items()
)


class Cuda:
    """Kernels of our own on PyCUDA's memory; each operator has a buffer that it writes into, as big as the largest."""

    def __init__(self) -> None:
        import numpy as np
        import pycuda.autoprimaryctx  # noqa: F401 (makes the context that TensorRT uses)
        import pycuda.driver as cuda

        self._np, self._cuda, self._stream = np, cuda, cuda.Stream()
        self.stream, self.profiler = self._stream.handle, _Profiler(cuda)
        module = cuda.module_from_buffer(PTX.encode() + b"\0")
        self._kernels = {name: module.get_function(f"op_{name}") for name in _BODY}
        self._to: dict[str, Any] = {}

    def around(self, *, names: bool) -> Any:  # noqa: ARG002 (what PyTorch's has)
        return ExitStack()

    def image(self, count: int) -> Any:
        return self._np.random.default_rng(0).random(count, self._np.float32)

    def upload(self, image: Any) -> Any:
        there = self._buffer("image", image.size)
        self._cuda.memcpy_htod_async(there[0], image, self._stream)
        return there

    def empty(self, count: int) -> Any:
        return self._cuda.mem_alloc(4 * count), count

    def part(self, tensor: Any, count: int) -> Any:
        return tensor[0], count

    def apply(self, name: str, tensor: Any) -> Any:
        to, count = self._buffer(name, tensor[1])[0], self._np.uint32(tensor[1])
        blocks = (-(-tensor[1] // BLOCK), 1)
        self._kernels[name](tensor[0], to, count, block=(BLOCK, 1, 1), grid=blocks, stream=self._stream)
        return to, tensor[1]

    def address(self, tensor: Any) -> int:
        return int(tensor[0])

    def download(self, tensor: Any) -> None:
        self._cuda.memcpy_dtoh_async(self._np.empty(tensor[1], self._np.float32), tensor[0], self._stream)
        self._stream.synchronize()

    def _buffer(self, name: str, count: int) -> Any:
        if name not in self._to:
            self._to[name] = self.empty(count)
        return self._to[name]


class _Profiler:
    def __init__(self, cuda: Any) -> None:
        self.start, self.stop = cuda.start_profiler, cuda.stop_profiler


class Engine:
    """An engine of one input and one output, both FP32 and of a shape that is fixed."""

    def __init__(self, path: str, gpu: Torch | Cuda) -> None:
        import tensorrt as trt

        self._runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        self._engine = self._runtime.deserialize_cuda_engine(Path(path).read_bytes())
        self._context = self._engine.create_execution_context()
        self._gpu = gpu
        names = [self._engine.get_tensor_name(at) for at in range(self._engine.num_io_tensors)]
        of = {self._engine.get_tensor_mode(name): name for name in names}
        counts = {name: trt.volume(self._engine.get_tensor_shape(name)) for name in names}
        self._input, output = of[trt.TensorIOMode.INPUT], of[trt.TensorIOMode.OUTPUT]
        self.count, self._result = counts[self._input], gpu.empty(counts[output])
        self._context.set_tensor_address(output, gpu.address(self._result))

    def __call__(self, tensor: Any) -> Any:
        self._context.set_tensor_address(self._input, self._gpu.address(tensor))
        self._context.execute_async_v3(self._gpu.stream)
        return self._result


def infer(gpu: Torch | Cuda, engines: list[Engine], image: Any) -> None:
    """An inference, from the image on the host to the result on the host."""
    tensor = _applied(gpu, BEFORE, gpu.upload(image))
    tensor = engines[0](tensor)
    for engine in engines[1:]:
        tensor = engine(_applied(gpu, BETWEEN, gpu.part(tensor, engine.count)))
    gpu.download(_applied(gpu, BEHIND, tensor))


def _applied(gpu: Torch | Cuda, names: tuple[str, ...], tensor: Any) -> Any:
    for name in names:
        for _ in range(TIMES):
            tensor = gpu.apply(name, tensor)
    return tensor


def main(by: str, count: int, *rest: str) -> None:
    gpu = {"torch": Torch, "pycuda": Cuda}[by]()
    engines = [Engine(path, gpu) for path in rest if path != "names"]
    image = gpu.image(engines[0].count)
    with gpu.around(names=False):
        for _ in range(WARM_UP):
            infer(gpu, engines, image)
    gpu.profiler.start()
    with gpu.around(names="names" in rest):
        for _ in range(count):
            with nsight_tools.inference():
                infer(gpu, engines, image)
    gpu.profiler.stop()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
