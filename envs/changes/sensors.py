"""Changes of the sensors through which the agent sees a vector of numbers: offsets, gains and noise.

The world behind stays the same; the observation space is widened once to hold the observations of all tasks.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import gymnasium as gym
import numpy as np
from annotated_types import Ge, Gt
from gymnasium.spaces import Box
from numpy.typing import NDArray

from configs.settings import SettingError
from envs.changes.base import Blend, Change, ChangeError, ScalarChange
from envs.changes.values import MOST_IN_WORDS, Disturbance, check_list, in_words, scaled_box, vector_of


@dataclass(kw_only=True)
class PerComponent(Change):
    """Base of the changes whose value lists a number for each component of the observation."""

    neutral: ClassVar[float]
    """The number that leaves a component as it is."""

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Read the number of components."""
        super().bind(env, space)
        box = vector_of(self, env, "a vector of floating numbers as observation")
        self._dim = box.shape[0]
        self._dtype = box.dtype
        self._vector: NDArray[Any] | None = None

    @property
    def original(self) -> list[float]:
        """All components as they are."""
        return [self.neutral] * self._dim

    def set(self, value: list[float]) -> None:
        """Use these numbers from now on."""
        self._vector = None if value == self.original else np.array(value, self._dtype)

    def between(self, before: list[float], after: list[float], blend: Blend) -> list[float]:
        """Each number on its own way."""
        return list(map(blend, before, after))

    def context(self, value: list[float]) -> tuple[float, ...]:
        """The numbers."""
        return tuple(map(float, value))


@dataclass(kw_only=True)
class ObservationOffset(PerComponent):
    """A vector is added to every observation, another one in each task.

    A value is the vector, as a list; each of its components is drawn from the normal distribution with mean 0. With a
    deviation of 2 and 0 in the first task this is the change of the Gym control benchmark of TRAC (Muppidi et al. 2024,
    arXiv 2405.16642) and C-CHAIN (Tang et al. 2025, arXiv 2506.00592). The normal distribution has no bounds, and so
    have the observations.
    """

    neutral = 0.0

    deviation: Annotated[float, Gt(0)] = 2.0
    """Standard deviation of each component of the vector, in the observation's own units."""

    def sample(self, rng: np.random.Generator) -> list[float]:
        """Another vector."""
        value: list[float] = rng.normal(0.0, self.deviation, self._dim).tolist()
        return value

    def check(self, value: Any) -> None:
        """Refuse what is no vector of as many numbers as the observation."""
        check_list(self, value, self._dim, -np.inf, np.inf)

    def observation_space(self, space: gym.Space[Any]) -> gym.Space[Any]:
        """Without bounds."""
        assert isinstance(space, Box)
        return Box(-np.inf, np.inf, space.shape, space.dtype.type)

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        """The sum, in a new array."""
        return observation if self._vector is None else observation + self._vector

    @property
    def noun(self) -> str:
        """What is changed."""
        return "obs offset"

    def number(self, value: list[float]) -> str:
        """The vector; its length where it has many components."""
        return in_words(value) if len(value) <= MOST_IN_WORDS else f"of length {np.linalg.norm(value):.3g}"


@dataclass(kw_only=True)
class ObservationScale(ScalarChange):
    """The whole observation is multiplied by one number above 0, as if it were measured in other units.

    The observation space is made for the factors that the settings allow, and a table cannot go beyond them.
    """

    draw: Literal["uniform", "log_uniform", "normal", "choice"] = "log_uniform"
    """How a value is drawn: evenly in its logarithm by default, so that twice is as likely as half."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.own = 1.0

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Read the kind of observations."""
        super().bind(env, space)
        vector_of(self, env, "a vector of floating numbers as observation")
        self.lowest()
        self._scale = 1.0

    @property
    def positive(self) -> bool:
        """Factors must be above 0."""
        return True

    def check(self, value: Any) -> None:
        """Refuse factors that the observation space was not made for."""
        super().check(value)
        low, high = self.context_bounds()
        if not low <= value <= high:
            raise ChangeError(
                f"{self.name}: the observation space is made for factors from {low:g} to {high:g} (low, high), "
                f"not {value:g}"
            )

    def set(self, value: float | None) -> None:
        """Multiply by `value` from now on."""
        self._scale = self.absolute(value)

    def observation_space(self, space: gym.Space[Any]) -> gym.Space[Any]:
        """The observations times any factor that is drawn or listed, or 1."""
        assert isinstance(space, Box)
        return scaled_box(space, *self.context_bounds())

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        """The product, in a new array."""
        return observation if self._scale == 1.0 else observation * self._scale

    @property
    def noun(self) -> str:
        """What is changed."""
        return "obs"

    def number(self, value: float | None) -> str:
        """The value as the factor that it is, in either mode."""
        return "original" if value is None else f"x{value:.3g}"


