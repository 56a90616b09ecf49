"""Changes of the physics of MuJoCo environments, on the live model.

MuJoCo reads these fields of its model at every step, so a change is effective at once and nothing derived has to be
computed anew. A reset of the environment leaves the model alone: what is written here stays until it is overwritten.
"""

from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
import mujoco
import numpy as np

from envs.changes.base import ScalarChange


@dataclass(kw_only=True)
class MujocoChange(ScalarChange):
    """Base of the changes of a MuJoCo model."""

    live = ScalarChange.live | {"_model"}

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Find the environment's model."""
        super().bind(env, space)
        model = getattr(env.unwrapped, "model", None)
        if not isinstance(model, mujoco.MjModel):
            raise self.misfit(env, "a MuJoCo environment, such as HalfCheetah-v5")
        self._model = model

    @property
    def noun(self) -> str:
        """What is changed."""
        return self.name.removeprefix("mujoco_")


@dataclass(kw_only=True)
class MujocoFriction(MujocoChange):
    """Sliding friction of all geoms at once (SlipperyAnt: Dohare et al. 2024, Nature 632).

    Friction at a contact is the greater of the two geoms' own: lowering the floor's alone does nothing. As an absolute
    value all geoms get the same; as a factor those that differ stay different.
    """

    draw: Literal["uniform", "log_uniform", "normal", "choice"] = "log_uniform"
    """How a value is drawn: evenly in its logarithm by default, as in SlipperyAnt."""
    low: float | None = 0.02
    """Lowest value drawn."""
    high: float | None = 2.0
    """Highest value drawn."""

    @property
    def positive(self) -> bool:
        """Friction must be above 0."""
        return True

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Read the friction of all geoms."""
        super().bind(env, space)
        self._pristine = np.array(self._model.geom_friction[:, 0])
        self.own = float(self._pristine[0]) if np.ptp(self._pristine) == 0 else None
        self.lowest()

    def set(self, value: float | None) -> None:
        """Write the friction of all geoms."""
        if self.is_original(value):
            self._model.geom_friction[:, 0] = self._pristine
        else:
            self._model.geom_friction[:, 0] = self._pristine * value if self.mode == "factor" else value


@dataclass(kw_only=True)
class MujocoGravity(MujocoChange):
    """Strength of gravity, in the environment's own direction (9.81 m/s2 downwards for nearly all)."""

    @property
    def positive(self) -> bool:
        """The strength must be above 0; its direction does not change."""
        return True

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Read the strength and the direction of gravity."""
        super().bind(env, space)
        self._pristine = np.array(self._model.opt.gravity)
        self.own = float(np.linalg.norm(self._pristine))
        if self.own == 0:
            raise self.misfit(env, "an environment that has gravity")
        self.lowest()

    def set(self, value: float | None) -> None:
        """Write the vector of gravity."""
        if self.is_original(value):
            self._model.opt.gravity[:] = self._pristine
        else:
            self._model.opt.gravity[:] = self._pristine / self.absolute(None) * self.absolute(value)
