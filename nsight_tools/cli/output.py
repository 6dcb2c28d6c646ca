"""Where results go: standard output, which may be a terminal or a pipe that closes early, or a file, written whole."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from nsight_tools import files
from nsight_tools.errors import OutputError
from nsight_tools.report import safe
from nsight_tools.report.look import WIDTH, Look

if TYPE_CHECKING:
    from nsight_tools.report.formats import Kind

_Command = TypeVar("_Command", bound=Callable[..., Any])


def colour_option(command: _Command) -> _Command:
    """The option `--color`, which `look` takes."""
    return click.option(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        show_default=True,
        help="Colour the text; auto: on a terminal, unless NO_COLOR is set.",
    )(command)


def all_option(command: _Command) -> _Command:
    """The option `--all`, which `look` takes."""
    return click.option(
        "--all", "everything", is_flag=True, help="Show everything, and no name shortened; json always has all."
    )(command)


def format_option(kind: Kind[Any], default: str = "text") -> Callable[[_Command], _Command]:
    """The option `--format`, of what can show this kind of thing."""
    return click.option(
        "--format", "form", type=click.Choice(kind.names()), default=default, show_default=True, help=kind.help()
    )


def file_option(command: _Command) -> _Command:
    """The option `--output`, which `opened` takes."""
    return click.option(
        "-o",
        "--output",
        "path",
        metavar="FILE",
        type=click.Path(),
        help="Write to this file (or URL) instead of standard output; it appears whole or not at all.",
    )(command)


def look(color: str, *, to_file: bool = False, everything: bool = False) -> Look:
    """How a page looks on standard output, or in a UTF-8 file."""
    terminal = not to_file and sys.stdout.isatty()
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    return Look(
        width=WIDTH if to_file else _columns(),
        colour=color == "always" or (color == "auto" and terminal and not plain),
        unicode=to_file or _is_unicode(sys.stdout),
        everything=everything,
    )


def _columns() -> int:
    """How wide the reader's window is: as COLUMNS says, else of any stream that is a terminal, as behind a pager."""
    if os.environ.get("COLUMNS", "").isdecimal():
        return int(os.environ["COLUMNS"])
    for stream in (sys.__stdout__, sys.__stderr__, sys.__stdin__):
        with suppress(OSError, ValueError, AttributeError):
            if columns := os.get_terminal_size(stream.fileno()).columns:  # type: ignore[union-attr]
                return columns
    return WIDTH


def show(text: str) -> None:
    """Write `text` to standard output. A reader that has seen enough (`| head`) is no error."""
    try:
        # What the stream's encoding lacks is escaped; the text formats avoid it where they can.
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at its end and would complain then.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(text: str) -> None:
    """Tell what is done now, on standard error."""
    click.echo(f"nsight-tools: {safe.visible(text, 500)}", err=True)


@contextmanager
def opened(path: Path | str | None) -> Iterator[Callable[[str], None]]:
    """Give what writes the result: to standard output where `path` is None or `-`, else whole or not at all to `path`.

    A URL is written when the block ends.

    Opened before the work starts, so that a folder that cannot be written costs no analysis.

    Raises:
        OutputError: `path` cannot be written.
    """
    if path is None or str(path) == "-":
        yield show
        return
    if "://" in str(path):
        yield from _put(str(path))
        return
    with _whole(Path(path), "w") as write:
        yield write


def _put(url: str) -> Iterator[Callable[[str], None]]:
    from nsight_tools.fleet import remote

    pieces: list[str] = []
    yield pieces.append
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        file.write("".join(pieces))
        file.flush()
        remote.put(Path(file.name), url)


@contextmanager
def opened_binary(path: Path) -> Iterator[Callable[[bytes], None]]:
    """The same for bytes, written piece by piece; to standard output where `path` is `-`."""
    if str(path) == "-":
        yield _written(sys.stdout.buffer, path)
        return
    with _whole(path, "wb") as write:
        yield write


@contextmanager
def new_folder(path: Path) -> Iterator[Callable[[str, str | bytes | Path], None]]:
    """Give what writes a text, bytes, or a file's copy, by name into a folder that gets its place at `path` at the end.

    Raises:
        OutputError: there is something at `path` already, or it cannot be written.
    """
    if path.exists():
        raise OutputError(path, "exists already", hint="name a new folder with -o")
    with ExitStack() as stack:
        with _errors(path):
            folder = stack.enter_context(files.partial_folder(path))

        def write(name: str, content: str | bytes | Path) -> None:
            with _errors(path):
                if isinstance(content, Path):
                    shutil.copyfile(content, folder / name)
                elif isinstance(content, bytes):
                    (folder / name).write_bytes(content)
                else:
                    (folder / name).write_text(content, encoding="utf-8")

        yield write
        with _errors(path):
            folder.chmod(0o755)
            files.put_in_place(folder, path)


@contextmanager
def _whole(path: Path, mode: str) -> Iterator[Callable[[Any], None]]:
    target = Path(os.path.realpath(path))
    with _errors(path):
        special = target.exists() and not stat.S_ISREG(target.stat().st_mode)
        if target.is_dir():
            raise OutputError(path, "is a folder", hint="name a file")
        # A device or a named pipe is written, never replaced.
        if not special:
            files.remove_left(target.with_name(f".{target.name}"))
        partial = target if special else target.with_name(f".{target.name}.{os.getpid()}{files.PARTIAL}")
        file = partial.open(mode, encoding=None if "b" in mode else "utf-8")
        lock = None if special else files.held(partial)
    try:
        with file:
            yield _written(file, path)
            with _errors(path):
                file.flush()
        if not special:
            with _errors(path):
                if target.exists():
                    shutil.copymode(target, partial)
                partial.replace(target)
    finally:
        if not special:
            partial.unlink(missing_ok=True)
        if lock is not None:
            os.close(lock)


def _written(file: IO[Any], path: Path) -> Callable[[Any], None]:
    def write(piece: Any) -> None:
        with _errors(path):
            file.write(piece)

    return write


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(path, f"cannot be written: {error.strerror}", hint="name another file with -o") from error


def _is_unicode(stream: IO[str]) -> bool:
    return (getattr(stream, "encoding", None) or "").lower().replace("-", "").startswith("utf")
