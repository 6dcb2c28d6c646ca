"""How long each part of a build takes."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_GENERATED = re.compile(r"Engine generation completed in ([0-9.]+) seconds")


class Phases:
    """Seconds by phase, in the order in which they began."""

    def __init__(self) -> None:
        self.seconds: dict[str, float | None] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = time.perf_counter() - began

    def part_serialization(self, log: Sequence[str]) -> None:
        """Part what TensorRT does in one call: `build` up to what its log says, `serialize` the rest.

        `serialize` is null where the log does not say.
        """
        told = next((match for line in reversed(log) if (match := _GENERATED.search(line))), None)
        whole = self.seconds["build"]
        assert whole is not None
        if told is None:
            self.seconds["serialize"] = None
            return
        built = min(float(told[1]), whole)
        self.seconds |= {"build": built, "serialize": whole - built}
