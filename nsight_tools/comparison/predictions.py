"""What BEFORE's findings said could be recovered, against what was."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nsight_tools.analysis import ALL, HOST, Status
from nsight_tools.comparison.judge import rest_of
from nsight_tools.comparison.result import Prediction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nsight_tools.analysis import Outcome
    from nsight_tools.comparison.result import Difference
    from nsight_tools.findings import Finding

PERIOD = ("period",)
"""What a promise of the time from one inference to the next is held against."""
SMALLER = 0.8
"""What is left of a finding below this share is a smaller one; bounds of equal runs differ by a few percent."""


def predictions(
    before: Sequence[Outcome], after: Sequence[Outcome], came: Mapping[tuple[str, ...], Difference]
) -> tuple[Prediction, ...]:
    """One for each code that promised time on BEFORE, the largest promise first; `came` is what groups of buckets did.

    Of a code with several findings the largest bound counts: they may count the same time.
    """
    predicted = [_prediction(outcome, after, came) for outcome in before if _promise(outcome)]
    acted = [prediction for prediction in predicted if prediction.status in {"gone", "smaller"}]
    told = [
        replace(prediction, shared_with=tuple(o.code for o in acted if o is not prediction and _overlap(o, prediction)))
        if prediction in acted
        else prediction
        for prediction in predicted
    ]
    return tuple(sorted(told, key=lambda prediction: (-prediction.promised_ns, prediction.code)))


def without_tracing(
    came: Mapping[tuple[str, ...], Difference], untraced: Difference, buckets: Mapping[str, Difference]
) -> dict[tuple[str, ...], Difference]:
    """`came` where an untraced benchmark says what the wall did: tracing would stand in the host's buckets.

    The GPU's buckets are the same without the profiler; what the untraced wall changed beside them is the host's.
    """
    gpu = [bucket for name, bucket in buckets.items() if name not in HOST]
    return {**came, ALL: untraced, HOST: rest_of(" ".join(HOST), untraced, gpu)}


def _overlap(one: Prediction, other: Prediction) -> bool:
    return ALL in {one.buckets, other.buckets} or bool(set(one.buckets) & set(other.buckets))


def _promise(outcome: Outcome) -> int:
    return max((finding.recoverable_ns_per_inference or 0 for finding in outcome.findings), default=0)


def _largest(outcome: Outcome) -> Finding:
    return max(outcome.findings, key=lambda finding: finding.recoverable_ns_per_inference or 0)


def _kind(finding: Finding) -> tuple[str, bool]:
    """Of what it promises time, and whether that is an estimate: those of two kinds cannot be held together."""
    return finding.per, finding.recoverable_between_ns is not None


def _prediction(outcome: Outcome, after: Sequence[Outcome], came: Mapping[tuple[str, ...], Difference]) -> Prediction:
    promised, largest = _promise(outcome), _largest(outcome)
    buckets = PERIOD if largest.per == "period" else outcome.bucket
    now = next((candidate for candidate in after if candidate.code == outcome.code), None)
    remaining: int | None = None
    if now is None or now.status is Status.COULD_NOT_RUN:
        status = "unjudged"
    elif now.status in {Status.CLEAR, Status.NOT_APPLICABLE}:
        status, remaining = "gone", 0
    else:
        left = _promise(now)
        remaining = left or None
        smaller = 0 < left < SMALLER * promised and _kind(_largest(now)) == _kind(largest)
        status = "smaller" if smaller else "still_there"
    return Prediction(
        outcome.code,
        outcome.act(largest),
        largest.message,
        status,
        promised,
        remaining,
        buckets,
        came.get(buckets),
        estimate=_kind(largest)[1],
    )
