"""What an agent earns on each task, how soon, and how much less than an agent that starts afresh."""

from metrics.tasks.returns import LAST_EPISODES, TaskReturns

__all__ = ["LAST_EPISODES", "TaskReturns"]
