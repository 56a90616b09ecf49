"""What a change is: one thing about an environment that can take another value in another task.

A change is bound to one live environment and then told to take values. It may act on the environment itself
(`set`), or on what passes between agent and environment (`observation`, `action`, `reward`). Values are JSON-able, and
`original` is the value under which the environment is bit for bit as it was found.

Changes that need chance at every step (noise) draw it from `self.rng`, a generator of their own that is seeded with the
environment; those that remember steps (delays) forget them in `begin`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, SupportsFloat

import gymnasium as gym
import numpy as np

from configs.settings import SettingError, Settings

WHOLE = "the environment"
"""What a change writes that exchanges the whole environment."""

Blend = Callable[[float, float], float]
"""The number that a drift has come to between two."""


class ChangeError(ValueError):
    """A change does not fit an environment; one sentence says which, and what would fit."""


@dataclass(kw_only=True)
class Change(Settings):
    """Base of all changes. Alone it changes nothing."""

    live: ClassVar[frozenset[str]] = frozenset({"env"})
    """Attributes that hold a part of the live environment, which copies and pickles leave behind."""
    at_reset: ClassVar[bool] = False
    """Whether the change can be made between two episodes only: a boundary of `immediate` is refused then."""

    own_reward: ClassVar[bool] = False
    """Whether `reward` takes terms out of the environment's own reward, which no other change must have touched."""

    names_original: ClassVar[bool] = False
    """Whether a description of a task says so where the value is the original, too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.env: gym.Env[Any, Any] | None = None
        self.rng = np.random.default_rng(0)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the live environment: a copy or a pickle is unbound, yet still knows the values."""
        return {name: value for name, value in vars(self).items() if name not in self.live} | {"env": None}

    @property
    def name(self) -> str:
        """The name under which the change is registered: the class's own, in snake case."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """The environment in which this change can be made: `env` itself, but for changes that need a wrapper."""
        return env

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Attach to a live environment and remember its own values; called once, before anything is changed.

        Args:
            env: the environment, already wrapped by `wrap`.
            space: the space of the observations that `observation` will be given, where changes listed before this
                one have made it another than the environment's own.

        Raises:
            ChangeError: the environment cannot take this change.
        """
        self.env = env
        self.space = env.observation_space if space is None else space

    def writes(self) -> frozenset[str]:
        """Names of what `set` writes to in the environment; two changes that share one are refused together."""
        return frozenset()

    @property
    def original(self) -> Any:
        """The value that means no change."""
        return None

    def is_original(self, value: Any) -> bool:
        """Whether `value` leaves the environment as it is."""
        return bool(value == self.original)

    def listed(self, task: int) -> Any:
        """The value that the settings list for task number `task`; None where it is to be drawn."""
        return None

    def sample(self, rng: np.random.Generator) -> Any:
        """A value for a new task, drawn with `rng` alone."""
        raise NotImplementedError

    def check(self, value: Any) -> None:
        """Refuse a value that was not drawn but given from outside, such as by a table in a file.

        Raises:
            ChangeError: it is not a value of this change in this environment.
        """
        raise ChangeError(f"{self.name} does not take values from a table")

    def set(self, value: Any) -> None:
        """Make it so, at once and in place. Called only when the value is another one than before."""

    def seed(self, rng: np.random.Generator) -> None:
        """Draw what chance is needed at every step from `rng` from now on; called when the environment is seeded."""
        self.rng = rng

    def begin(self) -> None:
        """Forget the steps of the last episode: a new one begins. Called before the environment's own reset."""

    def observation_space(self, space: gym.Space[Any]) -> gym.Space[Any]:
        """The space that holds the changed observations of every possible value."""
        return space

    def observation(self, observation: Any) -> Any:
        """What the agent sees of the environment's `observation`."""
        return observation

    def action(self, action: Any) -> Any:
        """What the environment is told of the agent's `action`."""
        return action

    def reward(self, reward: SupportsFloat, info: Mapping[str, Any], ended: bool) -> SupportsFloat:
        """What the agent is given of the environment's `reward`.

        Args:
            reward: the environment's, or what the change before this one made of it.
            info: the environment's own info of this step.
            ended: whether the episode ends with this step, for whatever reason.
        """
        return reward

    def between(self, before: Any, after: Any, blend: Blend) -> Any:
        """The value on the way of a drift from one value to another.

        Args:
            before: where it comes from.
            after: where it goes.
            blend: for a number of `before` and the same one of `after`, the number between them.

        Raises:
            ChangeError: there is nothing between two values of this change.
        """
        raise ChangeError(f"{self.name} cannot drift, because there is nothing between two of its values")

    @property
    def drifts(self) -> bool:
        """Whether there is something between two values."""
        return type(self).between is not Change.between

    def lowest(self) -> float:
        """The lowest number in any value that a task can have, the environment's own apart."""
        return -np.inf

    def context(self, value: Any) -> tuple[float, ...]:
        """The value as numbers, for agents that are shown it; always as many.

        Raises:
            ChangeError: it cannot be shown as numbers.
        """
        raise ChangeError(f"{self.name} cannot be shown as context, because its values are not numbers")

    def context_bounds(self) -> tuple[float, float]:
        """Between which numbers those of `context` lie."""
        return -np.inf, np.inf

    def describe(self, value: Any) -> str:
        """A short text for people, such as "friction 0.31"."""
        return f"{self.noun} original" if self.is_original(value) else f"{self.noun} {self.number(value)}"

    @property
    def noun(self) -> str:
        """What is changed, in a word or two."""
        return self.name.replace("_", " ")

    def number(self, value: Any) -> str:
        """The value alone, as `describe` writes it."""
        return str(value)

    def misfit(self, env: gym.Env[Any, Any], needs: str) -> ChangeError:
        """The error that says that this change does not fit `env`, and what it `needs`."""
        known = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
        return ChangeError(f"{self.name} does not fit {known}: it needs {needs}")


