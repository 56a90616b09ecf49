"""The benchmarks as Gymnasium ids, in loops of any kind."""

import gymnasium as gym
import numpy as np
import pytest

import envs
from configs import files
from envs.registration import BENCHMARKS, schedule_of

SWITCH = 40
"""Steps after which the scaled tasks switch."""


def scale(benchmark: str) -> float:
    return SWITCH / schedule_of(files.read(files.find("benchmarks", benchmark, ""))["schedule"])["period"]


def switches(env: gym.Env, steps: int) -> list[dict]:
    env.action_space.seed(0)
    env.reset(seed=0)
    found = []
    for _ in range(steps):
        *_, terminated, truncated, info = env.step(env.action_space.sample())
        found += [info["switch"]] if "switch" in info else []
        if terminated or truncated:
            env.reset()
    return found


@pytest.mark.parametrize("env_id", BENCHMARKS)
def test_every_benchmark_changes_as_its_file_says_and_not_where_it_is_to_stay(env_id: str) -> None:
    factor = scale(BENCHMARKS[env_id])
    env = gym.make(env_id, seed=3, scale=factor)
    waits = env.get_wrapper_attr("tasks").boundary == "next_reset"
    found = switches(env, 1200 if waits else 3 * SWITCH + 5)
    tasks = [switch["task"] for switch in found]
    # SlipperyAnt waits for the end of an episode, beyond some of tasks as short as these.
    assert tasks if waits else tasks == [1, 2, 3]
    assert all(switch["step"] >= SWITCH * switch["task"] for switch in found)
    assert env.spec is not None
    assert env.spec.id == env_id
    assert switches(gym.make(env_id, seed=3, scale=factor, stationary=True), 3 * SWITCH) == []


def test_every_shipped_benchmark_is_an_id() -> None:
    assert set(BENCHMARKS.values()) == set(files.shipped("benchmarks"))


def test_seeds_are_other_sequences_and_the_same_again() -> None:
    values = []
    for seed in (1, 1, 2):
        env = gym.make("Perennial/PendulumDrift-v0", seed=seed, scale=0.001)
        values.append([switch["values"] for switch in switches(env, 200)])
    assert values[0] == values[1] != values[2]
    assert len(values[0]) == 3


def test_environments_side_by_side_switch_together() -> None:
    vector = gym.make_vec("Perennial/PendulumDrift-v0", num_envs=4, vectorization_mode="sync", stride=4, scale=0.001)
    vector.reset(seed=0)
    for step in range(30):
        *_, infos = vector.step(vector.action_space.sample())
        # A task of 51 steps of the run is over within 13 steps of each.
        assert infos["task"].tolist() == [4 * step // 51] * 4
    vector.close()


def test_arguments_of_the_environment_are_passed_on() -> None:
    env = gym.make("Perennial/SlipperyCheetah-v0", ctrl_cost_weight=0.5, render_mode="rgb_array")
    assert env.unwrapped._ctrl_cost_weight == 0.5
    assert env.render_mode == "rgb_array"


def test_the_grid_world_has_its_limit() -> None:
    env = envs.make_plain_env("Perennial/NineRooms-v0")
    env.reset(seed=0)
    ends = [env.step(0)[3] for _ in range(100)]
    assert np.flatnonzero(ends).tolist() == [99]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 0}, "scale must be above 0, not 0"),
        ({"seed": -1}, "the seed of the tasks must be at least 0, not -1"),
        ({"stride": -1}, "the stride must be at least 0, not -1"),
        ({"gravity": 3}, "Pendulum-v1 cannot be made with gravity=3"),
    ],
)
def test_wrong_arguments_end_in_a_sentence(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gym.make("Perennial/PendulumDrift-v0", **arguments)
