"""What all resets share: when they fire."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Gt
from torch import Tensor

from agents.interventions import Intervention, Moment
from agents.layers import Network


@dataclass(kw_only=True)
class Reset(Intervention):
    """Base of everything that overwrites weights.

    It implements `between_rollouts` for anything large or rare, `after_step` where it is defined per gradient step.
    """


@dataclass(kw_only=True)
class TimedReset(Reset):
    """Base of resets that fire periodically or when the task switches, between two rollouts."""

    when: Literal["periodic", "switch"] = "periodic"
    """periodic: every `every` `unit`s. switch: when the task changes, an oracle that real life does not offer."""

    every: Annotated[int, Gt(0)] = 1000
    """Period of periodic resets, counted in `unit` and rounded up to the next rollout."""

    unit: Literal["gradient_steps", "env_steps", "rollouts"] = "gradient_steps"
    """What `every` counts: steps of the network's own optimiser, steps in the environment, or rollouts."""

    def due(self, network: Network, moment: Moment) -> bool:
        """Whether it is time for this network; a periodic reset never fires before a first full period."""
        if self.when == "switch":
            return moment.switched
        if self.unit == "gradient_steps":
            now = moment.gradient_steps.get(network.optimizer, 0) if network.optimizer else 0
        else:
            now = moment.env_steps if self.unit == "env_steps" else moment.rollouts
        last = self.state.setdefault(f"last.{network.name}", 0)
        if now < last:  # the model learns anew, and counts from zero again
            last = self.state[f"last.{network.name}"] = 0
        if now - last < self.every:
            return False
        self.state[f"last.{network.name}"] = now
        return True

    def why(self) -> str:
        """The reason that events give."""
        return "task switch" if self.when == "switch" else f"every {self.every} {self.unit.replace('_', ' ')}"

    def due_networks(self, networks: list[Network], moment: Moment) -> Iterator[Network]:
        """The networks whose time has come."""
        return (network for network in networks if self.due(network, moment))


def normal_like(tensors: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    """Standard normal numbers in the shapes of tensors of one kind, all drawn at once."""
    sizes, like = [tensor.numel() for tensor in tensors], tensors[0]
    drawn = torch.randn(sum(sizes), generator=generator, device=like.device, dtype=like.dtype)
    return [part.view_as(tensor) for part, tensor in zip(torch.split(drawn, sizes), tensors, strict=True)]
