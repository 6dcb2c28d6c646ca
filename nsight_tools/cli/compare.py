"""`nsight-tools compare`: a trace before a change and traces after it into what changed."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

import nsight_tools
from nsight_tools.cli import failures, importing, output, progress
from nsight_tools.errors import NsightToolsError
from nsight_tools.report import formats
from nsight_tools.report.context import Context
from nsight_tools.units import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nsight_tools.analysis import Outcome
    from nsight_tools.cli.importing import Command
    from nsight_tools.comparison import Comparison
    from nsight_tools.trace import Trace

REGRESSED = 1
NOT_JUDGED = 2


def _percent(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """A percentage of 0 or more, with or without its sign."""
    if value is None:
        return None
    with suppress(ValueError):
        if 0 <= (number := float(value.strip().removesuffix("%"))) < float("inf"):
            return number
    raise click.BadParameter(f"'{value}' is no percentage of 0 or more, as 5%")


def _untraced(side: str, *, multiple: bool = False) -> Callable[[Command], Command]:
    """An option that names what a side took without the profiler."""
    how_often = "; once for each AFTER, in their order" if multiple else ""
    return click.option(
        f"--untraced-{side}",
        metavar="FILE",
        multiple=multiple,
        type=click.Path(path_type=Path),
        help=f"Times of {side.upper()} without the profiler, as analyze --untraced takes them{how_often}.",
    )


@click.command(
    "compare",
    short_help="Say what a change did: faster, slower, or noise.",
    epilog="""\b
Example:
  nsight-tools compare before.capture after.capture --fail-on-regression 5%
""",
)
@click.argument("before", metavar="BEFORE", type=click.Path(path_type=Path))
@click.argument("afters", metavar="AFTER...", nargs=-1, required=True, type=click.Path(path_type=Path))
@output.format_option(formats.COMPARISON)
@output.file_option
@click.option(
    "--fail-on-regression",
    "limit",
    metavar="PERCENT",
    callback=_percent,
    help="Exit with 1 where time grew by more, beyond noise; with 2 where that cannot be judged.",
)
@click.option(
    "--metric",
    type=click.Choice(["throughput", "latency", "both"]),
    help="Which verdict --fail-on-regression goes by; default: the one that leads.",
)
@_untraced("before")
@_untraced("after", multiple=True)
@importing.options(*importing.REQUESTS, "nsys")
@output.all_option
@output.colour_option
@click.pass_obj
def command(
    debug: bool,
    before: Path,
    afters: tuple[Path, ...],
    form: str,
    path: str | None,
    limit: float | None,
    metric: str | None,
    untraced_before: Path | None,
    untraced_after: tuple[Path, ...],
    imported: importing.Imported,
    color: str,
    *,
    everything: bool,
) -> None:
    """Say what changed from BEFORE to each AFTER, in throughput and in latency, and whether that is more than noise.

    Each is an .nsys-rep or .qdrep file, a .sqlite export, an nsys parquetdir, a run directory of capture, a
    dataset (.trace), or the times that trtexec wrote (.json). Where both were measured without the profiler, that is
    judged; else it is estimated from the traces, and a difference that the profiler alone may make is undecided. Where
    something else than the change may have made the difference (another GPU, another load on it, another program's
    pace), there is no verdict: --fail-on-regression exits with 2, as it does where a verdict is undecided, or there
    are too few inferences.
    """
    shown = formats.COMPARISON.find(form)  # says what it lacks before anything is read
    if untraced_after and len(untraced_after) != len(afters):
        given = plural(len(untraced_after), "time")
        raise click.UsageError(f"--untraced-after is given {given}, for {len(afters)} AFTER")
    opened = partial(nsight_tools.open_trace, **imported)
    comparisons: list[Comparison] = []
    status = 0
    with output.opened(path) as write:
        first, outcomes = _analyzed(before, partial(opened, untraced=untraced_before))
        for after, times in zip(afters, untraced_after or [None] * len(afters), strict=True):
            try:
                comparisons.append(_compared((before, first, outcomes), after, partial(opened, untraced=times)))
            except Exception as error:  # noqa: BLE001 (the others are compared all the same)
                status = failures.report(error, debug=debug)
        if not comparisons:
            raise click.exceptions.Exit(status)
        look = output.look(color, to_file=path is not None and str(path) != "-", everything=everything)
        context = Context(look, limit=limit, metric=metric)
        write(shown.render(comparisons, context))
    raise click.exceptions.Exit(status or _gate(comparisons, limit, metric))


def _analyzed(source: Path, opened: Callable[..., Trace]) -> tuple[Trace, list[Outcome]]:
    with progress.shown(source.name) as callback:
        trace = opened(source, progress=callback)
        if callback:
            callback("analyzing", None)
        return trace, nsight_tools.analyze(trace, nsight_tools.registry().values())


def _compared(before: tuple[Path, Trace, Sequence[Outcome]], after: Path, opened: Callable[..., Trace]) -> Comparison:
    trace, outcomes = _analyzed(after, opened)
    with progress.shown(after.name) as callback:
        if callback:
            callback("comparing", None)
        names = str(before[0]), str(after)
        return nsight_tools.compare(before[1], trace, names=names, outcomes=(before[2], outcomes))


def _gate(comparisons: Sequence[Comparison], limit: float | None, metric: str | None) -> int:
    """The exit status: a regression weighs more than what could not be judged."""
    if limit is None:
        return 0
    from nsight_tools.comparison import regressed

    regressions = [regressed(comparison, limit, metric) for comparison in comparisons]
    for comparison, regression in zip(comparisons, regressions, strict=True):
        if regression is None:
            _report_unjudged(comparison, limit, metric)
    return REGRESSED if any(regressions) else NOT_JUDGED if None in regressions else 0


def _report_unjudged(comparison: Comparison, limit: float, metric: str | None) -> None:
    from nsight_tools.comparison import Verdict, regressed
    from nsight_tools.comparison.resampling import ENOUGH

    unjudged = [each for each in comparison.chosen(metric) if regressed(comparison, limit, each.metric.value) is None]
    reasons = "; ".join(f"{each.metric.value}: {each.why or 'no inferences are known'}" for each in unjudged)
    verdicts = {each.verdict for each in unjudged}
    hint = "compare captures of the same work on the same GPU"
    if Verdict.UNDECIDED in verdicts:
        hint = "give both an untraced run: captures hold one, --untraced-before and --untraced-after take one"
    elif verdicts == {Verdict.CANNOT_TELL}:
        hint = f"compare two runs of the same kind, of {ENOUGH} inferences or more each"
    problem = f"{comparison.after.name}: whether it became slower cannot be judged: {reasons}"
    failures.report(NsightToolsError(problem, hint=hint), debug=False)
