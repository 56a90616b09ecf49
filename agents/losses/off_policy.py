"""Losses of SAC, TQC, TD3 and DDPG."""

from typing import Any

import torch
from sb3_contrib import TQC
from stable_baselines3 import TD3
from stable_baselines3.common.distributions import TanhBijector
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN
from torch import Tensor, nn

from agents.layers import Network
from agents.losses.densities import gaussian_log_prob, state_dependent_std
from agents.losses.pure import CONSTANT, Losses, Parameters, Pure, Samples, trained
from agents.losses.values import bootstrapped, quantile_huber
from agents.sb3 import Batch


def off_policy(model: Any, network: Network, batch: Batch, generator: torch.Generator) -> Losses:
    """Samples and losses of an actor, of one of several critics, or of an extractor of features."""
    policy, train = model.policy, type(model).train
    assert batch.actions is not None
    observations = preprocess_obs(batch.observations, policy.observation_space, policy.normalize_images)
    features = Pure(network, [policy.critic.features_extractor])
    seen, _ = features(CONSTANT, observations)
    actor = Actor(network, policy.actor)
    noise = actor.draw(batch.actions, generator)
    next_noise = noise if actor.log_std is not None else actor.draw(batch.actions, generator)

    if network.role != "critic":  # an extractor that actor and critics share is trained by the actor's loss alone
        critics = [Pure(network, [critic]) for critic in policy.critic.q_networks]
        temperature = _temperature(model)

        def actor_loss(parameters: Parameters, samples: Samples) -> Tensor:
            actions, log_prob = actor(parameters, samples["observations"], samples["noise"])
            inputs = torch.cat([samples["features"], actions], dim=1)
            values = torch.cat([critic(CONSTANT, inputs)[0] for critic in critics], dim=1)
            if train is TD3.train:
                return -values[:, 0]
            return temperature * log_prob - (values.mean(1) if train is TQC.train else values.amin(1))

        return {"observations": observations, "noise": noise, "features": seen}, actor_loss

    # The losses of those critics that the network is one of, or whose extractor it is.
    owned = {param.tensor for param in trained(network)}
    parts = [critic for critic in policy.critic.q_networks if features.names or owned & {*critic.parameters()}]
    critics = [Pure(network, [critic]) for critic in parts]

    def error(values: Tensor, target: Tensor) -> Tensor:
        if train is TQC.train:
            return quantile_huber(values, target).mean(1) / len(policy.critic.q_networks)
        return (values - target).square()[:, 0] * (1.0 if train is TD3.train else 0.5)

    def critic_loss(parameters: Parameters, samples: Samples) -> Tensor:
        seen = features(parameters, samples["observations"])[0] if features.names else samples["features"]
        inputs = torch.cat([seen, samples["actions"]], dim=1)
        return torch.stack([error(critic(parameters, inputs)[0], samples["target"]) for critic in critics]).sum(0)

    samples = {"observations": observations} if features.names else {"features": seen}
    target = _target(model, network, batch, actor, next_noise)
    return {**samples, "actions": batch.actions, "target": target}, critic_loss


class Actor:
    """An actor as a function of parameters, observations and the noise in its actions.

    Noise is standard normal: a number for each action or, with gSDE, for each pair of a feature and an action, then the
    same for all samples and for the target. TD3's actor has none.
    """

    def __init__(self, network: Network, actor: Any) -> None:
        log_std = getattr(actor, "log_std", None)
        body = [actor.features_extractor, *([actor.latent_pi] if hasattr(actor, "latent_pi") else [])]
        self.pure = Pure(network, body, [head for head in (actor.mu, log_std) if isinstance(head, nn.Module)])
        self.log_std = log_std.detach() if isinstance(log_std, Tensor) else None
        self.made: Any = getattr(actor, "action_dist", None)

    def draw(self, actions: Tensor, generator: torch.Generator) -> Tensor:
        """Noise for as many samples as there are actions `[samples, dimensions]`."""
        shape = list(actions.shape) if self.log_std is None else [self.made.latent_sde_dim, actions.shape[1]]
        noise = torch.randn(shape, generator=generator, device=generator.device).to(actions.device)
        return noise if self.log_std is None else noise.expand(len(actions), *shape)

    def __call__(self, parameters: Parameters, observations: Any, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions `[samples, dimensions]` between -1 and 1, and their log-probabilities `[samples]` (TD3: zeros)."""
        latent, (mean, *rest) = self.pure(parameters, observations)
        if self.made is None:
            return mean, mean.new_zeros(len(mean))
        if self.log_std is None:
            std = rest[0].clamp(LOG_STD_MIN, LOG_STD_MAX).exp()
            before = mean + std * noise
            actions = before.tanh()
            correction = torch.log(1 - actions.square() + self.made.epsilon)
            return actions, gaussian_log_prob(before, mean, std) - correction.sum(1)
        log_std = parameters.get("actor.log_std", self.log_std)
        mixing = self.made.get_std(log_std) * noise
        actions = (mean + (latent.unsqueeze(1) @ mixing).squeeze(1)).tanh()
        before = TanhBijector.inverse(actions)
        log_prob = gaussian_log_prob(before, mean, state_dependent_std(self.made, latent, log_std))
        return actions, log_prob - self.made.bijector.log_prob_correction(before).sum(1)


def _temperature(model: Any) -> Tensor | float:
    """SAC's entropy coefficient; none in TD3."""
    log = getattr(model, "log_ent_coef", None)
    return getattr(model, "ent_coef_tensor", 0.0) if log is None else torch.exp(log.detach())


def _target(model: Any, network: Network, batch: Batch, actor: Actor, noise: Tensor) -> Tensor:
    """What critics are trained towards: `[samples, 1]`, for TQC `[samples, quantiles]`."""
    policy, train, critic = model.policy, type(model).train, model.policy.critic_target
    observations = preprocess_obs(
        batch.learning["next_observations"], policy.observation_space, policy.normalize_images
    )
    if train is TD3.train:
        actions, log_prob = Actor(network, policy.actor_target)(CONSTANT, observations, noise)
        smoothing = (noise * model.target_policy_noise).clamp(-model.target_noise_clip, model.target_noise_clip)
        actions = (actions + smoothing).clamp(-1, 1)
    else:
        actions, log_prob = actor(CONSTANT, observations, noise)
    inputs = torch.cat([Pure(network, [critic.features_extractor])(CONSTANT, observations)[0], actions], dim=1)
    values = torch.cat([Pure(network, [one])(CONSTANT, inputs)[0] for one in critic.q_networks], dim=1)
    if train is TQC.train:
        kept = values.shape[1] - model.top_quantiles_to_drop_per_net * critic.n_critics
        values = values.sort(dim=1)[0][:, :kept]
    else:
        values = values.amin(1, keepdim=True)
    return bootstrapped(model, batch, values - _temperature(model) * log_prob.unsqueeze(1))
