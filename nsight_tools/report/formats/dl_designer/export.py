"""Which node of an ONNX model costs what: each layer's nodes, its time, and how to find them in a viewer of the model.

Nsight Deep Learning Designer opens ONNX models, and finds a node by its name. TensorRT's engines say of a layer which
nodes it is made of, where they were built with verbosity DETAILED.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsight_tools import run_files, units
from nsight_tools.errors import InputError
from nsight_tools.run.layer_times import layer_times, traced_medians

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from nsight_tools.report.context import Exported
    from nsight_tools.trace import Trace

FOLDER = True
TAKES_ONNX = True
TABLE = "nodes.csv"
STEPS = "STEPS.md"
COLUMNS = ("node", "layer", "layer_type", "nodes_in_layer", "layer_median_us", "share_of_layers", "timed_by", "tactic")
_SEPARATOR = "\x1e"
_NODE = re.compile(r"\[ONNX Layer: (.*)\]", re.DOTALL)
_LISTED = 12
"""Layers that the steps name: as many as the report's page lists."""


@dataclass(frozen=True)
class NodeCost:
    """One layer and the ONNX nodes that it is made of; none where TensorRT made it by itself, as a reformat."""

    layer: str
    type: str
    nodes: tuple[str, ...]
    median_ns: int | None
    """Of an inference; None where the layer was not seen to take time."""
    timed_by: str
    """profiler (TensorRT's own), trace, or empty."""
    tactic: str


def write(exported: Exported, to: Callable[[str, str | Path], None]) -> list[tuple[str, str]]:
    """Write what each ONNX node costs, with the model, the engine, and what to do with them. Raises as `costs`."""
    node_costs = costs(exported.trace)
    engine = _engine(exported.source)
    for file in filter(None, (exported.onnx, engine)):
        to(file.name, file)
    to(TABLE, table(node_costs))
    to(STEPS, steps(node_costs, exported.onnx.name if exported.onnx else "", engine.name if engine else ""))
    count = len({node for cost in node_costs for node in cost.nodes})
    return [("", f"{count:,} ONNX nodes in {len(node_costs):,} layers; {STEPS} says how")]


def _engine(source: Path) -> Path | None:
    """The engine of a run directory."""
    folder = source if source.is_dir() else source.parent
    engines = [file for file in sorted(folder.iterdir()) if file.suffix in run_files.ENGINES]
    return engines[0] if len(engines) == 1 and (folder / run_files.RUN).is_file() else None


def nodes_of(metadata: str | None) -> tuple[str, ...]:
    """Names of the ONNX nodes that a layer's metadata gives, each once, in their order."""
    matches = (_NODE.fullmatch(text.strip()) for text in (metadata or "").split(_SEPARATOR))
    return tuple(dict.fromkeys(match[1] for match in matches if match))


def costs(trace: Trace) -> list[NodeCost]:
    """The engine's layers with their nodes and times, the longest first.

    Raises InputError where no layer says of which nodes it is made.
    """
    profiled = layer_times(trace)
    by_profiler = {layer.name: layer.profiler_ns for layer in profiled.layers} if profiled else {}
    by_trace = traced_medians(trace)
    node_costs = []
    for row in trace.table("layers", ["name", "type", "tactic", "metadata"]).to_pylist():
        name = row["name"]
        took, how = by_profiler.get(name), "profiler"
        if took is None:
            took, how = by_trace.get(name), "trace" if name in by_trace else ""
        node_costs.append(NodeCost(name, row["type"] or "", nodes_of(row["metadata"]), took, how, row["tactic"] or ""))
    if not any(cost.nodes for cost in node_costs):
        problem = "does not say of which ONNX nodes a layer is made"
        hint = "build the engine with profiling verbosity DETAILED (TensorRT 8.6 or later), or give --layers"
        raise InputError(trace.manifest["source"]["name"], problem, hint=hint)
    return sorted(node_costs, key=lambda cost: -(cost.median_ns or 0))


def table(node_costs: Sequence[NodeCost]) -> str:
    """CSV with a row for each node, or for each layer that has none; times are those of the whole layer."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    whole = sum(cost.median_ns or 0 for cost in node_costs)
    for cost in node_costs:
        took = "" if cost.median_ns is None else f"{cost.median_ns / 1e3:.3f}"
        share = "" if cost.median_ns is None or not whole else f"{cost.median_ns / whole:.6f}"
        for node in cost.nodes or ("",):
            rows.writerow([node, cost.layer, cost.type, len(cost.nodes), took, share, cost.timed_by, cost.tactic])
    return text.getvalue()


def steps(node_costs: Sequence[NodeCost], model: str, engine: str) -> str:
    """What to do with the folder, and with which layers to begin; `model` and `engine` are empty where not there."""
    opened = model or "the ONNX model that the engine was built from"
    whole = max(sum(cost.median_ns or 0 for cost in node_costs), 1)
    largest = [cost for cost in node_costs if cost.median_ns][:_LISTED]
    lines = [
        "# Nsight Deep Learning Designer",
        "",
        f"1. Open {opened} in it.",
        f"2. Take a node from `{TABLE}`, which has the layers that take longest first, and look for it by its name.",
        "3. A layer of several nodes is one piece of work to TensorRT: its time is that of all of them.",
        "4. Rows without a node are what TensorRT put in by itself, as reformats between layers.",
    ]
    if engine:
        lines.append(
            f"5. `{engine}` is the engine that was measured. A profile made there is of an engine that it builds."
        )
    lines += [
        "",
        "How it shows a model was taken from its user guide; that it opens this folder was not tried.",
        "",
        "|layer|time of an inference|nodes|",
        "|---|---:|---|",
    ]
    for cost in largest:
        nodes = ", ".join(f"`{_plain(node)}`" for node in cost.nodes) or "none"
        time = f"{units.duration(cost.median_ns)} ({units.share((cost.median_ns or 0) / whole)})"
        lines.append(f"|`{_plain(cost.layer)}`|{time}|{nodes}|")
    return "\n".join(lines) + "\n"


def _plain(name: str) -> str:
    """A name that stays within its cell and its code."""
    return re.sub(r"[`|\r\n]", "_", name)
