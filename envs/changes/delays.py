"""Delays: what the agent sees, does or is paid, some steps late.

A delay of observations or actions by k means the same at every step, whatever it was before: where it changes in
mid-episode, the agent sees (or the environment is told) at once what was there k steps ago. So when it grows, something
is repeated, and when it shrinks, something is skipped. Rewards are neither lost nor paid twice.
"""

import copy
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, SupportsFloat

import gymnasium as gym
import numpy as np
from annotated_types import Ge, Le
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from envs.changes.values import WholeChange

PLAIN = (Box, Discrete, MultiBinary, MultiDiscrete)
"""Spaces whose elements are arrays or numbers."""


@dataclass(kw_only=True)
class Delay(WholeChange):
    """Base of the delays, with a memory of the episode that is as long as the longest delay."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._longest = 0

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Forget everything, and find out how long a memory is needed."""
        super().bind(env, space)
        self._steps = 0
        self._longest = int(self.highest())
        self._past: deque[Any] = deque(maxlen=self._longest + 1)

    def check(self, value: Any) -> None:
        """Refuse what is no number of steps, and remember as many as are asked for from the next episode on."""
        super().check(value)
        self._longest = max(self._longest, int(value))

    def set(self, value: float | None) -> None:
        """Delay by `value` steps from now on."""
        self._steps = int(self.absolute(value))
        if self._steps > self._longest:
            self._longest = self._steps
            self._past = deque(self._past, self._longest + 1)

    def begin(self) -> None:
        """Forget the episode."""
        self._past = deque(maxlen=self._longest + 1)

    def delayed(self, newest: Any) -> Any:
        """Take in `newest`, and return what was newest so many steps ago: the oldest known where there is no such.

        What is kept and what is returned later are copies, because environments reuse their arrays, and agents theirs.
        """
        past = self._past
        past.append(copy.copy(newest))
        return newest if self._steps == 0 else copy.copy(past[-1 - min(self._steps, len(past) - 1)])


@dataclass(kw_only=True)
class ObservationDelay(Delay):
    """The agent sees the observation of some steps ago; at the start of an episode, its first one again and again.

    Rewards and ends of episodes are not delayed. The observations may be images.
    """

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Look at the kind of observations."""
        super().bind(env, space)
        if not isinstance(self.space, PLAIN):
            raise self.misfit(env, "observations that are one array or one number")

    def observation(self, observation: Any) -> Any:
        """The observation of some steps ago."""
        return self.delayed(observation)


@dataclass(kw_only=True)
class ActionDelay(Delay):
    """What the agent does is done some steps later.

    Until its first action of an episode is due, the environment is told `idle`.
    """

    idle: int | None = None
    """Discrete action that stands in for those before the first; none is the first of them all, which only some
    environments take as doing nothing. For continuous actions it is always 0 (or the bound that is nearest to it)."""

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Look at the kind of actions."""
        super().bind(env, space)
        actions = env.action_space
        if isinstance(actions, Discrete):
            self._idle: Any = actions.start if self.idle is None else actions.dtype.type(self.idle)
            if not actions.contains(self._idle):
                last = actions.start + actions.n - 1
                raise self.misfit(env, f"an idle action from {actions.start} to {last}, not {self.idle}")
        elif isinstance(actions, Box):
            if self.idle is not None:
                raise self.misfit(env, f"discrete actions for idle to be {self.idle}: continuous ones idle at 0")
            self._idle = np.clip(np.zeros(actions.shape, actions.dtype), actions.low, actions.high)
        else:
            raise self.misfit(env, "discrete or continuous actions")
        self.begin()

    def begin(self) -> None:
        """Forget the episode: what is due first is idle."""
        super().begin()
        self._past.append(self._idle)

    def action(self, action: Any) -> Any:
        """The action of some steps ago."""
        return self.delayed(action)


@dataclass(kw_only=True)
class RewardDelay(WholeChange):
    """A reward is paid some steps after the step that earned it; what is outstanding is paid at the episode's end.

    So the return of an episode stays what it was. Each reward has the delay of the step that earned it: where the delay
    changes in mid-episode, what is outstanding is still paid when it was due.
    """

    high: Annotated[int, Ge(0), Le(10_000)] = 20
    """Highest value drawn."""

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Owe nothing."""
        super().bind(env, space)
        self._steps = 0
        self.begin()

    def set(self, value: float | None) -> None:
        """Pay what is earned from now on `value` steps later."""
        self._steps = int(self.absolute(value))

    def begin(self) -> None:
        """Owe nothing."""
        self._due: deque[float] = deque()

    def reward(self, reward: SupportsFloat, info: Mapping[str, Any], ended: bool) -> SupportsFloat:
        """What is due now; at the end of the episode, all that is outstanding."""
        due = self._due
        if self._steps == 0 and not due:
            return reward
        while len(due) <= self._steps:
            due.append(0.0)
        due[self._steps] += float(reward)
        paid = due.popleft()
        if ended:
            paid += sum(due)
            due.clear()
        return paid
