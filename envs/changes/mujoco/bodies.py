"""Changes of the bodies of a MuJoCo model and of their surfaces."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.changes.mujoco.base import ALL, MujocoParts


@dataclass(kw_only=True)
class MujocoFriction(MujocoParts):
    """Sliding friction of geoms, of all at once by default (SlipperyAnt: Dohare et al. 2024, Nature 632).

    Friction at a contact is the greater of the two geoms' own: lowering the floor's alone does nothing. As an absolute
    value all geoms get the same; as a factor those that differ stay different.
    """

    draw: Literal["uniform", "log_uniform", "normal", "choice"] = "log_uniform"
    """How a value is drawn: evenly in its logarithm by default, as in SlipperyAnt."""
    low: float | None = 0.02
    """Lowest value drawn."""
    high: float | None = 2.0
    """Highest value drawn."""
    mode: Literal["absolute", "factor"] = "absolute"
    """Whether the values (and low and high) are the friction of all geoms, or factors on each geom's own."""
    geoms: tuple[str, ...] = ALL
    """Names of geoms, or all."""
    bodies: tuple[str, ...] = ALL
    """Names of bodies, whose geoms alone are changed, or all; the ground is a geom of `world`."""

    fields = ("geom_friction",)
    kind = "geom"
    selections = ("geoms", "bodies")

    @property
    def positive(self) -> bool:
        """Friction must be above 0."""
        return True

    def chosen(self) -> list[int]:
        """The geoms named, of the bodies named."""
        model = self._model
        bodies = self.choose("body", self.bodies, model.body_geomnum > 0, "geoms")
        where = "a place on anything" if self.bodies == ALL else f"place on {' or '.join(self.bodies)}"
        return self.choose("geom", self.geoms, np.isin(model.geom_bodyid, bodies), where)

    def index(self) -> Any:
        """Sliding friction is the first of three; the others are torsional and rolling."""
        return self._parts, 0


@dataclass(kw_only=True)
class MujocoMass(MujocoParts):
    """Mass of bodies, and their inertia by the same factor, as if their density changed.

    As an absolute value (kg) all chosen bodies get the same mass; name one, or choose a factor.
    """

    bodies: tuple[str, ...] = ALL
    """Names of bodies, or all that have mass."""

    fields = ("body_mass", "body_inertia")
    derived = True
    kind = "body"
    selections = ("bodies",)

    @property
    def positive(self) -> bool:
        """Masses must be above 0."""
        return True

    def chosen(self) -> list[int]:
        """The bodies named, which must have mass."""
        return self.choose("body", self.bodies, self._model.body_mass > 0, "mass")

    def changed(self, field: str, own: NDArray[Any], value: float) -> ArrayLike:
        """The mass, or the three moments of inertia in the same proportion."""
        if self.mode == "absolute" and field == "body_inertia":
            return own * (value / self.numbers())[:, np.newaxis]
        return super().changed(field, own, value)
