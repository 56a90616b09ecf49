"""Environments in processes of their own, whose numbers are those of environments in one process."""

import numpy as np
from stable_baselines3.common.vec_env import SubprocVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn


class Processes(SubprocVecEnv):
    """SB3's `SubprocVecEnv` with rewards in single precision, as all other vectorised environments give them.

    SB3 adds the value of what follows a time limit to a reward and rounds the sum to single precision: where the reward
    was not rounded before, the sum is another number in some last bits.
    """

    def step_wait(self) -> VecEnvStepReturn:
        """Wait for all environments' steps."""
        observations, rewards, dones, infos = super().step_wait()
        return observations, rewards.astype(np.float32), dones, infos
