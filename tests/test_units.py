from __future__ import annotations

import math

import pytest

from nsight_tools import units


@pytest.mark.parametrize(
    ("low", "high", "of", "shown"),
    [
        (1_000_000, 1_180_000, None, "1.00 to 1.18 ms"),
        (830_000, 1_070_000, None, "0.830 to 1.07 ms"),
        (1_460_000, 850_000, None, "1.46 to 0.850 ms"),
        (1_460_000, 85_000, None, "1.46 ms to 85.0 µs"),
        (85_000, 1_460_000, None, "85.0 µs to 1.46 ms"),
        (0, 300_000, None, "0 to 300 µs"),
        (300, 850, None, "300 to 850 ns"),
        (152_000, 300_000, 1_460_000, "0.152 to 0.300 ms"),
        (85_000, 300_000, 1_460_000, "85.0 µs to 0.300 ms"),
        (15_000, 85_000, 1_460_000, "15.0 to 85.0 µs"),
        (152_000, 1_900_000, 1_460_000, "0.152 to 1.90 ms"),
    ],
)
def test_two_ends_are_in_the_unit_of_what_they_are_a_part_of(low: int, high: int, of: int | None, shown: str) -> None:
    assert units.between(low, high, of_ns=of) == shown


@pytest.mark.parametrize(
    ("ns", "shown"),
    [
        (0, "0 ns"),
        (850, "850 ns"),
        (999, "999 ns"),
        (1000, "1.00 µs"),
        (12_345, "12.3 µs"),
        (999_400, "999 µs"),
        (999_600, "1.00 ms"),
        (4_000_000, "4.00 ms"),
        (9_999_000, "10.0 ms"),
        (61_000_000_000, "61.0 s"),
        (1_234_000_000_000, "1,234 s"),
        (-1500, "-1.50 µs"),
        (None, "unknown"),
        (math.nan, "unknown"),
    ],
)
def test_durations_have_three_digits_and_the_unit_that_fits(ns: float | None, shown: str) -> None:
    assert units.duration(ns) == shown


@pytest.mark.parametrize(
    ("ns", "shown"),
    [
        (0, "0.000000s"),
        (1_234_567_891, "1.234567s"),
        (999_999_999, "0.999999s"),
        (-1, "-0.000001s"),
        (-1_500_000_000, "-1.500000s"),
    ],
)
def test_moments_are_cut_to_the_microsecond(ns: int, shown: str) -> None:
    assert units.moment(ns) == shown


@pytest.mark.parametrize(
    ("ratio", "shown"),
    [
        (0.3, "30 %"),
        (0.0615, "6.2 %"),
        (0.00031, "0.031 %"),
        (0.00001, "<0.01 %"),
        (0.9969, "99.7 %"),
        (1, "100 %"),
        (3.1, "310 %"),
        (0, "0 %"),
        (None, "unknown"),
        (math.inf, "unknown"),
        (12.345, "1,234 %"),
    ],
)
def test_shares(ratio: float | None, shown: str) -> None:
    assert units.share(ratio) == shown


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (1500, "ns", "1.50 µs"),
        (4_194_304, "bytes", "4.19 MB"),
        (512, "bytes", "512 B"),
        (22.7e9, "B/s", "22.7 GB/s"),
        (12_345, "count", "12,345"),
        (1980.0, "MHz", "1,980 MHz"),
        (0.5, "ratio", "50 %"),
        (2.345, "", "2.35"),
        ("legacy default", "", "legacy default"),
        (math.nan, "MHz", "unknown MHz"),
    ],
)
def test_quantities_follow_their_unit(value: float | str, unit: str, shown: str) -> None:
    assert units.quantity(value, unit) == shown
