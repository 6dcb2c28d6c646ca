"""Captures sample GPU metrics where nsys lets them, and say why where it does not: an nsys that is made up."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from command_line import invoke_in
from runner_cases import FAKES, engine

from nsight_tools.capture import gpu_metrics, session
from nsight_tools.capture.options import Recording
from nsight_tools.capture.supervised import Interrupts
from nsight_tools.errors import NsysError
from nsight_tools.importer.captured import RunDirectory
from nsight_tools.nsys import Nsys, Version

if TYPE_CHECKING:
    from collections.abc import Callable

NSYS = """#!{python}
import json, subprocess, sys
if "--version" in sys.argv:
    sys.exit(print("NVIDIA Nsight Systems version {version}"))
asked = [each for each in sys.argv if each.startswith("--gpu-metrics")]
with open("{log}", "a") as file:
    file.write(json.dumps(asked) + "\\n")
if asked and {says!r}:
    print({says!r})
    sys.exit(1)
code = subprocess.run(sys.argv[-5:], check=False).returncode
output = next(each.partition("=")[2] for each in sys.argv if each.startswith("--output="))
if not (asked and {loses}):
    open(output + ".nsys-rep", "w").close()
sys.exit(code)
"""
"""It starts what it is given, and makes a report of nothing."""
ASKED = ["--gpu-metrics-devices=all", "--gpu-metrics-frequency=20000"]

PERMISSION = """Illegal --gpu-metrics-devices argument: all.
Insufficient privilege, see https://developer.nvidia.com/ERR_NVGPUCTRPERM."""
LISTED = """Illegal --gpu-metrics-devices arguments.
None of the installed GPUs are supported:
\tBlackwell GB202 | NVIDIA GeForce RTX 5090 PCI[0000:01:00.0] - Insufficient privilege, see ERR_NVGPUCTRPERM"""
OLD_GPU = """Illegal --gpu-metrics-devices arguments.
None of the installed GPUs are supported:
\tTesla V100-PCIE-32GB PCI[0000:17:00.0] - Unsupported architecture
See the user guide: https://docs.nvidia.com/nsight-systems/UserGuide/index.html#gpu-metrics

usage: nsys profile [<args>] [application] [<application args>]
Try 'nsys profile --help' for more information."""
HELD = """Illegal --gpu-metrics-devices arguments.
\tAda AD102 | NVIDIA L40S PCI[0000:8d:00.0] - Already under profiling"""
REFUSALS = {
    "permission": (PERMISSION, "reading the GPU's performance counters needs permission; to have them, run as root"),
    "permission, as it lists GPUs": (LISTED, "reading the GPU's performance counters needs permission"),
    "an older GPU": (OLD_GPU, "this nsys supports no GPU here; to have them, use a newer nsys"),
    "another profiler": (HELD, "another profiler holds the GPU's performance counters; to have them, end it"),
    "no words for it": ("Fatal: /home/42", "nsys fails with them; to have them, see nsys profile --help"),
}


@dataclass(frozen=True)
class Made:
    """An nsys that was made up, and what it was asked of GPU metrics each time that it was started."""

    path: Path
    log: Path

    @property
    def asked(self) -> list[list[str]]:
        return [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Made]:
    def make(*, says: str = "", loses: bool = False, version: str = "2025.3.1.90") -> Made:
        path, log = tmp_path / "bin" / "nsys", tmp_path / "bin" / "log"
        path.parent.mkdir()
        text = NSYS.format(python=sys.executable, says=says, loses=loses, version=version, log=log)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
        return Made(path, log)

    return make


def capture(folder: Path, nsys: Made, *options: str) -> tuple[int, str]:
    """Its exit status, and what it says."""
    command = ["capture", engine(folder), "-o", "run", "--duration", "0.1", "--no-analyze", "--iterations", "20"]
    around = {"PYTHONPATH": str(FAKES), "FAKE_TENSORRT_VERSION": "8.6.0"}
    code, _, said = invoke_in(folder, *command, "--nsys", nsys.path, *options, **around)
    return code, said


def run_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run" / "run.json").read_text(encoding="utf-8"))
    return found


