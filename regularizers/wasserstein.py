"""Wasserstein regularisation: keep the distribution of each layer's weights near the one it started from.

    R = sum_l sum_k (sort(W_l)_k - sort(W_l,0)_k)^2

with each parameter tensor sorted on its own, so that a weight may go anywhere as long as another takes its place: the
squared 2-Wasserstein distance of the two sets of numbers, times how many they are. Its gradient is that of L2 Init with
the initial values handed out anew, by rank: 2(W - W_0 by rank).

Lewandowski, Tanaka, Schuurmans and Machado, "Directions of Curvature as an Explanation for Loss of Plasticity", 2023,
arXiv 2312.00246. That biases are sorted apart from weights is how the RL implementations of Juliani and Ash (2024) and
Chung et al. (2024) do it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from agents.interventions import Step
from agents.layers import Layer, Network, Param
from regularizers.base import Chosen, Kind, WeightPenalty

MANY = 1024
"""Numbers from which on it pays to sort them as integers."""


@dataclass
class Wasserstein(WeightPenalty):
    """Keep the distribution of each layer's weights near its initial one (Lewandowski et al. 2023)."""

    touches = ("hidden", "heads")

    strength: Annotated[float, Ge(0)] = 1e-3
    """Factor on the penalty; a choice, since the paper's values for this sum are not known here. Others have other
    scales: Juliani and Ash (2024) 1e-2 on its square root for PPO, Chung et al. (2024) 1e-3 on means over tensors for
    PPO. For SAC none is known here."""

    every: Annotated[int, Gt(0)] = 1
    """Gradient steps for which the ranks are kept before they are sorted out anew: 1 in the paper. Sorting is what this
    costs (65,536 weights of a 256x256 layer take a millisecond), and ranks change slowly."""

    heads: bool = True
    """Whether output layers are included. SB3's PPO starts its action head near zero for an undecided policy, to which
    this pulls it back."""

    def includes(self, kind: Kind, layer: Layer) -> bool:
        """Weights and biases; normalisations start with all entries alike, so that there is no distribution to keep."""
        return kind in ("weight", "bias") and (self.heads or not layer.is_head)

    def initial(self, kind: Kind, param: Param) -> Tensor:
        """The initial values of a parameter in ascending order."""
        return self.remembered("sorted", param, lambda matrix: _flat(kind, matrix).sort(dim=-1).values)

    def term(self, kind: Kind, param: Param) -> Tensor:
        """Squared distance of the sorted parameter from the sorted initial one."""
        return (_flat(kind, param.matrix).sort(dim=-1, stable=True).values - self.initial(kind, param)).square().sum()

    def matched(self, kind: Kind, param: Param) -> Tensor:
        """The initial values handed out by rank, in the shape of the matrix."""
        matrix = param.matrix.detach()
        matched = torch.empty_like(matrix)
        _flat(kind, matched).scatter_(-1, ranking(_flat(kind, matrix)), self.initial(kind, param))
        return matched

    def before_backward(self, networks: list[Network], step: Step) -> Mapping[str, Tensor]:
        """Forget old ranks where it is time, and add the gradients."""
        if step.number % self.every == 0:
            for param in self.chosen(networks).params:
                self.state.pop(f"matched.{param.name}", None)
        return super().before_backward(networks, step)

    def derivatives(self, chosen: Chosen, factor: float) -> tuple[Tensor, list[Tensor]]:
        """The gradient is 2(W - W_0 by rank); between two sortings the penalty is that of the old ranks."""
        ways: list[Tensor] = []
        for kind, params in chosen.by_kind.items():
            for param in params:
                if (key := f"matched.{param.name}") not in self.state:
                    self.state[key] = self.matched(kind, param)
                ways.append(param.matrix - self.state[key])
        return chosen.by_network(chosen.lengths(ways).square()), [way.mul_(2 * factor) for way in ways]


def ranking(numbers: Tensor) -> Tensor:
    """The order that sorts the last dimension, those that are equal as they are.

    On a CPU, PyTorch takes six times as long for some thousand numbers as NumPy takes for integers in whose upper half
    are the bits of a float, those of negative ones flipped so that they sort as the floats do, and below their place.
    """
    if numbers.device.type != "cpu" or numbers.dtype != torch.float32 or numbers.shape[-1] < MANY:
        return numbers.argsort(dim=-1, stable=True)
    bits = numbers.contiguous().view(torch.int32)
    keys = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long() << 32
    keys |= torch.arange(numbers.shape[-1])
    keys.numpy().sort(axis=-1)
    return keys & 0xFFFFFFFF


def _flat(kind: Kind, matrix: Tensor) -> Tensor:
    """A view of a weight matrix with all its entries in the last dimension, as a bias has them anyway."""
    return matrix.view(*matrix.shape[:-2], -1) if kind == "weight" else matrix
