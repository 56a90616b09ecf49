"""Losses of PPO, A2C and TRPO."""

from typing import Any

import torch
from sb3_contrib import TRPO
from stable_baselines3 import A2C
from stable_baselines3.common.preprocessing import preprocess_obs
from torch import Tensor

from agents.layers import Network
from agents.losses.densities import density
from agents.losses.pure import Losses, Parameters, Pure, Samples
from agents.sb3 import Batch


def on_policy(model: Any, network: Network, batch: Batch, generator: torch.Generator) -> Losses | None:
    """Samples and losses of an actor, a critic or the extractor of both; None for a policy that is not known."""
    policy, train = model.policy, type(model).train
    known = density(policy.action_dist)
    if known is None:
        return None
    if network.role != "critic":
        actor = Pure(network, [policy.pi_features_extractor, policy.mlp_extractor.policy_net], [policy.action_net])
    if network.role != "actor":
        critic = Pure(network, [policy.vf_features_extractor, policy.mlp_extractor.value_net], [policy.value_net])
    log_std = policy.log_std.detach() if hasattr(policy, "log_std") else torch.empty(0)
    clip, clip_value = _now(model, "clip_range"), _now(model, "clip_range_vf")
    entropy_coefficient = model.ent_coef
    value_coefficient = 1.0 if train is TRPO.train else model.vf_coef

    def policy_loss(parameters: Parameters, samples: Samples) -> Tensor:
        latent, (outputs,) = actor(parameters, samples["observations"])
        log_prob, entropy = known(latent, outputs, parameters.get("actor.log_std", log_std), samples)
        ratio = log_prob if train is A2C.train else torch.exp(log_prob - samples["log_prob"])
        gain: Tensor = samples["advantages"] * ratio
        if clip is not None:
            gain = torch.min(gain, samples["advantages"] * ratio.clamp(1 - clip, 1 + clip))
        return -gain - (-log_prob if entropy is None else entropy).mul(entropy_coefficient)

    def value_loss(parameters: Parameters, samples: Samples) -> Tensor:
        _, (outputs,) = critic(parameters, samples["observations"])
        values, before = outputs[:, 0], samples["values"]
        if clip_value is not None:
            values = before + (values - before).clamp(-clip_value, clip_value)
        loss: Tensor = value_coefficient * (samples["returns"] - values).square()
        return loss

    def both(parameters: Parameters, samples: Samples) -> Tensor:
        return policy_loss(parameters, samples) + value_loss(parameters, samples)

    advantages = batch.learning["advantages"]
    if model.normalize_advantage and len(advantages) > 1:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    observations = preprocess_obs(batch.observations, policy.observation_space, policy.normalize_images)
    samples = {**batch.learning, "advantages": advantages, "observations": observations, "actions": batch.actions}
    shared = policy_loss if train is TRPO.train else both
    return samples, {"actor": policy_loss, "critic": value_loss, "shared": shared}[network.role]


def _now(model: Any, schedule: str) -> float | None:
    """The present value of a schedule, None where the model has none."""
    value = getattr(model, schedule, None)
    return None if value is None else float(value(model._current_progress_remaining))
