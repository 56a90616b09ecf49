"""An environment whose state cannot be read: it is in an object that shows nothing of itself."""

from itertools import count
from typing import Any

import gymnasium as gym
import numpy as np


class Opaque(gym.Env[Any, Any]):
    """Counts steps in an iterator."""

    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = count(1)
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        done = next(self.steps) == 50
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), 1.0, False, done, {}


gym.register("Opaque-v0", Opaque)
