"""The curvature of the loss: eigenvalues of its Hessian."""

from metrics.curvature.hessian import Hessian, hessian_product
from metrics.curvature.lanczos import Ritz, Tridiagonal, lanczos, multiplicities

__all__ = ["Hessian", "Ritz", "Tridiagonal", "hessian_product", "lanczos", "multiplicities"]
