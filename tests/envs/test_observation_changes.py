"""Changes of what the agent sees, against numbers worked out by hand."""

import copy
import math
import pickle
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

from configs.settings import SettingError
from envs import NonStationary, Tasks, make_plain_env
from envs.changes import Change, ChangeError
from envs.changes.delays import ObservationDelay
from envs.changes.observations import ObservationMask, ObservationRotation
from envs.changes.sensors import ObservationGains, ObservationNoise, ObservationOffset, ObservationScale
from envs.schedules import Drift, Periodic, Sinusoid, Table
from tests.changes import assert_checks


class Counter(gym.Env):
    """Shows (t, -t) at step t, in the same array again and again, for episodes of `length` steps."""

    observation_space = Box(-1000, 1000, (2,), np.float32)
    action_space = Discrete(2)

    def __init__(self, length: int = 1000) -> None:
        self.length = length
        self.buffer = np.zeros(2, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.buffer[:] = 0
        return self.buffer, {}

    def step(self, action):
        self.buffer += np.array([1, -1], np.float32)
        return self.buffer, 0.0, False, bool(self.buffer[0] == self.length), {}


class Showing(gym.Env):
    """Has observations of a given space."""

    action_space = Discrete(2)

    def __init__(self, space: gym.Space) -> None:
        self.observation_space = space


def bound(change: Change, env: gym.Env | str) -> Any:
    change.bind(make_plain_env(env) if isinstance(env, str) else env)
    return change


def test_rotation_into_more_dimensions() -> None:
    change = bound(ObservationRotation(dimensions=7), "Pendulum-v1")
    space = change.observation_space(change.space)
    assert (space.shape, space.dtype) == ((7,), np.float32)
    np.testing.assert_allclose(space.high, np.sqrt(1 + 1 + 64), rtol=2e-6)
    observation = np.array([0.6, -0.8, 5.0], np.float32)
    padded = np.array([0.6, -0.8, 5, 0, 0, 0, 0], np.float32)
    seen = change.observation(observation)
    np.testing.assert_array_equal(seen, padded)
    assert seen.dtype == np.float32
    for value in (3, 12345):
        change.set(value)
        matrix = change.matrix(value)
        assert matrix.shape == (7, 7)
        np.testing.assert_allclose(matrix.T @ matrix, np.eye(7), atol=1e-12)
        seen = change.observation(observation)
        np.testing.assert_allclose(seen, matrix @ padded, rtol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(seen), np.linalg.norm(padded), rtol=1e-6)
        assert seen.dtype == np.float32
        assert space.contains(seen)
    change.set(0)
    np.testing.assert_array_equal(change.observation(observation), padded)


def test_rotations_into_more_dimensions_are_uniform() -> None:
    change = bound(ObservationRotation(dimensions=4), Showing(Box(-1, 1, (1,), np.float64)))
    rng = np.random.default_rng(0)
    seen = []
    for _ in range(3000):
        change.set(change.sample(rng))
        seen.append(change.observation(np.ones(1)))
    # A point on the sphere: mean 0 and covariance 1/4 of the identity.
    np.testing.assert_allclose(np.mean(seen, 0), 0, atol=0.04)
    np.testing.assert_allclose(np.cov(np.transpose(seen)), np.eye(4) / 4, atol=0.03)


def test_offsets_by_hand() -> None:
    change = bound(ObservationOffset(), "Pendulum-v1")
    observation = np.array([0.5, 0.25, -3.0], np.float32)
    assert change.original == [0.0, 0.0, 0.0]
    assert change.observation(observation) is observation
    change.set([1.0, -0.25, 2.5])
    seen = change.observation(observation)
    np.testing.assert_array_equal(seen, np.array([1.5, 0.0, -0.5], np.float32))
    assert seen.dtype == np.float32
    np.testing.assert_array_equal(observation, np.array([0.5, 0.25, -3.0], np.float32))
    assert change.context([1.0, -0.25, 2.5]) == (1.0, -0.25, 2.5)
    assert change.describe([1.0, -0.25, 2.5]) == "obs offset +1 -0.25 +2.5"
    assert bound(ObservationOffset(), "HalfCheetah-v5").describe([3.0] * 16 + [4.0]) == "obs offset of length 12.6"
    change.set([0, 0, 0])
    assert change.observation(observation) is observation


def test_offsets_are_normal() -> None:
    change = bound(ObservationOffset(deviation=2), "CartPole-v1")
    rng = np.random.default_rng(0)
    drawn = np.array([change.sample(rng) for _ in range(5000)])
    np.testing.assert_allclose(drawn.mean(0), 0, atol=0.12)
    np.testing.assert_allclose(np.cov(drawn.T), 4 * np.eye(4), atol=0.25)
    space = change.observation_space(change.space)
    change.set(drawn[np.abs(drawn).max(1).argmax()].tolist())
    assert space.contains(change.observation(change.space.sample()))


def test_one_scale_for_all_by_hand() -> None:
    change = bound(ObservationScale(), "Pendulum-v1")
    observation = np.array([0.5, 0.25, -3.0], np.float32)
    assert change.observation(observation) is observation
    change.set(1.5)
    seen = change.observation(observation)
    np.testing.assert_array_equal(seen, np.array([0.75, 0.375, -4.5], np.float32))
    assert seen.dtype == np.float32
    space = change.observation_space(change.space)
    np.testing.assert_array_equal(space.high, np.array([2, 2, 16], np.float32))
    np.testing.assert_array_equal(space.low, -space.high)
    change.set(change.original)
    assert change.observation(observation) is observation


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("kind", "high"), [(ObservationScale, 3.3), (ObservationGains, 3.3), (ObservationGains, 0.9)])
def test_spaces_hold_what_is_scaled_up_to_the_last_bit(kind: type, high: float, dtype: type) -> None:
    largest = np.finfo(dtype).max
    low = np.array([0.1, -7.7, -largest, -np.inf, 1e-3], dtype)
    box = Box(low, np.array([0.3, -3.1, largest, np.inf, 5e6], dtype), dtype=dtype)
    change = bound(kind(low=0.07, high=high), Showing(box))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        space = change.observation_space(box)
    assert space.dtype == dtype
    assert (space.low[3], space.high[3]) == (-np.inf, np.inf)
    rng = np.random.default_rng(0)
    for _ in range(100):
        for value in (change.sample(rng), change.original):
            change.set(value)
            for corner in (box.low, box.high, np.where(rng.random(5) < 0.5, box.low, box.high)):
                with np.errstate(over="ignore"):
                    assert space.contains(change.observation(corner))
    for factor in (0.07, high):
        change.set(factor if kind is ObservationScale else [factor] * 5)
        with np.errstate(over="ignore"):
            assert all(space.contains(change.observation(corner)) for corner in (box.low, box.high))


