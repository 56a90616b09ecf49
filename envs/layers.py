"""The wrappers that `envs.make_env` puts around an environment, for whoever steps it past them.

A step through all of them costs more than the arithmetic of a small environment. `Layers` does their part in a step,
and `unfit` says of which environments it would not be the whole part.
"""

import time
from collections.abc import Iterator
from typing import Any, SupportsFloat

import gymnasium as gym
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit
from stable_baselines3.common.monitor import Monitor as PlainMonitor

from envs.course import Course
from envs.monitor import Monitor
from envs.nonstationary import NonStationary

MONITORS = (Monitor, PlainMonitor)
ORDER = (
    (Monitor, 0),
    (PlainMonitor, 0),
    (NonStationary, 1),
    (TimeLimit, 2),
    (OrderEnforcing, 3),
    (PassiveEnvChecker, 4),
)
"""From the outermost: wrappers whose part in a step can be taken over, or left out."""


class Layers:
    """What the wrappers around one environment do in a step.

    Args:
        env: the environment, of which `unfit` has nothing to say.

    Attributes:
        course: its way through the tasks, from the `NonStationary` among them.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self.course: Course = _layer(env, NonStationary).course
        self._limit = _layer(env, TimeLimit)
        self._monitor = _layer(env, *MONITORS)

    @property
    def waits(self) -> bool:
        """Whether the monitor wants a reset before any step."""
        return self._monitor is not None and self._monitor.needs_reset

    def finish(self, reward: SupportsFloat, terminated: bool, info: dict[str, Any]) -> tuple[SupportsFloat, bool]:
        """End a step of the environment: count it, move the clock on, and report the episode where this was its end.

        Args:
            reward: the environment's own reward.
            terminated: whether the environment has ended the episode by itself.
            info: the environment's info, which is written to.

        Returns:
            The agent's reward, and whether the episode is cut off now.
        """
        limit, monitor, truncated = self._limit, self._monitor, False
        if limit is not None:
            limit._elapsed_steps += 1
            truncated = limit._elapsed_steps >= limit._max_episode_steps
        reward, truncated = self.course.finish(reward, terminated, truncated, info)
        if monitor is not None:
            monitor.rewards.append(float(reward))
            monitor.total_steps += 1
            if terminated or truncated:
                monitor.needs_reset = True
                total, length = sum(monitor.rewards), len(monitor.rewards)
                seconds = time.time() - monitor.t_start
                monitor.episode_returns.append(total)
                monitor.episode_lengths.append(length)
                monitor.episode_times.append(seconds)
                info["episode"] = {"r": round(total, 6), "l": length, "t": round(seconds, 6)}
        return reward, truncated


def unfit(env: gym.Env[Any, Any]) -> str | None:
    """Why `Layers` cannot do the part of all wrappers around an environment; None where it can."""
    ranks, reached = dict(ORDER), -1
    for layer in _layers(env):
        rank = ranks.get(type(layer), -1)
        if rank <= reached:
            return f"it does not know the wrapper {type(layer).__name__}" + (" at its place" if rank >= 0 else "")
        reached = rank
    if _layer(env, NonStationary) is None:
        return "its rows must be made by envs.make_env"
    monitor = _layer(env, *MONITORS)
    if monitor is not None and (monitor.results_writer or monitor.info_keywords or monitor.reset_keywords):
        return "its rows' monitors write no file and take no keywords"
    return None


def _layer(env: gym.Env[Any, Any], *kinds: type[Any]) -> Any:
    """The outermost wrapper of exactly one of these kinds; None where there is none."""
    return next((layer for layer in _layers(env) if type(layer) in kinds), None)


def _layers(env: gym.Env[Any, Any]) -> Iterator[gym.Wrapper[Any, Any, Any, Any]]:
    """The wrappers around an environment, from the outermost."""
    while isinstance(env, gym.Wrapper):
        yield env
        env = env.env
