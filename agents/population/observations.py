"""Observations of all members as their networks take them."""

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from torch import Tensor


def preprocess(observations: Any, policy: BasePolicy) -> Tensor:
    """What SB3 makes of each sample, such as a one-hot vector of a number; from and to `[members, samples, ...]`.

    Args:
        observations: an array or a tensor.
        policy: the first member's.
    """
    tensor = torch.as_tensor(observations, device=policy.device)
    if isinstance(policy.observation_space, spaces.Box) and tensor.dim() == 3:  # and so no image
        return tensor.float()
    found = preprocess_obs(tensor.flatten(0, 1), policy.observation_space, policy.normalize_images)
    assert isinstance(found, Tensor)
    return found.view(*tensor.shape[:2], *found.shape[1:])
