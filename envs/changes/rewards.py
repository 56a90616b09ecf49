"""Changes of the reward."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, SupportsFloat

from envs.changes.base import ScalarChange


@dataclass(kw_only=True)
class RewardScale(ScalarChange):
    """The reward is multiplied by the value; -1 turns the task into its opposite."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.own = 1.0
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
