"""Modules as pure functions of some of their parameters.

What runs are copies without hooks, so that nobody who listens to the live modules hears of it, in evaluation mode, so
that no buffer changes. They share the numbers of the live modules, which only ever change in place.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from agents.injection import unheard_copy
from agents.layers import Network, Param
from agents.modules import SpectralNorm, power_step

Parameters = Mapping[str, Tensor]
"""By `Param.name`."""

Samples = dict[str, Any]
"""Tensors, or dictionaries of tensors, with the samples in their first dimension."""

Losses = tuple[Samples, Callable[[Parameters, Samples], Tensor]]
"""What losses are computed from, and the function that gives them, `[samples]`."""

CONSTANT: Parameters = {}
"""No parameter replaced."""


def trained(network: Network) -> list[Param]:
    """The network's parameters that an optimiser owns."""
    return [param for param in network.params() if param.optimizer is not None]


class Chain(nn.Module):
    """Modules one after another, and heads that read the last one's output side by side."""

    def __init__(self, body: Iterable[nn.Module], heads: Iterable[nn.Module]) -> None:
        super().__init__()
        self.body, self.heads = nn.ModuleList(body), nn.ModuleList(heads)

    def forward(self, flow: Any) -> tuple[Any, list[Tensor]]:
        """The output of the body, and those of the heads."""
        for module in self.body:
            flow = module(flow)
        return flow, [head(flow) for head in self.heads]


class Pure:
    """A chain of modules as a function of those of its parameters that a network owns; all others are constants.

    Args:
        network: whose parameters may be replaced.
        body: modules one after another.
        heads: modules that read the body's output.

    Attributes:
        names: for each parameter of the chain that the network owns its `Param.name`.
    """

    def __init__(self, network: Network, body: Iterable[nn.Module], heads: Iterable[nn.Module] = ()) -> None:
        chain = Chain(body, heads)
        owned = {param.tensor: param.name for param in trained(network)}
        self.names = {name: owned[tensor] for name, tensor in chain.named_parameters() if tensor in owned}
        self.chain = bare(chain)

    def __call__(self, parameters: Parameters, flow: Any) -> tuple[Any, list[Tensor]]:
        """Outputs of the body and of the heads with these parameters in the place of the network's own."""
        own = {inner: parameters[name] for inner, name in self.names.items() if name in parameters}
        outputs: tuple[Any, list[Tensor]] = functional_call(self.chain, own, (flow,))
        return outputs


def bare(modules: nn.Module) -> nn.Module:
    """A copy with the same numbers that requires no gradient and has no hooks but those of an injection."""
    memo: dict[int, Any] = {id(buffer): buffer for buffer in modules.buffers()}
    memo |= {id(old): nn.Parameter(old.detach(), requires_grad=False) for old in modules.parameters()}
    twin = unheard_copy(modules, memo).eval()
    for module in twin.modules():
        if isinstance(module, SpectralNorm):
            vars(module)["normalized"] = partial(normalized, module)
    return twin


def normalized(module: SpectralNorm) -> Tensor:
    """What `SpectralNorm.normalized` gives in evaluation mode, of operations that `torch.func` can transform."""
    matrix: Tensor = module.weight.flatten(1)
    u, v, _ = power_step(matrix.detach(), module.running_u)
    sigma = torch.dot(u, torch.mv(matrix, v))
    return (matrix / torch.where(sigma > 0, sigma, 1.0)).view_as(module.weight)
