"""What trtexec's own files say of a run that nobody traced, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools import units
from nsight_tools.report import measurements, safe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsight_tools.summary import Summary
    from nsight_tools.worth.untraced import Untraced

ENQUEUE_BOUND = 0.8
"""Share of the compute from which on trtexec itself warns of the enqueue (its reporting code, of medians)."""
WITHOUT_TRACE = "nsight-tools capture traces the engine, and says why and what to change"


def verdict(summary: Summary, findings: int) -> str:
    """The first sentence: what bounds the run as far as its times say, or what there is.

    `findings` is how many there are of what the engine's layers alone tell.
    """
    parts = [*(bounds(summary.timed) if summary.timed else ())]
    if not parts and summary.timed:
        parts = ["the GPU's compute bounds it" if summary.timed.compute else "times of inferences"]
    if not parts and summary.untraced_run is not None:
        parts = [f"the times that trtexec wrote are not taken: {summary.untraced_run.problem}"]
    if not parts:
        known = {"--exportProfile": "layer times", "--exportLayerInfo": "the engine's layers"}
        parts = [" and ".join(words for option, words in known.items() if option in summary.trtexec)]
    in_layers = f"{findings} finding{'' if findings == 1 else 's'} in the engine's layers" if findings else ""
    judged = "no trace, so that nothing else is judged" if findings else "no trace, so that no analysis judges it"
    return units.sentence("; ".join([*parts, *filter(None, [in_layers]), f"{judged}: {WITHOUT_TRACE}"]))


def facts(summary: Summary) -> list[str]:
    """The header's lines: the files, and what an inference's parts take."""
    files = ", ".join(f"{option} ({safe.elided(name, 60)})" for option, name in summary.trtexec.items())
    lines = [f"of trtexec: {files}"]
    layers = summary.counts.get("layers", 0)
    if layers:
        lines[0] += f" \u00b7 {layers:,} layer{'' if layers == 1 else 's'}"
    if (timed := summary.timed) is not None:
        speed = summary.measured.speed
        if speed is not None:
            lines.append(f"{speed.inferences:,} inferences: {measurements.told(speed)}")
        known = (
            ("copies to the GPU", timed.h2d),
            ("compute", timed.compute),
            ("copies to the host", timed.d2h),
            ("enqueue on the host", timed.enqueue),
        )
        parts = [f"{label} {units.duration(time)}" for label, time in known if time is not None]
        lines.append(f"medians: {', '.join(parts)}")
    return lines


def bounds(timed: Untraced) -> Iterator[str]:
    """What takes so long beside the compute that it bounds the run, by the tests that trtexec makes of its medians."""
    compute = timed.compute
    if not compute:
        return
    if timed.enqueue is not None and timed.enqueue > ENQUEUE_BOUND * compute:
        share = units.share(timed.enqueue / compute)
        remedy = "trtexec --useCudaGraph makes it one launch"
        yield f"the host's enqueue takes {share} of the compute and bounds it ({remedy})"
    for took, where in ((timed.h2d, "to the GPU"), (timed.d2h, "to the host")):
        if took is not None and took >= compute:
            yield f"copies {where} take {units.duration(took)}, the compute {units.duration(compute)}: they bound it"
