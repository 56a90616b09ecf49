"""Spectral regularisation: keep the largest singular value of every layer near its target.

    R = sum_l (sigma_max(W_l)^k - target^k)^2 + (||b_l||_2^k)^2

over all affine layers, with k = 2 and target 1 in the paper; the scale of a normalisation layer is a diagonal matrix,
whose largest singular value is its largest absolute entry, its offset is a bias. sigma_max comes from one step of power
iteration on a stored vector at every gradient step: sigma = u'Wv with u and v held fixed, so that its gradient is uv'.

Lewandowski, Bortkiewicz, Kumar, György, Schuurmans, Ostaszewski and Machado, "Learning Continually by Spectral
Regularization", ICLR 2025, arXiv 2406.06811, section 4.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn.functional import normalize

from agents.layers import Layer, Param
from regularizers.base import Chosen, Kind, Segments, WeightPenalty, outer, row_times, times_column

TRACE = 1e-12
"""Share of the old vector that stays in the new one: it holds the direction while a matrix is zero."""


@dataclass
class Spectral(WeightPenalty):
    """Keep each layer's largest singular value near its target (Lewandowski et al. 2025)."""

    touches = ("hidden", "norm", "heads")

    strength: Annotated[float, Ge(0)] = 1e-4
    """Factor on the penalty in the loss. The paper's value for RL is not known here; 1e-4 is what a public SAC port
    uses, 1e-4 to 1e-2 is the usual sweep."""

    k: Annotated[int, Ge(1)] = 2
    """Exponent of singular values and bias norms; 2 in the paper."""

    target: Literal["one", "initial"] = "one"
    """What the largest singular value is drawn to: one, as in the paper, or its value at the start of the run."""

    heads: bool = True
    """Whether output layers are included, as in the paper. SB3's PPO starts its action head at a singular value of 0.01
    for an undecided policy, which a target of one works against; --regularizer.target initial does not."""

    def includes(self, kind: Kind, layer: Layer) -> bool:
        """Weights, biases and normalisations of all layers, or of all but the heads."""
        return self.heads or not layer.is_head

    def term(self, kind: Kind, param: Param) -> Tensor:
        """The term of one parameter; advances the power iteration of weights by one step."""
        if kind == "weight":
            return (self.largest_singular_value(param) ** self.k - self.goal(param)) ** 2
        if kind == "scale":
            return (param.tensor.abs().amax(dim=-1) ** self.k - 1) ** 2
        return param.tensor.square().sum(dim=-1) ** self.k

    def largest_singular_value(self, param: Param) -> Tensor:
        """sigma_max of the weight matrix after one more step of power iteration."""
        matrix, old = param.matrix, self.vector(param)
        with torch.no_grad():
            v = normalize((matrix.mT @ old.unsqueeze(-1)).squeeze(-1), dim=-1)
            u = normalize((matrix @ v.unsqueeze(-1)).squeeze(-1) + TRACE * old, dim=-1, eps=0.0)
            self.state[f"u.{param.name}"] = u
        return (u * (matrix @ v.unsqueeze(-1)).squeeze(-1)).sum(dim=-1)

    def vector(self, param: Param) -> Tensor:
        """The left singular vector that the power iteration has come to; at first the exact one."""
        return self.remembered("u", param, lambda matrix: torch.linalg.svd(matrix, full_matrices=False).U[..., 0])

    def goal(self, param: Param) -> Tensor:
        """The target of a weight matrix, to the power of k; under `initial` that of its first largest value."""
        if self.target == "one":
            return torch.ones_like(param.matrix[..., 0, 0])
        return self.remembered("goal", param, lambda matrix: torch.linalg.svdvals(matrix)[..., 0] ** self.k)

    def derivatives(self, chosen: Chosen, factor: float) -> tuple[Tensor, list[Tensor]]:
        """The same with gradients: 2k (s^k - t^k) s^(k-1) uv' to weights, 2k |b|^(2k-2) b to biases.

        The vectors of all layers lie end to end, since it is the number of operations that costs time.
        """
        weights, offsets = chosen.by_kind["weight"], chosen.by_kind["bias"] + chosen.by_kind["offset"]
        n, k = len(weights), self.k
        old = [self.vector(param) for param in weights]
        right = [row_times(u, param.matrix) for param, u in zip(weights, old, strict=True)]
        left = [times_column(param.matrix, v, u, TRACE) for param, u, v in zip(weights, old, right, strict=True)]
        vectors = [*left, *right, *(param.tensor for param in offsets)]
        segments, flat = chosen.once("vectors", lambda: Segments(vectors)), torch.cat(vectors, dim=-1)
        squares = segments.sums(flat * flat)
        left_squares, right_squares, square = torch.split(squares, [n, n, len(offsets)], dim=-1)
        long, short = left_squares.sqrt(), right_squares.sqrt().clamp_min(1e-6)

        sigma = long / short
        power = sigma ** (k - 1)
        goals = chosen.once("goals", lambda: torch.stack([self.goal(param) for param in weights], dim=-1))
        excess = power * sigma - goals
        slopes = torch.cat([excess * power / short, square ** (k - 1)], dim=-1) * (2 * k * factor)
        pieces = segments.split(flat * segments.spread(torch.cat([1 / long, slopes], dim=-1)))
        us, vs, bs = pieces[:n], pieces[n : 2 * n], pieces[2 * n :]
        self.state.update((f"u.{param.name}", u) for param, u in zip(weights, us, strict=True))
        scale_terms, scale_gradients = self.scale_derivatives(chosen, factor)
        terms = torch.cat([excess * excess, square**k, *scale_terms], dim=-1)
        return chosen.by_network(terms), [*map(outer, us, vs), *bs, *scale_gradients]

    def scale_derivatives(self, chosen: Chosen, factor: float) -> tuple[list[Tensor], list[Tensor]]:
        """The terms of normalisations' scales and their gradients; equally large entries share one."""
        scales, k = [param.tensor for param in chosen.by_kind["scale"]], self.k
        if not scales:
            return [], []
        segments, flat = chosen.once("scales", lambda: Segments(scales)), torch.cat(scales, dim=-1)
        magnitude = flat.abs()
        largest = segments.maxima(magnitude)
        at_largest = (magnitude == segments.spread(largest)).to(flat.dtype)
        excess = largest**k - 1
        slope = excess * largest ** (k - 1) * (2 * k * factor) / segments.sums(at_largest)
        return [excess * excess], segments.split(segments.spread(slope) * at_largest * flat.sign())
