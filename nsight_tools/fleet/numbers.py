"""What one report gives to be laid beside others: a few numbers of its inferences, and what makes them comparable."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.columns import ints, words
from nsight_tools.comparison.resampling import WALLS, Floats, statistics
from nsight_tools.comparison.runs import ComparedRun
from nsight_tools.tables import BUCKETS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsight_tools.columns import Ints
    from nsight_tools.trace import Trace

QUANTITIES = ("wall", *BUCKETS)
STEPS = 200
"""Stretches of consecutive inferences that a run is cut into, a median each: since when is told to half a percent."""
LAST = 0.25
"""The part of a run at its end that is judged by itself, for what began late."""


@dataclass(frozen=True)
class Numbers:
    """Of one report's inferences, without warm-up; times in nanoseconds, as traced.

    `typical` and `last` have a value for each of QUANTITIES: the mean over the middle half by wall time, of all
    inferences and of the last quarter, in which the buckets sum to the wall. `drift` is how far the walls of the run's
    two halves lie apart. Of each step of consecutive inferences `first` is the number of its first one, `start_ns` when
    that began, since the session did, and `steps`, shape (steps, quantities), holds the medians. `setup` has what has
    to be equal between reports that are compared, in words, and `copied` the bytes that an inference copies to the GPU
    and back.
    """

    inferences: int
    typical: tuple[float, ...]
    last: tuple[float, ...]
    drift: float
    first: Ints
    start_ns: Ints
    steps: Floats
    setup: Mapping[str, str]
    copied: tuple[float, float]
    began_utc_ns: int | None

    @property
    def wall(self) -> float:
        return self.typical[0]


def numbers_of(trace: Trace) -> Numbers | None:
    """Those of a trace; None where it has no inferences."""
    run = ComparedRun(trace)
    if not len(run):
        return None
    values = np.concatenate([run.wall[:, None], run.buckets], axis=1)
    half = len(run) // 2
    drift = abs(_typical(values[:half])[0] - _typical(values[half:])[0]) if half else 0.0
    edges = np.unique(np.linspace(0, len(run), min(STEPS, len(run)) + 1).astype(np.int64))
    began = (trace.manifest.get("session") or {}).get("utc_epoch_ns")
    return Numbers(
        len(run),
        _typical(values),
        _typical(values[-max(1, int(LAST * len(run))) :]),
        drift,
        run.column("inference").astype(np.int64)[edges[:-1]],
        run.column("start_ns").astype(np.int64)[edges[:-1]],
        np.stack([np.median(values[begin:end], axis=0) for begin, end in pairwise(edges)]),
        _setup(run),
        (float(np.median(run.copied("h2d"))), float(np.median(run.copied("d2h")))),
        int(began) if isinstance(began, int) else None,
    )


def _typical(values: Floats) -> tuple[float, ...]:
    walls = statistics(values[:, 0], values, np.ones((1, len(values))))[0, WALLS:]
    return tuple(float(wall) for wall in walls)


def _setup(run: ComparedRun) -> dict[str, str]:
    """What has to be equal, the most telling first."""
    gpus = [f"{gpu.get('name') or 'unnamed GPU'}" for gpu in run.summary.gpus]
    names, grids, count = _kernels(run)
    traced = (run.trace.manifest.get("capture") or {}).get("graph_trace")
    return {
        "GPU": ", ".join(gpus) or "not recorded",
        "inferences": " and ".join(run.sources),
        "launches": "CUDA graph" if run.graphs else "one for each kernel",
        "tracing of CUDA graphs": str(traced or "not recorded") if run.graphs else "none",
        "kernels": f"{count:,} of an inference (set {names})",
        "grids of the kernels": f"set {grids}",
        "host threads": f"{run.threads:,}",
        "streams": f"{run.summary.streams:,}",
    }


def _kernels(run: ComparedRun) -> tuple[str, str, int]:
    """Of the most frequent kind of inference: what names its kernels, what names their grids too, and their count."""
    table = run.trace.table("kernels", ["short_name", "grid_x", "grid_y", "grid_z"])
    name, owner, row = words(table["short_name"]), *run.kernel_rows
    codes = np.array([_digest(word) for word in name.dictionary], np.uint64)
    mixed = codes[name.codes[row]] if len(row) else np.empty(0, np.uint64)
    grids = mixed.copy()
    for axis in ("grid_x", "grid_y", "grid_z"):
        grids = (grids ^ ints(table[axis])[row].astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    counts = np.bincount(owner, minlength=len(run)).astype(np.uint64)
    sums = [counts]
    for addend in (mixed, grids):
        total = np.zeros(len(run), np.uint64)
        np.add.at(total, owner, addend)  # which wraps, and does not mind the order
        sums.append(total)
    kinds, size = np.unique(np.stack(sums), axis=1, return_counts=True)
    count, names, shapes = (int(number) for number in kinds[:, np.argmax(size)])
    return f"{names & 0xFFFFFF:06x}", f"{shapes & 0xFFFFFF:06x}", count


def _digest(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
