"""The environment that changes: a Gymnasium wrapper that applies a schedule.

Everything that happens at step t of the run (the observation given, the action taken on it, the dynamics, the reward)
happens under the values of step t. How a switch comes about is the schedule's `boundary`:

- `immediate`: the values change between two steps of an episode. The observation that the last step of the old task
  returns is already seen through the new task, because the next action answers it.
- `next_reset`: the old task goes on until the episode has ended by itself.
- `truncate`: the last step of the old task ends the episode, as a truncation: its observation is still the old task's,
  so that bootstrapping from it is right, and the reset that follows is the new task's.

Values that drift within a task move at every step (`next_reset`: at every reset).
"""

import copy
from typing import Any, SupportsFloat

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from envs.changes.base import Change
from envs.tasks import Tasks

NEVER = 2**63


class NonStationary(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Changes an environment as `tasks` say.

    Every transition's `info["task"]` is the number of its task. The first transition of a task also has
    `info["switch"] = {"task", "step", "values"}` (the step at which the new task was applied here), and so has the
    info of the reset that applied it, where it was one; the start of a run is no switch. `info["next_task"]` is the
    task of the transition that follows, and `info["cut_short"]` marks an episode that a switch has ended, whose return
    is not that of a whole one. Several changes of
    observations (actions, rewards) are applied one after the other, in the order in which `tasks` lists them.

        >>> env = NonStationary(gym.make("CartPole-v1"), Tasks(Periodic(period=500), {"reward": RewardScale()}, seed=1))

    Args:
        env: the environment; it belongs to the wrapper from now on.
        tasks: what changes and when; a copy of it is bound to `env`, found as `.tasks`.
        stride: environment steps of the run for each step of this environment: the number of parallel environments,
            which then agree on the clock without a word. 0 stops the clock, to evaluate in one task.
        start: environment step of the run at which this environment starts.

    Raises:
        ChangeError: a change does not fit the environment.
        ValueError: stride or start is negative.
    """

    def __init__(self, env: gym.Env[Any, Any], tasks: Tasks, stride: int = 1, start: int = 0) -> None:
        if stride < 0:
            raise ValueError(f"the stride must be at least 0, not {stride}")
        RecordConstructorArgs.__init__(self, tasks=tasks, stride=stride, start=start)
        super().__init__(env)
        self.tasks = tasks.bind(env)
        self.stride = stride
        changes = self.tasks.changes.values()
        self._values = {label: change.original for label, change in self.tasks.changes.items()}
        # Only those that do something are asked at every step.
        self._observers = [change for change in changes if type(change).observation is not Change.observation]
        self._actors = [change for change in changes if type(change).action is not Change.action]
        self._rewarders = [change for change in changes if type(change).reward is not Change.reward]
        space = env.observation_space
        for change in changes:
            space = change.observation_space(space)
        if space is not env.observation_space:
            self.observation_space = space
        self.set_clock(start)

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

    def describe_task(self, task: int) -> str:
        """What task number `task` is in this environment, in a few words."""
        return self.tasks.describe(task)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode in the task of the clock."""
        known = self._switch
        # Before the reset: some environments build their world there.
        self._apply()
        self._must_reset = False
        observation, info = self.env.reset(seed=seed, options=options)
        info["task"] = self._task
        if self._switch is not known:
            info["switch"] = copy.deepcopy(self._switch)
        return self._seen(observation), info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take one step of the episode, at the clock's time; then the clock moves on.

        Raises:
            ResetNeeded: the clock has been set or the episode was ended by a switch, and there was no reset since.
        """
        if self._must_reset:
            raise gym.error.ResetNeeded(
                "the environment waits for reset(): its clock was set, or a switch ended the episode"
            )
        for change in self._actors:
            action = change.action(action)
        observation, reward, terminated, truncated, info = self.env.step(action)
        for change in self._rewarders:
            reward = change.reward(reward)
        info["task"] = self._task
        if self._switch is not None:
            info["switch"], self._switch = self._switch, None
        self._clock += self.stride
        if self._clock >= self._next_switch and self.tasks.boundary == "truncate":
            if not terminated and not truncated:
                truncated = info["cut_short"] = True
            self._must_reset = True
        elif not terminated and not truncated:
            self._move_on()
        # The reset that follows an episode's end applies the task of the clock.
        ended = terminated or truncated
        info["next_task"] = self.tasks.task(self._clock) if ended else self._task
        return self._seen(observation), reward, terminated, truncated, info

    def _move_on(self) -> None:
        """In mid-episode: apply what has changed, unless it has to wait for the reset."""
        if self.tasks.boundary != "next_reset" and (self.tasks.gradual or self._clock >= self._next_switch):
            self._apply()

    def _apply(self) -> None:
        """Make the values of the clock's step so."""
        for label, value in self.tasks.values(self._clock).items():
            if value != self._values[label]:
                self.tasks.changes[label].set(value)
                self._values[label] = value
        task = self.tasks.task(self._clock)
        if task != self._task:
            self._enter(task)

    def _enter(self, task: int) -> None:
        """Note that the environment is in another task now, and since when."""
        # After the clock was set: a run that is taken up again in the middle of a task has seen its switch before.
        at_start = task > 0 and self._clock - self.tasks.start(task) < self.stride
        new = at_start if self._task is None else True
        self._task = task
        following = self.tasks.next_switch(self._clock)
        self._next_switch = NEVER if following is None else following
        if new:
            self._switch = {"task": task, "step": self._clock, "values": copy.deepcopy(self._values)}

    def _seen(self, observation: Any) -> Any:
        for change in self._observers:
            observation = change.observation(observation)
        return observation
