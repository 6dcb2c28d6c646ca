"""What a request runs on the GPU outside of its engines: operators that a framework did not give to TensorRT."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import ints, words
from nsight_tools.cuda_names import CallKind
from nsight_tools.run import Run
from nsight_tools.timeline.attribution import innermost, joint_key, parents
from nsight_tools.timeline.intervals import Intervals

if TYPE_CHECKING:
    from nsight_tools.columns import Bools, Ints
    from nsight_tools.run.work import Work
    from nsight_tools.trace import Trace

OURS = ("TensorRT", "nsight_tools")
"""Domains whose ranges name layers, inferences and phases, and no operator."""
_ARGUMENTS = re.compile(r", (?:seq|op_id|sizes|input_op_ids) =.*", re.DOTALL)
"""What PyTorch's ranges (`emit_nvtx` of `torch.autograd.profiler`) say behind an operator: "aten::relu, seq = 3, …"."""
_APPLIED = (
    r"CUDAFunctor(?:OnSelf|OnOther)?_(\w+)",
    r"(?!(?:AUnary|BUnary|Binary)Functor)\b(\w+?)_?[Ff]unctor\b",
    r"\b(?!gpu_kernel)(?:launch_)?(\w+?)(?:_kernel\w*|(?:CUDA)?KernelImpl)?(?:<[^<>]*>)?\(at::TensorIterator",
    r"ReduceOp<.*?(\w+)Ops<",
)
"""Element-wise kernels of PyTorch share one name, and have the operator in the type of what they apply. Of these the
first that is there: `CUDAFunctor_add`, `MulFunctor` (in a `BinaryFunctor`), the function that a lambda stands in
(`exp_kernel_cuda(at::TensorIteratorBase &)`), `MeanOps`."""


NOTHING = Intervals.union([], [])


@dataclass(frozen=True)
class Operator:
    """What ran outside of engines under one name, over the judged requests."""

    name: str
    kernels: int
    time_ns: int
    between: bool
    """Whether any of it was launched between two engines of its request, and not only before or behind all."""


@dataclass(frozen=True)
class Outside:
    """Work of judged requests that was launched outside of their engines; copies are none."""

    operators: tuple[Operator, ...] = ()
    """Those that take most time first; named by the innermost range around the launch, else by the kernel."""
    requests: int = 0
    """Judged requests that enqueue an engine at all: what all of this is about."""
    exposed: Intervals = NOTHING
    """Time in which it runs, and nothing of any engine does."""
    breaks: Intervals = NOTHING
    """The same of what was launched between two engines of a request."""


def outside(trace: Trace) -> Outside:
    """The work outside of engines; the same object for all who ask. Without an engine in a judged request, none."""
    return trace.once(_outside)


def _outside(trace: Trace) -> Outside:
    run = Run.of(trace)
    if not run.count or not run.tensorrt:
        return Outside()
    first, last, inside = _engines(run)
    has = last >= 0
    work = run.work
    mine = np.flatnonzero((work.computes | work.communicates) & (work.inference >= 0) & run.judges(work.inference))
    mine = mine[has[work.inference[mine]] & (work.call_start[mine] >= 0)]
    engines = inside[mine]
    out, engine_work = work[mine[~engines]], work[mine[engines]]
    between = (out.call_start > first[out.inference]) & (out.call_start < last[out.inference])
    busy = Intervals.union(engine_work.start, engine_work.end)
    return Outside(
        _operators(run, out, between),
        int((has & run.requests.judged & run.requests.worked).sum()),
        Intervals.union(out.start, out.end).subtract(busy),
        Intervals.union(out.start[between], out.end[between]).subtract(busy),
    )


