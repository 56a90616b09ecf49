"""What diagnostics look at: a model at one moment, on one batch of its own transitions.

`ModelView` is the `metrics.View` of a Stable-Baselines3 model. One forward pass, in evaluation mode and without
gradients, serves all networks and metrics; it and everything else is done when first asked for. What the policy does is
read as logits or as a Gaussian's moments, which is the second thing, beside its layers, that only SB3's names tell.
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from gymnasium.spaces import Discrete
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN
from torch import Tensor, nn

from agents.layers import Layer, Network, Param
from agents.losses import network_loss
from agents.sb3 import Batch, forward
from agents.stacking import hash_seed
from agents.watching import Watcher
from metrics.base import Loss, Policy, View
from metrics.gradients.per_sample import fewer, most_samples, sample_gradients

LOSS_SAMPLES = 256
"""On how many transitions a network's loss is looked at: for curvature, say. A choice: its cost is in proportion."""

GRADIENT_SAMPLES = 128
"""For how many of them the gradient of each is computed; each is as large as the network."""


class ModelView(View):
    """A model on a batch.

    Args:
        model: the agent.
        networks: its networks, as `agents.sb3.read_networks` gives them.
        batch: where it is looked at.
        seed: numbers that name run and moment; what is drawn at random follows from them.
        initial: the parameters as they were when the agent was made; none where that is not known.
        before: what the policy did on this batch before it was trained on it.
    """

    def __init__(
        self,
        model: BaseAlgorithm,
        networks: Sequence[Network],
        batch: Batch | None,
        seed: Sequence[int] = (0,),
        initial: Mapping[Tensor, Tensor] | None = None,
        before: Policy | None = None,
    ) -> None:
        self.model: Any = model
        self.networks = networks
        self.batch = batch
        self.seed = tuple(seed)
        self._initial = initial or {}
        self._before = before
        self._seen: Watcher | None = None
        self._losses: dict[Network, Loss | None] = {}
        self._gradients: dict[Network, Tensor | None] = {}
        self._features: dict[Network, Tensor] = {}
        self._activations: dict[tuple[Network, str], dict[Layer, Tensor]] = {}

    def _look(self) -> Watcher:
        """The one forward pass."""
        if self._seen is None:
            self._seen = Watcher(always=True)
            if self.batch is not None:
                for network in self.networks:
                    self._seen.watch(network, {"activations", "preactivations", "inputs", "outputs"})
                handles = [self._keep_features(network) for network in self.networks if network.hidden]
                forward(self.model, self.batch)
                self._seen.unhook()
                for handle in handles:
                    if handle is not None:
                        handle.remove()
        return self._seen

    def _keep_features(self, network: Network) -> Any:
        head = next((layer.module for layer in network.layers if layer.is_head), None)

        def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self._features[network] = inputs[0].flatten(1)

        return head.register_forward_pre_hook(keep) if head is not None else None

    def activations(self, network: Network) -> dict[Layer, Tensor]:
        """Outputs of the hidden units."""
        if (network, "h") not in self._activations:
            self._activations[network, "h"] = self._look().read(network, "activations")
        return self._activations[network, "h"]

    def preactivations(self, network: Network) -> dict[Layer, Tensor]:
        """What their nonlinearities were given."""
        if (network, "z") not in self._activations:
            self._activations[network, "z"] = self._look().read(network, "preactivations")
        return self._activations[network, "z"]

    def features(self, network: Network) -> Tensor | None:
        """What the network's first output layer was given, behind any normalisation."""
        if network not in self._features:
            self._look()
            if network not in self._features:  # no head: a shared extractor, read by the networks behind it
                output = self._look().output(network.hidden[-1]) if network.hidden else None
                if output is None:
                    return None
                self._features[network] = output.flatten(1)
        return self._features[network]

    def inputs(self, network: Network) -> tuple[Any, ...]:
        """What `network.run` takes."""
        return self._look().inputs(network) or ()

    def outputs(self, network: Network) -> list[Tensor]:
        """What it gives."""
        return self._look().outputs(network)

    def policy(self) -> Policy | None:
        """What the actor's outputs mean."""
        actor = next((network for network in self.networks if network.role == "actor"), None)
        outputs = self.outputs(actor) if actor else []
        return policy_of(self.model, actor, outputs, self.features(actor)) if actor and outputs else None

    def policy_before(self) -> Policy | None:
        """What was given as such."""
        return self._before

    @torch.no_grad()
    def log_ratio(self) -> Tensor | None:
        """Log-probability of the rollout's actions now, less that with which they were taken."""
        if self.batch is None or "log_prob" not in self.batch.learning:
            return None
        policy = self.model.policy
        training = policy.training
        policy.set_training_mode(False)
        actions = self.batch.actions
        assert actions is not None
        discrete = isinstance(self.model.action_space, Discrete)
        found = policy.get_distribution(self.batch.observations).log_prob(actions.flatten() if discrete else actions)
        policy.set_training_mode(training)
        difference: Tensor = found - self.batch.learning["log_prob"]
        return difference

    def returns(self, network: Network) -> Tensor | None:
        """The rollout's returns, for its critic."""
        if self.batch is None or network.role != "critic":
            return None
        return self.batch.learning.get("returns")

    def loss(self, network: Network) -> Loss | None:
        """The algorithm's loss on the first of the batch's transitions."""
        if network not in self._losses:
            # All networks draw the same noise, as the critics of one update do.
            known = self.batch is not None and bool(self.batch.learning)
            few = self.batch.first(LOSS_SAMPLES) if self.batch is not None and known else None
            loss = None if few is None else network_loss(self.model, network, few, self.generator("loss"))
            self._losses[network] = loss
        return self._losses[network]

    def sample_gradients(self, network: Network) -> Tensor | None:
        """The gradient of each transition's loss."""
        if network not in self._gradients:
            loss = self.loss(network)
            if loss is not None:
                loss = fewer(loss, min(GRADIENT_SAMPLES, most_samples(loss)))
            self._gradients[network] = None if loss is None else sample_gradients(loss)
        return self._gradients[network]

    def initial(self, param: Param) -> Tensor | None:
        """As it was when the agent was made."""
        return self._initial.get(param.tensor)

    def generator(self, purpose: str) -> torch.Generator:
        """A generator that only run, moment and purpose determine."""
        seed = hash_seed(*self.seed, zlib.crc32(purpose.encode()))
        return torch.Generator(self.model.device).manual_seed(seed)


