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

In the rows' models the solver does not look for islands of constraints: a robot is one kinematic tree, and so one
island at most. That leaves all numbers as they are, to the last bit, and saves a sixteenth of Ant's physics.
"""

import functools
import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, SupportsFloat

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv, expand_model_path
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit
from stable_baselines3.common.monitor import Monitor as PlainMonitor
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from configs.settings import did_you_mean
from envs import split_id
from envs.changes.base import Change
from envs.course import Course
from envs.monitor import Monitor
from envs.nonstationary import NonStationary
from envs.robots import ROBOTS, Array
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
MONITORS = (Monitor, PlainMonitor)
LAYERS = (*MONITORS, NonStationary, TimeLimit, OrderEnforcing, PassiveEnvChecker)
"""Wrappers whose part in a step the batch takes over, or may leave out."""


class BatchError(ValueError):
    """The batch cannot step an environment as Gymnasium does; one sentence says why."""


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
        for env in inner:
            _skip_islands(env.model)
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
        self._monitors = [_layer(env, *MONITORS) for env in self.envs]
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

    def state_dict(self) -> dict[str, Any]:
        """What is kept beside the rows: the simulations, and what a step needs of the one before."""
        return {
            "state": self._state.copy(),
            "before": self._before.copy(),
            "behind": list(self._behind),
            "changed": sorted(self._changed),
            "robot": self._robot.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave; the rows must have been brought there before."""
        self._read_models()
        np.copyto(self._state, state["state"])
        np.copyto(self._before, state["before"])
        self._behind = list(state["behind"])
        self._robot.load_state_dict(state["robot"])
        self._changed.update(state["changed"])

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


def _skip_islands(model: Any) -> None:
    """Have the solver not look for islands, groups of trees that constraints tie together, where there is one tree."""
    if model.ntree == 1:
        model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_ISLAND)


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
    strange += [layer for layer in layers if layer in MONITORS][1:]
    if strange:
        return f"it does not know the wrapper {strange[0].__name__}"
    course = _layer(env, NonStationary)
    if course is None:
        return "its rows must be made by envs.make_env"
    monitor = _layer(env, *MONITORS)
    if monitor is not None and (monitor.results_writer or monitor.info_keywords or monitor.reset_keywords):
        return "its rows' monitors write no file and take no keywords"
    settings = {"xml_file": inner.fullpath, "render_mode": inner.render_mode}
    return _wrong_setting(kind, settings) or _strange_change(course.tasks)


def _layers(env: gym.Env[Any, Any]) -> Iterator[type[gym.Wrapper[Any, Any, Any, Any]]]:
    """The wrappers around an environment, from the outermost."""
    while isinstance(env, gym.Wrapper):
        yield type(env)
        env = env.env


def _layer(env: gym.Env[Any, Any], *kinds: type[Any]) -> Any:
    """The outermost wrapper of exactly one of these kinds around an environment; None where there is none."""
    while isinstance(env, gym.Wrapper):
        if type(env) in kinds:
            return env
        env = env.env
    return None


def _report(monitor: Monitor, reward: SupportsFloat, done: bool, info: dict[str, Any]) -> None:
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
