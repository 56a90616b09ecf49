"""Changes of what actions do, against numbers worked out by hand."""

import copy
import itertools
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from configs.settings import SettingError
from envs import NonStationary, Tasks, make_plain_env
from envs.changes import Change, ChangeError
from envs.changes.actions import ActionFlip, ActionNoise, ActionPermutation, ActionScale, ActionSticky
from envs.changes.delays import ActionDelay
from envs.schedules import Periodic
from tests.changes import assert_checks


class Doing(gym.Env):
    """Writes down what it is told, in episodes of `length` steps."""

    observation_space = Box(-1, 1, (1,), np.float32)

    def __init__(self, space: gym.Space, length: int = 1000) -> None:
        self.action_space = space
        self.length = length
        self.told: list[Any] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.told = []
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.told.append(copy.copy(action))
        if isinstance(action, np.ndarray):
            action *= 0  # environments may do as they like with what they are told
        return np.zeros(1, np.float32), 0.0, False, len(self.told) == self.length, {}


FIVE = Discrete(5)
LATE = Discrete(5, start=3)
PAIR = Box(np.array([-1, -2], np.float32), np.array([1, 2], np.float32))
ODD = Box(np.array([0.25, -4], np.float32), np.array([1, -1], np.float32))


def bound(change: Change, space: gym.Space | str) -> Any:
    change.bind(make_plain_env(space) if isinstance(space, str) else Doing(space))
    return change


def told(change: Change, space: gym.Space, actions: list[Any], values: list[Any]) -> list[Any]:
    """What the environment is told in an episode in which step t has the value `values[t]`."""
    change.set(values[0])
    change.begin()
    found = []
    for action, value in zip(actions, values, strict=True):
        change.set(value)
        done = change.action(action)
        assert space.contains(done)
        found.append(copy.copy(done))
    return found


def test_flips_by_hand() -> None:
    change = bound(ActionFlip(), PAIR)
    action = np.array([0.5, -1.5], np.float32)
    assert change.original == [1, 1]
    assert change.action(action) is action
    change.set([1, -1])
    done = change.action(action)
    np.testing.assert_array_equal(done, np.array([0.5, 1.5], np.float32))
    assert done.dtype == np.float32
    np.testing.assert_array_equal(action, np.array([0.5, -1.5], np.float32))
    assert change.context([1, -1]) == (1.0, -1.0)
    assert change.describe([1, -1]) == "actions flipped 1"
    assert change.describe([1, 1]) == "actions original"
    change.set([1, 1])
    assert change.action(action) is action


def test_all_flips_are_as_likely_and_never_none() -> None:
    change = bound(ActionFlip(), Box(-1, 1, (3,)))
    rng = np.random.default_rng(0)
    drawn = [tuple(change.sample(rng)) for _ in range(3500)]
    assert len(set(drawn)) == 7
    assert (1, 1, 1) not in drawn
    np.testing.assert_allclose([drawn.count(value) / 3500 for value in set(drawn)], 1 / 7, atol=0.02)
    change = bound(ActionFlip(count=2), "HalfCheetah-v5")
    drawn = np.array([change.sample(rng) for _ in range(2000)])
    assert set((drawn < 0).sum(1)) == {2}
    np.testing.assert_allclose((drawn < 0).mean(0), 1 / 3, atol=0.04)
    assert bound(ActionFlip(count=1), "Pendulum-v1").sample(rng) == [-1]


def test_scales_by_hand() -> None:
    change = bound(ActionScale(), PAIR)
    action = np.array([0.5, -1.5], np.float32)
    assert change.action(action) is action
    change.set(0.5)
    done = change.action(action)
    np.testing.assert_array_equal(done, np.array([0.25, -0.75], np.float32))
    assert done.dtype == np.float32
    # What leaves the bounds is cut off there.
    change.set(1.5)
    np.testing.assert_array_equal(change.action(action), np.array([0.75, -2], np.float32))
    np.testing.assert_array_equal(action, np.array([0.5, -1.5], np.float32))
    change.set(change.original)
    assert change.action(action) is action
    change = bound(ActionScale(), ODD)
    change.set(0.1)
    np.testing.assert_array_equal(change.action(np.array([0.5, -2], np.float32)), np.array([0.25, -1], np.float32))
    change = bound(ActionScale(mode="factor", low=2, high=3), Box(-np.inf, np.inf, (1,)))
    change.set(3)
    assert change.action(np.array([500], np.float32)) == 1500


