"""What was promised against what came: over captures whose untraced truth is known, by method.

    python tests/benchmarks/promises.py [FOLDER …] [--with-measured] [--as-shipped]

A folder holds exports and a `truth.json` as the corpus of pairs has them (its README says how), or run directories
of `nsight-tools capture`. Without any: those of the corpus, and `sample_traces`. For each pair that is known the table
has what came without the profiler, what was promised with and without the untraced run of *before* (never of *after*),
the interval and the method; below it by method the error (as a share of the untraced wall before), how often the
interval held, and how wide it was. Then the wall of each run without the profiler, told from its trace alone.

Beside the pairs of `truth.json` its captures know more: the throughput with transfers overlapped, which is a pair with
the same capture's own, or with that of the same engine as a graph. What was measured so is only given to the tool
`--with-measured`; then there is nothing left to promise.

The constants of `nsight_tools.worth.known` that differ by engine are those of the other engines, for each engine that
is scored; `--as-shipped` leaves them as they are.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from shared_corpus import CORPUS, REPOSITORY, decompress

from nsight_tools import open_trace
from nsight_tools.worth import Pricing, Untraced, Worth, known
from nsight_tools.worth.ranges import Range

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nsight_tools.trace import Trace

GRAPH, PINNED, SPIN, OVERLAP = (
    ("use_cuda_graph", True),
    ("pageable", False),
    ("use_spin_wait", True),
    ("overlap_transfers", True),
)
CHANGES: dict[str, tuple[tuple[str, object], ...]] = {
    "CUDA graph": (GRAPH,),
    "pinned memory": (PINNED,),
    "spin wait": (SPIN,),
    "transfers overlapped with computing": (OVERLAP,),
    "four streams": (("streams", 4),),
    "four threads, a stream each": (("threads", 4), ("streams", 4)),
    "one thread for four streams": (("threads", 1),),
}
NEAR_GAIN, NEAR_WALL = 0.2, 0.03
"""A promise is near what came where it is off by no more than these shares of the gain, or of the wall."""


@dataclass(frozen=True)
class Run:
    """A capture: its trace, its engine, and what it measured without the profiler."""

    name: str
    engine: str
    trace: Trace
    untraced: Untraced


@dataclass(frozen=True)
class Pair:
    """A run, what was changed, and what came of it without the profiler, ns: of the wall and of the period."""

    before: Run
    name: str
    change: tuple[tuple[str, object], ...]
    wall: float | None
    period: float


@dataclass(frozen=True)
class Score:
    """A promise beside what came, ns."""

    pair: Pair
    worth: Worth
    came: float
    given: bool
    """Whether the untraced run of before was given."""

    @property
    def error(self) -> float:
        """As a share of the wall before."""
        return abs(self.worth.point_ns - self.came) / self.pair.before.untraced.wall

    @property
    def width(self) -> float:
        return (self.worth.high_ns - self.worth.low_ns) / self.pair.before.untraced.wall

    @property
    def holds(self) -> bool:
        return self.worth.low_ns <= self.came <= self.worth.high_ns

    @property
    def near(self) -> bool:
        return self.error <= NEAR_WALL or abs(self.worth.point_ns - self.came) <= NEAR_GAIN * abs(self.came)

    @property
    def method(self) -> str:
        return self.worth.method.split(maxsplit=1)[0].rstrip(":")


def engine_of(name: str) -> str:
    """The engine, as `known` names it: det_static_graph and detector_pageable are det, classifier_mixed is cls."""
    short = {"detector": "det", "classifier": "cls"}
    first = name.partition("_")[0]
    return short.get(first, first)


@contextmanager
def left_out(engine: str) -> Iterator[None]:
    """The constants that differ by engine, as they would be without this one."""
    shipped = known.SHARE, known.IN_GRAPH_NS
    try:
        if engine in known.SHARES:
            known.SHARE = float(np.mean([share for name, share in known.SHARES.items() if name != engine]))
        if engine in known.IN_GRAPH:
            others = [each for name, each in known.IN_GRAPH.items() if name.partition(" ")[0] != engine]
            known.IN_GRAPH_NS = Range.over(others, known.IN_GRAPH_BESIDE)
        yield
    finally:
        known.SHARE, known.IN_GRAPH_NS = shipped


def runs_of(folder: Path, scratch: Path) -> dict[str, Run]:
    """The captures of a folder by name."""
    runs = {}
    truth = folder / "truth.json"
    captures = json.loads(truth.read_text("utf-8"))["captures"] if truth.is_file() else {}
    for name, capture in captures.items():
        export = scratch / f"{name}.sqlite"
        packed = folder / f"{name}.sqlite.zst"
        if packed.is_file():
            decompress(packed, export)
        else:
            export.write_bytes((folder / export.name).read_bytes())
        runs[name] = Run(name, engine_of(name), open_trace(export), Untraced.from_medians(capture["untraced"]))
    for capture in sorted(folder.glob("*.capture")):
        place = scratch / capture.name
        place.mkdir()
        for file in capture.iterdir():
            if file.is_file() and file.suffix != ".nsys-rep":
                (place / file.name).write_bytes(file.read_bytes())
        trace = open_trace(place / "report.sqlite")
        if (untraced := Untraced.of(trace)) is not None:
            runs[capture.stem] = Run(capture.stem, engine_of(capture.stem), trace, untraced)
    return runs


def pairs_of(folder: Path, runs: Mapping[str, Run]) -> Iterator[Pair]:
    """The pairs of a folder: those of its `truth.json`, and those that captures make with their own overlapped run."""
    truth = folder / "truth.json"
    for pair in json.loads(truth.read_text("utf-8"))["pairs"] if truth.is_file() else ():
        gain = pair["gain"]
        wall, period = (1e3 * gain[name] for name in ("wall_us", "time_per_inference_us"))
        yield Pair(runs[pair["before"]], pair["change"], CHANGES[pair["change"]], wall, period)
    for run in runs.values():
        alone = Pricing.of(run.trace, run.untraced).per == "wall"
        for other, name, change in (
            (run, "overlapped, same capture", (OVERLAP,)),
            (runs.get(f"{run.name}_graph"), "graph and overlapped", (GRAPH, OVERLAP)),
        ):
            after = other.untraced.overlapped if other else None
            if alone and run.untraced.period and after:
                yield Pair(run, name, change, None, run.untraced.period - after)
    pageable, graph = runs.get("det_static_pageable"), runs.get("det_static_graph")
    if pageable and graph and pageable.untraced.period and graph.untraced.period:
        wall, period = pageable.untraced.wall - graph.untraced.wall, pageable.untraced.period - graph.untraced.period
        yield Pair(pageable, "pinned and graph", (PINNED, GRAPH), wall, period)


def scored(pair: Pair, *, given: bool, measured: bool, shipped: bool) -> Score:
    """What is promised for a pair; with the untraced run of before, where that is given."""
    untraced = pair.before.untraced if measured else replace(pair.before.untraced, overlapped=None)
    with left_out("" if shipped else pair.before.engine):
        worth = Pricing(pair.before.trace, untraced if given else None).price(dict(pair.change))
    came = pair.period if worth.per == "period" or pair.wall is None else pair.wall
    return Score(pair, worth, came, given)


def in_table(score: Score) -> str:
    """A line of the table, times in microseconds."""
    worth = score.worth
    times = (f"{value / 1e3:,.0f}" for value in (score.came, worth.point_ns, worth.low_ns, worth.high_ns))
    came, point, low, high = times
    promised = point if worth.promises else "-"
    wrong = "" if score.holds else " (does not hold)"
    given = "yes" if score.given else "no"
    return (
        f"|{score.pair.before.name}|{score.pair.name}|{given}|{worth.per}|{came}|{promised}|{low} to {high}{wrong}"
        f"|{score.method}|"
    )


def summary(name: str, scores: Sequence[Score]) -> str:
    """Error, coverage and width of some scores; the error of what promises something alone."""
    promised = [score for score in scores if score.worth.promises]
    error = f"{np.mean([score.error for score in promised]):.1%}" if promised else "-"
    near = f"{np.mean([score.near for score in promised]):.0%}" if promised else "-"
    holds, width = np.mean([score.holds for score in scores]), np.median([score.width for score in scores])
    return f"|{name}|{len(scores)}|{error}|{near}|{holds:.0%}|{width:.1%}|"


def walls(runs: Mapping[str, Run], *, shipped: bool) -> Iterator[tuple[str, bool, float]]:
    """A line for each run's wall, told from its trace alone; whether its interval holds, and how wide it is."""
    for run in runs.values():
        with left_out("" if shipped else run.engine):
            told = Pricing(run.trace, None).wall
        if told is not None:
            real, wall = run.untraced.wall, told.wall
            times = "|".join(f"{each / 1e3:,.0f}" for each in (real, wall.point))
            holds = wall.low <= real <= wall.high
            wrong = "" if holds else " (does not hold)"
            line = f"|{run.name}|{times}|{wall.low / 1e3:,.0f} to {wall.high / 1e3:,.0f}{wrong}|{told.source}|"
            yield line, holds, (wall.high - wall.low) / real


