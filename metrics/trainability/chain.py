"""The modules of a network's own layers, copied and cut out.

What follows a network's last parameters (the tanh of TD3's actor) is left out, since no target beyond 1 could be
reached through it. A network without outputs, a feature extractor, gets a new linear head. The copy runs as the agent
does in its updates, in training mode, but for dropout, which would draw random numbers.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from agents.injection import unheard_copy
from agents.layers import Network, Param, kaiming_uniform, zeros
from agents.modules import SpectralNorm

OUTPUTS = 4
"""Outputs of the head that a network without one is given; a choice."""

BIRTH = {"running_mean": 0, "running_var": 1, "num_batches_tracked": 0, "ra_mean": 0, "ra_var": 1, "steps": 0}
"""What the running statistics of torch's and sb3-contrib's batch normalisations start from."""


class Chain(nn.Module):
    """A copy of a network's body and heads: modules one after another, then heads side by side.

    Attributes:
        own: the network's parameter of which each of the chain's is a copy; those of a new head count among them.
        new: the parameters of the new head, which have no values yet.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        memo: dict[int, Any] = {}
        copied = unheard_copy(nn.ModuleList([*network.body, *network.heads]), memo)
        self.body = copied[: len(network.body)]
        self.heads = nn.ModuleList(_unsquashed(head) for head in copied[len(network.body) :])
        self.own: dict[Tensor, Param] = {
            memo[id(param.tensor)]: param for param in network.params() if id(param.tensor) in memo
        }
        self.new: dict[Tensor, Param] = {}
        self.train()
        for part in self.modules():
            if isinstance(part, nn.modules.dropout._DropoutNd):
                part.eval()

    def forward(self, *flow: Any) -> Tensor:
        """All outputs side by side: `[samples, outputs]`."""
        for module in self.body:
            flow = (module(*flow),)
        outputs = [head(*flow) for head in self.heads] or [*flow]
        return torch.cat([output.flatten(1) for output in outputs], dim=1)

    @torch.no_grad()
    def cut(self, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Drop the modules before the network's own layers; returns what they make of their inputs."""
        while len(self.body) and self.own.keys().isdisjoint(self.body[0].parameters()):
            inputs = (self.body.pop(0).eval()(*inputs),)
        return inputs

    @torch.no_grad()
    def add_head(self, inputs: tuple[Any, ...], optimizer: torch.optim.Optimizer | None) -> None:
        """Add a linear head, initialised as torch's own and without bias at first."""
        width = copy.deepcopy(self).eval()(*inputs).shape[1]
        like = next(iter(self.own))
        head = nn.Linear(width, OUTPUTS, device="meta", dtype=like.dtype).to_empty(device=like.device)
        self.heads.append(head)
        self.new = {
            head.weight: Param("probe.weight", head.weight, kaiming_uniform, optimizer),
            head.bias: Param("probe.bias", head.bias, zeros, optimizer),
        }
        self.own |= self.new

    def renew(self) -> None:
        """Put what modules remember of the past, beside parameters, to where it starts."""
        for name, buffer in self.named_buffers():
            if (start := BIRTH.get(name.rpartition(".")[2])) is not None:
                buffer.fill_(start)
        for part in self.modules():
            if isinstance(part, SpectralNorm):
                part.start()


def _unsquashed(head: nn.Module) -> nn.Module:
    """A head without what follows its last parameters."""
    if not isinstance(head, nn.Sequential):
        return head
    last = max(index for index, module in enumerate(head) if any(True for _ in module.parameters()))
    return head[: last + 1]