@dataclass(kw_only=True)
class ObservationGains(PerComponent):
    """Every component of the observation is multiplied by a factor of its own, as if each sensor had another gain.

    A value lists the factors. Each is drawn evenly in its logarithm between low and high. The observation space is made
    for factors from low to high (and 1), and a table cannot go beyond them.
    """

    neutral = 1.0

    low: Annotated[float, Gt(0)] = 0.5
    """Lowest factor drawn."""
    high: Annotated[float, Gt(0)] = 2.0
    """Highest factor drawn."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low >= self.high:
            raise SettingError(self, "low", f"must be below high ({self.high:g}), not {self.low:g}")

    def sample(self, rng: np.random.Generator) -> list[float]:
        """Other factors."""
        drawn = np.exp(rng.uniform(np.log(self.low), np.log(self.high), self._dim))
        value: list[float] = np.clip(drawn, self.low, self.high).tolist()
        return value

    def check(self, value: Any) -> None:
        """Refuse what is no list of factors that the observation space was made for."""
        check_list(self, value, self._dim, *self.context_bounds())

    def observation_space(self, space: gym.Space[Any]) -> gym.Space[Any]:
        """The observations times any factor from low to high, or 1."""
        assert isinstance(space, Box)
        return scaled_box(space, *self.context_bounds())

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        """The products, in a new array."""
        return observation if self._vector is None else observation * self._vector

    def lowest(self) -> float:
        """The lowest factor drawn."""
        return self.low

    def context_bounds(self) -> tuple[float, float]:
        """From low to high, and 1."""
        return min(self.low, 1.0), max(self.high, 1.0)

    @property
    def noun(self) -> str:
        """What is changed."""
        return "obs gains"

    def number(self, value: list[float]) -> str:
        """The factors; the least and the greatest where there are many."""
        if len(value) <= MOST_IN_WORDS:
            return " ".join(f"x{factor:.3g}" for factor in value)
        return f"x{min(value):.3g} to x{max(value):.3g}"


@dataclass(kw_only=True)
class ObservationNoise(Disturbance):
    """Normal noise is added to every component at every step; a value is its standard deviation.

    The noise has no bounds, and so have the observations.
    """

    low: Annotated[float, Ge(0)] = 0.05
    """Lowest standard deviation drawn, in the observation's own units."""
    high: Annotated[float, Ge(0)] = 0.5
    """Highest standard deviation drawn."""

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Read the number of components."""
        super().bind(env, space)
        box = vector_of(self, env, "a vector of floating numbers as observation")
        self._dim = box.shape[0]
        self._dtype = box.dtype
        self._deviation = 0.0

    def set(self, value: float | None) -> None:
        """Add noise with the standard deviation `value` from now on."""
        self._deviation = self.absolute(value)

    def observation_space(self, space: gym.Space[Any]) -> gym.Space[Any]:
        """Without bounds."""
        assert isinstance(space, Box)
        return Box(-np.inf, np.inf, space.shape, space.dtype.type)

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        """The sum, in a new array; computed in double precision."""
        if self._deviation == 0:
            return observation
        noisy: NDArray[Any] = (observation + self._deviation * self.rng.standard_normal(self._dim)).astype(self._dtype)
        return noisy

    @property
    def noun(self) -> str:
        """What is changed."""
        return "obs noise"