def _engines(run: Run) -> tuple[Ints, Ints, Bools]:
    """Start of each request's first enqueue and of its last, -1 where none; and which work an enqueue launched.

    A CUDA graph counts as one: an engine may run in it, and it does not say what else does.
    """
    table = run.trace.table("enqueues", ["start_ns", "end_ns", "pid", "tid", "inference"])
    start, end, inference = (ints(table[name]) for name in ("start_ns", "end_ns", "inference"))
    thread = joint_key(ints(table["pid"]), ints(table["tid"]))
    first = np.full(len(run.requests), np.iinfo(np.int64).max)
    last = np.full(len(run.requests), -1)
    there = inference >= 0
    np.minimum.at(first, inference[there], start[there])
    np.maximum.at(last, inference[there], start[there])
    inside = np.zeros(len(run.work), np.bool_)
    launched_by = joint_key(run.work.pid, run.work.tid)
    for key in np.unique(thread):
        here = np.flatnonzero(launched_by == key)
        spans = Intervals.union(start[thread == key], end[thread == key])
        inside[here] = spans.contains(run.work.call_start[here])
    inside |= (run.work.api_call >= 0) & (run.calls.kind[run.work.api_call] == CallKind.GRAPH_LAUNCH)
    return first, last, inside


def _operators(run: Run, out: Work, between: Bools) -> tuple[Operator, ...]:
    """`out` summed by name: the range's, else the kernel's."""
    if not len(out):
        return ()
    ranges, range_code = _ranges(run, out)
    kernels = run.trace.table("kernels", ["name", "short_name"])
    name, short = words(kernels["name"]), words(kernels["short_name"])
    code = np.where(range_code >= 0, range_code, len(ranges) + name.codes[out.row].astype(np.int64))
    codes, first, place = np.unique(code, return_index=True, return_inverse=True)
    place = place.ravel()
    took, inner = np.zeros(codes.size, np.int64), np.zeros(codes.size, np.bool_)
    np.add.at(took, place, out.end - out.start)
    np.logical_or.at(inner, place, between)
    count = np.bincount(place, minlength=codes.size)
    operators: dict[str, Operator] = {}
    for at, number in enumerate(codes.tolist()):
        row = out.row[first[at]]
        if number < len(ranges):
            label = _ARGUMENTS.sub("", ranges[number])
        else:
            label = _of_kernel(name.dictionary[name.codes[row]], short.dictionary[short.codes[row]])
        so_far = operators.get(label, Operator(label, 0, 0, between=False))
        operators[label] = Operator(
            label, so_far.kernels + int(count[at]), so_far.time_ns + int(took[at]), so_far.between or bool(inner[at])
        )
    return tuple(sorted(operators.values(), key=lambda operator: (-operator.time_ns, operator.name)))


def _of_kernel(name: str, short: str) -> str:
    if "at::native::" in name:
        for applied in _APPLIED:
            if match := re.search(applied, name):
                return match[1]
    return short or name


def _ranges(run: Run, out: Work) -> tuple[list[str], Ints]:
    """Names, and for each launch the place of the innermost range's that began in its request; -1 where none.

    Ranges of `OURS` and those that are requests name no operator.
    """
    table = run.trace.table("nvtx_ranges", ["start_ns", "end_ns", "pid", "tid", "domain", "name", "kind"])
    own = np.zeros(table.num_rows, np.bool_)
    marked = ints(run.trace.table("inferences", ["nvtx_range"])["nvtx_range"])
    own[marked[marked >= 0]] = True
    start, end, name = ints(table["start_ns"]), ints(table["end_ns"]), words(table["name"])
    spans = words(table["kind"]).among("push_pop", "start_end") & (end > start)
    rows = np.flatnonzero(~own & ~words(table["domain"]).among(*OURS) & spans)
    if not rows.size:
        return [], np.full(len(out), -1)
    thread = joint_key(ints(table["pid"])[rows], ints(table["tid"])[rows])
    start, end = start[rows], end[rows]
    within = innermost(start, end, thread, parents(start, end, thread), out.call_start, joint_key(out.pid, out.tid))
    inside = (within >= 0) & (start[within] >= run.requests.start[out.inference])
    return list(name.dictionary), np.where(inside, name.codes[rows[within]], -1).astype(np.int64)
