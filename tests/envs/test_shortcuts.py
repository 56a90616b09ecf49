"""A shortcut steps an environment as its own step does, to the last bit, whatever else is done to it meanwhile."""

import copy
import fractions
import functools
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control import CartPoleEnv
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common import monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from envs import NonStationary, Tasks, make_env, make_plain_env, make_vec_env, shortcuts
from envs.changes import CHANGES, ChangeError
from envs.in_turn import InTurn
from envs.monitor import Monitor
from envs.schedules import Constant, Drift, Periodic
from envs.shortcuts import cart_pole, shortcut
from tests.envs.test_batch_mujoco import assert_same, changes

SEEN = {"observation_permutation": {"signs": True}, "action_permutation": {"probability": 0.5}}
PHYSICS = {"cartpole": {"parameter": "gravity"}, "reward_scale": {}}
ALL = SEEN | PHYSICS
UNCHANGED = Tasks(Constant(), {})
OWN = CartPoleEnv.step


def pair(tasks: Tasks, n_envs: int = 3, **settings: Any) -> tuple[DummyVecEnv, InTurn]:
    """The same environments twice, seeded and reset: SB3's, and ours, of which each row has a shortcut."""
    make = functools.partial(make_env, "CartPole-v1", tasks, stride=n_envs, **settings)
    plain, ours = DummyVecEnv([make] * n_envs), InTurn([make] * n_envs)
    assert all(short is not None for _, short in ours._shortcuts)
    plain.seed(5)
    ours.seed(5)
    np.testing.assert_array_equal(plain.reset(), ours.reset())
    return plain, ours


def put(*envs: DummyVecEnv, **values: Any) -> None:
    """Set attributes of the environments within."""
    for env in envs:
        for row in env.envs:
            vars(row.unwrapped).update(values)


def walk(plain: DummyVecEnv, ours: InTurn, steps: int, seed: int = 0) -> list[dict[str, Any]]:
    """Step both with the same actions, and compare everything; returns the infos."""
    rng, infos = np.random.default_rng(seed), []
    for _ in range(steps):
        actions = rng.integers(2, size=plain.num_envs)
        expected, found = plain.step(actions), ours.step(actions)
        assert_same(list(expected), list(found))
        assert_same(plain.reset_infos, ours.reset_infos)
        infos += found[3]
    for name in ("state", "clock", "total_steps", "episode_returns", "episode_lengths", "rewards", "needs_reset"):
        for one, other in zip(plain.get_attr(name), ours.get_attr(name), strict=True):
            assert_same(one, other)
    return infos


@pytest.mark.parametrize("signal", ["hidden", "info", "context"])
@pytest.mark.parametrize("boundary", ["immediate", "next_reset", "truncate"])
def test_steps_are_those_of_the_environment(boundary: Any, signal: Any) -> None:
    chosen = changes(**(PHYSICS if signal == "context" else ALL))
    tasks = Tasks(Periodic(period=60, boundary=boundary, signal=signal), chosen, seed=3)
    infos = walk(*pair(tasks), 400)
    assert sum("episode" in info for info in infos) > 30
    assert sum("switch" in info for info in infos) > 10
    assert any("cut_short" in info for info in infos) == (boundary == "truncate")


def test_episodes_are_cut_off_where_gymnasium_does() -> None:
    # With little gravity and weak pushes the pole stays up longer than an episode is allowed to take.
    plain, ours = pair(UNCHANGED, env_kwargs={"max_episode_steps": 40})
    put(plain, ours, gravity=0.0, force_mag=0.1)
    infos = walk(plain, ours, 300)
    assert sum(info["TimeLimit.truncated"] for info in infos) > 15


@pytest.mark.parametrize(
    "name", [name for name in CHANGES if name.split("_")[0] in ("observation", "action", "reward")]
)
def test_every_change_of_what_passes(name: str) -> None:
    try:
        tasks = Tasks(Periodic(period=40, boundary="immediate"), changes(**{name: {}}), seed=2)
        envs = pair(tasks)
    except ChangeError:
        pytest.skip("not for a choice of two actions")
    assert sum("switch" in info for info in walk(*envs, 120)) >= 6


def test_constants_that_drift_and_rewards_of_another_kind() -> None:
    chosen = changes(cartpole={"parameter": "length", "low": 0.5, "high": 2.0, "mode": "factor"})
    tasks = Tasks(Drift(period=50), chosen, seed=1)
    walk(*pair(tasks, env_kwargs={"sutton_barto_reward": True}), 300)


def test_the_other_integrator_and_no_monitor() -> None:
    plain, ours = pair(UNCHANGED, monitor=False)
    put(plain, ours, kinematics_integrator="semi-implicit euler")
    rng = np.random.default_rng(0)
    for _ in range(200):
        actions = rng.integers(2, size=3)
        assert_same(list(plain.step(actions)), list(ours.step(actions)))


