"""Losses of DQN and QR-DQN, and what they share with other critics."""

from functools import partial
from typing import Any

import torch
from sb3_contrib import QRDQN
from stable_baselines3.common.preprocessing import preprocess_obs
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from agents.layers import Network
from agents.losses.pure import CONSTANT, Losses, Parameters, Pure, Samples
from agents.sb3 import Batch


def action_values(model: Any, network: Network, batch: Batch, generator: torch.Generator) -> Losses:
    """Samples and losses of the one network."""
    policy, quantiles = model.policy, type(model).train is QRDQN.train
    name = "quantile_net" if quantiles else "q_net"
    online, frozen = getattr(policy, name), getattr(policy, f"{name}_target")
    trained, following = (Pure(network, [one.features_extractor, getattr(one, name)]) for one in (online, frozen))

    def by_action(outputs: Tensor) -> Tensor:
        """`[samples, quantiles or 1, actions]`."""
        return outputs.reshape(len(outputs), model.n_quantiles if quantiles else 1, -1)

    def loss(parameters: Parameters, samples: Samples) -> Tensor:
        values = _chosen(by_action(trained(parameters, samples["observations"])[0]), samples["actions"].long())
        if quantiles:
            return quantile_huber(values, samples["target"]).sum(1)
        return smooth_l1_loss(values, samples["target"], reduction="none")[:, 0]

    read = partial(preprocess_obs, observation_space=policy.observation_space, normalize_images=policy.normalize_images)
    following_values = by_action(following(CONSTANT, read(batch.learning["next_observations"]))[0])
    best = following_values.mean(1).argmax(1, keepdim=True)
    target = bootstrapped(model, batch, _chosen(following_values, best))
    return {"observations": read(batch.observations), "actions": batch.actions, "target": target}, loss


def _chosen(values: Tensor, actions: Tensor) -> Tensor:
    """Of `[samples, quantiles, actions]` those of one action `[samples, 1]` each: `[samples, quantiles]`."""
    return values.gather(2, actions.unsqueeze(1).expand(-1, values.shape[1], 1)).squeeze(2)


def bootstrapped(model: Any, batch: Batch, values: Tensor) -> Tensor:
    """Rewards plus discounted next values `[samples, n]`, which do not count where an episode has ended."""
    rewards, dones = (batch.learning[key].reshape(-1, 1) for key in ("rewards", "dones"))
    target: Tensor = rewards + (1 - dones) * model.gamma * values
    return target


def quantile_huber(quantiles: Tensor, targets: Tensor) -> Tensor:
    """Quantile Huber loss of each quantile, mean over the targets.

    Dabney, Rowland, Bellemare and Munos, AAAI 2018, arXiv 1710.10044, equation 10, with kappa 1.

    Args:
        quantiles: `[samples, n]`, those at (i + 1/2) / n.
        targets: `[samples, m]`, constants.

    Returns:
        `[samples, n]`.
    """
    error = targets.unsqueeze(1) - quantiles.unsqueeze(2)
    size = error.abs()
    huber = torch.where(size > 1, size - 0.5, error.square() / 2)
    count = quantiles.shape[1]
    level = (torch.arange(count, device=quantiles.device).unsqueeze(1) + 0.5) / count
    return ((level - (error < 0).to(huber)).abs() * huber).mean(2)
