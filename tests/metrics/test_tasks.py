"""Measures of tasks on episodes whose answers are worked out by hand."""

import math

import numpy as np
import pytest

from metrics.tasks import (
    TaskReturns,
    area,
    at_beginning,
    at_end,
    drop,
    forgetting,
    forward_transfer,
    gap,
    jump_start,
    normalized_gap,
    over_task,
    recovery,
    scaled,
    threshold,
    visits,
)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def floats(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)


def test_returns_over_a_task_and_at_its_end() -> None:
    returns = np.arange(30.0)
    counted = TaskReturns()
    for value in returns:
        counted.add(value)
    assert over_task(returns) == counted.mean == 14.5
    assert at_end(returns) == counted.at_end == np.mean(np.arange(10, 30)) == 19.5
    assert at_beginning(returns) == 4.5
    assert math.isnan(over_task(floats()))
    assert math.isnan(at_end(floats()))
    assert math.isnan(TaskReturns().at_end)


def test_area_holds_each_return_until_the_next_episode_ends() -> None:
    # 0 until step 20, 10 until 40, 20 until 100
    assert area(ints(10, 20, 40), floats(0, 10, 20), 100) == pytest.approx((10 * 20 + 20 * 60) / 100)
    assert area(ints(60), floats(7), 100) == 7
    assert math.isnan(area(ints(), floats(), 100))
    assert math.isnan(area(ints(1), floats(1), 0))


def test_area_averages_episodes_that_end_together() -> None:
    assert area(ints(10, 10, 50), floats(0, 10, 20), 100) == pytest.approx((5 * 50 + 20 * 50) / 100)


def test_area_counts_steps_so_that_many_short_bad_episodes_do_not_rule_it() -> None:
    steps = np.concatenate([np.arange(5, 501, 5), np.arange(600, 1001, 100)])
    returns = np.concatenate([np.full(100, 5.0), np.full(5, 100.0)])
    assert area(steps, returns, 1000) == pytest.approx((5 * 600 + 100 * 400) / 1000)
    assert over_task(returns) == pytest.approx(1000 / 105)


def test_area_does_not_favour_long_episodes_where_nothing_is_learnt() -> None:
    lengths = np.random.default_rng(0).choice([10, 100], size=20_000)  # returns are lengths, as in CartPole
    found = area(np.cumsum(lengths), lengths.astype(float), int(lengths.sum()))
    assert found == pytest.approx(55, abs=1)  # by length it would be (10^2 + 100^2) / 110 = 91.8


def test_recovery_is_when_the_mean_of_the_last_episodes_reaches_the_goal() -> None:
    steps, returns = np.arange(10, 510, 10), np.repeat([0.0, 100.0], 25)
    # the window of 20 holds 16 good episodes once 41 have ended
    assert recovery(steps, returns, 500, goal=80) == (410, True)
    assert recovery(steps, returns, 500, goal=100) == (450, True)
    assert recovery(steps, returns, 500, goal=101) == (500, False)
    assert recovery(steps[:41], returns[:41], 500, goal=80) == (410, True)
    assert recovery(steps[:40], returns[:40], 500, goal=80) == (500, False)
    assert recovery(steps, returns, 500, goal=math.nan) is None


def test_recovery_takes_five_episodes_at_least() -> None:
    steps, returns = np.arange(10, 110, 10), np.full(10, 100.0)
    assert recovery(steps, returns, 100, goal=80) == (50, True)
    assert recovery(steps[:4], returns[:4], 100, goal=80) == (100, False)
    assert recovery(ints(), floats(), 100, goal=80) == (100, False)


def test_threshold_is_below_the_reference_also_where_returns_are_negative() -> None:
    assert threshold(100) == pytest.approx(80)
    assert threshold(-100) == pytest.approx(-120)
    assert threshold(-100, floor=-500) == pytest.approx(-180)
    assert threshold(100, floor=20) == pytest.approx(84)
    assert math.isnan(threshold(math.nan))


def test_drop_and_jump_start_compare_beginnings() -> None:
    before = np.concatenate([np.zeros(30), np.full(20, 50.0)])
    after = np.concatenate([np.full(10, 8.0), np.full(90, 300.0)])
    assert drop(before, after) == 42
    assert jump_start(after, np.full(3, 20.0)) == -12
    assert math.isnan(drop(before, floats()))
    assert math.isnan(jump_start(floats(), after))


def test_forward_transfer_by_hand() -> None:
    assert scaled(70, floor=20, ceiling=120) == 0.5
    # scaled areas 0.7 and 0.5: (0.7 - 0.5) / (1 - 0.5)
    assert forward_transfer(90, 70, floor=20, ceiling=120) == pytest.approx(0.4)
    assert forward_transfer(20, 70, floor=20, ceiling=120) == pytest.approx(-1)
    assert forward_transfer(120, 70, floor=20, ceiling=120) == pytest.approx(1)
    assert math.isnan(forward_transfer(110, 119, floor=20, ceiling=120))  # nothing is left to gain
    assert math.isnan(forward_transfer(1, 1, floor=5, ceiling=5))
    assert math.isnan(forward_transfer(math.nan, 1, 0, 2))


def test_forgetting_between_visits_to_the_same_task() -> None:
    changes = ["a", "b", "a", "c", "a", "b"]
    assert visits(changes) == [[0, 2, 4], [1, 5]]
    ends, beginnings = [100, 50, 90, 10, 95, 60], [0, 1, 70, 3, 20, 5]
    assert forgetting(ends, beginnings, changes) == [100 - 70, 90 - 20, 50 - 5]


def test_a_task_that_follows_upon_itself_has_not_been_left() -> None:
    assert visits(["a", "a", "a"]) == [] == visits(["a", "b", "c"])
    assert visits(["a", "a", "b", "a"]) == [[0, 3]]
    assert forgetting([10, 20, 5, 0], [0, 0, 0, 3], ["a", "a", "b", "a"]) == [20 - 3]  # what it had when it left


def test_normalized_gap_divides_means_not_tasks() -> None:
    fresh, arm, floor = floats(100, 100, math.nan), floats(50, 80, 3), floats(20, 40, 20)
    np.testing.assert_array_equal(gap(fresh, arm), [50, 20, math.nan])
    assert normalized_gap(fresh, arm, floor) == pytest.approx(35 / 70)  # not (50/80 + 20/60) / 2
    assert math.isnan(normalized_gap(floats(10), floats(5), floats(10)))
    assert math.isnan(normalized_gap(floats(math.nan), floats(5), floats(1)))
