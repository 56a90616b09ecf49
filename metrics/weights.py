"""The size of weights."""

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def weight_norm(tensors: Iterable[Tensor]) -> float:
    """Euclidean norm of all weights and biases together."""
    return float(torch.sqrt(sum((tensor.double().square().sum() for tensor in tensors), torch.zeros(()).double())))
