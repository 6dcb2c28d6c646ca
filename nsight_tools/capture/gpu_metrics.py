"""GPU metrics: sampled where that is allowed, and in words why they were not."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, NamedTuple

from nsight_tools.errors import NsysError
from nsight_tools.units import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsight_tools.nsys import Nsys

HZ = 20_000
"""Samples a second where no other rate is given, twice what nsys takes by itself: kernels of few microseconds are told
from each other then, and nothing that could be seen of a run was slower than with fewer (docs/limits.md; an H200)."""
LONGEST_S = 60.0
"""A command that runs longer is sampled only where that is asked for: it would be 26 million values a GPU, and tens of
megabytes, for a program that may be idle."""
VISIBLE = "cuda-visible"
"""What nsys calls the GPUs that CUDA_VISIBLE_DEVICES leaves a program."""
LOST = "what limits each layer, and who else used the GPU, cannot be told then"


class Refused(NamedTuple):
    """Why there are no GPU metrics, what to do to have them, and nsys' own words, which may name folders."""

    why: str
    remedy: str
    said: str = ""

    def __str__(self) -> str:
        return f"{self.why}; to have them, {self.remedy}" if self.remedy else self.why


_PERMISSION = Refused(
    "reading the GPU's performance counters needs permission",
    "run as root, or have the administrator allow it (NVreg_RestrictProfilingToAdminUsers=0)",
)
_HELD = Refused(
    "another profiler holds the GPU's performance counters",
    "end it, or have it let go of them (DCGM: dcgmi profile --pause)",
)
_UNSUPPORTED = Refused("this nsys supports no GPU here", "use a newer nsys; the GPU has to be a Turing or newer")
_REASONS = (
    (re.compile(r"(?i)NVGPUCTRPERM|insufficient privilege"), _PERMISSION),
    (re.compile(r"(?i)already under profiling"), _HELD),
    (re.compile(r"(?i)installed GPUs are supported|unsupported|GPUs? not found|No GPU Metrics Devices"), _UNSUPPORTED),
)
"""What nsys says of each GPU of the machine; it samples those of which it says nothing, and where there is none, it
starts no program. A GPU that is supported and refused says more than one that is not."""
_ASKED = "--gpu-metrics-device"


def too_old(nsys: Nsys) -> Refused | None:
    """Why this version samples none; None where it does."""
    if nsys.can("gpu_metrics_device") or nsys.can("gpu_metrics_devices"):
        return None
    return Refused(f"nsys {nsys.version} records none", "use 2021.2 or newer")


def too_long(lasts_s: float | None) -> Refused | None:
    """Why a command that runs for so long is not sampled, None where that is not known; None where it is sampled."""
    if lasts_s is not None and lasts_s <= LONGEST_S:
        return None
    runs = "how long it runs is not known" if lasts_s is None else f"it runs for {duration(1e9 * lasts_s)}"
    return Refused(f"{runs}, and they take a megabyte or two a second", "give --gpu-metrics")


def refused(said: Sequence[str]) -> Refused | None:
    """Why nsys samples no GPU, by what it said; None where it said nothing of the kind."""
    text = "\n".join(said)
    return next((reason for pattern, reason in _REASONS if pattern.search(text)), None)


def refused_by(nsys: Nsys) -> Refused | None:
    """Why this nsys samples no GPU here, as it says when it is asked; None where it does."""
    try:
        return refused(nsys.profile_says(f"{nsys.gpu_metrics_option}=help").splitlines())
    except NsysError as error:
        return Refused(f"nsys does not say whether it can sample them: {error}", "")


def devices(nsys: Nsys) -> str:
    """Whose metrics to ask for: all GPUs', or where the environment hides some, of those that a program sees.

    The latter where nsys knows the word for it (2025.3 does). What it does with MIG's devices was not tried.
    """
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not seen or "MIG" in seen:
        return "all"
    with contextlib.suppress(NsysError):
        if any(VISIBLE in nsys.profile_says(option) for option in (f"{nsys.gpu_metrics_option}=help", "--help")):
            return VISIBLE
    return "all"


def asked_of_nsys(options: Sequence[str]) -> bool:
    """Whether options of nsys' own choose the GPUs that are sampled."""
    return any(option.startswith(_ASKED) for option in options)
