"""Estimates worked out by hand or by scipy, and intervals that hold the truth as often as they say."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from reporting import survival
from reporting.moved import ranks, spearman
from reporting.statistics import (
    Interval,
    counts,
    draws,
    interquartile_mean,
    interval,
    mean,
    per_task,
    probability_of_improvement,
)

NAN = math.nan


@pytest.mark.parametrize("cells", range(1, 14))
def test_interquartile_mean_is_scipys_trimmed_mean(cells: int) -> None:
    values = np.random.default_rng(cells).normal(size=(1, cells))
    assert float(interquartile_mean(values)) == pytest.approx(stats.trim_mean(values, 0.25, axis=None))


def test_interquartile_mean_by_hand() -> None:
    # of 7 cells floor(7/4) = 1 is cut on either side: (1 + 2 + 3 + 4 + 5) / 5
    assert float(interquartile_mean(np.array([[100.0, 1, 2, 3], [4, 5, -100, NAN]]))) == 3
    assert float(interquartile_mean(np.array([[1.0], [2], [30]]))) == 11  # of 3 cells none is cut
    assert math.isnan(float(interquartile_mean(np.array([[NAN]]))))


def test_stacked_scores_are_each_estimated_alone() -> None:
    scores = np.random.default_rng(0).normal(size=(5, 4, 3))
    scores[2, 1, 1] = NAN
    for statistic in (mean, interquartile_mean):
        np.testing.assert_allclose(statistic(scores), [float(statistic(own)) for own in scores])


def test_whole_runs_are_drawn_and_never_cells() -> None:
    # Within a run all cells are alike: were cells drawn, the interval would be far narrower.
    scores = np.repeat(np.array([[0.0], [1.0], [2.0], [3.0]]), 50, axis=1)
    found = interval(mean, scores)
    exact = np.quantile([np.mean(rows) for rows in itertools.product(range(4), repeat=4)], [0.025, 0.975])
    assert found.value == 1.5
    assert found.runs == 4
    assert (found.low, found.high) == (pytest.approx(exact[0], abs=0.26), pytest.approx(exact[1], abs=0.26))


def test_an_interval_is_the_same_each_time_and_needs_two_runs() -> None:
    scores = np.random.default_rng(0).normal(size=(6, 3))
    assert interval(mean, scores) == interval(mean, scores)
    single = interval(mean, scores[:1])
    assert single.value == pytest.approx(scores[0].mean())
    assert math.isnan(single.low)
    assert math.isnan(single.high)
    assert not single.is_positive
    assert not single.is_negative
    assert math.isnan(interval(mean, np.empty((0, 3))).value)


def test_runs_without_a_number_do_not_count() -> None:
    scores = np.array([[1.0, NAN], [3.0, 5.0], [NAN, NAN]])
    found = interval(mean, scores)
    assert found.runs == 2
    assert found.value == 3
    assert (found.low, found.high) == (1, 4)  # twice the first run, twice the second


def test_paired_arrays_are_drawn_together() -> None:
    one = np.random.default_rng(0).normal(size=(8, 2)) * 100
    other = one + 1
    found = interval(lambda x, y: mean(y) - mean(x), one, other)
    assert (found.low, found.high) == (pytest.approx(1), pytest.approx(1))


def test_intervals_of_twenty_runs_hold_the_truth_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for trial in range(400):
        scores = 3 + generator.normal(size=(20, 1)) + 0.5 * generator.normal(size=(20, 4))
        found = interval(mean, scores, resamples=300, seed=trial)
        hits += found.low <= 3 <= found.high
    assert 0.89 < hits / 400 < 0.97  # percentile intervals of 20 runs: 93 %


def test_probability_of_improvement_is_mann_whitneys() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.integers(5, size=(6, 1)).astype(float), generator.integers(5, size=(4, 1)).astype(float)
    statistic = stats.mannwhitneyu(x[:, 0], y[:, 0]).statistic
    assert probability_of_improvement(x, y).value == pytest.approx(statistic / 24)


def test_probability_of_improvement_by_hand() -> None:
    one, other = np.array([[1.0, 5.0], [2.0, NAN]]), np.array([[1.0, 6.0], [0.0, 6.0]])
    # task 0: 1=1, 1>0, 2>1, 2>0: 3.5 of 4; task 1: 5<6 twice: 0 of 2
    found = probability_of_improvement(one, other)
    assert found.value == pytest.approx(3.5 / 6)
    assert found.low <= found.value <= found.high
    assert found.runs == 2
    assert probability_of_improvement(one + 10, other) == Interval(1, 1, 1, 2)
    assert math.isnan(probability_of_improvement(one[:1], other).low)
    assert math.isnan(probability_of_improvement(one[:0], other).value)


def test_probability_of_improvement_resamples_runs_of_both_arms() -> None:
    generator = np.random.default_rng(1)
    x, y = generator.normal(0.5, size=(5, 3)), generator.normal(size=(4, 3))
    found = probability_of_improvement(x, y, resamples=500)
    rows, others = draws(5, 500, 0), draws(4, 500, 1)
    naive = [(x[a][:, None] > y[b][None]).mean() for a, b in zip(rows, others, strict=True)]
    assert (found.low, found.high) == tuple(pytest.approx(end) for end in np.quantile(naive, [0.025, 0.975]))


def test_intervals_of_each_task_are_those_of_its_column() -> None:
    scores = np.random.default_rng(0).normal(size=(5, 3))
    scores[1:, 2] = NAN
    value, low, high = per_task(scores)
    alone = interval(mean, scores[:, :1])
    assert (value[0], low[0], high[0]) == tuple(pytest.approx(end) for end in (alone.value, alone.low, alone.high))
    assert value[2] == scores[0, 2]
    assert math.isnan(low[2])
    assert math.isnan(high[2])


def test_counts_say_how_often_each_run_was_drawn() -> None:
    np.testing.assert_array_equal(counts(np.array([[0, 0, 2], [1, 1, 1]])), [[2, 0, 1], [0, 3, 0]])


def test_kaplan_meier_is_scipys() -> None:
    generator = np.random.default_rng(0)
    times = generator.integers(1, 12, size=40).astype(float)
    reached = generator.random(40) < 0.6
    moments, share = survival.curve(times, reached)
    known = stats.ecdf(stats.CensoredData.right_censored(times, ~reached)).sf
    np.testing.assert_allclose(share, known.evaluate(moments))


def test_kaplan_meier_by_hand() -> None:
    times, reached = np.array([2.0, 3, 3, 5, 8]), np.array([True, True, False, True, False])
    moments, share = survival.curve(times, reached)
    np.testing.assert_array_equal(moments, [2, 3, 5, 8])
    # 4/5, then 3/4 of it, then 1/2 of that (one of the two still waiting)
    np.testing.assert_allclose(share, [0.8, 0.6, 0.3, 0.3])
    assert survival.median(times, reached) == 5
    assert survival.median(times, np.zeros(5, bool)) == math.inf
    assert math.isnan(survival.median(times[:0], reached[:0]))


def test_restricted_mean_of_equally_long_tasks_is_the_mean_with_the_length_for_those_in_vain() -> None:
    times = np.array([[100.0, 400.0, 1000.0], [300.0, 1000.0, NAN]])
    reached = np.array([[True, True, False], [True, False, False]])
    found = survival.restricted_mean(times, reached)
    assert found.value == pytest.approx((100 + 400 + 1000 + 300 + 1000) / 5)
    assert found.runs == 2
    assert (found.low, found.high) == (pytest.approx(500), pytest.approx(650))  # twice one run, twice the other


def test_restricted_mean_by_hand_where_a_short_task_was_given_up_early() -> None:
    times, reached = np.array([[2.0, 4.0, 10.0, 10.0]]), np.array([[True, False, False, False]])
    # 1 until 2, then 3/4 until 10, the usual length
    assert survival.restricted_mean(times, reached).value == pytest.approx(2 + 0.75 * 8)
    assert survival.restricted_mean(np.array([[3.0, 5.0]]), np.array([[True, True]])).value == pytest.approx(4)


def test_weighted_ranks_are_those_of_repeated_cells() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.integers(4, size=12).astype(float), generator.normal(size=12)
    weights = generator.integers(0, 4, size=(3, 12)).astype(float)
    for own in weights:
        times = own.astype(int)
        repeated = stats.rankdata(np.repeat(x, times))
        np.testing.assert_allclose(np.repeat(ranks(x, own), times), repeated)
        known = stats.spearmanr(np.repeat(x, times), np.repeat(y, times)).statistic
        assert float(spearman(x, y, own)) == pytest.approx(known)
    np.testing.assert_allclose(spearman(x, y, weights), [float(spearman(x, y, own)) for own in weights])
    assert math.isnan(float(spearman(np.ones(3), np.arange(3.0), np.ones(3))))
