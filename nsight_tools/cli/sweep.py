"""`nsight-tools sweep`: many settings of one model, each measured without the profiler."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nsight_tools.cli import output, settings
from nsight_tools.report import formats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsight_tools.capture.supervised import Interrupts
    from nsight_tools.errors import NsightToolsError
    from nsight_tools.report.swept import Swept
    from nsight_tools.tune.measuring import Measurer, Row
    from nsight_tools.tune.settings import Setting

SUFFIX = ".sweep"
MEASUREMENTS, PAGE = "measurements.parquet", "sweep.html"


def _limit(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """A time as `5ms`, in ns."""
    if value is None:
        return None
    time_ns = settings.time_of(value, "ns", "us", "µs", "ms", "s")
    if time_ns is None:
        raise click.BadParameter(f"'{value}' is no time, as 5ms or 800us")
    return time_ns


@click.command(
    "sweep",
    short_help="Measure many settings of an engine, without the profiler.",
    epilog="""\b
Example:
  nsight-tools sweep model.engine --streams 1,2,4 --use-cuda-graph both --latency-limit 5ms
""",
)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", "target", metavar="DIR", type=click.Path(path_type=Path), help="Default: <name>.sweep.")
@click.option("--force", is_flag=True, help="Replace a sweep of that name.")
@click.option(
    "--latency-limit",
    "limit",
    metavar="TIME",
    callback=_limit,
    help="Name the best setting with such a p99, as 5ms.",
)
@click.option(
    "--repeat",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Measure each setting N times, to see how much equal runs differ; all of them once before any again.",
)
@settings.retry_failed
@click.pass_context
def command(ctx: click.Context, /, model: Path, target: Path | None, limit: float | None, **options: Any) -> None:
    """Measure MODEL under every combination of settings, without the profiler, and say which to take.

    Options of how it is run and built take several values: --streams 1,2,4; a switch takes both. Each combination is a
    line: throughput, p50 and p99 of an inference, memory, and from --duration 10 on energy. All of it goes into a
    folder: measurements.parquet, and sweep.html with the front of throughput against p99. Ctrl-C keeps what was
    measured, and the same command goes on from there: what was measured is not measured again.
    """
    from nsight_tools.capture.options import model_of
    from nsight_tools.tune import kept
    from nsight_tools.tune.settings import product

    target = target or Path(f"{model.stem}{SUFFIX}")
    wanted = product({name: options[name] for name in (*settings.RUN, *settings.BUILD) if options[name] is not None})
    _refuse(wanted)
    read, typed = settings.given(ctx, options)
    with settings.interrupts().handled() as interrupts:
        measurer, probe = _running(model_of(model), target, read, wanted, options, interrupts)
        about = kept.about("sweep", model, typed, probe)
        with kept.opened(target, about, force=options["force"]):
            swept = _swept(target, about, wanted, options, measurer, limit)
    if swept.left:
        output.say(f"interrupted: {swept.left} runs are left; {settings.GOES_ON}")
        ctx.exit(130)
    _tell(swept)


settings.add(command, (*settings.RUN, *settings.BUILD), several=True)
settings.add(command, (*settings.GIVEN, *settings.PROGRAM))


def _refuse(wanted: Sequence[Setting]) -> None:
    from nsight_tools.capture.runner.options import BY_NAME, problems

    for setting in wanted:
        of_build = {name: value for name, value in setting.options if name in BY_NAME}
        if problem := next(problems(of_build), None):
            raise click.UsageError(problem)


def _running(
    model: Path,
    target: Path,
    read: dict[str, Any],
    wanted: Sequence[Setting],
    options: dict[str, Any],
    interrupts: Interrupts,
) -> tuple[Measurer, dict[str, Any]]:
    """What measures, and what it found of its Python and its GPU. Raises CaptureError where something is missing."""
    from nsight_tools.capture import processes
    from nsight_tools.capture.benchmark import Bench
    from nsight_tools.capture.options import ONNX, Build, refuse_to_build, settings_of
    from nsight_tools.tune import kept
    from nsight_tools.tune.running import Running
    from nsight_tools.tune.settings import conflict

    python = processes.resolve_python(options["python"], sys.executable)
    most = max(int(max(setting.get("streams"), setting.get("threads"))) for setting in wanted)
    if model.suffix != ONNX:
        varied = {name: value for setting in wanted for name, value in setting.options}
        refuse_to_build(model, Build(settings_of({**read, **varied})))
    bench = Bench(model, target / kept.ENGINES, python, output.say, interrupts, options["telemetry_hz"], most)
    running = Running(bench, read)
    possible = next((setting for setting in wanted if conflict(setting) is None), wanted[0])
    return running, bench.probe(*running.asked(possible))


def _swept(
    target: Path,
    about: dict[str, Any],
    wanted: Sequence[Setting],
    options: dict[str, Any],
    measurer: Measurer,
    limit: float | None,
) -> Swept:
    from nsight_tools.capture.options import InterruptedCaptureError
    from nsight_tools.report import swept
    from nsight_tools.tune import measuring, sweep

    table = target / MEASUREMENTS
    times = options["repeat"]
    rows = _before(table, wanted, options)
    lines = _Lines(swept.head())
    for setting in wanted:
        for row in rows:
            if row.setting == setting:
                lines.add(row)
    began, made = time.monotonic(), 0
    try:
        for row in sweep.measured(wanted, times, measurer, rows, partial(measuring.write_rows, table)):
            made += 1
            lines.add(row)
            remaining = len(sweep.left(wanted, rows, times))
            takes = remaining * (time.monotonic() - began) / made
            if remaining:
                output.say(f"{remaining} of {times * len(wanted)} runs are left, about {_minutes(takes)}")
    except (InterruptedCaptureError, KeyboardInterrupt):
        pass
    failed = [row for row in rows if row.measurement is None and row.setting in wanted]
    remaining = len(sweep.left(wanted, rows, times))
    measured = swept.Swept(about, sweep.points(rows, wanted), failed, limit, remaining)
    if not measured.points and failed and not remaining:
        table.unlink(missing_ok=True)
        raise _none(failed, lines)
    if measured.points:
        settings.write_page(target / PAGE, formats.SWEEP, measured)
        output.say(f"measured into {target}")
    return measured


def _before(table: Path, wanted: Sequence[Setting], options: dict[str, Any]) -> list[Row]:
    """The rows of a sweep that is gone on with, and what they spare."""
    from nsight_tools.tune import measuring, sweep

    rows: list[Row] = measuring.read_rows(table) if table.exists() else []
    if options["retry_failed"]:
        rows = sweep.without_failed(wanted, rows)
    times = options["repeat"]
    if kept := times * len(wanted) - len(sweep.left(wanted, rows, times)):
        output.say(f"{kept} of {times * len(wanted)} runs were made before")
    if many := len({row.setting for row in rows if row.measurement is None and row.setting in wanted}):
        output.say(settings.failed_before(many))
    return rows


def _none(failed: Sequence[Row], lines: _Lines) -> NsightToolsError:
    """That no setting could be measured: all for one reason, or each for its own, which are told."""
    from nsight_tools.errors import NsightToolsError

    if len({row.said for row in failed}) == 1:
        return NsightToolsError(f"no setting could be measured: {failed[0].said}")
    lines.tell()
    return NsightToolsError(f"no setting could be measured; the first: {failed[0].said}")


class _Lines:
    """The lines of the table as they come; those that failed are held back until one is measured.

    Of a model that can never be run all would say the same.
    """

    def __init__(self, head: str) -> None:
        self._held: list[str] | None = [head]

    def add(self, row: Row) -> None:
        from nsight_tools.report import swept

        if self._held is None:
            settings.tell(swept.line(row))
            return
        self._held.append(swept.line(row))
        if row.measurement is not None:
            self.tell()

    def tell(self) -> None:
        """Tell what is held back, and from now on each at once."""
        for line in self._held or ():
            settings.tell(line)
        self._held = None


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _tell(measured: Swept) -> None:
    from nsight_tools.report import swept

    for sentence in swept.answers(measured):
        settings.tell(sentence)
