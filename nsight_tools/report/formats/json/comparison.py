"""Comparisons for machines: JSON, one stable schema (`comparison-schema-2.json` beside this module)."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import Enum
from importlib import resources
from typing import TYPE_CHECKING, Any

from nsight_tools.comparison.resampling import LEVEL
from nsight_tools.report import compared, compared_builds
from nsight_tools.report.context import PLAIN
from nsight_tools.report.formats.json.plain import plain
from nsight_tools.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsight_tools.comparison.result import Comparison, Side
    from nsight_tools.report.context import Context

SCHEMA_VERSION = 2
_METRICS = ("throughput", "latency")
_GROUPS = (
    "populations",
    "setup",
    "walls",
    "buckets",
    "work",
    "conditions",
    "measurements",
    "layers",
    "kernels",
    "predictions",
    "notes",
    "untold",
)


def render(comparisons: Sequence[Comparison], context: Context = PLAIN) -> str:
    """The comparisons as JSON in ASCII: whatever a trace's names hold stays inert and survives any encoding."""
    return json.dumps(document(comparisons), indent=2, allow_nan=False) + "\n"


def document(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """The comparisons as plain data that `schema()` describes; what JSON cannot say (NaN, infinity) is None."""
    tool = {"name": "nsight-tools", "version": __version__}
    documents = [_comparison(comparison) for comparison in comparisons]
    data: dict[str, Any] = plain({"schema": SCHEMA_VERSION, "tool": tool, "level": LEVEL, "comparisons": documents})
    return data


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of `document`."""
    name = f"comparison-schema-{SCHEMA_VERSION}.json"
    loaded: dict[str, Any] = json.loads(resources.files(__name__.rpartition(".")[0]).joinpath(name).read_text("utf-8"))
    return loaded


def _comparison(comparison: Comparison) -> dict[str, Any]:
    data = asdict(comparison, dict_factory=_words)
    return {
        "before": _side(comparison.before),
        "after": _side(comparison.after),
        "leads": comparison.leads.value,
        "verdict": comparison.verdict.value,
        "headline": compared.headline(comparison),
        "builds": _builds(data["builds"], comparison),
        **{metric: data[metric] | {"said": compared.said(getattr(comparison, metric))} for metric in _METRICS},
        **{group: data[group] for group in _GROUPS},
    }


def _builds(data: dict[str, Any] | None, comparison: Comparison) -> dict[str, Any] | None:
    return {"said": compared_builds.answer(comparison.builds), **data} if data and comparison.builds else None


def _side(side: Side) -> dict[str, Any]:
    return {
        "name": side.name,
        "source": side.summary.source,
        "inferences": side.inferences,
        "left_out": side.left_out,
        "in_flight": side.in_flight,
        "inputs": side.inputs,
    }


def _words(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value.value if isinstance(value, Enum) else value for name, value in items}
