"""NVTX ranges of the runner: domain `nsight_tools`, registered strings, attributes made once.

Python's nvtx 0.2.12 and later have push and pop on the domain; before, the functions behind the public ones take the
same attributes. Either way nothing is looked up and nothing is registered in the loop.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from . import toolkit

if TYPE_CHECKING:
    from collections.abc import Callable

DOMAIN = "nsight_tools"
INFERENCE, H2D, ENQUEUE, D2H, SYNCHRONIZE = "inference", "h2d", "enqueue", "d2h", "synchronize"


class Ranges:
    """Ranges of one thread.

    `push(attributes)` and `pop()` are bound calls; `inference` is this thread's own, so that its payload can be set
    in place without another thread in between.
    """

    def __init__(self, thread: int) -> None:
        domain = toolkit.load("nvtx").get_domain(DOMAIN)
        self.push, self.pop, self._mark = _calls(domain)
        self.inference = domain.get_event_attributes(INFERENCE, "green", None, -1 - thread)
        self.h2d, self.enqueue, self.d2h, self.synchronize = (
            domain.get_event_attributes(name, color)
            for name, color in ((H2D, "blue"), (ENQUEUE, "orange"), (D2H, "purple"), (SYNCHRONIZE, "white"))
        )
        self._clock = domain.get_event_attributes("clock", "white", None, -1 - thread)
        self._disabled = self._clock is None  # no tool listens, and nvtx hands out nothing

    def mark_clock(self, mark: str) -> dict[str, Any]:
        """Mark `clock` with the time of the system's clock as payload, and return that time."""
        if self._disabled:
            return {"utc_ns": time.time_ns(), "mark": mark}
        self._clock.payload = now = time.time_ns()
        self._mark(self._clock)
        return {"utc_ns": now, "mark": mark}

    def or_none(self) -> Ranges | None:
        """None where no tool listens: then the loop leaves its ranges out."""
        return None if self._disabled else self


def _calls(domain: Any) -> tuple[Callable[[Any], None], Callable[[], None], Callable[[Any], None]]:
    if hasattr(domain, "push_range"):
        return domain.push_range, domain.pop_range, domain.mark
    library, handle = toolkit.load("nvtx._lib"), domain.handle
    push, pop, mark = library.push_range, library.pop_range, library.mark
    return lambda attributes: push(attributes, handle), lambda: pop(handle), lambda attributes: mark(attributes, handle)
