"""A measurer and a tracer that have no GPU: they hand out what was measured and found before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsight_tools.errors import InputError
from nsight_tools.tune import ledger
from nsight_tools.tune.measuring import Failed, Measurement, Row, Why, read_rows

if TYPE_CHECKING:
    from pathlib import Path

    from nsight_tools.tune.ledger import Found
    from nsight_tools.tune.settings import Setting


class MeasuredBefore:
    """A measurer that hands out what was measured before: each setting's runs in turn, from the first again.

    What is not in the table is an error: no number is made up.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: dict[Setting, list[Row]] = {}
        for row in read_rows(path):
            self._rows.setdefault(row.setting, []).append(row)
        self._asked: dict[Setting, int] = {}

    def measure(self, setting: Setting) -> Measurement:
        """The next run of the setting. Raises Failed where it failed then, InputError where it was never measured."""
        rows = self._rows.get(setting)
        if not rows:
            raise InputError(self._path, f"has no measurement of {setting}", hint="measure it with sweep")
        at = self._asked.get(setting, 0)
        self._asked[setting] = at + 1
        row = rows[at % len(rows)]
        if row.measurement is None:
            raise Failed(row.why or Why.REFUSED, row.said)
        return row.measurement


class FoundBefore:
    """A tracer that hands out what ledgers hold of the same settings; what is in none is an error."""

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self._found = {each.setting: each for path in paths for each in ledger.read(path).captures}

    def trace(self, setting: Setting, number: int) -> Found:  # noqa: ARG002 (the protocol's)
        """What was found in it. Raises InputError where it was never captured."""
        if setting not in self._found:
            raise InputError(self._paths[0], f"has no capture of {setting}", hint="tune it on a GPU")
        return self._found[setting]
