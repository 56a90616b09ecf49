"""Units that have fallen silent: the dormancy score and the dormant fraction.

Sokar et al., "The Dormant Neuron Phenomenon in Deep Reinforcement Learning", ICML 2023, arXiv 2302.12902, equation 1:

    s_i = E|h_i(x)| / (1/H sum_k E|h_k(x)|)

with h the activations after the nonlinearity, and unit i tau-dormant when s_i <= tau. The score compares a unit with
its layer, so one huge unit makes all others look dormant; and a saturated tanh unit has a high score although it no
longer learns.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


def dormancy_score(activations: Tensor) -> Tensor:
    """Score of each unit: its mean absolute activation over that of its layer.

    Args:
        activations: after the nonlinearity, `[..., samples, units]`.

    Returns:
        `[..., units]`, with mean 1 over the layer; 0 for a dead unit, and for all units of a dead layer.
    """
    strength = activations.abs().mean(dim=-2)
    return strength / (strength.mean(dim=-1, keepdim=True) + 1e-9)


def dormant_fraction(layers: Iterable[Tensor], tau: float = 0.1) -> float:
    """Share of tau-dormant units among all units of several layers.

    Args:
        layers: activations of each layer, `[samples, units]`.
        tau: a unit counts when its score is at most this.
    """
    dormant = [dormancy_score(activations) <= tau for activations in layers]
    return float(torch.cat(dormant).float().mean()) if dormant else float("nan")