def test_gains_by_hand() -> None:
    change = bound(ObservationGains(low=0.1, high=10), "Pendulum-v1")
    observation = np.array([0.5, 0.25, -3.0], np.float32)
    assert change.observation(observation) is observation
    change.set([2.0, 1.0, 0.5])
    seen = change.observation(observation)
    np.testing.assert_array_equal(seen, np.array([1.0, 0.25, -1.5], np.float32))
    assert seen.dtype == np.float32
    assert change.context([2.0, 1.0, 0.5]) == (2.0, 1.0, 0.5)
    assert change.context_bounds() == (0.1, 10.0)
    assert change.describe([2.0, 1.0, 0.5]) == "obs gains x2 x1 x0.5"
    rng = np.random.default_rng(0)
    drawn = np.log10([change.sample(rng) for _ in range(4000)])
    # Evenly between -1 and 1 in the logarithm, each for itself.
    np.testing.assert_allclose(drawn.mean(0), 0, atol=0.05)
    np.testing.assert_allclose(np.cov(drawn.T), np.eye(3) / 3, atol=0.03)
    assert drawn.min() >= -1
    assert drawn.max() <= 1


def test_noise_is_normal_and_its_own() -> None:
    change = bound(ObservationNoise(), "Pendulum-v1")
    other = bound(ObservationNoise(), "Pendulum-v1")
    observation = np.array([0.5, 0.25, -3.0], np.float32)
    change.seed(np.random.default_rng(1))
    other.seed(np.random.default_rng(2))
    before = change.rng.bit_generator.state
    assert change.observation(observation) is observation
    assert change.rng.bit_generator.state == before
    change.set(0.3)
    other.set(0.3)
    mine = np.array([change.observation(observation) for _ in range(5000)])
    theirs = np.array([other.observation(observation) for _ in range(5000)])
    assert mine.dtype == np.float32
    for noise in (mine - observation, theirs - observation):
        np.testing.assert_allclose(noise.mean(0), 0, atol=0.02)
        np.testing.assert_allclose(np.cov(noise.T), 0.09 * np.eye(3), atol=0.006)
    streams = np.corrcoef(mine.T, theirs.T)[:3, 3:]
    np.testing.assert_allclose(streams, 0, atol=0.05)
    np.testing.assert_array_equal(observation, np.array([0.5, 0.25, -3.0], np.float32))
    change.seed(np.random.default_rng(1))
    np.testing.assert_array_equal([change.observation(observation) for _ in range(10)], mine[:10])
    change.set(0)
    assert change.observation(observation) is observation


