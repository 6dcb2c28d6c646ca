"""Which requests do the same work, by drawings."""

from __future__ import annotations

import pytest
from drawing import US
from drawn_trace import drawn

from nsight_tools.run import Run
from nsight_tools.run.collectives import waiting


@pytest.mark.parametrize("steps", [[3] * 12, [2, 3, 4, 5, 6, 7] * 2], ids=["as many steps", "as the text is long"])
def test_a_decoder_may_take_any_number_of_steps(steps: list[int]) -> None:
    """One enqueue of an encoder and some of a decoder: one population, however many those are."""
    enqueue, thread, stream = "[e].", ".L..", "..#."
    lanes = [(1 + count) for count in steps]
    text = "\n".join(
        (
            "nvtx 1 default:  " + "".join("[r" + "." * (4 * count - 4) + "]." for count in lanes),
            "nvtx 1 TensorRT: " + "".join(enqueue * count for count in lanes),
            "thread 1:        " + "".join(thread * count for count in lanes),
            "stream 7:        " + "".join(stream * count for count in lanes),
        )
    )
    names = [name for count in lanes for name in ["encoder", *["decoder"] * (count - 1)]]
    requests = Run.of(trace := drawn(text, kernel_names=names)).requests
    assert len(requests) == len(steps)
    assert len(requests.populations) == 1
    assert trace.rows("enqueues") == sum(lanes)


def test_ranks_may_be_threads_of_one_process() -> None:
    """The second begins its collective 3 µs later, and the first waits for it."""
    text = "\n".join(
        f"{label:<18}{part * 12}"
        for label, part in (
            ("nvtx 1:", "[i.........]"),
            ("nvtx 2:", "[i.........]"),
            ("thread 1:", "L...L......."),
            ("thread 2:", ".L.....L...."),
            ("stream 7:", "..##..######"),
            ("stream 8 device 1:", "...##....###"),
        )
    )
    names = ["product", "product", "ncclDevKernel_AllReduce", "ncclDevKernel_AllReduce"] * 12
    trace = drawn(text, kernel_names=names)
    told = waiting(Run.of(trace).ranks, one_clock=True)
    assert told is not None
    assert [(each.each, each.transfer) for each in told] == [(3 * US, 3 * US), (0, 3 * US)]
