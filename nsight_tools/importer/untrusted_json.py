"""JSON that others wrote, as values that can be stored: nested within reason, and of text that is Unicode."""

from __future__ import annotations

import json
from typing import Any


def parsed(text: str) -> Any:
    """The value of a JSON text, with U+FFFD for halves of surrogate pairs, which JSON can write and UTF-8 cannot.

    Control characters within texts are taken. Raises ValueError where it is no JSON, or is nested too deeply.
    """
    try:
        value = json.loads(text, strict=False)
        return value if "\\u" not in text and text.isascii() else _as_unicode(value)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _as_unicode(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_as_unicode(name): _as_unicode(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_as_unicode(item) for item in value]
    return value
