"""The options of `nsys profile` by version, and why there is no report."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from nsight_tools.capture.profiler import STARTS, Profiled, Wanted, failure, options, profile
from nsight_tools.capture.supervised import Ended, Interrupts
from nsight_tools.errors import NsysError
from nsight_tools.nsys import Nsys, Version

FAKE = """#!{python}
import os, sys
with open("{started}", "a+") as file:
    file.write("x")
    file.seek(0)
    if len(file.read()) <= {failures}:
        sys.exit("{says}")
os.execv(sys.argv[-5], sys.argv[-5:])
"""
"""An nsys that fails the first so many times, and then becomes what it is given to start."""

ALWAYS = ["--trace=cuda,nvtx", "--sample=none", "--cpuctxsw=none", "--resolve-symbols=false", "--force-overwrite=true"]


def nsys(*version: int) -> Nsys:
    return Nsys(Path("/opt/nsys"), Version(version))


@pytest.mark.parametrize(
    ("version", "more"),
    [
        ((2021, 5), ["--gpu-metrics-device=all", "--gpu-metrics-frequency=10000"]),
        ((2022, 4), ["--cuda-graph-trace=node", "--gpu-metrics-device=all", "--gpu-metrics-frequency=10000"]),
        ((2023, 4), ["--cuda-graph-trace=node", "--gpu-metrics-device=all", "--gpu-metrics-frequency=10000"]),
        ((2024, 6), ["--cuda-graph-trace=node", "--gpu-metrics-devices=all", "--gpu-metrics-frequency=10000"]),
        (
            (2025, 3),
            [
                "--cuda-graph-trace=node",
                "--cuda-event-trace=false",
                "--gpu-metrics-devices=all",
                "--gpu-metrics-frequency=10000",
            ],
        ),
    ],
)
def test_options_by_version(version: tuple[int, ...], more: list[str]) -> None:
    assert options(nsys(*version), Wanted(gpu_metrics_hz=10_000)) == [*ALWAYS, *more]


@pytest.mark.parametrize(
    ("visible", "says", "whose"),
    [
        (None, "cuda-visible: the GPUs that CUDA sees", "all"),
        ("1,2", "cuda-visible: the GPUs that CUDA sees", "cuda-visible"),
        ("1,2", "all: Select all supported GPUs", "all"),
        ("MIG-7a1f", "cuda-visible: the GPUs that CUDA sees", "all"),
    ],
    ids=["no GPU is hidden", "hidden", "not offered", "MIG"],
)
def test_metrics_are_of_the_gpus_that_the_program_sees(
    visible: str | None, says: str, whose: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    program = tmp_path / "nsys"
    program.write_text(f"#!/bin/sh\necho '\t{says}'\n")
    program.chmod(0o755)
    chosen = options(Nsys(program, Version((2025, 3))), Wanted(gpu_metrics_hz=10_000))
    assert f"--gpu-metrics-devices={whose}" in chosen


def test_options_for_what_is_wanted() -> None:
    assert options(nsys(2023, 4), Wanted()) == [*ALWAYS, "--cuda-graph-trace=node"]
    wanted = Wanted(graphs="graph", capture_range=True, memory_usage=True)
    assert options(nsys(2023, 4), wanted)[5:] == [
        "--cuda-graph-trace=graph",
        "--cuda-memory-usage=true",
        "--capture-range=cudaProfilerApi",
        "--capture-range-end=stop",
    ]


@pytest.mark.parametrize("given", ["--trace=nvtx,osrt", "-tnvtx,osrt", "-t=nvtx,osrt"])
def test_an_option_of_the_users_replaces_ours(given: str) -> None:
    assert options(nsys(2023, 4), Wanted(more=(given,))) == [*ALWAYS[1:], "--cuda-graph-trace=node", given]


@pytest.mark.parametrize(
    ("says", "given", "asked"),
    [
        ("--accelerator-trace=", (), ["--accelerator-trace=tegra-accelerators"]),
        ("--ftrace=", (), []),
        ("--accelerator-trace=", ("--accelerator-trace=none",), ["--accelerator-trace=none"]),
    ],
    ids=["offered", "not offered", "the user's own"],
)
def test_the_trace_of_a_dla_where_nsys_offers_it(
    says: str, given: tuple[str, ...], asked: list[str], tmp_path: Path
) -> None:
    program = tmp_path / "nsys"
    program.write_text(f"#!/bin/sh\necho '\t{says}'\n")
    program.chmod(0o755)
    own = Nsys(program, Version((2024, 6)))
    assert options(own, Wanted(accelerators=True, more=given)) == [*ALWAYS, "--cuda-graph-trace=node", *asked]
    assert options(own, Wanted()) == [*ALWAYS, "--cuda-graph-trace=node"]


def test_an_nsys_that_does_not_say_offers_no_trace_of_a_dla() -> None:
    assert options(nsys(2024, 6), Wanted(accelerators=True)) == [*ALWAYS, "--cuda-graph-trace=node"]


def test_a_version_without_gpu_metrics() -> None:
    with pytest.raises(NsysError, match=r"nsys 2020\.4 records no GPU metrics"):
        options(nsys(2020, 4), Wanted(gpu_metrics_hz=10_000))


@pytest.mark.parametrize(
    ("wanted", "code", "said", "ran", "message"),
    [
        (Wanted(), 1, ["unrecognised option '--bogus'", "usage: nsys profile"], False, "did not start.*--bogus"),
        (Wanted(capture_range=True), 0, [], True, "never started the capture range"),
        (
            Wanted(gpu_metrics_hz=1),
            1,
            ["Illegal: ERR_NVGPUCTRPERM"],
            False,
            "GPU metrics: reading the .* needs permission",
        ),
        (Wanted(), 1, ["Importer error: no space left"], True, "wrote no report: Importer error"),
        (Wanted(), 1, [], True, "wrote no report: it gave no reason"),
    ],
)
def test_why_there_is_no_report(
    tmp_path: Path, wanted: Wanted, code: int, said: list[str], ran: bool, message: str
) -> None:
    profiled = Profiled(("nsys",), Ended(code, tuple(said), interrupted=False), ran)
    error = failure(nsys(2023, 4), wanted, profiled, tmp_path / "report.nsys-rep")
    with pytest.raises(NsysError, match=message):
        raise error
    assert error.hint


LOST = "Connection to Agent lost. This is most likely a bug."
LOST_EARLY = "[QuadDCommon::tag_message*] = Local Endpoint is not available."


@pytest.mark.parametrize(
    ("failures", "says", "starts"),
    [
        *((0, LOST, 1), (1, LOST, 2), (STARTS - 1, LOST, STARTS), (STARTS, LOST, STARTS), (1, LOST_EARLY, 2)),
        (1, "Connection refused.", 1),
    ],
)
def test_nsys_that_loses_its_helper_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int, says: str, starts: int
) -> None:
    """For no other reason, and only until the command was started, which it is once or never."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    program, started, done = (tmp_path / name for name in ("nsys", "started", "done"))
    program.write_text(FAKE.format(python=sys.executable, started=started, failures=failures, says=says))
    program.chmod(0o755)
    profiled = profile(
        Nsys(program, Version((2023, 4))),
        Wanted(),
        [sys.executable, "-c", f"print('ran', file=open({str(done)!r}, 'a'))"],
        tmp_path / "report.nsys-rep",
        interrupts=Interrupts(print),
    )
    assert started.read_text() == "x" * starts
    assert profiled.ran is (failures < starts)
    assert (done.read_text() if done.exists() else "") == ("ran\n" if profiled.ran else "")
    assert list(tmp_path.glob("nsight-tools-profile*")) == []


def test_a_recording_without_a_report(tmp_path: Path) -> None:
    (tmp_path / "report.qdstrm").touch()
    profiled = Profiled(("nsys",), Ended(0, ("Import Failed",), interrupted=False), ran=True)
    error = failure(nsys(2023, 4), Wanted(), profiled, tmp_path / "report.nsys-rep")
    assert "could not make a report of what it recorded: Import Failed" in str(error)