def test_they_are_sampled_and_their_cost_is_noted(tmp_path: Path, made: Callable[..., Made]) -> None:
    nsys = made()
    code, said = capture(tmp_path, nsys)
    assert code == 0, said
    assert nsys.asked == [ASKED, []]  # what the layers are named by needs none
    assert " traced with GPU metrics at 20 kHz (" in said
    run = run_of(tmp_path)
    assert run["gpu_metrics"] == {"hz": 20_000}
    assert (run["options"]["gpu_metrics"], run["options"]["gpu_metrics_hz"]) == (True, None)
    tracing = run["tracing"]
    assert tracing["gpu_metrics_hz"] == 20_000
    for name in ("wall_ns", "gpu_ns"):
        assert tracing[name]["added"] == tracing[name]["traced"] - tracing[name]["untraced"]


def test_where_nsys_refuses_it_is_traced_without_and_said(tmp_path: Path, made: Callable[..., Made]) -> None:
    says, why = REFUSALS["no words for it"]
    nsys = made(says=says)
    code, said = capture(tmp_path, nsys, "--single-pass")
    assert code == 0, said
    assert nsys.asked == [ASKED, []]
    (line,) = [line for line in said.splitlines() if "without GPU metrics" in line]
    assert why in line
    assert line.endswith(f"; {gpu_metrics.LOST} (nsys: {says})")
    run = run_of(tmp_path)
    assert run["status"] == "done"
    assert why in run["gpu_metrics"]["reason"]
    assert [each["report"] for each in run["passes"]] == ["report.nsys-rep"]
    assert not any("gpu-metrics" in option for option in run["passes"][0]["nsys"])
    found = RunDirectory.of(tmp_path / "run")
    assert found is not None
    assert str(found.no_gpu_metrics()).startswith("GPU metrics were not sampled: ")
    assert found.about()["gpu_metrics"] == {"reason": run["gpu_metrics"]["reason"]}


def test_a_report_that_is_lost_with_them_is_made_without(tmp_path: Path, made: Callable[..., Made]) -> None:
    nsys = made(loses=True)
    code, said = capture(tmp_path, nsys, "--single-pass")
    assert code == 0, said
    assert nsys.asked == [ASKED, []]
    assert len(run_of(tmp_path)["passes"]) == 1
    assert run_of(tmp_path)["gpu_metrics"]["reason"].startswith("nsys fails with them; to have them, ")


@pytest.mark.parametrize(
    ("options", "asked", "noted"),
    [
        (["--no-gpu-metrics"], [], {"reason": "--no-gpu-metrics was given"}),
        (["--gpu-metrics=20000"], [ASKED[0], "--gpu-metrics-frequency=20000"], {"hz": 20_000}),
        (
            ["--nsys-arg=--gpu-metrics-devices=1"],
            ["--gpu-metrics-devices=1"],
            {"reason": "--nsys-arg chooses them"},
        ),
    ],
    ids=["none", "at another rate", "as nsys is told"],
)
def test_who_says_otherwise_is_heard(
    tmp_path: Path, made: Callable[..., Made], options: list[str], asked: list[str], noted: dict[str, Any]
) -> None:
    nsys = made()
    code, said = capture(tmp_path, nsys, "--single-pass", *options)
    assert code == 0, said
    assert nsys.asked == [asked]
    assert "without GPU metrics" not in said
    assert run_of(tmp_path)["gpu_metrics"] == noted


def test_where_they_were_asked_for_a_refusal_is_an_error(tmp_path: Path, made: Callable[..., Made]) -> None:
    nsys = made(says=PERMISSION)
    code, said = capture(tmp_path, nsys, "--single-pass", "--gpu-metrics")
    assert code == 2
    assert said.splitlines()[-1] == (
        "nsight-tools: error: there are no GPU metrics: reading the GPU's performance counters needs permission; run "
        "as root, or have the administrator allow it (NVreg_RestrictProfilingToAdminUsers=0), or leave out "
        "--gpu-metrics"
    )
    assert not (tmp_path / "run").exists()
    code, said = capture(tmp_path, nsys, "--gpu-metrics", "--no-gpu-metrics")
    assert code == 2
    assert "--gpu-metrics and --no-gpu-metrics contradict each other" in said


def test_an_nsys_that_is_too_old_is_not_asked(tmp_path: Path, made: Callable[..., Made]) -> None:
    nsys = made(version="2020.5.1.85")
    code, said = capture(tmp_path, nsys, "--single-pass")
    assert code == 0, said
    assert nsys.asked == [[]]
    assert "without GPU metrics: nsys 2020.5.1.85 records none; to have them, use 2021.2 or newer; " in said


