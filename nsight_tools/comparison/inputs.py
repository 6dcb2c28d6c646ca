"""What an inference of each side carries: its batch, where the two differ in it, and whether its work is the same.

By the engine's input tensors, by the grids of the same kernels, by what is copied.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools import units
from nsight_tools.comparison.result import BOTH, Effect, SetupDifference
from nsight_tools.run.engine import tensors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.comparison.runs import ComparedRun

    Pair = tuple[ComparedRun, ComparedRun]

WORK_SHARE = 0.01
"""Blocks of the same kernels that differ by more come from another batch or shape."""
KNOWN_WORK = 0.5
"""Share of the kernel time, of kernels that both runs have, from which their grids speak for all of the work."""
FLAGS_11 = (
    "from 11.0 on trtexec uses a CUDA graph, leaves out transfers and waits by spinning, unless told otherwise: give "
    "both the same flags"
)
_BATCH = "the time is given for each input; an inference of a larger batch takes longer"
_COPIES = (("h2d", "bytes copied to the GPU"), ("d2h", "bytes copied to the host"))


@dataclass(frozen=True)
class Carried:
    """How many inputs an inference of each side carries, and what differs in its work."""

    inputs: tuple[float, float] = (1.0, 1.0)
    setup: tuple[SetupDifference, ...] = field(default=())


def carried(runs: Pair) -> Carried:
    """Of both runs; where the batch differs it is known by the tensors, else as a multiple by the bytes copied."""
    tensors = [_tensors(run) for run in runs]
    others = [name for name in sorted(tensors[0].keys() & tensors[1].keys()) if not _fits(*(t[name] for t in tensors))]
    batches = {_batch(*(t[name] for t in tensors)) for name in others}
    if len(batches) == 1 and (batch := batches.pop()) is not None:
        inputs = float(batch[0]), float(batch[1])
        return Carried(inputs, (_of_batch(inputs, "", _BATCH),))
    if others:
        why = "an inference is not the same amount of work"
        return Carried(setup=tuple(_shape(name, tensors[0][name], tensors[1][name], why) for name in others))
    return _by_work(runs)


def _shape(name: str, before: tuple[int, ...], after: tuple[int, ...], why: str) -> SetupDifference:
    shapes = ["x".join(map(str, shape)) for shape in (before, after)]
    return SetupDifference(f"input tensor {name}", shapes[0], shapes[1], Effect.BLOCKS, why, BOTH)


def _of_batch(inputs: tuple[float, float], of: str, why: str) -> SetupDifference:
    before, after = (f"{units.number(count)}{of}" for count in inputs)
    return SetupDifference("batch", before, after, Effect.CHANGE, why)


def _by_work(runs: Pair) -> Carried:
    """By grids and bytes: a batch is another where all that is copied, and the grids, grow by the same."""
    same_work, grown = _grids(runs)
    copied = [tuple(float(run.copied(kind).mean()) for run in runs) for kind, _ in _COPIES]
    ratios = [after / before for before, after in copied if before and after]
    alone = any(bool(before) != bool(after) for before, after in copied)
    if ratios and same_work is not True and not alone and _is_batch(ratios, grown):
        many = float(round(max(ratios[0], 1 / ratios[0])))
        inputs = (1.0, many) if ratios[0] > 1 else (many, 1.0)
        return Carried(inputs, (_of_batch(inputs, " of the smaller one", f"by the bytes copied; {_BATCH}"),))
    return Carried(setup=tuple(_differs(runs, copied, same_work=same_work)))


def _is_batch(ratios: list[float], grown: float | None) -> bool:
    """Whether the bytes copied are a whole number of times as many in all kinds, and the grids grew the same way."""
    factors = [max(ratio, 1 / ratio) for ratio in ratios]
    whole = round(factors[0])
    fits = whole > 1 and all(abs(factor / whole - 1) <= WORK_SHARE for factor in factors)
    one_way = all((ratio > 1) == (ratios[0] > 1) for ratio in ratios)
    return fits and one_way and (grown is None or (grown > 1) == (ratios[0] > 1))


def _differs(runs: Pair, copied: list[tuple[float, ...]], *, same_work: bool | None) -> Iterator[SetupDifference]:
    if same_work is False:
        before, after = (f"{units.number(sum(run.blocks_by_kernel().values()))} blocks" for run in runs)
        why = "the kernels that both have run in other grids: another batch or shape, or other layers that use them"
        yield SetupDifference("work of the kernels", before, after, Effect.CONFOUNDS, why)
    for (_, label), (bytes_before, bytes_after) in zip(_COPIES, copied, strict=True):
        if abs(bytes_before - bytes_after) <= WORK_SHARE * max(bytes_before, bytes_after):
            continue
        why, effect = _of_copies(bytes_before, bytes_after, same_work=same_work)
        blocks = BOTH if effect is Effect.BLOCKS else ()
        sizes = units.size(bytes_before), units.size(bytes_after)
        yield SetupDifference(f"{label}, of an inference", *sizes, effect, why, blocks)


def _of_copies(before: float, after: float, *, same_work: bool | None) -> tuple[str, Effect]:
    if not before or not after:
        return f"one side leaves the transfer out; {FLAGS_11}", Effect.CONFOUNDS
    if same_work:
        return "the kernels' work is the same: another type or layout of what is copied, or fewer copies", Effect.CHANGE
    return "an inference carries another batch or shape, and nothing tells how much more work that is", Effect.BLOCKS


def _tensors(run: ComparedRun) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors that some layer reads and none writes."""
    layers = run.trace.table("layers", ["inputs", "outputs"]).to_pylist()
    written = {tensor.name for layer in layers for tensor in tensors(layer["outputs"])}
    read = (tensor for layer in layers for tensor in tensors(layer["inputs"]))
    return {t.name: t.shape for t in read if t.name not in written and t.shape}


def _fits(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two shapes can be the same; -1 stands for any length."""
    return len(one) == len(other) and all(a == b or -1 in {a, b} for a, b in zip(one, other, strict=True))


def _batch(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, int] | None:
    """The first length of two shapes that differ in no other; None where they do."""
    known = len(one) == len(other) > 1 and min(one[0], other[0]) > 0 and _fits(one[1:], other[1:])
    return (one[0], other[0]) if known else None


def _grids(runs: Pair) -> tuple[bool | None, float | None]:
    """Whether the kernels that both runs have do the same work, and how many times as many blocks the median one has.

    None where they have too few in common to tell. Kernels launched as often in both are compared, so that a layer more
    or less is not taken for another batch.
    """
    blocks = [run.blocks_by_kernel() for run in runs]
    counts = [run.kernels.word.counts() for run in runs]
    both = [
        name
        for name in blocks[0].keys() & blocks[1].keys()
        if abs(counts[0][name] / len(runs[0]) - counts[1][name] / len(runs[1])) < 0.01
    ]
    for run in runs:
        totals = run.kernels.totals()
        if sum(totals[name] for name in both) < KNOWN_WORK * max(sum(totals.values()), 1):
            return None, None
    ratios = [blocks[1][name] / blocks[0][name] for name in both]
    if not ratios:
        return None, None
    same = sum(abs(ratio - 1) > WORK_SHARE for ratio in ratios) * 2 < len(ratios)
    return same, float(np.median(ratios))
