"""When the target that an agent learns from is new: the moment at which AdamRel and moment resets act.

On-policy agents learn from a new target after every rollout. DQN's is new when its target network is copied: before
the next step network and copy are equal, which no number of steps later they are.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Gt

from agents.interventions import Intervention, Moment, MomentName, ResetEvent, Step
from agents.layers import Network, Param
from agents.stacking import Random
from optimizers.base import AdamSettings
from resets.base import TimedReset

When = Literal["target", "periodic", "switch"]
Unit = Literal["gradient_steps", "env_steps", "rollouts"]


@dataclass
class TargetSettings(AdamSettings):
    """Base of the variants of Adam that forget at a new target."""

    when: When = "target"
    """target: every rollout for PPO and A2C (Ellis et al. 2024), every copy of the target network for DQN (Asadi et al.
    2023). periodic: every `every` `unit`s. switch: when the task changes, an oracle that real life does not offer."""

    every: Annotated[int, Gt(0)] = 1
    """Period of when periodic, counted in `unit` and rounded up to the next rollout."""

    unit: Unit = "rollouts"
    """What `every` counts: steps of the network's own optimiser, steps in the environment, or rollouts."""


@dataclass(kw_only=True)
class AtNewTarget(TimedReset):
    """Base of what acts on an optimiser's statistics when its target is new; it leaves no events, weights stay."""

    needs = "layers"

    when: When = "target"  # type: ignore[assignment]
    """target: when there is a new target. periodic: every `every` `unit`s. switch: when the task changes."""

    every: Annotated[int, Gt(0)] = 1
    """Period of periodic ones, counted in `unit` and rounded up to the next rollout."""

    unit: Unit = "rollouts"
    """What `every` counts."""

    @property
    def waits_for_copies(self) -> bool:
        """Whether it acts at new targets, which in agents with a target network are its copies."""
        return self.when == "target"

    def act(self, param: Param) -> None:
        """Do it to the optimiser's statistics of one parameter."""
        raise NotImplementedError

    def uses(self, moment: MomentName) -> bool:
        """Steps are watched for new targets only."""
        return super().uses(moment) and (moment != "before_step" or self.when == "target")

    def stacks(self, number: int) -> float:
        """All steps: agents that are stacked have no target networks of which copies are made."""
        return math.inf

    def check(self, networks: list[Network], others: Sequence[Intervention]) -> None:
        """Refuse agents whose targets move a little at every step."""
        if self.when == "target" and len({network.optimizer for network in networks}) > 1:
            raise ValueError(
                f"{type(self).__name__} with when target needs the rollouts of PPO and A2C or the target copies of "
                "DQN, and this agent's targets move a little at every step; choose periodic or switch."
            )

    def between_rollouts(
        self, networks: list[Network], moment: Moment, generator: torch.Generator
    ) -> Iterable[ResetEvent]:
        """Act at a new rollout's target, or when the time has come."""
        for network in networks:
            if self.when != "target":
                now = self.due(network, moment)
            else:
                now = moment.rollouts > 0 and network.layers[-1].weight.target is None
            if now:
                self.start_anew(network)
        return ()

    def before_step(self, networks: list[Network], step: Step, generator: Random) -> None:
        """Act at the first step after a target network has been copied."""
        for network in networks:
            head = network.layers[-1].weight
            if head.target is not None and torch.equal(head.tensor, head.target):
                self.start_anew(network)

    def start_anew(self, network: Network) -> None:
        """Act on all parameters of a network."""
        for param in network.params():
            self.act(param)
