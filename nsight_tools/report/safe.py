"""Text that comes from a trace, made harmless to show: names in a report are whatever a program chose to write.

Everything shown to people goes through here once: control characters, escape sequences, and characters that
reorder or hide text become visible escapes; line ends become spaces; what is very long loses its middle.
"""

from __future__ import annotations

import unicodedata

LIMIT = 400
"""Characters of one text that people get to see: the longest kernel names worth reading stay below it."""

_SPACES = str.maketrans({"\n": " ", "\t": " "})
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_FOLDED = str.maketrans(
    {"\N{MICRO SIGN}": "u", "\N{GREEK SMALL LETTER MU}": "u", "\N{DEGREE SIGN}": " deg ", "\N{MIDDLE DOT}": "-"}
    | {"\N{EN DASH}": "-", "\N{EM DASH}": "-", "\N{MINUS SIGN}": "-", "\N{MULTIPLICATION SIGN}": "x"}
    | {"\N{LESS-THAN OR EQUAL TO}": "<=", "\N{GREATER-THAN OR EQUAL TO}": ">=", "\N{PLUS-MINUS SIGN}": "+-"}
    | {"\N{LEFT SINGLE QUOTATION MARK}": "'", "\N{RIGHT SINGLE QUOTATION MARK}": "'", "\N{ALMOST EQUAL TO}": "~"}
    | {"\N{LEFT DOUBLE QUOTATION MARK}": '"', "\N{RIGHT DOUBLE QUOTATION MARK}": '"'}
    | {"\N{HORIZONTAL ELLIPSIS}": "...", "\N{RIGHTWARDS ARROW}": "->", "\N{LEFTWARDS ARROW}": "<-"}
)


def visible(text: object, limit: int = LIMIT) -> str:
    """`text` on one line, nothing in it hidden or obeyed by a terminal, at most about `limit` characters."""
    text = str(text)
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text  # most are: a trace can hold a million names
    return "".join(_escaped(c) for c in elided(text, limit).translate(_SPACES))


def elided(text: str, limit: int = LIMIT) -> str:
    """`text` without its middle where it is longer than `limit`: what a message says stands at its ends."""
    if len(text) <= limit:
        return text
    head, tail = limit * 2 // 3, limit // 4
    return f"{text[:head]} [… {len(text) - head - tail:,} characters …] {text[-tail:]}"


def fitted(text: str, width: int) -> str:
    """`text` in `width` characters: names of kernels and layers differ at their ends, so that the middle gives way."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def as_ascii(text: str) -> str:
    """`text` for a terminal or a file that knows no more than ASCII."""
    return text.translate(_FOLDED).encode("ascii", "backslashreplace").decode("ascii")


def _escaped(character: str) -> str:
    if character.isascii() and character.isprintable():
        return character
    if unicodedata.category(character) not in _HIDDEN:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
