"""Changes of the reward, against numbers worked out by hand and against the environments' own settings."""

import copy
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from configs.settings import SettingError
from envs import NonStationary, Tasks, make_env, make_plain_env
from envs.changes import Change, ChangeError
from envs.changes.delays import RewardDelay
from envs.changes.locomotion import LocomotionDirection, LocomotionVelocity
from envs.changes.rewards import RewardNoise, RewardOffset, RewardScale
from envs.schedules import Drift, Periodic
from tests.changes import assert_checks


class Paying(gym.Env):
    """Pays 2^t at step t, in episodes of `length` steps: sums tell which rewards they are made of."""

    observation_space = Box(-1, 1, (1,), np.float32)
    action_space = Discrete(2)

    def __init__(self, length: int = 1000, terminates: bool = False) -> None:
        self.length = length
        self.terminates = terminates

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        last = self.steps == self.length
        reward = 2.0 ** (self.steps - 1)
        return np.zeros(1, np.float32), reward, last and self.terminates, last and not self.terminates, {}


def bound(change: Change, env: gym.Env | str | None = None) -> Any:
    change.bind(make_plain_env(env) if isinstance(env, str) else env or Paying())
    return change


def paid(change: Change, rewards: list[float], values: list[Any]) -> list[float]:
    """What is paid in an episode in which step t has the value `values[t]`."""
    change.set(values[0])
    change.begin()
    found = []
    for step, (reward, value) in enumerate(zip(rewards, values, strict=True)):
        change.set(value)
        found.append(float(change.reward(reward, {}, step == len(rewards) - 1)))
    return found


def test_offsets_by_hand() -> None:
    change = bound(RewardOffset())
    reward = np.float64(3.5)
    assert change.reward(reward, {}, False) is reward
    change.set(-1.25)
    assert change.reward(reward, {}, False) == 2.25
    assert change.describe(-1.25) == "reward offset -1.25"
    assert change.bounds() == (-1.0, 1.0)
    change.set(change.original)
    assert change.reward(reward, {}, True) is reward


def test_noise_is_normal_and_its_own() -> None:
    change = bound(RewardNoise())
    other = bound(RewardNoise())
    change.seed(np.random.default_rng(1))
    other.seed(np.random.default_rng(2))
    reward = np.float64(3.5)
    state = change.rng.bit_generator.state
    assert change.reward(reward, {}, False) is reward
    assert change.rng.bit_generator.state == state
    change.set(0.5)
    other.set(0.5)
    mine = np.array([change.reward(reward, {}, False) for _ in range(5000)]) - 3.5
    theirs = np.array([other.reward(reward, {}, False) for _ in range(5000)]) - 3.5
    assert mine.mean() == pytest.approx(0, abs=0.03)
    assert mine.std() == pytest.approx(0.5, abs=0.02)
    assert np.corrcoef(mine, theirs)[0, 1] == pytest.approx(0, abs=0.05)
    change.seed(np.random.default_rng(1))
    np.testing.assert_array_equal([change.reward(3.5, {}, False) - 3.5 for _ in range(5)], mine[:5])


def test_delays_by_hand() -> None:
    change = bound(RewardDelay())
    rewards = [1.0, 2.0, 4.0, 8.0, 16.0]
    assert paid(change, rewards, [0] * 5) == rewards
    assert paid(change, rewards, [1] * 5) == [0, 1, 2, 4, 24]
    assert paid(change, rewards, [2] * 5) == [0, 0, 1, 2, 28]
    assert paid(change, rewards, [9] * 5) == [0, 0, 0, 0, 31]
    assert paid(change, [5.0], [3]) == [5]


def test_rewards_are_due_as_they_were_earned() -> None:
    change = bound(RewardDelay())
    rewards = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    # 1 is due at 2, 2 at 3; from step 2 on at once.
    assert paid(change, rewards, [2, 2, 0, 0, 0, 0]) == [0, 0, 5, 10, 16, 32]
    # 4 is due at 5 (its third step later), 8 at 4.
    assert paid(change, rewards, [0, 0, 3, 1, 0, 0]) == [1, 2, 0, 0, 24, 36]
    assert paid(change, rewards, [0, 5, 1, 1, 1, 1]) == [1, 0, 0, 4, 8, 2 + 16 + 32]


def test_a_delay_of_0_returns_what_it_is_given_once_nothing_is_owed() -> None:
    change = bound(RewardDelay())
    change.set(2)
    change.begin()
    change.reward(1.0, {}, False)
    change.set(0)
    reward = np.float64(3.5)
    assert [change.reward(reward, {}, False) for _ in range(2)] == [3.5, 4.5]
    assert change.reward(reward, {}, False) is reward


def test_what_is_owed_is_forgotten_with_the_episode_and_goes_with_copies() -> None:
    change = bound(RewardDelay())
    change.set(1)
    change.begin()
    change.reward(7.0, {}, False)
    for twin in (copy.deepcopy(change), pickle.loads(pickle.dumps(change))):
        assert twin.reward(1.0, {}, False) == 7
    change.begin()
    assert change.reward(1.0, {}, False) == 0
    change.bind(Paying())
    assert change.reward(1.0, {}, False) == 1


