"""What all changes have in common, each tried in environments that it fits."""

import copy
import pickle
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from envs import NonStationary, Tasks, make_env, make_plain_env
from envs.changes import CHANGES
from envs.schedules import Drift, Periodic
from envs.verify import verify

CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("observation_permutation", "CartPole-v1", {}),
    ("observation_rotation", "Pendulum-v1", {}),
    ("observation_rotation", "CartPole-v1", {"dimensions": 9}),
    ("observation_mask", "CartPole-v1", {}),
    ("observation_mask", "HalfCheetah-v5", {"count": 3}),
    ("observation_offset", "CartPole-v1", {}),
    ("observation_scale", "Pendulum-v1", {}),
    ("observation_gains", "CartPole-v1", {}),
    ("observation_noise", "Hopper-v5", {}),
    ("observation_delay", "Pendulum-v1", {}),
    ("observation_delay", "FrozenLake-v1", {}),
    ("action_permutation", "Acrobot-v1", {}),
    ("action_flip", "HalfCheetah-v5", {}),
    ("action_scale", "Pendulum-v1", {}),
    ("action_noise", "Pendulum-v1", {}),
    ("action_noise", "Acrobot-v1", {}),
    ("action_sticky", "CartPole-v1", {}),
    ("action_sticky", "Pendulum-v1", {}),
    ("action_delay", "MountainCar-v0", {"idle": 1}),
    ("action_delay", "Pendulum-v1", {}),
    ("reward_scale", "Pendulum-v1", {}),
    ("reward_offset", "CartPole-v1", {}),
    ("reward_noise", "CartPole-v1", {}),
    ("reward_delay", "CartPole-v1", {}),
    ("locomotion_direction", "HalfCheetah-v5", {"values": (-1.0, 0.5)}),
    ("locomotion_velocity", "Swimmer-v5", {}),
    ("mujoco_friction", "Hopper-v5", {}),
    ("mujoco_gravity", "HalfCheetah-v5", {}),
    ("mujoco_mass", "HalfCheetah-v5", {}),
    ("mujoco_damping", "HalfCheetah-v5", {}),
    ("mujoco_armature", "HalfCheetah-v5", {}),
    ("mujoco_joint_range", "HalfCheetah-v5", {}),
    ("mujoco_gear", "HalfCheetah-v5", {}),
    ("mujoco_actuator_failure", "HalfCheetah-v5", {"failures": 2}),
    ("mujoco_wind", "HalfCheetah-v5", {}),
    ("mujoco_density", "HalfCheetah-v5", {}),
    ("mujoco_viscosity", "HalfCheetah-v5", {}),
    ("cartpole", "CartPole-v1", {}),
    ("pendulum", "Pendulum-v1", {}),
    ("acrobot", "Acrobot-v1", {}),
    ("mountain_car", "MountainCar-v0", {}),
    ("mountain_car", "MountainCarContinuous-v0", {}),
    ("lunar_lander", "LunarLander-v3", {}),
    ("nine_rooms_goal", "Perennial/NineRooms-v0", {}),
    ("attribute", "Pendulum-v1", {"parameter": "g"}),
    ("attribute", "Hopper-v5", {"parameter": "model.opt.timestep", "mode": "factor"}),
]
ELSEWHERE = {"bipedal_walker", "car_racing", "environment"}
"""Those that have tests of their own alone: worlds that a reset with the same seed does not make the same again, and
the change of the whole environment, which cannot come in mid-episode."""
LENGTHENED = [case for case in CASES if "dimensions" in case[2]]
"""Longer observations are never those of the plain environment."""
UNSHOWN = [case for case in CASES if case[0].endswith(("permutation", "rotation")) or case[1] == "FrozenLake-v1"]
"""Values that are no numbers, and observations that are no vectors to append numbers to."""


def each(without: Sequence[Any] = ()) -> pytest.MarkDecorator:
    cases = [pytest.param(*case, id=f"{case[0]}-{case[1]}") for case in CASES if case not in without]
    return pytest.mark.parametrize(("name", "env_id", "settings"), cases)


def tasks_of(name: str, settings: dict[str, Any], schedule: Any, seed: int = 3) -> Tasks:
    return Tasks(schedule, {"change": CHANGES[name](**settings)}, seed=seed)


def trajectory(env: gym.Env, steps: int = 80) -> list[Any]:
    """Everything that an agent sees in seeded random episodes."""
    env.action_space.seed(1)
    found = [env.reset(seed=1)[0]]
    for _ in range(steps):
        observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        assert env.observation_space.contains(observation)
        found += [observation, reward, terminated, truncated]
        if terminated or truncated:
            found.append(env.reset()[0])
    return found


def assert_same(mine: list[Any], theirs: list[Any]) -> None:
    for my, their in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(my, their)
        assert type(my) is type(their)
        assert getattr(my, "dtype", None) == getattr(their, "dtype", None)


