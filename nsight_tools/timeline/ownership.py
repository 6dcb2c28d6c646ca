"""Whose GPU work is whose: the request of each piece, and when the host knew that a request was done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.cuda_names import CallKind
from nsight_tools.timeline.attribution import CHUNK, Calls, Work, WorkKind, innermost, joint_key, parents
from nsight_tools.timeline.requests import MARKED, open_then

if TYPE_CHECKING:
    from nsight_tools.timeline.intervals import BoolArray, Int64Array, IntArray
    from nsight_tools.timeline.requests import Requests


def assign_work(requests: Requests, calls: Calls, work: Work) -> Int64Array:
    """Request of each piece of GPU work, shape (n,); -1 where none.

    Work belongs to the request inside of which its launch call starts, on the same thread; to the innermost where they
    nest. What a helper thread launches belongs to the only request of the process that is open then.

    Where requests are not ranges that somebody named for it, the work around them is theirs, too. Copies to the device
    and sets belong to the thread's next request. What else it launches between two requests belongs to the earlier one
    until the next one's data comes: a copy to the GPU (or a set) after the host has waited or copied a result back;
    where there is none, other work behind that copy of a result. From there on it belongs to the later one, which may
    read results of this work on the host before it enqueues. A copy to the host that comes after two waits is not the
    earlier one's either, if the host waits for it. What a CUDA graph launches there is somebody else's. Before a
    thread's first request there is no such rhythm: of what comes before it, only what no wait follows is its, or what
    comes as late as that of the others.
    """
    owner = np.full(work.start.size, -1, np.int64)
    threads = requests.thread
    parent = parents(requests.start, requests.end, threads)
    for begin in range(0, owner.size, CHUNK):
        launched = begin + np.flatnonzero(work.call[begin : begin + CHUNK] >= 0)
        call = work.call[launched]
        time, launcher = calls.start[call], joint_key(calls.pid[call], calls.tid[call])
        owner[launched] = innermost(requests.start, requests.end, threads, parent, time, launcher)
    loose = np.flatnonzero((work.call >= 0) & (owner < 0))
    call = work.call[loose]
    time, launcher = calls.start[call], joint_key(calls.pid[call], calls.tid[call])
    owner[loose] = open_then(requests.start, requests.end, requests.pid, requests.tid, launcher, time)
    takes_more = requests.source != MARKED
    waits = np.flatnonzero(calls.kind == CallKind.SYNC)
    waiter = joint_key(calls.pid[waits], calls.tid[waits])
    for thread in np.unique(threads[takes_more]):
        theirs = np.flatnonzero((threads == thread) & takes_more)
        points = np.flatnonzero((launcher == thread) & (owner[loose] < 0))
        points = points[calls.kind[call[points]] != CallKind.GRAPH_LAUNCH]
        points = points[np.argsort(time[points], kind="stable")]
        waited = np.sort(calls.start[waits[waiter == thread]])
        place = _between(requests.start[theirs], requests.end[theirs], time[points], work.kind[loose[points]], waited)
        real = (place >= 0) & (place < theirs.size)
        owner[loose[points[real]]] = theirs[place[real]]
    return owner


def _between(start: Int64Array, end: Int64Array, time: Int64Array, kind: IntArray, waited: Int64Array) -> Int64Array:
    """Place of the request that each piece of loose work, in order of its launch, belongs to; -1 or n where none."""
    previous = np.searchsorted(start, time, side="right") - 1
    until = start[np.minimum(previous + 1, start.size - 1)]
    followed = np.searchsorted(waited, until) - np.searchsorted(waited, time)
    since = np.searchsorted(waited, time) - np.searchsorted(waited, end[np.maximum(previous, 0)])
    ahead = (kind == WorkKind.H2D) | (kind == WorkKind.SET)
    down = kind == WorkKind.D2H
    first = np.searchsorted(previous, previous)  # where the work between the same two requests begins
    count = np.cumsum(down) - down
    has_copied = count > count[first]
    uploads = ahead & (has_copied | (since > 0))
    any_upload = np.bincount(previous + 1, uploads, minlength=start.size + 1)[previous + 1] > 0
    feeds = uploads | (~ahead & ~down & has_copied & ~any_upload)
    so_far = np.cumsum(feeds)
    begun = so_far > (so_far - feeds)[first]
    later = (previous < 0) | ahead | begun | (down & (since >= 2) & (followed > 0))
    place: Int64Array = np.where(later, previous + 1, previous)
    rest = (previous < 0) & ((followed > 0) | down)
    return np.where(rest & (until - time > _lead(previous, until - time, later)), -1, place)


def _lead(previous: Int64Array, ahead: Int64Array, later: BoolArray) -> float:
    """How long before a request the first work for it is launched: half as long again as it usually is."""
    mine = later & (previous >= 0)
    if not mine.any():
        return 0.0
    longest = np.zeros(int(previous.max()) + 1, np.int64)
    np.maximum.at(longest, previous[mine], ahead[mine])
    return 1.5 * float(np.median(longest[longest > 0])) if (longest > 0).any() else 0.0


def woken(requests: Requests, calls: Calls, work: Work, owner: IntArray) -> Int64Array:
    """When the host knew that each request was done, shape (n,): the end of the wait in which its last work ended.

    That is a synchronization of the request's own thread that had begun when its last work ended, and returned behind
    it before the thread began its next request. The request's own end where no such wait is known.
    """
    last = np.full(len(requests), np.iinfo(np.int64).min)
    mine = np.flatnonzero(owner >= 0)
    np.maximum.at(last, owner[mine], work.end[mine])
    known = requests.end.copy()
    waits = np.flatnonzero(calls.kind == CallKind.SYNC)
    waiter = joint_key(calls.pid[waits], calls.tid[waits])
    threads, takes_more = requests.thread, requests.source != MARKED
    for thread in np.unique(threads[takes_more]):
        theirs = np.flatnonzero((threads == thread) & takes_more)
        own_waits = waits[waiter == thread]
        if not own_waits.size:
            continue
        own_waits = own_waits[np.argsort(calls.start[own_waits], kind="stable")]
        following = np.append(requests.start[theirs][1:], np.iinfo(np.int64).max)
        at = np.searchsorted(calls.start[own_waits], last[theirs], side="right") - 1
        wait = own_waits[np.maximum(at, 0)]
        real: BoolArray = (at >= 0) & (calls.end[wait] >= last[theirs]) & (calls.start[wait] >= requests.start[theirs])
        real &= calls.start[wait] < following
        known[theirs[real]] = np.maximum(known[theirs[real]], calls.end[wait[real]])
    return known
