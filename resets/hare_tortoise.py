"""Hare and tortoise: now and then, put the weights back to their own slow average.

The hare theta is the network that learns; the tortoise phi follows it at every gradient step, and every K steps the
hare is set back to where the tortoise is. What the hare has learnt in a hurry is lost, what lasted stays.

    phi   <- momentum * phi + (1 - momentum) * theta        after every gradient step
    theta <- phi                                            every K steps; the optimiser goes on

Lee, Cho, Kim, Kim, Min, Choo and Lyle, "Slow and Steady Wins the Race: Maintaining Plasticity with Hare and Tortoise
Networks", ICML 2024, arXiv 2406.02596.

The hare acts here (a choice). Did the tortoise act, data would come from a network that is not the one that is trained,
and PPO and A2C would compare the probabilities of two policies as if they were of one. For evaluations of the tortoise,
which is the network to deploy, there is `tortoise`:

    plasticity = Plasticity(hare_tortoise := HareTortoise())
    model.learn(100_000, callback=plasticity)
    with hare_tortoise.tortoise(plasticity.networks):
        evaluate_policy(model, env)

Target networks are left to follow the hare as always (a choice): SB3's are averages themselves, of shorter memory.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

from agents.interventions import Moment, ResetEvent, Step
from agents.layers import MomentPolicy, Network, Param
from agents.stacking import Random
from resets.base import TimedReset


@dataclass
class HareTortoise(TimedReset):
    """Set the weights back to their moving average (Lee et al. 2024)."""

    touches = ("hidden", "norm", "heads", "log_std")
    needs = "layers"

    every: Annotated[int, Gt(0)] = 2000
    """Period of periodic resets, counted in `unit` and rounded up to the next rollout. The paper's images: 10 epochs;
    its constants for RL are not in the published code, so this is a choice: twice the tortoise's memory."""

    unit: Literal["gradient_steps", "env_steps", "rollouts"] = "gradient_steps"
    """What `every` counts: steps of the network's own optimiser, steps in the environment, or rollouts."""

    momentum: Annotated[float, Ge(0), Lt(1)] = 0.999
    """How much of the tortoise stays at a gradient step (0.999 in the published code): a memory of
    1 / (1 - momentum) steps."""

    moments: MomentPolicy = "keep"
    """What happens to the optimiser's statistics when the hare is set back: kept, as in the published code."""

    def stacks(self, number: int) -> float:
        """All steps."""
        return math.inf

    @torch.no_grad()
    def after_step(self, networks: list[Network], step: Step, generator: Random) -> Iterator[ResetEvent]:
        """Let the tortoise follow."""
        pairs = [pair for network in networks for pair in self.pairs(network)]
        torch._foreach_lerp_([slow for _, slow in pairs], [hare.tensor for hare, _ in pairs], 1 - self.momentum)
        return iter(())

    def between_rollouts(
        self, networks: list[Network], moment: Moment, generator: torch.Generator
    ) -> Iterator[ResetEvent]:
        """Set every network whose time has come back to its tortoise, which starts where the run starts."""
        for network in networks:
            pairs = self.pairs(network)
            if self.due(network, moment):
                for hare, slow in pairs:
                    hare.overwrite(slow, moments=self.moments)
                yield ResetEvent(network.name, "all", "networks", 1, self.why())

    def pairs(self, network: Network) -> list[tuple[Param, Tensor]]:
        """Each parameter, a policy's log_std too, with its slow average."""
        state = self.state
        found: list[tuple[Param, Tensor]] = []
        for param in network.params():
            slow = state.get(key := f"tortoise.{param.name}")
            if slow is None:
                slow = state[key] = param.tensor.detach().clone()
            found.append((param, slow))
        return found

    @contextmanager
    def tortoise(self, networks: list[Network]) -> Iterator[None]:
        """Let the networks have the tortoise's weights inside a `with`, and the hare's again after it."""
        own = [network for network in networks if self.acts_on(network)]
        if not any(f"tortoise.{param.name}" in self.state for network in own for param in network.params()):
            raise ValueError("there is no tortoise yet: it starts when learning does.")
        pairs = [pair for network in own for pair in self.pairs(network)]
        hares = [(param, param.tensor.detach().clone()) for param, _ in pairs]
        try:
            for param, slow in pairs:
                param.overwrite(slow)
            yield
        finally:
            for param, hare in hares:
                param.overwrite(hare)
