"""The text that tells an agent how to go from a slow engine to a confirmed change."""

from __future__ import annotations

from importlib import resources


def skill() -> str:
    """`SKILL.md` beside this file: Markdown, with its name and its purpose at the top."""
    return resources.files("nsight_tools.agents").joinpath("SKILL.md").read_text(encoding="utf-8")
