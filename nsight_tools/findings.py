"""What an analysis says: findings with their evidence, and what to change. Data without behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from nsight_tools.shown import Shown

NOISE_SHARE = 0.025
"""Of the inference time. What could be recovered and is less, no second measurement would show: from this variation
between runs on, trtexec (TensorRT 10.13.2 and later) calls its own GPU times unstable. Rules do not speak of it, and
nothing below it is a warning."""


class Severity(str, Enum):
    """How much the finding costs: `error` spoils the result, `warning` costs time, `info` is worth knowing.

    Example:
        >>> from nsight_tools import Severity
        >>> Severity("warning") is Severity.WARNING
        True
    """

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


SEVERITIES = (Severity.ERROR, Severity.WARNING, Severity.INFO)
"""The most severe first."""


class Confidence(str, Enum):
    """How far the evidence carries: `high` is measured, `medium` inferred, `low` a hint.

    Example:
        >>> from nsight_tools import Confidence
        >>> [each.value for each in Confidence]
        ['high', 'medium', 'low']
    """

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


@dataclass(frozen=True)
class Evidence:
    """One measurement behind a finding.

    `metric` names it, `value` is in `unit` ("ns", "bytes", "ratio", "count", "MHz", "B/s", …; "" for text).
    `start_ns` and `end_ns`, nanoseconds since the session started, give the window to jump to in
    Nsight Systems. `detail` says what cannot be said by a number.

    Example:
        >>> from nsight_tools import analyze
        >>> evidence = analyze("sample_traces/detector_pageable.sqlite", select="PCI001")[0].findings[0].evidence
        >>> [(each.metric, each.value, each.start_ns) for each in evidence if each.start_ns][:1]
        [('longest on the GPU', 1920346, 22022898)]
    """

    metric: str
    value: float | int | str
    unit: str = ""
    start_ns: int | None = None
    end_ns: int | None = None
    detail: str = ""


@dataclass(frozen=True)
class Change:
    """What to change, as data: an option of our own `capture`, as its command line names it, and the value to give it.

    `changes.py` says it in the words of trtexec and of the API.

    Example:
        >>> from nsight_tools import Change
        >>> from nsight_tools.changes import said
        >>> said(Change("use_cuda_graph")).trtexec
        '--useCudaGraph'
    """

    option: str
    value: bool | int | str = True


@dataclass(frozen=True)
class Loss:
    """Time that a rule saw lost in the steady state: the most that comes back, where no replay of the change tells.

    `ns` is all of it, None where nothing bounds it; `share` is what it is, at the least, of what is judged (of each
    GPU's own steady state where there are several), and `what` says in words what it is the time of. `per_inference_ns`
    is the part of one inference, where that is not all of it spread evenly. `of_host` where tracing lengthens it as it
    does the rest.

    Example:
        >>> from nsight_tools import Loss
        >>> Loss(2_000_000, 0.04, "time in the calls", of_host=True).ns
        2000000
    """

    ns: int | None
    share: float
    what: str
    per_inference_ns: int | None = None
    of_host: bool = False


@dataclass(frozen=True)
class Finding(Shown):
    """One verdict.

    `message` is one line: what was seen. `cause` says why it happens, `recommendation` which call, flag or
    setting to change. `evidence` holds the measurements, the most telling first. `explains` names what follows from
    this one in the same trace, by topics of analyses (or by code): one cause that is seen twice is reported once.
    `change` is the recommendation as data; where it is empty, that of its analysis. `act` says it in a few words, as
    "copy fewer bytes", for a report's first line; where it is empty, the change does, or what the analysis looks for.

    A rule gives the `loss` that it saw, and `worth` prices the change: then `severity` is the most that it can be, and
    the rest is filled in. `recoverable_ns` is what comes back over the whole trace, `recoverable_ns_per_inference` the
    same for one inference (None where there are no inferences, or nothing to bound), and `bound` says how that is
    known. An upper bound has no more; an estimate has its low and high end for one inference in
    `recoverable_between_ns`. `per` is "period" where not an inference becomes shorter, but the time from one to the
    next; `of_ns` is what an estimate is a part of: that time, or an inference's, without the profiler. A rule that
    gives a `recoverable_ns` of its own, and no loss, is taken at its word.

    Example:
        >>> from nsight_tools import analyze
        >>> finding = analyze("sample_traces/detector_pageable.sqlite", select="PCI001")[0].findings[0]
        >>> finding.severity.value, finding.recoverable_ns_per_inference, finding.change
        ('warning', 1479425, (Change(option='pageable', value=False),))
    """

    code: str
    severity: Severity
    confidence: Confidence
    message: str
    cause: str
    recommendation: str
    recoverable_ns: int | None = None
    recoverable_ns_per_inference: int | None = None
    bound: str = ""
    evidence: tuple[Evidence, ...] = field(default_factory=tuple)
    explains: tuple[str, ...] = ()
    recoverable_between_ns: tuple[int, int] | None = None
    change: tuple[Change, ...] = ()
    per: str = "wall"
    of_ns: int | None = None
    loss: Loss | None = None
    act: str = ""

    def __repr__(self) -> str:
        return f"<Finding {self.code} {self.severity.value}: {self.message}>"


BOUND_COUNTS = 1 / 3
"""Which part of a bound is counted on where findings are put in order. Nothing to all of it comes back, and all hardly
ever: less than the middle. Were it more, a bound would stand before an estimate that gives as much; were it less, a
small change that is sure would stand before the one that matters."""


def expected(finding: Finding) -> float:
    """Which part of what it could give back is counted on: all of an estimate, `BOUND_COUNTS` of a bound."""
    return 1.0 if finding.recoverable_between_ns is not None else BOUND_COUNTS


def follows(finding: Finding, cause: Finding) -> bool:
    """Whether one follows from the other, and not each from each: errors follow from nothing.

    What neither explains, and asks for the same change, follows from the one that it gives more: one change is reported
    once.
    """
    if finding.severity is Severity.ERROR:
        return False
    if finding.code in cause.explains or cause.code in finding.explains:
        return cause.code not in finding.explains
    same = finding.change and finding.change == cause.change and finding.code != cause.code
    return bool(same) and _order(finding) > _order(cause)


def _order(finding: Finding) -> tuple[float, int, str]:
    gives = -1.0 if finding.recoverable_ns is None else finding.recoverable_ns * expected(finding)
    return -gives, SEVERITIES.index(finding.severity), finding.code
