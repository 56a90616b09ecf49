"""Calibrated partial resets: pull every unit towards its initialisation, the more the less it learns.

After every step of the optimiser, a moving average of each unit's score relative to its layer (of 1 where it starts):

    u_i <- decay u_i + (1 - decay) G_i / mean_k G_k,    G_i = mean_j |dL/dW_ij|

and from time to time, without any threshold that decides all or nothing,

    p_i = rate min(1, f(u_i)),    f(u) = 2 / (1 + exp(sharpness (u - threshold)))    (sigmoid)
    W_in[i, :] <- (1 - p_i) W_in[i, :] + p_i fresh,     W_out[:, i] <- (1 - p_i) W_out[:, i],     u <- 1

Biases, normalisations and the optimiser's statistics stay, and so do output layers but for the columns that read hidden
units. Calibrated Partial Resets (CPR), 2026, arXiv 2607.24996; all details and constants from the authors' code
(LucMc/continual-learning), the paper's text was not available. There it fires after an optimiser's 1000th step and
draws He or LeCun weights; here it fires at the next rollout after it, as large changes within PPO's update would upset
the ratio to the policy of the rollout, and draws from each layer's own initialiser.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor

from agents.interventions import Moment, MomentName, ResetEvent, Step
from agents.layers import Layer, Network
from agents.stacking import Random
from agents.watching import Watched
from resets import scores
from resets.base import TimedReset


@dataclass
class CPR(TimedReset):
    """Pull units towards their initialisation, the more the less gradient they get (CPR 2026)."""

    touches = ("hidden", "heads")
    needs = "hidden"

    rate: Annotated[float, Ge(0), Le(1)] = 0.015
    """The largest pull p: 0.015 for PPO on a slippery ant and for SAC on MinAtar and Meta-World, 0.05 for PPO on a
    slippery humanoid (authors' code); 0 switches the method off."""

    shape: Literal["sigmoid", "exp", "softplus", "linear"] = "sigmoid"
    """f, how the pull falls above the threshold; below it is always the largest. sigmoid in all experiments."""

    sharpness: Annotated[float, Gt(0)] = 16.0
    """How steeply it falls (authors' code); ever larger values come ever closer to a threshold."""

    threshold: Annotated[float, Gt(0)] = 1.0
    """Average score relative to the layer up to which the pull is the largest: 1 in all experiments, the mean."""

    decay: Annotated[float, Ge(0), Lt(1)] = 0.99
    """Of the moving average, per step of the network's optimiser (authors' code)."""

    score: Literal["gradient", "activation", "contribution", "attribution"] = "gradient"
    """What u averages: the gradient of incoming weights, as in the authors' code, or another of `resets/scores.py`."""

    def watches(self) -> set[Watched]:
        """What the score needs."""
        return scores.watched(self.score)

    def uses(self, moment: MomentName) -> bool:
        """Nothing at all for a rate of zero."""
        return self.rate > 0 and super().uses(moment)

    def stacks(self, number: int) -> float:
        """All steps."""
        return math.inf

    @torch.no_grad()
    def after_step(self, networks: list[Network], step: Step, generator: Random) -> Iterable[ResetEvent]:
        """Average the scores."""
        averages, found = [], []
        for network in networks:
            for layer, score in scores.of_step(self.score, network, step).items():
                if f"utility.{layer.name}" not in self.state:
                    self.state[f"utility.{layer.name}"] = torch.ones_like(score)
                averages.append(self.state[f"utility.{layer.name}"])
                found.append(score)
        if found:
            means = [score.mean(dim=-1, keepdim=True).add_(scores.TINY) for score in found]
            torch._foreach_lerp_(averages, torch._foreach_div(found, means), 1 - self.decay)
        return ()

    def between_rollouts(
        self, networks: list[Network], moment: Moment, generator: torch.Generator
    ) -> Iterator[ResetEvent]:
        """Pull the units of every network whose time has come, layer by layer from the input."""
        for network in self.due_networks(networks, moment):
            for layer in network.hidden:
                if (utility := self.state.pop(f"utility.{layer.name}", None)) is not None:
                    self.pull(layer, self.strength(utility), generator)
                    yield ResetEvent(network.name, layer.name, "units", layer.units, self.why())

    def strength(self, utility: Tensor) -> Tensor:
        """The pull p of each unit."""
        x = self.sharpness * (utility - self.threshold)
        if self.shape == "sigmoid":
            share = 2 * torch.sigmoid(-x)
        elif self.shape == "exp":
            share = torch.exp(-x)
        elif self.shape == "softplus":
            share = torch.nn.functional.softplus(-x) / math.log(2)
        else:
            share = 1 - x
        return self.rate * share.clamp(0, 1)

    @torch.no_grad()
    def pull(self, layer: Layer, strength: Tensor, generator: torch.Generator) -> None:
        """Mix incoming weights with fresh ones and shrink outgoing ones, by `strength` `[..., units]`."""
        weight = layer.weight
        fresh = weight.as_matrix(weight.fresh(generator))
        weight.overwrite(weight.matrix.lerp(fresh, strength.unsqueeze(-1)))
        for consumer in layer.consumers:
            consumer.by_unit(consumer.layer.weight.matrix).mul_(1 - strength.unsqueeze(-1))
