"""Environments that are stepped one after the other in this process, with little cost beside their own arithmetic."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from envs.shortcuts import shortcut

IMMUTABLE = frozenset({bool, int, float, str, type(None), np.bool_, np.int64, np.float32, np.float64})
"""Types of values in infos of which no copy is needed."""


class InTurn(DummyVecEnv):
    """SB3's `DummyVecEnv` at a quarter of its cost.

    It returns the same, and nothing of that changes later, whatever the environments do with what they gave. SB3's
    makes deep copies of everything; here only what can change is copied. Where there is a shortcut for an environment
    (`envs.shortcuts`), its steps go that way.

    Args:
        env_fns: what make the environments.
    """

    def __init__(self, env_fns: Sequence[Callable[[], gym.Env[Any, Any]]]) -> None:
        super().__init__(list(env_fns))
        # The memory of observations that are one array; None where they are several.
        self._numbers: NDArray[Any] | None = self.buf_obs.get(None)  # type: ignore[call-overload]
        self._shortcuts = [(env, shortcut(env)) for env in self.envs]

    def step_wait(self) -> VecEnvStepReturn:
        """Step all environments; those whose episode ends are reset at once."""
        observations, rewards, dones = self._numbers, self.buf_rews, self.buf_dones
        infos = []
        for row, env in enumerate(self.envs):
            known, short = self._shortcuts[row]
            # Whoever has put another environment into the row since means that one.
            step = env.step if short is None or known is not env else short
            observation, rewards[row], terminated, truncated, info = step(self.actions[row])
            dones[row] = done = terminated or truncated
            info["TimeLimit.truncated"] = truncated and not terminated
            if done:
                info["terminal_observation"] = observation
            infos.append(info if step is short and not done else _kept(info))
            if done:
                observation, self.reset_infos[row] = env.reset()
            if observations is None:
                self._save_obs(row, observation)
            else:
                observations[row] = observation
        return self._obs_from_buf(), rewards.copy(), dones.copy(), infos

    def _obs_from_buf(self) -> VecEnvObs:
        return super()._obs_from_buf() if self._numbers is None else self._numbers.copy()


def _kept(info: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of an info that nobody else writes to."""
    return {key: value if type(value) in IMMUTABLE else copy.deepcopy(value) for key, value in info.items()}
