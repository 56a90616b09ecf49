"""InFeR, initial feature regularisation: linear readings of the features should stay what they were at the start.

    R = mean_i E (g_i(phi(s)) - beta g_i0(phi_0(s)))^2,   i = 1 … k

with phi the activations of the last hidden layer, phi_0 those of the network at the start of the run, g_i linear heads
that are trained with the network and g_i0 the same heads at the start. Some subspace of the features thus remains able
to tell inputs apart, whatever the task has no use for.

The heads are trained here by Adam with the learning rate (and, where it has them, the betas and epsilon) of the
network's own optimiser; clipping of the network's gradients does not include theirs.

Lyle, Rowland and Dabney, "Understanding and Preventing Capacity Loss in Reinforcement Learning", ICLR 2022, arXiv
2204.09560, who regularise value networks on Atari. That the error is a mean over heads, not a sum, follows the public
reimplementation timoklein/infer.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor
from torch.nn.functional import linear

from agents.interventions import Intervention, Moment, ResetEvent, Step
from agents.layers import Layer, Network
from agents.replica import Replicas
from agents.watching import Watched
from regularizers.base import Regularizer, refuse_two_passes
from regularizers.features import last_layers


@dataclass
class InFeR(Regularizer):
    """Keep linear readings of the features what they were at the start (Lyle et al. 2022)."""

    touches = ("hidden", "norm")
    needs = "hidden"

    strength: Annotated[float, Ge(0)] = 0.1
    """Factor alpha on the penalty in the loss. 0.1 is quoted for the paper (unchecked), timoklein/infer has 0.05, both
    for value networks. With beta at 100 it outweighs PPO's loss, of which clipping then leaves little: try 1e-3 or less
    there, a choice."""

    heads: Annotated[int, Gt(0), Le(10_000)] = 10
    """Number k of heads; 10 in the paper (as quoted by its reimplementation)."""

    beta: Annotated[float, Ge(0)] = 100.0
    """Factor on what the heads said at the start. 100 is quoted for the paper (unchecked); timoklein/infer has 175."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._replicas = Replicas("start")

    def check(self, networks: list[Network], others: Sequence[Intervention]) -> None:
        """Refuse optimisers that look at each minibatch twice."""
        refuse_two_passes(self, networks)

    def watches(self) -> set[Watched]:
        """The features of the minibatch, and what they were computed from."""
        return {"activations", "inputs"}

    def between_rollouts(
        self, networks: list[Network], moment: Moment, generator: torch.Generator
    ) -> Iterable[ResetEvent]:
        """Before the very first rollout, copy the networks and draw the heads: weights and biases as torch does."""
        for network in networks:
            for layer in last_layers(network):
                key = f"heads.{layer.name}"
                if self.strength == 0 or key in self.state:
                    continue
                bound, like = 1 / math.sqrt(layer.units), layer.weight.tensor
                drawn = torch.empty(self.heads, layer.units + 1, dtype=like.dtype, device=like.device)
                drawn.uniform_(-bound, bound, generator=generator)  # the last column is the bias
                self._replicas.of(network, self.state)
                self.state |= {key: drawn, f"heads0.{layer.name}": drawn.clone(), f"steps.{layer.name}": 0}
                self.state |= {f"{moment}.{layer.name}": torch.zeros_like(drawn) for moment in ("mean", "square")}
        return ()

    def loss_term(self, network: Network, step: Step) -> Tensor | None:
        """The mean squared error of the heads, which then take their own step."""
        inputs, layers = step.inputs(network), last_layers(network)
        if inputs is None or f"heads.{layers[0].name}" not in self.state:
            return None
        now, start = step.activations(network), self._replicas.of(network, self.state).features("activations", *inputs)
        errors = []
        for layer in layers:
            error = _read(now[layer], self.state[f"heads.{layer.name}"])
            error = error - self.beta * _read(start[layer], self.state[f"heads0.{layer.name}"])
            self._train(layer, now[layer].detach(), error.detach(), step)
            errors.append(error.square().mean(dim=(-2, -1)))
        return self.strength * torch.stack(errors).sum(dim=0)

    @torch.no_grad()
    def _train(self, layer: Layer, features: Tensor, error: Tensor, step: Step) -> None:
        """One step of Adam on the heads of one layer; makes new ones, since the penalty's graph holds the old."""
        slope = error * (2 * self.strength / (error.shape[-2] * error.shape[-1]))
        gradient = torch.cat([slope.mT @ features, slope.sum(dim=-2).unsqueeze(-1)], dim=-1)
        group = step.optimizer.param_groups[0]
        (beta1, beta2), epsilon = group.get("betas", (0.9, 0.999)), group.get("eps", 1e-8)
        mean, square = self.state[f"mean.{layer.name}"], self.state[f"square.{layer.name}"]
        count = self.state[f"steps.{layer.name}"] = self.state[f"steps.{layer.name}"] + 1
        mean.lerp_(gradient, 1 - beta1)
        square.lerp_(gradient.square(), 1 - beta2)
        scale = (square / (1 - beta2**count)).sqrt_().add_(epsilon)
        self.state[f"heads.{layer.name}"] = self.state[f"heads.{layer.name}"] - (group["lr"] / (1 - beta1**count)) * (
            mean / scale
        )


def _read(features: Tensor, heads: Tensor) -> Tensor:
    """What heads `[..., k, units + 1]`, the bias last, say of features `[..., samples, units]`."""
    weights, biases = heads[..., :-1], heads[..., -1]
    if heads.dim() == 2:
        return linear(features, weights, biases)
    # On a CPU products of many matrices are slow where the second has few columns.
    return torch.baddbmm(biases.unsqueeze(-1), weights, features.mT).mT
