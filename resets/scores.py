"""Scores of hidden units, apart from the rules that use them: what each unit is worth.

With h the activations on a batch, L the loss, W the incoming weights of a layer and W_out those that read its units, in
all layers that do:

| score | of unit i | from |
|---|---|---|
| activation | mean |h_i| | ReDo: Sokar et al., ICML 2023, arXiv 2302.12902, equation 1 |
| contribution | mean |h_i| times mean |W_out[:, i]| | continual backpropagation: Dohare et al., Nature 2024 |
| gradient | mean_j |dL/dW_ij| | ReGraMa: Liu et al. 2025, arXiv 2505.24061 |
| attribution | |sum over the batch of dL/dh_i (h_i - r_i)| | GXD 2026, arXiv 2605.06834: a reconstruction |
| random | uniform | a control |

Attribution is, to first order, what the loss changes by when the unit is replaced with the constant r_i: 0 where a
reset makes its outgoing weights zero, its mean where that mean goes into the next layer's bias. Only the abstract of
its paper was available: the form above is a reconstruction from it, and which reference value and which averaging over
time the authors use could not be established.

Rules with a threshold compare scores with the mean of their layer (`relative`), so that a threshold means the same for
all of them. Gradients of one minibatch say little: in PPO clipped samples and small advantages have none. Rules that
fire rarely add these scores up over all steps since they last fired.
"""

import functools
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from agents.interventions import Step
from agents.layers import Layer, Network
from agents.watching import Watched

Score = Literal["activation", "contribution", "gradient", "attribution", "random"]

OF_GRADIENTS = ("gradient", "attribution")
"""Scores that are measured at gradient steps; the others can be taken of any batch of activations."""

TINY = 1e-9
"""Added to the mean that scores are divided by, as in ReDo's code."""


def activation(h: Tensor) -> Tensor:
    """Mean absolute activation `[..., units]` of `[..., samples, units]`."""
    return h.abs().mean(dim=-2)


def outgoing(layers: Sequence[Layer]) -> Tensor:
    """Mean absolute outgoing weight of each unit of layers of one width, over all that read it.

    Returns:
        `[layers, ..., units]`.
    """
    sums: list[Tensor] = []
    counts: list[int] = []
    for layer in layers:
        total, count = [], 0
        for consumer in layer.consumers:
            matrix = consumer.layer.weight.matrix
            if consumer.block > 1 or matrix.shape[-1] != consumer.units:
                matrix = consumer.by_unit(matrix).abs().sum(dim=-1)
            total.append(matrix.abs().sum(dim=-2))
            count += matrix.shape[-2] * consumer.block
        sums.append(total[0] if len(total) == 1 else torch.stack(total).sum(dim=0))
        counts.append(count)
    stack = torch.stack(sums)
    numbers = _column(tuple(counts), sums[0].dtype, sums[0].device)
    return stack / (numbers if stack.dim() == 2 else numbers.unsqueeze(-1))


@functools.lru_cache(maxsize=64)
def _column(numbers: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers as `[numbers, 1]`, kept since making a tensor takes as long as using it."""
    return torch.tensor(numbers, dtype=dtype, device=device).unsqueeze(-1)


def gradient(weight_gradient: Tensor) -> Tensor:
    """Mean absolute gradient of each unit's incoming weights, `[..., units]` of `[..., units, fan_in]`."""
    return weight_gradient.abs().mean(dim=-1)


def attribution(h: Tensor, loss_gradient: Tensor) -> Tensor:
    """First-order change `[..., units]` of the loss when units become constant; of two `[..., samples, units]`.

    Args:
        h: how far activations are from the constant; themselves where that is 0.
        loss_gradient: of the loss by them.
    """
    return (loss_gradient * h).sum(dim=-2).abs()


def relative(score: Tensor) -> Tensor:
    """A score over the mean of its layer."""
    return score / (score.mean(dim=-1, keepdim=True) + TINY)


def watched(score: str) -> set[Watched]:
    """What has to be watched of every step to measure a score there."""
    kinds: dict[str, set[Watched]] = {
        "activation": {"activations"},
        "contribution": {"activations"},
        "attribution": {"activations", "gradients"},
    }
    return kinds.get(score, set())


@torch.no_grad()
def of_step(score: str, network: Network, step: Step) -> dict[Layer, Tensor]:
    """Scores of the hidden units at one gradient step; without layers that were not in its loss."""
    if score == "gradient":
        own = ((layer, layer.weight) for layer in network.hidden)
        return {layer: gradient(p.as_matrix(p.tensor.grad)) for layer, p in own if p.tensor.grad is not None}
    h = step.activations(network)
    if score == "attribution":
        return {layer: attribution(h[layer], g) for layer, g in step.gradients(network).items()}
    if score == "contribution":
        return {layer: activation(part) * outgoing([layer])[0] for layer, part in h.items()}
    return {layer: activation(part) for layer, part in h.items()}


@torch.no_grad()
def add_up(state: dict[str, Any], scores: dict[Layer, Tensor]) -> None:
    """Add scores to what a state has of each layer since it was last taken."""
    known = [(f"score.{layer.name}", score) for layer, score in scores.items()]
    new = {key: score for key, score in known if key not in state}
    old = [(key, score) for key, score in known if key not in new]
    state.update(new)
    if old:
        torch._foreach_add_([state[key] for key, _ in old], [score for _, score in old])


def take(state: dict[str, Any], network: Network) -> dict[Layer, Tensor]:
    """What has been added up of each layer, and start anew."""
    return {layer: state.pop(f"score.{layer.name}") for layer in network.hidden if f"score.{layer.name}" in state}


def lowest(score: Tensor, count: int) -> Tensor:
    """The mask `[..., units]` of the `count` units of lowest score, of equal ones the first."""
    order = score.argsort(dim=-1, stable=True)
    chosen = torch.arange(score.shape[-1], device=score.device) < count
    return torch.zeros_like(score, dtype=torch.bool).scatter(-1, order, chosen.expand(order.shape))
