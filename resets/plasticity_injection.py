"""Plasticity injection: once, freeze the head and let a fresh one learn the change to its predictions.

At a time T a network h_theta(phi(x)) becomes

    h_theta(phi(x)) + h_theta1(phi(x)) - h_theta2(phi(x)),        theta1 = theta2 drawn from the layers' initialisers

with theta and theta2 frozen, theta1 and the encoder phi trained. At T the output is what it was, and there are as many
weights to train as before; gradients reach the encoder through all three heads. It costs twice the head's memory and
arithmetic on top. As a diagnosis: a run that improves after it had been losing plasticity.

Nikishin, Oh, Ostrovski, Lyle, Pascanu, Dabney and Barreto, "Deep Reinforcement Learning with Plasticity Injection",
NeurIPS 2023, arXiv 2305.15555, expression 1 (Double DQN on Atari; encoder the convolutions, head the rest).

- The head is the last two affine layers, what follows the convolutions in the paper's agent. A head of one layer would
  add nothing: three linear maps of phi are one, which theta alone could have become.
- Actor and critic are injected each for itself (with a feature extractor shared between them, that one's last layer is
  part of both heads); SAC's mean and log_std both; a free log_std stays. A final tanh (TD3) squashes the sum.
- A target network gets its own theta and the same theta1 and theta2; what makes it follow the one makes it follow the
  others.
- Other interventions cannot act on the same networks: they would speak of layers that the injection replaces. TRPO's
  actor is refused, since its step asks for gradients of frozen weights too.

The weights do not fold into a network of the old shape again (only into one of three times the head's width), so a
model saved after T does not load into a plain one: SB3 refuses the weights it has no place for. Give the plain model
the same form first:

    model = PPO("MlpPolicy", env)
    PlasticityInjection().restore(read_networks(model))
    model.set_parameters("model.zip")

To go on learning, load the state of `Plasticity` as ever. (`train.py` does all of this when it takes up a run.)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt

from agents.injection import head_chains, inject, is_injected
from agents.interventions import Intervention, Moment, ResetEvent
from agents.layers import Network
from resets.base import TimedReset


@dataclass
class PlasticityInjection(TimedReset):
    """Freeze the heads and add fresh ones that change nothing yet, once (Nikishin et al. 2023)."""

    touches = ("hidden", "norm", "heads", "targets")
    needs = "layers"

    when: Literal["periodic", "switch"] = "periodic"
    """periodic: after the first `every` `unit`s. switch: at the first change of the task, an oracle. Never again."""

    every: Annotated[int, Gt(0)] = 50_000
    """When to inject, counted in `unit` and rounded up to the next rollout. A choice: it belongs where the agent's
    progress has come to a halt."""

    unit: Literal["gradient_steps", "env_steps", "rollouts"] = "env_steps"
    """What `every` counts: steps of the networks' optimisers (the first that gets there), steps in the environment, or
    rollouts."""

    layers: Annotated[int, Ge(1)] = 2
    """How many affine layers a head has, output layer included; 1 adds no plasticity, 2 is a choice."""

    @property
    def needs_gradients(self) -> bool:
        """What is added learns through the optimiser alone."""
        return True

    def check(self, networks: list[Network], others: Sequence[Intervention]) -> None:
        """Refuse heads that cannot be copied, and whatever else acts on the same networks."""
        for other in others:
            for network in networks:
                if other.acts_on(network):
                    raise ValueError(
                        f"PlasticityInjection cannot share the {network.name} with {type(other).__name__}: it freezes "
                        "and adds layers, so nothing else, no second injection either, may act on the same networks."
                    )
        head_chains(networks, self.layers)

    def between_rollouts(
        self, networks: list[Network], moment: Moment, generator: torch.Generator
    ) -> Iterator[ResetEvent]:
        """Inject all networks once the time has come."""
        injected = is_injected(networks)
        if injected and "injected" not in self.state:
            raise ValueError("PlasticityInjection: this model has been injected before, which is possible only once.")
        if not injected and "injected" in self.state:
            raise ValueError(
                "PlasticityInjection: the state is that of an injected model, which this one is not; call restore "
                "before its weights are loaded."
            )
        if injected or not any(self.due(network, moment) for network in networks):
            return
        inject(networks, self.layers, generator)
        self.state["injected"] = moment.env_steps
        for network in networks:
            if any(layer.is_head for layer in network.layers):
                yield ResetEvent(network.name, "head", "networks", 1, self.why())

    def reshape(self, networks: list[Network], state: dict[str, Any]) -> None:
        """Inject new networks where they were injected."""
        if "injected" in state and not is_injected(networks):
            self.restore(networks)

    def restore(self, networks: list[Network]) -> None:
        """Give a new model the form it had after the injection, before its weights are loaded."""
        own = [network for network in networks if self.acts_on(network)]
        self.check(own, [])
        inject(own, self.layers, torch.Generator(own[0].layers[0].weight.tensor.device))

    def why(self) -> str:
        """The reason that events give."""
        return "task switch" if self.when == "switch" else f"after {self.every} {self.unit.replace('_', ' ')}"
