"""The layers and kernels that take the most time, as every page may list them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import ints, words
from nsight_tools.run.limits import NAMES
from nsight_tools.summary import summarize

if TYPE_CHECKING:
    from nsight_tools.columns import Ints
    from nsight_tools.run.limits import LayerLimit
    from nsight_tools.timeline.attribution import Words
    from nsight_tools.trace import Trace

ROWS = 12
"""Rows that a list shows unless it is asked for more."""


@dataclass(frozen=True)
class Top:
    """One layer or kernel: its name, a layer's type, how often it ran, for how long, and its share of all."""

    name: str
    detail: str
    count: int
    total_ns: int
    share: float
    limit: str = ""
    """What limits a layer, and the numbers behind it; empty where GPU metrics do not tell."""
    because: str = ""


def layers(trace: Trace, rows: int = ROWS) -> tuple[list[Top], int]:
    """The layers whose kernels took the most time over the whole trace, and how many layers there are.

    Empty where no kernel is known to belong to a layer.
    """
    table = trace.table("launches", ["start_ns", "end_ns", "layer"])
    type_of = {row["name"]: row["type"] or "" for row in trace.table("layers", ["name", "type"]).to_pylist()}
    tops, distinct = _tops(words(table["layer"]), ints(table["end_ns"]) - ints(table["start_ns"]), rows)
    limit_of = {layer.name: layer for layer in summarize(trace).limits}
    return [_described(top, type_of.get(top.name, ""), limit_of.get(top.name)) for top in tops], distinct


def _described(top: Top, kind: str, limit: LayerLimit | None) -> Top:
    if limit is None:
        return replace(top, detail=kind)
    return replace(top, detail=kind, limit=NAMES[limit.limit], because=limit.because)


def kernels(trace: Trace, rows: int = ROWS) -> tuple[list[Top], int]:
    """The kernels, by base name, that took the most time over the whole trace, and how many names there are."""
    table = trace.table("kernels", ["start_ns", "end_ns", "short_name"])
    return _tops(words(table["short_name"]), ints(table["end_ns"]) - ints(table["start_ns"]), rows)


def _tops(names: Words, duration: Ints, rows: int) -> tuple[list[Top], int]:
    known = names.codes >= 0
    size = len(names.dictionary)
    time = np.bincount(names.codes[known], duration[known], size)
    count = np.bincount(names.codes[known], minlength=size)
    order = np.argsort(-time, kind="stable")[:rows]
    whole = max(float(time.sum()), 1.0)
    chosen = [
        Top(names.dictionary[i], "", int(count[i]), int(time[i]), float(time[i]) / whole)
        for i in order.tolist()
        if count[i]
    ]
    return chosen, int((count > 0).sum())
