"""Interpolate: mix a network with a copy of itself in which some units have changed places.

    theta <- (1 - alpha) * theta + alpha * theta~

where theta~ computes exactly the same function as theta, its units being permuted: the rows, biases and normalisation
of a unit and the columns that read it move together, in all hidden layers at once. Only a subset of the units moves,
the most active ones by default; the others stay as they are, but for the order of what they read.

"Interpolate: How Resetting Active Neurons can also improve Generalizability in Online Learning", submission
MHmsJS6YHQ to ICLR 2025 (rejected; authors not named there). A RECONSTRUCTION: what is established, from the abstract
and a public review, is that the method merges the network periodically with a functionally equivalent permutation of
itself, by interpolation, that the permutation is random and moves active, high-utility units, and that it did about as
well as continual backpropagation and ReDo on CIFAR-10. Its algorithm box, alpha, period, share of units and utility
were not available, nor is any result for RL: all defaults below are choices.

The permutation of each layer's subset is one random cycle of odd length. Were two units to swap, alpha = 0.5 would make
clones of them, which gradient descent alone never separates again; a longer even cycle would leave them linearly
dependent. So subsets have at least three units, and an even number loses one; layers in which fewer are chosen stay.

Except for alpha = 0 and 1 the network's function changes. Target networks are mapped in the same way: they are averages
of the network's past, and averages of weights make sense only while the units correspond. What other interventions
remember of single weights or units does not move with them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from agents.interventions import Intervention, Moment, MomentName, ResetEvent
from agents.layers import Consumer, Layer, Network, Param
from configs.settings import SettingError
from metrics.units import dormancy_score
from resets.base import TimedReset

Orders = dict[Layer, Tensor]
"""For each layer `[..., units]`: which of its units takes each place."""


@dataclass
class Interpolate(TimedReset):
    """Mix the network with a functionally equivalent permutation of itself (ICLR 2025 submission MHmsJS6YHQ)."""

    touches = ("hidden", "norm", "heads", "targets")
    needs = "hidden"

    every: Annotated[int, Gt(0)] = 10_000
    """Period of periodic resets, counted in `unit` and rounded up to the next rollout; a choice."""

    alpha: Annotated[float, Ge(0), Le(1)] = 0.5
    """Weight of the permuted copy: 0.5 averages neighbours in a cycle, 0 and 1 leave the network's function as it is. A
    choice: the paper's value was not available."""

    fraction: Annotated[float, Ge(0), Le(1)] = 0.1
    """Share of each layer's units that change places, rounded, and one less where that is even; a choice."""

    which: Literal["active", "dormant", "random"] = "active"
    """Which units: those with the highest utility, as in the paper, those with the lowest, or any."""

    utility: Literal["activation", "contribution"] = "activation"
    """What makes a unit active: its mean absolute activation, or this times the sum of its absolute outgoing weights
    (as in continual backpropagation). Which of these the paper uses was not available."""

    moments: Literal["follow", "keep", "zero"] = "follow"
    """What happens to the optimiser's statistics: they are mixed as the weights are, so that with alpha 1 training goes
    on as if nothing had happened (a choice); or kept in their places; or those of moved weights return to zero."""

    def uses(self, moment: MomentName) -> bool:
        """Nothing at all where nothing can move."""
        return self.alpha > 0 and self.fraction > 0 and super().uses(moment)

    def check(self, networks: list[Network], others: Sequence[Intervention]) -> None:
        """What has an entry for each unit that cannot be permuted would no longer fit its units."""
        for network in networks:
            for param in network.free:
                if param.tensor.dim() > 1:
                    raise ValueError(
                        f"Interpolate cannot permute {param.name}, which has an entry for each unit (gSDE)."
                    )
            for layer in network.hidden:
                if any(param.tensor.numel() != layer.units * param.block for param in layer.norm):
                    raise ValueError(f"Interpolate cannot permute the normalisation of {layer.name} unit by unit.")
            for module in (module for part in network.body for module in part.modules()):
                remembers = any(buffer.numel() > 1 for buffer in module.buffers(recurse=False))
                if remembers or getattr(module, "num_groups", 1) > 1:
                    raise ValueError(
                        f"Interpolate cannot permute the units of {network.name}: its {type(module).__name__} treats "
                        "them in groups or remembers something of each."
                    )
        widest = max(layer.units for network in networks for layer in network.hidden)
        if self.fraction > 0 and self.count(widest) == 0:
            raise SettingError(self, "fraction", f"must choose at least 3 of {widest} units, not {self.fraction:g}")

    def between_rollouts(
        self, networks: list[Network], moment: Moment, generator: torch.Generator
    ) -> Iterator[ResetEvent]:
        """Draw permutations for all networks whose time has come, and mix these networks at once."""
        chosen = {network: self.orders(network, moment, generator) for network in self.due_networks(networks, moment)}
        self.mix({layer: order for orders in chosen.values() for layer, order in orders.items()})
        for network, orders in chosen.items():
            for layer in orders:
                yield ResetEvent(network.name, layer.name, "units", self.count(layer.units), self.why())

    def count(self, units: int) -> int:
        """How many units of a layer change places: odd, and 0 rather than 1."""
        count = round(self.fraction * units)
        count -= count % 2 == 0
        return count if count >= 3 else 0

    def orders(self, network: Network, moment: Moment, generator: torch.Generator) -> Orders:
        """A random cycle through the chosen units of every hidden layer."""
        activations = {} if self.which == "random" else moment.activations(network)
        found: Orders = {}
        for layer in network.hidden:
            count = self.count(layer.units)
            shape, device = layer.weight.matrix.shape[:-1], layer.weight.tensor.device
            if not count or (self.which != "random" and layer not in activations):
                continue
            if self.which == "random":
                score = torch.rand(shape, generator=generator, device=device)
            else:
                score = self.score(layer, activations[layer])
            best = score.argsort(dim=-1, descending=self.which != "dormant", stable=True)[..., :count]
            shuffle = torch.rand(best.shape, generator=generator, device=device).argsort(dim=-1)
            cycle = best.gather(-1, shuffle)
            places = torch.arange(layer.units, device=device).expand(shape)
            found[layer] = places.scatter(-1, cycle, cycle.roll(1, dims=-1))
        return found

    def score(self, layer: Layer, activations: Tensor) -> Tensor:
        """The utility of each unit, `[..., units]`."""
        score = dormancy_score(activations)
        if self.utility == "contribution":
            score = score * sum(
                consumer.by_unit(consumer.layer.weight.matrix).abs().sum(dim=(-3, -1)) for consumer in layer.consumers
            )
        return score

    @torch.no_grad()
    def mix(self, orders: Orders) -> None:
        """Mix all parameters that these permutations move with their permuted selves, in place."""
        rows = {param: order for layer, order in orders.items() for param in layer.params()}
        columns: dict[Param, list[tuple[Consumer, Tensor]]] = {}
        for layer, order in orders.items():
            for consumer in layer.consumers:
                columns.setdefault(consumer.layer.weight, []).append((consumer, order))
        for param in {**rows, **columns}:
            values = [param.tensor, *([] if param.target is None else [param.target])]
            values += [moment for moment, _ in param.moments()] if self.moments == "follow" else []
            for value in values:
                new = permuted(param.as_matrix(value), rows.get(param), columns.get(param, ()))
                param.as_matrix(value).lerp_(new, self.alpha)
            if self.moments == "zero":
                places = torch.arange(param.tensor.numel(), device=param.tensor.device).view_as(param.matrix)
                moved = permuted(places, rows.get(param), columns.get(param, ())) != places
                param.reset_moments(moved, "zero")


def permuted(matrix: Tensor, rows: Tensor | None, columns: Iterable[tuple[Consumer, Tensor]]) -> Tensor:
    """A weight matrix, or a vector with one or several entries a unit, whose rows and columns are in a new order.

    Args:
        matrix: `[..., units, fan_in]` or `[..., entries]`.
        rows: the order of the layer's own units, None where they stay.
        columns: consumers that read into this matrix, each with the order of the units that it reads.
    """
    new = matrix.clone()
    if rows is not None:
        units = rows.shape[-1]
        by_unit = new if new.dim() > rows.dim() else new.view(*new.shape[:-1], units, -1)
        new = torch.take_along_dim(by_unit, rows.unsqueeze(-1), dim=-2).reshape(new.shape)
    for consumer, order in columns:
        own = consumer.by_unit(new)
        own.copy_(torch.take_along_dim(own, order[..., None, :, None], dim=-2))
    return new