@pytest.mark.parametrize("terminates", [False, True])
@pytest.mark.parametrize("boundary", ["immediate", "next_reset", "truncate"])
def test_nothing_is_lost_at_any_boundary(boundary: str, terminates: bool) -> None:
    delays = (0, 3, 1, 12)
    tasks = Tasks(Periodic(period=7, boundary=boundary), {"delay": RewardDelay(values=delays)})
    env = NonStationary(Paying(length=10, terminates=terminates), tasks)
    env.reset()
    begun, rewards, expected = 0, [], np.zeros(100)
    for clock in range(70):
        task = begun // 7 if boundary == "next_reset" else clock // 7
        _, reward, terminated, truncated, _ = env.step(0)
        rewards.append(reward)
        expected[clock + delays[task % 4]] += 2.0 ** (clock - begun)
        if terminated or truncated:
            expected[clock] = expected[clock:].sum()
            expected[clock + 1 :] = 0
            np.testing.assert_array_equal(rewards, expected[begun : clock + 1])
            assert sum(rewards) == 2.0 ** len(rewards) - 1
            begun, rewards = clock + 1, []
            env.reset()


def test_tasks_that_are_bound_again_begin_with_the_original() -> None:
    changes = {
        "scale": RewardScale(values=(5,)),
        "offset": RewardOffset(values=(1,)),
        "noise": RewardNoise(values=(1,)),
        "delay": RewardDelay(values=(3,)),
    }
    env = NonStationary(Paying(), Tasks(Periodic(period=9), changes))
    env.reset()
    env.step(0)
    again = env.tasks.bind(Paying())
    assert [change.reward(2.0, {}, False) for change in again.changes.values()] == [2.0] * 4


ROBOTS = ["HalfCheetah", "Ant", "Hopper", "Walker2d", "Humanoid", "Swimmer"]


def rewards_of(env: gym.Env, steps: int = 25) -> tuple[list[float], list[dict[str, Any]]]:
    """Rewards and infos of seeded random actions."""
    env.action_space.seed(0)
    env.reset(seed=0)
    rewards, infos = [], []
    for _ in range(steps):
        _, reward, terminated, truncated, info = env.step(env.action_space.sample())
        rewards.append(float(reward))
        infos.append(info)
        if terminated or truncated:
            env.reset()
    return rewards, infos


@pytest.mark.parametrize("version", ["v4", "v5"])
@pytest.mark.parametrize("robot", ROBOTS)
def test_directions_are_what_the_environment_itself_would_pay(robot: str, version: str) -> None:
    env_id = f"{robot}-{version}"
    settled = env_id != "Ant-v4"  # its weight is 1
    weight = 1.5 if settled else 1.0
    kwargs = {"forward_reward_weight": weight} if settled else {}
    for direction in (-1.0, 0.25):
        change = LocomotionDirection(values=(direction,))
        mine, infos = rewards_of(make_env(env_id, Tasks(Periodic(period=999), {"d": change}), env_kwargs=kwargs))
        if settled:
            own, _ = rewards_of(make_plain_env(env_id, {"forward_reward_weight": direction * weight}))
        else:
            own = [direction * info["x_velocity"] + info["reward_survive"] + info["reward_ctrl"] for info in infos]
        np.testing.assert_allclose(mine, own, rtol=1e-13, atol=1e-13)
        plain, _ = rewards_of(make_plain_env(env_id, kwargs))
        assert np.abs(np.subtract(mine, plain)).min() > 1e-6
    changes = {"d": LocomotionDirection(values=(1,))}
    same, _ = rewards_of(make_env(env_id, Tasks(Periodic(period=999), changes), env_kwargs=kwargs))
    assert same == plain


@pytest.mark.parametrize("robot", ROBOTS)
def test_target_velocities_replace_the_forward_reward(robot: str) -> None:
    env_id, weight, target = f"{robot}-v5", 1.5, 0.75
    change = LocomotionVelocity(values=(target,))
    kwargs = {"forward_reward_weight": weight}
    mine, infos = rewards_of(make_env(env_id, Tasks(Periodic(period=999), {"v": change}), env_kwargs=kwargs))
    others, _ = rewards_of(make_plain_env(env_id, {"forward_reward_weight": 0.0}))
    velocities = np.array([info["x_velocity"] for info in infos])
    np.testing.assert_allclose(mine, others - weight * np.abs(velocities - target), rtol=1e-13, atol=1e-12)


def test_a_cheetah_at_its_target_by_hand() -> None:
    env = make_env("HalfCheetah-v5", Tasks(Periodic(period=999), {"v": LocomotionVelocity(values=(-0.4,))}))
    env.reset(seed=0)
    robot = env.unwrapped
    for action in (np.zeros(6), np.full(6, 0.5), np.full(6, -1.0)):
        before = robot.data.qpos[0]
        _, reward, *_ = env.step(action)
        velocity = (robot.data.qpos[0] - before) / 0.05
        assert reward == pytest.approx(-abs(velocity + 0.4) - 0.1 * np.sum(action**2), rel=1e-12)


