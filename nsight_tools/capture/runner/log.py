"""TensorRT's log, kept in memory: the line that explains a failure is in it."""

from __future__ import annotations

import sys
from typing import Any

ERROR, WARNING, INFO = 1, 2, 3
_LETTERS = "FEWIV"


def make_logger(trt: Any, lines: list[str], *, level: int, verbose: bool) -> Any:
    """A logger for TensorRT that appends to `lines` what is at least as bad as `level`, as `[E] message`.

    `first_error()` and `last_error()` are lines of errors since `forget()`, or null.
    """

    class Log(trt.ILogger):  # type: ignore[misc]  # TensorRT has no type stubs
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            number = int(severity)
            if number > level:
                return
            line = f"[{_LETTERS[number]}] {message}"
            lines.append(line)
            if number <= ERROR:
                self._errors.append(message)
            if verbose:
                sys.stderr.write(f"[TensorRT] {line}\n")

        def forget(self) -> None:
            self._errors.clear()

        def first_error(self) -> str | None:
            return self._errors[0] if self._errors else None

        def last_error(self) -> str | None:
            return self._errors[-1] if self._errors else None

    return Log()
