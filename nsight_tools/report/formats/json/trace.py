"""The report for machines: JSON, one stable schema (`schema-2.json` beside this module)."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from importlib import resources
from typing import TYPE_CHECKING, Any

from nsight_tools import changes
from nsight_tools.report.content import BUCKETS
from nsight_tools.report.context import PLAIN
from nsight_tools.report.formats.json.plain import plain
from nsight_tools.tables import TABLES
from nsight_tools.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsight_tools.analysis import Outcome
    from nsight_tools.findings import Change, Finding
    from nsight_tools.measured import Measured
    from nsight_tools.report.content import TraceReport
    from nsight_tools.report.context import Context
    from nsight_tools.run.limits import LayerLimit
    from nsight_tools.summary import Summary, Times

SCHEMA_VERSION = 2


def render(reports: Sequence[TraceReport], context: Context = PLAIN) -> str:
    """The reports as JSON in ASCII: whatever a trace's names hold stays inert and survives any encoding."""
    return json.dumps(document(reports), indent=2, allow_nan=False) + "\n"


def document(reports: Sequence[TraceReport]) -> dict[str, Any]:
    """The reports as plain data that `schema()` describes; what JSON cannot say (NaN, infinity) is None."""
    tool = {"name": "nsight-tools", "version": __version__}
    data: dict[str, Any] = plain({"schema": SCHEMA_VERSION, "tool": tool, "traces": [_trace(r) for r in reports]})
    return data


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of `document`."""
    text = resources.files(__name__.rpartition(".")[0]).joinpath(f"schema-{SCHEMA_VERSION}.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def _trace(report: TraceReport) -> dict[str, Any]:
    summary = report.summary
    columns = TABLES["gpus"].names
    return {
        "source": summary.source or report.name,
        "nsys_version": summary.nsys_version,
        "schema_version": summary.schema_version,
        "gpus": [{column: gpu.get(column) for column in columns} for gpu in summary.gpus],
        "duration_ns": summary.duration_ns,
        "counts": dict(summary.counts),
        "requests": _requests(summary),
        "inference": _inference(summary.times),
        "untraced_run": asdict(summary.untraced_run) if summary.untraced_run else None,
        "measured": _measured(summary.measured),
        "layers_by_order": summary.layers_by_order,
        "layer_times": asdict(summary.layer_times) if summary.layer_times else None,
        "limits": _limits(summary),
        "headline": report.verdict,
        "plan": _plan(report),
        "hand_over": [asdict(profiling) for profiling in report.hand_over],
        "outcomes": [_outcome(outcome) for outcome in sorted(report.outcomes, key=lambda o: o.code)],
    }


def _measured(measured: Measured) -> dict[str, Any]:
    """All that was measured without the profiler, and by which share of the median its repeats differ."""
    accuracy = measured.accuracy.as_json() if measured.accuracy else None
    return asdict(measured) | {"spread": measured.spreads() or None, "accuracy": accuracy}


def _limits(summary: Summary) -> dict[str, Any] | None:
    """What limits the layers; None where GPU metrics were not sampled."""
    if not (summary.limits or summary.limits_notes):
        return None
    return {"layers": [_limit(limit) for limit in summary.limits], "notes": list(summary.limits_notes)}


def _limit(layer: LayerLimit) -> dict[str, Any]:
    moved = dict(zip(("low", "point", "high"), layer.dram_bytes, strict=True)) if layer.dram_bytes else None
    return {
        **{name: getattr(layer, name) for name in ("name", "device", "kernels", "time_ns", "limit", "because")},
        "together": layer.together,
        "shares": {name: asdict(share) for name, share in layer.parts.items()},
        "dram_bytes": moved,
        "needed_bytes": layer.needed_bytes,
        "moved_more": layer.moved_more,
    }


def _plan(report: TraceReport) -> dict[str, Any] | None:
    """What the findings' changes give together, step by step; None where no replay promises anything."""
    if report.plan is None:
        return None
    worth = report.plan.worth
    return {
        "said": report.together,
        "per": worth.per,
        "before_ns": round(worth.before_ns),
        "saves_ns": {"low": round(worth.low_ns), "point": round(worth.point_ns), "high": round(worth.high_ns)},
        "method": worth.method,
        "steps": [{"change": _change(stage.change), "after_ns": round(stage.after_ns)} for stage in report.plan.stages],
        "left_out": [_change(change) for change in report.plan.left_out],
    }


def _requests(summary: Summary) -> dict[str, Any]:
    """What an inference was taken to be, and which kinds of them there are."""
    return {
        "count": summary.inferences,
        "source": summary.inference_source,
        "name": summary.inference_name or None,
        "other": summary.other_name or None,
        "alike": summary.alike,
        "enqueues": summary.enqueues,
        "engines": summary.engines,
        "populations": [asdict(population) for population in summary.populations],
    }


def _inference(times: Times | None) -> dict[str, Any] | None:
    if times is None:
        return None
    untraced = times.untraced

    def bucket(name: str) -> dict[str, Any]:
        median = times.median.get(name, 0)
        as_traced = dict.fromkeys(("low", "point", "high"), median) if untraced else None
        span = getattr(untraced, name, None)
        return {
            "median_ns": median,
            "p99_ns": times.p99.get(name, 0),
            "untraced_ns": asdict(span) if span is not None else as_traced,
        }

    wall = {"median_ns": times.wall_median_ns, "p99_ns": times.wall_p99_ns}
    return {
        "of": times.of,
        "wall": wall | {"untraced_ns": asdict(untraced.wall_ns) if untraced else None},
        "buckets": {name: bucket(name) for name in BUCKETS},
        "untraced_source": untraced.source if untraced else None,
        **{name: getattr(times, name) for name in ("gpu_busy_share", "hidden_copy_ns", "queue_delay_ns")},
        **{name: getattr(times, name) for name in ("at_a_time", "every_ns", "without_work", "warm_up", "warm_up_ns")},
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "code": outcome.code,
        "status": outcome.status.value,
        "reason": outcome.reason or None,
        "remedy": outcome.remedy or None,
        "findings": [_finding(finding) for finding in outcome.findings],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    data = asdict(replace(finding, loss=None)) | {"change": [_change(change) for change in finding.change]}
    del data["loss"]  # what the rule saw: priced, it is the recoverable time
    del data["act"]  # the recommendation in short, for people
    return data | {"severity": finding.severity.value, "confidence": finding.confidence.value}


def _change(change: Change) -> dict[str, Any]:
    words = changes.said(change)
    return asdict(change) | {"trtexec": words.trtexec or None, "api": words.api or None}
