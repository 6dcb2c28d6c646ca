"""Inferences whose enqueue failed: they copy, and launch nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.timeline.attribution import joint_key
from nsight_tools.timeline.intervals import distinct

if TYPE_CHECKING:
    from nsight_tools.columns import Bools, Ints
    from nsight_tools.run import Run


@dataclass(frozen=True)
class Failed:
    """Inferences that copied and launched nothing, on streams where every inference did so."""

    inferences: Bools
    streams: Ints
    carrying: int
    """Streams that carry copies of inferences, these and others."""


def failed_on_streams(run: Run) -> Failed | None:
    """Inferences whose enqueue failed, where streams tell it; None where they do not.

    A failed inference copies in both directions and launches no kernel. A stream is told by it if all inferences that
    copy on it have failed and it runs no kernel. Inferences whose kernels run on a stream apart from their copies
    (trtexec's design) have not failed, nor has a thread that only uploads or only downloads.
    """
    worked = run.requests.worked
    if not worked.any() or worked.all():
        return None
    work = run.work
    moves = np.flatnonzero(work.kind.among("h2d", "d2h") & (work.inference >= 0))
    inference, up = work.inference[moves], work.kind[moves].among("h2d")
    both = np.zeros((2, len(worked)), np.bool_)
    both[up.astype(int), inference] = True
    stream = joint_key(work.pid[moves], work.stream[moves])
    busy = distinct(joint_key(work.pid, work.stream)[work.computes])
    sound = np.union1d(stream[worked[inference]], busy)
    suspect = ~worked & both.all(axis=0)
    told = suspect[inference] & ~np.isin(stream, sound)
    failed = np.zeros(len(worked), np.bool_)
    failed[inference[told]] = True
    if not failed.any():
        return None
    return Failed(failed, np.unique(work.stream[moves[told]]), len(np.unique(stream)))
