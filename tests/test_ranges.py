"""The two lines that users put into their own programs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

import nsight_tools
from nsight_tools import ranges

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENTS: list[tuple[str, ...]] = []


class Annotation:
    def __init__(self, name: str, *, domain: str, payload: int | None = None) -> None:
        self.said = (name, domain, str(payload))

    def __enter__(self) -> None:
        EVENTS.append(("push", *self.said))

    def __exit__(self, *error: object) -> None:
        EVENTS.append(("pop", self.said[0]))


@pytest.fixture
def profiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As under a profiler: `nvtx` notes what it is asked for."""
    EVENTS.clear()
    ranges._named.cache_clear()
    monkeypatch.setattr(ranges, "_nvtx", lambda: SimpleNamespace(annotate=Annotation))
    monkeypatch.setattr(ranges, "_numbers", iter(range(10)))
    yield
    ranges._named.cache_clear()


@pytest.mark.usefixtures("profiled")
def test_inferences_and_their_phases() -> None:
    for _ in range(2):
        with nsight_tools.inference() as one, one.phase("h2d"):
            pass
    with nsight_tools.inference(7), nsight_tools.phase("my own"):
        pass
    inference, h2d = (
        [("push", "inference", "nsight_tools"), ("pop", "inference")],
        ("push", "h2d", "nsight_tools", "None"),
    )
    assert [
        *((*inference[0], "0"), h2d, ("pop", "h2d"), inference[1]),
        *((*inference[0], "1"), h2d, ("pop", "h2d"), inference[1]),
        *((*inference[0], "7"), ("push", "my own", "nsight_tools", "None"), ("pop", "my own"), inference[1]),
    ] == EVENTS


@pytest.mark.usefixtures("profiled")
def test_an_exception_ends_the_range_and_passes() -> None:
    with pytest.raises(ZeroDivisionError), nsight_tools.inference():
        _ = 1 / 0
    assert EVENTS[-1] == ("pop", "inference")


def test_without_a_profiler_nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NVTX_INJECTION64_PATH", raising=False)
    ranges._nvtx.cache_clear()
    ranges._named.cache_clear()
    assert nsight_tools.inference() is nsight_tools.inference()
    with nsight_tools.inference() as one, one.phase("h2d"):
        assert one.phase("h2d") is nsight_tools.phase("d2h")
