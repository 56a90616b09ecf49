"""What Gymnasium's robots compute at a step, for many at once: observations, rewards, ends of episodes, infos.

The operations are those of Gymnasium's own code, in its order, so that all numbers are the same to the last bit.
`envs.fleet` steps the physics.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import mujoco
import numpy as np
from gymnasium.envs.mujoco.ant_v5 import AntEnv
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv
from gymnasium.envs.mujoco.humanoid_v5 import HumanoidEnv, mass_center
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv
from gymnasium.envs.mujoco.swimmer_v5 import SwimmerEnv
from gymnasium.envs.mujoco.walker2d_v5 import Walker2dEnv
from numpy.typing import NDArray

Array = NDArray[Any]


class Robot:
    """What one kind of environment computes at a step, for all rows at once.

    Args:
        envs: the rows' environments, without wrappers.
        batch: their simulations.
    """

    axes: ClassVar[int] = 1
    """Directions in which it travels: leading positions, which Gymnasium leaves out of observations by default."""
    shown: ClassVar[tuple[str, ...]]
    """The keys of its infos, in Gymnasium's order."""

    def __init__(self, envs: Sequence[Any], batch: Any) -> None:
        env = envs[0]
        self.envs, self.batch = envs, batch
        # Contact forces are in the observations, or have a price. A batch does not compute them.
        self.feels = bool(
            getattr(env, "_include_cfrc_ext_in_observation", False) or getattr(env, "_contact_cost_weight", 0)
        )
        self.copies: dict[str, Array] = {}
        self.qpos, self.ctrl = batch.bind("qpos"), batch.bind("ctrl")
        # Positions and velocities are neighbours in a row of the batch.
        start = mujoco.mj_stateSize(env.model, int(mujoco.mjtState.mjSTATE_TIME))
        self.state = batch.state[:, start : start + env.model.nq + env.model.nv]
        self.first = self.axes if env._exclude_current_positions_from_observation else 0
        self.visible = self.state[:, self.first :]
        self.forward_weight = env._forward_reward_weight
        self.control_weight = env._ctrl_cost_weight
        self.at = np.zeros((len(envs), self.axes))

    def derived(self, name: str) -> Array:
        """A field of `MjData` that a step computes [rows, ...]: the batch's, or else copied from the rows'."""
        if not self.feels:
            found: Array = self.batch.bind(name)
            return found
        self.copies[name] = np.zeros((len(self.envs), *getattr(self.envs[0].data, name).shape))
        return self.copies[name]

    def copy(self) -> None:
        """Copy derived fields from the rows' own `MjData`."""
        for row, env in enumerate(self.envs):
            for name, array in self.copies.items():
                array[row] = getattr(env.data, name)

    def read_models(self) -> None:
        """Note what a step needs of the rows' models; they have been changed."""
        self.dt = np.array([[env.dt] for env in self.envs])

    def load(self, row: int) -> None:
        """Note what a step needs of a row's simulation, which now is what the row's own `MjData` is."""
        self.at[row] = self.qpos[row, : self.axes]

    def state_dict(self, rows: slice) -> dict[str, Array]:
        """What is remembered of some rows from one step to the next, beside the simulations."""
        return {"at": self.at[rows].copy()}

    def load_state_dict(self, rows: slice, state: Mapping[str, Array]) -> None:
        """Go on, in some rows, from what `state_dict` gave."""
        self.at[rows] = state["at"]

    def control_costs(self, actions: Array | list[Array]) -> Array:
        """Costs of the rows' actions, in the precision that the actions have."""
        if isinstance(actions, list):
            return np.array([self.control_weight * np.add.reduce(np.square(action)) for action in actions])
        costs: Array = self.control_weight * np.add.reduce(np.square(actions), axis=1)
        return costs

    def observations(self) -> Array:
        """What Gymnasium would return [rows, ...], in a new array."""
        observations: Array = self.visible.copy()
        return observations

    def place(self) -> Array:
        """Where the rows are [rows, axes], in a new array."""
        place: Array = self.qpos[:, : self.axes].copy()
        return place

    def velocity(self) -> Array:
        """How fast they have come to where they are now since the last call [rows, axes]."""
        before, self.at = self.at, self.place()
        velocity: Array = (self.at - before) / self.dt
        return velocity

    def outcomes(self, costs: Array) -> tuple[Array, list[bool], Iterable[tuple[Any, ...]]]:
        """Rewards of the step that was taken, whether episodes terminate, and the values of the infos, by row."""
        raise NotImplementedError


