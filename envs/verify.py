"""Preflight: every scheduled value must really change what happens.

A change that silently does nothing (a floor friction below the robot's own, wind in air without density, gravity in
a horizontal plane) makes a run that looks non-stationary and is not. So each value is tried beforehand on a scratch
environment: the same seed and the same actions, once under the environment's own values and once under the
value of this one change. Transitions that are exactly the same are an error.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from envs import NonStationary, make_plain_env
from envs.tasks import Tasks

MOST_VALUES = 8
"""Values tried for each change."""
MOST_TASKS = 64
"""Tasks looked through for them."""
TRANSITIONS = (200, 1000, 5000)
"""Transitions tried; more where fewer show nothing, since rewards and collisions may be rare."""


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


def verify(env_id: str, tasks: Tasks, steps: int) -> list[Effect]:
    """Try the first values that a run of `steps` environment steps would meet, each change by itself.

    Args:
        env_id: the environment, as for `envs.make_env`.
        tasks: what changes and when.
        steps: environment steps of the run.

    Returns:
        One row for each change and value (at most 8 a change) that differs from the environment's own.

    Raises:
        VerificationError: a value that differs from the environment's own changes no transition at all.
        ValueError: the environment cannot be made, or a change does not fit it (`ChangeError`).
    """

    def make() -> NonStationary:
        return NonStationary(make_plain_env(env_id), tasks, stride=0)

    env = make()
    originals = {label: change.original for label, change in env.tasks.changes.items()}

    def tried(length: int, values: dict[str, Any]) -> list[Transition]:
        tried_in = env if again else make()
        tried_in.course.hold(originals | values)
        return _transitions(tried_in, length)

    # Worlds that a reset does not make the same again (BipedalWalker's) are made anew for each value.
    again = True
    plain = {TRANSITIONS[0]: tried(TRANSITIONS[0], {})} if originals else {}
    again = not originals or _largest_difference(plain[TRANSITIONS[0]], tried(TRANSITIONS[0], {})) == 0

    def effect_of(label: str, value: Any) -> float:
        for length in TRANSITIONS:
            if length not in plain:
                plain[length] = tried(length, {})
            if effect := _largest_difference(plain[length], tried(length, {label: value})):
                return effect
        return 0.0

    rows = []
    for label, change in env.tasks.changes.items():
        for step, value in islice(_values(env.tasks, label, steps), MOST_VALUES):
            task, text, effect = env.tasks.task(step), change.describe(value), effect_of(label, value)
            if effect == 0:
                raise VerificationError(
                    f"{label} does nothing in {env_id}: in task {task} ({text}), {TRANSITIONS[-1]:,} transitions are "
                    "exactly those of the unchanged environment (--no-preflight trains all the same)"
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
    """What the agent is given (observation, reward, terminated) in seeded episodes.

    Half of the actions are random; a quarter each are the highest and the lowest there are, which reach the ends of
    ranges where random ones do not.
    """
    space = env.action_space
    space.seed(0)
    env.reset(seed=0)
    held = [None, None, *_ends(space)]
    found = []
    for step in range(length):
        action = held[4 * step // length]
        observation, reward, terminated, truncated, _ = env.step(space.sample() if action is None else action)
        seen = gym.spaces.flatten(env.observation_space, observation)
        found.append((np.array(seen, np.float64), float(reward), terminated))
        if terminated or truncated or (4 * (step + 1)) % length == 0:
            env.reset()
    return found


def _ends(space: gym.Space[Any]) -> tuple[Any, Any]:
    """The highest and the lowest action; none where actions have no order."""
    if isinstance(space, Box) and space.is_bounded():
        return space.high, space.low
    if isinstance(space, Discrete):
        return space.start + space.n - 1, space.start
    return None, None


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
