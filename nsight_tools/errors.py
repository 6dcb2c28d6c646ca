"""One family of errors: each says what was wrong, where, and what to do next."""

from __future__ import annotations

from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

INTERNAL = "internal error"
INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""
EXTRAS = {
    "html": ("jinja2", "matplotlib"),
    "pandas": ("pandas",),
    "notebooks": ("jupyterlab",),
    "capture": ("tensorrt", "pycuda", "cuda"),
    "accuracy": ("onnxruntime",),
    "distributed": ("distributed",),
    "remote": ("fsspec",),
    "graph": ("pygraphviz",),
    "mcp": ("mcp",),
}
"""What the light core goes without: the extra of nsight-tools that brings these packages, by the names they import as.
"""


class NsightToolsError(Exception):
    """Base of every error that nsight-tools raises on purpose.

    `message` says what is wrong and where; `hint` says what to do next. The command line prints both on
    one line and exits with `exit_code`.

    Example:
        >>> from nsight_tools import NsightToolsError, open_trace
        >>> try:
        ...     open_trace("absent.sqlite")
        ... except NsightToolsError as error:
        ...     print(error.message)
        absent.sqlite: does not exist
    """

    exit_code = 2

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return "; ".join(part for part in (self.message, self.hint) if part)

    def __reduce__(self) -> tuple[object, ...]:
        return _again, (type(self), self.args, self.__dict__)  # between processes, whatever its arguments were


def _again(kind: type[NsightToolsError], args: tuple[object, ...], state: dict[str, object]) -> NsightToolsError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


def explained(error: Exception) -> tuple[str, int]:
    """What `error` means for the user, on one line, and the exit status; whatever is not ours is an internal error."""
    if isinstance(error, NsightToolsError):
        return str(error) if error.exit_code == INTERRUPTED else f"error: {error}", error.exit_code
    if isinstance(error, ModuleNotFoundError) and (lacking := _lacking(error)):
        return f"error: {lacking}", lacking.exit_code
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"error: {where}{error.strerror}", NsightToolsError.exit_code
    return f"{INTERNAL}: {type(error).__name__}: {error}", NsightToolsError.exit_code


def bring(extra: str) -> str:
    """The command that brings an extra."""
    return f"pip install 'nsight-tools[{extra}]'"


def need(extra: str, what: str) -> None:
    """Raises MissingPackageError where a package of `extra` is not installed, which `what` takes; imports none."""
    for package in EXTRAS[extra]:
        if find_spec(package) is None:
            raise MissingPackageError(package, extra, what)


def _lacking(error: ModuleNotFoundError) -> MissingPackageError | None:
    """What an import that failed means, where an extra brings what it asked for."""
    package = (error.name or "").partition(".")[0]
    return next((MissingPackageError(package, extra, "this") for extra in EXTRAS if package in EXTRAS[extra]), None)


def meant(word: str, known: Iterable[str]) -> str:
    """`did you mean 'analyze'?`, of the one or two names that are spelt most alike; empty where none is close."""
    near = " or ".join(f"'{name}'" for name in get_close_matches(word, [*known], n=2))
    return f"did you mean {near}?" if near else ""


class InputError(NsightToolsError):
    """The input is not a report, an export or a dataset that can be read."""

    def __init__(self, path: Path | str, problem: str, *, hint: str = "") -> None:
        super().__init__(f"{path}: {problem}", hint=hint)
        self.path = Path(path)
        self.problem = problem


class MissingPackageError(NsightToolsError, ImportError):
    """What was asked for takes a package that an extra of nsight-tools brings, and that is not installed."""

    def __init__(self, package: str, extra: str, what: str) -> None:
        super().__init__(f"{what} takes the Python package {package}, which is not installed", hint=bring(extra))


class ArgumentError(NsightToolsError, TypeError):
    """A function of the API was given something of another type than it takes."""

    def __init__(self, what: str, given: object, *, hint: str = "") -> None:
        super().__init__(f"{what}, not {_a(type(given).__name__)}", hint=hint)


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


class OutputError(NsightToolsError):
    """The output cannot be written where it was asked for."""

    def __init__(self, path: Path | str, problem: str, *, hint: str = "") -> None:
        super().__init__(f"{path}: {problem}", hint=hint)
        self.path = Path(path)


class NsysError(NsightToolsError):
    """Nsight Systems is missing, too old, or failed."""


class DatasetError(NsightToolsError):
    """A dataset is damaged, incomplete or of another version."""


class QueryError(NsightToolsError):
    """A table, column or SQL query that a dataset cannot answer."""


class AnalysisError(NsightToolsError):
    """The analyses cannot be loaded, or a code names none of them."""


class CouldNotRun(NsightToolsError):  # noqa: N818 (an outcome of an analysis, not a failure)
    """Raised by an analysis that finds it cannot judge this trace; becomes the outcome's reason, its hint the remedy.

    Example:
        >>> from nsight_tools import CouldNotRun
        >>> str(CouldNotRun("no clock was sampled", hint="capture longer"))
        'no clock was sampled; capture longer'
    """


class NotApplicable(NsightToolsError):  # noqa: N818 (an outcome of an analysis, not a failure)
    """Raised by an analysis that has nothing to look for in this trace; becomes the outcome's reason.

    Example:
        >>> from nsight_tools import NotApplicable
        >>> str(NotApplicable("nothing is copied"))
        'nothing is copied'
    """


class NothingToShow(NsightToolsError):  # noqa: N818 (a figure's answer, not a failure)
    """Raised by a figure where the trace has nothing that it would show; the message says why."""
