"""Gymnasium's robots side by side: SB3's vectorised environment with all physics in one `mujoco.batch.Batch`.

`BatchMujoco` is a `DummyVecEnv` whose steps cost less. Its rows are ordinary environments (`envs.make_env`), and
whatever happens once an episode is left to them: resets with their own random numbers, switches, rendering, methods
called from outside. Only the steps are shared: one call moves the physics of all rows, each on its row's own live
model, and observations, rewards and ends of episodes are computed for all rows at once, with the operations of
Gymnasium's own code in its order, so that they are the same numbers to the last bit.

Between two steps the state of the simulations is in the batch. A row's own `MjData` is brought up to date when it is
asked for: before rendering, `env_method` and `get_attr`. What `env_method` does to it counts; what is written into an
`MjData` that was got with `get_attr` may not. Models are live at all times.

Contact forces (of Ant and Humanoid, unless `include_cfrc_ext_in_observation` is false and `contact_cost_weight` is 0)
can be computed from a whole `MjData` only. The physics are then stepped in the rows' own, one after the other, which
saves less.
"""

import functools
import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar, SupportsFloat

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.envs.mujoco.ant_v5 import AntEnv
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv
from gymnasium.envs.mujoco.humanoid_v5 import HumanoidEnv, mass_center
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv, expand_model_path
from gymnasium.envs.mujoco.swimmer_v5 import SwimmerEnv
from gymnasium.envs.mujoco.walker2d_v5 import Walker2dEnv
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from configs.settings import did_you_mean
from envs import split_id
from envs.changes.base import Change
from envs.course import Course
from envs.nonstationary import NonStationary
from envs.tasks import Tasks

try:
    from mujoco.batch import Batch
except ImportError:  # MuJoCo before 3.17
    Batch = None

STATE = int(mujoco.mjtState.mjSTATE_INTEGRATION)
"""What a row of the batch holds: everything that the next step depends on."""
FITTING = {
    f"envs.changes.{name}"
    for name in ("actions", "delays", "locomotion", "mujoco", "observations", "rewards", "sensors")
}
"""Where the changes are that act on models, or on what passes between agent and environment, and on nothing else."""
LAYERS = (Monitor, NonStationary, TimeLimit, OrderEnforcing, PassiveEnvChecker)
"""Wrappers whose part in a step the batch takes over, or may leave out."""

Array = NDArray[Any]


class BatchError(ValueError):
    """The batch cannot step an environment as Gymnasium does; one sentence says why."""


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
        x_velocity, y_velocity = self.velocity().T
        forward = self.forward_weight * x_velocity
        healthy = self.healthy()
        survival = healthy * self.healthy_reward
        contact = self.contact_costs()
        at = self.qpos[:, :2]
        shown = zip(*at.T, distance(at), x_velocity, y_velocity, forward, -costs, -contact, survival, strict=True)
        return forward + survival - (costs + contact), self.ends(healthy), shown


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
        x_velocity, y_velocity = self.velocity().T
        forward = self.forward_weight * x_velocity
        healthy = self.healthy()
        survival = healthy * self.healthy_reward
        contact = np.clip(self.contact_costs(), *self.cost_range)
        at = self.qpos[:, :2]
        lengths, speeds = (tendon.copy() for tendon in self.tendons)
        shown = zip(
            *at.T, lengths, speeds, distance(at), x_velocity, y_velocity, survival, forward, -costs, -contact,
            strict=True,
        )  # fmt: skip
        return forward + survival - (costs + contact), self.ends(healthy), shown


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
NAMES = ", ".join(f"{kind.__name__}-v5" for kind in ROBOTS.values())


