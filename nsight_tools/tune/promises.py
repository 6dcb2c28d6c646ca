"""What the findings of a trace promise of changes that can be made here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nsight_tools import units
from nsight_tools.findings import NOISE_SHARE, Change

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsight_tools.analysis import Outcome
    from nsight_tools.findings import Finding
    from nsight_tools.trace import Trace
    from nsight_tools.tune.judging import Times


@dataclass(frozen=True)
class Promise:
    """One finding that names a change: what it promises of one inference, in ns; None where it promises nothing."""

    code: str
    message: str
    changes: tuple[Change, ...]
    kind: str
    """estimate, bound (at most `point_ns`), or none."""
    per: str = "wall"
    """wall of an inference, or period from one to the next."""
    low_ns: float | None = None
    point_ns: float | None = None
    high_ns: float | None = None
    of_ns: float | None = None
    """What it is a part of."""
    how: str = ""

    @property
    def share(self) -> float:
        """Of what it is a part of; 0 where nothing is promised."""
        return self.point_ns / self.of_ns if self.point_ns and self.of_ns else 0.0

    @property
    def said(self) -> str:
        """`promised 0.422 to 0.546 ms of 1.58 ms (CODE)`."""
        if self.kind == "none" or self.point_ns is None:
            return f"no time was promised ({self.code})"
        whole = f" of {units.duration(self.of_ns)}" if self.of_ns else ""
        if self.kind == "bound":
            return f"promised at most {units.duration(self.point_ns)}{whole} ({self.code})"
        low, high = self.low_ns or 0, self.high_ns or 0
        return f"promised {units.between(low, high, of_ns=self.of_ns)}{whole} ({self.code})"

    def held(self, came: Times) -> bool | None:
        """Whether it came: the interval of what was measured meets what was promised, give or take `NOISE_SHARE`.

        None where nothing was promised.
        """
        if self.kind == "none" or self.point_ns is None or self.low_ns is None or self.high_ns is None:
            return None
        noise = NOISE_SHARE * came.before_ns
        low, _, high = came.saved_ns()
        least = float("-inf") if self.kind == "bound" else self.low_ns - noise
        return low <= self.high_ns + noise and high >= least

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, data: dict[str, Any]) -> Promise:
        """What `as_json` gave."""
        changes = tuple(Change(each["option"], each["value"]) for each in data["changes"])
        return cls(**{**data, "changes": changes})


def of_outcomes(trace: Trace, outcomes: Iterable[Outcome]) -> tuple[Promise, ...]:
    """Of all findings that name a change, what they promise."""
    from nsight_tools.worth.price import Pricing

    wall = Pricing.of(trace).wall
    whole = wall.wall.point if wall is not None else None
    return tuple(_of(finding, whole) for outcome in outcomes for finding in outcome.findings if finding.change)


def _of(finding: Finding, wall_ns: float | None) -> Promise:
    point, between = finding.recoverable_ns_per_inference, finding.recoverable_between_ns
    kind = "none" if not point else "bound" if between is None else "estimate"
    low, high = between or (0, point)
    known = kind != "none"
    return Promise(
        finding.code,
        finding.message,
        finding.change,
        kind,
        finding.per,
        low if known else None,
        point if known else None,
        high if known else None,
        finding.of_ns or wall_ns,
        finding.bound,
    )