@dataclass(frozen=True)
class Command:
    """A command that was captured by an nsys that is made up."""

    asked: list[list[str]]
    said: list[str]
    run: dict[str, Any]


@pytest.fixture
def commanded(tmp_path: Path, made: Callable[..., Made]) -> Callable[..., Command]:
    def capture_one(*, says: str = "", **recording: Any) -> Command:
        nsys = made(says=says)
        said: list[str] = []
        session.capture_command(
            [sys.executable, "-c", f"print('x', file=open({str(tmp_path / 'runs')!r}, 'a'))"],
            tmp_path / "run",
            Recording(telemetry_hz=0, **recording),
            Nsys(nsys.path, Version((2025, 3))),
            say=said.append,
            interrupts=Interrupts(said.append),
        )
        return Command(nsys.asked, said, run_of(tmp_path))

    return capture_one


def test_a_command_of_seconds_is_sampled(commanded: Callable[..., Command], tmp_path: Path) -> None:
    found = commanded()
    assert found.asked == [ASKED]
    assert found.run["gpu_metrics"] == {"hz": 20_000}
    assert (tmp_path / "runs").read_text(encoding="utf-8") == "x\nx\n"


@pytest.mark.parametrize(("says", "why"), REFUSALS.values(), ids=REFUSALS)
def test_a_command_is_started_once_where_nsys_refuses(
    commanded: Callable[..., Command], tmp_path: Path, says: str, why: str
) -> None:
    found = commanded(says=says)
    assert found.asked == [ASKED, []]
    assert (tmp_path / "runs").read_text(encoding="utf-8") == "x\nx\n"  # without the profiler, and under it
    (line,) = [line for line in found.said if "without GPU metrics" in line]
    assert f"without GPU metrics: {why}" in line
    lost = f"; {gpu_metrics.LOST}"
    assert line.endswith(f"{lost} (nsys: {says})" if "42" in says else lost)
    assert why in found.run["gpu_metrics"]["reason"]


def test_a_long_command_is_not_sampled(commanded: Callable[..., Command], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_metrics, "LONGEST_S", 0)
    found = commanded()
    assert found.asked == [[]]
    (line,) = [line for line in found.said if "GPU metrics" in line]
    assert line.startswith("without GPU metrics: it runs for ")
    assert "; to have them, give --gpu-metrics; " in line


def test_a_command_that_runs_once_may_be_long(commanded: Callable[..., Command], tmp_path: Path) -> None:
    found = commanded(untraced=False)
    assert found.asked == [[]]
    assert found.run["gpu_metrics"]["reason"].startswith("how long it runs is not known")
    assert (tmp_path / "runs").read_text(encoding="utf-8") == "x\n"


def test_a_long_command_is_sampled_where_that_is_asked_for(commanded: Callable[..., Command]) -> None:
    found = commanded(untraced=False, gpu_metrics_hz=2000)
    assert found.asked == [[ASKED[0], "--gpu-metrics-frequency=2000"]]
    assert found.run["gpu_metrics"] == {"hz": 2000}


def test_a_command_with_metrics_asked_for_fails_where_nsys_refuses(commanded: Callable[..., Command]) -> None:
    with pytest.raises(NsysError, match="another profiler holds the GPU's performance counters"):
        commanded(says=HELD, gpu_metrics_hz=2000)


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("Possible --gpu-metrics-devices values are:\n\t0: Hopper GH100 | NVIDIA H200\n\tall: Select all", None),
        ("Possible --gpu-metrics-device values are:\n\tNVIDIA GPUs not found, feature is not available", "supports no"),
        ("GPU Metrics: " + LISTED.partition("\n")[2], "needs permission"),
        (HELD, "another profiler"),
    ],
)
def test_nsys_says_what_it_may_sample(tmp_path: Path, said: str, word: str | None) -> None:
    program = tmp_path / "nsys"
    program.write_text(f"#!{sys.executable}\nprint({said!r})\n", encoding="utf-8")
    program.chmod(0o755)
    refused = gpu_metrics.refused_by(Nsys(program, Version((2025, 3))))
    assert refused is None if word is None else refused is not None and word in refused.why


def test_an_nsys_that_does_not_answer_does_not_allow_them() -> None:
    refused = gpu_metrics.refused_by(Nsys(Path("/no/nsys"), Version((2025, 3))))
    assert refused is not None
    assert refused.why.startswith("nsys does not say whether it can sample them: ")