class BatchMujoco(DummyVecEnv):
    """`DummyVecEnv` of changing MuJoCo environments, with the physics of all in one batch.

    Whatever a step returns is what `DummyVecEnv` would return with the same rows: observations and rewards bit for
    bit, and infos with all that the wrappers write into them.

        >>> make = functools.partial(make_env, "Hopper-v5", tasks, stride=8)
        >>> vec_env = BatchMujoco([make] * 8)

    Args:
        env_fns: what make the rows, each as `envs.make_env` makes it.
        nthread: threads that step the physics, where no contact forces are needed; the results are the same with any
            number.

    Raises:
        BatchError: the batch does not support these environments.
        ValueError: nthread is below 1.
    """

    def __init__(self, env_fns: Sequence[Callable[[], gym.Env[Any, Any]]], nthread: int = 1) -> None:
        if nthread < 1:
            raise ValueError(f"nthread must be at least 1, not {nthread}")
        if lacking := _lacking():
            raise BatchError(f"there is no batch: {lacking}")
        rows = len(env_fns)
        self._behind = [False] * rows
        self._changed: set[int] = set()
        super().__init__(list(env_fns))
        for env in self.envs:
            if misfit := _misfit(env):
                self.close()
                name = env.spec.id if env.spec else type(env.unwrapped).__name__
                raise BatchError(f"{name} is not supported by the batch: {misfit}")
        inner: list[Any] = [env.unwrapped for env in self.envs]
        if len({(type(env), repr(env.spec and env.spec.kwargs)) for env in inner}) > 1:
            self.close()
            raise BatchError("all rows of a batch must be the same environment with the same settings")
        self._inner = inner
        self._frame_skip = int(inner[0].frame_skip)
        self._batch = Batch(inner[0].model, rows, nthread)
        self._state = self._batch.state
        self._before = self._state.copy()
        self._robot = ROBOTS[type(inner[0])](inner, self._batch)
        self._feeling = self._robot.feels
        self._read_models()
        self._shape, self._dtype = (rows, *(self.observation_space.shape or ())), self.observation_space.dtype
        self._courses: list[Course] = [_layer(env, NonStationary).course for env in self.envs]
        self._limits = [_layer(env, TimeLimit) for env in self.envs]
        self._monitors = [_layer(env, Monitor) for env in self.envs]
        changes = [type(change) for course in self._courses for change in course.tasks.changes.values()]
        self._acting = any(change.action is not Change.action for change in changes)
        self._seeing = any(change.observation is not Change.observation for change in changes) or any(
            course.tasks.signal == "context" for course in self._courses
        )
        for row, course in enumerate(self._courses):
            course.applied = functools.partial(self._changed.add, row)

    def step_wait(self) -> VecEnvStepReturn:
        """Step all rows; those whose episode ends are reset at once.

        Raises:
            ResetNeeded: as `NonStationary.step`.
            RuntimeError: there was no reset yet.
            ValueError: the actions are not as many numbers as there are motors.
        """
        actions = self._act()
        if self._changed:
            self._read_models()
        robot = self._robot
        if self._feeling:
            self._step_rows()
        else:
            np.copyto(self._before, self._state)
            self._batch.step(nstep=self._frame_skip)
            self._behind = [True] * self.num_envs
        raw = robot.observations()
        gains, ends, shown = robot.outcomes(robot.control_costs(actions))
        seen = np.empty(self._shape, self._dtype) if self._seeing else raw
        rewards, dones, infos = [], [], []
        rows = zip(self._courses, self._limits, self._monitors, gains, ends, shown, strict=True)
        for row, (course, limit, monitor, gain, terminated, values) in enumerate(rows):
            info = dict(zip(robot.shown, values, strict=True))
            truncated = False
            if limit is not None:
                limit._elapsed_steps += 1
                truncated = limit._elapsed_steps >= limit._max_episode_steps
            reward, truncated = course.finish(gain, terminated, truncated, info)
            if self._seeing:
                seen[row] = course.observation(raw[row])
            done = terminated or truncated
            if monitor is not None:
                _report(monitor, reward, done, info)
            info["TimeLimit.truncated"] = truncated and not terminated
            if done:
                info["terminal_observation"] = seen[row].copy()
                seen[row], self.reset_infos[row] = self.envs[row].reset()
                self._push(row)
            rewards.append(reward)
            dones.append(done)
            infos.append(info)
        return seen, np.array(rewards, np.float32), np.array(dones), infos

    def reset(self) -> VecEnvObs:
        """Reset all rows."""
        observations = super().reset()
        for row in range(self.num_envs):
            self._push(row)
        return observations

    def get_images(self) -> Sequence[Array | None]:
        """A picture of every row."""
        for row in range(self.num_envs):
            self._pull(row)
        return super().get_images()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of the rows, whose `MjData` are brought up to date before."""
        rows = list(self._get_indices(indices))
        for row in rows:
            self._pull(row)
        self._changed.update(rows)
        return super().get_attr(attr_name, rows)

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Call a method of the rows; whatever it does to their models and states is taken over."""
        rows = list(self._get_indices(indices))
        for row in rows:
            self._pull(row)
        try:
            return super().env_method(method_name, *args, indices=rows, **kwargs)
        finally:
            for row in rows:
                if self._moved(row):
                    self._push(row)
            self._changed.update(rows)

    def _act(self) -> Array | list[Array]:
        """Write the actions into the batch, and return them as changes of actions have made them.

        They are a list where some are of another precision than others.
        """
        given = np.asarray(self.actions)
        shape = self._robot.ctrl.shape
        if given.shape != shape:
            raise ValueError(
                f"the actions must be {shape[0]} rows of {shape[1]} numbers, not of the shape {given.shape}"
            )
        if any(monitor.needs_reset for monitor in self._monitors if monitor is not None):
            raise RuntimeError("the environments wait for their first reset()")
        acted = [course.action(action) for course, action in zip(self._courses, given, strict=True)]
        if self._acting:
            acted = [np.asarray(action) for action in acted]
            if len({action.dtype for action in acted}) > 1:
                self._robot.ctrl[...] = acted
                return acted
            given = np.array(acted)
        self._robot.ctrl[...] = given
        return given

    def _step_rows(self) -> None:
        """Step the physics in the rows' own `MjData`, from which contact forces can be computed."""
        for row, env in enumerate(self._inner):
            model, data = env.model, env.data
            data.ctrl[:] = self._robot.ctrl[row]
            mujoco.mj_step(model, data, nstep=self._frame_skip)
            mujoco.mj_rnePostConstraint(model, data)
            mujoco.mj_getState(model, data, self._state[row], STATE)
        self._robot.copy()

    def _read_models(self) -> None:
        """Tell the batch, and what computes the steps, that models have changed."""
        self._batch.set_models([env.model for env in self._inner])
        self._robot.read_models()
        self._changed.clear()

    def _push(self, row: int) -> None:
        """Take over the state of a row's own `MjData`."""
        mujoco.mj_getState(self._inner[row].model, self._inner[row].data, self._state[row], STATE)
        self._robot.load(row)
        self._behind[row] = False

    def _moved(self, row: int) -> bool:
        """Whether a row's own `MjData`, which was up to date, no longer is in the state of the batch."""
        state = np.empty_like(self._state[row])
        mujoco.mj_getState(self._inner[row].model, self._inner[row].data, state, STATE)
        return not np.array_equal(state, self._state[row])

    def _pull(self, row: int) -> None:
        """Bring a row's own `MjData` up to date.

        The row takes the last step again, so that not only the state is the same but everything that is computed on
        the way to it, a substep behind. Where the model has changed since, it is computed for the present state.
        """
        if not self._behind[row]:
            return
        self._behind[row] = False
        env = self._inner[row]
        mujoco.mj_setState(env.model, env.data, self._before[row], STATE)
        mujoco.mj_step(env.model, env.data, nstep=self._frame_skip)
        mujoco.mj_rnePostConstraint(env.model, env.data)
        if row in self._changed:
            mujoco.mj_setState(env.model, env.data, self._state[row], STATE)
            mujoco.mj_forward(env.model, env.data)
        mujoco.mj_setState(env.model, env.data, self._state[row], STATE)


