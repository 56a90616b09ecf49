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

from typing import Any, SupportsFloat

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from envs.course import Course
from envs.tasks import Tasks


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
        if env.has_wrapper_attr("course"):
            raise ValueError(f"{env.spec.id if env.spec else env} changes by itself; train on it with its --config")
        RecordConstructorArgs.__init__(self, tasks=tasks, stride=stride, start=start)
        # What exchanges the whole environment must have nothing of this project's below it.
        for change in sorted(tasks.changes.values(), key=lambda change: not change.at_reset):
            env = change.wrap(env)
        super().__init__(env)
        self.course = Course(tasks.bind(env), env.observation_space, stride, start)
        if self.course.observation_space is not env.observation_space:
            self.observation_space = self.course.observation_space

    @property
    def tasks(self) -> Tasks:
        """What changes and when, bound to the environment."""
        return self.course.tasks

    @property
    def clock(self) -> int:
        """Environment step of the run that this environment takes next."""
        return self.course.clock

    @property
    def stride(self) -> int:
        """Environment steps of the run for each step of this environment."""
        return self.course.stride

    @property
    def context_size(self) -> int:
        """How many numbers at the end of each observation are the values of the task."""
        return self.course.context_size

    def set_clock(self, step: int) -> None:
        """Go to environment step `step` of the run, at the next reset, without which no step is taken."""
        self.course.set_clock(step)

    def describe_task(self, task: int) -> str:
        """What task number `task` is in this environment, in a few words."""
        return self.tasks.describe(task)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode in the task of the clock."""
        self.course.begin(seed)
        observation, info = self.env.reset(seed=seed, options=options)
        self.course.report_reset(info)
        return self.course.observation(observation), info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take one step of the episode, at the clock's time; then the clock moves on.

        Raises:
            ResetNeeded: the clock has been set or the episode was ended by a switch, and there was no reset since.
        """
        observation, reward, terminated, truncated, info = self.env.step(self.course.action(action))
        reward, truncated = self.course.finish(reward, terminated, truncated, info)
        return self.course.observation(observation), reward, terminated, truncated, info
