"""Normalisation: SB3's own to the last bit where it should be, and the numbers of each policy worked out apart."""

import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env as make_plain
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor, VecNormalize

from configs.settings import SettingError
from envs import Tasks, make_vec_env
from envs.changes.classic import Pendulum
from envs.changes.observations import ObservationPermutation
from envs.changes.rewards import RewardScale
from envs.normalize import Moving, Normalization, Normalize, Renewed, normalize
from envs.schedules import Periodic
from tests.models import Noise

ON = ("cumulative", "moving", "freeze", "reset")


class Script(VecEnv):
    """Environments that return what they are told to, whatever the actions.

    Args:
        observations: one row of numbers for each environment; those of the reset first, then those of each step.
        tasks: of the transition that each observation is answered with.
        rewards: of each step; zeros where there are none.
        dones: pairs of a step, counted from 1, and an environment whose episode ends there.
    """

    def __init__(
        self,
        observations: Sequence[Any],
        tasks: Sequence[Any] | None = None,
        rewards: Sequence[Any] | None = None,
        dones: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.observations = np.array(observations, np.float32)
        steps, n, *shape = self.observations.shape
        self.tasks = np.zeros((steps, n), int) if tasks is None else np.array(tasks)
        self.rewards = np.zeros((steps - 1, n), np.float32) if rewards is None else np.array(rewards, np.float32)
        self.dones = set(dones)
        super().__init__(n, spaces.Box(-np.inf, np.inf, tuple(shape)), spaces.Discrete(2))
        self.t = 0

    def reset(self) -> Any:
        self.t = 0
        self.reset_infos = [{"task": task} for task in self.tasks[0]]
        return self.observations[0].copy()

    def step_async(self, actions: Any) -> None:
        self.t += 1

    def step_wait(self) -> Any:
        t, infos, dones = self.t, [], np.zeros(self.num_envs, bool)
        for row in range(self.num_envs):
            task, following = self.tasks[t - 1, row], self.tasks[t, row]
            info: dict[str, Any] = {"task": task, "next_task": following}
            if t > 1 and task != self.tasks[t - 2, row]:
                info["switch"] = {"task": task}
            if (t, row) in self.dones:
                dones[row] = True
                info["terminal_observation"] = self.observations[t, row] + 100
            infos.append(info)
        return self.observations[t].copy(), self.rewards[t - 1].copy(), dones, infos

    def close(self) -> None: ...
    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None: ...
    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]: ...
    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs


def random_script(steps: int = 40, n: int = 3, n_tasks: int = 4) -> Script:
    """Three environments that switch at different steps, with ends of episodes."""
    rng = np.random.default_rng(0)
    tasks = np.sort(rng.integers(0, n_tasks, (steps + 1, n)), axis=0)
    observations = rng.normal(tasks[:, :, None] * 3, 1, (steps + 1, n, 2))
    return Script(observations, tasks, rng.normal(1, 2, (steps, n)), [(5, 0), (9, 2), (9, 1), (30, 0)])


def play(env: VecEnv, steps: int, reset: bool = True) -> list[Any]:
    """Everything that an environment returns: all observations, rewards and last observations."""
    seen = [env.reset()] if reset else []
    for _ in range(steps):
        observations, rewards, _, infos = env.step(np.zeros(env.num_envs, int))
        seen += [observations, rewards]
        seen += [info["terminal_observation"] for info in infos if "terminal_observation" in info]
    return seen


def assert_same(one: Sequence[Any], other: Sequence[Any]) -> None:
    """Equal to the last bit, dtypes included."""
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        np.testing.assert_array_equal(a, b)


def moments(env: VecEnv, part: str = "observations") -> tuple[Any, Any]:
    assert isinstance(env, Normalize)
    return env.statistics[part].mean, env.statistics[part].var


# Equality with SB3


