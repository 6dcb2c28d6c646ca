"""Which reports make a fleet, and what each is called: from paths, folders, list files and URLs to labelled members."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from nsight_tools import run_files
from nsight_tools.errors import InputError
from nsight_tools.fleet import remote
from nsight_tools.importer import REPORTS
from nsight_tools.importer.manifest import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

LISTS = (".txt", ".list")
EXPORTS = (".sqlite",)
DATASET_SUFFIX = ".trace"
RESULT = "reports.parquet"
"""Stands in the dataset of a fleet, which is none of its reports."""
DEPTH = 3
"""Folders below the one that is given in which reports are looked for: run/host/rank."""

_SUFFIXES = (*REPORTS, *EXPORTS, run_files.SUFFIX, DATASET_SUFFIX, "_pqtdir", ".parquetdir")
_RANK = re.compile(r"(?:^|[^a-z])(?:rank|procid|proc)[-_.=]?(\d+)(?![a-z0-9])", re.IGNORECASE)
_LAST_NUMBER = re.compile(r"(?:^|[-_.])(\d+)$")
_HOST = re.compile(r"(?:^|[-_.])host(?:name)?[-_.=]([a-z0-9][a-z0-9-]*)", re.IGNORECASE)
_HOST_FOLDER = re.compile(r"(?:node|host|worker|nid|dgx|ip-)[-\w.]*\d", re.IGNORECASE)
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Member:
    """One report of a fleet: where it is, as the user gave it, and what it is called.

    `label` is unique in the fleet, and made of letters, digits and `._-`, so that it can name a folder. `rank` and
    `host` are None where neither the user nor the name says them.
    """

    source: str
    label: str = ""
    rank: int | None = None
    host: str | None = None


def expanded(source: str) -> list[Member]:
    """The members that one input names, not yet labelled.

    An input is a report, an export, a dataset or a run directory; a folder of those; a list file (`.txt`, `.list`: one
    of those a line, with a rank and a host behind tabs where they are to be given); or the URL of any of them. Paths
    may hold `*`. Raises InputError where a folder, a pattern or a list names no report.
    """
    if source.endswith(LISTS):
        return _listed(source)
    matches = [source]
    if "*" in source:
        matches = remote.glob(source) if remote.is_url(source) else _globbed(source)
    members = [Member(source) for match in matches for source in _in_folder(match)]
    if not members:
        raise InputError(source, "names no report", hint="give a report, or a folder of reports")
    return members


def labelled(members: Iterable[Member], *, pattern: str | None = None) -> list[Member]:
    """These members, each once, with rank, host and a label of its own.

    `pattern` is a regular expression with groups `rank` and `host`, searched for in each path; without it they are what
    the names say. Raises InputError where it is none.
    """
    chosen = _compiled(pattern)
    once = {member.source: member for member in members}
    return _labelled([_named(member, chosen) for member in once.values()])


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(pattern, f"is no regular expression: {error}") from error
    if not {"rank", "host"} & compiled.groupindex.keys():
        raise InputError(pattern, "has no group that is named rank or host", hint="write (?P<rank>[0-9]+)")
    return compiled


def _globbed(pattern: str) -> list[str]:
    path = Path(pattern)
    if path.exists():
        return [pattern]
    return sorted(str(match) for match in Path(path.anchor).glob(str(path.relative_to(path.anchor))))


def _listed(source: str) -> list[Member]:
    """The members that a list file names; its paths start where it stands."""
    base, _, _ = source.rpartition("/")
    listed = []
    for line in remote.read_text(source).splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        path, rank, host, *_ = [*(text.strip() for text in line.split("\t")), "", ""]
        if rank and not rank.isdecimal():
            raise InputError(source, f"gives '{rank}' as a rank", hint="a line is PATH, tab, RANK, tab, HOST")
        members = expanded(path if remote.is_url(path) or path.startswith("/") or not base else f"{base}/{path}")
        if rank and len(members) > 1:
            raise InputError(source, f"gives {len(members)} reports the rank {rank}", hint="give each a line")
        listed += [
            replace(member, rank=int(rank) if rank else member.rank, host=host or member.host) for member in members
        ]
    if not listed:
        raise InputError(source, "names no report", hint="write a path in each line")
    return listed


def _in_folder(source: str) -> list[str]:
    """The input itself, or where it is a folder of inputs, those."""
    if remote.is_url(source):
        if source.rstrip("/").endswith(_SUFFIXES) or not (listed := remote.children(source)):
            return [source]
        return _without_doubles([name for name in listed if name.endswith(_SUFFIXES)], lambda _: 0.0)
    path = Path(source)
    if not path.is_dir() or _is_input(path):
        return [source]
    within = [str(source) for source in _inputs_below(path, DEPTH)]
    return _without_doubles(within, lambda source: Path(source).stat().st_mtime)


def _is_input(folder: Path) -> bool:
    known = (MANIFEST, run_files.RUN, run_files.REPORT)
    return any((folder / name).is_file() for name in known) or any(folder.glob("*.parquet"))


def _inputs_below(folder: Path, depth: int) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if (entry / RESULT).is_file():
                continue
            if _is_input(entry):
                yield entry
            elif depth:
                yield from _inputs_below(entry, depth - 1)
        elif entry.name.endswith((*REPORTS, *EXPORTS)):
            yield entry


def _without_doubles(sources: Sequence[str], age: Callable[[str], float]) -> list[str]:
    """Of a report, its export and its dataset only one: the export, which needs no nsys, unless the report is newer."""
    names = set(sources)
    of_datasets = {name.removesuffix(DATASET_SUFFIX) for name in names if name.endswith(DATASET_SUFFIX)} & names
    kept = [name for name in sources if name.removesuffix(DATASET_SUFFIX) not in of_datasets or name in of_datasets]
    chosen: dict[str, str] = {}
    for name in kept:
        stem = next((name.removesuffix(suffix) for suffix in (*REPORTS, *EXPORTS) if name.endswith(suffix)), name)
        other = chosen.get(stem)
        if other is None or (age(name), name.endswith(EXPORTS)) >= (age(other), other.endswith(EXPORTS)):
            chosen[stem] = name
    return sorted(chosen.values())


def _named(member: Member, pattern: re.Pattern[str] | None) -> Member:
    """With the rank and the host that the path says, where nobody else has said them."""
    rank, host = member.rank, member.host
    if pattern and (match := pattern.search(member.source)):
        labels = match.groupdict()
        rank = int(labels["rank"]) if rank is None and (labels.get("rank") or "").isdecimal() else rank
        host = host or labels.get("host")
    stem = _stem(member.source)
    if rank is None and (match := _RANK.search(stem)):
        rank = int(match[1])
    if host is None and (match := _HOST.search(stem)):
        host = match[1]
    if host is None:
        folders = reversed(member.source.rstrip("/").split("/")[:-1])
        host = next((folder for folder in folders if _HOST_FOLDER.fullmatch(folder)), None)
    return replace(member, rank=rank, host=host)


def _stem(source: str) -> str:
    """A report's name without its suffixes; that of its folder, where it is called as every capture's report is."""
    *above, name = source.rstrip("/").split("/")
    if name in {run_files.REPORT, "report.sqlite"} and above and above[-1]:
        name = above[-1]
    while suffix := next((suffix for suffix in _SUFFIXES if name.endswith(suffix) and name != suffix), ""):
        name = name.removesuffix(suffix)
    return name


def _labelled(members: Sequence[Member]) -> list[Member]:
    """Each with a label of its own: its rank, else its name; with its host, folder or suffix where that is not one."""
    ranked = _of_hosts(_ranked(members))
    labels = [_UNFIT.sub("_", name).strip(".") or "report" for name in _names(ranked)]
    return [replace(member, label=label) for member, label in zip(ranked, _numbered(labels), strict=True)]


def _ranked(members: Sequence[Member]) -> Sequence[Member]:
    """With the numbers at the names' ends as ranks, where no name says what its number is.

    They are ranks if the names are the same but for them, and all differ: `report_0`, `report_1`.
    """
    stems = [_stem(member.source) for member in members]
    ends = [_LAST_NUMBER.search(stem) for stem in stems]
    heads = {stem[: end.start()] for stem, end in zip(stems, ends, strict=True) if end}
    numbers = [int(end[1]) for end in ends if end]
    unnumbered = len(members) > 1 and all(member.rank is None for member in members)
    if unnumbered and len(heads) == 1 and len(set(numbers)) == len(members):
        return [replace(member, rank=number) for member, number in zip(members, numbers, strict=True)]
    return members


def _of_hosts(members: Sequence[Member]) -> Sequence[Member]:
    """With their folders as hosts, where the same names come again in several folders and nobody says a host."""
    stems = [_stem(member.source) for member in members]
    above = [folders[-1] if (folders := _path(member)[:-1]) else "" for member in members]
    if (
        all(member.host is None for member in members)
        and _clash(stems)
        and not _clash([*zip(above, stems, strict=True)])
    ):
        return [replace(member, host=folder or None) for member, folder in zip(members, above, strict=True)]
    return members


def _names(members: Sequence[Member]) -> list[str]:
    """The shortest kind of name of which each has another; where there is none, the longest."""
    short = [f"rank{member.rank}" if member.rank is not None else _stem(member.source) for member in members]
    choices = [
        short,
        [f"{member.host}.{name}" if member.host else name for member, name in zip(members, short, strict=True)],
        *([".".join(_path(member)[-parts:]) for member in members] for parts in (1, 2, 3)),
    ]
    return next((names for names in choices if not _clash(names)), choices[-1])


def _path(member: Member) -> list[str]:
    return member.source.rstrip("/").split("/")


def _numbered(labels: Iterable[str]) -> list[str]:
    """These labels, each once: one that comes again gets a number."""
    unique: list[str] = []
    for label in labels:
        numbered = (f"{label}-{number}" for number in count(2))
        unique.append(label if label not in unique else next(name for name in numbered if name not in unique))
    return unique


def _clash(names: Sequence[object]) -> bool:
    return len(set(names)) < len(names)
