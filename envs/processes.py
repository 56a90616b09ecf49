"""Environments in processes of their own, whose numbers are those of environments in one process."""

import functools
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import SubprocVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

ROOT = Path(__file__).parents[1]
"""Where this project's packages are."""
PACKAGES = ("agents", "configs", "envs", "recording")
"""Those that a program which starts processes may import, and each of its processes with it."""


class Processes(SubprocVecEnv):
    """SB3's `SubprocVecEnv` with rewards in single precision, as all other vectorised environments give them.

    SB3 adds the value of what follows a time limit to a reward and rounds the sum to single precision: where the reward
    was not rounded before, the sum is another number in some last bits.

    The processes are forked from a server that has imported SB3, and so PyTorch, for all of them. Importing it takes
    each process seconds otherwise, and 150 MiB of memory of its own.

    Args:
        env_fns: what make the environments.
        start_method: of `multiprocessing`; a server of forks, unless it says otherwise.
    """

    def __init__(self, env_fns: Sequence[Callable[[], gym.Env[Any, Any]]], start_method: str | None = None) -> None:
        if start_method is None:
            _preload()
        super().__init__([functools.partial(_make, make) for make in env_fns], start_method)

    def step_wait(self) -> VecEnvStepReturn:
        """Wait for all environments' steps."""
        observations, rewards, dones, infos = super().step_wait()
        return observations, rewards.astype(np.float32), dones, infos


def _preload() -> None:
    """Say what the server of forks imports when it starts: SB3, and of this project what the program has imported."""
    own = [name for name in sys.modules if name.partition(".")[0] in PACKAGES]
    # It looks for modules in the current folder first: elsewhere, another `envs` might be there.
    multiprocessing.set_forkserver_preload(["stable_baselines3", *(own if Path.cwd() == ROOT else [])])


def _make(make: Callable[[], gym.Env[Any, Any]]) -> gym.Env[Any, Any]:
    """An environment in a process that has NumPy's global generator from the server, as all others have."""
    np.random.seed()  # noqa: NPY002 (environments may draw from it)
    return make()
