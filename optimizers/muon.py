"""Muon: step along the nearest semi-orthogonal matrix, so that all directions of a layer move alike.

    B <- mu B + (1 - mu) g        M = (1 - mu) g + mu B  (Nesterov)  or  B
    W <- (1 - lr wd) W - lr c O   with O ~ U V' of M = U S V', by five Newton-Schulz iterations
    X <- a X + b (X X') X + c (X X')^2 X     (a, b, c) = (3.4445, -4.7750, 2.0315), X_0 = M / |M|

whose result has singular values between about 0.7 and 1.2. c is 0.2 sqrt(max(rows, columns)), with which an update has
Adam's usual size and Adam's learning rate fits both (Liu et al. 2025), or sqrt(max(1, rows / columns)) (Jordan et al.).

Jordan, Jin, Boza, You, Cesista, Newhouse and Bernstein, "Muon: An optimizer for hidden layers in neural networks",
2024, kellerjordan.github.io/posts/muon. For the scale: Liu et al., "Muon is Scalable for LLM Training", 2025 (arXiv,
2502.16982). Here in the weights' own precision rather than bfloat16; matrices of one shape are iterated together.

Only matrices of hidden layers are Muon's (convolutions as `[channels, inputs]`); biases, normalisations, heads, free
parameters and, as the authors advise, input layers are Adam's: a network with one hidden layer has nothing for it.
SB3 gives an optimiser a flat list, in which heads look like hidden layers. The callback `Plasticity` with
`Muon().interventions()` says which is which, before the first step; without it (`by_shape`) a matrix counts as hidden
where some matrix before it gives as many outputs as it reads and some after it reads as many as it gives, which is
wrong only where a head is as wide as a layer's inputs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from agents.interventions import Intervention, Moment, ResetEvent
from agents.layers import Network
from optimizers.base import AdamBased, AdamSettings, Beta, Group

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


@dataclass
class Muon(AdamSettings):
    """Step along the nearest orthogonal matrix in hidden layers, Adam elsewhere (Jordan et al. 2024)."""

    momentum: Beta = 0.95
    """Decay of the mean gradient of hidden matrices (Jordan et al. 2024)."""

    nesterov: bool = True
    """Whether to look ahead by one step of momentum (same)."""

    scale: Literal["adam", "aspect"] = "adam"
    """adam: an update of Adam's size, so that the agent's learning rate fits (Liu et al. 2025). aspect: the authors'
    first one, which wants a learning rate about 0.02."""

    weight_decay: Annotated[float, Ge(0)] = 0.0
    """Decay of hidden matrices a step, times the learning rate, apart from the gradient (a choice for RL; language
    models: 0.1); the others have none."""

    input_layers: Literal["adam", "muon"] = "adam"
    """Which optimiser the layers have that read observations (Jordan et al. 2024: adam)."""

    def kind(self) -> type[torch.optim.Optimizer]:
        """The optimiser of this file."""
        return MuonOptimizer

    def arguments(self, eps: float) -> dict[str, Any]:
        """Adam's, and those of the hidden matrices."""
        own = {"momentum": self.momentum, "nesterov": self.nesterov, "scale": self.scale}
        return super().arguments(eps) | own | {"input_layers": self.input_layers == "muon"}

    def interventions(self) -> list[Intervention]:
        """What tells the optimiser which matrices are hidden."""
        return [HiddenMatrices(input_layers=self.input_layers)]


@dataclass(kw_only=True)
class HiddenMatrices(Intervention):
    """Tell Muon which of its parameters are weights of hidden layers (Jordan et al. 2024)."""

    needs = "layers"

    input_layers: Literal["adam", "muon"] = "adam"
    """Which optimiser the layers have that read observations."""

    def check(self, networks: list[Network], others: Sequence[Intervention]) -> None:
        """Refuse a model of which nothing would be Muon's."""
        if not self.hidden(networks):
            raise ValueError(
                "Muon would act on nothing: no network has a hidden layer behind another; choose "
                "deeper networks, or muon for input_layers."
            )

    def between_rollouts(
        self, networks: list[Network], moment: Moment, generator: torch.Generator
    ) -> Iterable[ResetEvent]:
        """Say it once to each optimiser."""
        optimizers = dict.fromkeys(network.optimizer for network in networks)
        untold = [item for item in optimizers if isinstance(item, MuonOptimizer) and not item.told]
        if untold:
            hidden = self.hidden(networks)
            for optimizer in untold:
                optimizer.tell(hidden)
        return ()

    def hidden(self, networks: list[Network]) -> list[Tensor]:
        """The weights of hidden layers that are Muon's."""
        inner = {consumer.layer for network in networks for layer in network.layers for consumer in layer.consumers}
        layers = [layer for network in networks for layer in network.hidden]
        return [layer.weight.tensor for layer in layers if layer in inner or self.input_layers == "muon"]


