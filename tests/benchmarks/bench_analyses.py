"""How long the analyses take, how much memory they need, and how both grow with the trace.

    python tests/benchmarks/bench_analyses.py [--kernels 1000000 5000000] [--source EXPORT.sqlite] [--keep FOLDER]

For each size a long trace is made of a short one and imported; then each of these runs in a process of its own:

import   `nsight-tools import`: what must be there before anything below
rules    every installed analysis, over the dataset
summary  what reports print beside the findings, over the dataset
analyze  `nsight-tools analyze` over the dataset, end to end
report   `nsight-tools report`: one HTML page with its figures
fresh    `nsight-tools analyze` over the export: the import and all of the above but the page
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from typing import TYPE_CHECKING

from bench_import import SAMPLE, Measured, run
from repeat import kernels_of, repeat, times_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SIZES = (1_000_000, 1_200_000, 5_000_000)
RESULT = "result"
"""What a stage found, beside its dataset: `<stage>.json` or `report.html` in this folder."""


def rules(dataset: Path, result: Path) -> None:
    """Every analysis, and what each found."""
    from nsight_tools import analyze, open_trace

    outcomes = analyze(open_trace(dataset))
    found = {one.code: [one.status.value, *(each.message for each in one.findings)] for one in outcomes}
    (result / "rules.json").write_text(json.dumps(found), "utf-8")


def summary(dataset: Path, result: Path) -> None:
    """The summary of a trace."""
    from nsight_tools import open_trace, summarize

    (result / "summary.json").write_text(json.dumps(asdict(summarize(open_trace(dataset)))), "utf-8")


STAGES: dict[str, Callable[[Path, Path], None]] = {"rules": rules, "summary": summary}


def command(stage: str, export: Path, dataset: Path, result: Path) -> list[str]:
    """The command line of a stage."""
    cli = [sys.executable, "-c", "from nsight_tools.cli import main; main()"]
    to_json = ["--format", "json", "--output"]
    commands = {
        "import": [*cli, "import", str(export), "--output", str(dataset.parent)],
        "analyze": [*cli, "analyze", str(dataset), *to_json, str(result / "analyze.json")],
        "report": [*cli, "report", str(dataset), "--output", str(result / "report.html")],
        "fresh": [*cli, "analyze", str(export), *to_json, str(result / "fresh.json")],
    }
    return commands.get(stage) or [sys.executable, __file__, "--stage", stage, str(dataset), str(result)]


def measure(source: Path, kernels: int, folder: Path) -> dict[str, Measured]:
    """Each stage over a trace of about so many kernels, which is made in `folder`."""
    export, result = folder / "long.sqlite", folder / RESULT
    dataset = folder / "imported" / f"{export.name}.trace"
    for path in (result, dataset.parent):
        path.mkdir(parents=True)
    repeat(source, export, times_for(source, kernels))
    stages = ("import", "rules", "summary", "analyze", "report", "fresh")
    measured = {stage: run(command(stage, export, dataset, result), watch=True) for stage in stages}
    print(f"\n{kernels_of(export):,} kernels, {export.stat().st_size / 2**20:,.0f} MiB of SQLite")
    print(f"{'stage':<8} {'wall s':>8} {'CPU s':>8} {'peak MB':>9}")
    for stage, m in measured.items():
        print(f"{stage:<8} {m.missing or f'{m.wall_s:8.2f} {m.cpu_s:8.2f} {m.peak_mb:9.0f}'}", flush=True)
    return measured


def growth(sizes: Sequence[int], measured: Sequence[Mapping[str, Measured]]) -> None:
    """Print how much longer the longest trace takes than the shortest."""
    first, last = measured[sizes.index(min(sizes))], measured[sizes.index(max(sizes))]
    print(f"\n{max(sizes) / min(sizes):.1f} x as many kernels")
    print(f"{'stage':<8} {'x wall':>8} {'x CPU':>8} {'x peak':>9}")
    for stage, one in first.items():
        other = last[stage]
        if one.missing or other.missing:
            continue
        wall, cpu, peak = other.wall_s / one.wall_s, other.cpu_s / one.cpu_s, other.peak_mb / one.peak_mb
        print(f"{stage:<8} {wall:8.2f} {cpu:8.2f} {peak:9.2f}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure the analyses, and how they grow.")
    parser.add_argument("--kernels", type=int, nargs="+", default=list(SIZES), help="repeat the source to so many")
    parser.add_argument("--source", type=Path, default=SAMPLE, help="export to repeat")
    parser.add_argument("--keep", type=Path, help="write here, and leave it there")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("paths", type=Path, nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        STAGES[arguments.stage](*arguments.paths)
        return
    measured = []
    for kernels in arguments.kernels:
        with ExitStack() as stack:
            folder = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            each = folder / str(kernels)
            each.mkdir(parents=True)
            measured.append(measure(arguments.source, kernels, each))
            if arguments.keep is None:
                shutil.rmtree(each)
    if len(measured) > 1:
        growth(arguments.kernels, measured)


if __name__ == "__main__":
    main()
