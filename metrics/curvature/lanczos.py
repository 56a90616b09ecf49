"""Eigenvalues of a symmetric matrix that is only known by its products with vectors: the Lanczos method.

From a random unit vector q_1, k products build an orthonormal basis Q of the Krylov space and a tridiagonal T = Q'HQ.
Its eigenvalues theta_j, the Ritz values, approximate those of H, the extreme ones first and from inside; its
eigenvectors s_j give two things more:

    residual_j = |beta_k s_kj|   some eigenvalue of H is at most this far from theta_j
    weight_j = s_1j^2            the share of q_1 along that eigenvector, on average 1/n for each of H's n eigenvalues

so that sum_j n weight_j f(theta_j) estimates the sum of f over all eigenvalues (stochastic Lanczos quadrature: Ubaru,
Chen and Saad, SIAM J. Matrix Anal. 2017; for networks Ghorbani, Krishnan and Xiao, ICML 2019, arXiv 1901.10159).

With one random vector the weight of a single large eigenvalue is nearly pure noise: n weight_j is a chi-square variable
of one degree of freedom. `multiplicities` therefore counts a Ritz value that has converged as the one eigenvalue it is
and shares out the others by weight, as Hutch++ does for traces (Meyer, Musco, Musco and Woodruff, SOSA 2021, arXiv
2010.09649). For a critic of SAC that took the spread of its trace from 84 % down to 3 %.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

EXHAUSTED = 1e-6
"""What is left of a product, relative to the largest seen, when it lies in the space of the earlier ones: rounding of
single precision."""

CONVERGED = 0.01
"""A residual relative to its Ritz value at which that counts as found: a choice."""

SIMPLE = 23.93
"""The most that n weight_j comes to for a simple eigenvalue, but for one time in a million: a quantile of chi-square.
Above it a Ritz value is taken for several equal eigenvalues, such as the zeros of units that are dead."""


@dataclass(frozen=True)
class Ritz:
    """Ritz values in ascending order with what is known of them, `[steps]` each, in double precision.

    Attributes:
        values: estimates of eigenvalues.
        weights: shares of the starting vector, of sum 1.
        residuals: bounds of the values' errors.
    """

    values: Tensor
    weights: Tensor
    residuals: Tensor


@dataclass(frozen=True)
class Tridiagonal:
    """The matrix in the basis of its Krylov space, in double precision.

    Attributes:
        diagonal: `[steps]`; NaN where a product was not finite.
        beside: `[steps - 1]`.
        remaining: length of what the last product has outside of the space; 0 where the space is exhausted.
    """

    diagonal: Tensor
    beside: Tensor
    remaining: float

    def ritz(self) -> Ritz:
        """Ritz values: the nodes of a Gauss quadrature."""
        return self._of(self.diagonal, self.remaining)

    def ritz_with_zero(self) -> Ritz:
        """The nodes of a Gauss-Radau quadrature, one of which is 0: the last of `diagonal` changed so that it is.

        Golub, "Some modified matrix eigenvalue problems", SIAM Review 1973. The eigenvalues of a Hessian crowd around
        zero, where plain Ritz values may stand to both sides of them and take them for larger ones.
        """
        steps = len(self.diagonal)
        if steps == 1 or self.remaining == 0:
            return self.ritz()
        before = Tridiagonal(self.diagonal[:-1], self.beside[:-1], 0.0).matrix()
        last = torch.zeros(steps - 1, dtype=torch.double)
        last[-1] = self.beside[-1].square()
        node = torch.linalg.solve_ex(before, last)[0][-1:]
        if not bool(node.isfinite()):  # 0 is a node of one step less
            return self.ritz()
        moved = float(self.diagonal[-1] - node)
        return self._of(torch.cat([self.diagonal[:-1], node]), math.hypot(self.remaining, moved))

    def matrix(self) -> Tensor:
        """`[steps, steps]`."""
        return torch.diag(self.diagonal) + torch.diag(self.beside, 1) + torch.diag(self.beside, -1)

    def _of(self, diagonal: Tensor, remaining: float) -> Ritz:
        if not bool(diagonal.isfinite().all()):
            return Ritz(diagonal, diagonal, diagonal)
        values, vectors = torch.linalg.eigh(Tridiagonal(diagonal, self.beside, remaining).matrix())
        return Ritz(values, vectors[0].square(), remaining * vectors[-1].abs())


def lanczos(product: Callable[[Tensor], Tensor], start: Tensor, order: int) -> Tridiagonal:
    """Lanczos with full re-orthogonalisation.

    Each product loses its parts along the last two vectors first, as in exact arithmetic, then what rounding has left
    along all of them. One such pass keeps the basis orthogonal to a root of the precision, which is what the Ritz
    values need to be exact to the precision itself (Simon, Math. Comp. 1984).

    Args:
        product: the symmetric matrix times a vector `[n]`.
        start: `[n]`, random; its length does not matter.
        order: how many products, at most n; fewer where they exhaust the space.
    """
    order = min(order, len(start))
    basis = start.new_empty(order, len(start))
    vector, remaining, scale = start / start.norm(), 0.0, 0.0
    diagonal: list[float] = []
    beside: list[float] = []
    for step in range(order):
        basis[step] = vector
        following = product(vector)
        diagonal.append(float(following @ vector))
        scale = max(scale, float(following.norm()))
        for known in (basis[max(step - 1, 0) : step + 1], basis[: step + 1]):
            following = torch.addmv(following, known.T, known @ following, alpha=-1)
        remaining = float(following.norm())
        if not math.isfinite(diagonal[-1] + remaining):
            diagonal[-1] = math.nan
            break
        if remaining <= EXHAUSTED * scale:
            remaining = 0.0
            break
        beside.append(remaining)
        vector = following / remaining
    beside = beside[: len(diagonal) - 1]
    return Tridiagonal(torch.tensor(diagonal, dtype=torch.double), torch.tensor(beside, dtype=torch.double), remaining)


def multiplicities(ritz: Ritz, size: int) -> Tensor:
    """How many of the matrix's `size` eigenvalues each Ritz value stands for: `[steps]`, of sum `size`."""
    if len(ritz.values) == size:
        return torch.ones_like(ritz.values)
    found = (ritz.residuals <= CONVERGED * ritz.values.abs()) & (size * ritz.weights <= SIMPLE)
    rest = torch.where(found, 0.0, ritz.weights)
    if not bool(rest.sum() > 0):  # the space was exhausted by less vectors than there are eigenvalues
        return size * ritz.weights
    return torch.where(found, 1.0, (size - found.sum()) * rest / rest.sum())
