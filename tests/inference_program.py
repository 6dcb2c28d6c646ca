"""A program that marks its inferences with nsight-tools' own ranges, on a second thread, and starts another such."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import nsight_tools

INFERENCES = {"parent": 7, "child": 4}
PHASES = ("h2d", "enqueue", "synchronize")
EVENTS = sum(INFERENCES.values()) * (1 + len(PHASES))
STEP_S = 0.0005


def infer(count: int) -> None:
    for _ in range(count):
        with nsight_tools.inference() as one:
            for phase in PHASES:
                with one.phase(phase):
                    time.sleep(STEP_S)


def main() -> None:
    who = sys.argv[1] if len(sys.argv) > 1 else "parent"
    if who == "parent":
        subprocess.run([sys.executable, __file__, "child"], check=True)
    thread = threading.Thread(target=infer, args=(INFERENCES[who],))
    thread.start()
    thread.join()


if __name__ == "__main__":
    main()
