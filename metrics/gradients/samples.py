"""Gradients sample by sample: the one matrix that says how they stand to each other.

    K_ij = <g_i, g_j>,   g_i the gradient of sample i's loss, in all of a network's parameters

Rank, diversity, cosines and noise of these gradients all follow from K, `[samples, samples]`, and none needs more of
the gradients themselves, `[samples, parameters]`. It is added up in double precision, from the gradients and not from a
product in their own: of a rank below the number of samples rounding would otherwise make a full one.

K is computed once for each tensor of gradients, whichever functions ask, and forgotten with it.
"""

from collections.abc import MutableMapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from agents.layers import Network
from metrics.base import Measured, Metric, View

COLUMNS = 1024
"""How many parameters are looked at together: what is in double precision fits into a processor's cache."""

TINY = torch.finfo(torch.float64).eps
"""The least share of the whole that a difference or a sum of entries of K is told from zero by."""

_known: MutableMapping[Tensor, tuple[int, Tensor]] = WeakTensorKeyDictionary()


def gram(gradients: Tensor) -> Tensor:
    """Inner products of all pairs of samples' gradients.

    Args:
        gradients: `[samples, parameters]`.

    Returns:
        `[samples, samples]` in double precision, for reading only: all who ask are given the same tensor.
    """
    if gradients.is_inference():  # such tensors do not count how often they were changed
        return _product(gradients)
    version, product = _known.get(gradients, (-1, gradients))
    if version != gradients._version:
        product = _product(gradients)
        _known[gradients] = (gradients._version, product)
    return product


@torch.no_grad()
def _product(gradients: Tensor) -> Tensor:
    count = len(gradients)
    product = torch.zeros(count, count, dtype=torch.float64, device=gradients.device)
    for part in torch.split(gradients, COLUMNS, dim=1):
        double = part.double()
        product.addmm_(double, double.T)
    return product


@dataclass
class SampleMetric(Metric):
    """Base of what is measured on gradients of single samples; costly, since these are as large as the network each."""

    family = "gradients"
    reads = "rollout"
    costly = True

    def applies(self, network: Network) -> bool:
        """Any network that an optimiser trains; those whose loss is not known have nothing to say."""
        return network.optimizer is not None

    def measure(self, network: Network, view: View) -> Measured:
        """The values of a network's gradients, where it has any."""
        gradients = view.sample_gradients(network)
        return {} if gradients is None else self.values(gradients)

    def values(self, gradients: Tensor) -> Measured:
        """The values of gradients `[samples, parameters]`."""
        raise NotImplementedError
