"""The gradient of each sample's loss, one row a sample.

    G = [g_1, ..., g_n]^T,   g_i = grad_theta l_i(theta)

The mean of the rows is the gradient of the mean loss. What says something about how samples agree reads G: gradient
covariance (Lyle et al. 2022, 2023), the rank of gradients, their diversity. What a loss takes from the whole batch,
such as the moments that normalise advantages, is a constant in it.

G is large: 128 samples of a network with 4,600 parameters take 2 MB, of SB3's network for images (1.7 million) 860 MB.
`most_samples` says how many fit into a given memory.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.utils._pytree import tree_map

from metrics.base import Loss

MEMORY = 2**28
"""Bytes that a matrix of gradients may take: 256 MB, a choice."""

CHUNK = 2**25
"""Bytes of gradients that are computed at once: 32 MB, a choice."""


def sample_gradients(loss: Loss, chunk: int | None = None) -> Tensor:
    """Gradients of the losses of single samples.

    Args:
        loss: of few samples; see `most_samples` and `fewer`.
        chunk: how many samples are computed at once, which changes nothing but time and memory; as many as `CHUNK`
            holds without it.

    Returns:
        `[samples, parameters]`, the parameters flattened in the order of `loss.parameters`.
    """

    def one(parameters: dict[str, Tensor], sample: Any) -> Tensor:
        return loss.of(parameters, tree_map(lambda tensor: tensor.unsqueeze(0), sample))[0]

    total, width = count(loss), sum(tensor.numel() for tensor in loss.parameters.values())
    rows = next(iter(loss.parameters.values())).new_empty(total, width)
    chunk = chunk or max(1, CHUNK // (width * rows.element_size()))
    each = vmap(grad(one), in_dims=(None, 0))
    for start in range(0, total, chunk):
        part = tree_map(lambda tensor, start=start: tensor[start : start + chunk], loss.samples)
        found = each(loss.parameters, part)
        torch.cat([found[name].flatten(1) for name in loss.parameters], 1, out=rows[start : start + chunk])
    return rows


def count(loss: Loss) -> int:
    """How many samples a loss is of."""
    leaves: list[Tensor] = []
    tree_map(leaves.append, loss.samples)
    return len(leaves[0])


def fewer(loss: Loss, samples: int) -> Loss:
    """The loss of the first samples; what was computed from the whole batch stays as it was."""
    return replace(loss, samples=tree_map(lambda tensor: tensor[:samples], loss.samples))


def most_samples(loss: Loss, memory: int = MEMORY) -> int:
    """How many samples' gradients fit into this many bytes; at least one."""
    return max(1, memory // sum(tensor.numel() * tensor.element_size() for tensor in loss.parameters.values()))
