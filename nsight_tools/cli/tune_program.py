"""`nsight-tools tune -- COMMAND` and `tune --continue`: for programs that only their authors can change."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nsight_tools.cli import output, settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nsight_tools.tune.programs import Named, Program, Seen

CAPTURED_OTHERWISE = ("untraced", "capture_range")
_RECORDING = (
    *(*CAPTURED_OTHERWISE, "graphs", "gpu_metrics", "gpu_metrics_hz", "telemetry_hz", "memory_usage"),
    "nsys_args",
)
_OPENED = ("inference_range", "group_by")
REMEMBERED = ("goal", *_OPENED, *_RECORDING)
"""Options of a tuning: `--continue` goes on with those that it was begun with."""
ALLOWED = (*REMEMBERED, "target", "force", "further", "nsys")
"""Options that a program has."""
SUFFIX = ".tune"
UNMARKED = (
    "no inference is known, and without any no change can be judged: name their NVTX ranges with --inference-range, or "
    "mark them with nsight_tools.inference()"
)


def refuse_engine_options(ctx: click.Context) -> None:
    """Raises UsageError for an option that only a model has."""
    for option in ctx.command.params:
        if _is_given(ctx, option) and option.name not in ALLOWED:
            raise click.UsageError(f"{option.opts[0]} is an option of a MODEL, not of a command")


def refuse_program_options(ctx: click.Context) -> None:
    """Raises UsageError for an option that only a command has."""
    for option in ctx.command.params:
        if _is_given(ctx, option) and option.name in (*CAPTURED_OTHERWISE, *_OPENED):
            raise click.UsageError(f"{option.opts[0]} is an option of a command, not of a MODEL")


def _is_given(ctx: click.Context, option: click.Parameter) -> bool:
    return ctx.get_parameter_source(option.name or "") is click.core.ParameterSource.COMMANDLINE


def given(ctx: click.Context, options: dict[str, Any]) -> dict[str, Any]:
    """The options to remember, by name, that were given on the command line."""
    names = [option.name for option in ctx.command.params if _is_given(ctx, option)]
    return {name: options[name] for name in REMEMBERED if name in names}


def begin(command: Sequence[str], target: Path | None, options: dict[str, Any], asked: dict[str, Any]) -> None:
    """Capture a program, and name the first change; `asked` are the options that were `given`."""
    from nsight_tools.errors import OutputError
    from nsight_tools.tune import programs
    from nsight_tools.tune.ledger import LEDGER

    target = target or Path(f"{Path(command[0]).name}{SUFFIX}")
    if (target / LEDGER).exists() and not options["force"]:
        hint = f"go on with it: nsight-tools tune --continue {shlex.quote(str(target))}; or start over with --force"
        raise OutputError(target, "exists", hint=hint)
    if target.exists() and any(target.iterdir()) and not (target / LEDGER).exists():
        raise OutputError(target, "holds something else", hint="name another folder with -o")
    made = not target.exists()
    target.mkdir(parents=True, exist_ok=True)
    try:
        watcher = _Watcher(target, options)
        if (target / LEDGER).exists():  # begun anew: its ledger goes first, so that it never names what is gone
            (target / LEDGER).unlink()
            for left in target.glob("*.capture"):
                shutil.rmtree(left)
        program = programs.begin(command, watcher)
        program.options = asked
        programs.write(target / LEDGER, program)
    finally:
        if made and not any(target.iterdir()):
            target.rmdir()
    _tell(program, target)


def go_on(folder: Path, command: Sequence[str], options: dict[str, Any], asked: dict[str, Any]) -> None:
    """Capture it again after a change, judge that, and name the next one.

    What was `asked` when it was begun holds, unless it is asked otherwise now, and holds from then on.
    """
    from nsight_tools.tune import programs
    from nsight_tools.tune.ledger import LEDGER

    program = programs.read(folder / LEDGER)
    program.options = {name: value for name, value in program.options.items() if name in REMEMBERED} | asked
    programs.go_on(program, _Watcher(folder, options | program.options), command)
    programs.write(folder / LEDGER, program)
    _tell(program, folder)


class _Watcher:
    """Captures under Nsight Systems, and compares by `compare`."""

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        from nsight_tools import nsys

        self._folder, self._options, self._nsys = folder, options, nsys.find(options["nsys"])

    def capture(self, command: Sequence[str], folder: str) -> Seen:
        """Raises CaptureError where the program fails, or is interrupted."""
        from nsight_tools.capture import privacy, session, supervised
        from nsight_tools.capture.options import CaptureError, InterruptedCaptureError, Recording
        from nsight_tools.report.content import TraceReport
        from nsight_tools.tune import programs

        privacy.hide()
        recording = Recording(**{name: self._options[name] for name in _RECORDING})
        target = self._folder / folder
        with supervised.Interrupts(output.say).handled() as interrupts:
            captured = session.capture_command(
                command, target, recording, self._nsys, say=output.say, interrupts=interrupts, force=True
            )
        ends_so = captured.interrupted and not recording.untraced  # what only Ctrl-C ends
        if (captured.interrupted or captured.exit_code) and not ends_so:
            shutil.rmtree(target, ignore_errors=True)
            if captured.interrupted:
                raise InterruptedCaptureError("interrupted", hint="the same command captures it again")
            raise CaptureError(f"{command[0]}: ended with exit code {captured.exit_code}", hint="fix that first")
        report = TraceReport.of(folder, self._trace(folder))
        of_the_capture = programs.limiting(report.outcomes)
        changes = [finding for finding in report.findings if finding not in of_the_capture]
        limits = [f"{finding.message}; {finding.recommendation}" for finding in of_the_capture]
        if not report.summary.inferences:
            limits.append(UNMARKED)
        return programs.Seen(folder, report.verdict, programs.named(changes, report.one_takes_ns), tuple(limits))

    def compare(self, before: str, after: str) -> tuple[str, str]:
        """The verdict of `compare` on the goal, or its leading one where none was given; and what it says of both."""
        import nsight_tools
        from nsight_tools.report import compared

        comparison = nsight_tools.compare(self._trace(before), self._trace(after), names=(before, after))
        return comparison.chosen(self._options["goal"])[0].verdict.value, "; ".join(compared.verdicts(comparison))

    def _trace(self, folder: str) -> Any:
        import nsight_tools

        asked = {name: self._options[name] for name in _OPENED}
        return nsight_tools.open_trace(self._folder / folder, nsys=self._nsys.path, **asked)


def _tell(program: Program, folder: Path) -> None:
    for line in _lines(program, folder):
        settings.tell(line)


def _lines(program: Program, folder: Path) -> Iterator[str]:
    if program.steps:
        step = program.steps[-1]
        asked = f"{step.named.code}: " if step.named else ""
        yield f"{asked}{step.said}; {'kept' if step.kept else f'take it back: {step.before} stays the best'}"
    else:
        yield program.seen[-1].headline
    go_on_by = f"nsight-tools tune --continue {shlex.quote(str(folder))}"
    for limit in program.seen[-1].limits:
        yield f"not told: {limit}"
    coming = program.next
    if coming is None:
        yield f"nothing is left that findings promise; the best is {folder / program.best.capture}"
        yield f"a change of your own is judged by: {go_on_by}"
        return
    yield f"next: {coming.recommendation}"
    yield f"  {coming.code}: {coming.message}{_promised(coming)}"
    yield f"make this change, then: {go_on_by}"


def _promised(named: Named) -> str:
    from nsight_tools import units

    if named.share is None:
        return ""
    return f"; {'at most' if named.bound else 'about'} {units.share(named.share)} of an inference"
