"""What a page may do, as its Content-Security-Policy: run and look as we wrote it, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib import resources


@cache
def asset(name: str) -> str:
    """A file of ours that a page holds whole, by its name among the templates."""
    return resources.files("nsight_tools.report.formats.html").joinpath("templates", name).read_text(encoding="utf-8")


def policy(style: str, script: str) -> str:
    """The policy of a page with this one `<style>` and this one `<script>`.

    Nothing is fetched, framed or sent anywhere; no other script runs, no other style applies, and none of either
    stands in an attribute.
    """
    return (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def data(value: object) -> str:
    """A value as JSON that can stand in a `<script>`, whatever names are in it: ASCII, without `<`, `>` and `&`."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")
