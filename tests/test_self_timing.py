"""A program that times its own inferences: what it writes, when, and that it is never in the program's way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from capture.fakes.fake_events import Cuda
from patience import PATIENCE_S

import nsight_tools
from nsight_tools import cuda_events, self_timing
from nsight_tools.cuda_events import Events, NoEventsError, handle_of
from nsight_tools.self_timing import COLUMNS, FORMAT, VARIABLE, Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MS = 1_000_000


def run(folder: Path, program: str, *, times: str = "times.json", code: int = 0) -> str:
    """Run a program that may time itself; returns what it said on standard error."""
    (folder / "program.py").write_text(textwrap.dedent(program), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=folder,
        env={**os.environ, VARIABLE: times},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stderr


def columns(file: Path) -> dict[str, list[Any]]:
    written = json.loads(file.read_text(encoding="utf-8"))
    assert written[FORMAT] == 1
    assert tuple(written["columns"]) == COLUMNS
    found: dict[str, list[Any]] = written["columns"]
    return found


def test_inferences_and_phases_of_all_threads_also_where_the_program_fails(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
        import threading, time, nsight_tools
        def serve():
            for _ in range(3):
                with nsight_tools.inference() as one:
                    time.sleep(0.002)
                    with one.phase("enqueue"):
                        time.sleep(0.001)
                    with nsight_tools.phase("enqueue"):
                        time.sleep(0.001)
        threads = [threading.Thread(target=serve) for _ in range(2)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        with nsight_tools.inference(99):
            raise SystemError("on purpose")
        """,
        code=1,
    )
    assert "on purpose" in said
    found = columns(tmp_path / "times.json")
    assert sorted(found["number"]) == [*range(6)]  # not the one that did not come to its end
    assert len(set(found["thread"])) == 2
    for start, wall, enqueue in zip(found["start_ns"], found["wall_ns"], found["enqueue_ns"], strict=True):
        assert start > 0
        assert enqueue >= 2 * MS
        assert wall >= enqueue + 2 * MS
    assert set(found["gpu_ns"] + found["compute_ns"]) == {None}
    assert [path.name for path in tmp_path.glob("times*")] == ["times.json"]


def test_without_the_variable_nothing_is_written(tmp_path: Path) -> None:
    run(tmp_path, "import nsight_tools\nwith nsight_tools.inference(): pass", times="")
    assert [path.name for path in tmp_path.iterdir()] == ["program.py"]


def test_a_program_without_inferences_writes_nothing(tmp_path: Path) -> None:
    run(tmp_path, "import nsight_tools\nnsight_tools.inference")
    assert [path.name for path in tmp_path.iterdir()] == ["program.py"]


def test_each_process_has_its_own_file(tmp_path: Path) -> None:
    """Those of multiprocessing, which end without atexit, and one that is forked off, and has its parent's memory."""
    run(
        tmp_path,
        """
        import multiprocessing, os, sys
        import nsight_tools
        def serve(count):
            for _ in range(count):
                with nsight_tools.inference():
                    pass
        if __name__ == "__main__":
            serve(2)
            for count, method in ((3, "fork"), (4, "spawn"), (5, "forkserver")):
                process = multiprocessing.get_context(method).Process(target=serve, args=(count,))
                process.start()
                process.join()
            if os.fork() == 0:
                serve(6)
                sys.exit()
            os.wait()
        """,
        times="%p.json",
    )
    written = {path.stem: len(columns(path)["number"]) for path in tmp_path.glob("*.json")}
    assert sorted(written.values()) == [2, 3, 4, 5, 6]
    assert {json.loads((tmp_path / f"{pid}.json").read_text())["pid"] for pid in written} == {*map(int, written)}


def test_a_file_that_cannot_be_written_is_said_and_harms_nothing(tmp_path: Path) -> None:
    said = run(tmp_path, "import nsight_tools\nwith nsight_tools.inference(): pass", times="no/such/folder.json")
    assert said == "nsight-tools: no/such/folder.json: times cannot be written: No such file or directory\n"


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    made = Cuda()
    monkeypatch.setattr(Events, "of_process", lambda: Events(made))
    return made


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    monkeypatch.setattr(self_timing, "_at_the_end", lambda _work: None)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "times.json"))
    self_timing.recorder.cache_clear()
    found = self_timing.recorder()
    assert found is not None
    yield found
    self_timing.recorder.cache_clear()


