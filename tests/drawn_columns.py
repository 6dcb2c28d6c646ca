"""Drawn timelines as the columns that `nsight_tools.timeline` works on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from drawing import draw

from nsight_tools.cuda_names import call_kinds
from nsight_tools.tables import TABLES
from nsight_tools.timeline.accounting import account
from nsight_tools.timeline.attribution import (
    NEVER,
    Calls,
    Ranges,
    ThreadSpans,
    Words,
    Work,
    WorkKind,
    classify_memory_op,
    joint_key,
    match_calls,
)
from nsight_tools.timeline.ownership import assign_work, woken
from nsight_tools.timeline.populations import WorkTokens, hashed
from nsight_tools.timeline.requests import Found, Requests, find_requests

BUCKETS = (
    "compute_ns",
    "exposed_communication_ns",
    "exposed_h2d_ns",
    "exposed_d2h_ns",
    "exposed_other_copy_ns",
    "accelerator_ns",
    "other_work_ns",
    "launch_ns",
    "sync_ns",
    "host_ns",
    "unattributed_ns",
)

LONG = {"e": "ExecutionContext::enqueue", "x": "inference"}


@dataclass
class Drawn:
    """A drawing as the columns that the timeline works on, with its inferences in microseconds."""

    text: str
    overhead: tuple[tuple[int, int], ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        drawn = draw(self.text, names=LONG | self.names, **self.options)
        tables = {name: shape.empty() for name, shape in TABLES.items()} | drawn
        calls, ranges = tables["api_calls"], tables["nvtx_ranges"]
        words = {name: words_of(ranges[name]) for name in ("domain", "name", "kind")}
        said = words_of(calls["does"])
        kind = np.append(call_kinds(said.dictionary), np.int8(0))[said.codes]
        self.calls = Calls(*(ints(calls[name]) for name in ("start_ns", "end_ns", "pid", "tid")), kind)
        self.ranges = Ranges(*(ints(ranges[c], NEVER) for c in ("start_ns", "end_ns", "pid", "tid")), **words)
        parts = [tables[name] for name in ("kernels", "memory_ops", "graph_launches")]
        copies = classify_memory_op(tables["memory_ops"]["kind"].to_pylist())
        talks = np.array(tables["kernels"]["communicates"].to_pylist(), np.bool_)
        kinds = (
            np.where(talks, WorkKind.COMMUNICATION, WorkKind.KERNEL),
            copies,
            np.full(len(parts[2]), WorkKind.GRAPH),
        )
        start, end, pid, device, context, stream, correlation = (
            np.concatenate([ints(part[name], -1) for part in parts])
            for name in ("start_ns", "end_ns", "pid", "device", "context", "stream", "correlation_id")
        )
        call = match_calls(pid, correlation, self.calls.pid, ints(calls["correlation_id"], -1))
        self.work = Work(start, end, np.concatenate(kinds), device, joint_key(context, stream), call)
        name = words_of(tables["kernels"]["name"]).codes if len(parts[0]) else np.zeros(0, np.int64)
        self.tokens = WorkTokens(
            self.work.kind,
            np.concatenate([np.arange(len(part)) for part in parts]),
            (hashed(name, ints(tables["kernels"]["grid_x"])), hashed(name)),
            (hashed(copies, ints(tables["memory_ops"]["size_bytes"])), hashed(copies)),
            (hashed(np.zeros(len(parts[2]), np.int64)),) * 2,
        )

    def found(self) -> Found:
        return find_requests(self.ranges, self.calls, self.work, self.tokens.exact)

    def inferences(self) -> Requests:
        return self.found().requests

    def account(self) -> dict[str, np.ndarray]:
        found = self.inferences()
        spans = np.array(self.overhead, np.int64).reshape(-1, 2) * 1000
        one = np.ones(len(spans), np.int64)
        overhead = ThreadSpans(spans[:, 0], spans[:, 1], 1000 * one, one)
        owner = assign_work(found, self.calls, self.work)
        return account(found, self.calls, self.work, owner, overhead, woken(found, self.calls, self.work, owner))

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each inference, times in microseconds, what is 0 left out."""
        columns = {
            name.removesuffix("_ns"): values // 1000 if name.endswith("_ns") else values
            for name, values in self.account().items()
        }
        count = len(columns["inference"])
        return [{name: column[row].item() for name, column in columns.items() if column[row]} for row in range(count)]

    def buckets(self) -> list[dict[str, int]]:
        return [
            {name: row[name] for name in (b.removesuffix("_ns") for b in BUCKETS) if name in row} for row in self.rows()
        ]


def ints(column: pa.ChunkedArray, null: int = 0) -> np.ndarray:
    return column.cast(pa.int64()).fill_null(null).to_numpy()


def words_of(column: pa.ChunkedArray) -> Words:
    array = column.combine_chunks()
    return Words(array.indices.fill_null(-1).to_numpy(), array.dictionary.to_pylist())


def repeated(times: int, text: str) -> str:
    """The pictures of a drawing so many times, one behind the other, all of one width."""
    lines = [line.split(":") for line in text.splitlines() if line.strip()]
    width = max(len(picture.strip()) for _, picture in lines)
    return "\n".join(f"{label.strip():<28}: {picture.strip().ljust(width, '.') * times}" for label, picture in lines)
