"""Running the processes of a capture: none outlives it, Ctrl-C reaches the one that matters, their words are kept."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nsight_tools.errors import NsightToolsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_GUARD = Path(__file__).with_name("guard.py")
_LINES_KEPT = 400


@dataclass(frozen=True)
class Ended:
    """How a process ended: exit code (128 + N for signal N), its last lines, and whether it was asked to stop."""

    code: int
    said: tuple[str, ...]
    interrupted: bool


class Interrupts:
    """What Ctrl-C means during a capture: the first one stops the run and keeps it, the second one kills everything.

    Used as a context manager around all of a capture, in the main thread; elsewhere it leaves signals alone.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        *,
        stopped: str = "keeping what it measured",
        left: str = "nothing half-written was left behind",
    ) -> None:
        """`stopped` says what becomes of the run that Ctrl-C stops, `left` of all else where the process is ended."""
        self._say, self._stopped, self._left = say, stopped, left
        self._stop: Callable[[], bool] | None = None
        self.happened = False

    @contextlib.contextmanager
    def handled(self) -> Iterator[Interrupts]:
        """Take SIGINT, and let SIGTERM and SIGHUP end the process through every `finally`, and say so; gives itself."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        held = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        signal.signal(signal.SIGINT, self._interrupt)
        for number in (signal.SIGTERM, signal.SIGHUP):
            if held[number] is signal.SIG_DFL:
                signal.signal(number, _exit)
        try:
            yield self
        except _Ended as ended:
            self._say(f"ended by {signal.Signals(ended.code - 128).name}; {self._left}")
            raise
        finally:
            for number, handler in held.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def stopping(self, stop: Callable[[], bool]) -> Iterator[None]:
        """What the first Ctrl-C does while this is held: `stop` returns whether there was anything to stop."""
        self._stop = stop
        try:
            yield
        finally:
            self._stop = None

    def _interrupt(self, _number: int, _frame: object) -> None:
        first, self.happened = not self.happened, True
        if first and self._stop is not None and self._stop():
            self._say(f"interrupted: stopping the run, and {self._stopped}; Ctrl-C again kills it")
            return
        raise KeyboardInterrupt


class _Ended(SystemExit):
    """A signal ends this process; the code is 128 and its number."""

    code: int


def _exit(number: int, _frame: object) -> None:
    raise _Ended(128 + number)


def run(
    command: Sequence[str | Path],
    *,
    interrupts: Interrupts,
    environment: Mapping[str, str] | None = None,
    interrupt: Callable[[int], bool] | None = None,
    seconds: float | None = None,
) -> Ended:
    """Run `command` to its end; whatever ends this function ends it and all that it started.

    `interrupt` is what the first Ctrl-C does: it gets the pid of the process above the command's, and returns whether
    there was something to stop; by default the command itself gets a SIGINT. Standard output and error are kept
    together, and their last lines returned.

    Raises:
        NsightToolsError: no process could be started.
        subprocess.TimeoutExpired: it took more than `seconds`, and was ended.
    """
    guarded = [sys.executable, "-I", "-S", str(_GUARD), str(os.getpid()), *map(str, command)]
    try:
        process = subprocess.Popen(  # noqa: S603
            guarded,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=None if environment is None else dict(environment),
            start_new_session=True,  # a terminal's Ctrl-C comes to us alone
        )
    except OSError as error:
        raise NsightToolsError(f"no process can be started: {error.strerror}") from error
    said: deque[str] = deque(maxlen=_LINES_KEPT)
    reader = threading.Thread(target=_listen, args=(process, said), daemon=True)
    reader.start()
    asked = False

    def stop() -> bool:
        nonlocal asked
        asked = (interrupt or _interrupt_child)(process.pid)
        return asked

    try:
        with interrupts.stopping(stop):
            code = process.wait(seconds)
    except BaseException:
        process.terminate()  # the guard takes everything along
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        raise
    finally:
        reader.join(5)
    return Ended(code if code >= 0 else 128 - code, tuple(said), asked)


def _listen(process: subprocess.Popen[bytes], said: deque[str]) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in iter(process.stdout.readline, b""):
            pieces = line.decode(errors="replace").replace("\r", "\n").splitlines()
            said.extend(piece.rstrip() for piece in pieces if piece.strip())


def _interrupt_child(pid: int) -> bool:
    with contextlib.suppress(OSError, ValueError, IndexError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
        os.kill(int(children.split()[0]), signal.SIGINT)
        return True
    return False
