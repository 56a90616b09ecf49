"""Many environments stepped at once return, each, what their own steps would return, to the last bit."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from envs import Tasks, make_env, make_vec_env
from envs.batch_mujoco import BatchMujoco
from envs.changes import CHANGES
from envs.in_turn import InTurn
from envs.normalize import Normalization, normalize
from envs.processes import Processes
from envs.schedules import Constant, Periodic
from envs.snapshots import restore, snapshot
from envs.snapshots.replay import same
from envs.stepping import Steps
from tests.envs.test_batch_mujoco import EVERYTHING, NO_CONTACTS, PHYSICS, assert_same, changes

SHORT = {"max_episode_steps": 23}


def member(env_id: str, seed: int, n_envs: int = 1, stepping: Any = "auto", **kwargs: Any) -> VecEnv:
    """Environments whose tasks are drawn from a seed of their own, and switch at steps of their own."""
    chosen = changes(**EVERYTHING) if "v5" in env_id else {"rotation": CHANGES["observation_rotation"]()}
    tasks = Tasks(Periodic(period=17 + 12 * seed, boundary="immediate", first="drawn"), chosen, seed=seed)
    return make_vec_env(env_id, tasks, n_envs, 100 * seed, stepping, env_kwargs=kwargs)


def actions_of(envs: Sequence[VecEnv], rng: np.random.Generator) -> list[np.ndarray]:
    drawn = []
    for env in envs:
        space = env.action_space
        if isinstance(space, gym.spaces.Discrete):
            drawn.append(rng.integers(0, space.n, env.num_envs))
        else:
            drawn.append(rng.uniform(-1, 1, (env.num_envs, *space.shape)).astype(np.float32))
    return drawn


def walk(steps: Steps, together: Sequence[VecEnv], apart: Sequence[VecEnv], count: int, seed: int = 0) -> list[Any]:
    """Step members together, and the same members each by itself, and compare all; returns the infos."""
    rng = np.random.default_rng(seed)
    infos = []
    for _ in range(count):
        actions = actions_of(together, rng)
        expected = [env.step(own) for env, own in zip(apart, actions, strict=True)]
        found = steps(actions)
        for mine, theirs in zip(found, expected, strict=True):
            assert_same(list(mine), list(theirs))
        for one, other in zip(together, apart, strict=True):
            assert_same(one.unwrapped.reset_infos, other.unwrapped.reset_infos)
        infos += [info for env in found for info in env[3]]
    return infos


def twice(make: Callable[[Any], list[VecEnv]], apart: str = "dummy") -> tuple[list[VecEnv], list[VecEnv]]:
    """The same members twice, reset: with the robots in batches, and as environments of their own."""
    together, others = make("auto"), make(apart)
    for one, other in zip(together, others, strict=True):
        np.testing.assert_array_equal(one.reset(), other.reset())
    return together, others


@pytest.mark.parametrize("nthread", [1, 2])
@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [("HalfCheetah-v5", SHORT), ("Hopper-v5", {}), ("Ant-v5", SHORT), ("Ant-v5", SHORT | NO_CONTACTS)],
)
def test_robots(env_id: str, kwargs: dict[str, Any], nthread: int) -> None:
    together, apart = twice(lambda how: [member(env_id, seed, 1 + seed % 2, how, **kwargs) for seed in range(4)])
    infos = walk(Steps(together, nthread), together, apart, 60)
    assert sum("episode" in info for info in infos) >= 8
    assert sum("switch" in info for info in infos) >= 12
    for name in ("clock", "episode_returns", "episode_lengths", "total_steps"):
        for one, other in zip(together, apart, strict=True):
            assert one.get_attr(name) == other.get_attr(name)
    fleets = {id(env.fleet) for env in together if isinstance(env, BatchMujoco)}
    assert len(fleets) == 1


def test_humanoids_whose_masses_change() -> None:
    together, apart = twice(lambda how: [member("Humanoid-v5", seed, 1, how) for seed in range(3)])
    walk(Steps(together), together, apart, 40)


def test_members_of_all_kinds() -> None:
    def make(how: Any) -> list[VecEnv]:
        tasks = Tasks(Constant(), {})
        forked = Processes([functools.partial(make_env, "Pendulum-v1", tasks, stride=2)] * 2, start_method="fork")
        forked.seed(3)
        kinds = ["Hopper-v5", "CartPole-v1", "Walker2d-v5", "Hopper-v5", "Hopper-v5?frame_skip=2"]
        settings = Normalization(policy="moving", rewards=True)
        made = [normalize(member(env_id, seed, 2, how), settings) for seed, env_id in enumerate(kinds)]
        return [*made, member("Hopper-v5", 9, stepping="dummy"), forked]

    together, apart = twice(make)
    infos = walk(Steps(together), together, apart, 50)
    assert sum("terminal_observation" in info for info in infos) > 10
    fleets = [env.unwrapped.fleet for env in together if isinstance(env.unwrapped, BatchMujoco)]
    assert [len(fleet.envs) for fleet in fleets] == [4, 2, 4, 2]
    for env in (together[-1], apart[-1]):
        env.close()


def test_what_the_agent_is_shown_makes_another_kind() -> None:
    def make(how: Any) -> list[VecEnv]:
        def env(seed: int, signal: Any) -> VecEnv:
            tasks = Tasks(Periodic(period=20, boundary="immediate", signal=signal), changes(**PHYSICS), seed=seed)
            return make_vec_env("HalfCheetah-v5", tasks, 1, seed, how)

        return [env(0, "context"), env(1, "hidden"), env(2, "context"), env(3, "info")]

    together, apart = twice(make)
    walk(Steps(together), together, apart, 50)
    assert [len(env.fleet.envs) for env in together if isinstance(env, BatchMujoco)] == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [("HalfCheetah-v5", {}), ("Ant-v5", {}), ("Humanoid-v5", NO_CONTACTS | {"terminate_when_unhealthy": False})],
)
def test_between_steps_a_member_is_as_alone(env_id: str, kwargs: dict[str, Any]) -> None:
    together, apart = twice(lambda how: [member(env_id, seed, 2, how, **kwargs) for seed in range(3)])
    steps = Steps(together)
    walk(steps, together, apart, 30)
    for envs in (together, apart):
        # One is stepped by itself, one is reset, one's model is changed by hand and one of its rows is stepped.
        rng = np.random.default_rng(1)
        for _ in range(5):
            envs[0].step(actions_of(envs[:1], rng)[0])
        envs[1].env_method("set_clock", 40, indices=[1])
        envs[1].reset()
        model = envs[2].get_attr("model", indices=[1])[0]
        model.body_mass[1:] *= 1.3
        mujoco.mj_setConst(model, mujoco.MjData(model))
        envs[2].env_method("step", actions_of(envs[2:], rng)[0][0], indices=[0])
    walk(steps, together, apart, 30, seed=2)
    for one, other in zip(together, apart, strict=True):
        for mine, theirs in zip(one.get_attr("data"), other.get_attr("data"), strict=True):
            for name in ("qpos", "qvel", "qacc_warmstart", "xpos", "cfrc_ext"):
                np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))
    walk(steps, together, apart, 10, seed=3)


def test_steps_made_anew_go_on() -> None:
    settings = NO_CONTACTS | {"terminate_when_unhealthy": False}
    together, apart = twice(lambda how: [member("Humanoid-v5", seed, 1, how, **settings) for seed in range(3)])
    for step in range(12):
        for env in (together[step % 3], apart[step % 3]):
            # A humanoid's velocity is that of its centre of mass, which moves where a leg gets heavier.
            (model,) = env.get_attr("model")
            model.body_mass[5] *= 1.1
        some = slice(step % 2, None)
        walk(Steps(together[some]), together[some], apart[some], 1, step)


@pytest.mark.parametrize(("env_id", "kwargs"), [("HalfCheetah-v5", SHORT), ("Ant-v5", SHORT), ("Humanoid-v5", SHORT)])
def test_a_member_goes_on_from_a_snapshot_together_or_alone(env_id: str, kwargs: dict[str, Any]) -> None:
    make = functools.partial(member, env_id, **kwargs)
    together, apart = twice(lambda how: [make(seed, 1, how) for seed in range(2)], "auto")
    walk(Steps(together), together, apart, 30)
    trees = [snapshot(env) for env in together]
    others, alone = twice(lambda how: [make(seed, 1, how) for seed in range(2)], "auto")
    steps = Steps(others)
    walk(steps, others, alone, 7)
    for envs in (alone, others):
        for env, tree in zip(envs, trees, strict=True):
            assert restore(env, tree) is None
            assert same(snapshot(env), tree)
    walk(steps, others, alone, 30, seed=5)
    rng = np.random.default_rng(5)
    for _ in range(30):
        for env, own in zip(apart, actions_of(apart, rng), strict=True):
            env.step(own)
    # Those that were never left have come to the same place.
    for never, again in zip(apart, others, strict=True):
        np.testing.assert_array_equal(never.get_attr("data")[0].qpos, again.get_attr("data")[0].qpos)


def test_actions_of_another_precision() -> None:
    together, apart = twice(lambda how: [member("HalfCheetah-v5", seed, 1, how) for seed in range(2)])
    steps = Steps(together)
    rng = np.random.default_rng(0)
    for _ in range(20):
        single, double = actions_of(together, rng)
        actions = [single, double.astype(np.float64) / 3]
        expected = [env.step(own) for env, own in zip(apart, actions, strict=True)]
        # The costs of actions in single precision are the same numbers in double.
        for mine, theirs in zip(steps(actions), expected, strict=True):
            assert mine[1] == theirs[1]
            assert mine[3][0]["reward_ctrl"] == theirs[3][0]["reward_ctrl"]
            np.testing.assert_array_equal(mine[0], theirs[0])


def test_simulations_that_blow_up_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(nthread: int) -> list[Any]:
        tasks = Tasks(Periodic(period=9, boundary="immediate"), changes(mujoco_gravity={"low": 1.0, "high": 1e9}))
        fearless = {"terminate_when_unhealthy": False}
        envs = [make_vec_env("Hopper-v5", tasks, 1, seed, env_kwargs=fearless) for seed in range(4)]
        for env in envs:
            env.reset()
        steps, rng = Steps(envs, nthread), np.random.default_rng(0)
        return [list(map(list, steps(actions_of(envs, rng)))) for _ in range(60)]

    # It is told once, and another test may have been told.
    monkeypatch.setattr("envs.mujoco_log._told", set())
    with pytest.warns(RuntimeWarning, match="MuJoCo"):
        threaded = run(2)
    assert_same(threaded, run(1))


def test_what_is_wrong_is_said() -> None:
    envs = [member("HalfCheetah-v5", seed) for seed in range(2)]
    with pytest.raises(ValueError, match="nthread must be at least 1, not 0"):
        Steps(envs, 0)
    steps = Steps(envs)
    rng = np.random.default_rng(0)
    envs[0].reset()
    with pytest.raises(RuntimeError, match="wait for their first reset"):
        steps(actions_of(envs, rng))
    envs[1].reset()
    with pytest.raises(ValueError, match=r"must be 1 rows of 6 numbers, not of the shape \(1, 5\)"):
        steps([np.zeros((1, 6)), np.zeros((1, 5))])
    with pytest.raises(ValueError, match="shorter"):
        steps(actions_of(envs[:1], rng))
    steps(actions_of(envs, rng))


def test_a_step_that_was_interrupted_is_forgotten() -> None:
    together, apart = twice(lambda how: [member("Hopper-v5", seed, 1, how) for seed in range(2)])
    unable = member("CartPole-v1", 0)
    rng = np.random.default_rng(0)
    actions = actions_of(together, rng)
    with pytest.raises(RuntimeError, match="needs reset"):
        Steps([unable, *together])([np.zeros(1, int), *actions])
    for env, own in zip(apart, actions, strict=True):
        env.step(own)
    for one, other, own in zip(together, apart, actions, strict=True):
        assert_same(list(one.step(own)), list(other.step(own)))


class Parts(gym.Env[Any, Any]):
    """One with a dictionary of observations, which it writes anew into the same arrays, as into the same info."""

    observation_space = gym.spaces.Dict(
        {"vector": gym.spaces.Box(-9, 9, (3,), np.float64), "image": gym.spaces.Box(0, 255, (4, 4, 1), np.uint8)}
    )
    action_space = gym.spaces.Discrete(2)

    def __init__(self) -> None:
        self.seen = {"vector": np.zeros(3), "image": np.zeros((4, 4, 1), np.uint8)}
        self.info: dict[str, Any] = {"trail": [], "array": np.zeros(2), "name": "parts", "real": np.float64(0.5)}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.taken = 0
        return {key: array.copy() for key, array in self.seen.items()}, {"began": [seed]}

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self.taken += 1
        self.seen["vector"] += self.np_random.uniform(-1, 1, 3)
        self.seen["image"] += 1
        self.info["trail"].append(self.taken)
        self.info["array"] += 1
        return self.seen, np.float64(self.taken / 3), np.bool_(self.taken == 7), False, self.info


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("make", [Parts, lambda: Monitor(gym.make("CartPole-v1")), lambda: gym.make("Pendulum-v1")])
def test_in_turn_returns_what_dummy_returns(make: Callable[[], gym.Env], n_envs: int) -> None:
    dummy, lean = DummyVecEnv([make] * n_envs), InTurn([make] * n_envs)
    dummy.seed(1)
    lean.seed(1)
    seen = [[dummy.reset(), lean.reset()]]
    assert_same(*seen[0])
    rng = np.random.default_rng(0)
    for _ in range(250):
        actions = actions_of([lean], rng)[0]
        seen.append([list(dummy.step(actions)), list(lean.step(actions))])
        assert_same(dummy.reset_infos, lean.reset_infos)
    # What was returned stays what it was.
    for expected, found in seen:
        assert_same(expected, found)
    assert any(found[2].any() for _, found in seen[1:])
