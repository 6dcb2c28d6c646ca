"""`nsight-tools tune`: makes the change that the findings name, keeps it where it is faster, and again."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nsight_tools.cli import capture, importing, output, settings, tune_program
from nsight_tools.report import formats

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsight_tools.capture.supervised import Interrupts
    from nsight_tools.tune.ledger import Ledger
    from nsight_tools.tune.loop import Budget, Loop
    from nsight_tools.tune.settings import Setting

SUFFIX = ".tune"
PAGE = "tune.html"


def _budget(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Budget | None:
    """A time as `20m`, or a number of runs as `40`."""
    from nsight_tools.tune.loop import Budget

    if value is None:
        return None
    if (time := settings.time_of(value, "s", "m", "min", "h")) is not None:
        return Budget(seconds=time / 1e9)
    runs = re.fullmatch(r"\s*(\d+)\s*(runs?)?\s*", value)
    if runs is None or not int(runs[1]):
        raise click.BadParameter(f"'{value}' is no time, as 20m, and no number of runs, as 40")
    return Budget(runs=int(runs[1]))


@click.command(
    "tune",
    cls=capture.WithCommand,
    short_help="Make the changes that findings name, and keep what is faster.",
    epilog="""\b
Example:
  nsight-tools tune model.engine --pageable
  nsight-tools tune model.onnx --goal latency --budget 20m
  nsight-tools tune -- python serve.py
