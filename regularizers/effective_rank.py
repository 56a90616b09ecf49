"""Effective rank (the ER of L2-ER): keep the features of every hidden layer from collapsing onto few directions.

    R = - mean_l erank(Phi_l),   erank(Phi) = exp(- sum_i p_i log p_i),   p_i = sigma_i / sum_k sigma_k

with Phi_l `[samples, units]` the activations of layer l and sigma its singular values. They are taken as the roots of
the eigenvalues of the smaller Gram matrix, whose gradient needs no differences of singular values and so stays finite
where some are equal or zero (dead units).

He, Guo, Prakash, Tiwari, Tao, Serapio, Greenwald and Konidaris, "Spectral Collapse Drives Loss of Plasticity in Deep
Continual Learning", ICML 2026, arXiv 2509.22335. Their L2-ER is this together with weight decay (1e-3 to 1e-5 in RL):
add `l2` for it. In their code the rank has a plain gradient step of its own, beside Adam's, on a whole rollout once an
epoch (`form: step`, here on one minibatch); as a term in the loss Adam would rescale it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from agents.interventions import MomentName, ResetEvent, Step
from agents.layers import Network
from agents.stacking import Random
from agents.watching import Watched
from regularizers.features import FeatureRegularizer

JITTER = 1e-14  # on eigenvalues whose sum is one: singular values below 1e-7 of the norm have no slope any more


def effective_rank(features: Tensor) -> Tensor:
    """Effective rank of features `[..., samples, units]`, not centred; can be differentiated."""
    wide = features.double()  # the square of a matrix has the square of its condition
    gram = wide.mT @ wide if wide.shape[-2] >= wide.shape[-1] else wide @ wide.mT
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1).detach()
    scaled = gram / trace.clamp(min=torch.finfo(torch.float64).tiny)[..., None, None]  # the rank has no scale
    sigma = (torch.linalg.eigvalsh(scaled).clamp(min=0) + JITTER).sqrt()
    share = sigma / sigma.sum(-1, keepdim=True)
    rank: Tensor = torch.special.entr(share).sum(-1).exp()
    return rank.to(features.dtype)


@dataclass
class EffectiveRank(FeatureRegularizer):
    """Raise the effective rank of features (He et al. 2026)."""

    strength: Annotated[float, Ge(0)] = 1e-6
    """Step size of the rank's own gradient step, 1e-5 to 1e-7 in the authors' sweep for PPO on a slippery ant, 1e-6 in
    their later analyses (He et al. 2026); with form loss, the factor on the penalty in the loss, for which there is no
    published value in RL."""

    layers: Literal["last", "all"] = "all"
    """Which hidden layers of a network; all, as in the paper. Of a convolution every position counts as a sample."""

    form: Literal["step", "loss"] = "step"
    """step: a plain gradient step on the rank next to that of the optimiser, as in the authors' code: not clipped, not
    rescaled. loss: a term in the loss that the optimiser sees."""

    every: Annotated[int, Gt(0)] = 32
    """Gradient steps of the network's optimiser between two applications. The authors apply it once an epoch, which for
    SB3's PPO is 32 minibatches; the eigenvalues cost about as much as an update."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._waiting: dict[str, list[tuple[Tensor, Tensor]]] = {}  # never longer than from a gradient to its step

    def watches(self) -> set[Watched]:
        """The activations of the minibatch; its own step takes their gradients by the parameters."""
        return {"activations", "graph"} if self.form == "step" else {"activations"}

    def uses(self, moment: MomentName) -> bool:
        """The rank's own step is prepared before the backward pass and taken after the optimiser's."""
        own = ("before_backward", "after_step") if self.form == "step" else ("loss_term",)
        return self.strength > 0 and moment in own

    def idle(self, number: int) -> float:
        """All steps between two applications."""
        return -number % self.every

    def penalty_on(self, network: Network, step: Step) -> Tensor | None:
        """The negative mean rank of the minibatch's activations; None at steps at which nothing is due."""
        activations = {} if step.number % self.every else step.activations(network)
        if not activations:
            return None
        return -torch.stack([effective_rank(activations[layer]) for layer in self.chosen(network)]).mean(dim=0)

    def loss_term(self, network: Network, step: Step) -> Tensor | None:
        """The penalty times its strength, under the form loss."""
        penalty = self.penalty_on(network, step)
        return None if penalty is None else self.strength * penalty

    def before_backward(self, networks: list[Network], step: Step) -> Mapping[str, Tensor]:
        """Put the gradient aside, under the form step, until the optimiser has stepped."""
        values: dict[str, Tensor] = {}
        for network in networks:
            penalty = self.penalty_on(network, step)
            if penalty is not None:
                tensors = [param.tensor for param in network.params() if param.tensor.requires_grad]
                gradients = step.watcher.gradients(penalty.sum(), tensors)
                pairs = zip(tensors, gradients, strict=True)
                self._waiting[network.name] = [(tensor, slope) for tensor, slope in pairs if slope is not None]
                values[network.name] = self.strength * penalty.detach()
        return values

    @torch.no_grad()
    def after_step(self, networks: list[Network], step: Step, generator: Random) -> Iterable[ResetEvent]:
        """Take the rank's own step, from the gradient at the weights before the optimiser's."""
        for network in networks:
            if waiting := self._waiting.pop(network.name, None):
                tensors, gradients = zip(*waiting, strict=True)
                torch._foreach_add_(tensors, gradients, alpha=-self.strength)
        return ()
