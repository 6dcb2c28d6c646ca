"""Truth for the limits of layers: engines made for one limit each, traced with GPU metrics, and under Nsight Compute.

    python tests/gpu/limits.py OUT --models MODELS --python PYTHON --nsys NSYS --ncu NCU

Leaves in OUT, for each engine, NAME_HZ.sqlite (300 inferences back to back, GPU metrics at HZ; NAME_HZ_COUNT.sqlite for
another count of them) and NAME_ncu.csv (the kernels of two inferences, in order, with Nsight Compute's counters under
their own names, in base units), for those of `limits_engines.py` also NAME_captured.sqlite and NAME_layers.json
(`nsight-tools capture` of the engine); log.txt; and limits.tar.xz.0 and on with them all, in parts. What fails is said
in log.txt, and the rest goes on.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PROGRAM = Path(__file__).with_name("limits_engines.py")
MADE = (
    "gemm",
    "issue",
    "memory",
    "tiny",
    "few",
    "moves",
    "odd",
    "resnet",
    "one",
    "transformer",
    "bert",
    "mobile",
    "unet",
)
GIVEN = ("cls_static", "det_static")
RATES = {
    "cls_static": ((20_000, 300), (5_000, 300), (10_000, 300), (10_000, 2_000)),
    "resnet": ((5_000, 300), (10_000, 300), (20_000, 300), (10_000, 2_000), (50_000, 300)),
    "det_static": ((20_000, 300), (5_000, 300)),
    "transformer": ((10_000, 300), (5_000, 300), (20_000, 300), (10_000, 2_000), (50_000, 300)),
    "one": ((20_000, 300), (10_000, 300)),
    "unet": ((20_000, 300), (10_000, 300)),
    "bert": ((20_000, 300), (10_000, 300)),
    "mobile": ((10_000, 300), (20_000, 300), (5_000, 300)),
}
"""Samples a second, and inferences."""
USUAL = ((10_000, 300),)
INFERENCES = {"gemm": 150, "issue": 150, "tiny": 500}
PART_BYTES = 15 << 20
METRICS = (
    "gpu__time_duration.sum",
    "sm__cycles_active.avg.pct_of_peak_sustained_elapsed",
    "sm__inst_issued.avg.pct_of_peak_sustained_elapsed",
    "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed",
    "sm__inst_executed_pipe_tensor.avg.pct_of_peak_sustained_elapsed",
    "sm__warps_active.avg.pct_of_peak_sustained_active",
    "dram__bytes_read.sum",
    "dram__bytes_write.sum",
    "dram__bytes_read.sum.pct_of_peak_sustained_elapsed",
    "dram__bytes_write.sum.pct_of_peak_sustained_elapsed",
    "lts__t_sectors.sum",
    "launch__grid_size",
    "launch__block_size",
)


class Truth:
    """One run of the script: where things are, and a log of what was done."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.asked, self.out = arguments, arguments.out.absolute()
        self.out.mkdir(parents=True, exist_ok=True)
        self.began, self.work = time.monotonic(), self.out / "work"
        self.work.mkdir(exist_ok=True)

    def say(self, text: str) -> None:
        line = f"{time.monotonic() - self.began:6.1f} s  {text}"
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        with (self.out / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"{line}\n")

    def do(self, what: str, *command: str | Path, seconds: float = 200) -> str | None:
        """Standard output of a command; None where it failed, which is said."""
        began = time.monotonic()
        try:
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=seconds, check=False)
        except (subprocess.TimeoutExpired, OSError) as error:
            self.say(f"{what}: {error}")
            return None
        if done.returncode:
            self.say(
                f"{what}: exit code {done.returncode}: {' / '.join((done.stderr + done.stdout).splitlines()[-6:])}"
            )
            return None
        self.say(f"{what}: {time.monotonic() - began:.1f} s")
        return done.stdout

    def in_time(self, what: str) -> bool:
        left = time.monotonic() - self.began < self.asked.seconds
        if not left:
            self.say(f"{what}: left out, the time is up")
        return left

    def asks(self, name: str) -> bool:
        return not self.asked.engine or name in self.asked.engine

    def engines(self) -> dict[str, Path]:
        """Engines by name: those that were given, and those that could be built."""
        given = [name for name in GIVEN if self.asks(name)] if self.asked.models else []
        found = {name: self.asked.models / f"{name}.engine" for name in given}
        made = {name: self.work / f"{name}.engine" for name in MADE if self.asks(name)}

        def build(name: str) -> None:
            if not made[name].exists():
                self.do(f"build {name}", self.asked.python, PROGRAM, "build", name, made[name], seconds=240)

        with ThreadPoolExecutor(len(MADE)) as pool:
            list(pool.map(build, made))
        return {name: file for name, file in {**made, **found}.items() if file.exists()}

    def capture(self, name: str, target: str, *arguments: str | Path) -> Path | None:
        folder = self.work / f"{target}.capture"
        if not folder.exists():
            command = [sys.executable, "-m", "nsight_tools", "capture", "-o", folder, "--no-analyze"]
            self.do(f"capture {target}", *command, "--nsys", self.asked.nsys, *arguments)
        report = next(iter(folder.glob("*.nsys-rep")), None)
        if report is None:
            self.say(f"{name}: no report in {folder.name}")
            return None
        export = self.out / f"{target}.sqlite"
        options = ["--type=sqlite", "--force-overwrite=true", f"--output={export}"]
        self.do(f"export {target}", self.asked.nsys, "export", *options, report)
        return folder

    def traced(self, name: str, engine: Path, hz: int, count: int) -> None:
        """Inferences back to back, fewer of long ones, with GPU metrics."""
        program = [self.asked.python, PROGRAM, "run", engine, INFERENCES.get(name, count)]
        options = ["--gpu-metrics", str(hz), "--capture-range", "--no-untraced"]
        target = f"{name}_{hz}" if count == 300 else f"{name}_{hz}_{count}"
        self.capture(name, target, *options, "--", *map(str, program))

    def captured(self, name: str, engine: Path) -> None:
        """As a user does it: an inference at a time, with layer ranges, and the engine's layers."""
        options = ["--gpu-metrics", "--single-pass", "--no-data-transfers", "--iterations", "200"]
        folder = self.capture(name, f"{name}_captured", *options, "--python", self.asked.python, engine)
        if folder and (layers := folder / "layers.json").exists():
            (self.out / f"{name}_layers.json").write_bytes(layers.read_bytes())

    def counted(self, name: str, engine: Path) -> None:
        """Nsight Compute's counters of the kernels of two inferences."""
        said = self.do(
            f"ncu {name}", self.asked.ncu, "--clock-control", "none", "--cache-control", "none",
            "--profile-from-start", "off", "--target-processes", "all",
            "--csv", "--page", "raw", "--print-units", "base",
            "--metrics", ",".join(METRICS), self.asked.python, PROGRAM, "run", engine, "2",
        )  # fmt: skip
        if said is None:
            return
        (self.work / f"{name}_ncu.raw").write_text(said, encoding="utf-8")
        if '"ID"' not in said:
            self.say(f"ncu {name}: no counters: {' / '.join(said.splitlines()[-6:])}")
            return
        rows = list(csv.DictReader(io.StringIO(said[said.index('"ID"') :])))
        columns = [name for name in METRICS if rows and name in rows[0]]
        kernels = [row for row in rows if row["ID"].isdigit()]
        with (self.out / f"{name}_ncu.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            units = next((row for row in rows if not row["ID"]), {})
            file.write(f"# units: {', '.join(f'{each} {units.get(each)}' for each in columns)}\n")
            writer.writerow(["inference", "index", "kernel name", *columns])
            half = len(kernels) // 2
            for at, row in enumerate(kernels):
                place = [at // half, at % half] if half else [0, at]
                writer.writerow([*place, row["Kernel Name"], *(row[each].replace(",", "") for each in columns)])

    def make(self) -> None:
        engines = self.engines()
        self.say(f"engines: {', '.join(engines)}")
        for name, engine in engines.items():
            if self.in_time(name):
                self.counted(name, engine)
                self.traced(name, engine, *RATES.get(name, USUAL)[0])
        for name, engine in engines.items():
            if name in MADE and name not in RATES and self.in_time(f"{name}, captured"):
                self.captured(name, engine)
        for name, engine in engines.items():
            for hz, count in RATES.get(name, USUAL)[1:]:
                if self.in_time(f"{name}, {hz} Hz, {count:,} inferences"):
                    self.traced(name, engine, hz, count)
        if "det_static" in engines and not self.asked.no_cost and self.in_time("what GPU metrics cost"):
            self.cost(engines["det_static"])
        self.pack()

    def cost(self, engine: Path) -> None:
        """run.json of two captures, which time the same untraced and traced: with GPU metrics, and without."""
        for name, metrics in (("with", ["--gpu-metrics"]), ("without", ["--no-gpu-metrics"])):
            options = [*metrics, "--duration", "1", "--python", self.asked.python]
            folder = self.capture("cost", f"cost_{name}", *options, engine)
            if folder and (run := folder / "run.json").exists():
                (self.out / f"cost_{name}.json").write_bytes(run.read_bytes())

    def pack(self) -> None:
        """All results in one archive, in parts: cat limits.tar.xz.* | tar -xJ"""
        whole = io.BytesIO()
        with tarfile.open(fileobj=whole, mode="w:xz", preset=1) as packed:
            for file in sorted(self.out.iterdir()):
                if file.suffix in {".sqlite", ".csv", ".json", ".txt"}:
                    packed.add(file, file.name)
        content = whole.getvalue()
        for at in range(0, len(content), PART_BYTES):
            (self.out / f"limits.tar.xz.{at // PART_BYTES}").write_bytes(content[at : at + PART_BYTES])
        self.say(f"{len(content) >> 10:,} KiB packed")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", type=Path, help="folder with cls_static.engine and det_static.engine")
    parser.add_argument("--python", default=os.environ.get("NSIGHT_TOOLS_PYTHON", sys.executable), help="has tensorrt")
    parser.add_argument("--nsys", default="nsys")
    parser.add_argument("--ncu", default="ncu")
    parser.add_argument("--engine", action="append", choices=[*MADE, *GIVEN], help="only this one; more than once")
    parser.add_argument("--no-cost", action="store_true", help="leave out what GPU metrics cost")
    parser.add_argument("--seconds", type=float, default=420, help="begin nothing new after so long")
    return parser.parse_args()


if __name__ == "__main__":
    Truth(parsed()).make()
