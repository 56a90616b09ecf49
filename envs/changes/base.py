"""What a change is: one thing about an environment that can take another value in another task.

A change is bound to one live environment and then told to take values. It may act on the environment itself
(`set`), or on what passes between agent and environment (`observation`, `action`, `reward`). Values are JSON-able, and
`original` is the value under which the environment is bit for bit as it was found.
"""

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, SupportsFloat

import gymnasium as gym
import numpy as np

from configs.settings import SettingError, Settings


class ChangeError(ValueError):
    """A change does not fit an environment; one sentence says which, and what would fit."""


@dataclass(kw_only=True)
class Change(Settings):
    """Base of all changes. Alone it changes nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.env: gym.Env[Any, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the live environment: a copy or a pickle is unbound, yet still knows the values."""
        return {name: value for name, value in vars(self).items() if name not in self.live} | {"env": None}

    live: ClassVar[frozenset[str]] = frozenset({"env"})
    """Attributes that hold a part of the live environment, which copies and pickles leave behind."""

    @property
    def name(self) -> str:
        """The name under which the change is registered: the class's own, in snake case."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()

    def bind(self, env: gym.Env[Any, Any]) -> None:
        """Attach to a live environment and remember its own values; called once, before anything is changed.

        Raises:
            ChangeError: the environment cannot take this change.
        """
        self.env = env

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

    def set(self, value: Any) -> None:
        """Make it so, at once and in place. Called only when the value is another one than before."""

    def observation_space(self, space: gym.Space[Any]) -> gym.Space[Any]:
        """The space that holds the changed observations of every possible value."""
        return space

    def observation(self, observation: Any) -> Any:
        """What the agent sees of the environment's `observation`."""
        return observation

    def action(self, action: Any) -> Any:
        """What the environment is told of the agent's `action`."""
        return action

    def reward(self, reward: SupportsFloat) -> SupportsFloat:
        """What the agent is given of the environment's `reward`."""
        return reward

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
    """Values to go through, task by task and round again, instead of drawing them."""
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
        return self.values[task % len(self.values)]

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
