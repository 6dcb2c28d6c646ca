"""How a test waits for what must come, and how long, before it says that it did not.

Only a test that fails waits so long: under load, another program's start alone can take a minute.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_S = 600


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until `condition` holds. Raises AssertionError where it does not in `PATIENCE_S`."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.005)
