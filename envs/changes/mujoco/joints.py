"""Changes of the joints of a MuJoCo model."""

from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.changes.mujoco.base import ALL, MujocoParts


@dataclass(kw_only=True)
class MujocoDofs(MujocoParts):
    """Base of the changes of what a model has for each degree of freedom of a joint (six of a free joint)."""

    joints: tuple[str, ...] = ALL
    """Names of joints, or all that have some; as an absolute value, joints named here may have none of their own."""

    kind = "joint"
    selections = ("joints",)
    not_negative = True

    def chosen(self) -> list[int]:
        """The joints named; a factor makes nothing of nothing."""
        model, field = self._model, self.fields[0]
        own = np.zeros(model.njnt)
        np.maximum.at(own, model.dof_jntid, self.array(field))
        named = self.mode == "absolute" and self.joints != ALL
        what = field.removeprefix("dof_")
        if self.mode == "factor":
            what += f" to multiply (mode absolute gives {what} to joints that are named)"
        return self.choose("joint", self.joints, np.full(model.njnt, True) if named else own > 0, what)

    def index(self) -> Any:
        """A joint's number is not that of its first degree of freedom: free and ball joints have several."""
        return np.flatnonzero(np.isin(self._model.dof_jntid, self._parts))


@dataclass(kw_only=True)
class MujocoDamping(MujocoDofs):
    """Damping of joints: the force against their motion, in proportion to its speed."""

    fields = ("dof_damping",)


@dataclass(kw_only=True)
class MujocoArmature(MujocoDofs):
    """Armature of joints: inertia of the rotors of their motors, which resists all acceleration of the joint."""

    fields = ("dof_armature",)
    derived = True


@dataclass(kw_only=True)
class MujocoJointRange(MujocoParts):
    """Width of the range in which limited joints can move.

    The place about which a range grows and shrinks is where the joint is in the model's initial configuration, or the
    end next to that where it is outside. So whatever is within its limits at first stays so, and a knee that bends one
    way only keeps doing so: -150 to 0 degrees becomes -75 to 0 by a factor of 0.5, and -45 to 45 becomes -22.5 to 22.5.
    As an absolute value, all ranges get this width (radians, or metres of sliding joints).
    """

    joints: tuple[str, ...] = ALL
    """Names of joints, or all that are limited."""

    fields = ("jnt_range",)
    kind = "joint"
    selections = ("joints",)

    @property
    def positive(self) -> bool:
        """Widths must be above 0."""
        return True

    def chosen(self) -> list[int]:
        """The joints named, which must be limited."""
        model = self._model
        width = model.jnt_range[:, 1] - model.jnt_range[:, 0]
        return self.choose("joint", self.joints, (model.jnt_limited != 0) & (width > 0), "limits")

    def numbers(self) -> NDArray[Any]:
        """The widths."""
        widths: NDArray[Any] = np.ptp(self._pristine["jnt_range"], axis=1)
        return widths

    def changed(self, field: str, own: NDArray[Any], value: float) -> ArrayLike:
        """Both ends, as far from the place that stays as the width says."""
        model = self._model
        initial = model.qpos0[model.jnt_qposadr[self._parts]]
        # The range of a ball joint is of its angle, from 0; its position is a quaternion.
        ball = model.jnt_type[self._parts] == mujoco.mjtJoint.mjJNT_BALL
        fixed = np.clip(np.where(ball, 0.0, initial), own[:, 0], own[:, 1])[:, np.newaxis]
        factor = value if self.mode == "factor" else (value / self.numbers())[:, np.newaxis]
        ends: NDArray[Any] = fixed + (own - fixed) * factor
        return ends
