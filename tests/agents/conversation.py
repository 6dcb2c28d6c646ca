"""A client of `nsight-tools mcp` in this process, and what it was answered as text."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from mcp import Client

from nsight_tools.agents.server import server

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsight_tools.agents.answers import Reports

Call = tuple[str, dict[str, Any]]


def answered(reports: Reports, calls: Iterable[Call]) -> list[tuple[str, bool]]:
    """What each call of a tool was answered, and whether that is an error."""

    async def talk() -> list[tuple[str, bool]]:
        async with Client(server(reports)) as client:
            given = [await client.call_tool(name, arguments) for name, arguments in calls]
        return [("\n".join(part.text for part in each.content), bool(each.is_error)) for each in given]

    return asyncio.run(talk())


def asked(reports: Reports, name: str, **arguments: Any) -> str:
    """The answer to one call, which must be none that failed."""
    [(text, failed)] = answered(reports, [(name, arguments)])
    assert not failed, text
    return text


def refused(reports: Reports, name: str, **arguments: Any) -> str:
    """Why one call failed, on one line."""
    [(text, failed)] = answered(reports, [(name, arguments)])
    assert failed, text
    assert len(text.splitlines()) == 1
    return text


def transcript(reports: Reports, calls: list[Call]) -> str:
    """Calls and answers, one behind the other, as they are kept."""
    parts = [
        f"> {name} {json.dumps(arguments)}\n{'ERROR ' if failed else ''}{text.rstrip()}\n"
        for (name, arguments), (text, failed) in zip(calls, answered(reports, calls), strict=True)
    ]
    return "\n".join(parts)
