"""What a random policy earns: the lower end of the scale of normalised gaps and of forward transfer.

Whole episodes with uniformly random actions in the run's own environment, task by task, with the schedule's clock
standing still. Nothing is imported by the name of a module that a configuration gives ("module:id"), since a run
directory is data and may be somebody else's.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from envs import make_env
from envs.reading import read_tasks
from reporting.runs import Run

EPISODES = 10
"""A task. A choice."""
MOST_STEPS = 200_000
"""Over all tasks, which are then spread over those of the run; a choice, some seconds of classic control."""
LONGEST = 10_000
"""Steps after which an episode that does not end counts as it is. A choice."""
ACTIONS = 1_000_000
"""Added to the seed of actions, so that they are not drawn from the very numbers that the environment starts from."""


def random_return(run: Run, episodes: int = EPISODES, seed: int = 0) -> tuple[float | None, str]:
    """Mean over the run's later tasks, or None and a sentence that says why it is not known."""
    found, problem = random_returns(run, episodes, seed)
    if found is None or np.isnan(found).all():
        return None, problem
    later = found[1:] if len(found) > 1 and not np.isnan(found[1:]).all() else found
    return float(np.nanmean(later)), problem


def random_returns(run: Run, episodes: int = EPISODES, seed: int = 0) -> tuple[NDArray[np.float64] | None, str]:
    """Mean undiscounted return of a uniformly random policy in each task of a run.

    Args:
        run: whose environment and tasks.
        episodes: how many a task.
        seed: of actions and environment.

    Returns:
        `[tasks]`, NaN for tasks that were not tried because the steps were used up; or None. And a sentence that says
        what was not done, empty where all was.
    """
    env_id = str(run.config.get("env", ""))
    if ":" in env_id.partition("?")[0]:
        return None, f"No random policy was tried: {env_id} names a module, and reports import none."
    try:
        tasks = read_tasks(_schedule(run), run.seed)
        env = make_env(env_id, tasks, stride=0, monitor=False)
    except (ValueError, TypeError, AttributeError, AssertionError, OSError, gym.error.Error) as error:
        words = " ".join(str(error).split()).rstrip(".")
        return None, f"No random policy was tried in {env_id}: {words or type(error).__name__}."
    found = np.full(max((row["task"] for row in run.tasks), default=-1) + 1, np.nan)
    left, tried = MOST_STEPS, 0
    for task in _spread(len(found)):
        if left <= 0:
            break
        env.get_wrapper_attr("set_clock")(tasks.start(task))
        earned = []
        for episode in range(episodes):
            total, steps = _episode(env, seed + episode)
            earned.append(total)
            left -= steps
        found[task] = np.mean(earned)
        tried += 1
    env.close()
    return found, "" if tried == len(found) else f"A random policy was tried in {tried} of {len(found)} tasks."


def _episode(env: gym.Env[Any, Any], seed: int) -> tuple[float, int]:
    """Return and steps of one episode, the same in every task but for what the task changes."""
    env.reset(seed=seed)
    env.action_space.seed(ACTIONS + seed)
    total, ended, steps = 0.0, False, 0
    while not ended and steps < LONGEST:
        _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        total += float(reward)
        ended = terminated or truncated
        steps += 1
    return total, steps


def _spread(tasks: int) -> list[int]:
    """All tasks, in an order in which those that come first lie far apart."""
    return sorted(range(tasks), key=lambda task: f"{task:032b}"[::-1])


def _schedule(run: Run) -> dict[str, Any]:
    """The run's schedule; a table is read from the copy in the run's own directory."""
    schedule = run.config.get("schedule")
    if not isinstance(schedule, dict):
        raise ValueError("its configuration has no schedule")
    return _here({key: value for key, value in schedule.items() if key != "name"}, run.path)


def _here(tree: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found[key] = _here(value, folder)
        elif key == "file" and isinstance(value, str) and (folder / Path(value).name).is_file():
            found[key] = str(folder / Path(value).name)
        else:
            found[key] = value
    return found
