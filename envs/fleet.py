"""Gymnasium's robots side by side, with the physics of all in one `mujoco.batch.Batch`.

The rows of a `Fleet` are ordinary environments (`envs.make_env`), and whatever happens once an episode is left to them:
resets with their own random numbers, switches, rendering, methods called from outside. Only the steps are shared: one
call moves the physics of all rows, each on its row's own live model, and observations, rewards and ends of episodes are
computed for all rows at once, with the operations of Gymnasium's own code in its order, so that they are the same
numbers to the last bit.

Between two steps the state of the simulations is in the batch. A row's own `MjData` is brought up to date when it is
asked for, by `pull`; `push` takes over what was done to it. Models are live at all times.

Contact forces (of Ant and Humanoid, unless `include_cfrc_ext_in_observation` is false and `contact_cost_weight` is 0)
can be computed from a whole `MjData` only. The physics are then stepped in the rows' own, which saves less.

In the rows' models the solver does not look for islands of constraints: a robot is one kinematic tree, and so one
island at most. That leaves all numbers as they are, to the last bit, and saves a sixteenth of Ant's physics.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np

from envs.changes.base import Change
from envs.layers import Layers
from envs.robots import ROBOTS, Array

try:
    from mujoco.batch import Batch
except ImportError:  # MuJoCo before 3.17
    Batch = None

STATE = int(mujoco.mjtState.mjSTATE_INTEGRATION)
"""What a row of the batch holds: everything that the next step depends on."""

Stepped = tuple[Array, Array, Array, list[dict[str, Any]], dict[int, dict[str, Any]]]
"""Observations, rewards, dones and infos of all rows; and of the rows that were reset, the infos of that."""


class Fleet:
    """Robots whose steps are taken at once.

    Args:
        envs: the rows, as `envs.make_env` makes them, all of one kind and with the same settings.
        nthread: threads that step the physics; the results are the same with any number.

    Attributes:
        changed: rows whose models may have changed since the last step.
    """

    def __init__(self, envs: Sequence[gym.Env[Any, Any]], nthread: int = 1) -> None:
        self.envs = list(envs)
        self._inner: list[Any] = [env.unwrapped for env in envs]
        for env in self._inner:
            skip_islands(env.model)
        first = self._inner[0]
        self._frame_skip = int(first.frame_skip)
        self._batch = Batch(first.model, len(self.envs), nthread)
        self._state = self._batch.state
        self._before = self._state.copy()
        self._robot = ROBOTS[type(first)](self._inner, self._batch)
        self._threads = ThreadPoolExecutor(nthread - 1) if self._robot.feels and nthread > 1 else None
        self._shares = [range(start, len(self.envs), nthread) for start in range(nthread)]
        self._behind = [False] * len(self.envs)
        space = self.envs[0].observation_space
        self._shape, self._dtype = (len(self.envs), *(space.shape or ())), space.dtype
        self._layers = [Layers(env) for env in self.envs]
        self._courses = [layers.course for layers in self._layers]
        changes = [type(change) for course in self._courses for change in course.tasks.changes.values()]
        self._acting = any(change.action is not Change.action for change in changes)
        self._seeing = any(change.observation is not Change.observation for change in changes) or any(
            course.tasks.signal == "context" for course in self._courses
        )
        self.changed: set[int] = set()
        self._listen(range(len(self.envs)))
        self._read_models()

    def step(self, actions: Array | list[Array]) -> Stepped:
        """Step all rows; those whose episode ends are reset at once.

        Args:
            actions: as many numbers for each row as there are motors; a list where rows differ in precision.

        Raises:
            ResetNeeded: as `NonStationary.step`.
            RuntimeError: there was no reset yet.
        """
        acted = self._act(actions)
        if self.changed:
            self._read_models()
            self.changed.clear()
        robot = self._robot
        if robot.feels:
            self._step_rows()
        else:
            np.copyto(self._before, self._state)
            self._batch.step(nstep=self._frame_skip)
            self._behind = [True] * len(self.envs)
        raw = robot.observations()
        gains, ends, shown = robot.outcomes(robot.control_costs(acted))
        seen = np.empty(self._shape, self._dtype) if self._seeing else raw
        rewards, dones, infos, resets = [], [], [], {}
        rows = zip(self._layers, gains, ends, shown, strict=True)
        for row, (layers, gain, terminated, values) in enumerate(rows):
            info = dict(zip(robot.shown, values, strict=True))
            reward, truncated = layers.finish(gain, terminated, info)
            if self._seeing:
                seen[row] = layers.course.observation(raw[row])
            done = terminated or truncated
            info["TimeLimit.truncated"] = truncated and not terminated
            if done:
                info["terminal_observation"] = seen[row].copy()
                seen[row], resets[row] = self.envs[row].reset()
                self.push(row)
            rewards.append(reward)
            dones.append(done)
            infos.append(info)
        return seen, np.array(rewards, np.float32), np.array(dones), infos, resets

    def push(self, row: int) -> None:
        """Take over the state of a row's own `MjData`."""
        mujoco.mj_getState(self._inner[row].model, self._inner[row].data, self._state[row], STATE)
        self._robot.load(row)
        self._behind[row] = False

    def moved(self, row: int) -> bool:
        """Whether a row's own `MjData`, which was up to date, no longer is in the state of the batch."""
        state = np.empty_like(self._state[row])
        mujoco.mj_getState(self._inner[row].model, self._inner[row].data, state, STATE)
        return not np.array_equal(state, self._state[row])

    def pull(self, row: int) -> None:
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
        if row in self.changed:
            mujoco.mj_setState(env.model, env.data, self._state[row], STATE)
            mujoco.mj_forward(env.model, env.data)
        mujoco.mj_setState(env.model, env.data, self._state[row], STATE)

    def state_dict(self, rows: range) -> dict[str, Any]:
        """What is kept beside some neighbouring rows: their simulations, and what a step needs of the one before."""
        part = slice(rows.start, rows.stop)
        return {
            "state": self._state[part].copy(),
            "before": self._before[part].copy(),
            "behind": self._behind[part],
            "changed": sorted(row - rows.start for row in self.changed.intersection(rows)),
            "robot": self._robot.state_dict(part),
        }

    def load_state_dict(self, rows: range, state: Mapping[str, Any]) -> None:
        """Go on, with some neighbouring rows, from what `state_dict` gave; they must have been brought there before.

        Whoever has stepped these rows so far no longer does.
        """
        part = slice(rows.start, rows.stop)
        self._listen(rows)
        self._read_models()
        self._state[part] = state["state"]
        self._before[part] = state["before"]
        self._behind[part] = list(state["behind"])
        self._robot.load_state_dict(part, state["robot"])
        self.changed.difference_update(rows)
        self.changed.update(rows[row] for row in state["changed"])

    def _listen(self, rows: Iterable[int]) -> None:
        """Have the courses of rows tell when they change a model."""
        for row in rows:
            self._courses[row].applied = functools.partial(self.changed.add, row)

    def _read_models(self) -> None:
        """Tell the batch, and what computes the steps, that models have changed."""
        self._batch.set_models([env.model for env in self._inner])
        self._robot.read_models()

    def _act(self, given: Array | list[Array]) -> Array | list[Array]:
        """Write the actions into the batch, and return them as changes of actions have made them.

        They are a list where some are of another precision than others.
        """
        if any(layers.waits for layers in self._layers):
            raise RuntimeError("the environments wait for their first reset()")
        acted = [course.action(action) for course, action in zip(self._courses, given, strict=True)]
        if self._acting or isinstance(given, list):
            acted = [np.asarray(action) for action in acted]
            if len({action.dtype for action in acted}) > 1:
                self._robot.ctrl[...] = acted
                return acted
            given = np.array(acted)
        self._robot.ctrl[...] = given
        return given

    def _step_rows(self) -> None:
        """Step the physics in the rows' own `MjData`, from which contact forces can be computed."""
        if self._threads is None:
            self._step_some(range(len(self.envs)))
        else:
            # MuJoCo's functions let other threads run Python meanwhile.
            others = [self._threads.submit(self._step_some, share) for share in self._shares[1:]]
            self._step_some(self._shares[0])
            for other in others:
                other.result()
        self._robot.copy()

    def _step_some(self, rows: Iterable[int]) -> None:
        for row in rows:
            env = self._inner[row]
            model, data = env.model, env.data
            data.ctrl[:] = self._robot.ctrl[row]
            mujoco.mj_step(model, data, nstep=self._frame_skip)
            mujoco.mj_rnePostConstraint(model, data)
            mujoco.mj_getState(model, data, self._state[row], STATE)


def lacking() -> str | None:
    """What is missing for any fleet; None where nothing is."""
    if not hasattr(Batch, "set_models"):
        return f"it needs mujoco.batch, of MuJoCo 3.17 or newer, and this is MuJoCo {mujoco.__version__}"
    return None if hasattr(np, "vecdot") else f"it needs NumPy 2, and this is NumPy {np.__version__}"


def skip_islands(model: Any) -> None:
    """Have the solver not look for islands, groups of trees that constraints tie together, where there is one tree."""
    if model.ntree == 1:
        model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_ISLAND)
