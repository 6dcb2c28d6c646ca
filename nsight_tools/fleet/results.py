"""What came of a report: a small value that travels between processes, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsight_tools.errors import NsightToolsError

if TYPE_CHECKING:
    from nsight_tools.fleet.members import Member
    from nsight_tools.fleet.numbers import Numbers
    from nsight_tools.report.content import TraceReport
    from nsight_tools.run.collectives import Rank


@dataclass(frozen=True)
class Done:
    """What came of a report. `numbers` is None where it has no inferences; `section` is what the format made of it.

    `ranks` are the processes and GPUs of it that communicate.
    """

    member: Member
    report: TraceReport
    numbers: Numbers | None
    section: str = ""
    ranks: tuple[Rank, ...] = ()


@dataclass(frozen=True)
class Failed:
    """Why nothing came of a report, as `errors.explained` says it."""

    member: Member
    because: str
    traceback: str = ""
    status: int = NsightToolsError.exit_code


Result = Done | Failed
