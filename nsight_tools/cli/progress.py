"""What is being done, on standard error, where that is a terminal; otherwise nothing at all."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nsight_tools.report import safe

Callback = Callable[[str, "float | None"], None]


@contextmanager
def shown(name: str) -> Iterator[Callback | None]:
    """Give a callback (message, fraction or None) for the work on `name`; None where nobody would see it.

    What it draws is gone when the block ends, whichever way.
    """
    if not sys.stderr.isatty():
        yield None
        return
    # rich takes its time to import: only for a terminal, and not for --help.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(20), TimeElapsedColumn())
    console = Console(file=sys.stderr, markup=False, emoji=False, highlight=False)
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(safe.visible(name, 60), total=None)

        def update(message: str, fraction: float | None = None) -> None:
            described = safe.visible(f"{name}: {message}", 90)
            progress.update(
                task, description=described, total=None if fraction is None else 1.0, completed=fraction or 0.0
            )

        yield update
