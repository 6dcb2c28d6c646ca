"""A PyTorch program as users write them, with the two lines that mark its inferences."""

from __future__ import annotations

import torch

import nsight_tools

model = torch.nn.Sequential(
    *(layer for _ in range(8) for layer in (torch.nn.Conv2d(64, 64, 3, padding=1), torch.nn.ReLU())),
    torch.nn.Flatten(),
    torch.nn.Linear(64 * 32 * 32, 100),
)
model = model.eval().cuda()
image = torch.randn(16, 64, 32, 32)

with torch.inference_mode():
    for _ in range(20):
        model(image.cuda()).cpu()
    torch.cuda.synchronize()
    torch.cuda.profiler.start()
    for _ in range(50):
        with nsight_tools.inference() as one:
            with one.phase("h2d"):
                on_gpu = image.cuda()
            with one.phase("forward"):
                result = model(on_gpu)
            with one.phase("d2h"):
                result.cpu()
    torch.cuda.profiler.stop()
