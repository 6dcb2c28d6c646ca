"""Running a program of Nsight Systems: its progress, its words, its end, and ours."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, TypeAlias

from nsight_tools import memory
from nsight_tools.errors import NsysError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Progress: TypeAlias = Callable[[str, "float | None"], None]

ENVIRONMENT_VARIABLE = "NSIGHT_TOOLS_NSYS"
HOW_TO_GET = (
    "install the package nsight-systems (Debian, non-free), nsight-systems-cli (NVIDIA's own) or the CUDA toolkit, or "
    f"see https://developer.nvidia.com/nsight-systems; name one elsewhere with --nsys or {ENVIRONMENT_VARIABLE}; "
    "a .sqlite export is read without nsys"
)

_PROGRESS = re.compile(r"(?P<what>[^\[\]]*)\[=*\s*(?P<percent>\d{1,3})%\s*\]")  # Processing 2730 events: [===45%   ]
_LINES_KEPT = 200  # of nsys' own words; a full disk repeats one line for every page


@contextlib.contextmanager
def terminated_by_exception() -> Iterator[None]:
    """Lets SIGTERM and SIGHUP end the process the way Ctrl-C does: through every `finally`.

    By default they end it on the spot, with nsys running on and half an export left behind. Handlers can only be set in
    the main thread, and somebody else's are left alone.
    """
    held = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                held[number] = signal.signal(number, _exit_by_signal)
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)


def _exit_by_signal(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)  # the exit code that a shell gives a process ended by this signal


def run(command: list[str], progress: Progress, libraries: Path | None = None) -> tuple[int, list[str]]:
    """Runs nsys; returns its exit code and what it said besides its progress bar.

    `libraries` is a folder where the program's libraries lie, which one of 2022.4 does not know by itself.
    """
    progress("starting nsys", None)
    environment = dict(os.environ)
    if libraries is not None:
        known = environment.get("LD_LIBRARY_PATH")
        environment["LD_LIBRARY_PATH"] = f"{libraries}:{known}" if known else str(libraries)
    try:
        with memory.lifted():
            process = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C is for us; we then end nsys and all that it started
            )
    except OSError as error:
        raise NsysError(f"{command[0]} cannot be run: {error.strerror}", hint=HOW_TO_GET) from error
    with process:
        try:
            assert process.stdout is not None
            lines = _heard(process.stdout, progress)
            return process.wait(), lines
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise


def _heard(stream: IO[bytes], progress: Progress) -> list[str]:
    """The lines that come to the end, without the progress bar, which is handed on."""
    lines: list[str] = []
    for piece in _pieces(stream):
        if bar := _PROGRESS.search(piece):
            progress(bar["what"].strip(" :") or "exporting", min(int(bar["percent"]), 100) / 100)
        rest = _PROGRESS.sub("", piece).strip()  # an error may follow the bar on its line
        if rest and len(lines) < _LINES_KEPT:
            lines.append(rest)
    return lines


def _pieces(stream: IO[bytes]) -> Iterator[str]:
    """What comes between carriage returns and line ends, as soon as it is there."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    pending = ""
    while chunk := os.read(stream.fileno(), 65536):
        *whole, pending = re.split(r"[\r\n]", pending + decoder.decode(chunk))
        yield from whole
    yield pending