def test_noise_follows_the_seed_of_the_environment_and_the_label() -> None:
    def seen(label: str, seed: int) -> np.ndarray:
        changes = {label: ObservationNoise(values=(0.2,))}
        env = NonStationary(Counter(), Tasks(Periodic(period=100), changes, seed=7))
        return np.array([env.reset(seed=seed)[0], *(env.step(0)[0] for _ in range(20))])

    np.testing.assert_array_equal(seen("a", 3), seen("a", 3))
    assert (seen("a", 3) != seen("a", 4)).all()
    assert (seen("a", 3) != seen("b", 3)).all()


def test_masks_by_hand() -> None:
    change = bound(ObservationMask(), "CartPole-v1")
    observation = np.array([1.0, 2.0, 3.0, 4.0], np.float32)
    assert change.original == []
    assert change.observation(observation) is observation
    change.set([1, 3])
    seen = change.observation(observation)
    np.testing.assert_array_equal(seen, np.array([1, 0, 3, 0], np.float32))
    np.testing.assert_array_equal(observation, np.array([1, 2, 3, 4], np.float32))
    assert change.context([1, 3]) == (0.0, 1.0, 0.0, 1.0)
    assert change.context([]) == (0.0, 0.0, 0.0, 0.0)
    assert change.describe([1, 3]) == "obs without 1 3"
    change.set([])
    assert change.observation(observation) is observation


@pytest.mark.parametrize(
    ("settings", "count"),
    [({}, 2), ({"fraction": 0.01}, 1), ({"fraction": 0.99}, 3), ({"fraction": 0.7}, 3), ({"count": 1}, 1)],
)
def test_masks_hide_as_many_as_asked_each_equally_often(settings: dict[str, Any], count: int) -> None:
    change = bound(ObservationMask(**settings), "CartPole-v1")
    rng = np.random.default_rng(0)
    drawn = [change.sample(rng) for _ in range(2000)]
    assert all(len(value) == count and sorted(set(value)) == value for value in drawn)
    often = np.bincount(np.concatenate(drawn), minlength=4) / 2000
    np.testing.assert_allclose(often, count / 4, atol=0.05)


def test_masks_show_0_within_their_space_of_whole_numbers_too() -> None:
    box = Box(np.array([3, -5, 2]), np.array([9, -1, 4]), dtype=np.int64)
    change = bound(ObservationMask(count=2), Showing(box))
    space = change.observation_space(box)
    np.testing.assert_array_equal(space.low, [0, -5, 0])
    np.testing.assert_array_equal(space.high, [9, 0, 4])
    change.set([0, 1])
    seen = change.observation(np.array([3, -5, 2]))
    np.testing.assert_array_equal(seen, [0, 0, 2])
    assert space.contains(seen)


def run_delay(change: ObservationDelay, env: Counter, delays: list[int]) -> list[float]:
    """What is seen in an episode in which step t has the delay `delays[t]`."""
    change.set(delays[0])
    change.begin()
    seen = [change.observation(env.reset()[0]).copy()]
    for delay in delays[1:]:
        observation = env.step(0)[0]
        change.set(delay)
        seen.append(change.observation(observation).copy())
        np.testing.assert_array_equal(seen[-1][0], -seen[-1][1])
    return [row[0] for row in seen]