class MuonOptimizer(AdamBased):
    """Muon for hidden matrices, Adam for all other parameters.

    Args:
        params: parameters or groups of them; a group's `hidden`, one truth value for each of its parameters, says which
            are hidden matrices and overrules the guess from their shapes.
        weight_decay: of hidden matrices, apart from the gradient.
        momentum: decay of the mean gradient.
        nesterov: whether to look ahead.
        scale: adam or aspect.
        input_layers: whether the guess takes input layers as hidden.
        others: as of `AdamBased`.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        nesterov: bool = True,
        scale: str = "adam",
        input_layers: bool = False,
        **others: Any,
    ) -> None:
        own: dict[str, Any] = {
            "decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "scale": scale,
            "told": False,
        }
        super().__init__(params, lr, weight_decay=0.0, **(own | others))
        for group in self.param_groups:
            group.setdefault("hidden", by_shape(group["params"], input_layers))

    @property
    def told(self) -> bool:
        """Whether `tell` has been called on this optimiser, or on the one whose state it has."""
        return bool(self.param_groups[0]["told"])

    def tell(self, hidden: Iterable[Tensor]) -> None:
        """Say which parameters are hidden matrices; statistics kept for the other optimiser are dropped."""
        known = set(hidden)
        for group in self.param_groups:
            now = [param in known for param in group["params"]]
            for param, before, after in zip(group["params"], group["hidden"], now, strict=True):
                if before != after:
                    self.state.pop(param, None)
            group["hidden"], group["told"] = now, True

    def move(self, groups: list[Group]) -> None:
        """One step of both."""
        for group, params, grads in groups:
            hidden = {param for param, flag in zip(group["params"], group["hidden"], strict=True) if flag}
            theirs = [(param, grad) for param, grad in zip(params, grads, strict=True) if param not in hidden]
            own = [(param, grad) for param, grad in zip(params, grads, strict=True) if param in hidden]
            if theirs:
                others = [param for param, _ in theirs]
                directions = self.directions(group, others, [grad for _, grad in theirs])
                torch._foreach_add_(others, directions, alpha=-group["lr"])
            if own:
                self.move_matrices(group, [param for param, _ in own], [grad for _, grad in own])

    def move_matrices(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        """One step of Muon."""
        momenta = self.memory(params, "momentum_buffer")
        torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
        ahead = torch._foreach_lerp(grads, momenta, group["momentum"]) if group["nesterov"] else momenta
        if group["decay"]:
            torch._foreach_mul_(params, 1 - group["lr"] * group["decay"])
        by_size: dict[torch.Size, list[int]] = {}
        for index, param in enumerate(params):
            by_size.setdefault(param.flatten(1).shape, []).append(index)
        for (rows, columns), members in by_size.items():
            stacked = orthogonalized(torch.stack([ahead[index].flatten(1) for index in members]))
            factor = 0.2 * max(rows, columns) ** 0.5 if group["scale"] == "adam" else max(1.0, rows / columns) ** 0.5
            for index, update in zip(members, stacked, strict=True):
                params[index].add_(update.view_as(params[index]), alpha=-group["lr"] * factor)


def orthogonalized(matrices: Tensor) -> Tensor:
    """Approximately the nearest semi-orthogonal matrices to `[matrices, rows, columns]`."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    found = matrices.mT if tall else matrices
    found = found / found.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    for _ in range(ITERATIONS):
        gram = found @ found.mT
        found = torch.baddbmm(found, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return found.mT if tall else found


def by_shape(params: Sequence[Tensor], input_layers: bool) -> list[bool]:
    """Which of a flat list of parameters, in the order in which data flows, look like weights of hidden layers."""
    matrices = [param for param in params if param.dim() > 1]

    def feeds(one: Tensor, two: Tensor) -> bool:
        flattened = one.dim() > 2 and two.dim() == 2
        return two.shape[1] % one.shape[0] == 0 if flattened else two.shape[1] == one.shape[0]

    hidden: set[Tensor] = set()
    for index, matrix in enumerate(matrices):
        is_read = any(feeds(matrix, later) for later in matrices[index + 1 :])
        reads = input_layers or any(feeds(earlier, matrix) for earlier in matrices[:index])
        if is_read and reads:
            hidden.add(matrix)
    return [param in hidden for param in params]
