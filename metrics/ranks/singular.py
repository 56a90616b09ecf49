"""Singular values of the representation, which every rank is a function of, and what all ranks have in common.

    Phi = U diag(sigma_1 >= sigma_2 >= ... >= 0) V',     sigma_i^2 = eigenvalues of Phi' Phi

Phi is `[samples, units]`: the whole output of a network's last hidden layer, which its heads read, a sample a row, not
centred. The ranks differ in what they make of sigma: whether they square it, whether they count or weigh.

- A rank is at most the smaller of samples and units. Compare at equal numbers of samples, and take at least as many as
  units; the authors of "No Representation, No Trust" (arXiv 2405.00662) give no rank for fewer.
- A network without hidden layers has none. Where all features are 0, so are all ranks here; where one is not finite,
  they are NaN.
- A mean of the features that dwarfs their differences is one large sigma, which most ranks take for a collapse.

Noise floor: what is computed are the eigenvalues of the Gram matrix of the smaller side, in double precision, which
takes half the time of a singular value decomposition. They are good to about 1e-16 of the largest, their roots to
1e-8. Features in single precision are themselves rounded to 6e-8 of their size. A sigma of at most 1.2e-7 sigma_1,
the spacing of single precision, may be rounding alone and counts as 0, so that duplicates of units add nothing.
"""

from dataclasses import dataclass
from math import nan
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from agents.layers import Network
from metrics.base import Measured, Metric, View

FLOOR = torch.finfo(torch.float32).eps
"""What counts as 0 beside the largest singular value."""

TIE = 1e-12
"""How far below a share of a sum rounding may leave what equals it."""

_known: WeakKeyDictionary[View, dict[Network, Tensor]] = WeakKeyDictionary()


@torch.no_grad()
def singular_values(features: Tensor) -> Tensor:
    """Singular values of a feature matrix, largest first.

    Args:
        features: `[samples, units]` in single precision; in double precision small values are lost below the floor.

    Returns:
        `[min(samples, units)]` in double precision on the CPU; those at the noise floor are 0, all NaN where a feature
        is not finite.
    """
    exact = features.cpu().double()
    product = exact.mT @ exact if exact.shape[0] >= exact.shape[1] else exact @ exact.mT
    if not bool(product.isfinite().all()):
        return product.new_full(product.shape[:1], nan)
    squares = torch.linalg.eigvalsh(product).flip(0)
    heard: Tensor = squares.where(squares > FLOOR**2 * squares[0], 0.0)
    return heard.sqrt()


def dimensions_for(energies: Tensor, share: float) -> int:
    """How many leading entries hold at least this share of the sum; 0 where the sum is 0.

    Args:
        energies: not negative, largest first, `[n]`.
        share: 0 to 1. A tie counts as reached, also where rounding leaves it a little short.
    """
    total = energies.sum()
    return int((energies.cumsum(0) < (share - TIE) * total).sum()) + 1 if bool(total > 0) else 0


def spectrum(network: Network, view: View) -> Tensor | None:
    """Singular values of a network's features, computed once for all ranks of one view."""
    known = _known.setdefault(view, {})
    if network not in known:
        features = view.features(network)
        if features is None:
            return None
        known[network] = singular_values(features)
    return known[network]


@dataclass
class Rank(Metric):
    """Base of the ranks of the features that the heads read."""

    family = "ranks"
    reads = "batch"

    def rank(self, sigma: Tensor, samples: int) -> float:
        """The rank of a matrix with these singular values, all finite, and that many rows."""
        raise NotImplementedError

    def measure(self, network: Network, view: View) -> Measured:
        """The rank of the last hidden layer's outputs."""
        sigma, features = spectrum(network, view), view.features(network)
        if sigma is None or features is None:
            return {}
        return {self.names[0]: nan if bool(sigma.isnan().any()) else self.rank(sigma, len(features))}
