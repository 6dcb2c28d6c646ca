"""A terminal's page: rich's layout without rich's markup, coloured or plain, in Unicode or ASCII."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from nsight_tools import units
from nsight_tools.report import safe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nsight_tools.report.look import Look

_Item = TypeVar("_Item")

MOST = 120
"""Columns beyond which lines are hard to read."""
LABEL = 10
"""Columns of a label."""
ROOMY = 96
"""Columns from which on the parts of an inference have room for bars and intervals."""
_LEAST = 40
_TIE = "\ue000"
"""Stands for the space between a number and its unit while lines are broken. No text of a trace has it: `safe.visible`
escapes what is for private use."""
_FILLS = (
    ("█", "#", "green"),
    ("▓", "=", "yellow"),
    ("▒", "-", "magenta"),
    ("░", ".", "bright_black"),
    ("▚", "+", "cyan"),
    (" ", " ", ""),
)
"""Of a stacked bar's parts: in Unicode, in ASCII, and their colour."""
_EIGHTHS = " ▏▎▍▌▋▊▉"


class Page:
    """Collects what is printed; `str()` gives the page, no line of it wider than the look allows."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self._file = io.StringIO()
        # Everything is stated, so that no environment variable changes what a test or a pipe sees. Names from a
        # trace never reach rich as `str`: it would take [brackets] for markup and :words: for emoji.
        self._console = Console(
            file=self._file,
            width=self.width,
            force_terminal=look.colour,
            color_system="standard" if look.colour else None,
            no_color=not look.colour,
            legacy_windows=False,
            markup=False,
            emoji=False,
            highlight=False,
        )

    @property
    def width(self) -> int:
        """Columns in use: as many as there are, but no more than people read and no fewer than a table needs."""
        return max(_LEAST, min(MOST, self.look.width))

    def text(self, text: object, style: str = "", *, limit: int = safe.LIMIT) -> Text:
        """Untrusted or own text, made harmless, in `style`; it wraps, and breaks where it cannot wrap."""
        shown = safe.visible(text, limit)
        shown = shown if self.look.unicode else safe.as_ascii(shown)
        return Text(units.tied(shown, _TIE), style=style, overflow="fold")

    def fitted(self, text: object, width: int) -> Text:
        """The same on one line of at most `width` columns, without its middle where it is longer."""
        shown = safe.visible(text)
        return self.text(shown if self.look.everything else safe.fitted(shown, max(width, _LEAST // 2)))

    def line(self, *parts: Text) -> None:
        """Print a line, wrapped where it must be."""
        self._console.print(Text.assemble(*parts, overflow="fold"))

    def blank(self) -> None:
        self._console.print()

    def rule(self) -> None:
        """Print a line that parts two sections."""
        self.blank()
        self.line(self.text(("─" if self.look.unicode else "-") * self.width, "dim"))

    def parted(self, items: Iterable[_Item]) -> Iterator[_Item]:
        """Give each of these, with a line between what is printed of one and of the next."""
        for position, item in enumerate(items):
            if position:
                self.rule()
            yield item

    def heading(self, title: str, note: str = "") -> None:
        """Print a section's title behind an empty line; `note` stands dimmed beside it."""
        self.blank()
        self.line(self.text(title, "bold"), self.text(f"   {note}" if note else "", "dim"))

    def rows(self, rows: Iterable[Iterable[Text]], *, indent: int = 2, right: Iterable[int] = ()) -> None:
        """Print rows in columns, two spaces apart, the columns `right` aligned to the right.

        Only the last one wraps, as long as the others leave a third of the page, or all of it, to it.
        """
        if (grid := self.grid(rows, right=right)).row_count:
            self._console.print(Padding(grid, (0, 0, 0, indent)))

    def grid(self, rows: Iterable[Iterable[Text]], *, right: Iterable[int] = ()) -> Table:
        """Rows in columns, to print or to put into a cell of other rows."""
        cells = [list(row) for row in rows]
        grid = Table.grid(padding=(0, 2, 0, 0))
        last, aligned = max((len(row) for row in cells), default=0) - 1, set(right)
        widths = [max(row[at].cell_len for row in cells if at < len(row)) for at in range(last)]
        taken = sum(widths) + 2 * last
        longest = max((row[last].cell_len for row in cells if last < len(row)), default=0)
        firm = taken <= self.width * 2 // 3 or taken + longest <= self.width - 2
        for column in range(last + 1):
            fixed = firm and column < last
            grid.add_column(
                justify="right" if column in aligned else "left",
                overflow="fold",
                no_wrap=fixed,
                min_width=widths[column] if fixed else None,
            )
        for row in cells:
            grid.add_row(*row)
        return grid

    def labelled(self, rows: Iterable[tuple[str, Text]], *, indent: int = 3, label_width: int = LABEL) -> None:
        """Print labels with what they label, which wraps in its own column."""
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_column(width=label_width, no_wrap=True)
        grid.add_column(overflow="fold")
        for label, value in rows:
            grid.add_row(self.text(label, "dim"), value)
        if grid.row_count:
            self._console.print(Padding(grid, (0, 0, 0, indent)))

    def bar(self, ratio: float, style: str = "cyan", most: int = 24) -> Text:
        """A bar for a ratio of 0 to 1, of `most` columns where there is room, to an eighth of a column."""
        width = most if self.width >= 80 else 8
        eighths = round(8 * width * max(0.0, min(1.0, ratio))) or int(ratio > 0)
        if not self.look.unicode:
            return Text("#" * round(eighths / 8) or "." * min(eighths, 1), style=style)
        return Text(("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip(), style=style)

    def stack(self, parts: Iterable[tuple[str, float]], *, indent: int = 2) -> None:
        """Print one bar over the page's width of parts that make a whole, and below it what each is; kinds add up."""
        sums: dict[str, float] = {}
        for kind, value in parts:
            sums[kind] = sums.get(kind, 0.0) + value
        whole, width, end, drawn = sum(sums.values()), self.width - indent, 0.0, 0
        if whole <= 0:
            return
        bar, legend = [], []
        for (kind, value), (fill, plain, style) in zip(sums.items(), _FILLS, strict=False):
            end += value
            columns = round(width * end / whole) - drawn
            drawn += columns
            mark = fill if self.look.unicode else plain
            bar.append(self.text(mark * columns, style))
            shown = f"{mark} " if columns else ""  # too short to be seen in the bar
            legend.append(self.text(f"{shown}{kind} {units.share(value / whole)}   ", style))
        self.rows([[Text.assemble(*bar)], [Text.assemble(*legend)]], indent=indent)

    def __str__(self) -> str:
        # rich pads cells with spaces; a page carries none at its lines' ends.
        return "".join(f"{line.rstrip()}\n" for line in self._file.getvalue().replace(_TIE, " ").splitlines())
