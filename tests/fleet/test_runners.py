from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fleet import works
from fleet.conftest import tasks_of
from patience import wait_until

from nsight_tools.errors import NsightToolsError
from nsight_tools.fleet import cluster, pool
from nsight_tools.fleet.results import Done, Failed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from nsight_tools.fleet.results import Result

distributed = pytest.importorskip("distributed")


def outcomes(results: Iterable[Result]) -> dict[str, str]:
    """done, or why not, by label; each one once."""
    listed = list(results)
    said = {each.member.label: each.because if isinstance(each, Failed) else "done" for each in listed}
    assert len(said) == len(listed)
    return dict(sorted(said.items()))


def all_done(count: int) -> dict[str, str]:
    return {f"rank{rank}": "done" for rank in range(count)}


def test_a_rank_that_fails_leaves_the_others(small: Callable[..., Path]) -> None:
    folder = small(3, broken=1)
    said = outcomes(pool.run(tasks_of(folder), 2))
    assert said.pop("rank1").startswith(f"error: {folder / 'rank1.sqlite'}: is no SQLite database")
    assert said == {"rank0": "done", "rank2": "done"}


def test_a_process_that_is_killed_loses_nothing(small: Callable[..., Path]) -> None:
    folder = small(3)
    works.marker(str(folder / "rank2.sqlite")).touch()
    results = list(pool.run(tasks_of(folder), 2, work=works.killed))
    assert outcomes(results) == all_done(3)
    # They are what they would have been: the same export gives the same numbers.
    walls = {each.numbers.wall for each in results if isinstance(each, Done) and each.numbers}
    assert len(walls) == 1
    assert not list(folder.glob("*.partial"))


def test_a_report_that_always_kills_its_process_fails_alone(small: Callable[..., Path]) -> None:
    folder = small(3)
    works.marker(str(folder / "rank0.sqlite")).write_text("always")
    said = outcomes(pool.run(tasks_of(folder), 2, work=works.killed))
    assert "killed the process that analyzed it, twice; look for the kernel's out-of-memory" in said.pop("rank0")
    assert said == {"rank1": "done", "rank2": "done"}


def test_whoever_stops_leaves_no_process_behind(small: Callable[..., Path]) -> None:
    folder = small(2)
    marks = [works.marker(str(folder / f"rank{rank}.sqlite")) for rank in range(2)]
    for mark in marks:
        mark.touch()
    code = "import sys; from fleet.test_runners import interrupted; interrupted(sys.argv[1])"
    process = subprocess.Popen([sys.executable, "-c", code, str(folder)], env=environment(), stderr=subprocess.PIPE)
    pids = [said(mark) for mark in marks]
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=works.PATIENCE_S)
    assert stderr == b"interrupted\n"
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not list(folder.glob("*.partial"))


def interrupted(folder: str) -> None:
    """What the child of the test above does."""
    try:
        list(pool.run(tasks_of(Path(folder)), 2, work=works.awaiting_death))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def said(mark: Path) -> int:
    """The process that the marker names, once it does."""
    wait_until(mark.read_text)
    return int(mark.read_text())


def test_a_cluster_of_processes_whose_worker_dies(small: Callable[..., Path]) -> None:
    folder = small(3, broken=2)
    works.marker(str(folder / "rank1.sqlite")).touch()
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as local:
        found = outcomes(cluster.run(tasks_of(folder), local.scheduler_address, work=works.killed))
    assert "is no SQLite database" in found.pop("rank2")
    assert found == all_done(2)


def test_a_scheduler_one_of_whose_workers_is_killed(small: Callable[..., Path], tmp_path: Path) -> None:
    folder = small(3)
    mark = works.marker(str(folder / "rank0.sqlite"))
    mark.touch()
    with ExitStack() as stack:
        known = tmp_path / "scheduler.json"
        stack.enter_context(dask("scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(known)))
        wait_until(lambda: known.exists() and known.read_text())
        worker = ("worker", "--scheduler-file", str(known), "--nthreads", "1", "--no-nanny", "--no-dashboard")
        for _ in range(2):
            stack.enter_context(dask(*worker))
        address = distributed.Client(scheduler_file=str(known), set_as_default=False)
        with address as client:
            client.wait_for_workers(2, timeout=works.PATIENCE_S)
            there = client.scheduler.address
        results = cluster.run(tasks_of(folder), there, work=works.awaiting_death)
        first = [next(results) for _ in range(2)]  # the other worker goes on meanwhile
        os.kill(said(mark), signal.SIGKILL)
        assert outcomes([*first, *results]) == all_done(3)


@contextmanager
def dask(*arguments: str) -> Iterator[None]:
    command = [sys.executable, "-m", "dask", *arguments]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env=environment(), stdout=quiet, stderr=quiet)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def test_no_scheduler_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_S", 0.5)
    with pytest.raises(NsightToolsError, match=r"no Dask scheduler answers at tcp://127.0.0.1:1: .*; start one with"):
        list(cluster.run([], "tcp://127.0.0.1:1"))


def test_without_distributed_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(NsightToolsError, match=r"takes dask.distributed; pip install 'nsight-tools\[distributed\]'"):
        list(cluster.run([], "tcp://127.0.0.1:1"))
