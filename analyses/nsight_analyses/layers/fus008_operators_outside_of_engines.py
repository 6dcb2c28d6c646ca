"""Operators that run on the GPU outside of the engines of an inference: where a framework broke the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_analyses.measure import no_inference
from nsight_tools.analysis import COMPUTE, analysis
from nsight_tools.errors import NotApplicable
from nsight_tools.findings import NOISE_SHARE, Confidence, Evidence, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.run.outside import outside
from nsight_tools.units import share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.trace import Trace

BREAKS_WARNING = 0.1
"""As of the idle time between the enqueues of an inference: both are the price of a break."""
NAMED = 8
"""Operators that are named, those that take longest first: what fits a screen."""


@analysis(
    "FUS008",
    needs={"kernels", "api_calls"},
    topic="outside",
    bucket=COMPUTE,
    picture="streams",
    warns_from=BREAKS_WARNING,
)
def operators_outside_of_engines(trace: Trace) -> Iterator[Finding]:
    """Operators of an inference run outside of its TensorRT engines.

    Measures: kernels of inferences with an enqueue (`enqueues`) whose launch lies in none on its thread, by the name of
    the innermost NVTX range around it that is not TensorRT's, else of the kernel; of an element-wise kernel of PyTorch,
    by what it applies. The time in which they run and nothing of an engine does. A finding from 2.5 % of the inference
    time on. What is launched between two engines of an inference breaks its graph: a warning where that takes 10 %; the
    bound is its time. What is launched before or behind all engines is an info.

    Why it matters: where Torch-TensorRT, ONNX Runtime or a program of your own meets an operator that TensorRT does not
    take, it cuts the network into engines, and runs what lies between by kernels of its own: nothing is fused across,
    and each operator reads and writes all of its tensors in the GPU's memory.

    Remedy: let TensorRT have these operators. Torch-TensorRT: see `min_block_size`, `torch_executed_ops` and
    `dryrun=True`, which prints why an operator is left out; add a converter or a plugin. ONNX Runtime: its verbose log
    names the nodes of each provider. What prepares the input or reads the result may become layers of the engine.

    Blind spots: operators on the CPU launch nothing and are not seen; the GPU idles meanwhile. Operators are named
    where the program marks them: `torch.autograd.profiler.emit_nvtx()`, or ranges of its own. They take some time
    inside of an engine, too. A CUDA graph counts as an engine, whatever runs in it.
    """
    run = Run.of(trace)
    if not run.count:
        raise no_inference(trace)
    found = outside(trace)
    if not found.requests:
        raise NotApplicable("no inference enqueues a TensorRT engine, and so none has work outside of one")
    exposed, lost = found.exposed.total, found.breaks.total
    if exposed < NOISE_SHARE * run.window_ns:
        return
    breaks = lost >= NOISE_SHARE * run.window_ns
    count, kernels = len(found.operators), sum(each.kernels for each in found.operators)
    yield Finding(
        "FUS008",
        Severity.WARNING if breaks else Severity.INFO,
        Confidence.MEDIUM,
        f"{count} kind{'s' * (count > 1)} of operators run{'s' * (count == 1)} outside of the engines of an inference, "
        f"for {share(exposed / run.window_ns)} of the {run.time}",
        "operators between two engines break the network's graph: TensorRT did not get them, and can fuse nothing "
        "across them"
        if breaks
        else "they run before the first engine of an inference or behind the last one: they prepare its input or read "
        "its result",
        "let TensorRT have the operators between the engines (a converter, a plugin, another opset; Torch-TensorRT's "
        "dryrun=True and ONNX Runtime's verbose log say why each was left out)"
        if breaks
        else "make them layers of the engine, if they belong to the model",
        act="bring the operators into the engine",
        evidence=(
            Evidence("runs outside of engines", exposed, "ns"),
            Evidence("of it between two engines", lost, "ns"),
            Evidence("kernels outside of engines", kernels, "count", detail=f"of {found.requests} inferences"),
            *(
                Evidence(
                    "operator",
                    each.time_ns,
                    "ns",
                    detail=f"{each.name}: {each.kernels} kernel{'s' * (each.kernels > 1)}"
                    + (", between two engines" if each.between else ""),
                )
                for each in found.operators[:NAMED]
            ),
        ),
        loss=Loss(lost, lost / run.window_ns, "time of kernels between the engines of an inference")
        if breaks
        else None,
    )
