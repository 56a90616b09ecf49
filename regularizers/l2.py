"""L2 regularisation: pull all weights towards zero at every step.

    coupled      g <- g + lambda * theta           before the optimiser's step: the gradient of lambda/2 ||theta||^2
    decoupled    theta <- (1 - lr * lambda) theta  before the optimiser's step, which does not see it (AdamW)

They are the same with plain gradient descent only: Adam divides the coupled term by its gradients' running size, so
that one lambda means decays orders of magnitude apart. Both happen where torch's optimisers do them, after any clipping
of gradients, and give what torch's Adam and AdamW give with `weight_decay`, bit for bit. Mind the factor of two between
papers: this is lambda/2 ||theta||^2, as `weight_decay` is; elsewhere it is often lambda ||theta||^2.

Coupled, against loss of plasticity: Dohare, Hernandez-Garcia, Lan, Rahman, Mahmood and Sutton, "Loss of plasticity in
deep continual learning", Nature 2024, arXiv 2306.13812. Decoupled: Loshchilov and Hutter, "Decoupled Weight Decay
Regularization", ICLR 2019, arXiv 1711.05101; in RL Juliani and Ash, "A Study of Plasticity Loss in On-Policy Deep
Reinforcement Learning", NeurIPS 2024.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from agents.interventions import MomentName, Step
from agents.layers import Network, Param
from agents.stacking import Random
from regularizers.base import Regularizer


@dataclass
class L2(Regularizer):
    """Pull all weights towards zero (Dohare et al. 2024)."""

    touches = ("hidden", "norm", "heads", "log_std")

    strength: Annotated[float, Ge(0)] = 1e-3
    """lambda. 1e-3 is that of Dohare et al. for PPO (coupled, with both of Adam's betas at 0.99) and of Juliani and Ash
    for PPO (decoupled); for SAC none of these has one. The former do not clip gradients: after SB3's clipping to a norm
    of 0.5 their lambda is too much (docs/results/leaderboard.md)."""

    decay: Literal["coupled", "decoupled"] = "coupled"
    """coupled: part of the gradient, as in Adam. decoupled: apart from it, as in AdamW."""

    biases: bool = True
    """Whether biases decay as well, as in the sources."""

    norms: bool = True
    """Whether scales and offsets of normalisations decay as well, as torch's optimisers do by default."""

    heads: bool = True
    """Whether output layers decay as well, as in the sources."""

    log_std: bool = True
    """Whether a policy's log_std decays (towards a standard deviation of one), as in the sources; SAC's entropy
    coefficient never does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._chosen: dict[str, tuple[list[Network], list[Param]]] = {}

    def params(self, network: Network) -> list[Param]:
        """The parameters of a network that decay."""
        chosen = [*network.inputs] if self.norms else []
        for layer in (layer for layer in network.layers if self.heads or not layer.is_head):
            chosen += [layer.weight]
            chosen += [layer.bias] if layer.bias and self.biases else []
            chosen += layer.norm if self.norms else []
        return chosen + (network.free if self.log_std else [])

    def penalty(self, network: Network) -> Tensor:
        """Half the sum of squares."""
        return torch.stack([0.5 * param.tensor.square().sum() for param in self.params(network)]).sum()

    def uses(self, moment: MomentName) -> bool:
        """Decay belongs between clipping and step; none for a strength of zero."""
        return moment == "before_step" and self.strength > 0

    @torch.no_grad()
    def before_step(self, networks: list[Network], step: Step, generator: Random) -> None:
        """Decay all that the step is going to move."""
        key = networks[0].name
        if key not in self._chosen or self._chosen[key][0] != networks:
            self._chosen[key] = (list(networks), [param for network in networks for param in self.params(network)])
        tensors = [param.tensor for param in self._chosen[key][1] if param.tensor.grad is not None]
        if self.decay == "coupled":
            for tensor in tensors:
                tensor.grad.add_(tensor, alpha=self.strength)  # type: ignore[union-attr]
            return
        for group in step.optimizer.param_groups:
            members = set(group["params"])
            for tensor in (tensor for tensor in tensors if tensor in members):
                tensor.mul_(1 - group["lr"] * self.strength)
