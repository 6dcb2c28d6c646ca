"""A small program with every kind of NVTX event, for tests to profile: `nsys profile -t nvtx,osrt python …`.

Two domains beside the default one, nesting across them, three threads, marks, payloads, start/end ranges that
overlap and cross threads, names that are not ASCII or not even UTF-8, and one range of each kind that never ends.
It runs on nothing but a CPU and prints nothing. The counts below are what a trace of it must hold.
"""

from __future__ import annotations

import threading
import time

import nvtx

INFERENCES_PER_THREAD = 5
WORKERS = ("worker-a", "worker-b")
LAYERS = ("conv1 + relu", "Reformatting CopyNode for Input Tensor 0 to pool", "fc (größer) 推論")
NOT_UTF8 = b"latin-1: gr\xf6\xdfer"
NEVER_ENDS = ("push that never pops", "start that never ends")

STEP_S = 0.0005
THREADS = len(WORKERS) + 1
PUSH_POP_RANGES = THREADS * INFERENCES_PER_THREAD * (1 + 1 + len(LAYERS)) + 3  # + setup, NOT_UTF8, NEVER_ENDS[0]
START_END_RANGES = THREADS + 3  # one batch a thread, two that cross each other, NEVER_ENDS[1]
MARKS = THREADS + 1
EVENTS = PUSH_POP_RANGES + START_END_RANGES + MARKS


def infer(number: int) -> None:
    """One inference: the application's range, the runtime's inside it, one a layer inside that."""
    with (
        nvtx.annotate("inference", domain="app", payload=number),
        nvtx.annotate("ExecutionContext::enqueue", domain="runtime"),
    ):
        for layer in LAYERS:
            with nvtx.annotate(layer, domain="runtime", color="green", category="layer"):
                time.sleep(STEP_S)


def work(name: str) -> None:
    """A batch of inferences within a start/end range, then a mark."""
    batch = nvtx.start_range(f"batch of {name}", domain="app")
    for number in range(INFERENCES_PER_THREAD):
        infer(number)
    nvtx.end_range(batch)
    nvtx.mark(f"{name} done", domain="app", payload=0.5)


def main() -> None:
    """Everything, in a fixed order but for what the threads do at the same time."""
    nvtx.mark("start")
    with nvtx.annotate("setup"):
        time.sleep(STEP_S)
    with nvtx.annotate(NOT_UTF8, domain="app"):
        time.sleep(STEP_S)

    first = nvtx.start_range("crossing 1")
    second = nvtx.start_range("crossing 2")

    def end_first() -> None:
        nvtx.end_range(first)  # on a thread that did not start it

    threads = [threading.Thread(target=work, args=(name,), name=name) for name in WORKERS]
    for thread in threads:
        thread.start()
    work("main")
    for thread in threads:
        thread.join()
    closer = threading.Thread(target=end_first, name="closer")
    closer.start()
    closer.join()
    nvtx.end_range(second)

    nvtx.push_range(NEVER_ENDS[0], domain="runtime")
    nvtx.start_range(NEVER_ENDS[1], domain="app")
    time.sleep(STEP_S)


if __name__ == "__main__":
    main()
