from __future__ import annotations

import numpy as np
import pytest

from nsight_tools.worth.ranges import Range, shares


def test_draws_of_a_range_lie_in_it_nine_times_in_ten_and_half_on_each_side() -> None:
    drawn = Range(10.0, 20.0, 50.0).at((np.arange(1_000) + 0.5) / 1_000)
    assert np.mean(drawn < 20.0) == 0.5
    assert np.percentile(drawn, [5, 95]) == pytest.approx([10, 50], abs=0.2)


def test_a_range_is_in_order() -> None:
    with pytest.raises(ValueError, match="not a range"):
        Range(2.0, 1.0, 3.0)


def test_one_more_value_lies_over_those_that_are_known() -> None:
    assert Range.over([0.0, 30.0, 300.0], 10.0) == Range(-10.0, 110.0, 310.0)


def test_shares_are_the_same_at_every_call_and_each_part_is_drawn_once() -> None:
    drawn = shares(14, 31)
    assert (drawn == shares(14, 31)).all()
    assert (np.sort(drawn, axis=1) == (np.arange(31) + 0.5) / 31).all()
    assert np.abs(np.corrcoef(drawn) - np.eye(14)).max() < 0.6