@dataclass(kw_only=True)
class ScalarChange(Change):
    """Base of the changes whose value is a number: where the numbers come from.

    Subclasses set `own` when they are bound, and read a value with `absolute`.
    """

    values: tuple[float, ...] | None = None
    """Values to go through, task by task, instead of drawing them."""
    then: Literal["repeat", "hold"] = "repeat"
    """After the last of `values`: begin again with the first (repeat), or stay at the last (hold)."""
    draw: Literal["uniform", "log_uniform", "normal", "choice"] = "uniform"
    """How a value is drawn: evenly between low and high (uniform), evenly in its logarithm (log_uniform), normal
    about the middle of low and high with a quarter of their distance as standard deviation, cut off at both
    (normal), or any one of `values` (choice)."""
    low: float | None = None
    """Lowest value drawn; none is half the environment's own."""
    high: float | None = None
    """Highest value drawn; none is twice the environment's own."""
    mode: Literal["absolute", "factor"] = "absolute"
    """Whether the values (and low and high) are the parameter's own numbers, or factors on the environment's own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.own: float | None = None
        if self.values is not None:
            self.values = tuple(self.values)
        if self.values == ():
            raise SettingError(self, "values", "must list at least one value")
        if self.draw == "choice" and self.values is None:
            raise SettingError(self, "values", "must be given where draw is choice")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise SettingError(self, "low", f"must be below high ({self.high:g}), not {self.low:g}")
        if self.draw == "log_uniform" and self.low is not None and self.low <= 0:
            raise SettingError(self, "low", f"must be above 0 where draw is log_uniform, not {self.low:g}")
        self._check_sign()

    def _check_sign(self) -> None:
        """Refuse values that make no sense for a parameter that must be positive."""
        if not self.positive:
            return
        for name, numbers in {"values": self.values or (), "low": (self.low,), "high": (self.high,)}.items():
            wrong = next((number for number in numbers if number is not None and number <= 0), None)
            if wrong is not None:
                raise SettingError(self, name, f"must be above 0 for {self.noun}, not {wrong:g}")

    @property
    def positive(self) -> bool:
        """Whether the parameter must be above 0."""
        return False

    @property
    def original(self) -> float | None:
        """The environment's own number, 1 as a factor; None where the environment has not one number, or is unknown."""
        return 1.0 if self.mode == "factor" else self.own

    def is_original(self, value: float | None) -> bool:
        """Whether `value` leaves the environment as it is."""
        return value is None or value == self.original

    def absolute(self, value: float | None) -> float:
        """The parameter's own number for `value`, for an environment with `own`, one number."""
        if self.own is None:
            raise ChangeError(f"{self.name} is not bound to an environment")
        if value is None:
            return self.own
        return self.own * value if self.mode == "factor" else value

    def bounds(self) -> tuple[float, float]:
        """Lowest and highest value that is drawn, with defaults taken from the environment.

        Raises:
            ChangeError: a default is needed, and the environment has not one number of its own.
        """
        if self.low is not None and self.high is not None:
            return self.low, self.high
        if self.original is None:
            raise ChangeError(f"{self.name} needs low and high, because the environment has not one own value")
        low = 0.5 * self.original if self.low is None else self.low
        high = 2.0 * self.original if self.high is None else self.high
        if low >= high or (self.draw == "log_uniform" and low <= 0):
            raise ChangeError(f"{self.name} needs other bounds than {low:g} to {high:g} for draw {self.draw}")
        return low, high

    def lowest(self) -> float:
        """The lowest value that any task can have, the environment's own apart.

        Raises:
            ChangeError: as `bounds`, where values are drawn within bounds.
        """
        return min(self.values) if self.values is not None else self.bounds()[0]

    def listed(self, task: int) -> float | None:
        """The values in turn, where they are given and not drawn from."""
        if self.values is None or self.draw == "choice":
            return None
        return self.values[min(task, len(self.values) - 1) if self.then == "hold" else task % len(self.values)]

    @property
    def drawn(self) -> bool:
        """Whether values are drawn, and not listed."""
        return self.values is None or self.draw == "choice"

    def check(self, value: Any) -> None:
        """Refuse what is no finite number, or none above 0 where it has to be."""
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
            raise ChangeError(f"{self.name} takes finite numbers, not {value!r}")
        if self.positive and value <= 0:
            raise ChangeError(f"{self.name}: {self.noun} must be above 0, not {value:g}")

    def between(self, before: float, after: float, blend: Blend) -> float:
        """What the curve of a drift says."""
        return blend(before, after)

    def place(self, value: float) -> float:
        """How far `value` is from low (0) to high (1), within both; in the logarithm where draw is log_uniform.

        Raises:
            ChangeError: as `bounds`.
        """
        low, high = self.bounds()
        value = min(max(value, low), high)
        if self.draw == "log_uniform":
            low, high, value = np.log(low), np.log(high), np.log(value)
        return float((value - low) / (high - low))

    def at(self, place: float) -> float:
        """The value `place` of the way from low to high: the inverse of `place`; the original exactly at its own."""
        if self.original is not None and place == self.place(self.original):
            low, high = self.bounds()
            return min(max(self.original, low), high)
        low, high = self.bounds()
        if self.draw == "log_uniform":
            return float(np.clip(np.exp(np.log(low) + place * (np.log(high) - np.log(low))), low, high))
        return float(np.clip(low + place * (high - low), low, high))

    def context(self, value: float | None) -> tuple[float, ...]:
        """The number itself; 1 for the environment's own where that is not one number."""
        return (1.0 if value is None else float(value),)

    def context_bounds(self) -> tuple[float, float]:
        """The bounds of what is drawn or listed, and the environment's own."""
        own = 1.0 if self.original is None else self.original
        low, high = self.bounds() if self.values is None else (min(self.values), max(self.values))
        return min(low, own), max(high, own)

    def sample(self, rng: np.random.Generator) -> float:
        """A number drawn as `draw` says, always within low and high."""
        if self.draw == "choice" and self.values is not None:
            return float(self.values[rng.integers(len(self.values))])
        low, high = self.bounds()
        if self.draw == "log_uniform":
            drawn = np.exp(rng.uniform(np.log(low), np.log(high)))
        elif self.draw == "normal":
            drawn = rng.normal((low + high) / 2, (high - low) / 4)
        else:
            drawn = rng.uniform(low, high)
        return float(np.clip(drawn, low, high))

    def number(self, value: float | None) -> str:
        """The number to three digits, with a multiplication sign before a factor."""
        if value is None:
            return "original"
        return f"x{value:.3g}" if self.mode == "factor" else f"{value:.3g}"
