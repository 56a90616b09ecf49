"""Random functions for a network to fit.

    network:  y = f(x)               sine:  y = sin(1e5 f(x))            f a freshly initialised network

The first is what Lyle, Rowland and Dabney, "Understanding and Preventing Capacity Loss in Reinforcement Learning", ICLR
2022, arXiv 2204.09560, fit (definition 1); the second is from Lyle, Zheng, Nikishin, Avila Pires, Pascanu and Dabney,
"Understanding Plasticity in Neural Networks", ICML 2023, arXiv 2303.01486. The sine of so large an argument is as good
as noise: neighbouring samples have nothing in common, and fitting it means learning each by heart.
"""

from typing import Literal

import torch
from torch import Tensor

Kind = Literal["network", "sine"]

FREQUENCY = 1e5
"""Of the sine (Lyle et al. 2023)."""


def random_targets(outputs: Tensor, kind: Kind) -> Tensor:
    """Targets, made of what random networks give on a batch.

    Args:
        outputs: of freshly initialised networks, `[..., samples, outputs]`.
        kind: the outputs themselves, or their sine.

    Returns:
        In that shape. Each output is standardised over the samples, so that predicting its mean is an error of 1; it is
        0 throughout where the random network gives the same for all samples.
    """
    values = outputs.double()
    size = values.abs().mean(dim=-2, keepdim=True)
    if kind == "sine":
        values, size = torch.sin(FREQUENCY * values), torch.ones_like(size)
    centred = values - values.mean(dim=-2, keepdim=True)
    scale = centred.square().mean(dim=-2, keepdim=True).sqrt()
    return torch.where(scale > 1e-6 * size, centred / scale, 0.0).to(outputs.dtype)