def test_delays_by_hand() -> None:
    change, env = bound(ObservationDelay(), Counter()), Counter()
    assert run_delay(change, env, [0, 0, 0, 0]) == [0, 1, 2, 3]
    assert run_delay(change, env, [1, 1, 1, 1]) == [0, 0, 1, 2]
    assert run_delay(change, env, [3] * 7) == [0, 0, 0, 0, 1, 2, 3]
    # From one delay to another in mid-episode: seen at step t is always what was there at t - delay.
    assert run_delay(change, env, [0, 0, 0, 2, 2, 0, 5, 5, 1]) == [0, 1, 2, 1, 2, 5, 1, 2, 7]
    # Another episode knows nothing of the last.
    assert run_delay(change, env, [5] * 8) == [0, 0, 0, 0, 0, 0, 1, 2]


def test_delays_above_those_of_the_settings() -> None:
    change, env = bound(ObservationDelay(high=2), Counter()), Counter()
    # Where nothing foretold it, the oldest observation still known stands in.
    assert run_delay(change, env, [0, 0, 0, 0, 0, 4, 4, 4, 4]) == [0, 1, 2, 3, 4, 2, 2, 3, 4]
    assert run_delay(change, env, [0, 0, 0, 0, 0, 4, 4, 4, 4]) == [0, 1, 2, 3, 4, 1, 2, 3, 4]
    change = bound(ObservationDelay(high=2), Counter())
    change.check(4)
    assert run_delay(change, env, [0, 0, 0, 0, 0, 4, 4, 4, 4]) == [0, 1, 2, 3, 4, 1, 2, 3, 4]


def test_a_delay_of_0_returns_what_it_is_given() -> None:
    change = bound(ObservationDelay(), Counter())
    change.begin()
    for number in range(3):
        observation = np.full(2, number, np.float32)
        assert change.observation(observation) is observation


def test_delays_keep_copies() -> None:
    change = bound(ObservationDelay(), Counter())
    change.set(2)
    change.begin()
    first = np.array([1.0, 1.0], np.float32)
    seen = change.observation(first)
    seen[:] = 7
    first[:] = 8
    np.testing.assert_array_equal(change.observation(np.zeros(2, np.float32)), [1, 1])
    for twin in (copy.deepcopy(change), pickle.loads(pickle.dumps(change))):
        np.testing.assert_array_equal(twin.observation(np.zeros(2, np.float32)), [1, 1])
        np.testing.assert_array_equal(twin.observation(np.zeros(2, np.float32)), [0, 0])
    np.testing.assert_array_equal(change.observation(np.zeros(2, np.float32)), [1, 1])


def test_numbers_and_images_are_delayed_too() -> None:
    change = bound(ObservationDelay(), "FrozenLake-v1")
    change.set(1)
    change.begin()
    assert [change.observation(place) for place in (4, 5, 6)] == [4, 4, 5]
    images = Showing(Box(0, 255, (4, 4, 3), np.uint8))
    change = bound(ObservationDelay(), images)
    change.set(1)
    change.begin()
    shown = [change.observation(np.full((4, 4, 3), level, np.uint8)) for level in (9, 10)]
    assert [image[0, 0, 0] for image in shown] == [9, 9]
    assert shown[1].dtype == np.uint8


@pytest.mark.parametrize("boundary", ["immediate", "next_reset", "truncate"])
def test_delays_through_the_boundaries(boundary: str) -> None:
    delays = (0, 3, 1)
    tasks = Tasks(Periodic(period=7, boundary=boundary), {"delay": ObservationDelay(values=delays)})
    env = NonStationary(Counter(length=10), tasks)
    assert env.reset()[0][0] == 0
    begun = task = 0
    for clock in range(1, 60):
        seen, _, _, truncated, _ = env.step(0)
        ended = clock - begun == 10 or (boundary == "truncate" and clock % 7 == 0)
        assert truncated == ended
        if boundary == "immediate" and not ended:
            task = clock // 7
        assert seen[0] == max(clock - begun - delays[task % 3], 0)
        if ended:
            assert env.reset()[0][0] == 0
            begun, task = clock, clock // 7


