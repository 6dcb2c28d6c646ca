"""Starting a command with its user's environment and standard streams, whoever starts it: Nsight Systems, or we."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import stat
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from nsight_tools.capture import supervised
from nsight_tools.capture.guard import descendants
from nsight_tools.files import partial_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_LAUNCH = Path(__file__).with_name("launch.py")
_GRACE_S = 3.0
_BLOCK = 1 << 16
_OF_NSYS = ("nsys", "QdstrmImporter")
"""What the programs of Nsight Systems are called, or begin with: nsys, nsys-launcher, nsys-tee."""


class Order:
    """What `launch.py` is to become; it stands in a folder that only the user can read."""

    def __init__(
        self,
        folder: Path,
        command: Sequence[str | Path],
        *,
        given: Mapping[str, str],
        streams: Mapping[int, int],
        variables: Mapping[str, str],
        session: bool = False,
    ) -> None:
        self._pid_file, self._file = folder / "pid", folder / "order.json"
        self._order = {
            "command": [str(part) for part in command],
            "environment": {**os.environ, **variables},
            "given": dict(given),
            "streams": {number: f"/proc/{os.getpid()}/fd/{descriptor}" for number, descriptor in streams.items()},
            "pid": str(self._pid_file),
            "session": session,
        }

    def write(self) -> list[str | Path]:
        """Write it anew, as `launch.py` takes it away; returns the command that carries it out."""
        self._file.unlink(missing_ok=True)
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            json.dump(self._order, file, ensure_ascii=False)
        return [sys.executable, "-I", "-S", _LAUNCH, self._file]

    @property
    def ran(self) -> bool:
        """Whether the command was started."""
        return self._pid_file.exists()

    def interrupt(self, above: int) -> bool:
        """Do to the command what Ctrl-C in a terminal does; what it leaves running below `above` is ended.

        The command is in a session of its own, so that its pid names its process group too.
        """
        try:
            pid = int(self._pid_file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return False
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGINT)
        threading.Thread(target=_end_strays, args=(pid, above), daemon=True).start()
        return True


def _end_strays(pid: int, above: int) -> None:
    while _program(pid):
        time.sleep(0.1)
    for number in (signal.SIGTERM, signal.SIGKILL):
        time.sleep(_GRACE_S)
        for stray in descendants(above):
            _send(number, stray)


def _send(number: int, pid: int) -> None:
    """Send a signal to a process, unless it is one of Nsight Systems' own, or has ended."""
    program = _program(pid)
    if program and not program.startswith(_OF_NSYS):
        with contextlib.suppress(OSError):
            os.kill(pid, number)


def _program(pid: int) -> str:
    """The name of the file that a process runs; empty where it has ended, or ends while it is asked."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/exe").readlink().name
    return ""


class Streams:
    """The caller's standard streams, for a command that runs once or twice: each run reads the same from the first."""

    def __init__(self) -> None:
        self._typed: IO[bytes] | None = None
        with contextlib.suppress(OSError):
            mode = os.fstat(0).st_mode
            if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
                self._typed = tempfile.TemporaryFile()  # noqa: SIM115 (closed with this object)

    @contextlib.contextmanager
    def opened(self) -> Iterator[dict[int, int]]:
        """Our descriptors that a process which does not inherit them can open as its standard streams.

        A terminal is opened itself. To anything else goes what a pipe brings, so that both sides share one position;
        what came from a pipe is kept for the next run.
        """
        with contextlib.ExitStack() as stack:
            opened = {0: 0 if self._typed is None else stack.enter_context(_fed(self._typed))}
            for number in (1, 2):
                opened[number] = number if os.isatty(number) else stack.enter_context(_pumped(number))
            yield opened


@contextlib.contextmanager
def _pumped(to: int) -> Iterator[int]:
    """A pipe of which all goes to a descriptor of ours."""
    source, opened = os.pipe()
    pump = threading.Thread(target=_pump, args=(source, to), daemon=True)
    pump.start()
    try:
        yield opened
    finally:
        os.close(opened)
        pump.join(5)


def _pump(source: int, to: int) -> None:
    with os.fdopen(source, "rb", 0) as stream:
        while block := stream.read(_BLOCK):
            with contextlib.suppress(OSError):  # a reader that has gone is the program's business no more
                os.write(to, block)


@contextlib.contextmanager
def _fed(typed: IO[bytes]) -> Iterator[int]:
    """A pipe that brings what came from our standard input so far, and then what comes; which is kept in `typed`."""
    opened, into = os.pipe()
    stop, stopped = os.pipe()
    feeder = threading.Thread(target=_feed, args=(typed, into, stop), daemon=True)
    feeder.start()
    try:
        yield opened
    finally:
        os.close(opened)  # who writes into it then learns that nobody reads
        os.close(stopped)
        feeder.join(5)
        os.close(stop)


def _feed(typed: IO[bytes], into: int, stop: int) -> None:
    typed.seek(0)
    with contextlib.suppress(BrokenPipeError), os.fdopen(into, "wb", 0) as pipe:
        while block := typed.read(_BLOCK):
            _write(pipe, block)
        while stop not in select.select([0, stop], [], [])[0]:
            if not (block := os.read(0, _BLOCK)):
                return
            typed.write(block)
            _write(pipe, block)


def _write(pipe: IO[bytes], block: bytes) -> None:
    while block:
        block = block[pipe.write(block) :]


def run(
    command: Sequence[str | Path],
    *,
    interrupts: supervised.Interrupts,
    streams: Streams,
    variables: Mapping[str, str],
) -> supervised.Ended:
    """Run a command as its user would, with these variables more; returns how it ended."""
    with partial_folder(Path(tempfile.gettempdir()) / "nsight-tools-run") as folder, streams.opened() as opened:
        order = Order(folder, command, given=os.environ, streams=opened, variables=variables, session=True)
        return supervised.run(order.write(), interrupts=interrupts, interrupt=order.interrupt)