@pytest.mark.parametrize("rewards", [False, True])
@pytest.mark.parametrize("policy", ["cumulative", "moving"])
def test_cumulative_and_endless_moving_are_sb3s_own(policy: str, rewards: bool) -> None:
    settings = Normalization(policy=policy, rewards=rewards, horizon=10**18, clip_obs=1.5, clip_reward=0.5)
    stock = VecNormalize(random_script(), norm_reward=rewards, clip_obs=1.5, clip_reward=0.5, gamma=0.9)
    own = Normalize(random_script(), settings, gamma=0.9)
    expected, got = play(stock, 40), play(own, 40)
    assert np.abs(expected[0]).max() < 1.5 == max(np.abs(item).max() for item in expected if item.shape == (3, 2))
    assert_same(expected, got)
    assert_same(play(stock, 40), play(own, 40))
    assert_same(moments(own), (stock.obs_rms.mean, stock.obs_rms.var))
    assert_same([stock.get_original_obs(), stock.get_original_reward()], [own.get_original_obs(), own.old_reward])
    batch = np.random.default_rng(1).normal(size=(6, 2)).astype(np.float32)
    column = batch[:, :1]
    assert_same(
        [stock.normalize_obs(batch), stock.unnormalize_obs(batch), stock.normalize_reward(column)],
        [own.normalize_obs(batch), own.unnormalize_obs(batch), own.normalize_reward(column)],
    )
    assert_same([stock.unnormalize_reward(column)], [own.unnormalize_reward(column)])
    if rewards:
        assert_same([stock.ret_rms.var, stock.returns], [own.ret_rms.var, own.returns])
    own.training = stock.training = False
    assert_same(play(stock, 20), play(own, 20))
    assert_same(moments(own), (stock.obs_rms.mean, stock.obs_rms.var))


@pytest.mark.parametrize("policy", ["freeze", "reset"])
def test_all_policies_are_paired_until_the_first_switch(policy: str) -> None:
    tasks = Tasks(Periodic(period=120), {"mass": Pendulum(values=(1, 5))}, seed=3)
    stock = VecNormalize(make_vec_env("Pendulum-v1", tasks, 2, seed=3))
    own = normalize(make_vec_env("Pendulum-v1", tasks, 2, seed=3), Normalization(policy=policy, rewards=True))
    stock.reset()
    own.reset()
    different = []
    for step in range(1, 91):
        action = np.full((2, 1), np.sin(step))
        (theirs, their_rewards, *_), (ours, our_rewards, *_) = stock.step(action), own.step(action)
        different.append(not np.array_equal(theirs, ours) or not np.array_equal(their_rewards, our_rewards))
    # The 60th step of two environments is the last of task 0, and its observation the first of task 1.
    assert different[:59] == [False] * 59
    assert all(different[59:])


def trained(algorithm: str, env: VecEnv, steps: int = 0) -> BaseAlgorithm:
    """A small agent after a few updates."""
    kwargs: dict[str, Any] = {"seed": 0, "device": "cpu", "policy_kwargs": {"net_arch": [16]}, "gamma": 0.9}
    model: BaseAlgorithm
    if algorithm == "ppo":
        model = sb3.PPO("MlpPolicy", env, n_steps=32, n_epochs=2, batch_size=32, **kwargs)
    else:
        model = sb3.SAC("MlpPolicy", env, learning_starts=50, batch_size=16, train_freq=8, **kwargs)
    return model.learn(steps or {"ppo": 256, "sac": 232}[algorithm])


def changing(algorithm: str, boundary: str = "truncate") -> VecEnv:
    """Two environments that switch several times within the steps of `trained`."""
    schedule = Periodic(period=100, boundary=boundary)
    if algorithm == "ppo":
        changes: dict[str, Any] = {"o": ObservationPermutation(), "r": RewardScale(values=(1, 9, 2))}
        return make_vec_env("CartPole-v1", Tasks(schedule, changes, seed=1), 2, seed=1)
    tasks = Tasks(schedule, {"m": Pendulum(values=(1, 5, 2))}, seed=1)
    return make_vec_env("Pendulum-v1", tasks, 2, seed=1, env_kwargs={"max_episode_steps": 40})


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_agents_learn_the_same_as_with_sb3s_own(algorithm: str) -> None:
    stock = trained(algorithm, VecNormalize(changing(algorithm), gamma=0.9))
    own = trained(algorithm, normalize(changing(algorithm), Normalization(policy="cumulative", rewards=True), 0.9))
    theirs, ours = stock.policy.state_dict(), own.policy.state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
    assert own.get_vec_normalize_env() is own.get_env()
    plain = trained(algorithm, normalize(changing(algorithm), Normalization(), 0.9)).policy.state_dict()
    assert plain.keys() == ours.keys()
    assert not all(torch.equal(plain[name], ours[name]) for name in plain)


