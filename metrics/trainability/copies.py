"""Copies of a network that can be trained beside it, all at once and without a trace in the agent.

Only a network's own layers are trained. What stands before them (flattening, a feature extractor that is another
network's) runs once, on the whole batch.
"""

import copy
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from agents.layers import Network
from metrics.trainability.chain import Chain
from metrics.trainability.stacked import is_plain, run_plain

Inputs = tuple[Any, ...]
Weights = dict[str, Tensor]
"""Parameters by their names in the copied modules; those of several copies are stacked in the first dimension."""


class Copies:
    """The layers of one network as a function of their weights.

    Args:
        network: has hidden layers; it is neither changed nor run itself.
        inputs: what `network.run` takes, of the whole batch.

    Attributes:
        inputs: what the copies take, of the whole batch.
        params: the trained parameters by name: the network's own, and those of the head it was given.
    """

    def __init__(self, network: Network, inputs: Inputs) -> None:
        self._chain = Chain(network)
        self.inputs = self._chain.cut(inputs)
        if not any(layer.is_head for layer in network.layers):
            self._chain.add_head(take(self.inputs, slice(2)), network.optimizer)
        self._tensors = dict(self._chain.named_parameters())
        self._params = {name: self._chain.own.get(tensor) for name, tensor in self._tensors.items()}
        self.params = {name: param for name, param in self._params.items() if param is not None and param.optimizer}
        self._plain = is_plain(self._chain) and len(self.inputs) == 1
        self._each: list[Chain] = []

    def now(self, generator: torch.Generator) -> Weights:
        """The network's weights as they are, with a new head where it has none of its own."""
        return {
            name: self.params[name].fresh(generator) if tensor in self._chain.new else tensor.detach().clone()
            for name, tensor in self._tensors.items()
        }

    def fresh(self, generator: torch.Generator) -> Weights:
        """Weights drawn from the parameters' own initialisers.

        What no layer of the network claims is zero: the frozen head under an injected one and its counterweight. What
        remains is the network as it would have been built.
        """
        return {
            name: torch.zeros_like(self._tensors[name]) if param is None else param.fresh(generator)
            for name, param in self._params.items()
        }

    def prepare(self, stacks: Weights, fresh: list[bool]) -> None:
        """Get ready to run these copies, of which some are fresh.

        Where modules keep statistics each copy gets its own, and they run one by one; so do modules that `vmap` cannot
        run.
        """
        if self._plain:
            return
        stateful = any(True for _ in self._chain.buffers())
        self._each = []
        if not stateful and self._can_stack(stacks):
            return
        for index, is_fresh in enumerate(fresh):
            chain = copy.deepcopy(self._chain) if stateful else self._chain
            if stateful and is_fresh:
                chain.load_state_dict({name: stack[index] for name, stack in stacks.items()}, strict=False)
                chain.renew()
            self._each.append(chain)

    def run(self, stacks: Weights, inputs: Inputs) -> Tensor:
        """Outputs of all copies on the same inputs, all heads side by side: `[copies, samples, outputs]`."""
        if self._plain:
            return run_plain(self._chain, stacks, *inputs)
        if not self._each:
            return self._together(stacks, inputs)
        return torch.stack(
            [
                _call(chain, {name: stack[index] for name, stack in stacks.items()}, inputs)
                for index, chain in enumerate(self._each)
            ]
        )

    def _together(self, stacks: Weights, inputs: Inputs) -> Tensor:
        def one(weights: Weights) -> Tensor:
            return _call(self._chain, weights, inputs)

        outputs: Tensor = vmap(one)(stacks)
        return outputs

    def _can_stack(self, stacks: Weights) -> bool:
        try:
            self._together(stacks, take(self.inputs, slice(2)))
        except RuntimeError:
            return False
        return True


def take(inputs: Inputs, index: Tensor | slice) -> Inputs:
    """Some samples of what a network takes."""
    return tuple(
        {key: value[index] for key, value in part.items()} if isinstance(part, dict) else part[index] for part in inputs
    )


def count(inputs: Inputs) -> int:
    """How many samples there are."""
    first = inputs[0]
    return len(next(iter(first.values())) if isinstance(first, dict) else first)


def _call(chain: Chain, weights: Weights, inputs: Inputs) -> Tensor:
    outputs: Tensor = functional_call(chain, weights, inputs)
    return outputs
