"""Which change to try next: the most promising of what the findings promise, then what no finding speaks of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsight_tools.capture.runner.options import BY_NAME
from nsight_tools.changes import OFF_DEFAULT, ONE_STREAM
from nsight_tools.findings import NOISE_SHARE, Change

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from nsight_tools.tune.promises import Promise
    from nsight_tools.tune.settings import Setting

THROUGHPUT, LATENCY = "throughput", "latency"
OF_THE_RUN = (
    *("use_cuda_graph", "use_spin_wait", "overlap_transfers", "pageable", "default_stream", "streams", "threads"),
)
"""Options of how an engine is run that change nothing of what it does. Batch and copies are the user's own business."""
_PINNED = Change("pageable", value=False)
_NEEDS = ((OFF_DEFAULT, ONE_STREAM), (_PINNED, ("streams", "threads", "overlap_transfers")))
"""What has to be changed before options of others can do anything: a copy from or to pageable memory overlaps with
nothing, since the host waits for it."""
_LEVELS = (3, 5)
"""Of the builder's optimization: TensorRT's default, and the one that tries most."""


@dataclass(frozen=True)
class Candidate:
    """Changes to make together, why, and what is promised of them."""

    changes: tuple[Change, ...]
    why: str
    promise: Promise | None = None


@dataclass(frozen=True)
class Chooser:
    """What may be changed: `builds` where the model is one that engines are built of."""

    goal: str
    builds: bool = False
    most_streams: int = 4

    def next(
        self, best: Setting, promises: Sequence[Promise], tried: Iterable[tuple[Setting, tuple[Change, ...]]]
    ) -> Candidate | None:
        """The change to try on top of `best`; None where nothing is left.

        `tried` are the settings that were measured, with the changes that led there. None of them is tried again, and a
        change that did not help is tried on top of something else only where an estimate promises it there.
        """
        known = list(tried)
        settings, before = {setting for setting, _ in known}, {changes[-1] for _, changes in known if changes}
        for candidate in self._all(best, promises):
            made = best.changed(*candidate.changes)
            estimated = candidate.promise is not None and candidate.promise.kind == "estimate"
            if made in settings or made == best or (candidate.changes[-1] in before and not estimated):
                continue
            return candidate
        return None

    def _all(self, best: Setting, promises: Sequence[Promise]) -> Iterator[Candidate]:
        """What can be changed, options of the run before those of the builder, the most promising first."""
        promised = sorted(promises, key=lambda each: (each.kind != "estimate", -each.share))
        for of_run in (True, False) if self.builds else (True,):
            for promise in promised:
                possible = tuple(each for each in promise.changes if (each.option in OF_THE_RUN) is of_run)
                if len(possible) == len(promise.changes) and self._serves(promise, best) and self._can(possible):
                    yield _on_top(best, possible, f"{promise.code}: {promise.message}", promise)
            for change, why in self._of_run(best) if of_run else self._of_build(best):
                yield _on_top(best, (change,), why, None)

    def _serves(self, promise: Promise, best: Setting) -> bool:
        """Whether what is promised is of the goal, and more than noise.

        With several inferences under way a shorter one is no shorter time from one to the next, and the other way
        round.
        """
        if promise.share < NOISE_SHARE:
            return False
        if self.goal == LATENCY:
            return promise.per == "wall"
        return promise.per == "period" or not _several(best)

    def _can(self, changes: Iterable[Change]) -> bool:
        return all(each.option in OF_THE_RUN or (self.builds and each.option in BY_NAME) for each in changes)

    def _of_run(self, best: Setting) -> Iterator[tuple[Change, str]]:
        """What no finding promises, the most plausible first."""
        untold = "no finding promises it"
        if best.get("pageable"):
            yield Change("pageable", value=False), f"{untold}: copies from pageable memory wait for the host"
        if self.goal == THROUGHPUT:
            # Before the streams: one thread launches for all of them, which without a graph has no time for more.
            yield Change("use_cuda_graph"), f"{untold}: one launch instead of one for each kernel"
            if (more := 2 * best.get("streams")) <= self.most_streams:
                room = "kernels that leave SMs empty, and pauses between kernels, have room for another stream's"
                yield Change("streams", more), f"{untold}: {room}"
            if not best.get("no_data_transfers"):
                yield Change("overlap_transfers"), f"{untold}: copies beside the kernels of another inference"
            yield Change("use_spin_wait"), f"{untold}: the next inference is launched as soon as one is done"
        else:
            for change in (Change("streams", 1), Change("threads", 1), Change("overlap_transfers", value=False)):
                yield change, f"{untold}: an inference that has the GPU for itself waits for no other"
            yield Change("use_cuda_graph"), f"{untold}: one launch instead of one for each kernel"
            yield Change("use_spin_wait"), f"{untold}: the host comes back as soon as the GPU is done"
        if best.get("default_stream"):
            yield OFF_DEFAULT, f"{untold}: enqueues on the default stream may synchronize"

    def _of_build(self, best: Setting) -> Iterator[tuple[Change, str]]:
        if not any(best.get(name) for name in ("fp16", "bf16", "int8", "fp8", "best", "strongly_typed")):
            yield Change("fp16"), "no finding promises it: half the bytes, and Tensor Cores"
        level = best.get("builder_optimization_level")
        now = _LEVELS[0] if level is False else int(level)
        if more := [each for each in _LEVELS if each > now]:
            yield Change("builder_optimization_level", more[0]), "no finding promises it: more tactics are tried"


def _several(best: Setting) -> bool:
    return bool(best.get("streams") > 1 or best.get("threads") > 1 or best.get("overlap_transfers"))


def _on_top(best: Setting, changes: tuple[Change, ...], why: str, promise: Promise | None) -> Candidate:
    """The changes, behind those that they need."""
    more = [change for change in changes if change.value is True or change.value not in (False, 1)]
    before = tuple(
        need
        for need, options in _NEEDS
        if any(change.option in options for change in more) and not best.has(need) and need not in changes
    )
    return Candidate((*before, *changes), why, promise)
