"""What a finding's change is worth, and how severe that makes it: the one place in which findings get their times."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nsight_tools.findings import NOISE_SHARE, Finding, Loss, Severity
from nsight_tools.run import Run
from nsight_tools.worth.changes import CHANGES
from nsight_tools.worth.price import Pricing

if TYPE_CHECKING:
    from nsight_tools.trace import Trace
    from nsight_tools.worth.price import Worth


def priced(trace: Trace, finding: Finding, warns_from: float) -> Finding | None:
    """The finding with what its change is worth; None where that is less than two runs of the same differ by.

    A change that can be replayed is worth what the replay says, and any other at most the loss that the rule saw. What
    gives no loss stays as it is.
    """
    loss = finding.loss
    if loss is None:
        return finding
    pricing = Pricing.of(trace)
    worth = _replayed(pricing, finding)
    if worth is None:
        return _bounded(Run.of(trace), pricing, finding, loss, warns_from)
    noise = NOISE_SHARE * worth.before_ns
    if worth.point_ns < noise:
        return None
    if worth.low_ns < -noise:  # it may as well cost time: no estimate that anybody could act on
        return _bounded(Run.of(trace), pricing, finding, loss, warns_from)
    point = round(worth.point_ns)
    return replace(
        finding,
        severity=_severity(finding, worth.low_ns / max(worth.before_ns, 1.0), warns_from),
        recoverable_ns=point * Run.of(trace).count,
        recoverable_ns_per_inference=point,
        recoverable_between_ns=(max(round(worth.low_ns), 0), round(worth.high_ns)),
        bound=f"a {worth.method}" if worth.method.startswith("replay") else worth.method,
        per=worth.per,
        of_ns=round(worth.before_ns),
    )


def _replayed(pricing: Pricing, finding: Finding) -> Worth | None:
    """The worth of the finding's change, where a replay or an untraced run tells; None where nothing does."""
    change = {
        change.option: change.value
        for change in finding.change
        if change.option in CHANGES and CHANGES[change.option][0] == change.value
    }
    if not change or len(change) < len(finding.change):
        return None
    worth = pricing.price(change)
    return worth if worth.promises else None


def _bounded(run: Run, pricing: Pricing, finding: Finding, loss: Loss, warns_from: float) -> Finding:
    per_inference_ns = loss.per_inference_ns
    if per_inference_ns is None and loss.ns is not None:
        per_inference_ns = run.per_inference(loss.ns)
    return replace(
        finding,
        severity=_severity(finding, loss.share * (1.0 if loss.of_host else pricing.stretch), warns_from),
        recoverable_ns=loss.ns,
        recoverable_ns_per_inference=per_inference_ns,
        bound=loss.what,
    )


def _severity(finding: Finding, share: float, warns_from: float) -> Severity:
    """A warning becomes an info where less than `warns_from` of what is judged comes back."""
    warns = finding.severity is not Severity.WARNING or share >= max(warns_from, NOISE_SHARE)
    return finding.severity if warns else Severity.INFO
