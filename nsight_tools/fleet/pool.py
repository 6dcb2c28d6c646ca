"""Tasks in processes of this machine. One that dies takes its process with it, and nothing else."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from nsight_tools.errors import InputError
from nsight_tools.fleet import tasks
from nsight_tools.fleet.results import Failed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nsight_tools.fleet.results import Result
    from nsight_tools.fleet.tasks import Task

    Work = Callable[[Task], Result]

_SPAWN = multiprocessing.get_context("spawn")
"""A fork would copy whatever locks the libraries' threads hold."""


def default_jobs() -> int:
    """As many as there are CPUs for this process."""
    return len(os.sched_getaffinity(0))


def run(given: Sequence[Task], jobs: int, *, work: Work = tasks.run) -> Iterator[Result]:
    """The results as they come, `jobs` tasks at a time.

    Where a process dies in mid-task (out of memory, a crash in a library), the pool cannot say whose it was: each
    report that was not done is tried once more in a process of its own, and the one that kills that too is a failure.
    """
    undone: list[Task] = []
    with _pool(min(jobs, len(given))) as pool, _stopped_early(pool):
        futures: dict[Future[Result], Task] = {pool.submit(_worked, work, task): task for task in given}
        for future, task in _as_completed(futures):
            try:
                yield future.result()
            except BrokenProcessPool:
                undone.append(task)
    if undone:
        with ThreadPoolExecutor(min(jobs, len(undone))) as threads, _stopped_early(threads):
            again = {threads.submit(_alone, work, task): task for task in undone}
            for retried, _ in _as_completed(again):
                yield retried.result()


def _as_completed(futures: dict[Future[Result], Task]) -> Iterator[tuple[Future[Result], Task]]:
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        yield from ((future, futures[future]) for future in done)


def _alone(work: Work, task: Task) -> Result:
    try:
        with _pool(1) as pool:
            return pool.submit(_worked, work, task).result()
    except BrokenProcessPool:
        hint = "look for the kernel's out-of-memory killer, or use fewer --jobs"
        error = InputError(task.member.source, "killed the process that analyzed it, twice", hint=hint)
        return Failed(task.member, f"error: {error}", status=error.exit_code)


def _pool(size: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(size, mp_context=_SPAWN, initializer=_start)


@contextmanager
def _stopped_early(executor: Executor) -> Iterator[None]:
    """Where the block is left by an interruption, what runs is interrupted too, and what waits is not begun."""
    before = {child.pid for child in multiprocessing.active_children()}
    try:
        yield
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        for pid in {child.pid for child in multiprocessing.active_children() if child.pid is not None} - before:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
        raise


def _start() -> None:
    """Begin a worker: it is interrupted in a task only, and does not outlive who started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)  # which ends an export of nsys, too

    threading.Thread(target=watch, daemon=True).start()


def _worked(work: Work, task: Task) -> Result:
    """The task, in a worker. Whatever interrupts it ends both, once the task has removed what it has half written."""
    signal.signal(signal.SIGINT, _interrupt)
    try:
        return work(task)
    except (KeyboardInterrupt, SystemExit):  # the second where SIGTERM came while nsys exported
        os._exit(128 + signal.SIGTERM)  # the pool would take it for a result, and go on
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _interrupt(_number: int, _frame: object) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # once: a second one must not interrupt the cleaning up
    raise KeyboardInterrupt