def supports(env_id: str, tasks: Tasks, env_kwargs: Mapping[str, Any] | None = None) -> str | None:
    """Why `BatchMujoco` cannot step an environment that changes as `tasks` say; None where it can.

    Args:
        env_id: the environment, as for `envs.make_env`.
        tasks: what changes and when.
        env_kwargs: further arguments of the environment.
    """
    if lacking := _lacking():
        return lacking
    try:
        env_id, arguments = split_id(env_id)
        spec = gym.spec(env_id)
    except (ValueError, ImportError, gym.error.Error) as error:
        return str(error)
    entry = spec.entry_point
    kind = next((kind for kind in ROBOTS if entry in (kind, f"{kind.__module__}:{kind.__name__}")), None)
    if kind is None:
        return f"it steps {NAMES} only{did_you_mean(env_id, NAMES.split(', '))}"
    if spec.additional_wrappers:
        return f"it does not know the wrapper {spec.additional_wrappers[0].name}"
    settings = {name: entry.default for name, entry in inspect.signature(kind).parameters.items()}
    settings |= spec.kwargs | arguments | dict(env_kwargs or {})
    return _wrong_setting(kind, settings) or _strange_change(tasks)


def _lacking() -> str | None:
    """What is missing for any batch."""
    if not hasattr(Batch, "set_models"):
        return f"it needs mujoco.batch, of MuJoCo 3.17 or newer, and this is MuJoCo {mujoco.__version__}"
    return None if hasattr(np, "vecdot") else f"it needs NumPy 2, and this is NumPy {np.__version__}"


