"""An environment of any spaces, and a callback that keeps what it is shown: what populations are compared by."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback


class Noisy(gym.Env[Any, Any]):
    """Random observations; the action is the reward, and by chance an episode ends or is cut short.

    Args:
        action_space: what it can be told.
        observation_space: what it shows; None: five numbers.
        chance: of either end, at each step.
    """

    def __init__(
        self, action_space: spaces.Space[Any], observation_space: spaces.Space[Any] | None = None, chance: float = 0.05
    ) -> None:
        self.observation_space = observation_space or spaces.Box(-1, 1, (5,), np.float32)
        self.action_space = action_space
        self.chance = chance

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        ends, cut = self.np_random.random(2) < self.chance
        return self.observation_space.sample(), float(np.sum(action)), bool(ends), bool(cut), {}


class Seen(BaseCallback):
    """Keeps what a callback is shown.

    Args:
        shown: which of the local variables.
    """

    def __init__(self, shown: Sequence[str]) -> None:
        super().__init__()
        self.shown = shown
        self.steps: list[dict[str, Any]] = []
        self.moments: list[str] = []

    def _on_rollout_start(self) -> None:
        self.moments.append("start")

    def _on_rollout_end(self) -> None:
        self.moments.append("end")

    def _on_training_end(self) -> None:
        self.moments.append("finished")

    def _on_step(self) -> bool:
        assert self.locals["self"] is self.model
        assert self.locals.get("replay_buffer") is getattr(self.model, "replay_buffer", None)
        self.steps.append({name: np.array(self.locals[name]) for name in self.shown} | {"step": self.num_timesteps})
        return True
