"""The work on one report: a pure function from a task to a small value, or to why there is none. It never raises."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import nsight_tools
from nsight_tools import memory
from nsight_tools.errors import InputError, NsightToolsError, explained
from nsight_tools.fleet import dataset, remote
from nsight_tools.fleet.numbers import numbers_of
from nsight_tools.fleet.results import Done, Failed
from nsight_tools.report import formats
from nsight_tools.report.content import TraceReport
from nsight_tools.run import Run
from nsight_tools.worth.untraced import Known

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from nsight_tools.analysis import Analysis
    from nsight_tools.fleet.members import Member
    from nsight_tools.fleet.results import Result


@dataclass(frozen=True)
class Task:
    """One report to analyze. All of it travels to another process, or to another machine.

    `codes` are those of the analyses, which are looked up where the task runs; `options` those of an import;
    `laid_beside` whether numbers are wanted, to lay it beside others. `dataset` is the folder or URL of the fleet's
    dataset, which the report's tables are put into; `section_of` the format that makes a section of the report while
    its trace is open, where one does, and `number` the report's place among them. `memory_bytes` is what it may use, in
    a process of its own; None where it runs in one that has its limit.
    """

    member: Member
    codes: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    laid_beside: bool = True
    dataset: str | None = None
    section_of: str = ""
    number: int = 1
    memory_bytes: int | None = None


def run(task: Task, *, progress: Callable[[str, float | None], None] | None = None) -> Result:
    """Import a report, analyze it, and put its tables into the fleet's dataset."""
    try:
        if task.memory_bytes is None:
            return _done(task, progress)
        with memory.limited(task.memory_bytes), memory.fenced():
            return _done(task, progress)
    except Exception as error:  # noqa: BLE001 (the others are analyzed all the same)
        message, status = explained(memory.exceeded() if isinstance(error, MemoryError) else error)
        return Failed(task.member, message, "".join(traceback.format_exception(error)), status)


def _done(task: Task, progress: Callable[[str, float | None], None] | None) -> Done:
    source = task.member.source
    path: str | Path = remote.fetched(source) if remote.is_url(source) else source
    registry = nsight_tools.registry()
    if missing := [code for code in task.codes if code not in registry]:
        raise NsightToolsError(
            f"this machine lacks the analyses {', '.join(missing)}", hint="install the same packages"
        )
    trace = nsight_tools.open_trace(path, progress=progress, **task.options)
    if (untraced := task.options.get("untraced")) and (problem := Known.of(trace).problem):
        raise InputError(untraced, f"is of no run of {source}: {problem}", hint="give the times of the same run")

    def told() -> Iterator[Analysis]:
        for at, code in enumerate(task.codes):
            if progress:
                progress(f"{code} {registry[code].name}", at / len(task.codes))
            yield registry[code]

    report = TraceReport.of(source, trace, told())
    numbers = numbers_of(trace) if task.laid_beside else None
    if task.dataset is not None:
        dataset.add(task.dataset, task.member.label, trace)
    section = ""
    if task.section_of:
        section = formats.sectioned(task.section_of).section(report, trace, task.number)
    return Done(task.member, report, numbers, section, Run.of(trace).ranks if task.laid_beside else ())