class HalfCheetah(Robot):
    """HalfCheetah-v5."""

    shown = ("x_position", "x_velocity", "reward_forward", "reward_ctrl")

    def outcomes(self, costs: Array) -> tuple[Array, list[bool], Iterable[tuple[Any, ...]]]:
        """Speed less control; there is no end."""
        (velocity,) = self.velocity().T
        forward = self.forward_weight * velocity
        shown = zip(self.qpos[:, 0], velocity, forward, -costs, strict=True)
        return forward - costs, [False] * len(costs), shown


class Swimmer(Robot):
    """Swimmer-v5."""

    axes = 2
    shown = (
        "x_position", "y_position", "distance_from_origin", "x_velocity", "y_velocity", "reward_forward", "reward_ctrl",
    )  # fmt: skip

    def outcomes(self, costs: Array) -> tuple[Array, list[bool], Iterable[tuple[Any, ...]]]:
        """Speed along x less control; there is no end."""
        x_velocity, y_velocity = self.velocity().T
        forward = self.forward_weight * x_velocity
        shown = zip(*self.at.T, distance(self.at), x_velocity, y_velocity, forward, -costs, strict=True)
        return forward - costs, [False] * len(costs), shown


class Faller(Robot):
    """Base of those that are rewarded for not having fallen."""

    def __init__(self, envs: Sequence[Any], batch: Any) -> None:
        super().__init__(envs, batch)
        env = envs[0]
        self.healthy_reward = env._healthy_reward
        self.lowest, self.highest = env._healthy_z_range
        self.terminates = env._terminate_when_unhealthy

    def healthy(self) -> Array:
        """Which rows have not fallen."""
        raise NotImplementedError

    def gait(self) -> tuple[Array, Array, Array, Array, list[bool]]:
        """Of those that travel in two directions: velocities, rewards for speed and for health, terminations."""
        x_velocity, y_velocity = self.velocity().T
        healthy = self.healthy()
        return (
            x_velocity,
            y_velocity,
            self.forward_weight * x_velocity,
            healthy * self.healthy_reward,
            self.ends(healthy),
        )

    def ends(self, healthy: Array) -> list[bool]:
        """Which episodes terminate."""
        ends: list[bool] = np.logical_not(healthy).tolist()
        return ends if self.terminates else [False] * len(ends)


class Walker2d(Faller):
    """Walker2d-v5."""

    shown = (
        "x_position", "z_distance_from_origin", "x_velocity", "reward_forward", "reward_ctrl", "reward_survive",
    )  # fmt: skip

    def __init__(self, envs: Sequence[Any], batch: Any) -> None:
        super().__init__(envs, batch)
        self.height = envs[0].init_qpos[1]
        # Height and angle, and between what they must be.
        self.bounded = self.qpos[:, 1:3]
        self.low, self.high = np.transpose([envs[0]._healthy_z_range, envs[0]._healthy_angle_range])

    def observations(self) -> Array:
        """Positions and clipped velocities."""
        seen = super().observations()
        velocities = seen[:, self.qpos.shape[1] - self.first :]
        # As np.clip, in less time.
        np.maximum(velocities, -10, out=velocities)
        np.minimum(velocities, 10, out=velocities)
        return seen

    def healthy(self) -> Array:
        """All that is bounded within its bounds."""
        healthy: Array = np.logical_and.reduce((self.low < self.bounded) & (self.bounded < self.high), axis=1)
        return healthy

    def outcomes(self, costs: Array) -> tuple[Array, list[bool], Iterable[tuple[Any, ...]]]:
        """Speed and health less control."""
        (velocity,) = self.velocity().T
        forward = self.forward_weight * velocity
        healthy = self.healthy()
        survival = self.survival(healthy)
        x, z = self.qpos[:, 0], self.qpos[:, 1]
        shown = zip(x, z - self.height, velocity, forward, -costs, survival, strict=True)
        return forward + survival - costs, self.ends(healthy), shown

    def survival(self, healthy: Array) -> Any:
        """Rewards for health."""
        return healthy * self.healthy_reward