def test_whole_numbers_are_drawn_evenly() -> None:
    change = bound(ObservationDelay(low=2, high=5), Counter())
    rng = np.random.default_rng(0)
    drawn = [change.sample(rng) for _ in range(4000)]
    assert {type(value) for value in drawn} == {int}
    np.testing.assert_allclose(np.bincount(drawn) / 4000, [0, 0, 0.25, 0.25, 0.25, 0.25], atol=0.03)


def test_whole_numbers_are_drawn_as_asked() -> None:
    rng = np.random.default_rng(0)
    change = bound(ObservationDelay(low=1, high=4, draw="log_uniform"), Counter())
    drawn = [change.sample(rng) for _ in range(4000)]
    expected = [0] + [math.log(1 + 1 / k) / math.log(5) for k in (1, 2, 3, 4)]
    np.testing.assert_allclose(np.bincount(drawn) / 4000, expected, atol=0.03)
    change = bound(ObservationDelay(low=0, high=8, draw="normal"), Counter())
    drawn = [change.sample(rng) for _ in range(4000)]
    # Normal about 4 with standard deviation 2, cut off at 0 and 8.
    normal = [0.5 * math.erf((k - 4 + 0.5) / 2 / math.sqrt(2)) for k in range(8)]
    expected = np.diff([-0.5, *normal, 0.5])
    np.testing.assert_allclose(np.bincount(drawn) / 4000, expected, atol=0.03)
    change = bound(ObservationDelay(values=(0, 3, 8), draw="choice"), Counter())
    drawn = [change.sample(rng) for _ in range(3000)]
    assert {type(value) for value in drawn} == {int}
    np.testing.assert_allclose(np.bincount(drawn)[[0, 3, 8]] / 3000, 1 / 3, atol=0.03)