def test_events_around_the_phases_of_a_stream(cuda: Cuda, recorder: Recorder, tmp_path: Path) -> None:
    with nsight_tools.inference(3, stream=7) as one:
        for name, took in (("h2d", 1.0), ("enqueue", 4.0), ("d2h", 2.0), ("synchronize", 100.0)):
            with one.phase(name):
                cuda.now_ms += took
            cuda.now_ms += 0.5
    recorder.write()
    (row,) = zip(*columns(tmp_path / "times.json").values(), strict=True)
    found = dict(zip(COLUMNS, row, strict=True))
    assert (found["number"], found["h2d_ns"], found["compute_ns"], found["d2h_ns"]) == (3, 1 * MS, 4 * MS, 2 * MS)
    assert found["gpu_ns"] == 8 * MS  # from the first copy to the last, with what lies between
    assert found["wall_ns"] < 100 * MS  # the stream was idle at the end: the host's clock says how long it took


def test_what_the_block_does_not_wait_for_is_in_its_wall_by_the_streams_events(
    cuda: Cuda, recorder: Recorder, tmp_path: Path
) -> None:
    cuda.busy = True
    with nsight_tools.inference(stream=7):
        cuda.now_ms += 300.0
    recorder.write()
    assert columns(tmp_path / "times.json")["wall_ns"] == [300 * MS]
    assert json.loads((tmp_path / "times.json").read_text())["events"] is True


def test_a_driver_that_refuses_is_said(
    cuda: Cuda, recorder: Recorder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cuda.fails = 201
    with nsight_tools.inference(stream=7) as one, one.phase("enqueue"):
        pass
    recorder.write()
    assert columns(tmp_path / "times.json")["compute_ns"] == [None]
    said = json.loads((tmp_path / "times.json").read_text())["events"]
    assert said == "cuEventCreate failed with CUDA's error 201"
    assert capsys.readouterr().err == f"nsight-tools: no CUDA events, times by the host's clock alone: {said}\n"


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux's loader")
def test_a_program_that_has_not_loaded_cuda(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_events, "LIBRARY", "libnobody-has-loaded-this.so.1")
    with nsight_tools.inference(stream=7):
        pass
    recorder.write()
    assert json.loads((tmp_path / "times.json").read_text())["events"] == "the program has not loaded CUDA"


def test_when_there_is_no_room_it_is_written_and_no_more_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorder: Recorder
) -> None:
    monkeypatch.setattr(recorder, "_room", 3)
    for _ in range(5):
        with nsight_tools.inference():
            time.sleep(0.001)
    assert len(columns(tmp_path / "times.json")["number"]) == 3
    assert json.loads((tmp_path / "times.json").read_text())["full"] is True
    before = (tmp_path / "times.json").read_bytes()
    recorder.write()
    assert (tmp_path / "times.json").read_bytes() == before


def test_of_nested_inferences_the_outermost_counts(recorder: Recorder, tmp_path: Path) -> None:
    with nsight_tools.inference(1), nsight_tools.inference(2):
        pass
    recorder.write()
    assert columns(tmp_path / "times.json")["number"] == [1]


def test_phases_go_to_the_inference_of_their_own_thread(recorder: Recorder, tmp_path: Path) -> None:
    def aside() -> None:
        with nsight_tools.phase("enqueue"):
            pass

    with nsight_tools.inference():
        thread = threading.Thread(target=aside)
        thread.start()
        thread.join()
    recorder.write()
    assert columns(tmp_path / "times.json")["enqueue_ns"] == [None]


class Number:
    """A stream of cuda-bindings: no attribute, but it is a number."""

    def __int__(self) -> int:
        return 5


@pytest.mark.parametrize(
    "stream",
    [
        5,
        SimpleNamespace(handle=5),  # PyCUDA
        SimpleNamespace(cuda_stream=5),  # PyTorch
        SimpleNamespace(ptr=5),  # CuPy
        SimpleNamespace(__cuda_stream__=lambda: (0, 5), handle=Number()),  # cuda.core
        SimpleNamespace(__cuda_stream__=(0, 5)),  # its first form
        SimpleNamespace(handle=Number()),
        Number(),
    ],
)
def test_the_number_of_a_stream(stream: object) -> None:
    assert handle_of(stream) == 5


def test_what_is_no_stream() -> None:
    with pytest.raises(NoEventsError, match="a stream of type object has no handle"):
        handle_of(object())
