"""Changes of what the agent sees, of observations that are a vector of numbers.

The world behind stays the same: such a task is as hard to learn from scratch as the original one, so that whatever
an agent loses from task to task is its own (a mask apart, which hides what may be needed). Spaces are widened once to
hold the observations of all tasks.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from gymnasium.spaces import Box
from numpy.typing import NDArray

from configs.settings import SettingError
from envs.changes.base import Change, ChangeError
from envs.changes.values import MOST_IN_WORDS, check_list, vector_of


@dataclass(kw_only=True)
class ObservationPermutation(Change):
    """The components of the observation change places and, with `signs`, their signs.

    A value lists for each place the component seen there, counted from 1, negative where its sign is turned:
    [-3, 1, 2] shows (-z, x, y) of (x, y, z). (Counted from 1 because there is no -0 among the integers.)
    """

    signs: bool = True
    """Turn the sign of each component with probability one half as well."""

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Read the number of components."""
        super().bind(env, space)
        needs = "a vector of numbers as observation" + (" (floating, to turn signs)" if self.signs else "")
        box = vector_of(self, env, needs, floating=self.signs)
        self._dim = box.shape[0]
        self._dtype = box.dtype
        self._places = np.arange(self._dim)
        self._signs = np.ones(self._dim, box.dtype)
        self._changed = False

    @property
    def original(self) -> list[int]:
        """Every component in its place."""
        return list(range(1, self._dim + 1))

    def sample(self, rng: np.random.Generator) -> list[int]:
        """Any order and signs but the original ones; for a single component the original is allowed."""
        while True:
            places = rng.permutation(self._dim) + 1
            if self.signs:
                places = places * rng.choice([-1, 1], self._dim)
            value: list[int] = places.tolist()
            if value != self.original or self._dim == 1:
                return value

    def check(self, value: Any) -> None:
        """Refuse what is no order of the components."""
        check_list(self, value, self._dim, -self._dim if self.signs else 1, self._dim, whole=True)
        if sorted(map(abs, value)) != self.original:
            raise ChangeError(f"{self.name} takes every component from 1 to {self._dim} once, not {value}")

    def set(self, value: list[int]) -> None:
        """Use the places and signs of `value` from now on."""
        self._places = np.abs(value) - 1
        self._signs = np.sign(value).astype(self._dtype)
        self._changed = value != self.original

    def observation_space(self, space: gym.Space[Any]) -> gym.Space[Any]:
        """All components between the least and the greatest bound of any of them (and, with signs, of its mirror)."""
        assert isinstance(space, Box)
        low, high = space.low.min(), space.high.max()
        if self.signs:
            low, high = min(low, -high), max(high, -low)
        return Box(low, high, space.shape, space.dtype.type)

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        """The components in their new places, in a new array."""
        if not self._changed:
            return observation
        return observation[self._places] * self._signs

    @property
    def noun(self) -> str:
        """What is changed."""
        return "obs"

    def number(self, value: list[int]) -> str:
        """The components counted from 0, as usual, with their signs: -2 +0 +1; in a word where there are many."""
        if len(value) > MOST_IN_WORDS:
            return "permuted"
        if self.signs:
            return " ".join(f"{'+' if place > 0 else '-'}{abs(place) - 1}" for place in value)
        return " ".join(str(place - 1) for place in value)


