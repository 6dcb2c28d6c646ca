"""A program whose main thread marks inferences, while another thread of the same Python computes all the time."""

from __future__ import annotations

import threading
import time

import nsight_tools

INFERENCES = 10
CALLS = 20
"""In an inference; each releases the interpreter's lock, as a call of CUDA does, and has to get it back."""


def compute(stop: threading.Event) -> None:
    total = 0
    while not stop.is_set():
        total += sum(range(100))


def main() -> None:
    stop = threading.Event()
    rival = threading.Thread(target=compute, args=(stop,))
    rival.start()
    for _ in range(INFERENCES):
        with nsight_tools.inference():
            for _ in range(CALLS):
                time.sleep(0.0001)
    stop.set()
    rival.join()


if __name__ == "__main__":
    main()
