"""The benchmarks as Gymnasium ids, for any training loop: `gym.make("Perennial/SlipperyAnt-v0")` after `import envs`.

An id changes by the clock of its own steps; in a loop with several environments each is given their number as `stride`,
so that all of them switch together.
"""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from configs import files
from configs.settings import UsageError

BENCHMARKS = {
    "Perennial/CartPolePermuted-v0": "cartpole_permuted",
    "Perennial/DoublePendulumPermuted-v0": "double_pendulum_permuted",
    "Perennial/PendulumPermuted-v0": "pendulum_permuted",
    "Perennial/AcrobotRotated-v0": "acrobot_rotated",
    "Perennial/SlipperyAnt-v0": "slippery_ant",
    "Perennial/SlipperyCheetah-v0": "slippery_cheetah",
    "Perennial/GymControl-v0": "gym_control",
    "Perennial/LunarContexts-v0": "lunar_contexts",
    "Perennial/CheetahDirection-v0": "cheetah_direction",
    "Perennial/PendulumDrift-v0": "pendulum_drift",
    "Perennial/MovingGoal-v0": "nine_rooms",
}
"""Ids of the benchmarks in configs/benchmarks."""


def register() -> None:
    """Register the benchmarks, and the grid world that one of them is played in."""
    for env_id, benchmark in BENCHMARKS.items():
        gym.register(env_id, "envs.registration:make_benchmark", kwargs={"benchmark": benchmark})
    gym.register("Perennial/NineRooms-v0", "envs.nine_rooms:NineRooms", max_episode_steps=EPISODE_STEPS)


EPISODE_STEPS = 100
"""Steps after which an episode of the grid world is cut off."""


def make_benchmark(
    benchmark: str,
    seed: int = 0,
    scale: float = 1.0,
    stationary: bool = False,
    stride: int = 1,
    start: int = 0,
    **env_kwargs: Any,
) -> gym.Env[Any, Any]:
    """The environment of a benchmark, changing as its schedule says.

    Args:
        benchmark: name of a file in configs/benchmarks.
        seed: seeds what changes; `reset(seed=...)` seeds the environment itself.
        scale: factor on all periods: 0.1 for tasks ten times shorter.
        stationary: whether nothing ever changes: the control.
        stride: environment steps of the run for each step of this environment: the number of parallel ones.
        start: environment step of the run at which this environment starts.
        env_kwargs: further arguments of the environment, such as render_mode.

    Raises:
        ValueError: there is no such benchmark, or an argument is wrong.
    """
    from envs import make_env
    from envs.reading import read_tasks, scaled
    from envs.schedules import Constant
    from envs.tasks import Tasks

    if not scale > 0:
        raise ValueError(f"scale must be above 0, not {scale}")
    try:
        tree = files.read(files.find("benchmarks", benchmark, "benchmark"))
        schedule = schedule_of(tree.get("schedule", "stationary"))
    except UsageError as error:
        raise ValueError(str(error)) from error
    tasks = Tasks(Constant(), {}, seed) if stationary else read_tasks(scaled(schedule, scale), seed)
    return make_env(tree["env"], tasks, stride=stride, start=start, monitor=False, env_kwargs=env_kwargs)


def schedule_of(block: str | Mapping[str, Any]) -> dict[str, Any]:
    """The plain settings of the schedule that a benchmark names, or writes out."""
    if isinstance(block, str):
        return files.read(files.find("schedules", block, "schedule"))
    content = dict(block)
    name = content.pop("name", None)
    return (
        content if "kind" in content else files.merged(files.read(files.find("schedules", name, "schedule")), content)
    )
