"""ReDo: recycle dormant units.

From time to time, give the units whose activation is small beside the rest of their layer fresh incoming weights and
zero outgoing weights, so that the network's output hardly changes while the units can learn again.

    s_i = score_i / mean_k score_k <= tau    ->    W_in[i, :], b_i <- fresh,   W_out[:, i] <- 0

Sokar, Agarwal, Castro and Evci, "The Dormant Neuron Phenomenon in Deep Reinforcement Learning", ICML 2023,
arXiv 2302.12902: score of equation 1, algorithm 1. Weights and biases come from the layer's own initialiser; in the
authors' code weights are drawn after Xavier, and biases are zero. The score may also be one of the others in
`resets.scores`. A reborn unit's incoming weights have no gradient until its outgoing ones have moved, so that a check
by gradient that comes a few steps after another finds the same units again.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Gt, Le, Lt
from torch import Tensor

from agents.interventions import Moment, MomentName, ResetEvent, Step
from agents.layers import Layer, MomentPolicy, Network, reinitialize_units
from agents.stacking import Random
from agents.watching import Watched
from metrics.units import dormancy_score
from resets import scores
from resets.base import TimedReset


@dataclass
class ReDo(TimedReset):
    """Give dormant units fresh incoming and zero outgoing weights (Sokar et al. 2023)."""

    touches = ("hidden", "norm", "heads")
    needs = "hidden"

    tau: Annotated[float, Lt(1)] = 0.1
    """A unit is dormant when its score is at most tau: 0.1 in the paper, 0.025 for DQN at its default replay ratio
    (Sokar et al. 2023), 0.65 tuned for PPO on a slippery ant (code of Calibrated Partial Resets, 2026); 0 recycles only
    dead units, which changes no output; below 0 nothing. Units of tanh are hardly ever below 0.025."""

    score: scores.Score = "activation"
    """What makes a unit dormant, relative to its layer. activation: as in the paper, on observations of the last
    rollout or the replay buffer. contribution: the same times the size of its outgoing weights. gradient (of its
    incoming weights), attribution (effect on the loss, a reconstruction): added up over all steps since the last
    firing. random: uniform between 0 and 2, so that tau / 2 of the units are recycled."""

    max_fraction: Annotated[float, Gt(0), Le(1)] = 1.0
    """At most this share of a layer at once, rounded down, those of lowest score: 1, no limit, in the paper; 0.02 in
    the code of Calibrated Partial Resets for SAC (2026)."""

    moments: MomentPolicy = "zero"
    """What happens to the optimiser's statistics of the overwritten weights. zero: as in the paper's code, which leaves
    those of biases alone; with Adam's
    default betas their next steps are then 3 to 6 times the learning rate, since its step count goes on."""

    def watches(self) -> set[Watched]:
        """Only what a score of gradient steps needs."""
        return scores.watched(self.score) if self.score in scores.OF_GRADIENTS else set()

    def uses(self, moment: MomentName) -> bool:
        """Gradient steps only for the scores that are measured there."""
        return super().uses(moment) and (moment != "after_step" or self.score in scores.OF_GRADIENTS)

    def stacks(self, number: int) -> float:
        """All steps."""
        return math.inf

    def after_step(self, networks: list[Network], step: Step, generator: Random) -> Iterable[ResetEvent]:
        """Add up the scores that gradients give."""
        if self.score in scores.OF_GRADIENTS:
            for network in networks:
                scores.add_up(self.state, scores.of_step(self.score, network, step))
        return ()

    def between_rollouts(
        self, networks: list[Network], moment: Moment, generator: torch.Generator
    ) -> Iterator[ResetEvent]:
        """Recycle the dormant units of every network whose time has come."""
        for network in self.due_networks(networks, moment):
            found = self.measure(network, moment, generator)
            dormant = {layer: dormant_units(score, self.tau, self.max_fraction) for layer, score in found.items()}
            reinitialize_units(dormant, generator, self.moments)
            for layer, units in dormant.items():
                if count := int(units.sum()):
                    yield ResetEvent(network.name, layer.name, "units", count, self.why())

    @torch.no_grad()
    def measure(self, network: Network, moment: Moment, generator: torch.Generator) -> dict[Layer, Tensor]:
        """The relative score of every hidden unit, `[..., units]` a layer."""
        if self.score in scores.OF_GRADIENTS:
            return {layer: scores.relative(total) for layer, total in scores.take(self.state, network).items()}
        if self.score == "random":
            device = network.hidden[0].weight.tensor.device
            return {layer: 2 * torch.rand(layer.units, generator=generator, device=device) for layer in network.hidden}
        h = moment.activations(network)
        if self.score == "contribution":
            strength = {layer: scores.activation(part) for layer, part in h.items()}
            return {layer: scores.relative(size * scores.outgoing([layer])[0]) for layer, size in strength.items()}
        return {layer: dormancy_score(part) for layer, part in h.items()}


def dormant_units(score: Tensor, tau: float, max_fraction: float) -> Tensor:
    """The mask `[..., units]` of those with a relative score of at most tau; no more of them than the share allowed."""
    dormant = score <= tau
    if max_fraction < 1:
        dormant &= scores.lowest(score, math.floor(max_fraction * score.shape[-1]))
    return dormant
