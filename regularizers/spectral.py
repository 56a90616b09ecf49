"""Spectral regularisation: keep the largest singular value of every layer near its target.

    R = sum_l (sigma_max(W_l)^k - target^k)^2 + (||b_l||_2^k)^2

over all affine layers, with k = 2 and target 1 in the paper; the scale of a normalisation layer is a diagonal matrix,
whose largest singular value is its largest absolute entry, its offset is a bias. sigma_max comes from one step of power
iteration on a stored vector at every gradient step: sigma = u'Wv with u and v held fixed in the gradient.

Lewandowski, Bortkiewicz, Kumar, György, Schuurmans, Ostaszewski and Machado, "Learning Continually by Spectral
Regularization", ICLR 2025, arXiv 2406.06811, section 4.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn.functional import normalize

from agents.layers import Layer, Network, Param
from regularizers.base import Regularizer


@dataclass
class Spectral(Regularizer):
    """Keep each layer's largest singular value near its target (Lewandowski et al. 2025)."""

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

    def penalty(self, network: Network) -> Tensor:
        """R of the layers of one network; advances the power iteration by one step."""
        terms = [
            term for layer in network.layers if self.heads or not layer.is_head for term in self.layer_terms(layer)
        ]
        return torch.stack(terms).sum() if terms else torch.zeros(())

    def layer_terms(self, layer: Layer) -> list[Tensor]:
        """The terms of one layer: its weights, its bias, the scale and offset of its normalisation."""
        sigma = self.largest_singular_value(layer.weight)
        terms = [(sigma**self.k - self.goal(layer, sigma) ** self.k) ** 2]
        for param in layer.params()[1:]:
            if param.name.endswith((".weight", ".scale")):
                terms.append((param.tensor.abs().amax(dim=-1) ** self.k - 1) ** 2)
            else:
                terms.append(param.tensor.square().sum(dim=-1) ** self.k)
        return terms

    def largest_singular_value(self, param: Param) -> Tensor:
        """sigma_max of the weight matrix after one more step of power iteration."""
        matrix, key = param.matrix, f"u.{param.name}"
        with torch.no_grad():
            u = self.state.get(key)
            if u is None:
                u = torch.linalg.svd(matrix, full_matrices=False).U[..., 0]
            v = normalize((matrix.mT @ u.unsqueeze(-1)).squeeze(-1), dim=-1)
            image = (matrix @ v.unsqueeze(-1)).squeeze(-1)
            # A matrix of zeros has no direction; once it has one again, the old vector finds it, a zero never would.
            u = torch.where((image != 0).any(dim=-1, keepdim=True), normalize(image, dim=-1), u)
            self.state[key] = u
        return (u * (matrix @ v.unsqueeze(-1)).squeeze(-1)).sum(dim=-1)

    def goal(self, layer: Layer, sigma: Tensor) -> Tensor:
        """The target of one layer; under `initial` the value that was seen first."""
        if self.target == "one":
            return torch.ones_like(sigma)
        return self.state.setdefault(f"goal.{layer.name}", sigma.detach().clone())  # type: ignore[no-any-return]
