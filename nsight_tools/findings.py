"""What an analysis says: findings with their evidence. Data without behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Severity(str, Enum):
    """How much the finding costs: `error` spoils the result, `warning` costs time, `info` is worth knowing."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Confidence(str, Enum):
    """How far the evidence carries: `high` is measured, `medium` inferred, `low` a hint."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


@dataclass(frozen=True)
class Evidence:
    """One measurement behind a finding.

    `metric` names it, `value` is in `unit` ("ns", "bytes", "ratio", "count", "MHz", "B/s", …; "" for text).
    `start_ns` and `end_ns`, nanoseconds since the session started, give the window to jump to in
    Nsight Systems. `detail` says what cannot be said by a number.
    """

    metric: str
    value: float | int | str
    unit: str = ""
    start_ns: int | None = None
    end_ns: int | None = None
    detail: str = ""


@dataclass(frozen=True)
class Finding:
    """One verdict.

    `message` is one line: what was seen. `cause` says why it happens, `recommendation` which call, flag or
    setting to change. `recoverable_ns` is an upper bound over the whole trace, `recoverable_ns_per_inference`
    the same for one inference (None where there are no inferences, or nothing to bound), and `bound` says how it
    was bounded. Where both are an estimate and no bound, `recoverable_between_ns` has its low and high end for one
    inference. `evidence` holds the measurements, the most telling first. `explains` names the codes whose findings
    in the same trace follow from this one: one cause that is seen twice is reported once.
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