@pytest.mark.parametrize("boundary", ["immediate", "next_reset"])
@pytest.mark.parametrize("policy", ON)
@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_agents_learn_under_every_policy(algorithm: str, policy: str, boundary: str) -> None:
    settings = Normalization(policy=policy, rewards=True, horizon=50, warmup=20)
    model = trained(algorithm, normalize(changing(algorithm, boundary), settings, 0.9), 220)
    env = model.get_env()
    assert isinstance(env, Normalize)
    assert all(bool(weights.isfinite().all()) for weights in model.policy.parameters())
    # One sample for each step and each environment, and the first reset of both.
    count, seen = env.statistics["observations"].count, model.num_timesteps + 2
    if policy == "cumulative":
        assert count == pytest.approx(seen, abs=1e-3)
    elif policy == "moving":
        assert count == pytest.approx(2 * (1 - 0.98**seen) / (1 - 0.98**2), abs=1e-3)
    elif policy == "freeze":
        assert 100 - 1e-3 < count < seen - 50
    else:
        assert 0 < count < seen - 150
    if algorithm == "sac":
        check_buffer(model, env)
    infos = [info for _ in range(100) for info in env.step(np.zeros((2, *env.action_space.shape), int))[3]]
    returns = [info["episode"]["r"] for info in infos if "episode" in info]
    # Normalised rewards are clipped to 10 and never as large as these sums.
    assert returns
    assert all(abs(each) == round(abs(each)) >= 8 if algorithm == "ppo" else each < -30 for each in returns)


def check_buffer(model: BaseAlgorithm, env: Normalize) -> None:
    """The buffer holds what Pendulum has returned, and gives it out normalised with the statistics of now."""
    buffer = model.replay_buffer
    assert buffer is not None
    full = buffer.pos
    for stored in (buffer.observations[:full], buffer.next_observations[:full]):
        # A cosine and a sine, also where an episode has ended.
        np.testing.assert_allclose(np.hypot(stored[..., 0], stored[..., 1]), 1, atol=1e-5)
    assert buffer.rewards[:full].min() < -1
    # SB3 draws from it which environment each row of a sample is of.
    np.random.seed(0)  # noqa: NPY002
    sample = buffer._get_samples(np.arange(full), env)
    np.random.seed(0)  # noqa: NPY002
    rows = np.random.randint(0, high=2, size=full)  # noqa: NPY002
    raw, rewards = buffer.observations[np.arange(full), rows], buffer.rewards[np.arange(full), rows]
    mean, var = moments(env)
    np.testing.assert_allclose(sample.observations, np.clip((raw - mean) / np.sqrt(var), -10, 10), atol=1e-4)
    deviation = np.sqrt(moments(env, "rewards")[1])
    np.testing.assert_allclose(sample.rewards[:, 0], np.clip(rewards / deviation, -10, 10), atol=1e-4)


def test_off_is_nothing_at_all() -> None:
    env = random_script()
    assert normalize(env, Normalization()) is env
    with pytest.raises(ValueError, match="policy other than off"):
        Normalize(env, Normalization())


# Numbers by hand


def test_cumulative_by_hand() -> None:
    env = normalize(Script([[[1.0], [3.0]], [[5.0], [7.0]]]), Normalization(policy="cumulative"))
    np.testing.assert_allclose(env.reset(), [[-1], [1]], atol=1e-3)
    observations = env.step(np.zeros(2))[0]
    # 1, 3, 5 and 7 have mean 4 and variance 5.
    np.testing.assert_allclose(observations, np.array([[1], [3]]) / np.sqrt(5), atol=1e-3)
    np.testing.assert_array_equal(env.get_original_obs(), [[5], [7]])
    np.testing.assert_allclose(env.unnormalize_obs(observations), [[5], [7]], rtol=1e-6)