def record(folders: Sequence[Path], *, measured: bool = False, shipped: bool = False) -> tuple[str, list[Score]]:
    """The whole record as Markdown, and the scores in it."""
    scores: list[Score] = []
    told: list[tuple[str, bool, float]] = []
    for folder in folders:
        with tempfile.TemporaryDirectory() as scratch:
            runs = runs_of(folder, Path(scratch))
            options: Any = {"measured": measured, "shipped": shipped}
            scores += [
                scored(pair, given=given, **options) for pair in pairs_of(folder, runs) for given in (True, False)
            ]
            told += walls(runs, shipped=shipped)
    lines = ["|capture|change|untraced run given|per|came, µs|promised, µs|interval, µs|method|", "|---" * 8 + "|"]
    lines += [in_table(score) for score in scores]
    lines += ["", "|what|pairs|mean error|near|interval holds|median width|", "|---" * 6 + "|"]
    for given, name in ((True, "with the untraced run"), (False, "from the trace alone")):
        its = [score for score in scores if score.given == given]
        lines.append(summary(f"**{name}**, promises", [score for score in its if score.worth.promises]))
        for method in sorted({score.method for score in its}):
            lines.append(summary(f"{name}: {method}", [score for score in its if score.method == method]))
        for change in sorted({score.pair.name for score in its if score.worth.promises}):
            some = [score for score in its if score.worth.promises and score.pair.name == change]
            lines.append(summary(f"{name}: {change}", some))
    lines += ["", "|capture|wall without the profiler, µs|told, µs|interval, µs|by|", "|---" * 5 + "|"]
    lines += [line for line, _, _ in told]
    held, width = np.mean([holds for _, holds, _ in told]), np.median([each for _, _, each in told])
    lines += ["", f"Walls from the trace alone: {held:.0%} of {len(told)} intervals hold, median width {width:.1%}."]
    return "\n".join(lines), scores


def main() -> None:
    """Print the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--with-measured", action="store_true", help="give the overlapped untraced runs, too")
    parser.add_argument("--as-shipped", action="store_true", help="leave no engine out of the constants")
    arguments = parser.parse_args()
    standard = [folder for folder in (CORPUS / "pairs", REPOSITORY / "sample_traces") if folder.is_dir()]
    text, _ = record(arguments.folders or standard, measured=arguments.with_measured, shipped=arguments.as_shipped)
    print(text)


if __name__ == "__main__":
    main()
