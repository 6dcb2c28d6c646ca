"""`nsight-tools explain`: what an analysis measures, why it matters, what helps, and where it is blind."""

from __future__ import annotations

import click

import nsight_tools
from nsight_tools.cli import output


@click.command(
    "explain",
    short_help="Say what an analysis measures, and what it tells to change.",
    epilog="""\b
Example:
  nsight-tools explain PCI001
""",
)
@click.argument("code", required=False)
@click.option("--markdown", is_flag=True, help="Print the documentation as Markdown; without CODE, of all analyses.")
@output.colour_option
def command(code: str | None, color: str, *, markdown: bool) -> None:
    """Print the documentation of the analysis CODE, or of a family (PCI); without CODE, list all analyses.

    It also explains the words of the reports: wall, period, exposed, steady, unattributed, straggler, bound.
    """
    from nsight_tools.report import catalogue, explained, glossary  # rich takes its time; --help goes without

    if markdown and (code is None or code.strip().lower() not in glossary.TERMS):
        analyses = nsight_tools.registry()
        chosen = nsight_tools.select(analyses, [code.strip().upper()]) if code is not None else analyses
        output.show(catalogue.render(chosen.values()))
        return
    output.show(explained.render(nsight_tools.registry(), code, output.look(color)))
