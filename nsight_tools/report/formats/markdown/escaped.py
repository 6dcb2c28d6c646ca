"""Any text as Markdown that shows it and does nothing else."""

from __future__ import annotations

import re

from nsight_tools.report import safe

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "<span>$</span>", "@": "@&#8203;", "#": "#&#8203;"}
"""What Markdown's backslash does not stop on a forge: HTML, mathematics, mentions, references to issues."""

_SPECIAL = re.compile(r"[\\`*_\[\]|~&<>$@#]|:(?=//)")
_ELSEWHERE = re.compile(r"\bwww(?=\.)|^[-+=]|^\d+(?=[.)](?:\s|$))", re.IGNORECASE)
"""What is special in its place only: a link without a scheme, and what a list or a heading starts with."""


def escape(text: object, limit: int = safe.LIMIT) -> str:
    """Any text as Markdown that shows it and does nothing else; on one line, fit for a table's cell."""
    escaped = _SPECIAL.sub(lambda match: _ENTITIES.get(match[0], f"\\{match[0]}"), safe.visible(text, limit).strip())
    return _ELSEWHERE.sub(lambda match: f"\\{match[0]}" if match[0] in "-+=" else f"{match[0]}\\", escaped)


def html(text: object, limit: int) -> str:
    """As `escape`, inside an HTML tag, where Markdown means nothing and a backslash would show."""
    return re.sub(r"[&<>$@#]", lambda match: _ENTITIES[match[0]], safe.visible(text, limit).strip())
