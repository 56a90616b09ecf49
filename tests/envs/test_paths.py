"""Values that move: walks, noise that returns, swings."""

import numpy as np
import pytest

from envs import Tasks, make_plain_env
from envs.changes.mujoco import MujocoFriction
from envs.changes.observations import ObservationPermutation
from envs.changes.rewards import RewardScale
from envs.schedules import OrnsteinUhlenbeck, RandomWalk, Schedule, Sinusoid
from envs.schedules.moving import BLOCK, Sums

CARTPOLE = make_plain_env("CartPole-v1")


def path(schedule: Schedule, steps: int, seed: int = 0, **change: object) -> np.ndarray:
    tasks = Tasks(schedule, {"r": RewardScale(**({"low": 0.0, "high": 2.0} | change))}, seed).bind(CARTPOLE)
    return np.array([tasks.values(step)["r"] for step in range(steps)])


@pytest.mark.parametrize("keep", [1.0, 0.97])
def test_sums_are_those_of_a_loop_over_all_numbers(keep: float) -> None:
    sums = Sums([3, 1], keep)
    blocks = [np.random.default_rng([3, 1, 0, block]).standard_normal(BLOCK) for block in range(3)]
    naive = [0.0]
    for number in np.concatenate(blocks):
        naive.append(keep * naive[-1] + number)
    asked = [BLOCK + 1, 0, 2 * BLOCK, 1, 3 * BLOCK, BLOCK, 5, 2 * BLOCK + 7]
    assert [sums.at(k) for k in asked] == pytest.approx([naive[k] for k in asked], rel=1e-9)
    assert [Sums([3, 1], keep).at(k) for k in asked] == [sums.at(k) for k in asked]
    # Blocks are joined as if there were none.
    step = sums.at(BLOCK + 1) - keep * sums.at(BLOCK)
    assert step == pytest.approx(blocks[1][0], abs=1e-9)


def test_a_walk_takes_steps_of_the_size_asked_for() -> None:
    schedule = RandomWalk(period=1000, every=10, deviation=0.05)
    ends = np.array([path(schedule, 1001, seed)[[0, 1000]] for seed in range(150)])
    assert set(ends[:, 0]) == {1.0}
    # Five per cent of the range of 2, over one period, from 150 walks.
    assert np.std(ends[:, 1]) == pytest.approx(0.1, rel=0.15)
    assert np.mean(ends[:, 1]) == pytest.approx(1.0, abs=0.03)
    values = path(schedule, 1000)
    assert {len(set(values[k : k + 10])) for k in range(0, 1000, 10)} == {1}
    assert len(set(values)) == 100


def test_a_reflected_walk_fills_its_range_evenly() -> None:
    values = path(RandomWalk(period=10, every=1, deviation=1.0), 30_000)
    assert values.min() >= 0
    assert values.max() <= 2
    counts, _ = np.histogram(values, 4, (0, 2))
    np.testing.assert_allclose(counts / len(values), 0.25, atol=0.05)
    # In the logarithm where draws are log-uniform: as much time in 0.01 to 0.1 as in 0.1 to 1.
    logs = path(RandomWalk(period=10, every=1, deviation=1.0), 30_000, low=0.01, high=1.0, draw="log_uniform")
    assert np.mean(logs < 0.1) == pytest.approx(0.5, abs=0.08)


def test_the_process_of_ornstein_and_uhlenbeck_by_its_moments() -> None:
    schedule = OrnsteinUhlenbeck(period=200, every=1, memory=20, deviation=0.1)
    values = np.concatenate([path(schedule, 8000, seed)[200:] for seed in range(6)]) - 1.0
    assert values.mean() == pytest.approx(0, abs=0.03)
    assert values.std() == pytest.approx(0.2, rel=0.08)
    for lag in (5, 20):
        assert np.mean(values[:-lag] * values[lag:]) / values.var() == pytest.approx(np.exp(-lag / 20), abs=0.06)
    assert OrnsteinUhlenbeck(period=200, every=3).memory is None


def test_a_swing_by_hand() -> None:
    values = path(Sinusoid(period=40), 81)
    np.testing.assert_allclose(values, 1 + np.sin(2 * np.pi * np.arange(81) / 40), atol=1e-12)
    assert values[0] == values[40] == values[80] == 1.0
    # From an own value that is not in the middle, and from one at the end.
    assert path(Sinusoid(period=40), 1, low=0.5, high=2.5)[0] == 1.0
    assert path(Sinusoid(period=40), 21, low=1.0, high=2.5)[[0, 20]] == pytest.approx([1.0, 2.5])


def test_paths_of_two_labels_differ_and_do_not_depend_on_each_other() -> None:
    def change() -> RewardScale:
        return RewardScale(low=0.0, high=2.0)

    schedule = RandomWalk(period=10)
    both = Tasks(schedule, {"a": change(), "b": change()}, 4).bind(CARTPOLE).values(5000)
    assert both["a"] != both["b"]
    assert Tasks(schedule, {"b": change()}, 4).bind(CARTPOLE).values(5000) == {"b": both["b"]}
    assert Tasks(schedule, {"b": change()}, 5).bind(CARTPOLE).values(5000) != {"b": both["b"]}


def test_no_amplitude_is_the_original() -> None:
    for schedule in (RandomWalk(period=10, deviation=0.0), OrnsteinUhlenbeck(period=10, deviation=0.0)):
        # In floating point, the way from 1 to its place and back does not always end at 1.
        for bounds in ((0.1, 1.7), (0.3, 1.1), (1.0, 7.0)):
            assert set(path(schedule, 50, low=bounds[0], high=bounds[1])) == {1.0}


def test_what_cannot_follow_a_path_says_so() -> None:
    with pytest.raises(ValueError, match="o cannot follow a path, because its values are not numbers"):
        Tasks(RandomWalk(period=5), {"o": ObservationPermutation()})
    with pytest.raises(ValueError, match="r follows a path from low to high; leave its values out"):
        Tasks(Sinusoid(period=5), {"r": RewardScale(values=(1, 2))})
    with pytest.raises(ValueError, match="f cannot start at the environment's own values, which are not one number"):
        Tasks(Sinusoid(period=5), {"f": MujocoFriction()}).bind(make_plain_env("Hopper-v5"))
    with pytest.raises(ValueError, match=r"own value 1, which is not within low \(1\.5\) and high \(2\.5\)"):
        path(Sinusoid(period=40), 1, low=1.5, high=2.5)
    Tasks(Sinusoid(period=5, first="drawn"), {"f": MujocoFriction()}).bind(make_plain_env("Hopper-v5"))
