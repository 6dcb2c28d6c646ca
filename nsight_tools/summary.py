"""What a trace holds at a glance: machine, versions, counts, and which kind of work kept the GPUs busy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nsight_tools.calibration import Calibrated
from nsight_tools.columns import pairs_in
from nsight_tools.measured import Measured
from nsight_tools.tables import TABLES
from nsight_tools.timeline.intervals import covered

if TYPE_CHECKING:
    from nsight_tools.columns import Bools, Ints
    from nsight_tools.measured import Work
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
    measured = Measured.of(trace)
    work = measured.work
    window, time = _time(trace)
    return {
        "source": manifest["source"]["name"],
        "captured_by": manifest["source"].get("captured_by"),
        "nsys_version": manifest["source"].get("captured_by") or manifest.get("nsys", {}).get("version"),
        "schema_version": manifest.get("nsys", {}).get("schema_version"),
        **{fact: manifest.get("system", {}).get(fact) for fact in ("driver", "cuda", "cpu", "os")},
        "gpus": [gpu for gpu in trace.table("gpus").to_pylist() if gpu["device"] in measured.devices]
        or trace.table("gpus").to_pylist(),
        "duration_ns": manifest.get("session", {}).get("duration_ns"),
        "window_ns": window,
        "counts": {name: trace.rows(name) for name in TABLES},
        "inferences": trace.rows("inferences"),
        "inference_source": _inference_source(trace),
        "streams": sum(_streams(work, one) for one in measured.devices),
        "processes": len({pid for pid, _ in measured.threads}),
        "time": time,
        "inference_time": _inference_time(trace),
        "layers_by_order": manifest.get("layers_by_order"),
        "run": manifest.get("run"),
        "missing": {name: reason for name in TABLES if (reason := trace.missing(name)) is not None},
    }


def _streams(work: Work, device: int) -> int:
    """How many streams of how many processes a GPU's work is on."""
    mine = work.device == device
    columns = (work.pid, work.stream) if mine.all() else (work.pid[mine], work.stream[mine])
    return len(pairs_in(*columns))


def _time(trace: Trace) -> tuple[int, list[dict[str, Any]]]:
    """The window from the first GPU work to the last, and for each kind of work how long it kept a GPU busy in it."""
    measured = Measured.of(trace)
    work, devices = measured.work, measured.devices
    if not len(work):
        return 0, []
    copies = ~work.kind.among("kernel", "graph", "memset")
    groups = {
        "kernels": work.kind.among("kernel"),
        "graphs": work.kind.among("graph"),
        "h2d": work.kind.among("h2d"),
        "d2h": work.kind.among("d2h"),
        "other copies": copies & ~work.kind.among("h2d", "d2h"),
        "sets": work.kind.among("memset"),
    }
    window = int(work.end.max() - work.start.min())

    def busy(chosen: Bools) -> int:
        here = [np.flatnonzero(chosen & (work.device == one)) for one in devices]
        return sum(covered(work.start[rows], work.end[rows]) for rows in here)

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
    idle = window * len(devices) - sum(measured.busy(one).total for one in devices)
    rows.append({"kind": "idle", "count": None, "busy_ns": idle, "share": idle / max(window * len(devices), 1)})
    return window, rows


def _inference_source(trace: Trace) -> str | None:
    sources = trace.table("inferences", ["source"])["source"].unique().to_pylist()
    return sources[0] if len(sources) == 1 else " and ".join(sorted(sources)) or None


def _inference_time(trace: Trace) -> dict[str, Any] | None:
    """Median and 99th percentile of every bucket, each by itself: they need not sum to those of the wall time.

    Of the inferences that the GPU worked for; where it worked for none, of all. `without_work` are left out.
    The percentile is one that an inference had, not a value between two. While any inference is under way,
    `at_a_time` are on average, and one ends each `every_ns`.
    """
    everything = trace.frame("inferences")
    if everything.empty:
        return None
    measured = Measured.of(trace)
    chosen = measured.counted
    inferences = everything[chosen]
    columns = {bucket: inferences[f"{bucket}_ns"].to_numpy() for bucket in BUCKETS}
    wall = inferences["wall_ns"].to_numpy()
    pieces = sum(inferences[name].to_numpy() for name in ("kernels", "copies", "graphs"))
    return {
        "median": {bucket: round(float(np.median(values))) for bucket, values in columns.items()},
        "p99": {bucket: _p99(values) for bucket, values in columns.items()},
        "wall_median_ns": round(float(np.median(wall))),
        "wall_p99_ns": _p99(wall),
        "at_a_time": measured.at_a_time,
        "every_ns": round(float(wall.mean()) / measured.at_a_time),
        "without_work": int((~chosen).sum()),
        "untraced": _untraced(trace, chosen),
        "gpu_busy_share": float(np.median(inferences["gpu_busy_ns"].to_numpy() / np.maximum(wall, 1))),
        "hidden_copy_ns": round(float(np.median(inferences["hidden_copy_ns"].to_numpy()))),
        "queue_delay_ns": round(float(np.median(inferences["queue_ns"].to_numpy() / np.maximum(pieces, 1)))),
    }


def _p99(values: Ints) -> int:
    return int(np.percentile(values, 99, method="inverted_cdf"))


def _untraced(trace: Trace, chosen: Bools) -> dict[str, Any] | None:
    """Medians of the host's buckets and of the wall without the profiler, each low, point and high, and their source.

    Compute and copies are as traced: a kernel takes no longer under the profiler. None where no API call was traced.
    """
    if not trace.rows("api_calls"):
        return None
    calibrated = Calibrated.of(trace)
    cheap, likely, costly = calibrated.accounting

    def span(name: str) -> dict[str, int]:
        of = (getattr(each, name)[chosen] for each in (costly, likely, cheap))
        return dict(zip(("low", "point", "high"), (round(float(np.median(values))) for values in of), strict=True))

    known = calibrated.untraced
    return {
        "source": known.source if known else "estimated from the trace",
        **{bucket: span(bucket) for bucket in ("launch", "sync", "host")},
        "wall_ns": span("wall"),
    }
