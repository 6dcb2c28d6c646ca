"""Formats of what the tool has to show: each a folder here, named as `--format` names it, and found by being here.

A folder's docstring is what `--help` says of the format. Its modules are named by what they show: `trace`,
`comparison`, `sweep`, `tuning`, or `export`; one that is missing, the format cannot show. Nothing else names a format.
A module is imported when it is asked for: an option's choices and its help cost no more than the folders' docstrings.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, cast

from nsight_tools.errors import need

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from nsight_tools.comparison.result import Comparison
    from nsight_tools.report.content import TraceReport
    from nsight_tools.report.context import Context, Exported
    from nsight_tools.report.swept import Swept
    from nsight_tools.trace import Trace
    from nsight_tools.tune.ledger import Ledger

_Shown_contra = TypeVar("_Shown_contra", contravariant=True)
_Module = TypeVar("_Module")


class Format(Protocol[_Shown_contra]):
    """A module that shows one kind of thing in one format."""

    def render(self, shown: _Shown_contra, context: Context = ..., /) -> str:
        """All of it."""


class Sectioned(Protocol):
    """A module that shows traces, and must see each while it is open: in the process that analyzes it."""

    def section(self, report: TraceReport, trace: Trace, number: int = ..., /) -> str:
        """What is shown of the trace; `number` tells it from the others, and begins at 1."""


class Export(Protocol):
    """A module that writes a trace for another program."""

    FOLDER: bool
    """Whether it writes a folder of files, else one file."""
    TAKES_ONNX: bool
    """Whether it has a use for `Exported.onnx`."""

    def write(self, exported: Exported, to: Callable[..., None], /) -> Sequence[tuple[str, str]]:
        """Write it, with `to(bytes)` piece by piece, or in a folder with `to(name, text or a file to copy)` each file.

        Returns what to tell of which file; of the whole where its name is empty.
        """


@dataclass(frozen=True)
class Kind(Generic[_Module]):
    """What formats show, and which of them can: modules of one name in the packages of a package.

    Without a module's name they are the modules of the package themselves.
    """

    home: str
    module: str = ""

    def names(self) -> list[str]:
        """The formats that can show it: text, the usual one, first, then by name."""
        formats = [name for _, name, _ in iter_modules(import_module(self.home).__path__) if self._is_there(name)]
        return sorted((name.replace("_", "-") for name in formats), key=lambda name: (name != "text", name))

    def help(self) -> str:
        """What each of them is for, as `--help` says it."""
        return f"{'; '.join(map(self._about, self.names()))}."

    def find(self, name: str) -> _Module:
        """The module that shows it in the format of this name, one of `names`.

        Raises MissingPackageError where the format's folder names an EXTRA that is not installed.
        """
        if extra := getattr(self._folder(name), "EXTRA", None):
            need(*extra)
        return cast("_Module", import_module(self._path(name)))

    def _is_there(self, name: str) -> bool:
        return not self.module or find_spec(self._path(name)) is not None

    def _path(self, name: str) -> str:
        folder = f"{self.home}.{name.replace('-', '_')}"
        return f"{folder}.{self.module}" if self.module else folder

    def _folder(self, name: str) -> ModuleType:
        return import_module(f"{self.home}.{name.replace('-', '_')}")

    def _about(self, name: str) -> str:
        return (self._folder(name).__doc__ or name).partition("\n")[0].rstrip(".")


TRACE: Kind[Format[Sequence[TraceReport]]] = Kind(__name__, "trace")
COMPARISON: Kind[Format[Sequence[Comparison]]] = Kind(__name__, "comparison")
SWEEP: Kind[Format[Swept]] = Kind(__name__, "sweep")
TUNING: Kind[Format[Ledger]] = Kind(__name__, "tuning")
EXPORT: Kind[Export] = Kind(__name__, "export")


def makes_sections(name: str) -> bool:
    """Whether the format of this name shows traces by a section of each, made while it is open."""
    return hasattr(TRACE.find(name), "section")


def sectioned(name: str) -> Sectioned:
    """The format of this name, which `makes_sections`."""
    return cast("Sectioned", TRACE.find(name))
