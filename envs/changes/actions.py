"""Changes of what an action does.

The agent's own space of actions stays as it is, and the environment is never told an action that is not one of its own.
"""

import copy
from dataclasses import dataclass
from typing import Annotated, Any, TypeGuard

import gymnasium as gym
import numpy as np
from annotated_types import Ge, Le
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from envs.changes.base import Change, ChangeError, ScalarChange
from envs.changes.values import MOST_IN_WORDS, Disturbance, check_list


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

    def check(self, value: Any) -> None:
        """Refuse what is no order of the actions."""
        check_list(self, value, self._n, 0, self._n - 1, whole=True)
        if sorted(value) != self.original:
            raise ChangeError(f"{self.name} takes every action from 0 to {self._n - 1} once, not {value}")

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


@dataclass(kw_only=True)
class ActionFlip(Change):
    """Components of a continuous action turn their signs, as if motors were wired the other way round.

    A value lists the sign of each component: 1, or -1 where it is turned.
    """

    count: Annotated[int, Ge(1)] | None = None
    """How many components are turned; none turns each of them with probability one half, but always some."""

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Read the number of components."""
        super().bind(env, space)
        actions = env.action_space
        least = f"{self.count} or more " if self.count is not None and self.count > 1 else ""
        needs = f"a vector of {least}continuous actions whose bounds are symmetric about 0"
        if isinstance(actions, Discrete):
            raise self.misfit(env, f"{needs}; discrete ones are exchanged by action_permutation")
        if not _is_vector(actions) or actions.shape[0] < (self.count or 1) or np.any(actions.low != -actions.high):
            raise self.misfit(env, needs)
        self._dim = actions.shape[0]
        self._dtype = actions.dtype
        self._signs: NDArray[Any] | None = None

    @property
    def original(self) -> list[int]:
        """No sign is turned."""
        return [1] * self._dim

    def sample(self, rng: np.random.Generator) -> list[int]:
        """Other signs, all of them with equal chances."""
        value = self.original
        if self.count is not None:
            for place in rng.choice(self._dim, self.count, replace=False):
                value[place] = -1
            return value
        while value == self.original:
            value = rng.choice([-1, 1], self._dim).tolist()
        return value

    def check(self, value: Any) -> None:
        """Refuse what is no list of signs."""
        check_list(self, value, self._dim, -1, 1, whole=True)
        if 0 in value:
            raise ChangeError(f"{self.name} takes signs, 1 or -1, not {value}")

    def set(self, value: list[int]) -> None:
        """Use the signs `value` from now on."""
        self._signs = None if value == self.original else np.array(value, self._dtype)

    def action(self, action: Any) -> Any:
        """The action with its signs turned, in a new array."""
        return action if self._signs is None else action * self._signs

    def context(self, value: list[int]) -> tuple[float, ...]:
        """The signs."""
        return tuple(map(float, value))

    def context_bounds(self) -> tuple[float, float]:
        """From -1 to 1."""
        return -1.0, 1.0

    @property
    def noun(self) -> str:
        """What is changed."""
        return "actions"

    def number(self, value: list[int]) -> str:
        """The components that are turned, or how many they are."""
        turned = [place for place, sign in enumerate(value) if sign < 0]
        which = " ".join(map(str, turned)) if len(turned) <= MOST_IN_WORDS else f"{len(turned)} of {self._dim}"
        return f"flipped {which}"


@dataclass(kw_only=True)
class ActionScale(ScalarChange):
    """A continuous action is multiplied by one number above 0, and what leaves the bounds is cut off there.

    Below 1 the motors are weaker: full strength is out of reach. Above 1 they are touchier and not stronger, because
    the environment is told no action beyond its bounds. What the environment takes off for the size of actions it takes
    off for those that it is told.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.own = 1.0

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Read the bounds."""
        super().bind(env, space)
        actions = env.action_space
        if not isinstance(actions, Box) or not np.issubdtype(actions.dtype, np.floating):
            raise self.misfit(env, "continuous actions")
        self.lowest()
        self._low, self._high = actions.low, actions.high
        self._scale = 1.0

    @property
    def positive(self) -> bool:
        """Factors must be above 0; action_flip turns signs."""
        return True

    def set(self, value: float | None) -> None:
        """Multiply by `value` from now on."""
        self._scale = self.absolute(value)

    def action(self, action: Any) -> Any:
        """The product within the bounds, in a new array."""
        if self._scale == 1.0:
            return action
        return np.minimum(np.maximum(np.asarray(action) * self._scale, self._low), self._high)

    @property
    def noun(self) -> str:
        """What is changed."""
        return "actions"

    def number(self, value: float | None) -> str:
        """The value as the factor that it is, in either mode."""
        return "original" if value is None else f"x{value:.3g}"


@dataclass(kw_only=True)
class ActionNoise(Disturbance):
    """What is done is not quite what the agent chose.

    In a bounded box, a value is the standard deviation of normal noise on every component, as a share of half the
    distance of the bounds, and what leaves the bounds is cut off there. In a discrete space, it is the probability that
    an action is done that is drawn from all of them, the chosen one included.
    """

    low: Annotated[float, Ge(0)] = 0.05
    """Lowest value drawn."""
    high: Annotated[float, Ge(0)] = 0.3
    """Highest value drawn; at most 1 for discrete actions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._discrete = False

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Read the bounds, or the number of actions."""
        super().bind(env, space)
        actions = env.action_space
        self._discrete = isinstance(actions, Discrete)
        self._strength = 0.0
        if isinstance(actions, Discrete):
            self._n, self._start = int(actions.n), actions.start
            if self.highest() > 1:
                raise self.misfit(env, f"values of at most 1, as probabilities of its actions, not {self.highest():g}")
        elif (
            isinstance(actions, Box)
            and np.issubdtype(actions.dtype, np.floating)
            and np.isfinite([actions.low, actions.high]).all()
        ):
            self._low, self._high, self._dtype = actions.low, actions.high, actions.dtype
            self._half = (actions.high.astype(np.float64) - actions.low) / 2
            self._deviations = 0 * self._half
        else:
            raise self.misfit(env, "discrete actions, or continuous ones with bounds")

    def check(self, value: Any) -> None:
        """Refuse negative numbers, and above 1 where it is a probability."""
        super().check(value)
        if self._discrete and value > 1:
            raise ChangeError(f"{self.name} must be at most 1, as a probability of discrete actions, not {value:g}")

    def set(self, value: float | None) -> None:
        """Use noise of strength `value` from now on."""
        self._strength = self.absolute(value)
        if not self._discrete:
            self._deviations = self._strength * self._half

    def action(self, action: Any) -> Any:
        """The action that is done."""
        if self._strength == 0:
            return action
        if self._discrete:
            return self._start + self.rng.integers(self._n) if self.rng.random() < self._strength else action
        noisy = action + self._deviations * self.rng.standard_normal(self._deviations.shape)
        return np.minimum(np.maximum(noisy, self._low), self._high).astype(self._dtype)


@dataclass(kw_only=True)
class ActionSticky(Disturbance):
    """With a probability, the value, what was done last is done again in place of what the agent chose.

    What was done last may itself have been a repetition (Machado et al. 2018, JAIR 61, section 5.2, where the
    probability is 0.25). The first action of an episode is always done.
    """

    values: tuple[Annotated[float, Ge(0), Le(1)], ...] | None = None
    """Values to go through, task by task, instead of drawing them."""
    low: Annotated[float, Ge(0), Le(1)] = 0.1
    """Lowest value drawn."""
    high: Annotated[float, Ge(0), Le(1)] = 0.5
    """Highest value drawn."""

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Begin with actions that are done."""
        super().bind(env, space)
        self._probability = 0.0
        self.begin()

    def set(self, value: float | None) -> None:
        """Repeat with probability `value` from now on."""
        self._probability = self.absolute(value)

    def begin(self) -> None:
        """Nothing has been done yet."""
        self._last: Any = None

    def action(self, action: Any) -> Any:
        """The action that is done."""
        if self._probability > 0 and self._last is not None and self.rng.random() < self._probability:
            return copy.copy(self._last)
        # A copy, because agents reuse their arrays.
        self._last = copy.copy(action)
        return action


def _is_vector(space: gym.Space[Any]) -> TypeGuard[Box]:
    """Whether it is a box of vectors of floating numbers."""
    return isinstance(space, Box) and len(space.shape) == 1 and np.issubdtype(space.dtype, np.floating)
