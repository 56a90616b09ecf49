"""Environments that are registered for tests: `--env tests.environments:Opaque-v0`."""

from itertools import count
from typing import Any

import gymnasium as gym
import numpy as np


class Opaque(gym.Env[Any, Any]):
    """One whose state cannot be read: it counts steps in an iterator, which shows nothing of itself."""

    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = count(1)
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        done = next(self.steps) == 50
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), 1.0, False, done, {}


class Images(gym.Env[Any, Any]):
    """Random images, channels last, and a reward for answering their brightness."""

    observation_space = gym.spaces.Box(0, 255, (36, 36, 3), np.uint8)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.taken = 0
        return self.image(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = float(action == self.bright)
        self.taken += 1
        return self.image(), reward, False, self.taken == 20, {}

    def image(self) -> Any:
        self.bright = int(self.np_random.integers(2))
        return self.np_random.integers(0, 128 * (1 + self.bright), (36, 36, 3), dtype=np.uint8)


gym.register("Images-v0", Images)
gym.register("Opaque-v0", Opaque)