def test_delays_that_move_are_whole_numbers_all_the_way() -> None:
    tasks = Tasks(Drift(period=8), {"delay": ObservationDelay(values=(0, 4))}).bind(Counter())
    moved = [tasks.values(step)["delay"] for step in range(9)]
    assert moved == [0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert {type(value) for value in moved} == {int}
    tasks = Tasks(Sinusoid(period=8), {"delay": ObservationDelay(low=0, high=4)}).bind(Counter())
    moved = [tasks.values(step)["delay"] for step in range(9)]
    # From its own value, 0 and the lowest, up and down: 2 - 2 cos.
    assert moved == [0, 1, 2, 3, 4, 3, 2, 1, 0]
    assert {type(value) for value in moved} == {int}


def test_the_world_of_a_drifting_delay() -> None:
    tasks = Tasks(Drift(period=8, boundary="immediate"), {"delay": ObservationDelay(values=(0, 4))})
    env = NonStationary(Counter(), tasks)
    seen = [env.reset()[0][0], *(env.step(0)[0][0] for _ in range(8))]
    assert seen == [max(step - delay, 0) for step, delay in enumerate([0, 1, 1, 2, 2, 3, 3, 4, 4])]


def test_delays_from_a_table(tmp_path) -> None:
    (tmp_path / "delays.csv").write_text("delay\n0\n9\n")
    tasks = Tasks(
        Table(file=str(tmp_path / "delays.csv"), period=12, boundary="immediate"), {"delay": ObservationDelay()}
    )
    env = NonStationary(Counter(), tasks)
    seen = [env.reset()[0][0], *(env.step(0)[0][0] for _ in range(20))]
    assert seen == [step if step < 12 else step - 9 for step in range(21)]
    (tmp_path / "wrong.csv").write_text("delay\n2.5\n")
    with pytest.raises(ValueError, match=r"task 0: observation_delay must be a whole number, not 2\.5"):
        Tasks(Table(file=str(tmp_path / "wrong.csv"), period=12), {"delay": ObservationDelay()}).bind(Counter())


@pytest.mark.parametrize(
    ("change", "good", "wrong", "message"),
    [
        (ObservationRotation(), 5, -1, "takes the seed of a rotation, a whole number of at least 0, not -1"),
        (ObservationRotation(), 0, 2.5, "not 2.5"),
        (ObservationOffset(), [1, 2.5, -3], [1, 2], r"takes a list of 3 finite numbers, not \[1, 2\]"),
        (ObservationOffset(), [0, 0, 0], [1, 2, math.nan], "not \\[1, 2, nan\\]"),
        (ObservationOffset(), [0, 0, 0], 4, "not 4"),
        (ObservationScale(), 0.5, 3, "made for factors from 0.5 to 2 .low, high., not 3"),
        (ObservationScale(high=4), 4.0, 0, "obs must be above 0, not 0"),
        (
            ObservationGains(),
            [1, 2, 0.5],
            [1, 2, 3],
            r"takes a list of 3 finite numbers from 0.5 to 2, not \[1, 2, 3\]",
        ),
        (ObservationNoise(), 30, -0.5, "observation_noise must be at least 0, not -0.5"),
        (ObservationNoise(), 0, "much", "takes finite numbers, not 'much'"),
        (ObservationMask(), [0, 2], [0, 3], r"takes a list of whole numbers from 0 to 2, not \[0, 3\]"),
        (ObservationMask(), [], [2, 0], r"takes components in order and once each, not \[2, 0\]"),
        (ObservationMask(), [1], [1.0], "whole numbers"),
        (ObservationDelay(), 40, -2, "observation_delay must be at least 0 and at most 10000, not -2"),
        (ObservationDelay(), 3.0, True, "takes finite numbers, not True"),
    ],
)
def test_values_from_a_table_are_checked(change: Change, good: Any, wrong: Any, message: str) -> None:
    change = bound(copy.deepcopy(change), "Pendulum-v1")
    assert_checks(change, good, wrong, message)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ObservationRotation(dimensions=1), "dimensions must be at least 2 and at most 4096, not 1"),
        (lambda: ObservationOffset(deviation=0), "deviation must be above 0, not 0"),
        (lambda: ObservationScale(low=-1), "low must be above 0 where draw is log_uniform, not -1"),
        (lambda: ObservationScale(values=(1, 0)), "values must be above 0 for obs, not 0"),
        (lambda: ObservationGains(low=3, high=2), r"low must be below high \(2\), not 3"),
        (lambda: ObservationNoise(values=(0.1, -0.1)), "values must be at least 0, not -0.1"),
        (lambda: ObservationNoise(mode="factor"), "mode must be one of absolute, not 'factor'"),
        (lambda: ObservationMask(fraction=1), "fraction must be above 0 and below 1, not 1"),
        (lambda: ObservationMask(fraction=0.5, count=2), "count must be left out where fraction is given, not 2"),
        (lambda: ObservationDelay(low=1.5), "low must be a whole number, not 1.5"),
        (lambda: ObservationDelay(values=(1, 2.5)), "values must be a whole number, not 2.5"),
        (lambda: ObservationDelay(low=5, high=2), r"low must be below high \(2\), not 5"),
    ],
)
def test_wrong_settings(make: Any, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        make()


WHOLE = Showing(Box(-3, 3, (4,), np.int64))
ONE = Showing(Box(-3, 3, (1,), np.float64))


@pytest.mark.parametrize(
    ("change", "env", "message"),
    [
        (ObservationRotation(), ONE, "it needs a vector of two or more floating numbers"),
        (ObservationRotation(dimensions=3), "CartPole-v1", "it needs a vector of at most 3 floating numbers"),
        (ObservationOffset(), WHOLE, "observation_offset does not fit Showing: it needs a vector of floating numbers"),
        (ObservationScale(), "FrozenLake-v1", "it needs a vector of floating numbers as observation"),
        (ObservationGains(), WHOLE, "it needs a vector of floating numbers"),
        (ObservationNoise(), WHOLE, "it needs a vector of floating numbers"),
        (ObservationMask(), ONE, "it needs a vector of 2 or more numbers"),
        (ObservationMask(count=4), WHOLE, "it needs a vector of 5 or more numbers"),
        (ObservationMask(), Showing(Box(0, 255, (4, 4, 3), np.uint8)), "it needs a vector of 2 or more numbers"),
        (ObservationDelay(), Showing(Dict({"a": Discrete(2)})), "it needs observations that are one array or one"),
    ],
)
def test_changes_say_what_they_fit(change: Change, env: gym.Env | str, message: str) -> None:
    with pytest.raises(ChangeError, match=message):
        bound(change, env)