def test_moving_by_hand() -> None:
    env = normalize(Script([[[4.0]], [[8.0]]]), Normalization(policy="moving", horizon=2))
    env.reset()
    env.step(np.zeros(1))
    # Weights 1/2 and 1: mean (4/2 + 8) / (3/2), second moment (16/2 + 64) / (3/2).
    mean, var = moments(env)
    np.testing.assert_allclose(mean, 20 / 3, rtol=1e-2)
    np.testing.assert_allclose(var, 48 - 400 / 9, rtol=1e-2)


@pytest.mark.parametrize(("n", "horizon"), [(1, 7), (3, 50), (8, 4)])
def test_moving_is_the_mean_and_variance_of_weighted_samples(n: int, horizon: int) -> None:
    rng = np.random.default_rng(n)
    script = rng.normal([2, -30], [1, 9], (60, n, 2)).astype(np.float32)
    env = normalize(Script(script), Normalization(policy="moving", horizon=horizon))
    # One sample after the other: a weight, a sum and a sum of squares; SB3's prior is the first "sample".
    weight, total, squares = 1e-4, np.zeros(2), np.full(2, 1e-4)
    env.reset()
    for step in range(60):
        if step:
            env.step(np.zeros(n))
        for _ in range(n):
            weight, total, squares = (part * (1 - 1 / horizon) for part in (weight, total, squares))
        for sample in script[step].astype(np.float64):
            weight, total, squares = weight + 1, total + sample, squares + sample**2
        mean, var = moments(env)
        np.testing.assert_allclose(mean, total / weight, rtol=1e-5)
        np.testing.assert_allclose(var, squares / weight - (total / weight) ** 2, rtol=1e-4)


