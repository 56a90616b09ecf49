"""An environment of one's own, and its goal in another place every 2,000 steps."""

import gymnasium as gym
import numpy as np

from envs import NonStationary, Tasks
from envs.changes import CHANGES
from envs.schedules import Periodic


class Reach(gym.Env):
    """A point on a line that is to be moved to a goal."""

    observation_space = gym.spaces.Box(-2, 2, (1,))
    action_space = gym.spaces.Box(-1, 1, (1,))
    goal = 0.5

    def reset(self, *, seed=None, options=None):
        """Begin anywhere."""
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-1, 1)
        return np.array([self.place], np.float32), {}

    def step(self, action):
        """Move by a tenth of the action; the reward is the distance that is left, below zero."""
        self.place = float(np.clip(self.place + 0.1 * action[0], -2, 2))
        return np.array([self.place], np.float32), -abs(self.place - self.goal), False, False, {}


gym.register("Reach-v0", Reach, max_episode_steps=50)
changes = {"goal": CHANGES["attribute"](parameter="goal", low=-1.0, high=1.0)}
env = NonStationary(gym.make("Reach-v0"), Tasks(Periodic(period=2000), changes, seed=0))
