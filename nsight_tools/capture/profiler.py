"""Nsight Systems' `profile` command: its options by version, and a run of it that gives nothing private away."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nsight_tools.capture import gpu_metrics, starting, supervised
from nsight_tools.errors import NsysError
from nsight_tools.files import partial_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsight_tools.nsys import Nsys

PASSED = ("LD_LIBRARY_PATH", "LANG", "TMPDIR", "CUDA_VISIBLE_DEVICES")
"""Variables that nsys itself may need to find the driver's libraries and the GPUs; its report embeds them."""

STARTS = 3
"""How often nsys is started where it loses its own helper before it starts the command, as it does at times on a busy
machine, one time in a hundred."""
_HELPER_LOST = re.compile("Connection to Agent lost|Local Endpoint is not available")

ACCELERATORS = "--accelerator-trace"
"""The option of `nsys profile` that traces a DLA, as its documentation has it."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Wanted:
    """What a profiled run records."""

    trace: str = "cuda,nvtx"
    graphs: Literal["node", "graph"] = "node"
    capture_range: bool = False
    """Only from the program's cudaProfilerStart to its cudaProfilerStop."""
    gpu_metrics_hz: int | None = None
    memory_usage: bool = False
    accelerators: bool = False
    """What a DLA does, where this nsys offers it."""
    more: tuple[str, ...] = ()
    """Further options of `nsys profile`; one that is named here replaces ours."""


def options(nsys: Nsys, wanted: Wanted) -> list[str]:
    """The options of `nsys profile` for this version, but for the output.

    Raises:
        NsysError: this version cannot record what is wanted.
    """
    chosen = [
        f"--trace={wanted.trace}",
        "--sample=none",  # CPU samples, context switches and symbols: not imported, and symbols of CUDA's libraries
        "--cpuctxsw=none",  # alone can make a report of gigabytes
        "--resolve-symbols=false",
        "--force-overwrite=true",
    ]
    if "cuda" in wanted.trace.split(","):
        if nsys.can("cuda_graph_trace"):
            chosen.append(f"--cuda-graph-trace={wanted.graphs}")
        if nsys.can("cuda_event_trace"):
            chosen.append("--cuda-event-trace=false")  # tracing events can serialize streams
        if wanted.memory_usage:
            chosen.append("--cuda-memory-usage=true")
    if wanted.capture_range:
        chosen += ["--capture-range=cudaProfilerApi", "--capture-range-end=stop"]
    if wanted.gpu_metrics_hz is not None:
        if old := gpu_metrics.too_old(nsys):
            raise NsysError(
                f"nsys {nsys.version} records no GPU metrics", hint=f"leave out --gpu-metrics, or {old.remedy}"
            )
        whose = gpu_metrics.devices(nsys)
        chosen += [f"{nsys.gpu_metrics_option}={whose}", f"--gpu-metrics-frequency={wanted.gpu_metrics_hz}"]
    named = {_name(option) for option in wanted.more}
    if wanted.accelerators and ACCELERATORS not in named and traces_accelerators(nsys):
        chosen.append(f"{ACCELERATORS}=tegra-accelerators")
    if "--capture-range" in named:  # our end belongs to our range
        named.add("--capture-range-end")
    return [option for option in chosen if _name(option) not in named] + list(wanted.more)


def traces_accelerators(nsys: Nsys) -> bool:
    """Whether this nsys offers a trace of a DLA: those of the Embedded Platforms Edition do, whatever their version.

    Not tried on such a machine: what nsys says of its own options decides.
    """
    try:
        return ACCELERATORS in nsys.profile_says()
    except NsysError:
        return False


def _name(option: str) -> str:
    """The name of an option, short names as the long ones that they stand for."""
    short = {"-t": "--trace", "-s": "--sample", "-c": "--capture-range", "-f": "--force-overwrite"}
    name = option.partition("=")[0]
    return short.get(name[:2], name) if not name.startswith("--") else name


