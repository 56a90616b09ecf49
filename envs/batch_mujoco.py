"""Gymnasium's robots side by side: SB3's vectorised environment with all physics in one `envs.fleet.Fleet`.

`BatchMujoco` is a `DummyVecEnv` whose steps cost less. What is written into an `MjData` that was got with `get_attr`
may not count; what `env_method` does to it does.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv, expand_model_path
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from configs.settings import did_you_mean
from envs import split_id
from envs.changes.base import Change
from envs.fleet import Fleet, Stepped, lacking
from envs.in_turn import InTurn
from envs.layers import Layers, unfit
from envs.robots import ROBOTS, Array
from envs.tasks import Tasks

FITTING = {
    f"envs.changes.{name}"
    for name in ("actions", "delays", "locomotion", "mujoco", "observations", "rewards", "sensors")
}
"""Where the changes are that act on models, or on what passes between agent and environment, and on nothing else."""


class BatchError(ValueError):
    """The batch cannot step an environment as Gymnasium does; one sentence says why."""


NAMES = ", ".join(f"{kind.__name__}-v5" for kind in ROBOTS.values())


class BatchMujoco(InTurn):
    """`DummyVecEnv` of changing MuJoCo environments, with the physics of all in one batch.

    Whatever a step returns is what `DummyVecEnv` would return with the same rows: observations and rewards bit for
    bit, and infos with all that the wrappers write into them.

        >>> make = functools.partial(make_env, "Hopper-v5", tasks, stride=8)
        >>> vec_env = BatchMujoco([make] * 8)

    Its rows may be a part of a larger fleet, which `envs.stepping.Steps` steps for many of them.

    Args:
        env_fns: what make the rows, each as `envs.make_env` makes it.

    Attributes:
        fleet: what steps the rows.
        rows: which rows of the fleet they are.

    Raises:
        BatchError: the batch does not support these environments.
    """

    def __init__(self, env_fns: Sequence[Callable[[], gym.Env[Any, Any]]]) -> None:
        if missing := lacking():
            raise BatchError(f"there is no batch: {missing}")
        envs = [make() for make in env_fns]
        if misfit := next(filter(None, map(_misfit, envs)), None) or _unlike(envs):
            for env in envs:
                env.close()
            raise BatchError(misfit)
        self.fleet, self.rows = Fleet(envs), range(len(envs))
        self._taken: VecEnvStepReturn | None = None
        super().__init__([functools.partial(_itself, env) for env in envs])

    @property
    def kind(self) -> tuple[object, ...]:
        """What is the same in those whose rows can be stepped by one fleet."""
        space = self.observation_space
        return _kind(self.envs[0]), space.shape, space.dtype

    def move(self, fleet: Fleet, first: int) -> None:
        """Have the rows stepped by another fleet from now on, which has them from its row `first` on."""
        state = self.state_dict()
        self.fleet, self.rows = fleet, range(first, first + self.num_envs)
        self.load_state_dict(state)

    def step_async(self, actions: Array) -> None:
        """Note actions for `step_wait`, or for the fleet to take the step before."""
        self._taken = None
        super().step_async(actions)

    def given(self) -> Array:
        """The actions of `step_async`.

        Raises:
            ValueError: they are not as many numbers as there are motors.
        """
        given = np.asarray(self.actions)
        shape = (self.num_envs, *(self.action_space.shape or ()))
        if given.shape != shape:
            raise ValueError(
                f"the actions must be {shape[0]} rows of {shape[1]} numbers, not of the shape {given.shape}"
            )
        return given

    def take(self, stepped: Stepped) -> None:
        """Have `step_wait` return these rows' part of a step that the fleet has taken."""
        observations, rewards, dones, infos, resets = stepped
        for row in resets:
            if row in self.rows:
                self.reset_infos[row - self.rows.start] = resets[row]
        part = slice(self.rows.start, self.rows.stop)
        self._taken = observations[part], rewards[part], dones[part], infos[part]

    def step_wait(self) -> VecEnvStepReturn:
        """Step all rows; those whose episode ends are reset at once.

        Raises:
            ResetNeeded: as `NonStationary.step`.
            RuntimeError: there was no reset yet.
            ValueError: the actions are not as many numbers as there are motors.
        """
        if self._taken is None:
            if len(self.fleet.envs) > self.num_envs:
                self.move(Fleet(self.envs), 0)
            self.take(self.fleet.step(self.given()))
        assert self._taken is not None
        return self._taken

    def reset(self) -> VecEnvObs:
        """Reset all rows."""
        observations = super().reset()
        for row in self.rows:
            self.fleet.push(row)
        return observations

    def get_images(self) -> Sequence[Array | None]:
        """A picture of every row."""
        for row in self.rows:
            self.fleet.pull(row)
        return super().get_images()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of the rows, whose `MjData` are brought up to date before."""
        chosen = list(self._get_indices(indices))
        rows = [self.rows[index] for index in chosen]
        for row in rows:
            self.fleet.pull(row)
        self.fleet.changed.update(rows)
        return super().get_attr(attr_name, chosen)

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Call a method of the rows; whatever it does to their models and states is taken over."""
        chosen = list(self._get_indices(indices))
        rows = [self.rows[index] for index in chosen]
        for row in rows:
            self.fleet.pull(row)
        try:
            return super().env_method(method_name, *args, indices=chosen, **kwargs)
        finally:
            for row in rows:
                if self.fleet.moved(row):
                    self.fleet.push(row)
            self.fleet.changed.update(rows)

    def state_dict(self) -> dict[str, Any]:
        """What is kept beside the rows: the simulations, and what a step needs of the one before."""
        return self.fleet.state_dict(self.rows)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave; the rows must have been brought there before."""
        self.fleet.load_state_dict(self.rows, state)


def supports(env_id: str, tasks: Tasks, env_kwargs: Mapping[str, Any] | None = None) -> str | None:
    """Why `BatchMujoco` cannot step an environment that changes as `tasks` say; None where it can.

    Args:
        env_id: the environment, as for `envs.make_env`.
        tasks: what changes and when.
        env_kwargs: further arguments of the environment.
    """
    if missing := lacking():
        return missing
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
    """Why the batch cannot step an environment, in a sentence."""
    reason = _unfit(env)
    name = env.spec.id if env.spec else type(env.unwrapped).__name__
    return reason and f"{name} is not supported by the batch: {reason}"


def _unfit(env: gym.Env[Any, Any]) -> str | None:
    inner: Any = env.unwrapped
    kind = type(inner)
    if kind not in ROBOTS:
        return f"it steps {NAMES} only"
    if misfit := unfit(env):
        return misfit
    settings = {"xml_file": inner.fullpath, "render_mode": inner.render_mode}
    return _wrong_setting(kind, settings) or _strange_change(Layers(env).course.tasks)


def _unlike(envs: Sequence[gym.Env[Any, Any]]) -> str | None:
    """That environments are not alike, in a sentence."""
    alike = len({_kind(env) for env in envs}) == 1
    return None if alike else "all rows of a batch must be the same environment with the same settings"


def _kind(env: gym.Env[Any, Any]) -> tuple[type, str]:
    """What is the same in environments with the same settings."""
    inner = env.unwrapped
    return type(inner), repr(inner.spec and inner.spec.kwargs)


def _itself(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    return env
