"""What a capture measures, against other ways to measure the same: nvidia-smi, an integral, more contexts."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nsight_tools.summary import summarize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gpu.conftest import Capture

pytestmark = pytest.mark.gpu

MIB = 1 << 20
LONG = ("--duration", "12")
ENERGY, MEMORY = 0.03, 0.02
"""Shares by which two ways to measure the same may differ."""


class NvidiaSmi:
    """What nvidia-smi shows, asked again and again by a thread: MiB in use, and those of each process."""

    def __init__(self) -> None:
        self._shown: list[tuple[int, int, list[int]]] = []
        self._stopped = threading.Event()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(0.1):
            began = time.time_ns()
            used, processes = _ask("--query-gpu=memory.used"), _ask("--query-compute-apps=used_memory")
            self._shown.append(((began + time.time_ns()) // 2, max(used, default=0), processes))

    def between(self, begin: int, end: int) -> tuple[int, int | None]:
        """The most in use, and the most of one process where nvidia-smi lists any; bytes, between two times by UTC."""
        found = [(used, processes) for utc, used, processes in self._shown if begin <= utc <= end]
        assert len(found) > 5
        each = [held for _, processes in found for held in processes]
        return MIB * max(used for used, _ in found), MIB * max(each) if each else None


def _ask(query: str) -> list[int]:
    program = shutil.which("nvidia-smi")
    assert program
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
    command = [program, f"--id={gpu}", query, "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [int(line) for line in done.stdout.split() if line.isdecimal()]


@pytest.fixture(scope="module")
def watched(captured: Callable[..., Capture], model: Callable[[str], Path]) -> tuple[Capture, NvidiaSmi]:
    """A capture with a benchmark of 12 s, and what nvidia-smi showed beside it."""
    smi = NvidiaSmi()
    with smi.watching():
        capture = captured("det_measured", model("det_static.engine"), *LONG, "--telemetry-hz", "50")
    return capture, smi


def marks(capture: Capture) -> tuple[int, int]:
    """When the benchmark began and ended, by UTC."""
    first, *_, last = capture.run["measured"]["benchmark"]["clock"]
    return first["utc_ns"], last["utc_ns"]


def test_energy_is_the_integral_of_power(
    watched: tuple[Capture, NvidiaSmi], record_property: Callable[..., None]
) -> None:
    capture, _ = watched
    found = summarize(capture.trace).measured.energy
    assert found is not None
    assert found.joules is not None
    begin, end = marks(capture)
    offset = capture.trace.manifest["clock"]["offset_ns"]
    samples = capture.trace.frame("telemetry", ["time_ns", "power_mw"]).dropna()
    inside = samples[(samples["time_ns"] >= begin - offset) & (samples["time_ns"] <= end - offset)]
    assert len(inside) > 400
    joules = inside["power_mw"].astype(float).mean() / 1e3 * (end - begin) / 1e9
    record_property("source", found.source)
    record_property("joules an inference", found.joules_per_inference)
    record_property("more than mean power times the time", found.joules / joules - 1)
    assert found.source == "counter", "this GPU counts energy"
    assert found.joules == pytest.approx(joules, rel=ENERGY)
    assert found.by_power_joules == pytest.approx(joules, rel=ENERGY)


def test_memory_is_what_nvidia_smi_shows(
    watched: tuple[Capture, NvidiaSmi], record_property: Callable[..., None]
) -> None:
    capture, smi = watched
    found = summarize(capture.trace).measured.memory
    assert found is not None
    used, process = smi.between(*marks(capture))
    record_property("in use by all, and by nvidia-smi", (found.gpu_peak, used))
    record_property("of the process, and by nvidia-smi", (found.process_peak, process))
    assert found.gpu_peak == pytest.approx(used, rel=MEMORY)
    assert found.process_peak is not None
    if process is not None:  # in some containers nvidia-smi lists none
        assert found.process_peak == pytest.approx(process, rel=MEMORY)
    assert 0 < (found.engine or 0) + (found.activations or 0) < found.process_peak


def test_a_further_context_takes_what_further_ones_took(
    captured: Callable[..., Capture], model: Callable[[str], Path], record_property: Callable[..., None]
) -> None:
    """By what one context and five take of CUDA's free memory; it is given in pieces of 2 MiB."""
    taken: dict[int, dict[str, Any]] = {}
    for streams in (1, 5):
        capture = captured(f"det_streams_{streams}", model("det_static.engine"), "--streams", str(streams))
        taken[streams] = capture.run["measured"]["benchmark"]["memory"]
    each = (taken[5]["taken_bytes"] - taken[1]["taken_bytes"]) / 4
    record_property("a further context, and one of four", (taken[1]["further_context_bytes"], each))
    assert taken[1]["further_context_bytes"] == pytest.approx(each, rel=0.1, abs=4 * MIB)
    assert taken[1]["further_contexts"] > 4


def test_repeats_are_the_same_again(
    captured: Callable[..., Capture], model: Callable[[str], Path], record_property: Callable[..., None]
) -> None:
    capture = captured("cls_repeated", model("cls_static.engine"), "--repeat", "3")
    found = summarize(capture.trace).measured
    assert len(found.repeats) == 3
    walls = capture.trace.frame("benchmark", ["run", "wall_ns"])
    for name, speed in zip(("benchmark", "benchmark_2", "benchmark_3"), found.repeats, strict=True):
        assert speed.p50_ns == pytest.approx(np.median(walls[walls["run"] == name]["wall_ns"]), rel=1e-3)
    spreads = found.spreads()
    record_property("spreads", spreads)
    assert 0 < spreads["p50_ns"] < 0.2
    assert "measured 3 times: throughput within " in " ".join(capture.printed.split())


def test_what_is_measured_is_on_the_first_screen(watched: tuple[Capture, NvidiaSmi]) -> None:
    capture, _ = watched
    head = " ".join(capture.printed.partition("The parts of that time")[0].split())
    for words in (
        " inferences a second, p50 ",
        "GPU memory: ",
        " of the process, ",
        "a further context takes ",
        " J an inference",
    ):
        assert words in head.replace("mJ", "J").replace("kJ", "J")


def test_the_build_is_told(captured: Callable[..., Capture], model: Callable[[str], Path]) -> None:
    sources = os.environ.get("NSIGHT_TOOLS_TACTIC_SOURCES")
    capture = captured(
        "cls_onnx",
        model("cls.onnx"),
        *("--shapes", "x:8x3x48x192", "--fp16", "--builder-optimization-level", "0"),
        *(("--tactic-sources", sources) if sources else ()),
    )
    assert summarize(capture.trace).measured.build_s == capture.run["build"]["seconds"]
    assert "built in " in " ".join(capture.printed.split())
