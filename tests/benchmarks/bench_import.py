"""How long an import takes, and how much memory: beside a bare scan of the export, and beside what others make of it.

    python tests/benchmarks/bench_import.py [--kernels 100000 400000 1200000] [--source EXPORT.sqlite]
        [--peers PYTHON] [--report REPORT.nsys-rep --nsys NSYS] [--keep FOLDER]

One run measures everything, each stage in a process of its own, one after the other over the same file, which is in
the file cache; of `--rounds` times the least is taken. `--peers` is a Python that has connectorx and nsys-ai.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent))

from repeat import kernels_of, repeat, times_for
from stages import DERIVED_AT, NOT_INSTALLED, STAGES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SAMPLE = ROOT / "sample_traces" / "classifier_sync.sqlite"
SIZES = (100_000, 400_000, 1_200_000)
OF_PEERS = ("connectorx", "nsys-ai")
TABLES = "  tables"
EXPORT, REPORT = "nsys export", "import .nsys-rep"
STARTS = 5


@dataclass(frozen=True)
class Measured:
    """A process from start to end: seconds on the clock, and MB (10^6 bytes) that it held at most; or why not.

    Where it had others beside it, what they held together: what they shared counts once (PSS, looked at now and then).
    """

    wall_s: float = 0.0
    peak_mb: float = 0.0
    missing: str = ""
    tables_s: float | None = None
    """Of an import: until the tables that stand in the export were written, and the derived ones began."""
    cpu_s: float = 0.0


def held_mb(pid: int) -> tuple[float, int]:
    """MB that a process and those below it hold now, and how many they are."""
    total, number = 0.0, 0
    with suppress(OSError):
        number = 1
        found = re.search(r"Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii"))
        total = int(found[1]) * 1024 / 1e6 if found else 0.0
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split():
            its, more = held_mb(int(child))
            total, number = total + its, number + more
    return total, number


@contextmanager
def watched(pid: int, every_s: float = 0.02) -> Iterator[list[float]]:
    """What a process held together with others beside it, while there were any; looking costs it some time."""
    sums: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(every_s):
            total, number = held_mb(pid)
            if number > 1:
                sums.append(total)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield sums
    finally:
        over.set()
        thread.join()


def run(command: Sequence[str | Path], *, watch: bool = False) -> Measured:
    """Run `command`, with the code beside this script; `watch` what its processes hold together."""
    start, began = time.perf_counter(), time.time()
    process = subprocess.Popen(
        list(map(str, command)),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "analyses")))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    with process, watched(process.pid) if watch else nullcontext([]) as together:
        assert process.stdout
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode == NOT_INSTALLED:
        return Measured(missing="not installed")
    if process.returncode:
        return Measured(missing=f"failed: {' '.join(said.strip().splitlines()[-1:])[:160]}")
    derived = [float(line.removeprefix(DERIVED_AT)) for line in said.splitlines() if line.startswith(DERIVED_AT)]
    tables_s = derived[0] - began if derived else None
    cpu_s = usage.ru_utime + usage.ru_stime
    return Measured(wall, max([usage.ru_maxrss * 1024 / 1e6, *together]), tables_s=tables_s, cpu_s=cpu_s)


def least(results: Sequence[Measured]) -> Measured:
    """The quickest of some rounds, with the most memory that one of them held."""
    best = min(results, key=lambda one: one.wall_s)
    tables = [one.tables_s for one in results if one.tables_s is not None]
    most = max(one.peak_mb for one in results)
    return replace(best, peak_mb=most, tables_s=min(tables) if tables else None)


def stage(name: str, source: Path, folder: Path, python: str, *, watch: bool) -> Measured:
    """One stage over `source`, which writes into a new `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return run([python, HERE / "stages.py", name, source, folder], watch=watch)


def measure(source: Path, folder: Path, rounds: int, peers: str) -> dict[str, Measured]:
    """Every stage over `source`; the rounds take turns, so that a machine that is busy for a while meets them all.

    Memory is watched in the first one.
    """
    found: dict[str, list[Measured]] = {name: [] for name in STAGES}
    for number in range(rounds):
        for name, results in found.items():
            if not number or not results[0].missing:
                python = peers if name in OF_PEERS else sys.executable
                results.append(stage(name, source, folder / name, python, watch=not number))
    return {name: least(results) for name, results in found.items()}


def measure_report(report: Path, nsys: str, folder: Path, rounds: int) -> dict[str, Measured]:
    """`nsys export` of a report to Parquet, and the import of that report, which exports it first."""
    found: dict[str, list[Measured]] = {EXPORT: [], REPORT: []}
    for _ in range(rounds):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        exporting = [nsys, "export", "--type=parquetdir", f"--output={folder / 'export'}", report]
        code = "import sys; from nsight_tools import import_report; import_report(*sys.argv[1:3], nsys=sys.argv[3])"
        found[EXPORT].append(run(exporting))
        found[REPORT].append(run([sys.executable, "-c", code, report, folder, nsys]))
    return {name: least(results) for name, results in found.items()}


def starts() -> Measured:
    """The command line's `--help`, the quickest of a few times."""
    command = [sys.executable, "-c", "from nsight_tools.cli import main; main()", "--help"]
    return least([run(command) for _ in range(STARTS)])


def print_table(title: str, measured: Mapping[str, Measured], base: str) -> None:
    """One line for each stage: its time, that over the base's, and by what the import is slower than it."""
    print(f"\n{title}")
    print(f"{'stage':<16} {'wall s':>8} {'x ' + base:>13} {'import x it':>12} {'peak MB':>8}")
    ours = measured.get("import") or measured[REPORT]
    for name, one in measured.items():
        if one.missing:
            print(f"{name:<16} {one.missing}")
            continue
        over_base, over_it = one.wall_s / measured[base].wall_s, ours.wall_s / one.wall_s
        print(f"{name:<16} {one.wall_s:8.2f} {over_base:13.2f} {over_it:12.2f} {one.peak_mb:8.0f}")
        if one.tables_s is not None:
            over_base, over_it = one.tables_s / measured[base].wall_s, one.tables_s / one.wall_s
            print(f"{TABLES:<16} {one.tables_s:8.2f} {over_base:13.2f}")


def print_growth(sizes: Sequence[int], found: Sequence[Mapping[str, Measured]]) -> None:
    """Seconds and MB that a million kernels more take, from each size to the next: level where growth is linear."""
    print("\nfor each million kernels more, with all that belongs to them")
    steps = [f"{low:,} - {high:,}" for low, high in pairwise(sizes)]
    print(f"{'stage':<16} " + " ".join(f"{step:>22}" for step in steps))
    for name in STAGES:
        cells = []
        for low, high, of_low, of_high in zip(sizes, sizes[1:], found, found[1:], strict=False):
            before, after, more = of_low[name], of_high[name], (high - low) / 1e6
            seconds, memory = (after.wall_s - before.wall_s) / more, (after.peak_mb - before.peak_mb) / more
            cells.append("-" if before.missing or after.missing else f"{seconds:.2f} s, {memory:.0f} MB")
        print(f"{name:<16} " + " ".join(f"{cell:>22}" for cell in cells))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure an import beside a scan and what others make of an export.")
    parser.add_argument("--kernels", type=int, nargs="+", default=SIZES, help="repeat the source to about so many")
    parser.add_argument("--source", type=Path, default=SAMPLE, help="export to repeat")
    parser.add_argument("--rounds", type=int, default=3, help="measure so often, and take the least")
    parser.add_argument("--peers", default=sys.executable, help="a Python that has connectorx and nsys-ai")
    parser.add_argument("--report", type=Path, help="a report to import, beside nsys' own export of it")
    parser.add_argument("--nsys", default=os.environ.get("NSIGHT_TOOLS_NSYS", "nsys"), help="the nsys to export with")
    parser.add_argument("--keep", type=Path, help="write here, and leave it there")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        sizes, found = [], []
        for kernels in arguments.kernels:
            long = folder / f"{kernels}.sqlite"
            repeat(arguments.source, long, times_for(arguments.source, kernels))
            measured = measure(long, folder / str(kernels), arguments.rounds, arguments.peers)
            sizes.append(kernels_of(long))
            found.append(measured)
            print_table(f"{sizes[-1]:,} kernels, {long.stat().st_size / 1e6:,.0f} MB of SQLite", measured, "floor")
        if len(sizes) > 1:
            print_growth(sizes, found)
        if arguments.report:
            of_report = measure_report(arguments.report, arguments.nsys, folder / "report", arguments.rounds)
            print_table(f"{arguments.report.name}, {arguments.report.stat().st_size / 1e6:,.1f} MB", of_report, EXPORT)
        start = starts()
        print(f"\n{'--help':<16} {start.wall_s:8.2f} {start.peak_mb:35.0f}")


if __name__ == "__main__":
    main()
