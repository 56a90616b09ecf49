"""Changes of what the agent sees, of observations that are a vector of numbers.

The world behind stays the same: such a task is as hard to learn from scratch as the original one, so that whatever
an agent loses from task to task is its own. Spaces are widened once to hold the observations of all tasks.
"""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from envs.changes.base import Change

MOST_IN_WORDS = 8
"""Components up to which a permutation is written out; events hold it whole in any case."""


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
        space = self.space
        needs = "a vector of numbers as observation" + (" (floating, to turn signs)" if self.signs else "")
        if not isinstance(space, Box) or len(space.shape) != 1:
            raise self.misfit(env, needs)
        if self.signs and not np.issubdtype(space.dtype, np.floating):
            raise self.misfit(env, needs)
        self._dim = space.shape[0]
        self._dtype = space.dtype
        self._places = np.arange(self._dim)
        self._signs = np.ones(self._dim, space.dtype)
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

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Read the number of components."""
        super().bind(env, space)
        space = self.space
        needs = "a vector of two or more floating numbers as observation"
        if not isinstance(space, Box) or len(space.shape) != 1 or space.shape[0] < 2:
            raise self.misfit(env, needs)
        if not np.issubdtype(space.dtype, np.floating):
            raise self.misfit(env, needs)
        self._dim = space.shape[0]
        self._dtype = space.dtype
        self._rotation: NDArray[np.float64] | None = None

    @property
    def original(self) -> int:
        """No rotation."""
        return 0

    def sample(self, rng: np.random.Generator) -> int:
        """The seed of another rotation."""
        return int(rng.integers(1, 2**32))

    def matrix(self, value: int) -> NDArray[np.float64]:
        """The rotation [n, n] of a value; the agent sees `matrix @ observation`."""
        if value == 0:
            return np.eye(self._dim)
        q, r = np.linalg.qr(np.random.default_rng(value).standard_normal((self._dim, self._dim)))
        q *= np.sign(np.diag(r))
        if np.linalg.det(q) < 0:
            q[:, 0] *= -1
        return np.asarray(q, np.float64)

    def set(self, value: int) -> None:
        """Rotate by `value` from now on."""
        self._rotation = None if value == 0 else self.matrix(value)

    def observation_space(self, space: gym.Space[Any]) -> gym.Space[Any]:
        """All components within the greatest length that an observation can have."""
        assert isinstance(space, Box)
        farthest = np.maximum(np.abs(space.low.astype(np.float64)), np.abs(space.high.astype(np.float64)))
        # One part in a million more, for the rounding of the rotated components.
        length = float(np.linalg.norm(farthest) * (1 + 1e-6))
        return Box(-length, length, space.shape, space.dtype.type)

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        """The rotated observation, in a new array; computed in double precision."""
        if self._rotation is None:
            return observation
        rotated: NDArray[Any] = (self._rotation @ observation).astype(self._dtype)
        return rotated

    @property
    def noun(self) -> str:
        """What is changed."""
        return "obs"

    def number(self, value: int) -> str:
        """That it is rotated, and by which draw."""
        return f"rotated (draw {value})"
