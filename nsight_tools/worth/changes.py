"""What a change does to a program: each takes one and gives the one that would run instead, or says why it cannot."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nsight_tools.cuda_names import CallKind
from nsight_tools.worth.known import BEFORE_LAUNCH_NS, LONG_PAUSE_NS, ORDERING_NS, SPIN_NS
from nsight_tools.worth.program import KERNEL, NEVER, TO_GPU, TO_HOST, Program

if TYPE_CHECKING:
    from nsight_tools.columns import Bools, Ints

IN_FLIGHT = 2
"""Requests under way where transfers overlap: one computes while another copies, as trtexec and our own runner do."""


class NotReplayedError(Exception):
    """Why a change cannot be made in a replay."""


def overlaps(program: Program) -> bool:
    """Whether its requests are waited for only after later ones were launched."""
    waits = program.kind == CallKind.SYNC
    return bool(waits.any()) and bool((program.lag[waits] > 0).all()) and program.own > 0


def with_graph(program: Program) -> Program:
    """Every run of launches without a wait, a copy or long work of the host between them as one launch of a graph."""
    keep, made = _captured(program)
    if not made.any():
        raise NotReplayedError("no kernel is launched by itself")
    number = np.cumsum(keep) - 1
    of_work: Ints = number[program.step]
    ours = made[keep][of_work]
    head = ours & np.append(True, of_work[1:] != of_work[:-1])
    launching = made & (program.pause.mean(axis=0) <= LONG_PAUSE_NS)
    pause = np.where(launching, np.minimum(program.pause, BEFORE_LAUNCH_NS), program.pause)
    rows: dict[str, Any] = {name: getattr(program, name)[keep] for name in ("blocking", "lag", "unblocked")}
    rows |= {name: getattr(program, name)[:, keep] for name in ("other", "length", "wake", "waited")}
    return replace(
        program,
        kind=np.where(made, np.int8(CallKind.GRAPH_LAUNCH), program.kind)[keep],
        own=int(number[program.own]),
        ranges=np.where(made, 0.0, program.ranges)[keep],
        pause=pause[:, keep],
        step=of_work,
        in_graph=program.in_graph | (ours & ~head),
        promised=program.promised | (ours & ~head),
        heads=program.heads | head,
        latency=np.where(ours & ~head, NEVER, program.latency),
        made=(program.made | made)[keep],
        **rows,
    )


def _captured(program: Program) -> tuple[Bools, Bools]:
    """Which steps are left where runs of launches become one, and which of those launch a graph then; shape (m,)."""
    keep, made, inside = np.ones(len(program.kind), np.bool_), np.zeros(len(program.kind), np.bool_), False
    long = program.pause.mean(axis=0) > LONG_PAUSE_NS
    for step, kind in enumerate(program.kind):
        launch = kind == CallKind.LAUNCH
        if launch and (long[step] or not inside):
            made[step] = inside = True
        elif inside and (launch or (kind == CallKind.COPY and _inside(program, step))):
            keep[step] = False
        else:
            inside = False
    return keep, made


def _inside(program: Program, step: int) -> bool:
    """Whether a copy or set is one on the GPU, which a graph takes in."""
    engines = program.engine[program.step == step]
    return bool((engines == KERNEL).all()) and not program.blocking[step]


def with_pinned(program: Program) -> Program:
    """Host memory of copies pinned: they take what the link gives, and their calls return at once.

    Where nothing else waits the last of them still does: a program has to know when its result is there.
    """
    if not program.pageable.any():
        raise NotReplayedError("no copy is of pageable memory")
    unblocked = np.zeros(len(program.kind), np.bool_)
    unblocked[program.step[program.pageable]] = True
    wake = program.wake
    if not ((program.kind == CallKind.SYNC) | (program.blocking & ~unblocked)).any() and program.blocking.any():
        last = int(np.flatnonzero(program.blocking)[-1])
        unblocked[last] = False
        wake = wake.copy()
        # What the driver copied by itself behind the transfer is gone, and the waking is left.
        wake[:, last] = np.minimum(wake[:, last], SPIN_NS.point)
    latency = np.where(program.pageable, np.minimum(program.latency, 2_000.0), program.latency)
    return replace(
        program,
        blocking=program.blocking & ~unblocked,
        unblocked=program.unblocked | unblocked,
        repinned=program.repinned | program.pageable,
        pageable=np.zeros_like(program.pageable),
        latency=latency,
        wake=wake,
    )


def with_spinning(program: Program) -> Program:
    """Waits that poll."""
    if not (program.kind == CallKind.SYNC).any():
        raise NotReplayedError("nothing is waited for")
    return replace(program, changed_wait=True)


def with_overlap(program: Program) -> Program:
    """Copies in, kernels and copies out on a stream each, and two requests under way."""
    waits = np.flatnonzero(program.kind == CallKind.SYNC)
    if overlaps(program):
        raise NotReplayedError("requests overlap already")
    if program.lanes > 1:
        raise NotReplayedError("kernels of several streams share the GPU")
    if len(waits) != 1 or waits[0] != len(program.kind) - 1:
        raise NotReplayedError("the host waits in the middle of a request")
    if not ((program.engine == TO_GPU) | (program.engine == TO_HOST)).any():
        raise NotReplayedError("nothing is copied")
    last = len(program.kind) - 1
    order = np.append(last, np.arange(last))
    columns: dict[str, Any] = {
        name: getattr(program, name)[order] for name in ("kind", "blocking", "ranges", "made", "unblocked")
    }
    columns |= {name: getattr(program, name)[:, order] for name in ("other", "length", "wake", "waited")}
    pause = program.pause[:, order]
    first = int(program.step[program.engine == KERNEL][0]) + 1
    pause[:, first] += ORDERING_NS
    changes = np.append(False, program.engine[1:] != program.engine[:-1])
    return replace(
        program,
        **columns,
        pause=pause,
        own=program.own + 1,
        lag=np.append(IN_FLIGHT, np.zeros(last, np.int64)),
        step=program.step + 1,
        queue=program.engine.astype(np.int64),
        after=np.where(changes, np.arange(len(changes)) - 1, -1),
        rest=np.zeros_like(program.rest),
    )


CHANGES = {
    "pageable": (False, with_pinned),
    "use_cuda_graph": (True, with_graph),
    "use_spin_wait": (True, with_spinning),
    "overlap_transfers": (True, with_overlap),
}
"""Options that a replay can change, in the order in which they are applied, each with the value that it changes to."""
