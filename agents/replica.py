"""A frozen copy of a network: what the weights of another moment make of the inputs of this one.

Several penalties compare a network with itself at an earlier time. A `Replica` is that earlier network; it is copied
once, module by module, and then only has its numbers overwritten. `Replicas` keeps those of one intervention, so that
their weights are part of the intervention's state and a resumed run goes on with the same bits.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from agents.injection import unheard_copy
from agents.layers import Layer, Network
from agents.watching import Watched, Watcher


class Replica:
    """A copy of a network's body and heads that nobody trains or watches.

    It runs in the mode, training or evaluation, that the live network is in, so that a network which normalises by its
    minibatch is compared with one that does the same.

    Attributes:
        network: what it is a copy of.
        live: the parameters and buffers of the network, each once.
        tensors: its own, in the same order; only ever changed in place.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        memo: dict[int, Any] = {}
        live = nn.ModuleList([*network.body, *network.heads])
        self._everything = unheard_copy(live, memo).requires_grad_(False)
        self._body, self._heads = self._everything[: len(network.body)], self._everything[len(network.body) :]
        self.live = _tensors(live)
        self.tensors = _tensors(self._everything)
        twins = [
            replace(layer, module=memo[id(layer.module)], output=memo[id(layer.output)]) for layer in network.hidden
        ]
        self._originals = dict(zip(twins, network.hidden, strict=True))
        self._twin = Network(network.name, network.role, twins)
        self._watcher = Watcher()

    @torch.no_grad()
    def follow(self) -> None:
        """Take over all weights and buffers of the live network."""
        torch._foreach_copy_(self.tensors, self.live)

    @torch.no_grad()
    def __call__(self, *inputs: Any) -> list[Tensor]:
        """The outputs, one tensor a head, for what `Network.run` takes; without a graph."""
        return self._run(*inputs)

    def features(self, kind: Watched, *inputs: Any) -> dict[Layer, Tensor]:
        """What `Step` shows under the name `kind`, of this copy, without a graph.

        Args:
            kind: `activations` or `preactivations`.
            inputs: what `Network.run` takes.

        Returns:
            `[samples, units]` for each hidden layer of the network (not of the copy).
        """
        self._watcher.watch(self._twin, {kind})
        with torch.enable_grad():  # the watcher looks at no other forward pass; nothing here requires a gradient
            self._run(*inputs)
        return {self._originals[twin]: found.detach() for twin, found in self._watcher.read(self._twin, kind).items()}

    def _run(self, *inputs: Any) -> list[Tensor]:
        if self._body[0].training != self.network.body[0].training:
            self._everything.train(self.network.body[0].training)
        flow: Tensor = self._body[0](*inputs)
        for module in self._body[1:]:
            flow = module(flow)
        return [head(flow) for head in self._heads] or [flow]


class Replicas:
    """The replicas that one intervention keeps, a network each.

    The objects can be made again at any time; their numbers are tensors of the intervention's state.

    Args:
        what: what they are of the networks, such as `old`; the first part of their names in the state.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._made: dict[str, Replica] = {}

    def of(self, network: Network, state: dict[str, Any]) -> Replica:
        """The replica of a network as the state has it; where it has none, one of the network as it is now."""
        made = self._made.get(network.name)
        if made is None or made.network is not network or state.get(self._key(network, 0)) is not made.tensors[0]:
            made = self._made[network.name] = Replica(network)
            for index, tensor in enumerate(made.tensors):
                key = self._key(network, index)
                if key in state:
                    tensor.copy_(state[key])
                state[key] = tensor
        return made

    def _key(self, network: Network, index: int) -> str:
        return f"{self.what}.{network.name}.{index}"


def _tensors(modules: nn.Module) -> list[Tensor]:
    """All parameters and buffers, each once."""
    return [*modules.parameters(), *modules.buffers()]
