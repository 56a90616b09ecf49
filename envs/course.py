"""One environment's way through the tasks: its clock, what has been applied to it, and what its `info` says of that.

`NonStationary` walks it around a Gymnasium environment, a `Fleet` those of all its rows at once. Whoever steps the
physics calls, in this order: `begin` before the environment's reset and `report_reset` after it; then for every step
`action` before and `finish` after the environment's own step; and `observation` on whatever the agent is to see.
"""

import copy
import zlib
from collections.abc import Callable
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from envs.changes.base import Change, ChangeError
from envs.tasks import Tasks

NEVER = 2**63


def _nothing() -> None:
    """What is called after values were set, where nobody listens."""


class Course:
    """Where one environment is in its tasks.

    Whoever steps the physics elsewhere than in the environment puts a function of its own in the place of `applied`: it
    is called whenever values have been set.

    Args:
        tasks: what changes and when, bound to the environment.
        space: the environment's own space of observations.
        stride: environment steps of the run for each step of this environment.
        start: environment step of the run at which this environment starts.

    Raises:
        ChangeError: the agent is to be shown values that are not numbers, or beside observations that are no vector.
        ValueError: stride or start is negative.
    """

    def __init__(self, tasks: Tasks, space: gym.Space[Any], stride: int, start: int) -> None:
        if stride < 0:
            raise ValueError(f"the stride must be at least 0, not {stride}")
        self.tasks = tasks
        self.stride = stride
        self.values = {label: change.original for label, change in tasks.changes.items()}
        changes = tasks.changes.values()
        # Only those that do something are asked at every step.
        self._observers = [change for change in changes if type(change).observation is not Change.observation]
        self._actors = [change for change in changes if type(change).action is not Change.action]
        self._rewarders = [change for change in changes if type(change).reward is not Change.reward]
        self._beginners = [change for change in changes if type(change).begin is not Change.begin]
        self._boundary = tasks.boundary
        self._gradual = tasks.gradual
        self._signal = tasks.signal
        self._context: NDArray[Any] | None = None
        self._held: dict[str, Any] | None = None
        self.applied: Callable[[], object] = _nothing
        self.context_size = 0
        for change in changes:
            space = change.observation_space(space)
        self.observation_space = space if self._signal != "context" else self._with_context(space)
        self.seed(tasks.seed)
        self.set_clock(start)

    def _with_context(self, space: gym.Space[Any]) -> gym.Space[Any]:
        """The space of the observations with all changes' values behind them."""
        if not isinstance(space, Box) or len(space.shape) != 1 or not np.issubdtype(space.dtype, np.floating):
            raise ChangeError(
                f"signal context needs observations that are a vector of floating numbers, not {space}; choose info"
            )
        lows: list[float] = []
        highs: list[float] = []
        for label, change in self.tasks.changes.items():
            low, high = change.context_bounds()
            size = len(change.context(self.values[label]))
            self.context_size += size
            lows += [low] * size
            highs += [high] * size
        self._dtype = space.dtype
        lowest = np.concatenate([space.low, np.array(lows, space.dtype)])
        highest = np.concatenate([space.high, np.array(highs, space.dtype)])
        return Box(lowest, highest, dtype=space.dtype.type)

    @property
    def clock(self) -> int:
        """Environment step of the run that this environment takes next."""
        return self._clock

    def set_clock(self, step: int) -> None:
        """Go to environment step `step` of the run, at the next reset, without which no step is taken."""
        if step < 0:
            raise ValueError(f"the clock must be at least 0, not {step}")
        self._clock = step
        self._task: int | None = None
        self._next_switch = NEVER
        self._switch: dict[str, Any] | None = None
        self._must_reset = True

    def hold(self, values: dict[str, Any]) -> None:
        """Have these values from the next reset on, whatever the clock says: to try them out."""
        self._held = values
        self._must_reset = True

    def seed(self, seed: int) -> None:
        """Seed what the changes draw at every step, each label a stream of its own."""
        for label, change in self.tasks.changes.items():
            change.seed(np.random.default_rng([seed, zlib.crc32(label.encode())]))

    def begin(self, seed: int | None = None) -> None:
        """Apply the task of the clock before the environment is reset: some build their world there.

        Args:
            seed: the seed that the environment is reset with; None where it goes on with the generators it has.
        """
        if seed is not None:
            self.seed(seed)
        known = self._switch
        self._apply()
        self._must_reset = False
        for change in self._beginners:
            change.begin()
        self._reset_switch = None if self._switch is known else self._switch

    def report_reset(self, info: dict[str, Any]) -> None:
        """Write the task into the info of the reset, and the switch where this reset applied one."""
        info["task"] = self._task
        if self._reset_switch is not None:
            info["switch"] = copy.deepcopy(self._reset_switch)
        if self._signal != "hidden":
            info["context"] = copy.deepcopy(self.values)

    def action(self, action: Any) -> Any:
        """What the environment is told of the agent's `action`.

        Raises:
            ResetNeeded: the clock has been set or the episode was ended by a switch, and there was no reset since.
        """
        if self._must_reset:
            raise gym.error.ResetNeeded(
                "the environment waits for reset(): its clock was set, or a switch ended the episode"
            )
        for change in self._actors:
            action = change.action(action)
        return action

    def finish(
        self, reward: SupportsFloat, terminated: bool, truncated: bool, info: dict[str, Any]
    ) -> tuple[SupportsFloat, bool]:
        """End a step of the environment: move the clock on, and apply what is due in mid-episode.

        Args:
            reward: the environment's own reward.
            terminated: whether the environment has ended the episode by itself.
            truncated: whether it was cut off, by a time limit for example.
            info: the environment's info, which is written to.

        Returns:
            The agent's reward, and whether the episode is cut off now.
        """
        info["task"] = self._task
        if self._switch is not None:
            info["switch"], self._switch = self._switch, None
        if self._signal != "hidden":
            info["context"] = copy.deepcopy(self.values)
        self._clock += self.stride
        due = self._clock >= self._next_switch
        if due and self._boundary == "truncate":
            if not terminated and not truncated:
                truncated = info["cut_short"] = True
            self._must_reset = True
        ended = terminated or truncated
        for change in self._rewarders:
            reward = change.reward(reward, info, ended)
        if ended:
            # The reset that follows applies the task of the clock.
            info["next_task"] = self.tasks.task(self._clock)
            return reward, truncated
        if (due or self._gradual) and self._boundary != "next_reset":
            self._apply()
        info["next_task"] = self._task
        return reward, truncated

    def observation(self, observation: Any) -> Any:
        """What the agent sees of the environment's `observation`, through the task that answers its next action."""
        for change in self._observers:
            observation = change.observation(observation)
        if self._signal == "context":
            if self._context is None:
                changes = self.tasks.changes.items()
                shown = [number for label, change in changes for number in change.context(self.values[label])]
                self._context = np.array(shown, self._dtype)
            observation = np.concatenate([observation, self._context])
        return observation

    def _apply(self) -> None:
        """Make the values of the clock's step so."""
        self.put(self.tasks.values(self._clock) if self._held is None else self._held)
        task = self.tasks.task(self._clock)
        if task != self._task:
            self._enter(task)

    def put(self, values: dict[str, Any]) -> None:
        """Make these values so at once, without a switch."""
        changes = self.tasks.changes
        new = [label for label, value in values.items() if value != self.values[label]]
        # What goes back to the original first: another change may write to the same place from now on.
        for label in sorted(new, key=lambda label: not changes[label].is_original(values[label])):
            changes[label].set(values[label])
            self.values[label] = values[label]
        if new:
            self._context = None
            self.applied()

    def _enter(self, task: int) -> None:
        """Note that the environment is in another task now, and since when."""
        # After the clock was set: a run that is taken up again in the middle of a task has seen its switch before.
        at_start = task > 0 and self._clock - self.tasks.start(task) < self.stride
        new = at_start if self._task is None else True
        self._task = task
        following = self.tasks.next_switch(self._clock)
        self._next_switch = NEVER if following is None else following
        if new:
            self._switch = {"task": task, "step": self._clock, "values": copy.deepcopy(self.values)}
