"""Changes of the classic-control environments' constants."""

from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv, PendulumEnv

from envs.changes.base import ScalarChange


@dataclass(kw_only=True)
class Cartpole(ScalarChange):
    """One constant of CartPole."""

    parameter: Literal["gravity", "masscart", "masspole", "length", "force_mag", "tau"] = "length"
    """Gravity (9.8), mass of the cart (1) or of the pole (0.1), half the pole's length (0.5), force of a push (10), or
    seconds between two steps (0.02)."""

    live = ScalarChange.live | {"_cartpole"}

    @property
    def positive(self) -> bool:
        """Masses, lengths and times must be above 0; gravity and force may point the other way."""
        return self.parameter in ("masscart", "masspole", "length", "tau")

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Read the constant."""
        super().bind(env, space)
        cartpole = env.unwrapped
        if not isinstance(cartpole, CartPoleEnv):
            raise self.misfit(env, "CartPole, such as CartPole-v1")
        self._cartpole = cartpole
        self.own = float(getattr(cartpole, self.parameter))
        self.lowest()

    def set(self, value: float | None) -> None:
        """Write the constant, and those that CartPole derives from the constants once, when it is made."""
        cartpole = self._cartpole
        setattr(cartpole, self.parameter, self.absolute(value))
        cartpole.total_mass = cartpole.masspole + cartpole.masscart
        cartpole.polemass_length = cartpole.masspole * cartpole.length

    @property
    def noun(self) -> str:
        """What is changed."""
        return self.parameter


@dataclass(kw_only=True)
class Pendulum(ScalarChange):
    """One constant of Pendulum.

    With `max_torque`, the strength of the motor changes: the agent's actions keep their range, which is fixed once for
    the agent's networks, and full action means full torque in every task. (The environment's own constant only clips
    the torque: raising it would do nothing, because no action reaches above the old bound.)
    """

    parameter: Literal["g", "m", "l", "dt", "max_torque"] = "m"
    """Gravity (10), mass (1), length (1), seconds between two steps (0.05), or torque of the full action (2)."""

    live = ScalarChange.live | {"_pendulum"}

    @property
    def positive(self) -> bool:
        """All but gravity must be above 0."""
        return self.parameter != "g"

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Read the constant."""
        super().bind(env, space)
        pendulum = env.unwrapped
        if not isinstance(pendulum, PendulumEnv):
            raise self.misfit(env, "Pendulum, such as Pendulum-v1")
        self._pendulum = pendulum
        self.own = float(getattr(pendulum, self.parameter))
        self.lowest()
        self._gain = 1.0

    def set(self, value: float | None) -> None:
        """Write the constant."""
        number = self.absolute(value)
        setattr(self._pendulum, self.parameter, number)
        if self.parameter == "max_torque":
            self._gain = number / self.absolute(None)

    def action(self, action: Any) -> Any:
        """The torque: the action as it is but for a changed `max_torque`."""
        return action if self._gain == 1.0 else action * self._gain

    @property
    def noun(self) -> str:
        """What is changed."""
        return self.parameter
