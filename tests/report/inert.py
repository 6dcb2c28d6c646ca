"""What a page may hold, whatever names are in it: our one script and one style, data as JSON, and nothing that acts."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

from nsight_tools.report.formats.html.explored.policy import asset

FORBIDDEN = {"img", "iframe", "object", "embed", "link", "base", "form", "style", "script"}


class Page(HTMLParser):
    """Tags with their attributes, the text between them, and what scripts and styles hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[tuple[str, str]] = []
        """Their types, and what they hold."""
        self.styles: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        attributes = self.tags[-1][1] if self.tags else {}
        if self.cdata_elem == "script":
            self.scripts.append((attributes.get("type") or "", data))
        elif self.cdata_elem == "style":
            self.styles.append(data)
        else:
            self.text += data


def check(written: str) -> Page:
    """That a page runs our script alone, looks as we say alone, fetches nothing, and hides nothing."""
    page = Page(written)
    assert sorted(tag for tag, _ in page.tags if tag in FORBIDDEN - {"script"}) == ["style"]
    codes = [code for kind, code in page.scripts if not kind]
    assert codes == [asset("explore.js")]
    assert len(page.scripts) == sum(tag == "script" for tag, _ in page.tags)
    for kind, data in page.scripts[:-1]:
        assert kind == "application/json"
        assert not re.search(r"[<>&]|[^\x20-\x7e]", data)
        json.loads(data)
    attributes = [(name, value) for _, its in page.tags for name, value in its.items()]
    assert not [name for name, _ in attributes if name.startswith("on") or name == "style"]
    assert all((value or "#").startswith("#") for name, value in attributes if name in {"href", "src", "xlink:href"})
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b\u2028]", written)
    policy = next(its["content"] for tag, its in page.tags if its.get("http-equiv") == "Content-Security-Policy")
    hashes = [_hash(codes[0]), _hash(page.styles[0])]
    assert policy == (
        f"default-src 'none'; script-src '{hashes[0]}'; style-src '{hashes[1]}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return page


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
