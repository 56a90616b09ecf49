"""What can change in an environment: one family of changes a file, all of them registered here."""

from envs.changes.actions import ActionFlip, ActionNoise, ActionPermutation, ActionScale, ActionSticky
from envs.changes.attribute import Attribute
from envs.changes.base import Change, ChangeError, ScalarChange
from envs.changes.box2d import BipedalWalker, CarRacing, LunarLander
from envs.changes.classic import Acrobot, Cartpole, MountainCar, Pendulum
from envs.changes.delays import ActionDelay, ObservationDelay, RewardDelay
from envs.changes.environment import Environment
from envs.changes.grid import NineRoomsGoal
from envs.changes.locomotion import LocomotionDirection, LocomotionVelocity
from envs.changes.mujoco import (
    MujocoActuatorFailure,
    MujocoArmature,
    MujocoDamping,
    MujocoDensity,
    MujocoFriction,
    MujocoGear,
    MujocoGravity,
    MujocoJointRange,
    MujocoMass,
    MujocoViscosity,
    MujocoWind,
)
from envs.changes.observations import ObservationMask, ObservationPermutation, ObservationRotation
from envs.changes.rewards import RewardNoise, RewardOffset, RewardScale
from envs.changes.sensors import ObservationGains, ObservationNoise, ObservationOffset, ObservationScale

__all__ = ["CHANGES", "Change", "ChangeError", "ScalarChange"]

CHANGES: dict[str, type[Change]] = {
    "observation_permutation": ObservationPermutation,
    "observation_rotation": ObservationRotation,
    "observation_mask": ObservationMask,
    "observation_offset": ObservationOffset,
    "observation_scale": ObservationScale,
    "observation_gains": ObservationGains,
    "observation_noise": ObservationNoise,
    "observation_delay": ObservationDelay,
    "action_permutation": ActionPermutation,
    "action_flip": ActionFlip,
    "action_scale": ActionScale,
    "action_noise": ActionNoise,
    "action_sticky": ActionSticky,
    "action_delay": ActionDelay,
    "reward_scale": RewardScale,
    "reward_offset": RewardOffset,
    "reward_noise": RewardNoise,
    "reward_delay": RewardDelay,
    "locomotion_direction": LocomotionDirection,
    "locomotion_velocity": LocomotionVelocity,
    "environment": Environment,
    "attribute": Attribute,
    "cartpole": Cartpole,
    "pendulum": Pendulum,
    "acrobot": Acrobot,
    "mountain_car": MountainCar,
    "lunar_lander": LunarLander,
    "bipedal_walker": BipedalWalker,
    "car_racing": CarRacing,
    "nine_rooms_goal": NineRoomsGoal,
    "mujoco_friction": MujocoFriction,
    "mujoco_gravity": MujocoGravity,
    "mujoco_mass": MujocoMass,
    "mujoco_damping": MujocoDamping,
    "mujoco_armature": MujocoArmature,
    "mujoco_joint_range": MujocoJointRange,
    "mujoco_gear": MujocoGear,
    "mujoco_actuator_failure": MujocoActuatorFailure,
    "mujoco_wind": MujocoWind,
    "mujoco_density": MujocoDensity,
    "mujoco_viscosity": MujocoViscosity,
}
