"""What can change in an environment: one family of changes a file, all of them registered here."""

from envs.changes.actions import ActionPermutation
from envs.changes.base import Change, ChangeError, ScalarChange
from envs.changes.classic import Cartpole, Pendulum
from envs.changes.mujoco import MujocoFriction, MujocoGravity
from envs.changes.observations import ObservationPermutation, ObservationRotation
from envs.changes.rewards import RewardScale

__all__ = ["CHANGES", "Change", "ChangeError", "ScalarChange"]

CHANGES: dict[str, type[Change]] = {
    "observation_permutation": ObservationPermutation,
    "observation_rotation": ObservationRotation,
    "action_permutation": ActionPermutation,
    "reward_scale": RewardScale,
    "cartpole": Cartpole,
    "pendulum": Pendulum,
    "mujoco_friction": MujocoFriction,
    "mujoco_gravity": MujocoGravity,
}