def test_noise_on_continuous_actions_is_a_share_of_their_range() -> None:
    wide = Box(np.array([-1, 0], np.float32), np.array([1, 10], np.float32))
    change = bound(ActionNoise(), wide)
    change.seed(np.random.default_rng(0))
    action = np.array([0, 5], np.float32)
    assert change.action(action) is action
    change.set(0.1)
    done = np.array([change.action(action) for _ in range(5000)])
    assert done.dtype == np.float32
    np.testing.assert_allclose(done.mean(0), [0, 5], atol=0.03)
    # A tenth of half the range: 0.1 and 0.5. Ten deviations off the bounds, nothing is cut off.
    np.testing.assert_allclose(np.cov(done.T), [[0.01, 0], [0, 0.25]], atol=0.01)
    np.testing.assert_array_equal(action, np.array([0, 5], np.float32))
    edge = np.array([1, 0], np.float32)
    done = np.array([change.action(edge) for _ in range(1000)])
    assert all(wide.contains(row) for row in done)
    np.testing.assert_allclose((done == edge).mean(0), 0.5, atol=0.06)


@pytest.mark.parametrize("space", [FIVE, LATE])
def test_noise_on_discrete_actions_is_a_probability(space: Discrete) -> None:
    change = bound(ActionNoise(), space)
    change.seed(np.random.default_rng(0))
    chosen = np.int64(space.start + 2)
    assert change.action(chosen) is chosen
    change.set(0.4)
    done = [change.action(chosen) for _ in range(5000)]
    assert all(space.contains(action) for action in done)
    often = np.bincount(np.array(done) - space.start, minlength=5) / 5000
    np.testing.assert_allclose(often, [0.08, 0.08, 0.68, 0.08, 0.08], atol=0.02)
    change.set(1)
    done = [change.action(chosen) for _ in range(5000)]
    np.testing.assert_allclose(np.bincount(np.array(done) - space.start) / 5000, 0.2, atol=0.02)


def test_noise_has_a_stream_of_its_own_for_each_seed_and_label() -> None:
    def told_by(label: str, seed: int) -> list[float]:
        env = NonStationary(Doing(PAIR), Tasks(Periodic(period=100), {label: ActionNoise(values=(0.2,))}, seed=7))
        env.reset(seed=seed)
        for _ in range(20):
            env.step(np.zeros(2, np.float32))
        return [float(action[0]) for action in env.unwrapped.told]

    assert told_by("a", 3) == told_by("a", 3)
    assert not set(told_by("a", 3)) & set(told_by("a", 4))
    assert not set(told_by("a", 3)) & set(told_by("b", 3))


def test_sticky_actions_repeat_what_was_done() -> None:
    change = bound(ActionSticky(), Discrete(100_000))
    change.seed(np.random.default_rng(0))
    actions = list(range(5000))
    # Nothing is drawn and nothing repeated at 0; at 1, the first action is all that is ever done.
    state = change.rng.bit_generator.state
    assert told(change, Discrete(100_000), actions, [0.0] * 5000) == actions
    assert change.rng.bit_generator.state == state
    assert told(change, Discrete(100_000), [7, 8, 9], [1.0] * 3) == [7, 7, 7]
    done = told(change, Discrete(100_000), actions, [0.25] * 5000)
    assert done[0] == 0
    repeated = np.array([now == before for before, now in itertools.pairwise(done)])
    assert repeated.mean() == pytest.approx(0.25, abs=0.02)
    # What is repeated is what was done, not what had been chosen: runs of k repetitions have probability p^k.
    twice = repeated[1:] & repeated[:-1]
    assert twice.mean() == pytest.approx(0.0625, abs=0.01)
    assert all(done[step] in (done[step - 1], actions[step]) for step in range(1, 5000))


def test_sticky_actions_from_one_step_to_the_next() -> None:
    change = bound(ActionSticky(), FIVE)
    # What was done before the value changed is known; another episode knows nothing of the last.
    assert told(change, FIVE, [1, 2, 3, 4, 0], [0.0, 0.0, 1.0, 1.0, 0.0]) == [1, 2, 2, 2, 0]
    assert told(change, FIVE, [3, 4], [1.0, 1.0]) == [3, 3]
    assert told(change, FIVE, [4, 1], [1.0, 1.0]) == [4, 4]