@torch.no_grad()
def policy_of(model: Any, actor: Network, outputs: list[Tensor], features: Tensor | None) -> Policy:
    """What an actor's outputs say that the policy does.

    Args:
        model: the agent.
        actor: its actor network.
        outputs: one tensor a head, `[samples, …]`.
        features: what the heads read, `[samples, …]`; needed for state-dependent noise (gSDE).
    """
    first = outputs[0]
    if actor.categories:
        return Policy(logits=tuple(torch.split(first, actor.categories, dim=-1)))
    log_std: Any = getattr(model.policy, "log_std", None)
    on_policy = hasattr(model.policy, "action_net")
    if on_policy and log_std is None:  # MultiBinary: each logit is that of one against zero
        return Policy(logits=tuple(torch.stack([torch.zeros_like(one), one], dim=-1) for one in first.unbind(-1)))
    noise: Any = model.policy.action_dist if on_policy else getattr(model.policy.actor, "action_dist", None)
    if isinstance(noise, StateDependentNoiseDistribution):
        log_std = log_std if on_policy else model.policy.actor.log_std
        assert features is not None
        variance = features.square() @ noise.get_std(log_std).square()
        # Off the policy the mean is clipped softly by a Hardtanh that is part of its head.
        return Policy(mean=first, std=(variance + noise.epsilon).sqrt(), squashed=not on_policy)
    if on_policy:
        return Policy(mean=first, std=log_std.exp().expand_as(first))
    if len(outputs) == 2:
        return Policy(mean=first, std=outputs[1].clamp(LOG_STD_MIN, LOG_STD_MAX).exp(), squashed=True)
    # TD3's head ends in the tanh itself.
    return Policy(mean=first.clamp(-1 + 1e-6, 1 - 1e-6).atanh(), squashed=True)


def initial_tensors(networks: Sequence[Network]) -> dict[Tensor, Tensor]:
    """Copies of all parameters as they are now."""
    return {param.tensor: param.tensor.detach().clone() for network in networks for param in network.params()}
