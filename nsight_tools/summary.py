"""What a trace holds at a glance: machine, versions, counts, and which kind of work kept the GPUs busy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nsight_tools.calibration import Calibrated
from nsight_tools.tables import TABLES
from nsight_tools.timeline.intervals import Intervals

if TYPE_CHECKING:
    from nsight_tools.trace import Trace

BUCKETS = (
    "compute",
    "exposed_h2d",
    "exposed_d2h",
    "exposed_other_copy",
    "other_work",
    "launch",
    "sync",
    "host",
    "unattributed",
)
"""The buckets of `inferences` in their order of precedence, without the suffix _ns."""


def summarize(trace: Trace) -> dict[str, Any]:
    """The summary that reports print; keys as in `Trace.summary`."""
    manifest = trace.manifest
    launches = trace.frame("launches", ["device", "stream", "pid"])
    window, time = _time(trace)
    return {
        "source": manifest["source"]["name"],
        "captured_by": manifest["source"].get("captured_by"),
        "nsys_version": manifest["source"].get("captured_by") or manifest.get("nsys", {}).get("version"),
        "schema_version": manifest.get("nsys", {}).get("schema_version"),
        **{fact: manifest.get("system", {}).get(fact) for fact in ("driver", "cuda", "cpu", "os")},
        "gpus": [gpu for gpu in trace.table("gpus").to_pylist() if gpu["device"] in set(launches.device)]
        or trace.table("gpus").to_pylist(),
        "duration_ns": manifest.get("session", {}).get("duration_ns"),
        "window_ns": window,
        "counts": {name: trace.rows(name) for name in TABLES},
        "inferences": trace.rows("inferences"),
        "inference_source": _inference_source(trace),
        "streams": len(launches.drop_duplicates()),
        "processes": launches.pid.nunique(),
        "time": time,
        "inference_time": _inference_time(trace),
        "layers_by_order": manifest.get("layers_by_order"),
        "missing": {name: reason for name in TABLES if (reason := trace.missing(name)) is not None},
    }


def _time(trace: Trace) -> tuple[int, list[dict[str, Any]]]:
    """The window from the first GPU work to the last, and for each kind of work how long it kept a GPU busy in it."""
    launches = trace.table("launches", ["start_ns", "end_ns", "device", "work", "row"])
    if not launches.num_rows:
        return 0, []
    start, end, device = (launches[name].to_numpy() for name in ("start_ns", "end_ns", "device"))
    kind = launches["work"].to_pandas().astype(str).to_numpy(copy=True)
    copies = kind == "copy"
    kinds = trace.table("memory_ops", ["kind"])["kind"].to_pandas().astype(str).to_numpy()
    kind[copies] = kinds[launches["row"].to_numpy()[copies]]
    groups = {
        "kernels": kind == "kernel",
        "graphs": kind == "graph",
        "h2d": kind == "h2d",
        "d2h": kind == "d2h",
        "other copies": copies & ~np.isin(kind, ("h2d", "d2h")),
        "sets": kind == "set",
    }
    window = int(end.max() - start.min())
    devices = np.unique(device)

    def busy(chosen: np.ndarray[Any, np.dtype[np.bool_]]) -> int:
        here = [chosen & (device == one) for one in devices]
        return sum(Intervals.union(start[rows], end[rows]).total for rows in here)

    rows = [
        {
            "kind": name,
            "count": int(chosen.sum()),
            "busy_ns": (ns := busy(chosen)),
            "share": ns / max(window * len(devices), 1),
        }
        for name, chosen in groups.items()
        if chosen.any()
    ]
    idle = window * len(devices) - busy(np.ones(len(kind), bool))
    rows.append({"kind": "idle", "count": None, "busy_ns": idle, "share": idle / max(window * len(devices), 1)})
    return window, rows


def _inference_source(trace: Trace) -> str | None:
    sources = trace.table("inferences", ["source"])["source"].unique().to_pylist()
    return sources[0] if len(sources) == 1 else " and ".join(sorted(sources)) or None


def _inference_time(trace: Trace) -> dict[str, Any] | None:
    """Median and 99th percentile of every bucket, each by itself: they need not sum to those of the wall time."""
    inferences = trace.frame("inferences")
    if inferences.empty:
        return None
    columns = {bucket: inferences[f"{bucket}_ns"].to_numpy() for bucket in BUCKETS}
    wall = inferences["wall_ns"].to_numpy()
    pieces = sum(inferences[name].to_numpy() for name in ("kernels", "copies", "graphs"))
    return {
        "median": {bucket: round(float(np.median(values))) for bucket, values in columns.items()},
        "p99": {bucket: round(float(np.percentile(values, 99))) for bucket, values in columns.items()},
        "wall_median_ns": round(float(np.median(wall))),
        "wall_p99_ns": round(float(np.percentile(wall, 99))),
        "untraced": _untraced(trace),
        "gpu_busy_share": float(np.median(inferences["gpu_busy_ns"].to_numpy() / np.maximum(wall, 1))),
        "hidden_copy_ns": round(float(np.median(inferences["hidden_copy_ns"].to_numpy()))),
        "queue_delay_ns": round(float(np.median(inferences["queue_ns"].to_numpy() / np.maximum(pieces, 1)))),
    }


def _untraced(trace: Trace) -> dict[str, Any] | None:
    """Medians of the host's buckets and of the wall without the profiler, each low, point and high, and their source.

    Compute and copies are as traced: a kernel takes no longer under the profiler. None where no API call was traced.
    """
    if not trace.rows("api_calls"):
        return None
    calibrated = Calibrated.of(trace)
    cheap, likely, costly = calibrated.accounting

    def span(name: str) -> dict[str, int]:
        of = (getattr(each, name) for each in (costly, likely, cheap))
        return dict(zip(("low", "point", "high"), (round(float(np.median(values))) for values in of), strict=True))

    known = calibrated.untraced
    return {
        "source": known.source if known else "estimated from the trace",
        **{bucket: span(bucket) for bucket in ("launch", "sync", "host")},
        "wall_ns": span("wall"),
    }
