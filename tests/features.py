"""Networks of small models after a forward pass that was watched, for penalties on features and outputs."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import relu

from agents.interventions import Moment, Step
from agents.layers import Network
from agents.sb3 import Batch, forward, read_networks
from agents.watching import Watcher
from tests.models import make, step_of


class Watched:
    """A model's networks (those with layers) and what was seen of the last pass through them.

    Attributes:
        model: the model, in evaluation mode.
        networks: its networks by name.
    """

    def __init__(self, kind: str, learn: int = 0) -> None:
        self.model: Any = make(kind)
        if learn:
            self.model.learn(learn)
        self.model.policy.set_training_mode(False)
        self.networks = {network.name: network for network in read_networks(self.model) if network.layers}
        self.watcher = Watcher()
        for network in self.networks.values():
            self.watcher.watch(network, {"activations", "preactivations", "inputs", "outputs"})
        self.run()

    def run(self, samples: int = 8) -> None:
        """Run all networks on other observations, with gradients as training does."""
        drawn: Any = [self.model.observation_space.sample() for _ in range(samples)]
        if isinstance(drawn[0], dict):
            observations = {key: np.stack([one[key] for one in drawn]) for key in drawn[0]}
        else:
            observations = np.clip(np.stack(drawn), -5, 255)  # the space of some observations is infinite
        actions = torch.as_tensor(np.stack([self.model.action_space.sample() for _ in range(samples)]))
        batch = Batch(self.model.policy.obs_to_tensor(observations)[0], actions)
        forward.__wrapped__(self.model, batch)  # type: ignore[attr-defined]

    def step(self, name: str, number: int = 0) -> Step:
        """A step of a network's optimiser."""
        return step_of(self.networks[name], self.watcher, number)

    def inputs(self, name: str) -> tuple[Any, ...]:
        """What a network was run on."""
        return self.watcher.inputs(self.networks[name]) or ()


def moment() -> Moment:
    """A moment between two rollouts."""
    return Moment(0, 0, {}, switched=False, activations=lambda network: {})


def by_hand(network: Network, inputs: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Pre-activations and activations of the hidden layers of a small network of linear layers and ReLU."""
    found = []
    for layer in network.hidden:
        assert layer.bias is not None
        before = inputs @ layer.weight.tensor.T + layer.bias.tensor
        found.append((before, inputs := relu(before)))
    return found


def move(network: Network, seed: int = 0) -> None:
    """Change all weights, as an update does."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for param in network.params():
            param.tensor += 0.05 * torch.randn(param.tensor.shape, generator=generator)