class Hopper(Walker2d):
    """Hopper-v5."""

    def __init__(self, envs: Sequence[Any], batch: Any) -> None:
        super().__init__(envs, batch)
        # All but two numbers of the state are bounded, of which the first is the angle, too.
        low, high = envs[0]._healthy_state_range
        self.bounded = self.state[:, 1:]
        others = self.bounded.shape[1] - 2
        self.low = np.array([self.low[0], max(self.low[1], low), *[low] * others])
        self.high = np.array([self.high[0], min(self.high[1], high), *[high] * others])

    def survival(self, healthy: Array) -> Any:
        """Rewards for health; numbers of Python's, not of NumPy's, as they are in this environment alone."""
        return super().survival(healthy).tolist()


class Feeler(Faller):
    """Base of those that feel, or pay for, the forces of contacts, unless they are told not to."""

    axes = 2

    def __init__(self, envs: Sequence[Any], batch: Any) -> None:
        super().__init__(envs, batch)
        self.contact_weight = envs[0]._contact_cost_weight
        self.no_costs = np.zeros(len(envs))
        if self.feels:
            self.forces = self.derived("cfrc_ext").reshape(len(envs), -1)

    def contact_costs(self) -> Array:
        """Costs of the forces."""
        if not self.feels:
            return self.no_costs
        costs: Array = self.contact_weight * np.add.reduce(np.square(self.forces), axis=1)
        return costs


class Ant(Feeler):
    """Ant-v5."""

    shown = (
        "x_position", "y_position", "distance_from_origin", "x_velocity", "y_velocity",
        "reward_forward", "reward_ctrl", "reward_contact", "reward_survive",
    )  # fmt: skip

    def __init__(self, envs: Sequence[Any], batch: Any) -> None:
        super().__init__(envs, batch)
        self.force_range = envs[0]._contact_force_range
        self.body = envs[0].data.body(envs[0]._main_body).id
        self.places = self.derived("xpos")[:, self.body, :2]
        self.seen_forces = self.forces[:, 6:] if envs[0]._include_cfrc_ext_in_observation else None

    def load(self, row: int) -> None:
        """Note where the main body is: in Gymnasium, too, positions of bodies are a substep behind the state."""
        self.at[row] = self.envs[row].data.xpos[self.body, :2]

    def copy(self) -> None:
        """Copy derived fields, and clip the forces."""
        super().copy()
        np.clip(self.forces, *self.force_range, out=self.forces)

    def observations(self) -> Array:
        """State, and forces on the bodies."""
        seen = super().observations()
        return seen if self.seen_forces is None else np.concatenate([seen, self.seen_forces], axis=1)

    def place(self) -> Array:
        """Where the main bodies are."""
        place: Array = self.places.copy()
        return place

    def healthy(self) -> Array:
        """All numbers finite, and the height within its range, both ends included."""
        z = self.qpos[:, 2]
        finite: Array = np.logical_and.reduce(np.isfinite(self.state), axis=1)
        healthy: Array = finite & (self.lowest <= z) & (z <= self.highest)
        return healthy

    def outcomes(self, costs: Array) -> tuple[Array, list[bool], Iterable[tuple[Any, ...]]]:
        """Speed along x and health less control and contacts."""
        x_velocity, y_velocity, forward, survival, ends = self.gait()
        contact = self.contact_costs()
        at = self.qpos[:, :2]
        shown = zip(*at.T, distance(at), x_velocity, y_velocity, forward, -costs, -contact, survival, strict=True)
        return forward + survival - (costs + contact), ends, shown


