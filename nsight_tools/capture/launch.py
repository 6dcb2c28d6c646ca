"""Becomes the profiled command, with the user's environment and streams, which Nsight Systems then does not see.

    python launch.py ORDER.json

Nsight Systems embeds the environment that it was started with, and the output of what it starts, in its report. So it
is started with next to none, and starts this; `starting.py` leaves the rest in ORDER.json, which only the user can read
and which is gone once it was read:

    {"command": […], "environment": {…}, "given": {…}, "streams": {"0": "/proc/PID/fd/0", …}, "pid": FILE,
     "session": BOOL}

`given` is the environment that nsys was started with: what differs from it is nsys' own doing, and is kept. With
`session` the command gets a session of its own here, as nsys gives it one where it starts this.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path


def main() -> None:
    """Become the command of the order."""
    path = Path(sys.argv[1])
    order = json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
    path.unlink()
    if order["session"]:
        os.setsid()
    environment = merged(order["environment"], order["given"], dict(os.environ))
    partial = Path(f"{order['pid']}.partial")
    partial.write_text(str(os.getpid()), encoding="ascii")
    partial.rename(order["pid"])
    for number, file in order["streams"].items():
        with contextlib.suppress(OSError):  # a socket cannot be opened so: then the stream stays nsys' own
            os.dup2(os.open(file, os.O_RDONLY if number == "0" else os.O_WRONLY | os.O_APPEND), int(number))
    try:
        os.execvpe(order["command"][0], order["command"], environment)  # noqa: S606 (what the user asked for)
    except OSError as error:
        sys.stderr.write(f"{order['command'][0]}: {error.strerror}\n")
        sys.exit(127)


def merged(users: dict[str, str], given: dict[str, str], now: dict[str, str]) -> dict[str, str]:
    """The user's environment with what nsys added to the `given` one; paths that both have something for are joined."""
    result = dict(users)
    for name, value in now.items():
        before = given.get(name)
        if value == before:
            continue
        old = users.get(name)
        if old and before is not None and value.startswith(before):
            result[name] = old + value[len(before) :]
        elif old and name in {"LD_PRELOAD", "LD_LIBRARY_PATH"}:
            result[name] = f"{value}:{old}"
        else:
            result[name] = value
    return result


if __name__ == "__main__":
    main()
