"""Tasks on a Dask cluster: what a worker leaves undone, when it is killed, another one does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nsight_tools.errors import NsightToolsError, bring
from nsight_tools.fleet import tasks
from nsight_tools.fleet.results import Failed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nsight_tools.fleet.results import Result
    from nsight_tools.fleet.tasks import Task

CONNECT_S = 20


def run(given: Sequence[Task], address: str, *, work: Callable[[Task], Result] = tasks.run) -> Iterator[Result]:
    """The results as they come from the workers of the scheduler at `address`.

    Where a worker dies, the scheduler gives its tasks to others; one that takes more workers with it than Dask allows
    (`distributed.scheduler.allowed-failures`, 3) is a failure. Raises NsightToolsError where distributed is not
    installed or no scheduler answers.
    """
    distributed = _distributed()
    if "://" not in address:
        raise NsightToolsError(f"'{address}' names no Dask scheduler", hint="write tcp://HOST:8786")
    try:
        client = distributed.Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        hint = "start one with `dask scheduler`, and workers with `dask worker ADDRESS`"
        raise NsightToolsError(f"no Dask scheduler answers at {address}: {_first_line(error)}", hint=hint) from error
    with client:
        futures = {client.submit(work, task, pure=False): task for task in given}
        try:
            for future in distributed.as_completed(futures, loop=client.loop):
                raised = future.exception()
                yield future.result() if raised is None else _failed(futures[future], raised)
        finally:
            client.cancel(list(futures))


def _failed(task: Task, error: BaseException) -> Failed:
    """What did not come from the task itself: a worker without this package, or workers that died."""
    hint = "workers need the same nsight-tools as here; their logs say more"
    failure = NsightToolsError(f"{task.member.source}: the cluster gave it up: {_first_line(error)}", hint=hint)
    return Failed(task.member, f"error: {failure}", status=failure.exit_code)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise NsightToolsError("--scheduler takes dask.distributed", hint=bring("distributed")) from error
    return distributed
