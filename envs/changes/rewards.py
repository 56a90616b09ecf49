"""Changes of the reward that know nothing of the task. `envs.changes.locomotion` knows what robots are paid for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, SupportsFloat

import gymnasium as gym
from annotated_types import Ge

from envs.changes.base import ScalarChange
from envs.changes.values import Disturbance


@dataclass(kw_only=True)
class RewardScale(ScalarChange):
    """The reward is multiplied by the value; -1 turns the task into its opposite."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.own = 1.0
        self._scale = 1.0

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Begin with the environment's own rewards."""
        super().bind(env, space)
        self._scale = 1.0

    @property
    def noun(self) -> str:
        """What is changed."""
        return "reward"

    def number(self, value: float | None) -> str:
        """The value as the factor that it is, in either mode."""
        return "original" if value is None else f"x{value:.3g}"

    def set(self, value: float | None) -> None:
        """Multiply by `value` from now on."""
        self._scale = self.absolute(value)

    def reward(self, reward: SupportsFloat, info: Mapping[str, Any], ended: bool) -> SupportsFloat:
        """The reward times the value."""
        return reward if self._scale == 1.0 else float(reward) * self._scale


@dataclass(kw_only=True)
class RewardOffset(ScalarChange):
    """The value is added to the reward of every step.

    Where episodes can end early this changes what is best: a gain at every step makes long episodes worth more, a loss
    makes an early end worth it.
    """

    low: float = -1.0
    """Lowest value drawn."""
    high: float = 1.0
    """Highest value drawn."""
    mode: Literal["absolute"] = "absolute"
    """Values are the numbers themselves; there is nothing that they could be factors on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.own = 0.0

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Begin with the environment's own rewards."""
        super().bind(env, space)
        self.lowest()
        self._offset = 0.0

    def set(self, value: float | None) -> None:
        """Add `value` from now on."""
        self._offset = self.absolute(value)

    def reward(self, reward: SupportsFloat, info: Mapping[str, Any], ended: bool) -> SupportsFloat:
        """The sum."""
        return reward if self._offset == 0 else float(reward) + self._offset

    def number(self, value: float | None) -> str:
        """The value with its sign."""
        return "original" if value is None else f"{value:+.3g}"


@dataclass(kw_only=True)
class RewardNoise(Disturbance):
    """Normal noise is added to the reward of every step; a value is its standard deviation."""

    low: Annotated[float, Ge(0)] = 0.1
    """Lowest standard deviation drawn, in the reward's own units."""
    high: Annotated[float, Ge(0)] = 1.0
    """Highest standard deviation drawn."""

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Begin with the environment's own rewards."""
        super().bind(env, space)
        self._deviation = 0.0

    def set(self, value: float | None) -> None:
        """Add noise with the standard deviation `value` from now on."""
        self._deviation = self.absolute(value)

    def reward(self, reward: SupportsFloat, info: Mapping[str, Any], ended: bool) -> SupportsFloat:
        """The sum."""
        return reward if self._deviation == 0 else float(reward) + self._deviation * self.rng.standard_normal()
