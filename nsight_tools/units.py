"""Numbers as people read them: three digits and an SI unit. The numbers themselves stay exact in JSON."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_TIME = ("ns", "µs", "ms", "s")
_BYTES = ("B", "kB", "MB", "GB", "TB", "PB")
_RATE = ("B/s", "kB/s", "MB/s", "GB/s", "TB/s", "PB/s")
_ENERGY = ("µJ", "mJ", "J", "kJ", "MJ")
_UNKNOWN = "unknown"
_BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:%|[nµum]?s|[kMGTP]?B|[µumkM]?J|[MG]Hz)(?![\w]))")


def duration(ns: float | None) -> str:
    """Nanoseconds as "850 ns", "12.3 µs", "4.00 ms", "1,234 s"."""
    return _scaled(ns, _TIME)


def column(values: Iterable[float | None]) -> tuple[str, list[str]]:
    """Nanoseconds of one table in one unit, points under each other: the unit, and each as "0.792", "1,410.0".

    The unit is that of the longest, which has four digits; what is not there is empty.
    """
    given = list(values)
    longest = max((abs(each) for each in given if each is not None), default=0.0)
    step = _step(longest)
    decimals = 0 if step == 0 else max(0, 3 - math.floor(math.log10(longest / 1000**step)))
    return _TIME[step], ["" if each is None else f"{each / 1000**step:,.{decimals}f}" for each in given]


def part(part_ns: float, whole_ns: float) -> str:
    """A part and its whole: "0.214 of 1.46 ms"; below a tenth of the whole's unit in its own: "85.0 µs of 1.46 ms"."""
    return f"{_beside(part_ns, whole_ns)} of {duration(whole_ns)}"


def between(low_ns: float, high_ns: float, word: str = "to", of_ns: float | None = None) -> str:
    """Two ends: "1.00 to 1.18 ms", "0.830 to 1.07 ms"; two units where one would not do for both, as with `part`.

    Ends of a part stand in the unit of the whole, `of_ns`, as the part does: "0.152 to 0.300 ms" where that is 1.46 ms.
    """
    longest = max(abs(low_ns), abs(high_ns), of_ns or 0.0)
    low, high = (_beside(end, longest).partition(" ") for end in (low_ns, high_ns))
    units = [own or _TIME[_step(longest)] for *_, own in (low, high)]
    first = "" if units[0] == units[1] else f" {units[0]}"
    return f"{low[0]}{first} {word} {high[0]} {units[1]}"


def _beside(ns: float, other_ns: float) -> str:
    """A time beside a longer one: in its unit, which is not written, or where it is too short for that with its own."""
    step = _step(other_ns)
    if step != _step(ns) and 0 < abs(ns) < 0.1 * 1000**step:
        return duration(ns)
    return _digits(ns / 1000**step) if step else number(ns)


def size(count: float | None) -> str:
    """Bytes as "512 B", "4.19 MB", in powers of 1000."""
    return _scaled(count, _BYTES)


def rate(per_second: float | None) -> str:
    """Bytes per second as "22.7 GB/s", in powers of 1000."""
    return _scaled(per_second, _RATE)


def energy(joules: float | None) -> str:
    """Joules as "850 µJ", "0.210 J" being "210 mJ"."""
    return _scaled(None if joules is None else 1e6 * joules, _ENERGY)


def share(ratio: float | None) -> str:
    """A ratio as "30 %", "2.5 %", "0.031 %", "<0.01 %"; near 100 % to a tenth, so that it says what is left."""
    if ratio is None or not math.isfinite(ratio):
        return _UNKNOWN
    percent = 100 * ratio
    if 0 < abs(percent) < 0.01:
        return "<0.01 %" if percent > 0 else ">-0.01 %"
    return f"{_digits(percent, 3 if 99 <= abs(percent) < 100 else 2)} %"


def moment(ns: int) -> str:
    """A time of the session as "1.234567s": as Nsight Systems writes it, and as `nsys stats --filter-time` takes it.

    Cut, not rounded, to the microsecond: the event lies at or just behind it.
    """
    micros = ns // 1000
    sign = "-" if micros < 0 else ""
    return f"{sign}{abs(micros) // 1_000_000}.{abs(micros) % 1_000_000:06d}s"


def number(value: float | None) -> str:
    """Any number: whole ones with thousands separated, others with three digits."""
    if value is None or not math.isfinite(value):
        return _UNKNOWN
    return f"{int(value):,}" if value == int(value) else _digits(value)


def quantity(value: float | str | None, unit: str) -> str:
    """A measurement of a finding in its unit; a unit that is not known here is written behind the number."""
    if value is None:
        return _UNKNOWN
    if isinstance(value, str):
        return f"{value} {unit}".rstrip()
    by_unit = {"ns": duration, "bytes": size, "B/s": rate, "ratio": share, "count": number, "J": energy}
    if unit in by_unit:
        return by_unit[unit](value)
    return f"{number(value)} {unit}".rstrip()


def _scaled(value: float | None, units: tuple[str, ...]) -> str:
    if value is None or not math.isfinite(value):
        return _UNKNOWN
    step = _step(value, len(units))
    return f"{number(value) if step == 0 else _digits(value / 1000**step)} {units[step]}"


def _step(value: float, units: int = len(_TIME)) -> int:
    """Which unit of so many fits: 999.6 would be written as 1000, and is given in the next one."""
    step, scaled = 0, abs(float(value))
    while scaled >= 999.5 and step + 1 < units:
        scaled, step = scaled / 1000, step + 1
    return step


def _digits(value: float, significant: int = 3) -> str:
    """So many significant digits, all that stand before the point, never an exponent; thousands separated."""
    rounded = float(f"{value:.{significant}g}")
    if rounded == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(rounded)))
    return f"{value:,.{max(0, significant - 1 - magnitude)}f}"


def tied(text: str, tie: str = "\N{NO-BREAK SPACE}") -> str:
    """The text with `tie` for each space between a number and its unit: no line ends there."""
    return _BEFORE_UNIT.sub(tie, text)


def sentence(text: str) -> str:
    """The text with a capital at its beginning."""
    return f"{text[:1].upper()}{text[1:]}"


def within(text: str) -> str:
    """A sentence as it stands within another one; what begins with a name in capitals keeps it."""
    return text if text[1:2].isupper() else f"{text[:1].lower()}{text[1:]}"


def plural(count: int, one: str, many: str = "") -> str:
    """`1 layer`, `1,200 layers`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
