"""Changes of what the robots of MuJoCo's locomotion tasks are paid for: which way they run, and how fast.

Gymnasium pays HalfCheetah, Ant, Hopper, Walker2d, Humanoid and Swimmer a forward reward of w vx at every step, beside
what staying upright is worth and what control and contacts cost: vx is the forward velocity, `info["x_velocity"]`, and
w is the task's `forward_reward_weight` (v4 of Ant has none: 1). These changes put another term in its place. They take
the reward to hold the environment's own term still, so that they go before all other changes of the reward.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, SupportsFloat

import gymnasium as gym
from annotated_types import Ge, Le
from gymnasium.envs.mujoco import (
    ant_v4,
    ant_v5,
    half_cheetah_v4,
    half_cheetah_v5,
    hopper_v4,
    hopper_v5,
    humanoid_v4,
    humanoid_v5,
    swimmer_v4,
    swimmer_v5,
    walker2d_v4,
    walker2d_v5,
)

from envs.changes.base import ChangeError, ScalarChange

LOCOMOTION = (
    ant_v4.AntEnv,
    ant_v5.AntEnv,
    half_cheetah_v4.HalfCheetahEnv,
    half_cheetah_v5.HalfCheetahEnv,
    hopper_v4.HopperEnv,
    hopper_v5.HopperEnv,
    humanoid_v4.HumanoidEnv,
    humanoid_v5.HumanoidEnv,
    swimmer_v4.SwimmerEnv,
    swimmer_v5.SwimmerEnv,
    walker2d_v4.Walker2dEnv,
    walker2d_v5.Walker2dEnv,
)
"""The environments that pay a forward reward of w vx and tell vx."""


@dataclass(kw_only=True)
class LocomotionChange(ScalarChange):
    """Base of the changes of the forward reward."""

    mode: Literal["absolute"] = "absolute"
    """Values are the numbers themselves."""

    own_reward: ClassVar[bool] = True

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Read the weight of the forward reward."""
        super().bind(env, space)
        if not isinstance(env.unwrapped, LOCOMOTION):
            raise self.misfit(env, "a MuJoCo task of locomotion, such as HalfCheetah-v5")
        self._weight = float(getattr(env.unwrapped, "_forward_reward_weight", 1.0))
        self.lowest()

    def writes(self) -> frozenset[str]:
        """The forward reward: there is one only to be replaced."""
        return frozenset({"the forward reward"})


@dataclass(kw_only=True)
class LocomotionDirection(LocomotionChange):
    """The forward reward is multiplied by the value: 1 pays for running forward, -1 for running backward.

    Forward and backward in turn by default, the two tasks of MAML (Finn et al. 2017, arXiv 1703.03400); with `draw:
    choice` one of the two is drawn. On the way between them, where values move, running is worth less, at 0 nothing.
    """

    values: tuple[Annotated[float, Ge(-1), Le(1)], ...] | None = (1.0, -1.0)
    """Values to go through, task by task; none draws any number from low to high."""
    low: Annotated[float, Ge(-1), Le(1)] = -1.0
    """Lowest value drawn."""
    high: Annotated[float, Ge(-1), Le(1)] = 1.0
    """Highest value drawn."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.own = 1.0

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Read the weight of the forward reward, and begin with the environment's own reward."""
        super().bind(env, space)
        self._direction = 1.0

    def check(self, value: Any) -> None:
        """Refuse what is no number from -1 to 1."""
        super().check(value)
        if not -1 <= value <= 1:
            raise ChangeError(f"{self.name} must be at least -1 and at most 1, not {value:g}")

    def set(self, value: float | None) -> None:
        """Pay for `value` times the forward velocity from now on."""
        self._direction = self.absolute(value)

    def reward(self, reward: SupportsFloat, info: Mapping[str, Any], ended: bool) -> SupportsFloat:
        """The reward with the forward term multiplied by the value."""
        if self._direction == 1.0:
            return reward
        return float(reward) + (self._direction - 1.0) * self._weight * float(info["x_velocity"])

    @property
    def noun(self) -> str:
        """What is changed."""
        return "direction"

    def number(self, value: float | None) -> str:
        """Forward, backward, or the number between."""
        if value is None:
            return "original"
        return {"1": "forward", "-1": "backward"}.get(f"{value:g}", f"forward x{value:.3g}")


@dataclass(kw_only=True)
class LocomotionVelocity(LocomotionChange):
    """The robot is to run at a given velocity v, the value: its forward reward is -w |vx - v| instead of w vx.

    As in the tasks of MAML (Finn et al. 2017, arXiv 1703.03400), where v is uniform from 0 to 2 for HalfCheetah. The
    environment's own term, which pays for running as fast as possible, has no such number: it is the value None, and
    values cannot move away from it.
    """

    low: float = 0.0
    """Lowest velocity drawn, in metres a second."""
    high: float = 2.0
    """Highest velocity drawn."""

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Read the weight of the forward reward, and begin with the environment's own reward."""
        super().bind(env, space)
        self._target: float | None = None

    def set(self, value: float | None) -> None:
        """Pay for running at `value` from now on."""
        self._target = value

    def reward(self, reward: SupportsFloat, info: Mapping[str, Any], ended: bool) -> SupportsFloat:
        """The reward with the forward term replaced."""
        if self._target is None:
            return reward
        velocity = float(info["x_velocity"])
        return float(reward) - self._weight * velocity - self._weight * abs(velocity - self._target)

    def context(self, value: float | None) -> tuple[float, ...]:
        """Whether there is such a velocity (1 or 0), and the velocity."""
        return (0.0, 0.0) if value is None else (1.0, float(value))

    def context_bounds(self) -> tuple[float, float]:
        """The bounds of what is drawn or listed, 0 and 1."""
        low, high = self.bounds() if self.values is None else (min(self.values), max(self.values))
        return min(low, 0.0), max(high, 1.0)

    @property
    def noun(self) -> str:
        """What is changed."""
        return "target velocity"
