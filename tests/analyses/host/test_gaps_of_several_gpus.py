"""FUS001 where several GPUs work: what each idles is a share of its own time, not of one GPU's."""

from __future__ import annotations

import pytest
from drawn_trace import drawn
from nsight_analyses.host.fus001_gaps_between_kernels import gaps_between_kernels


@pytest.mark.parametrize(("tail", "found"), [(0, True), (1, False)], ids=["2 µs of 40 each: 5 %", "less"])
def test_fus001_takes_the_share_of_all_gpus(tail: int, found: bool) -> None:
    each = f"[i{'.' * (37 + tail)}]"
    thread = f"Ll..................{'S' * (20 + tail)}"
    stream = f"..####..{'#' * (32 + tail)}"
    trace = drawn(
        f"""
        nvtx 1:            {each}
        nvtx 2:            {each}
        thread 1:          {thread}
        thread 2:          {thread}
        stream 7:          {stream}
        stream 8 device 1: {stream}
        """,
        kernel_calls=[0, 1, 2, 3],
    )
    (message,) = [finding.message for finding in gaps_between_kernels.run(trace).findings] or [""]
    assert ("for 5.0 % of the inference time" in message) == found
    assert bool(message) == found