@dataclass(frozen=True)
class Profiled:
    """How a profiled run ended."""

    command: tuple[str, ...]
    """nsys and its options, without what it ran."""
    ended: supervised.Ended
    ran: bool
    """Whether nsys came to start the command; `ended.code` is then the command's own."""


def profile(
    nsys: Nsys,
    wanted: Wanted,
    command: Sequence[str | Path],
    report: Path,
    *,
    interrupts: supervised.Interrupts,
    streams: starting.Streams | None = None,
) -> Profiled:
    """Run `command` under nsys, which writes `report`; `failure` says why where it did not.

    The command gets the caller's environment, and the caller's standard streams where they are given; the report embeds
    neither. It still embeds the host's and the user's name, processes' command lines and the variables in `PASSED`.

    Raises:
        NsysError: this version cannot record what is wanted.
    """
    stem = report.with_suffix("").absolute()
    started = [str(nsys.path), "profile", *options(nsys, wanted), f"--output={stem}"]
    scratch = Path(tempfile.gettempdir()) / "nsight-tools-profile"
    with partial_folder(scratch) as folder, contextlib.ExitStack() as stack:
        opened = stack.enter_context(streams.opened()) if streams else {}
        passed = {name: os.environ[name] for name in PASSED if name in os.environ}
        # nsys keeps what it records in TMPDIR until it makes the report of it: gigabytes perhaps, and left if killed.
        given = {"PATH": _PATH, **passed, "HOME": str(folder), "TMPDIR": str(folder)}
        order = starting.Order(folder, command, given=given, streams=opened, variables={})
        for _ in range(STARTS):
            ended = supervised.run(
                [*started, *order.write()], interrupts=interrupts, environment=given, interrupt=order.interrupt
            )
            ran = order.ran
            if ran or not any(map(_HELPER_LOST.search, ended.said)):
                break
    raw = stem.with_suffix(".qdstrm")
    if not report.exists() and raw.exists():  # nsys' importer fails at times, and works when it is asked again
        importer = next(iter(sorted(nsys.path.resolve().parent.parent.glob("host-linux-*/QdstrmImporter"))), None)
        if importer is not None:
            supervised.run([importer, "--input-file", raw], interrupts=interrupts, environment=given)
    if report.exists():
        raw.unlink(missing_ok=True)
    return Profiled(tuple(started), ended, ran)


def refused_metrics(profiled: Profiled) -> gpu_metrics.Refused:
    """Why a run under nsys that never started, or left no report, may have done so for its GPU metrics."""
    known = gpu_metrics.refused(profiled.ended.said)
    return known or gpu_metrics.Refused("nsys fails with them", "see nsys profile --help", _last_words(profiled))


def failure(nsys: Nsys, wanted: Wanted, profiled: Profiled, report: Path) -> NsysError:
    """Why nsys made no report, in its own words and in ours."""
    last = _last_words(profiled)
    if not profiled.ran and wanted.gpu_metrics_hz and (reason := gpu_metrics.refused(profiled.ended.said)):
        return NsysError(f"there are no GPU metrics: {reason.why}", hint=f"{reason.remedy}, or leave out --gpu-metrics")
    if not profiled.ran:
        return NsysError(f"nsys {nsys.version} did not start the command: {last}", hint="see nsys profile --help")
    if wanted.capture_range and profiled.ended.code == 0:
        return NsysError(
            "the program never started the capture range, so that there is no report",
            hint="call cudaProfilerStart and cudaProfilerStop around what counts, or leave out --capture-range",
        )
    hint = "free some space or try again"
    if report.with_suffix(".qdstrm").exists():
        return NsysError(f"nsys {nsys.version} could not make a report of what it recorded: {last}", hint=hint)
    return NsysError(f"nsys {nsys.version} wrote no report: {last}", hint=hint)


def _last_words(profiled: Profiled) -> str:
    lines = [line for line in profiled.ended.said if not _USELESS.search(line)]
    return " / ".join(lines[-3:])[:400] if lines else "it gave no reason"


_USELESS = re.compile(r"^\s*$|^usage:|^Try '|\[=*\s*\d+%|^Generating |^Generated|^WARNING: |^Collecting data")
