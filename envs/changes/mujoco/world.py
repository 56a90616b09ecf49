"""Changes of the world that a MuJoCo model lives in: gravity, wind, and the medium around it."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import gymnasium as gym
import numpy as np
from annotated_types import Gt

from configs.settings import SettingError
from envs.changes.base import ChangeError
from envs.changes.mujoco.base import MujocoScalar


@dataclass(kw_only=True)
class MujocoGravity(MujocoScalar):
    """Strength of gravity, in the environment's own direction (9.81 m/s2 downwards for nearly all)."""

    fields = ("opt.gravity",)

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


@dataclass(kw_only=True)
class MujocoWind(MujocoScalar):
    """Speed of a wind (m/s), added to whatever wind the environment has; negative values blow the other way.

    Wind pushes through the medium, and nearly all environments are empty: there, the medium of `density` comes with the
    wind, and brakes whatever moves in it, even in a breath of it. At 0 there is neither.
    """

    fields = ("opt.wind", "opt.density")

    low: float | None = -5.0
    """Lowest speed drawn."""
    high: float | None = 5.0
    """Highest speed drawn."""
    mode: Literal["absolute"] = "absolute"
    """Values are speeds; there is no wind of the environment's own that they could be factors on."""
    direction: tuple[float, ...] = (1.0, 0.0, 0.0)
    """Where it blows to, as a vector of three numbers of any length (z is up)."""
    density: Annotated[float, Gt(0)] | None = 1.2
    """Density (kg/m3) of the medium while the wind blows, in an environment that has none of its own; the default is
    that of air. None leaves the density alone, for `mujoco_density` to change."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.own = 0.0
        self.direction = tuple(self.direction)
        if len(self.direction) != 3 or not any(self.direction):
            raise SettingError(self, "direction", f"must be three numbers, not all 0, not {list(self.direction)}")

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Read the environment's own wind and density."""
        super().bind(env, space)
        vector = np.array(self.direction)
        self._axes = np.flatnonzero(vector)
        self._along = (vector / np.linalg.norm(vector))[self._axes]
        self._pristine = np.array(self._model.opt.wind)[self._axes]
        self._fills = self.density is not None and self._model.opt.density == 0
        self.lowest()

    def writes(self) -> frozenset[str]:
        """The components of the wind that are not 0, and the density where it comes with the wind."""
        return frozenset(f"opt.wind[{'xyz'[axis]}]" for axis in self._axes) | (
            {"opt.density"} if self._fills else set()
        )

    def set(self, value: float | None) -> None:
        """Write the wind and the density of what blows."""
        options = self._model.opt
        if value is None or self.is_original(value):
            options.wind[self._axes] = self._pristine
        else:
            options.wind[self._axes] = self._pristine + value * self._along
        if self._fills:
            options.density = 0.0 if self.is_original(value) else self.density


@dataclass(kw_only=True)
class MujocoMedium(MujocoScalar):
    """Base of the changes of what a model moves in."""

    draw: Literal["uniform", "log_uniform", "normal", "choice"] = "log_uniform"
    """How a value is drawn: evenly in its logarithm by default, because media differ by orders of magnitude."""
    low: float | None = None
    """Lowest value drawn; none is half the environment's own, or that of the thinner medium where it has none."""
    high: float | None = None
    """Highest value drawn; none is twice the environment's own, or that of the thicker medium where it has none."""

    usual: ClassVar[tuple[float, float]]
    """What is drawn between by default where the environment has no medium."""
    not_negative = True

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Read the environment's own number."""
        super().bind(env, space)
        self._option = self.fields[0].removeprefix("opt.")
        self.own = float(getattr(self._model.opt, self._option))
        if self.own == 0 and self.mode == "factor":
            raise self.misfit(env, f"an environment with a {self.noun} of its own to multiply; choose mode absolute")
        self.lowest()

    def bounds(self) -> tuple[float, float]:
        """Lowest and highest value that is drawn, with defaults taken from the environment.

        Raises:
            ChangeError: low is not below high with the default of one of them.
        """
        if self.own != 0:
            return super().bounds()
        low = self.usual[0] if self.low is None else self.low
        high = self.usual[1] if self.high is None else self.high
        if low >= high:
            raise ChangeError(f"{self.name} needs other bounds than {low:g} to {high:g}")
        return low, high

    def set(self, value: float | None) -> None:
        """Write the number."""
        setattr(self._model.opt, self._option, self.own if self.is_original(value) else self.absolute(value))


@dataclass(kw_only=True)
class MujocoDensity(MujocoMedium):
    """Density of the medium (kg/m3: air 1.2, water 1000), which brakes what moves in it by the square of its speed.

    Mind what the simulation can take: light bodies in a dense medium make it diverge (Ant, of less than 1 kg, at 200).
    """

    fields = ("opt.density",)
    usual = (1.0, 50.0)


@dataclass(kw_only=True)
class MujocoViscosity(MujocoMedium):
    """Viscosity of the medium (Pa s: air 0.00002, water 0.001, oil 0.1), which brakes in proportion to the speed."""

    fields = ("opt.viscosity",)
    usual = (0.01, 1.0)