def test_whatever_is_done_in_between_is_noticed() -> None:
    plain, ours = pair(Tasks(Periodic(period=90, boundary="immediate"), changes(**ALL), seed=3))

    def set_to(**values: Any) -> None:
        put(plain, ours, **values)
        walk(plain, ours, 20)

    set_to(length=0.8, force_mag=np.float64(4.0))
    set_to(masspole=np.float32(0.3), total_mass=np.float32(1.3), polemass_length=1)
    set_to(state=np.array([0.1, 0.2, 0.05, -0.3]))
    set_to(state=np.array([0.1, 0.2, 0.05, -0.3], np.float32))
    set_to(state=(0.1, 0.2, 0.05, np.float64(-0.3)))
    set_to(x_threshold=0.2, theta_threshold_radians=1.0)
    np.testing.assert_array_equal(plain.reset(), ours.reset())
    for env in (plain, ours):
        env.env_method("set_clock", 1000)
    np.testing.assert_array_equal(plain.reset(), ours.reset())
    walk(plain, ours, 20)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.floats(-30, 30), min_size=4, max_size=4),
    st.lists(st.floats(0.01, 30), min_size=5, max_size=5),
    st.integers(0, 1),
    st.booleans(),
)
def test_any_state_and_any_constants(state: list[float], constants: list[float], action: int, euler: bool) -> None:
    one, other = CartPoleEnv(), CartPoleEnv()
    for env in (one, other):
        env.reset(seed=0)
        env.state = np.array(state)
        env.gravity, env.total_mass, env.polemass_length, env.length, env.force_mag = constants
        env.kinematics_integrator = "euler" if euler else "semi-implicit euler"
    observation, reward, terminated, _, _ = one.step(action)
    assert_same([observation, reward, terminated], list(cart_pole(other, np.int64(action)) or ()))
    assert_same([one.state, one.steps_beyond_terminated], [other.state, other.steps_beyond_terminated])


def outcome(step: Callable[[Any], Any], action: Any) -> Any:
    """What is observed after a step, or what goes wrong."""
    try:
        return step(action)[0].tolist()
    except Exception as error:
        return type(error), str(error)


@pytest.mark.parametrize("action", [2, -1, 1.0, np.float32(1), True, None, np.array([1]), "1"])
def test_strange_actions_fail_as_they_do_there(action: Any) -> None:
    env = make_env("CartPole-v1", UNCHANGED)
    env.reset(seed=0)
    step = shortcut(env)
    assert step is not None

    found, state = outcome(step, action), env.unwrapped.state.copy()  # type: ignore[attr-defined]
    env.reset(seed=0)
    # The checker of actions, which Gymnasium has around its environments for the first step alone, says it otherwise.
    expected = outcome(env.unwrapped.step, action)
    assert found == expected
    np.testing.assert_array_equal(env.unwrapped.state, state)  # type: ignore[attr-defined]


def test_a_step_before_the_reset_and_after_the_end() -> None:
    env = make_env("CartPole-v1", UNCHANGED)
    step = shortcut(env)
    assert step is not None
    with pytest.raises(RuntimeError, match="needs reset"):
        step(1)
    env.reset(seed=0)
    while not step(1)[2]:
        pass
    with pytest.raises(RuntimeError, match="needs reset"):
        step(1)
    bare = make_env("CartPole-v1", UNCHANGED, monitor=False)
    step = shortcut(bare)
    assert step is not None
    with pytest.raises(gym.error.ResetNeeded):
        step(1)
    bare.reset(seed=0)
    while not step(1)[2]:
        pass
    with pytest.warns(UserWarning, match="already returned terminated"):
        assert step(1)[1:3] == (0.0, True)


def test_impossible_constants_are_left_to_the_environment() -> None:
    env = make_env("CartPole-v1", UNCHANGED)
    env.reset(seed=0)
    step = shortcut(env)
    assert step is not None
    env.unwrapped.total_mass = 0.0  # type: ignore[attr-defined]
    with np.errstate(all="ignore"):
        observation = step(1)[0]
    assert np.isnan(observation[1])


def test_wrappers_are_not_stepped(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_vec_env("CartPole-v1", Tasks(Periodic(period=30), changes(**ALL), seed=0), 2, seed=0)
    env.reset()
    monkeypatch.setattr(gym.wrappers.TimeLimit, "step", lambda *_: pytest.fail("a wrapper was stepped"))
    for _ in range(100):
        env.step(np.array([0, 1]))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["copy", "pickle"])
def test_a_copy_is_another_one(copied: Callable[[InTurn], InTurn]) -> None:
    plain, ours = pair(Tasks(Periodic(period=40), changes(**SEEN), seed=3))
    walk(plain, ours, 30)
    twin, before = copied(ours), [state.copy() for state in ours.get_attr("state")]
    other = copied(plain)  # type: ignore[arg-type]
    walk(other, twin, 50, seed=1)
    assert_same(ours.get_attr("state"), before)
    walk(plain, ours, 50, seed=1)
    assert_same(ours.get_attr("state"), twin.get_attr("state"))


