"""Work beside other work: in a copy of this process where that is safe, for two threads need Python's lock by turns."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from nsight_tools import memory
from nsight_tools.errors import NsightToolsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Result = TypeVar("Result")
FORK_ROWS = 100_000
"""Rows of both works from which on two processes are worth their start."""
HARMLESS = "nsight-tools, no locks"
"""What the name of a thread begins with that holds no lock which a copy could need; rich's only draw our progress."""
_PR_SET_PDEATHSIG = 1


@contextlib.contextmanager
def forked(work: Callable[[], Result], *, worthwhile: bool) -> Iterator[Callable[[], Result]]:
    """Do `work` while the block runs; what is given waits for its result, or raises its error.

    That is in another process, where this one may be copied, else in a thread; where it is not `worthwhile`, it is done
    when its result is asked for. `work` sees all that this process has when it begins, changes none of it, and calls
    nothing of the caller's; only the files that it writes are seen, and its result, which must be picklable. The
    process is gone when the block is left, and when this one is killed.
    """
    if not worthwhile:
        yield work
        return
    if not _may_fork():
        with ThreadPoolExecutor(1) as pool:
            yield pool.submit(work).result
        return
    read, write = os.pipe()
    parent, pid = os.getpid(), _forked()
    if pid == 0:
        _answer(work, write, parent)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        if pid is None:  # no more processes, or no memory for one
            yield work
            return
        with _gone_at_the_end(pid):
            yield lambda: _result(pipe.read())


def _forked() -> int | None:
    with warnings.catch_warnings(), contextlib.suppress(OSError):
        # Python counts the threads of NumPy and Arrow, too: both see to their locks when a process is copied.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()
    return None


def _may_fork() -> bool:
    """Whether no other thread could hold a lock that the copy would wait for, and there is a core and memory for it.

    That is known of the command line's own process. A notebook has threads of its own, a program may have libraries'
    that Python does not see, a cluster's worker others that import, and a pool's process is one of many.
    """
    if (
        not memory.is_fenced()
        or memory.asked() is not None
        or len(os.sched_getaffinity(0)) < 2
        or multiprocessing.parent_process() is not None
    ):
        return False
    if threading.current_thread() is not threading.main_thread():
        return False
    others = (thread for thread in threading.enumerate() if thread is not threading.main_thread())
    return all(thread.name.startswith(HARMLESS) or type(thread).__module__.startswith("rich.") for thread in others)


def _answer(work: Callable[[], Any], write: int, parent: int) -> None:
    """What the copy does; it does not return, and leaves everything that it has of its parent as it is."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers it
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if os.getppid() == parent:  # it was not killed before it could have taken us along
            with os.fdopen(write, "wb") as pipe:
                pipe.write(_done(work))
    finally:
        os._exit(0)


def _done(work: Callable[[], Any]) -> bytes:
    try:
        return pickle.dumps((work(), None, ""))
    except BaseException as error:  # noqa: BLE001 (the parent raises it)
        where = traceback.format_exc()
        try:
            answer = pickle.dumps((None, error, where))
            pickle.loads(answer)  # noqa: S301 (what cannot be read again is no answer)
        except Exception:  # noqa: BLE001 (it cannot be pickled)
            answer = pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}"), where))
        return answer


def _result(answer: bytes) -> Any:
    try:
        result, error, where = pickle.loads(answer)  # noqa: S301 (our own copy wrote it)
    except (EOFError, pickle.UnpicklingError) as cut:
        what = "the import's second process was killed"
        raise NsightToolsError(
            what, hint="if memory ran out, give a limit with --max-memory: one process then does all"
        ) from cut
    if error is not None:
        raise error from RuntimeError(f"in the other process:\n{where}")
    return result


@contextlib.contextmanager
def _gone_at_the_end(pid: int) -> Iterator[None]:
    try:
        yield
    finally:
        with contextlib.suppress(ChildProcessError):  # somebody else has seen to it
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
