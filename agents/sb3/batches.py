"""Batches of transitions, out of whichever buffer an algorithm has, and all networks run on them.

Nothing here draws from the agent's random stream.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import DictReplayBuffer, DictRolloutBuffer, ReplayBuffer, RolloutBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import obs_as_tensor
from torch import Tensor, nn

from agents.layers import Layer
from agents.sb3.networks import has_two_bodies, value_network


@dataclass(frozen=True)
class Batch:
    """Transitions as the model's networks take them.

    Attributes:
        observations: as the policy's own preprocessing expects them, samples first.
        actions: the actions taken there, `[samples, dimensions]`.
        learning: what the agent learns from there, samples first. Of a rollout: advantages, returns, values, log_prob.
            Of a replay buffer: next_observations (like the observations), rewards, dones (of true ends). Empty where
            it was not asked for or the algorithm's buffer is of a kind of its own.
    """

    observations: Any
    actions: Tensor | None
    learning: dict[str, Any] = field(default_factory=dict)

    def first(self, count: int) -> "Batch":
        """The first transitions; samples are in random order, so any are as good."""
        return Batch(_first(self.observations, count), _first(self.actions, count), _first(self.learning, count))


def _first(tree: Any, count: int) -> Any:
    if isinstance(tree, dict):
        return {key: _first(part, count) for key, part in tree.items()}
    return tree if tree is None else tree[:count]


def sample_batch(
    model: BaseAlgorithm, size: int, rng: np.random.Generator, recent: int | None = None, learning: bool = False
) -> Batch | None:
    """Draw transitions from the last rollout or from the replay buffer; None while there are none.

    On-policy algorithms empty their buffer before the next rollout starts: call this at the end of a rollout.

    Args:
        model: the agent.
        size: how many; all there are when fewer.
        rng: where the choice is drawn from, so that the agent's own random stream stays untouched.
        recent: only of the last so many environment steps, over all parallel environments, rounded up to whole ones;
            None: of all that the buffer holds.
        learning: whether to take along what the agent learns from.
    """
    if isinstance(model, OnPolicyAlgorithm):
        buffer: Any = model.rollout_buffer
        filled = buffer.buffer_size if buffer.full else buffer.pos
    elif isinstance(model, OffPolicyAlgorithm):
        buffer = model.replay_buffer
        filled = buffer.size()
    else:
        return None
    rows = filled if recent is None else min(filled, math.ceil(recent / buffer.n_envs))
    count = min(size, rows * buffer.n_envs)
    if count == 0:
        return None
    index = rng.choice(rows * buffer.n_envs, count, replace=False)
    # While a rollout is trained on, its buffer has steps and environments already in one dimension, environments first.
    flattened = bool(getattr(buffer, "generator_ready", False))
    if rows < filled:
        end = buffer.pos if isinstance(model, OffPolicyAlgorithm) else filled
        step, env = (index // buffer.n_envs + end - rows) % filled, index % buffer.n_envs
        index = env * filled + step if flattened else step * buffer.n_envs + env

    def chosen(stored: Any, later: int = 0) -> Any:
        if isinstance(stored, dict):
            return {key: chosen(part, later) for key, part in stored.items()}
        transitions = _transitions(stored, flattened)
        return transitions[(index + later) % len(transitions) if later else index]

    # A replay buffer keeps raw observations.
    normalizer = model.get_vec_normalize_env() if isinstance(model, OffPolicyAlgorithm) else None

    def observed(found: Any) -> Any:
        # As SB3's own buffers give them: a discrete part keeps the dimension of one that its checks would refuse.
        return obs_as_tensor(normalizer.normalize_obs(found) if normalizer else found, model.device)

    def numbers(found: Any) -> Tensor:
        return torch.as_tensor(found, device=model.device, dtype=torch.float32)

    more: dict[str, Any] = {}
    if learning and type(buffer) in (RolloutBuffer, DictRolloutBuffer):
        stored = {"advantages": "advantages", "returns": "returns", "values": "values", "log_prob": "log_probs"}
        more = {key: numbers(chosen(getattr(buffer, name))).flatten() for key, name in stored.items()}
    elif learning and type(buffer) in (ReplayBuffer, DictReplayBuffer):
        rewards, ends = chosen(buffer.rewards), chosen(buffer.dones) * (1 - chosen(buffer.timeouts))
        if buffer.optimize_memory_usage:  # what follows a step is kept as the next step's observation
            following = chosen(buffer.observations, later=buffer.n_envs)
        else:
            following = chosen(buffer.next_observations)
        more = {"next_observations": observed(following), "dones": numbers(ends)}
        more["rewards"] = numbers(normalizer.normalize_reward(rewards) if normalizer else rewards)
    return Batch(observed(chosen(buffer.observations)), numbers(chosen(buffer.actions)), more)


def _transitions(array: NDArray[Any], flattened: bool) -> NDArray[Any]:
    """A buffer's `[steps, environments, ...]` as a view `[transitions, ...]`."""
    return array if flattened else array.reshape(-1, *array.shape[2:])


@torch.no_grad()
def forward(model: BaseAlgorithm, batch: Batch) -> None:
    """Run every trained network once on the batch, in evaluation mode and without sampling; for its hooks' sake."""
    policy: Any = model.policy
    training = policy.training
    policy.set_training_mode(False)
    if has_two_bodies(policy):
        features = policy.extract_features(batch.observations)
        for_actor, for_critic = features if isinstance(features, tuple) else (features, features)
        policy.action_net(policy.mlp_extractor.forward_actor(for_actor))
        policy.value_net(policy.mlp_extractor.forward_critic(for_critic))
    elif hasattr(policy, "critic"):
        actor = policy.actor
        features = actor.extract_features(batch.observations, actor.features_extractor)
        latent = actor.latent_pi(features) if hasattr(actor, "latent_pi") else features
        for head in (actor.mu, getattr(actor, "log_std", None)):
            if isinstance(head, nn.Module):
                head(latent)
        policy.critic(batch.observations, batch.actions)
    else:
        value_network(policy)(batch.observations)
    policy.set_training_mode(training)


def activations(model: BaseAlgorithm, layers: Iterable[Layer], batch: Batch) -> dict[Layer, Tensor]:
    """The outputs of hidden units on a batch.

    Returns:
        For each layer `[samples, units]`, as `Layer.samples` makes them.
    """
    found: dict[Layer, Tensor] = {}

    def keep(layer: Layer) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            found[layer] = layer.samples(output)

        return hook

    handles = [layer.output.register_forward_hook(keep(layer)) for layer in layers]
    try:
        forward(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return found
