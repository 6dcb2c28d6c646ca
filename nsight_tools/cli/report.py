"""`nsight-tools report`: reports, exports or datasets into one page with figures."""

from __future__ import annotations

import click

from nsight_tools.cli import analyze, importing


@click.command(
    "report",
    short_help="Write one HTML page with findings and figures.",
    epilog="""\b
Example:
  nsight-tools report report.nsys-rep -o report.html
""",
)
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=click.Path())
@click.option(
    "-o",
    "--output",
    "path",
    metavar="FILE",
    required=True,
    type=click.Path(),
    help="The page; it appears whole or not at all. - is standard output.",
)
@analyze.select_option
@analyze.ignore_option
@importing.options()
@importing.untraced_option
@click.option(
    "--jobs", metavar="N", type=click.IntRange(1), help="Reports analyzed at a time; default: one for each CPU."
)
@click.pass_context
def command(ctx: click.Context, /, **options: object) -> None:
    """Write what `analyze` says of each INPUT as one page, with a figure for each finding.

    The page holds everything it shows, and fetches nothing. It is light or dark as the browser is, and prints.
    It tells what the text tells, with names of kernels, layers and NVTX ranges of the trace. An INPUT is what `analyze`
    takes, and each gets a section of its own.
    """
    ctx.invoke(analyze.command, form="html", **options)
