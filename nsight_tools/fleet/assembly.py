"""From what the user names to a fleet: which reports there are, the work on each, and what came of it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nsight_tools import memory
from nsight_tools.errors import NsightToolsError
from nsight_tools.fleet import dataset as datasets
from nsight_tools.fleet import members as named
from nsight_tools.fleet.fold import Fleet
from nsight_tools.fleet.remote import is_url
from nsight_tools.fleet.tasks import Task, run
from nsight_tools.report import formats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from nsight_tools.fleet.members import Member
    from nsight_tools.fleet.results import Result

    Progress = Callable[[str, float | None], None]

_PATHS = ("layers", "layer_pass", "untraced", "nsys")
"""The options of an import that name files."""


@dataclass(frozen=True)
class Wanted:
    """What is to be done with each report.

    `codes` are those of the analyses, `options` those of an import, `form` is the format to show it all in. `jobs` are
    analyzed at a time (None: one for each CPU), on the Dask cluster of `scheduler` where one is named. `dataset` is the
    folder or URL of the fleet's dataset, None where none is wanted.
    """

    codes: tuple[str, ...]
    options: Mapping[str, str | None] = field(default_factory=dict)
    form: str = "text"
    jobs: int | None = None
    scheduler: str | None = None
    dataset: str | None = None


def members(inputs: Iterable[str], pattern: str | None, failed: Callable[[Exception], None]) -> list[Member]:
    """The reports that the inputs name, labelled; `failed` is told why one of them names none."""
    chosen: list[Member] = []
    for source in inputs:
        try:
            chosen += named.expanded(source)
        except (NsightToolsError, OSError) as error:
            failed(error)
    return named.labelled(chosen, pattern=pattern)


@contextmanager
def assembled(
    chosen: Sequence[Member],
    wanted: Wanted,
    came: Callable[[Result], None],
    progress: Callable[[str], AbstractContextManager[Progress | None]],
) -> Iterator[Fleet]:
    """Give the fleet of these members, in their order; its dataset, if one is wanted, is in place at the block's end.

    `came` sees each result as it comes, and `progress` gives what is told of the work on what it is called with.
    """
    with datasets.opened(wanted.dataset) as unfinished:
        results = []
        for result in _run(_tasks(chosen, wanted, unfinished), wanted, progress):
            results.append(result)
            came(result)
        order = {member.label: at for at, member in enumerate(chosen)}
        fleet = Fleet(sorted(results, key=lambda result: order[result.member.label]))
        if fleet.done:
            datasets.finish(unfinished, fleet.results)
        yield fleet


def _tasks(chosen: Sequence[Member], wanted: Wanted, unfinished: str | None) -> list[Task]:
    laid_beside = len(chosen) > 1 or unfinished is not None
    section_of = wanted.form if formats.makes_sections(wanted.form) else ""
    options = wanted.options
    if wanted.scheduler:  # workers run in folders of their own
        chosen = [m if is_url(m.source) else replace(m, source=_absolute(m.source)) for m in chosen]
        paths = {name: path for name in _PATHS if (path := options.get(name)) is not None}
        options = {**options, **{name: _absolute(path) for name, path in paths.items()}}
    return [
        Task(member, wanted.codes, options, laid_beside, unfinished, section_of, number)
        for number, member in enumerate(chosen, 1)
    ]


def _absolute(path: str) -> str:
    return str(Path(path).absolute())


def _run(
    tasks: Sequence[Task], wanted: Wanted, progress: Callable[[str], AbstractContextManager[Progress | None]]
) -> Iterator[Result]:
    """The results as they come: from a cluster, from processes here, or one after the other from this one."""
    if wanted.scheduler is None and (wanted.jobs == 1 or len(tasks) <= 1):
        for task in tasks:
            with progress(task.member.source.rstrip("/").rpartition("/")[2]) as callback:
                result = run(task, progress=callback)
            yield result
        return
    with progress(f"{len(tasks)} reports") as callback:
        for done, result in enumerate(_spread(tasks, wanted), 1):
            if callback:
                callback(f"{done} done, last {result.member.label}", done / len(tasks))
            yield result


def _spread(tasks: Sequence[Task], wanted: Wanted) -> Iterator[Result]:
    from nsight_tools.fleet import cluster, pool

    if wanted.scheduler:
        return cluster.run(_limited(tasks, memory.asked()), wanted.scheduler)
    at_a_time = min(wanted.jobs or pool.default_jobs(), len(tasks))
    return pool.run(_limited(tasks, memory.limit() // at_a_time), at_a_time)


def _limited(tasks: Sequence[Task], memory_bytes: int | None) -> list[Task]:
    return [replace(task, memory_bytes=memory_bytes) for task in tasks]