@each()
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_changed_environments_are_sound(name: str, env_id: str, settings: dict[str, Any]) -> None:
    env = NonStationary(make_plain_env(env_id), tasks_of(name, settings, Periodic(period=100_000, first="drawn")))
    gymnasium_check_env(env, skip_render_check=True)
    sb3_check_env(env)


@each()
def test_every_value_has_an_effect(
    name: str, env_id: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("envs.verify.TRANSITIONS", (40, 200, 1000))  # most effects show at once
    tasks = tasks_of(name, settings, Periodic(period=100))
    bound = tasks.bind(make_plain_env(env_id))
    values = [bound.values(step)["change"] for step in (0, 100, 200, 300, 400)]
    distinct = []
    for value in values:
        if not bound.changes["change"].is_original(value) and value not in distinct:
            distinct.append(value)
    rows = verify(env_id, tasks, 500)
    assert len(rows) == len(distinct) >= 1
    assert all(row.effect > 0 for row in rows)


@each(without=LENGTHENED)
def test_away_and_back_again(name: str, env_id: str, settings: dict[str, Any]) -> None:
    plain = trajectory(make_plain_env(env_id))
    env = NonStationary(make_plain_env(env_id), tasks_of(name, settings, Periodic(period=5, boundary="immediate")))
    original = {"change": env.tasks.changes["change"].original}
    env.course.hold(original)
    assert_same(trajectory(env), plain)
    # Four values in mid-episode, the last of which is still there when the original returns.
    env.course._held = None
    env.set_clock(0)
    changed = trajectory(env, 20)
    assert any(not np.array_equal(mine, theirs) for mine, theirs in zip(changed, plain, strict=False))
    env.course.hold(original)
    assert_same(trajectory(env), plain)


@each()
def test_copies_and_pickles_go_the_same_way(name: str, env_id: str, settings: dict[str, Any]) -> None:
    env = NonStationary(
        make_plain_env(env_id), tasks_of(name, settings, Periodic(period=7, boundary="immediate", first="drawn"))
    )
    first = trajectory(env, 40)
    values = [env.tasks.values(step) for step in range(0, 50, 7)]
    for twin in (copy.deepcopy(env.tasks), pickle.loads(pickle.dumps(env.tasks))):
        assert twin.changes["change"].env is None
        assert [twin.values(step) for step in range(0, 50, 7)] == values
        assert_same(trajectory(NonStationary(make_plain_env(env_id), twin), 40), first)


@each()
def test_runs_are_the_same_again(name: str, env_id: str, settings: dict[str, Any]) -> None:
    runs = []
    for _ in range(2):
        env = make_env(env_id, tasks_of(name, settings, Periodic(period=9, boundary="immediate")))
        runs.append(trajectory(env, 60))
    assert_same(*runs)


@each(without=UNSHOWN)
def test_values_can_be_shown_where_they_are_numbers(name: str, env_id: str, settings: dict[str, Any]) -> None:
    schedule = Periodic(period=9, boundary="immediate", first="drawn", signal="context")
    env = make_env(env_id, tasks_of(name, settings, schedule))
    seen = trajectory(env, 60)[0]
    change = env.get_wrapper_attr("tasks").changes["change"]
    value = env.get_wrapper_attr("tasks").values(0)["change"]
    own = change.observation_space(make_plain_env(env_id).observation_space).shape[0]
    np.testing.assert_array_equal(seen[own:], np.array(change.context(value), seen.dtype))
    assert len(change.context(change.original)) == len(seen) - own


@pytest.mark.parametrize(
    ("name", "env_id"),
    [
        ("observation_scale", "Pendulum-v1"),
        ("observation_noise", "Pendulum-v1"),
        ("observation_delay", "Pendulum-v1"),
        ("action_scale", "Pendulum-v1"),
        ("action_noise", "Pendulum-v1"),
        ("action_sticky", "Pendulum-v1"),
        ("action_delay", "Pendulum-v1"),
        ("reward_offset", "Pendulum-v1"),
        ("reward_noise", "Pendulum-v1"),
        ("reward_delay", "Pendulum-v1"),
        ("locomotion_direction", "Swimmer-v5"),
    ],
)
def test_numbers_can_drift(name: str, env_id: str) -> None:
    env = make_env(env_id, tasks_of(name, {}, Drift(period=20, boundary="immediate", signal="context")))
    plain = trajectory(make_plain_env(env_id), 50)
    changed = trajectory(env, 50)
    size = len(plain[0])
    np.testing.assert_array_equal(changed[0][:size], plain[0])
    assert not all(
        np.array_equal(np.atleast_1d(a)[:size], np.atleast_1d(b)) for a, b in zip(changed, plain, strict=True)
    )


def test_every_change_is_tried_here() -> None:
    assert set(CHANGES) - ELSEWHERE == {name for name, _, _ in CASES}