class Humanoid(Feeler):
    """Humanoid-v5."""

    shown = (
        "x_position", "y_position", "tendon_length", "tendon_velocity", "distance_from_origin", "x_velocity",
        "y_velocity", "reward_survive", "reward_forward", "reward_ctrl", "reward_contact",
    )  # fmt: skip

    def __init__(self, envs: Sequence[Any], batch: Any) -> None:
        super().__init__(envs, batch)
        env, rows = envs[0], len(envs)
        # One substep behind the state, in Gymnasium too.
        self.tendons = self.derived("ten_length"), self.derived("ten_velocity")
        self.xipos = self.derived("xipos")
        self.bodies = np.zeros(self.xipos.shape)
        self.masses = [(env.model, SimpleNamespace(xipos=self.bodies[row])) for row, env in enumerate(envs)]
        self.parts = [self.visible]
        if env._include_cinert_in_observation is True:
            self.parts.append(self.derived("cinert")[:, 1:].reshape(rows, -1))
        if env._include_cvel_in_observation is True:
            self.parts.append(self.derived("cvel")[:, 1:].reshape(rows, -1))
        if env._include_qfrc_actuator_in_observation is True:
            self.parts.append(self.derived("qfrc_actuator")[:, 6:])
        if env._include_cfrc_ext_in_observation is True:
            self.parts.append(self.forces[:, 6:])
        self.cost_range = env._contact_cost_range

    def read_models(self) -> None:
        """Note the durations of steps, and weigh the bodies anew: their masses may have changed."""
        super().read_models()
        self.at = self.centers()

    def load(self, row: int) -> None:
        """Note where the bodies are."""
        self.bodies[row] = self.envs[row].data.xipos
        self.at[row] = mass_center(*self.masses[row])  # type: ignore[no-untyped-call]

    def state_dict(self, rows: slice) -> dict[str, Array]:
        """Where the bodies and their centres are: if masses change before the next step, the centres do."""
        return super().state_dict(rows) | {"bodies": self.bodies[rows].copy()}

    def load_state_dict(self, rows: slice, state: Mapping[str, Array]) -> None:
        """Go on, in some rows, from what `state_dict` gave."""
        super().load_state_dict(rows, state)
        self.bodies[rows] = state["bodies"]

    def place(self) -> Array:
        """The centres of the masses."""
        np.copyto(self.bodies, self.xipos)
        return self.centers()

    def centers(self) -> Array:
        """Gymnasium's centres of masses."""
        centers = [mass_center(*masses) for masses in self.masses]  # type: ignore[no-untyped-call]
        return np.array(centers)

    def control_costs(self, actions: Array | list[Array]) -> Array:
        """Costs of the controls that the simulation was left with, in double precision."""
        return super().control_costs(self.ctrl)

    def observations(self) -> Array:
        """State, inertias and velocities of bodies, forces of actuators and contacts."""
        return np.concatenate(self.parts, axis=1)

    def healthy(self) -> Array:
        """Height within its range."""
        z = self.qpos[:, 2]
        healthy: Array = (self.lowest < z) & (z < self.highest)
        return healthy

    def outcomes(self, costs: Array) -> tuple[Array, list[bool], Iterable[tuple[Any, ...]]]:
        """Speed along x and health less control and contacts."""
        x_velocity, y_velocity, forward, survival, ends = self.gait()
        contact = np.clip(self.contact_costs(), *self.cost_range)
        at = self.qpos[:, :2]
        lengths, speeds = (tendon.copy() for tendon in self.tendons)
        shown = zip(
            *at.T, lengths, speeds, distance(at), x_velocity, y_velocity, survival, forward, -costs, -contact,
            strict=True,
        )  # fmt: skip
        return forward + survival - (costs + contact), ends, shown


def distance(at: Array) -> Array:
    """The distances of points [rows, 2] from the origin, with the same dot product as `np.linalg.norm` of each."""
    distances: Array = np.sqrt(np.vecdot(at, at))
    return distances


ROBOTS: dict[type[MujocoEnv], type[Robot]] = {
    AntEnv: Ant,
    HalfCheetahEnv: HalfCheetah,
    HopperEnv: Hopper,
    HumanoidEnv: Humanoid,
    SwimmerEnv: Swimmer,
    Walker2dEnv: Walker2d,
}
