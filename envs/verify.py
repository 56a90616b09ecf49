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

from envs import NonStationary, make_plain_env
from envs.tasks import Tasks

MOST_VALUES = 8
"""Values tried for each change."""
MOST_TASKS = 64
"""Tasks looked through for them."""
TRANSITIONS = 200
MOST_TRANSITIONS = 5000
"""Random transitions before a value is said to do nothing: rewards and collisions may be rare."""


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
    env = NonStationary(make_plain_env(env_id, env_kwargs), tasks, stride=0)
    originals = {label: change.original for label, change in env.tasks.changes.items()}
    plain: dict[int, list[Transition]] = {}

    def effect_of(label: str, value: Any) -> float:
        for length in (TRANSITIONS, MOST_TRANSITIONS):
            if length not in plain:
                env.course.hold(originals)
                plain[length] = _transitions(env, length)
            env.course.hold(originals | {label: value})
            if effect := _largest_difference(plain[length], _transitions(env, length)):
                return effect
        return 0.0

    rows = []
    for label, change in env.tasks.changes.items():
        for step, value in islice(_values(env.tasks, label, steps), MOST_VALUES):
            task, text, effect = env.tasks.task(step), change.describe(value), effect_of(label, value)
            if effect == 0:
                raise VerificationError(
                    f"{label} does nothing in {env_id}: in task {task} ({text}), {MOST_TRANSITIONS} random transitions "
                    "are exactly those of the unchanged environment"
                )
            rows.append(Effect(label, task, text, effect))
    env.close()
    return rows


def _values(tasks: Tasks, label: str, steps: int) -> Iterator[tuple[int, Any]]:
    """The first steps of a run at which a change has a value that is neither its own nor an earlier one's."""
    seen: list[Any] = []
    for task in range(min(tasks.n_tasks(steps), MOST_TASKS)):
        start, end = tasks.start(task), tasks.next_switch(tasks.start(task))
        # Values that move: also on their way.
        for step in (start, (start + (steps if end is None else min(end, steps))) // 2) if tasks.gradual else (start,):
            value = tasks.values(step)[label]
            if not tasks.changes[label].is_original(value) and value not in seen:
                seen.append(value)
                yield step, value


Transition = tuple[NDArray[Any], float, bool]


def _transitions(env: gym.Env[Any, Any], length: int) -> list[Transition]:
    """What the agent is given (observation, reward, terminated) in seeded random episodes."""
    env.action_space.seed(0)
    env.reset(seed=0)
    found = []
    for _ in range(length):
        observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        seen = gym.spaces.flatten(env.observation_space, observation)
        found.append((np.array(seen, np.float64), float(reward), terminated))
        if terminated or truncated:
            env.reset()
    return found


def _largest_difference(before: list[Transition], after: list[Transition]) -> float:
    """The largest difference of two lists of transitions, as far as their episodes run side by side."""
    largest = 0.0
    for (observation, reward, terminated), (other, other_reward, other_terminated) in zip(before, after, strict=True):
        difference = np.abs(np.append(observation, reward) - np.append(other, other_reward))
        # A number against a NaN is as different as can be.
        largest = max(largest, float(np.nan_to_num(difference, nan=np.inf).max()))
        if terminated != other_terminated:
            return largest or np.inf
    return largest