def test_sticky_actions_are_copies() -> None:
    env = NonStationary(Doing(PAIR), Tasks(Periodic(period=9), {"sticky": ActionSticky(values=(1.0,))}))
    env.reset()
    buffer = np.zeros(2, np.float32)
    for number in (0.5, 0.6, 0.7, 0.8):
        buffer[:] = number
        env.step(buffer)
    np.testing.assert_array_equal(env.unwrapped.told, np.full((4, 2), 0.5, np.float32))


def test_delays_by_hand() -> None:
    change = bound(ActionDelay(idle=4), FIVE)
    assert told(change, FIVE, [0, 1, 2, 3], [0] * 4) == [0, 1, 2, 3]
    assert told(change, FIVE, [0, 1, 2, 3], [1] * 4) == [4, 0, 1, 2]
    assert told(change, FIVE, [0, 1, 2, 3], [3] * 4) == [4, 4, 4, 0]
    # From one delay to another in mid-episode: done at step t is always what was chosen at t - delay.
    actions = [0, 1, 2, 3, 0, 1, 2, 3]
    assert told(change, FIVE, actions, [0, 0, 0, 2, 2, 0, 5, 1]) == [0, 1, 2, 1, 2, 1, 1, 2]
    assert told(change, FIVE, [0, 1, 2, 3], [2] * 4) == [4, 4, 0, 1]
    assert told(change, FIVE, [0, 1, 2, 3], [9, 9, 0, 0]) == [4, 4, 2, 3]


@pytest.mark.parametrize(
    ("space", "idle"), [(FIVE, 0), (LATE, 3), (PAIR, [0, 0]), (ODD, [0.25, -1]), (Box(-2, 2, (3, 2)), np.zeros((3, 2)))]
)
def test_what_is_done_before_the_first_action(space: gym.Space, idle: Any) -> None:
    change = bound(ActionDelay(), space)
    space.seed(0)
    actions = [space.sample() for _ in range(4)]
    done = told(change, space, actions, [2] * 4)
    np.testing.assert_array_equal(done[0], idle)
    np.testing.assert_array_equal(done[1], idle)
    np.testing.assert_array_equal(done[2:], actions[:2])
    assert [type(action) for action in done] == [type(actions[0])] * 4
    assert {getattr(action, "dtype", None) for action in done} == {actions[0].dtype}


def test_delays_keep_copies() -> None:
    env = NonStationary(Doing(PAIR), Tasks(Periodic(period=9), {"delay": ActionDelay(values=(2,))}))
    env.reset()
    buffer = np.zeros(2, np.float32)
    for number in (0.1, 0.2, 0.3, 0.4, 0.5):
        buffer[:] = number
        env.step(buffer)
    expected = np.array([0, 0, 0.1, 0.2, 0.3], np.float32)
    np.testing.assert_array_equal(env.unwrapped.told, np.stack([expected, expected], 1))
    change = env.tasks.changes["delay"]
    for twin in (copy.deepcopy(change), pickle.loads(pickle.dumps(change))):
        np.testing.assert_array_equal(twin.action(buffer), np.full(2, 0.4, np.float32))
    np.testing.assert_array_equal(change.action(buffer), np.full(2, 0.4, np.float32))


@pytest.mark.parametrize("boundary", ["immediate", "next_reset", "truncate"])
def test_delays_through_the_boundaries(boundary: str) -> None:
    delays = (0, 3, 1)
    changes = {"delay": ActionDelay(values=delays, idle=999)}
    env = NonStationary(Doing(Discrete(1000), length=10), Tasks(Periodic(period=7, boundary=boundary), changes))
    env.reset()
    begun = 0
    for clock in range(60):
        task = begun // 7 if boundary == "next_reset" else clock // 7
        *_, truncated, _ = env.step(np.int64(clock))
        due = clock - delays[task % 3]
        assert env.unwrapped.told[-1] == (due if due >= begun else 999)
        if truncated:
            env.reset()
            begun = clock + 1


