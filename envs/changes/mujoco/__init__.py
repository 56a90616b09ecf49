"""Changes of the physics of MuJoCo environments, on the live model.

MuJoCo reads its model at every step, so a change is effective at once. What its compiler derived from a field is
derived anew where that is needed (`derived`). A reset of the environment leaves the model alone: what is written here
stays until it is overwritten.
"""

from envs.changes.mujoco.actuators import MujocoActuatorFailure, MujocoGear
from envs.changes.mujoco.base import MujocoChange
from envs.changes.mujoco.bodies import MujocoFriction, MujocoMass
from envs.changes.mujoco.joints import MujocoArmature, MujocoDamping, MujocoJointRange
from envs.changes.mujoco.world import MujocoDensity, MujocoGravity, MujocoViscosity, MujocoWind

__all__ = [
    "MujocoActuatorFailure",
    "MujocoArmature",
    "MujocoChange",
    "MujocoDamping",
    "MujocoDensity",
    "MujocoFriction",
    "MujocoGear",
    "MujocoGravity",
    "MujocoJointRange",
    "MujocoMass",
    "MujocoViscosity",
    "MujocoWind",
]