def _wrong_setting(kind: type[MujocoEnv], settings: Mapping[str, Any]) -> str | None:
    """Which setting of an environment the batch does not support."""
    own = inspect.signature(kind).parameters["xml_file"].default
    if settings["xml_file"] not in (own, expand_model_path(own)):
        return f"it needs Gymnasium's own model, not xml_file={settings['xml_file']!r}"
    if settings.get("render_mode") == "human":
        return "it renders when asked to only: choose render_mode='rgb_array'"
    return None


def _strange_change(tasks: Tasks) -> str | None:
    """Which change may act on a simulation in ways that the batch would miss."""
    for label, change in tasks.changes.items():
        kind = type(change)
        if kind.wrap is not Change.wrap:
            return f"the change {label} ({change.name}) wraps the environment"
        if not any(kind.__module__ == fitting or kind.__module__.startswith(f"{fitting}.") for fitting in FITTING):
            return f"it does not know how the change {label} ({change.name}) acts"
    return None


def _misfit(env: gym.Env[Any, Any]) -> str | None:
    """Why the batch cannot step a row."""
    inner: Any = env.unwrapped
    kind = type(inner)
    if kind not in ROBOTS:
        return f"it steps {NAMES} only"
    layers = list(_layers(env))
    strange = [layer for at, layer in enumerate(layers) if layer not in LAYERS or layer in layers[:at]]
    if strange:
        return f"it does not know the wrapper {strange[0].__name__}"
    course = _layer(env, NonStationary)
    if course is None:
        return "its rows must be made by envs.make_env"
    monitor = _layer(env, Monitor)
    if monitor is not None and (monitor.results_writer or monitor.info_keywords or monitor.reset_keywords):
        return "its rows' monitors write no file and take no keywords"
    settings = {"xml_file": inner.fullpath, "render_mode": inner.render_mode}
    return _wrong_setting(kind, settings) or _strange_change(course.tasks)


def _layers(env: gym.Env[Any, Any]) -> Iterator[type[gym.Wrapper[Any, Any, Any, Any]]]:
    """The wrappers around an environment, from the outermost."""
    while isinstance(env, gym.Wrapper):
        yield type(env)
        env = env.env


def _layer(env: gym.Env[Any, Any], kind: type[Any]) -> Any:
    """The wrapper of exactly this kind around an environment; None where there is none."""
    while isinstance(env, gym.Wrapper):
        if type(env) is kind:
            return env
        env = env.env
    return None


def _report(monitor: Monitor[Any, Any], reward: SupportsFloat, done: bool, info: dict[str, Any]) -> None:
    """Have a monitor count a step, and report the episode where this is its last, as its own `step` does."""
    monitor.rewards.append(float(reward))
    monitor.total_steps += 1
    if done:
        monitor.needs_reset = True
        total, length = sum(monitor.rewards), len(monitor.rewards)
        seconds = time.time() - monitor.t_start
        monitor.episode_returns.append(total)
        monitor.episode_lengths.append(length)
        monitor.episode_times.append(seconds)
        info["episode"] = {"r": round(total, 6), "l": length, "t": round(seconds, 6)}