def test_changes_of_actions_are_made_in_their_order() -> None:
    changes = {"delay": ActionDelay(values=(1,)), "flip": ActionFlip(), "scale": ActionScale(values=(0.5,))}
    env = NonStationary(Doing(PAIR), Tasks(Periodic(period=99, first="drawn"), changes, seed=1))
    env.reset()
    signs = np.array(env.tasks.values(0)["flip"], np.float32)
    env.step(np.array([1, 2], np.float32))
    env.step(np.array([0.5, 0.5], np.float32))
    np.testing.assert_array_equal(env.unwrapped.told, [np.zeros(2), signs * [0.5, 1]])


@pytest.mark.parametrize(
    ("change", "space", "good", "wrong", "message"),
    [
        (ActionPermutation(), FIVE, [4, 3, 2, 1, 0], [0, 0, 1, 2, 3], "takes every action from 0 to 4 once, not"),
        (ActionPermutation(), FIVE, [0, 1, 2, 3, 4], [0, 1], r"takes a list of 5 whole numbers from 0 to 4, not"),
        (ActionFlip(), PAIR, [1, -1], [1, 0], r"takes signs, 1 or -1, not \[1, 0\]"),
        (ActionFlip(), PAIR, [1, 1], [1, -1, 1], "takes a list of 2 whole numbers from -1 to 1"),
        (ActionScale(), PAIR, 30, 0, "actions must be above 0, not 0"),
        (ActionNoise(), PAIR, 1.5, -1, "action_noise must be at least 0, not -1"),
        (ActionNoise(), FIVE, 1, 1.5, "action_noise must be at most 1, as a probability of discrete actions, not 1.5"),
        (ActionSticky(), FIVE, 1, 1.5, "action_sticky must be at least 0 and at most 1, not 1.5"),
        (ActionDelay(), FIVE, 12, 0.5, "action_delay must be a whole number, not 0.5"),
    ],
)
def test_values_from_a_table_are_checked(change: Change, space: gym.Space, good: Any, wrong: Any, message: str) -> None:
    change = bound(copy.deepcopy(change), space)
    assert_checks(change, good, wrong, message)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ActionFlip(count=0), "count must be at least 1, not 0"),
        (lambda: ActionScale(low=0, high=1), "low must be above 0 for actions, not 0"),
        (lambda: ActionNoise(values=(-1,)), "values must be at least 0, not -1"),
        (lambda: ActionSticky(high=2), "high must be at least 0 and at most 1, not 2"),
        (lambda: ActionSticky(mode="factor"), "mode must be one of absolute, not 'factor'"),
        (lambda: ActionDelay(idle=1.5), "idle must be a whole number, not 1.5"),
    ],
)
def test_wrong_settings(make: Any, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        make()


@pytest.mark.parametrize(
    ("change", "space", "message"),
    [
        (
            ActionFlip(),
            "CartPole-v1",
            "action_flip does not fit CartPole-v1: it needs a vector of continuous actions whose bounds are symmetric "
            "about 0; discrete ones are exchanged by action_permutation",
        ),
        (ActionFlip(), ODD, "it needs a vector of continuous actions whose bounds are symmetric about 0$"),
        (ActionFlip(count=3), PAIR, "it needs a vector of 3 or more continuous actions"),
        (ActionScale(), "CartPole-v1", "action_scale does not fit CartPole-v1: it needs continuous actions"),
        (ActionNoise(), Box(-np.inf, np.inf, (2,)), "it needs discrete actions, or continuous ones with bounds"),
        (ActionNoise(), MultiDiscrete([2, 2]), "it needs discrete actions, or continuous ones with bounds"),
        (ActionNoise(high=2), FIVE, "it needs values of at most 1, as probabilities of its actions, not 2"),
        (ActionDelay(), MultiDiscrete([2, 2]), "it needs discrete or continuous actions"),
        (ActionDelay(idle=2), LATE, "it needs an idle action from 3 to 7, not 2"),
        (ActionDelay(idle=2), PAIR, "it needs discrete actions for idle to be 2: continuous ones idle at 0"),
    ],
)
def test_changes_say_what_they_fit(change: Change, space: gym.Space | str, message: str) -> None:
    with pytest.raises(ChangeError, match=message):
        bound(change, space)