def test_steps_and_pictures_asked_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """By whoever puts a step in the place of the environment's own, on it, within or on its class."""
    rendered: list[int] = []
    env = make_env("CartPole-v1", UNCHANGED)
    inner: Any = env.unwrapped
    env.reset(seed=0)
    step = shortcut(env)
    assert step is not None
    own = inner.step
    inner.step = lambda action: (*own(action)[:1], 5.0, *own(action)[2:])
    assert step(1)[1] == 5.0
    del inner.step
    env.step = lambda action: (np.zeros(4), 7.0, False, False, {})  # type: ignore[method-assign]
    assert step(1)[1] == 7.0
    del env.step
    with monkeypatch.context() as patch:
        plain = CartPoleEnv.step
        patch.setattr(CartPoleEnv, "step", lambda self, action: (*plain(self, action)[:1], 6.0, False, False, {}))
        assert step(1)[1] == 6.0
    env.reset(seed=0)
    inner.render_mode, inner.render = "human", lambda: rendered.append(1)
    step(1)
    assert rendered == [1]


@pytest.mark.parametrize(
    "value",
    [np.uint8(10), np.True_, True, np.longdouble(9.8), torch.tensor(9.8), np.array([9.8]), fractions.Fraction(49, 5)],
)
def test_strange_constants_are_left_to_the_environment(value: Any) -> None:
    one, other = CartPoleEnv(), CartPoleEnv()
    for env in (one, other):
        env.reset(seed=0)
        env.force_mag = value
    state = other.state
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as it gives where such a number is made negative
        assert cart_pole(other, 0) is None
        assert other.state is state
        found = [outcome(env.step, 0) for env in (one, other)]
    assert found[0] == found[1]


@pytest.mark.parametrize("space", [gym.spaces.Discrete(2, start=1), gym.spaces.Discrete(3)])
def test_other_actions_have_no_shortcut(space: gym.Space[Any]) -> None:
    inner = CartPoleEnv()
    inner.action_space = space  # type: ignore[assignment]
    assert shortcut(NonStationary(inner, UNCHANGED)) is None


def test_an_environment_put_into_a_row_is_the_one_that_is_stepped() -> None:
    env = make_vec_env("CartPole-v1", UNCHANGED, 2, seed=0)
    assert isinstance(env, InTurn)
    env.envs[0] = gym.wrappers.TransformReward(env.envs[0], lambda reward: 7 * float(reward))
    env.reset()
    assert env.step(np.array([0, 1]))[1].tolist() == [7.0, 1.0]


class Mine(CartPoleEnv):
    """Somebody's own."""


def test_what_has_no_shortcut(tmp_path: Path) -> None:
    def without(env: gym.Env[Any, Any]) -> None:
        assert shortcut(env) is None
        env.close()

    def changing(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        return NonStationary(env, UNCHANGED)

    assert shortcut(make_env("CartPole-v1", UNCHANGED)) is not None
    assert shortcut(changing(CartPoleEnv())) is not None
    without(make_env("Pendulum-v1", UNCHANGED))
    without(changing(Mine()))
    without(make_plain_env("CartPole-v1"))
    without(gym.wrappers.ClipReward(make_env("CartPole-v1", UNCHANGED), 0, 1))
    without(gym.wrappers.TimeLimit(changing(CartPoleEnv()), 10))
    without(Monitor(Monitor(changing(CartPoleEnv()))))
    without(monitor.Monitor(changing(CartPoleEnv()), str(tmp_path / "log")))
    without(Monitor(changing(gym.wrappers.TransformReward(CartPoleEnv(), lambda reward: reward))))
    exchanged = Tasks(Periodic(period=9), changes(environment={"ids": ("CartPole-v1", "CartPole-v0")}))
    without(make_env("CartPole-v1", exchanged))


def heavier(self: CartPoleEnv, action: Any) -> Any:
    self.gravity = np.nextafter(9.8, 10)
    return OWN(self, action)


def other_integrator(self: CartPoleEnv, action: Any) -> Any:
    found = OWN(self, action)
    if self.kinematics_integrator != "euler":
        assert self.state is not None
        self.state = self.state + np.array([0, 0, 0, 1e-12])
    return found


def other_reward(self: CartPoleEnv, action: Any) -> Any:
    observation, reward, *rest = OWN(self, action)
    return observation, reward - self._sutton_barto_reward, *rest


def long_poles_differ(self: CartPoleEnv, action: Any) -> Any:
    if self.length > 0.6:
        self.force_mag *= 1 + 1e-9
    return OWN(self, action)


@pytest.mark.parametrize("another", [heavier, other_integrator, other_reward, long_poles_differ])
def test_another_gymnasium_has_no_shortcut(monkeypatch: pytest.MonkeyPatch, another: Callable[..., Any]) -> None:
    monkeypatch.setattr(CartPoleEnv, "step", another)
    assert shortcut(make_env("CartPole-v1", UNCHANGED)) is None
    # So it would be if it came like that.
    shortcuts._is_right.cache_clear()
    monkeypatch.setitem(shortcuts.KNOWN, CartPoleEnv, shortcuts.KNOWN[CartPoleEnv]._replace(own=another))
    assert shortcut(make_env("CartPole-v1", UNCHANGED)) is None
    monkeypatch.undo()
    shortcuts._is_right.cache_clear()
    assert shortcut(make_env("CartPole-v1", UNCHANGED)) is not None