@dataclass(kw_only=True)
class ObservationRotation(Change):
    """The observation is turned by a random rotation, so that every component mixes all of them.

    A value is the seed of a rotation, 0 for none: a matrix of n x n numbers would fill the log of events, and a whole
    number survives it exactly. Rotations are uniform (Haar measure) with determinant +1: the QR decomposition of a
    Gaussian matrix with the signs of R's diagonal moved into Q (Mezzadri 2007, arXiv math-ph/0609050).
    """

    dimensions: Annotated[int, Ge(2), Le(4096)] | None = None
    """Rotate into more dimensions than the observation has: it is lengthened to so many by zeros, in every task, and
    then rotated (in the original task only lengthened). None: into its own."""

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Read the number of components."""
        super().bind(env, space)
        needs = "a vector of two or more floating numbers as observation"
        if self.dimensions is not None:
            needs = f"a vector of at most {self.dimensions} floating numbers (dimensions) as observation"
        box = vector_of(self, env, needs, least=2 if self.dimensions is None else 1)
        self._dim = box.shape[0]
        self._dtype = box.dtype
        self._out = self._dim if self.dimensions is None else self.dimensions
        if self._out < self._dim:
            raise self.misfit(env, needs)
        self._rotation: NDArray[np.float64] | None = None

    @property
    def original(self) -> int:
        """No rotation."""
        return 0

    def sample(self, rng: np.random.Generator) -> int:
        """The seed of another rotation."""
        return int(rng.integers(1, 2**32))

    def check(self, value: Any) -> None:
        """Refuse what is no seed."""
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ChangeError(f"{self.name} takes the seed of a rotation, a whole number of at least 0, not {value!r}")

    def matrix(self, value: int) -> NDArray[np.float64]:
        """The rotation [d, d] of a value; the agent sees `matrix @ observation`, lengthened to d numbers by zeros."""
        if value == 0:
            return np.eye(self._out)
        q, r = np.linalg.qr(np.random.default_rng(value).standard_normal((self._out, self._out)))
        q *= np.sign(np.diag(r))
        if np.linalg.det(q) < 0:
            q[:, 0] *= -1
        return np.asarray(q, np.float64)

    def set(self, value: int) -> None:
        """Rotate by `value` from now on."""
        # The zeros meet the last columns, which are left out.
        self._rotation = None if value == 0 else np.ascontiguousarray(self.matrix(value)[:, : self._dim])

    def observation_space(self, space: gym.Space[Any]) -> gym.Space[Any]:
        """All components within the greatest length that an observation can have."""
        assert isinstance(space, Box)
        farthest = np.maximum(np.abs(space.low.astype(np.float64)), np.abs(space.high.astype(np.float64)))
        # One part in a million more, for the rounding of the rotated components.
        length = float(np.linalg.norm(farthest) * (1 + 1e-6))
        return Box(-length, length, (self._out,), space.dtype.type)

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        """The rotated observation, in a new array; computed in double precision."""
        if self._rotation is not None:
            rotated: NDArray[Any] = (self._rotation @ observation).astype(self._dtype)
            return rotated
        if self._out == self._dim:
            return observation
        longer = np.zeros(self._out, self._dtype)
        longer[: self._dim] = observation
        return longer

    @property
    def noun(self) -> str:
        """What is changed."""
        return "obs"

    def number(self, value: int) -> str:
        """That it is rotated, and by which draw."""
        return f"rotated (draw {value})"


@dataclass(kw_only=True)
class ObservationMask(Change):
    """Some components of the observation are hidden: 0 is shown in their place, as if their sensors had failed.

    A value lists the components that are hidden, counted from 0 and in order. Any of the sets of so many components is
    drawn with equal chances.
    """

    fraction: Annotated[float, Gt(0), Lt(1)] | None = None
    """Share of the components that is hidden, rounded to a number of at least 1; none is one half."""
    count: Annotated[int, Ge(1)] | None = None
    """How many components are hidden, in place of `fraction`; at least one must be left."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fraction is not None and self.count is not None:
            raise SettingError(self, "count", f"must be left out where fraction is given, not {self.count}")

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Read the number of components."""
        super().bind(env, space)
        least = 2 if self.count is None else self.count + 1
        needs = f"a vector of {least} or more numbers as observation"
        self._dim = vector_of(self, env, needs, least=least, floating=False).shape[0]
        share = 0.5 if self.fraction is None else self.fraction
        self._count = self.count or min(max(round(share * self._dim), 1), self._dim - 1)
        self._hidden: list[int] = []

    @property
    def original(self) -> list[int]:
        """Nothing is hidden."""
        return []

    def sample(self, rng: np.random.Generator) -> list[int]:
        """So many components, all different."""
        value: list[int] = np.sort(rng.choice(self._dim, self._count, replace=False)).tolist()
        return value

    def check(self, value: Any) -> None:
        """Refuse what does not list components, each once and in order."""
        check_list(self, value, None, 0, self._dim - 1, whole=True)
        if sorted(set(value)) != value:
            raise ChangeError(f"{self.name} takes components in order and once each, not {value}")

    def set(self, value: list[int]) -> None:
        """Hide `value` from now on."""
        self._hidden = list(value)

    def observation_space(self, space: gym.Space[Any]) -> gym.Space[Any]:
        """With 0 in every component."""
        assert isinstance(space, Box)
        return Box(np.minimum(space.low, 0), np.maximum(space.high, 0), dtype=space.dtype.type)

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        """The components that are left, in a new array."""
        if not self._hidden:
            return observation
        masked = observation.copy()
        masked[self._hidden] = 0
        return masked

    def context(self, value: list[int]) -> tuple[float, ...]:
        """For each component, 1 where it is hidden and 0 where it is shown."""
        return tuple(float(place in value) for place in range(self._dim))

    def context_bounds(self) -> tuple[float, float]:
        """From 0 to 1."""
        return 0.0, 1.0

    @property
    def noun(self) -> str:
        """What is changed."""
        return "obs"

    def number(self, value: list[int]) -> str:
        """The hidden components, or how many they are."""
        which = " ".join(map(str, value)) if len(value) <= MOST_IN_WORDS else f"{len(value)} of {self._dim}"
        return f"without {which}"
