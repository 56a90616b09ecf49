"""Units that the loss no longer reaches: the share of units with a dormant gradient.

    G_i = mean_j |dL/dW_ij|,      unit i is dormant when G_i <= tau mean_k G_k

with W the incoming weights of a hidden layer. Liu et al., "Measure gradients, not activations! Enhancing neuronal
activity in deep reinforcement learning", NeurIPS 2025, arXiv 2505.24061; `resets.regrama` resets such units. A unit may
be active and yet not learn (a saturated tanh unit, one whose outgoing weights are zero), which activations do not show.

It is the mean over single minibatches, in each of which a unit may be without gradient by chance: a few clipped samples
and small advantages make it higher than what `resets.regrama` finds in gradients added up over many. Where a layer gets
no gradient at all, all of its units are dormant. Gradients are those before clipping, penalties of regularisers
included: under a penalty on weights hardly a unit is dormant.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from agents.layers import Network
from metrics.base import Measured, Metric, StepView, by_layer


def gradient_strength(gradient: Tensor) -> Tensor:
    """Mean absolute gradient of each unit's incoming weights, `[..., units]` of `[..., units, fan_in]`."""
    return gradient.abs().mean(dim=-1)


def gradient_dormant(strength: Tensor, tau: float = 0.01) -> Tensor:
    """Which units get at most tau times their layer's mean gradient.

    Args:
        strength: each unit's mean absolute gradient, `[..., units]`.
        tau: threshold, relative to the mean over units.

    Returns:
        Mask `[..., units]`; all of a layer without gradient.
    """
    return strength <= tau * strength.mean(dim=-1, keepdim=True)


@dataclass
class DormantGradients(Metric):
    """Share of hidden units without gradient, mean over a sample of steps (Liu et al. 2025)."""

    title = "Units without gradient"
    family = "gradients"
    reads = "step"
    names = ("dormant_grad",)

    tau: Annotated[float, Ge(0)] = 0.01
    """A unit is dormant when its mean absolute gradient is at most tau times its layer's: 0.01 in AgileRL's version of
    ReGraMa; the paper's own value could not be established."""

    def applies(self, network: Network) -> bool:
        """Any network with hidden units that an optimiser trains."""
        return bool(network.hidden) and network.optimizer is not None

    def measure_step(self, network: Network, step: StepView) -> Measured:
        """Share among all hidden units, and among those of each layer."""
        own = [(layer, layer.weight) for layer in network.hidden if layer.weight in step.gradients]
        if not own:
            return {}
        strengths = [gradient_strength(param.as_matrix(step.gradients[param])) for _, param in own]
        if len({len(strength) for strength in strengths}) == 1:  # of one width: half as many operations
            counts: list[int] = gradient_dormant(torch.stack(strengths), self.tau).sum(dim=-1).tolist()
        else:
            counts = [int(gradient_dormant(strength, self.tau).sum()) for strength in strengths]
        shares = {layer: count / layer.units for (layer, _), count in zip(own, counts, strict=True)}
        return by_layer("dormant_grad", sum(counts) / sum(layer.units for layer in shares), shares, network)
