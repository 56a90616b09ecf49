"""Environments in processes of their own start without importing PyTorch, each with random numbers of its own."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from envs.processes import Processes


def test_processes_are_forked_from_what_they_all_need() -> None:
    class Lucky(gym.Env[Any, Any]):
        observation_space = gym.spaces.Box(0, 1, (1,), np.float64)
        action_space = gym.spaces.Discrete(2)

        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
            return np.random.random(1), {}  # noqa: NPY002 (some environments draw from the global generator)

    vec_env = Processes([Lucky] * 3)
    observations = vec_env.reset()
    assert len(np.unique(observations)) == 3
    servers = {Path(f"/proc/{process.pid}/stat").read_text().split()[3] for process in vec_env.processes}
    (server,) = servers
    loaded = {Path(line.split()[-1]).name for line in Path(f"/proc/{server}/maps").read_text().splitlines()}
    vec_env.close()
    assert any(name.startswith("libtorch") for name in loaded)
