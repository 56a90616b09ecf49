"""Self-normalised resets: give a new start to units that have been silent for longer than they ever are.

A ReLU unit fires at a gradient step when it is active on the step's minibatch. Counted in steps of the optimiser, a
unit's age a_i is the time since it last fired, and H_i the histogram of the ages at which it fired again:

    fires:       H_i[a_i] <- H_i[a_i] + 1,   a_i <- 0              silent:  a_i <- a_i + 1
    a_i >= t_i:  H_i[a_i] <- H_i[a_i] + 1,   a_i <- 0,   W_in[i, :], b_i <- fresh,   W_out[:, i] <- 0
    every adapt_every steps, with q_i the percentile of H_i (without its entry for age 0):
                 t_i <- q_i where q_i < t_i, else expansion t_i, within 1 and max_age;     H_i <- 0

So a unit is reset when, by its own past, such a long silence has a chance of at most 1 - percentile: a test of the
hypothesis that it still fires as it used to.

Farias and Jozefiak, "Self-Normalized Resets for Plasticity in Continual Learning", ICLR 2025, arXiv 2410.20098; update
of the threshold and constants from the authors' code (ajozefiak/SelfNormalizedResets). Nothing is published for RL.
Different here, each for its reason:

- Time is counted in minibatches where their code counts examples, a whole minibatch at a time: the same for minibatches
  of one size, and the histogram becomes as many times smaller (4 bytes for each unit and age up to max_age).
- A unit that was never silent keeps its threshold until it has been silent `min_silences` times since the last update.
  Their code divides 0 by 0 there, which makes its threshold the least there is: it is reset at the first minibatch that
  it misses.
- Fresh weights and biases come from the layer's own initialiser.

Layers with other nonlinearities are left alone; where there is none with ReLU the method is refused.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn

from agents.interventions import Intervention, ResetEvent, Step
from agents.layers import Layer, MomentPolicy, Network, reinitialize_units
from agents.stacking import Random, each_member
from agents.watching import Watched
from resets.units import UnitReset, stacked


@dataclass
class SNR(UnitReset):
    """Reset units that stay silent for longer than they ever did, by a test on each (Farias and Jozefiak 2025)."""

    touches = ("hidden", "norm", "heads")

    percentile: Annotated[float, Gt(0), Lt(1)] = 0.99
    """Share of a unit's silences that are shorter than its threshold (authors' code). The paper's only setting is
    eta = 1 - percentile, tried from 0.08 down to 0.00125."""

    adapt_every: Annotated[int, Gt(0)] = 10_000
    """Steps between two updates of the thresholds; a choice: 16 tasks in the authors' code for permuted MNIST."""

    expansion: Annotated[float, Gt(1)] = 2.0
    """Factor by which a threshold grows where the percentile is not below it (authors' code)."""

    max_age: Annotated[int, Gt(0)] = 1000
    """Longest silence before a unit is reset in any case, and twice the first threshold; in steps of the network's
    optimiser. A choice: about three rollouts of SB3's PPO. With examples for steps, 20 000 in FIRE's version of it."""

    min_silences: Annotated[int, Ge(1)] = 10
    """Silences since the last update below which a threshold stays; a choice, see above."""

    firing: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of the minibatch's samples (positions too, for channels) on which a unit must be active to fire: 0, on any
    at all, in the paper."""

    moments: MomentPolicy = "zero"
    """What happens to the optimiser's statistics of the overwritten weights. zero: as in the authors' code; with Adam's
    default betas their next steps are then 3 to 6 times the learning rate, since its step count goes on."""

    def check(self, networks: list[Network], others: Sequence[Intervention]) -> None:
        """Only ReLU units fall silent."""
        layers = [layer for network in networks for layer in network.hidden]
        if not any(falls_silent(layer) for layer in layers):
            kinds = sorted({type(layer.output).__name__ for layer in layers})
            raise ValueError(
                f"SNR counts how long units are silent, which only units of ReLU ever are, and those of "
                f"{networks[0].name} have {', '.join(kinds)}: choose --network.activation relu."
            )

    def watches(self) -> set[Watched]:
        """Activations."""
        return {"activations"}

    def stacks(self, number: int) -> float:
        """All steps."""
        return math.inf

    @torch.no_grad()
    def after_step(self, networks: list[Network], step: Step, generator: Random) -> Iterator[ResetEvent]:
        """Follow all units, and reset those that have been silent for too long."""
        found = {layer: h for network in networks for layer, h in step.activations(network).items()}
        samples = {layer: h for layer, h in found.items() if falls_silent(layer)}
        groups = [(layers, h.flatten(-3, -2)) for layers, h in stacked(samples)]
        masks = [(layers, silent) for layers, h in groups for silent in self.follow(layers, h)]
        for at, own in each_member(generator) if masks else ():
            # Layers of one width share a fate: where none of their units is silent, none is drawn anew.
            parts = [(layers, silent.unbind()) for layers, silent in masks if bool(silent[:, at].any())]
            chosen = {layer: mask[at] for layers, rows in parts for layer, mask in zip(layers, rows, strict=True)}
            reinitialize_units({layer.member(at): units for layer, units in chosen.items()}, own, self.moments)
            for network in networks:
                for layer in network.hidden:
                    if layer in chosen and (count := int(chosen[layer].sum())):
                        yield ResetEvent(network.name, layer.name, "units", count, "silent for too long", at)

    def follow(self, layers: list[Layer], h: Tensor) -> list[Tensor]:
        """One step of ages and histograms of layers of one width, with activations `[layers, ..., samples, units]`.

        Returns:
            The mask `[layers, ..., units]` of the units to reset; nothing at steps at which there can be none.
        """
        shape, device = (*h.shape[1:-2], h.shape[-1]), h.device
        age = self.remembered("age", layers, lambda layer: torch.zeros(shape, dtype=torch.long, device=device))
        past = self.remembered(
            "past", layers, lambda layer: torch.zeros(*shape, self.max_age + 1, dtype=torch.int32, device=device)
        )
        first = max(1, self.max_age // 2)
        limit = self.remembered("limit", layers, lambda layer: torch.full(shape, first, device=device))
        active = h.amax(dim=-2) > 0 if self.firing == 0 else (h > 0).sum(dim=-2) > self.firing * h.shape[-2]
        past.scatter_add_(-1, age.unsqueeze(-1), active.unsqueeze(-1).int())
        age.add_(1).masked_fill_(active, 0)

        # An age grows by one a step, so that none reaches its limit before the nearest one could: until then there is
        # nothing to look at, which a GPU would have to be waited for.
        name = layers[0].name
        taken = self.state[f"taken.{name}"] = self.state.get(f"taken.{name}", 0) + 1
        adapt = taken % self.adapt_every == 0
        if not adapt and taken < self.state.get(f"next.{name}", 0):
            return []
        silent = age >= limit
        found = [silent] if bool(silent.any()) else []
        if found:
            past.scatter_add_(-1, age.unsqueeze(-1), silent.unsqueeze(-1).int())
            age.masked_fill_(silent, 0)
        if adapt:
            limit.copy_(self.adapted(past, limit))
            past.zero_()
        self.state[f"next.{name}"] = taken + max(1, int((limit - age).min()))
        return found

    def adapted(self, past: Tensor, limit: Tensor) -> Tensor:
        """The new thresholds `[..., units]` after histograms `[..., units, ages]`."""
        seen = past[..., 1:].cumsum(dim=-1)
        total = seen[..., -1:]
        quantile = (seen >= self.percentile * total).int().argmax(dim=-1) + 1
        grown = (limit * self.expansion).long().clamp(max=self.max_age)
        new = torch.where(quantile < limit, quantile, grown)
        return torch.where(total.squeeze(-1) >= self.min_silences, new, limit)


def falls_silent(layer: Layer) -> bool:
    """Whether a unit of the layer can give exactly nothing."""
    return isinstance(layer.output, nn.ReLU)
