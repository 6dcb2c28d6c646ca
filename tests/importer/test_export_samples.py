"""Samples that do not say which GPU they are of."""

from __future__ import annotations

import pytest
from drawing import table

from nsight_tools.importer.samples import resolved


@pytest.mark.parametrize(
    ("buses", "working", "expected"),
    [
        (["0000:18", "0000:18"], [3], [3, 3]),
        (["0000:18", "0000:19"], [3], [None, None]),  # two GPUs were sampled
        (["0000:18", "0000:18"], [3, 4], [None, None]),  # two worked
        (["0000:18", "0000:18"], [], [None, None]),  # none did
    ],
    ids=["one of each", "two sampled", "two worked", "none worked"],
)
def test_samples_are_of_the_gpu_that_worked_where_there_is_one(
    buses: list[str], working: list[int], expected: list[int | None]
) -> None:
    rows = [{"time_ns": at, "device": None, "bus_id": bus} for at, bus in enumerate(buses)]
    assert resolved(table("telemetry", rows), working)["device"].to_pylist() == expected


def test_what_says_its_gpu_is_left_as_it_is() -> None:
    rows = [{"time_ns": at, "device": 1, "metric": "Power", "value": 1.0} for at in range(2)]
    assert resolved(table("nvml_metrics", rows), [0])["device"].to_pylist() == [1, 1]
