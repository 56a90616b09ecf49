"""Changes of what an action does."""

from dataclasses import dataclass
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
from annotated_types import Ge, Le
from gymnasium.spaces import Box, Discrete

from envs.changes.base import Change


@dataclass(kw_only=True)
class ActionPermutation(Change):
    """Actions exchange their meaning.

    A value is a permutation p of 0 ... n-1. In a discrete space, the agent's action i does what action p[i] did; in a
    one-dimensional box, the environment's component i is the agent's component p[i]. Every draw permutes the original
    actions, not those of the task before: with two actions there are only these and those exchanged.
    """

    probability: Annotated[float, Ge(0), Le(1)] = 1.0
    """Probability that a task has permuted actions (never the original order then); original ones otherwise."""

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Read the number of actions."""
        super().bind(env, space)
        space = env.action_space
        needs = "discrete actions, or two or more continuous ones with equal bounds"
        if isinstance(space, Discrete):
            self._n, self._start = int(space.n), int(space.start)
        elif isinstance(space, Box) and space.shape is not None and len(space.shape) == 1 and space.shape[0] > 1:
            if np.ptp(space.low) != 0 or np.ptp(space.high) != 0:
                raise self.misfit(env, needs)
            self._n, self._start = space.shape[0], 0
        else:
            raise self.misfit(env, needs)
        if self._n < 2:
            raise self.misfit(env, needs)
        self._discrete = isinstance(space, Discrete)
        self._order = np.arange(self._n)
        self._changed = False

    @property
    def original(self) -> list[int]:
        """The actions in their own order."""
        return list(range(self._n))

    def sample(self, rng: np.random.Generator) -> list[int]:
        """Any order but the original one, with the probability asked for; else the original one."""
        if rng.random() >= self.probability:
            return self.original
        while True:
            order: list[int] = rng.permutation(self._n).tolist()
            if order != self.original:
                return order

    def set(self, value: list[int]) -> None:
        """Use the order `value` from now on."""
        self._order = np.array(value)
        self._changed = value != self.original

    def action(self, action: Any) -> Any:
        """The action that the environment is to take for the agent's `action`."""
        if not self._changed:
            return action
        if not self._discrete:
            return np.asarray(action)[self._order]
        index = int(action) - self._start
        # An action outside the space is passed on for the environment to refuse it.
        return self._order[index] + self._start if 0 <= index < self._n else action

    @property
    def noun(self) -> str:
        """What is changed."""
        return "actions"

    def number(self, value: list[int]) -> str:
        """The order; "swapped" where there are but two."""
        return "swapped" if value == [1, 0] else "[" + " ".join(map(str, value)) + "]"
