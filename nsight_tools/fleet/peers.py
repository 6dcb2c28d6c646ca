"""Ranks that wait for each other in their collectives, over reports: which one is late, and what it does meanwhile.

A rank that comes early waits inside of its communication kernel, so that the fast one looks slow. The clocks of two
reports cannot be compared to the microsecond: what a collective's kernel takes longer than the shortest of its peers is
waiting, and the rank that waits least is the late one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nsight_tools.findings import NOISE_SHARE
from nsight_tools.run.collectives import ALIKE, waiting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nsight_tools.run.collectives import Rank

EXPLAINS = 0.5
"""The part of the waiting that the late rank's own kernels have to take longer, to be its reason."""


@dataclass(frozen=True)
class Peer:
    """One rank, on one GPU of a report; nanoseconds of an inference, medians.

    `waits_ns` is what of its communication is waiting for a peer, `transfer_ns` the rest; `kernels_ns` is what its
    other kernels take.
    """

    label: str
    device: int
    communication_ns: float
    exposed_ns: float
    waits_ns: float
    transfer_ns: float
    kernels_ns: float


@dataclass(frozen=True)
class Peers:
    """Ranks whose collectives are the same ones, the late one first.

    `late` says whether they wait for it noticeably. `because` has what its own kernels take longer than those of the
    rank that waits most, by name, the most first: nanoseconds for each inference; empty where they do not explain it.
    """

    ranks: tuple[Peer, ...]
    late: bool
    because: tuple[tuple[str, float], ...]

    @property
    def slowest(self) -> Peer:
        """The one that all others wait for."""
        return self.ranks[0]

    @property
    def waits_most(self) -> Peer:
        """The one that waits longest."""
        return max(self.ranks, key=lambda rank: rank.waits_ns)


def peers(ranks: Mapping[str, Sequence[Rank]]) -> list[Peers]:
    """What ranks of different reports, by label, wait for each other; none where no collectives match."""
    left = [(label, rank) for label, those in ranks.items() for rank in those]
    groups = []
    while left:
        first = left[0][1].key()
        mine = [candidate for candidate in left if _same(first, candidate[1].key())]
        left = [candidate for candidate in left if not any(candidate is chosen for chosen in mine)]
        if len({label for label, _ in mine}) > 1 and (group := _peers(mine)):
            groups.append(group)
    return groups


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether most collectives of two ranks have the same place in the same inference."""
    return np.intersect1d(one, other).size >= ALIKE * max(one.size, other.size)


def _peers(group: Sequence[tuple[str, Rank]]) -> Peers | None:
    waits = waiting([rank for _, rank in group], one_clock=False)
    if waits is None:
        return None
    order = np.argsort([wait.each for wait in waits], kind="stable").tolist()
    late, most = group[order[0]][1], group[order[-1]][1]
    rows = []
    for at in order:
        (label, rank), waited = group[at], waits[at]
        times = (rank.each, rank.each_exposed, waited.each, waited.transfer, rank.each_other)
        rows.append(Peer(label, rank.device, *(float(time) for time in times)))
    longest = rows[-1].waits_ns
    longer = {
        name: time / max(late.requests, 1) - most.kernels.get(name, 0) / max(most.requests, 1)
        for name, time in late.kernels.items()
    }
    because = sorted(((name, more) for name, more in longer.items() if more > 0), key=lambda kernel: -kernel[1])
    explains = rows[0].kernels_ns - rows[-1].kernels_ns >= EXPLAINS * longest
    noticed = longest - rows[0].waits_ns >= NOISE_SHARE * (rows[-1].communication_ns + rows[-1].kernels_ns)
    return Peers(tuple(rows), noticed, tuple(because[:3]) if noticed and explains else ())