""",
)
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.option("-o", "--output", "target", metavar="DIR", type=click.Path(path_type=Path), help="Default: <name>.tune.")
@click.option("--force", is_flag=True, help="Replace a tuning of that name.")
@click.option(
    "--goal",
    type=click.Choice(["throughput", "latency"]),
    default="throughput",
    show_default=True,
    help="The time of an input, completion to completion; or that of the median inference. COMMAND: what compare leads "
    "with, unless given.",
)
@click.option(
    "--budget", metavar="TIME|RUNS", callback=_budget, help="What all of it may take: 20m, or 40 runs and captures."
)
@click.option(
    "--most-streams",
    metavar="N",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Streams that are tried at most.",
)
@click.option(
    "--continue",
    "further",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="COMMAND: capture it again after a change, judge that, and name the next one.",
)
@settings.retry_failed
@importing.requests_options
@click.pass_context
def command(ctx: click.Context, /, model: Path | None, target: Path | None, **options: Any) -> None:
    """Tune MODEL: trace it, try the change that promises most, and repeat. It starts from the options that are given.

    Each change is measured without the profiler, in turn with the best so far (A B A B), and kept where the interval
    says that it is faster, and its outputs are still right. All goes into a folder: each capture, ledger.json, and
    tune.html. Ctrl-C ends it at any time, and the same command goes on from there. It touches no clocks.

    Of a COMMAND, which only its author can change, it names the next change; --continue DIR captures it again, says
    what became of the change, and names the next.
    """
    wrapped: list[str] | None = ctx.meta["command"]
    if options["further"] is not None or wrapped is not None:
        _program(ctx, model, target, wrapped, options)
        return
    if model is None:
        raise click.UsageError("give a MODEL, a command after --, or --continue DIR")
    tune_program.refuse_program_options(ctx)
    from nsight_tools.capture import privacy
    from nsight_tools.capture.options import model_of
    from nsight_tools.errors import NsightToolsError

    privacy.hide()
    target = target or Path(f"{model.stem}{SUFFIX}")
    with settings.interrupts().handled() as interrupts:
        ledger, interrupted = _tuned(ctx, model_of(model), target, options, interrupts)
    if ledger.first is not None:
        for line in _text(ledger):
            settings.tell(line)
    if ledger.ended == "budget" and not any(step.outcome for step in ledger.steps):
        raise NsightToolsError("--budget: spent before one step was judged", hint="with more, the same command goes on")
    if interrupted:
        output.say(f"interrupted: {settings.GOES_ON if ledger.first else 'nothing was measured'}")
        ctx.exit(130)


_RECORDING = ("graphs", "gpu_metrics", "gpu_metrics_hz", "memory_usage", "nsys_args")
settings.add(command, (*settings.RUN, *settings.BUILD, *settings.GIVEN, *settings.OUTPUTS, *_RECORDING))
settings.add(command, (*tune_program.CAPTURED_OTHERWISE, *settings.PROGRAM, "nsys"))


def _program(
    ctx: click.Context, model: Path | None, target: Path | None, wrapped: list[str] | None, options: dict[str, Any]
) -> None:
    further = options["further"]
    if model is not None or (further is not None and target is not None) or (further is None and not wrapped):
        raise click.UsageError("give a MODEL, or a command after --, or --continue DIR and maybe a command")
    tune_program.refuse_engine_options(ctx)
    if ctx.get_parameter_source("goal") is not click.core.ParameterSource.COMMANDLINE:
        options |= {"goal": None}  # what leads a comparison follows from what runs
    asked = tune_program.given(ctx, options)
    if further is not None:
        tune_program.go_on(further, wrapped or (), options, asked)
    else:
        tune_program.begin(wrapped or (), target, options, asked)


def _tuned(
    ctx: click.Context, model: Path, target: Path, options: dict[str, Any], interrupts: Interrupts
) -> tuple[Ledger, bool]:
    """The ledger at the end, and whether Ctrl-C was that."""
    from nsight_tools.capture.options import InterruptedCaptureError
    from nsight_tools.tune import kept
    from nsight_tools.tune import ledger as ledgers
    from nsight_tools.tune.settings import Setting

    start = Setting.of({name: options[name] for name in (*settings.RUN, *settings.BUILD)})
    read, typed = settings.given(ctx, options, (*settings.GIVEN, *settings.OUTPUTS))
    _refuse_budget(options["budget"], read)
    loop, probe = _loop(model, target, start, read, options, interrupts)
    about = kept.about("tune", model, typed, probe) | {"start": start.as_json(), "goal": options["goal"]}
    with kept.opened(target, about, force=options["force"]):
        file = target / ledgers.LEDGER
        if file.exists():
            loop.ledger = ledgers.read(file)
            steps = loop.ledger.steps
            output.say(f"going on with {target}: {len(steps)} steps were begun")
            if options["retry_failed"]:
                loop.retried = len(steps)
            elif many := sum(step.failed for step in steps):
                output.say(settings.failed_before(many))
        loop.ledger.about = about
        interrupted = False
        try:
            loop.run()
        except (InterruptedCaptureError, KeyboardInterrupt):
            interrupted = True
        finally:
            if loop.ledger.first is not None:
                loop.keep(loop.ledger)
                settings.write_page(target / PAGE, formats.TUNING, loop.ledger)
                output.say(f"the ledger is in {target}")
    return loop.ledger, interrupted


def _refuse_budget(budget: Budget | None, read: dict[str, Any]) -> None:
    from nsight_tools.errors import NsightToolsError
    from nsight_tools.tune.loop import LEAST_RUNS

    if budget is None:
        return
    least = (read["duration"] + read["warm_up"] / 1e3) * LEAST_RUNS
    if budget.runs is not None and budget.runs < LEAST_RUNS:
        raise NsightToolsError(f"--budget {budget.runs}: one step takes {LEAST_RUNS} runs", hint="allow more")
    if budget.seconds is not None and budget.seconds < least:
        raise NsightToolsError(
            f"--budget {budget.seconds:g}s: one step takes {LEAST_RUNS} runs, {least:.2g} s at the least",
            hint="allow more, or shorter ones with --duration",
        )


def _loop(
    model: Path, target: Path, start: Setting, read: dict[str, Any], options: dict[str, Any], interrupts: Interrupts
) -> tuple[Loop, dict[str, Any]]:
    """The loop over a GPU, and what its runner's Python has. Raises CaptureError where something is missing."""
    from nsight_tools import nsys
    from nsight_tools.capture import processes
    from nsight_tools.capture.benchmark import Bench
    from nsight_tools.capture.options import ONNX, Checking, Recording, refuse_to_build
    from nsight_tools.report.content import TraceReport
    from nsight_tools.summary import summarize
    from nsight_tools.tune import kept
    from nsight_tools.tune import ledger as ledgers
    from nsight_tools.tune.candidates import Chooser
    from nsight_tools.tune.loop import Budget, Loop
    from nsight_tools.tune.outputs import Outputs
    from nsight_tools.tune.running import Running
    from nsight_tools.tune.tracing import Tracing
    from nsight_tools.worth import plan

    def headline(name: str, trace: Any, outcomes: Any) -> str:
        report = TraceReport(name, summarize(trace), outcomes)
        return TraceReport(name, report.summary, outcomes, plan(trace, report.findings)).verdict

    installed = nsys.find(options["nsys"])
    python = processes.resolve_python(options["python"], sys.executable)
    builds = model.suffix == ONNX
    most = max(options["most_streams"], start.get("streams"), start.get("threads"))
    bench = Bench(model, target / kept.ENGINES, python, output.say, interrupts, options["telemetry_hz"], most)
    running = Running(bench, read)
    load, build = running.asked(start)
    if not builds:
        refuse_to_build(model, build)
    probe = bench.probe(load, build)
    recording = Recording(**{name: options[name] for name in _RECORDING})
    gate = Outputs(running, target, Checking(options["reference"], tuple(options["accuracy"])))
    keep: Callable[[Ledger], None] = lambda ledger: ledgers.write(target / ledgers.LEDGER, ledger)  # noqa: E731
    loop = Loop(
        ledger=ledgers.Ledger({}, options["goal"], start, reference=gate.name),
        measurer=running,
        tracer=Tracing(running, target, installed, recording, headline),
        chooser=Chooser(options["goal"], builds, options["most_streams"]),
        keep=keep,
        say=output.say,
        gate=gate,
        budget=options["budget"] or Budget(),
    )
    bench.left_s = loop.left_s
    return loop, probe


def _text(ledger: Ledger) -> Any:
    from nsight_tools.report import tuned

    return tuned.text(ledger)