def test_directions_in_words_and_numbers() -> None:
    change = bound(LocomotionDirection(), "HalfCheetah-v5")
    assert [change.listed(task) for task in range(3)] == [1.0, -1.0, 1.0]
    assert change.describe(-1.0) == "direction backward"
    assert change.describe(0.5) == "direction forward x0.5"
    assert change.describe(1.0) == "direction original"
    assert (change.context(-1.0), change.context_bounds()) == ((-1.0,), (-1.0, 1.0))
    tasks = Tasks(Drift(period=4), {"d": LocomotionDirection()}).bind(make_plain_env("HalfCheetah-v5"))
    assert [tasks.values(step)["d"] for step in range(6)] == [1, 0.5, 0, -0.5, -1, -0.5]
    rng = np.random.default_rng(0)
    coin = bound(LocomotionDirection(draw="choice"), "HalfCheetah-v5")
    assert np.mean([coin.sample(rng) for _ in range(2000)]) == pytest.approx(0, abs=0.08)


def test_target_velocities_in_words_and_numbers() -> None:
    change = bound(LocomotionVelocity(low=-1, high=3), "HalfCheetah-v5")
    assert change.original is None
    assert change.is_original(None)
    assert not change.is_original(0.0)
    reward = np.float64(2)
    assert change.reward(reward, {"x_velocity": 3.0}, False) is reward
    change.set(0.0)
    assert change.reward(reward, {"x_velocity": 3.0}, False) == 2 - 3 - 3
    change.set(None)
    assert change.reward(reward, {"x_velocity": 3.0}, False) is reward
    assert change.describe(1.25) == "target velocity 1.25"
    assert change.describe(None) == "target velocity original"
    assert (change.context(None), change.context(1.25)) == ((0.0, 0.0), (1.0, 1.25))
    assert change.context_bounds() == (-1.0, 3.0)
    assert bound(LocomotionVelocity(), "Ant-v5").bounds() == (0.0, 2.0)
    with pytest.raises(ValueError, match="v cannot drift away from the environment's own values"):
        Tasks(Drift(period=4), {"v": LocomotionVelocity()}).bind(make_plain_env("HalfCheetah-v5"))


def test_there_is_one_forward_reward_to_replace() -> None:
    changes = {"direction": LocomotionDirection(), "velocity": LocomotionVelocity()}
    with pytest.raises(ChangeError, match="direction and velocity both change the forward reward"):
        Tasks(Periodic(period=9), changes).bind(make_plain_env("HalfCheetah-v5"))


@pytest.mark.parametrize(
    ("change", "good", "wrong", "message"),
    [
        (RewardOffset(), -300, float("inf"), "reward_offset takes finite numbers, not inf"),
        (RewardNoise(), 12.5, -0.5, "reward_noise must be at least 0, not -0.5"),
        (RewardDelay(), 50, 1.5, "reward_delay must be a whole number, not 1.5"),
        (LocomotionDirection(), -1, -1.5, "locomotion_direction must be at least -1 and at most 1, not -1.5"),
        (LocomotionVelocity(), -4, None, "locomotion_velocity takes finite numbers, not None"),
    ],
)
def test_values_from_a_table_are_checked(change: Change, good: Any, wrong: Any, message: str) -> None:
    change = bound(copy.deepcopy(change), "HalfCheetah-v5")
    assert_checks(change, good, wrong, message)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RewardOffset(mode="factor"), "mode must be one of absolute, not 'factor'"),
        (lambda: RewardNoise(low=-1), "low must be at least 0, not -1"),
        (lambda: RewardDelay(values=(-1,)), "values must be at least 0 and at most 10000, not -1"),
        (lambda: LocomotionDirection(values=(1, -2)), "values must be at least -1 and at most 1, not -2"),
        (lambda: LocomotionVelocity(low=3), r"low must be below high \(2\), not 3"),
        (lambda: LocomotionVelocity(mode="factor"), "mode must be one of absolute, not 'factor'"),
    ],
)
def test_wrong_settings(make: Any, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        make()


@pytest.mark.parametrize("change", [LocomotionDirection(), LocomotionVelocity()])
@pytest.mark.parametrize("env_id", ["CartPole-v1", "HumanoidStandup-v5", "InvertedPendulum-v5"])
def test_changes_say_what_they_fit(change: Change, env_id: str) -> None:
    with pytest.raises(ChangeError, match=f"does not fit {env_id}: it needs a MuJoCo task of locomotion, such as Half"):
        bound(copy.deepcopy(change), env_id)


def test_own_terms_are_taken_out_before_anything_else() -> None:
    changes = {"scale": RewardScale(), "direction": LocomotionDirection()}
    with pytest.raises(
        ChangeError, match="direction must stand before scale: it takes the environment's own reward apart"
    ):
        Tasks(Periodic(period=5), changes).bind(make_plain_env("HalfCheetah-v5"))
    Tasks(Periodic(period=5), dict(reversed(changes.items()))).bind(make_plain_env("HalfCheetah-v5"))