def test_moving_follows_a_shift_which_cumulative_does_not() -> None:
    rng = np.random.default_rng(0)
    horizon, n = 400, 4
    moving = Moving(Normalization(policy="moving", horizon=horizon), (8,))
    cumulative = RunningMeanStd(shape=(8,))
    for step in range(20 * horizon // n + round(2.31 * horizon / n)):
        samples = rng.normal(0 if step < 20 * horizon // n else 3, 1, (n, 8))
        moving.update(samples)
        cumulative.update(samples)
    # Old samples weigh a tenth: mean 2.7, variance 1 + 9 * 0.1 * 0.9. The eight columns are averaged against chance.
    assert moving.mean.mean() == pytest.approx(2.7, abs=0.06)
    assert moving.var.mean() == pytest.approx(1.81, abs=0.15)
    assert cumulative.mean.mean() == pytest.approx(3 * 2.31 / 22.31, abs=0.06)


def test_moving_rewards_by_hand() -> None:
    settings = Normalization(policy="moving", horizon=2, rewards=True, observations=False)
    env = normalize(Script([[[0.0]]] * 3, rewards=[[4], [2]]), settings, gamma=0.5)
    env.reset()
    env.step(np.zeros(1))
    env.step(np.zeros(1))
    # Returns 4 and 2 + 4/2 do not vary at all, but for the prior.
    assert moments(env, "rewards")[0] == pytest.approx(4, rel=1e-3)
    env = normalize(Script([[[0.0]]] * 3, rewards=[[4], [6]]), settings, gamma=0.5)
    env.reset()
    env.step(np.zeros(1))
    _, rewards, *_ = env.step(np.zeros(1))
    # Returns 4 (weight 1/2) and 8: variance 32/9.
    np.testing.assert_allclose(rewards, 6 / np.sqrt(32 / 9), rtol=1e-2)
    np.testing.assert_allclose(env.unnormalize_reward(rewards), 6, rtol=1e-6)
    np.testing.assert_array_equal(env.get_original_reward(), [6])


def test_freeze_counts_what_is_still_in_task_0() -> None:
    # The second environment switches a step later than the first.
    tasks = [[0, 0], [1, 0], [1, 1], [2, 2]]
    rewards = [[1, 3], [50, 5], [90, 80]]
    script = Script([[[1.0], [3.0]], [[70.0], [8.0]], [[90.0], [80.0]], [[60.0], [50.0]]], tasks, rewards)
    env = normalize(script, Normalization(policy="freeze", rewards=True), gamma=0.0)
    seen = play(env, 3)
    # 1, 3 and 8: mean 4, variance (9 + 1 + 16) / 3.
    mean, var = moments(env)
    np.testing.assert_allclose([*mean, *var], [4, 26 / 3], rtol=1e-2)
    np.testing.assert_allclose(seen[-2], [[10], [10]])
    np.testing.assert_allclose(seen[1], [[10], [4 / np.sqrt(26 / 3)]], rtol=1e-2)
    # The rewards of task 0: 1 and 3, then 5 of the second environment.
    assert moments(env, "rewards")[1] == pytest.approx(np.var([1, 3, 5]), rel=1e-3)
    np.testing.assert_allclose(seen[-1], [10, 10])


def test_reset_starts_anew_once_there_are_enough_samples() -> None:
    # Environment 0 enters task 1 at the second observation, environment 1 at the fourth.
    tasks = [[0, 0], [0, 0], [1, 0], [1, 0], [1, 1], [1, 1]]
    values = np.array([[1, 3], [1, 3], [20, 99], [22, 99], [24, 26], [30, 40]], np.float32)
    env = normalize(Script(values[:, :, None], tasks), Normalization(policy="reset", warmup=4))
    seen = [env.reset()]
    for step in range(1, 4):
        seen.append(env.step(np.zeros(2))[0])
        mean, var = moments(env)
        np.testing.assert_allclose([*mean, *var], [2, 1], rtol=1e-2, err_msg=f"the old ones at step {step}")
    np.testing.assert_allclose(seen[1], [[-1], [1]], rtol=1e-2)
    np.testing.assert_allclose(seen[2], [[10], [10]])
    # The fourth sample of task 1: 20, 22, 24 and 26, without the 99s; mean 23, variance (9 + 1 + 1 + 9) / 4.
    observations = env.step(np.zeros(2))[0]
    np.testing.assert_allclose([*moments(env)[0], *moments(env)[1]], [23, 5], rtol=1e-2)
    np.testing.assert_allclose(observations, np.array([[1], [3]]) / np.sqrt(5), rtol=1e-2)
    # From there on as ever: 30 and 40 are counted too.
    env.step(np.zeros(2))
    np.testing.assert_allclose(moments(env)[0], np.mean([20, 22, 24, 26, 30, 40]), rtol=1e-2)


def test_reset_starts_gathering_again_where_a_task_was_too_short() -> None:
    renewed = Renewed(Normalization(policy="reset", warmup=3), (1,))
    steps = [(0, 1.0), (0, 3.0), (1, 50.0), (1, 60.0), (2, 7.0), (2, 8.0)]
    for task, value in steps:
        renewed.fold(np.array([[value]]), np.array([task]))
    np.testing.assert_allclose(renewed.mean, 2, rtol=1e-2)
    renewed.fold(np.array([[9.0]]), np.array([2]))
    np.testing.assert_allclose([*renewed.mean, *renewed.var], [8, 2 / 3], rtol=1e-2)
    assert renewed.count == pytest.approx(3, abs=1e-3)


def test_reset_forgets_the_returns_of_the_old_task() -> None:
    settings = Normalization(policy="reset", warmup=2, rewards=True, observations=False)
    env = normalize(Script([[[0.0]]] * 6, [[0], [0], [1], [1], [1], [1]], [[8], [8], [1], [1], [4]]), settings, 0.5)
    env.reset()
    for _ in range(2):
        env.step(np.zeros(1))
    assert isinstance(env, Normalize)
    np.testing.assert_allclose([env.returns[0], *map(float, moments(env, "rewards"))], [12, 10, 4], rtol=1e-2)
    env.step(np.zeros(1))
    # The reward of the first transition of task 1 alone, still divided by the old deviation.
    np.testing.assert_array_equal(env.returns, [1])
    rewards = env.step(np.zeros(1))[1]
    # Two samples: 1 and 1.5.
    np.testing.assert_allclose([env.returns[0], *map(float, moments(env, "rewards"))], [1.5, 1.25, 1 / 16], rtol=1e-2)
    np.testing.assert_allclose(rewards, 1 / np.sqrt(1 / 16), rtol=1e-2)


def test_reset_after_a_start_in_a_later_task_needs_no_warmup() -> None:
    env = normalize(Script([[[4.0], [6.0]]], [[5, 5]]), Normalization(policy="reset", warmup=1000))
    np.testing.assert_allclose(env.reset(), [[-1], [1]], rtol=1e-2)


@pytest.mark.parametrize("boundary", ["immediate", "truncate", "next_reset"])
def test_reset_follows_the_tasks_of_real_environments(boundary: str) -> None:
    tasks = Tasks(Periodic(period=150, boundary=boundary), {"r": RewardScale(values=(1, 2, 3))}, seed=0)
    env = normalize(make_vec_env("CartPole-v1", tasks, 3, seed=0), Normalization(policy="reset", warmup=2))
    assert isinstance(env, Normalize)
    env.reset()
    wanted: dict[int, list[Any]] = {0: list(env.get_original_obs())}
    for step in range(150):
        _, _, _, infos = env.step(np.full(3, step % 2))
        newest = max(info["next_task"] for info in infos)
        rows = [row for row, info in enumerate(infos) if info["next_task"] == newest]
        wanted.setdefault(newest, []).extend(env.get_original_obs()[rows])
    assert len(wanted) >= 3
    np.testing.assert_allclose(moments(env)[0], np.mean(wanted[max(wanted)], axis=0), atol=1e-4)


# Context


@pytest.mark.parametrize("policy", ON)
def test_the_context_is_passed_on_as_it_is(policy: str) -> None:
    tasks = Tasks(Periodic(period=60, signal="context"), {"m": Pendulum(values=(1, 5, 2))}, seed=1)
    settings = Normalization(policy=policy, warmup=4, horizon=20)
    env = normalize(make_vec_env("Pendulum-v1", tasks, 2, seed=0), settings, context=1)
    env.reset()
    seen = []
    for _ in range(80):
        observations, *_ = env.step(np.zeros((2, 1)))
        seen.append(observations[0, -1])
        np.testing.assert_allclose(env.unnormalize_obs(observations)[:, -1], env.get_original_obs()[:, -1])
        assert observations.dtype == np.float32
    assert seen == [1] * 29 + [5] * 30 + [2] * 21
    shown = normalize(make_vec_env("Pendulum-v1", tasks, 2, seed=0), settings)
    assert abs(shown.reset()[0, -1]) < 0.02


def test_a_context_longer_than_the_observations_is_refused() -> None:
    with pytest.raises(ValueError, match="a context of 2 numbers cannot be"):
        normalize(random_script(), Normalization(policy="moving"), context=2)


# Saving, and evaluation


@pytest.mark.parametrize("where", ["dict", "file"])
@pytest.mark.parametrize("policy", ON)
def test_going_on_from_a_saved_state_is_exact(policy: str, where: str, tmp_path: Path) -> None:
    settings = Normalization(policy=policy, rewards=True, horizon=20, warmup=25, clip_obs=3)
    whole = Normalize(random_script(), settings, gamma=0.8)
    play(whole, 22)
    path = tmp_path / "statistics"
    whole.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["statistics"]
    script = random_script()
    script.t = 22
    if where == "file":
        resumed = Normalize.load(path, script)
        assert resumed.settings == settings
    else:
        resumed = Normalize(script, settings, gamma=0.8)
        resumed.load_state_dict(whole.state_dict())
    assert_same(play(whole, 18, reset=False), play(resumed, 18, reset=False))
    for name, value in whole.state_dict().items():
        np.testing.assert_array_equal(value, resumed.state_dict()[name])
        assert isinstance(value, (np.ndarray, float, int, str))


def test_reset_is_saved_in_the_middle_of_a_warmup() -> None:
    whole = Renewed(Normalization(policy="reset", warmup=3), (1,))
    for task in (0, 0, 1, 1):
        whole.fold(np.array([[task * 5.0]]), np.array([task]))
    resumed = Renewed(Normalization(policy="reset", warmup=3), (1,))
    resumed.load_state_dict(whole.state_dict())
    for renewed in (whole, resumed):
        renewed.fold(np.array([[8.0]]), np.array([1]))
    np.testing.assert_allclose(whole.mean, 6, rtol=1e-3)
    assert whole.state_dict() == resumed.state_dict()


def test_what_is_saved_is_a_copy() -> None:
    env = Normalize(random_script(), Normalization(policy="cumulative", rewards=True))
    play(env, 3)
    state = env.state_dict()
    before = {name: np.copy(value) for name, value in state.items()}
    other = Normalize(random_script(), Normalization(policy="cumulative", rewards=True))
    other.load_state_dict(state)
    play(env, 3, reset=False)
    play(other, 3)
    assert all(np.array_equal(state[name], before[name]) for name in state)
    mean = moments(env)[0].copy()
    env.state_dict()["observations.mean"][:] = 9
    np.testing.assert_array_equal(moments(env)[0], mean)


@pytest.mark.parametrize("policy", ON)
def test_pickles_go_on_as_sb3s_do(policy: str) -> None:
    env = Normalize(random_script(), Normalization(policy=policy, rewards=True))
    play(env, 20)
    copied = pickle.loads(pickle.dumps(env))
    copied.set_venv(random_script())
    assert_same(play(env, 40), play(copied, 40))


def test_wrong_statistics_are_refused(tmp_path: Path) -> None:
    env = Normalize(random_script(), Normalization(policy="moving"))
    state = env.state_dict()
    with pytest.raises(ValueError, match="policy moving cannot be those of a normalisation with freeze"):
        Normalize(random_script(), Normalization(policy="freeze")).load_state_dict(state)
    with pytest.raises(ValueError, match="no statistics of rewards"):
        Normalize(random_script(), Normalization(policy="moving", rewards=True)).load_state_dict(state)
    wider = Normalize(Script(np.zeros((2, 1, 5))), Normalization(policy="moving"))
    with pytest.raises(ValueError, match=r"observations to load are of shape \(2,\), not \(5,\)"):
        wider.load_state_dict(state)
    (tmp_path / "pickle").write_bytes(pickle.dumps({"policy": "moving"}))
    with pytest.raises(ValueError, match="holds no statistics"):
        Normalize.load(tmp_path / "pickle", random_script())
    np.savez(tmp_path / "other.npz", weights=np.ones(3))
    with pytest.raises(ValueError, match="holds no statistics"):
        Normalize.load(tmp_path / "other.npz", random_script())


def test_returns_are_dropped_where_the_environments_are_others() -> None:
    env = Normalize(random_script(), Normalization(policy="cumulative", rewards=True))
    play(env, 3)
    other = Normalize(random_script(n=2), Normalization(policy="cumulative", rewards=True))
    other.load_state_dict(env.state_dict())
    np.testing.assert_array_equal(other.returns, [0, 0])
    assert other.ret_rms.var == env.ret_rms.var


def test_sb3s_own_evaluation_copies_the_statistics() -> None:
    settings = Normalization(policy="reset", warmup=20)
    env = normalize(changing("ppo"), settings)
    evaluation = normalize(changing("ppo"), settings)
    evaluation.training = False  # type: ignore[attr-defined]
    model = sb3.PPO("MlpPolicy", env, n_steps=32, n_epochs=1, batch_size=32, seed=0, device="cpu")
    model.learn(64, callback=EvalCallback(evaluation, eval_freq=32, n_eval_episodes=1, verbose=0))
    assert_same(moments(evaluation), moments(env))


def test_returns_of_episodes_are_the_environments_own() -> None:
    settings = Normalization(policy="moving", rewards=True, clip_reward=0.1)
    env = normalize(make_plain("CartPole-v1", 2, seed=0), settings)
    env.reset()
    lengths = [
        (info["episode"]["r"], info["episode"]["l"])
        for _ in range(60)
        for info in env.step(np.ones(2, int))[3]
        if "episode" in info
    ]
    assert len(lengths) >= 8
    assert all(returned == length for returned, length in lengths)


# What can be normalised


class Mixed(gym.Env[Any, Any]):
    """A vector, an image and a number out of four."""

    def __init__(self) -> None:
        self.observation_space = spaces.Dict(
            {
                "image": spaces.Box(0, 255, (36, 40, 3), np.uint8),
                "kind": spaces.Discrete(4),
                "vector": spaces.Box(-9, 9, (2,)),
            }
        )
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {"task": 0}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 5.0, False, False, {"task": 0, "next_task": 0}


@pytest.mark.parametrize("policy", ON)
def test_of_a_dictionary_its_vectors_are_normalised(policy: str, tmp_path: Path) -> None:
    env = normalize(DummyVecEnv([Mixed] * 2), Normalization(policy=policy))
    stock = VecNormalize(DummyVecEnv([Mixed] * 2), norm_obs_keys=["vector"], norm_reward=False)
    env.seed(0)
    stock.seed(0)
    theirs, ours = [stock.reset()], [env.reset()]
    for _ in range(10):
        theirs.append(stock.step(np.zeros(2, int))[0])
        ours.append(env.step(np.zeros(2, int))[0])
    for one, other in zip(theirs, ours, strict=True):
        np.testing.assert_array_equal(one["kind"], other["kind"])
        np.testing.assert_array_equal(one["image"].transpose(0, 3, 1, 2), other["image"])
        np.testing.assert_allclose(one["vector"], other["vector"], atol=0 if policy != "moving" else 0.01)
    assert isinstance(env, Normalize)
    assert list(env.statistics) == ["observations.vector"]
    env.save(tmp_path / "s.npz")
    assert_same(
        moments(Normalize.load(tmp_path / "s.npz", DummyVecEnv([Mixed])), "observations.vector"),
        moments(env, "observations.vector"),
    )


@pytest.mark.parametrize("dictionary", [False, True])
def test_off_policy_agents_with_images_can_have_normalised_rewards(dictionary: bool) -> None:
    make = Mixed if dictionary else Noise
    settings = Normalization(policy="cumulative", rewards=True, observations=dictionary)
    env = normalize(DummyVecEnv([make]), settings)
    policy = "MultiInputPolicy" if dictionary else "CnnPolicy"
    model = sb3.DQN(policy, env, learning_starts=4, batch_size=2, buffer_size=20, device="cpu").learn(8)
    buffer = model.replay_buffer
    assert buffer is not None
    images = buffer.observations["image"] if dictionary else buffer.observations  # type: ignore[call-overload]
    assert images.shape[2:] == ((3, 36, 40) if dictionary else (1, 36, 36))
    assert images[:8].max() > 200


def test_images_and_discrete_observations_are_refused() -> None:
    with pytest.raises(ValueError, match=r"other than images, not Box.*set observations to false"):
        normalize(DummyVecEnv([Noise]), Normalization(policy="moving"))
    with pytest.raises(ValueError, match="not Discrete"):
        normalize(make_plain("FrozenLake-v1", 1), Normalization(policy="moving"))


@pytest.mark.parametrize("policy", ["freeze", "reset"])
def test_environments_must_tell_their_task_where_it_is_needed(policy: str) -> None:
    env = normalize(make_plain("CartPole-v1", 1), Normalization(policy=policy))
    with pytest.raises(ValueError, match=rf'policy {policy} needs environments that tell their task in info\["task"\]'):
        env.reset()
    env = normalize(make_plain("CartPole-v1", 1), Normalization(policy=policy, observations=False, rewards=True))
    env.reset()
    with pytest.raises(ValueError, match=r'in info\["task"\]'):
        env.step(np.zeros(1, int))


def test_other_wrappers_may_stand_between() -> None:
    tasks = Tasks(Periodic(period=20), {"r": RewardScale()}, seed=0)
    inner = VecMonitor(make_vec_env("CartPole-v1", tasks, 2, seed=0, monitor=False))
    env = normalize(inner, Normalization(policy="reset"))
    env.reset()
    assert env.state_dict()["observations.task"] == 0  # type: ignore[attr-defined]


def test_settings_are_checked() -> None:
    with pytest.raises(SettingError, match="policy must be off, not moving, where nothing is normalised"):
        Normalization(policy="moving", observations=False)
    with pytest.raises(SettingError, match="did you mean 'cumulative'"):
        Normalization(policy="cumulativ")  # type: ignore[arg-type]
    for name in ("horizon", "warmup"):
        with pytest.raises(SettingError, match=f"{name} must be at least 2, not 1"):
            Normalization(policy="moving", **{name: 1})  # type: ignore[arg-type]
    for name in ("clip_obs", "clip_reward", "epsilon"):
        with pytest.raises(SettingError, match=f"{name} must be above 0, not 0"):
            replace(Normalization(), **{name: 0.0})
