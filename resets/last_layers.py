"""Last-layer resets: start the layers next to the outputs anew from time to time, and keep the rest.

The last `layers` affine layers of every network, counted from its outputs, are drawn again from their own initialisers
and their optimiser's statistics are forgotten; earlier layers, which hold the representation, and the replay buffer
stay. All heads of a network are its last layer (SAC's mean and log standard deviation), together with a policy's
free parameters; through a shared feature extractor the count goes on into its layers, each at its distance from the
nearest output. Target networks get the new weights, since otherwise the old ones would go on being the goal.

Nikishin, Schwarzer, D'Oro, Bacon and Courville, "The Primacy Bias in Deep Reinforcement Learning", ICML 2022,
arXiv 2205.07802, whose remedy is to re-initialise the last few layers of an agent: SPR the head of its Q network every
2e4 agent steps, four times (from the authors' configuration), SAC all layers every 2e5 (which `full` does). It takes a
replay buffer to recover quickly: in PPO a new last layer makes the policy a random one for a rollout, in a low
replay-ratio SAC resets cost more than they bring.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Gt

from agents.interventions import Intervention, Moment, ResetEvent
from agents.layers import Layer, Network, Param
from configs.settings import SettingError
from resets.base import TimedReset


@dataclass
class LastLayers(TimedReset):
    """Re-initialise the last layers of every network (Nikishin et al. 2022)."""

    touches = ("hidden", "norm", "heads", "log_std", "targets")
    needs = "layers"

    layers: Annotated[int, Gt(0)] = 1
    """How many layers, counted from the outputs: 1 resets the heads alone, as for SPR (Nikishin et al. 2022)."""

    every: Annotated[int, Gt(0)] = 20_000
    """Period of periodic resets, counted in `unit` and rounded up to the next rollout; 2e4 environment steps of the
    agent for SPR (same source)."""

    unit: Literal["gradient_steps", "env_steps", "rollouts"] = "env_steps"
    """What `every` counts: steps of the network's own optimiser, steps in the environment, or rollouts."""

    def check(self, networks: list[Network], others: Sequence[Intervention]) -> None:
        """No network may have fewer layers than are to be reset."""
        for network in networks:
            leading = [layer for other in networks for layer in other.layers if _leads_to(layer, network)]
            depth = max(map(distance, leading))
            if depth < self.layers and any(layer.is_head for layer in network.layers):
                problem = f"must be at most {depth}, the depth of {network.name}, not {self.layers}"
                raise SettingError(self, "layers", problem)

    def between_rollouts(
        self, networks: list[Network], moment: Moment, generator: torch.Generator
    ) -> Iterator[ResetEvent]:
        """Start the last layers of every network whose time has come anew."""
        for network in self.due_networks(networks, moment):
            for param in self.chosen(network):
                param.forget()
                param.overwrite(param.fresh(generator))
                param.sync_target()
            for layer in self.last(network):
                count = sum(param.tensor.numel() for param in layer.params())
                yield ResetEvent(network.name, layer.name, "weights", count, self.why())

    def last(self, network: Network) -> list[Layer]:
        """The layers of the network that are near enough to an output."""
        return [layer for layer in network.layers if distance(layer) <= self.layers]

    def chosen(self, network: Network) -> list[Param]:
        """The parameters of these layers, and the free ones, which belong to the outputs."""
        return [param for layer in self.last(network) for param in layer.params()] + network.free


def distance(layer: Layer) -> int:
    """How many layers there are from this one to the nearest output, both included: 1 for a head."""
    return 1 + min((distance(consumer.layer) for consumer in layer.consumers), default=0)


def _leads_to(layer: Layer, network: Network) -> bool:
    """Whether the network's layers include this one or read it."""
    return layer in network.layers or any(_leads_to(consumer.layer, network) for consumer in layer.consumers)
