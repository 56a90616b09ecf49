"""Preflight: every scheduled value must really change what happens.

A change that silently does nothing (a floor friction below the robot's own, wind in air without density, gravity in
a horizontal plane) makes a run that looks non-stationary and is not. So each value is tried beforehand on a scratch
environment: the same seed and the same random actions, once under the environment's own values and once under the
value of this one change. Transitions that are exactly the same are an error.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from envs import make_plain_env
from envs.changes.base import Change
from envs.tasks import Tasks

MOST_VALUES = 8
"""Values tried for each change."""
MOST_TASKS = 64
"""Tasks looked through for them."""
TRANSITIONS = 200


class VerificationError(ValueError):
    """A scheduled value has no effect; one sentence says which, where."""


@dataclass(frozen=True)
class Effect:
    """What one value of one change does to the transitions of an environment."""

    change: str
    """Label of the change."""
    task: int
    """The first task that has this value."""
    value: str
    """The value as a short text."""
    effect: float
    """Largest absolute difference of an observation's component or of a reward, until an episode ends in one only."""


def verify(env_id: str, tasks: Tasks, steps: int, env_kwargs: Mapping[str, Any] | None = None) -> list[Effect]:
    """Try the first values that a run of `steps` environment steps would meet, each change by itself.

    Args:
        env_id: the environment, as for `envs.make_env`.
        tasks: what changes and when.
        steps: environment steps of the run.
        env_kwargs: further arguments of the environment.

    Returns:
        One row for each change and value (at most 8 a change) that differs from the environment's own.

    Raises:
        VerificationError: a value that differs from the environment's own changes no transition at all.
        ValueError: the environment cannot be made, or a change does not fit it (`ChangeError`).
    """
    env = make_plain_env(env_id, env_kwargs)
    bound = tasks.bind(env)
    plain = _transitions(env, Change()) if bound.changes else []
    rows = []
    for label, change in bound.changes.items():
        for task, value in islice(_values(bound, label, steps), MOST_VALUES):
            change.set(value)
            effect = _largest_difference(plain, _transitions(env, change))
            change.set(change.original)
            text = change.describe(value)
            if effect == 0:
                raise VerificationError(
                    f"{label} does nothing in {env_id}: in task {task} ({text}), {TRANSITIONS} random transitions are "
                    "exactly those of the unchanged environment"
                )
            rows.append(Effect(label, task, text, effect))
    env.close()
    return rows


def _values(tasks: Tasks, label: str, steps: int) -> Iterator[tuple[int, Any]]:
    """The tasks of a run that give a change a value that is neither its own nor an earlier task's."""
    # Values that drift have begun to move to those of the task after the last.
    n_tasks = tasks.n_tasks(steps) + (1 if tasks.gradual else 0)
    seen: list[Any] = []
    for task in range(min(n_tasks, MOST_TASKS)):
        value = tasks.values(tasks.start(task))[label]
        if not tasks.changes[label].is_original(value) and value not in seen:
            seen.append(value)
            yield task, value


def _transitions(env: gym.Env[Any, Any], change: Change) -> list[tuple[NDArray[Any], float, bool]]:
    """What the agent is given (observation, reward, terminated) in seeded random episodes under a change."""
    env.action_space.seed(0)
    env.reset(seed=0)
    found = []
    for _ in range(TRANSITIONS):
        observation, reward, terminated, truncated, _ = env.step(change.action(env.action_space.sample()))
        seen = gym.spaces.flatten(env.observation_space, change.observation(observation))
        found.append((np.array(seen, np.float64), float(change.reward(reward)), terminated))
        if terminated or truncated:
            env.reset()
    return found


def _largest_difference(
    before: list[tuple[NDArray[Any], float, bool]], after: list[tuple[NDArray[Any], float, bool]]
) -> float:
    """The largest difference of two lists of transitions, as far as their episodes run side by side."""
    largest = 0.0
    for (observation, reward, terminated), (other, other_reward, other_terminated) in zip(before, after, strict=True):
        difference = np.abs(np.append(observation, reward) - np.append(other, other_reward))
        # A number against a NaN is as different as can be.
        largest = max(largest, float(np.nan_to_num(difference, nan=np.inf).max()))
        if terminated != other_terminated:
            return largest or np.inf
    return largest
