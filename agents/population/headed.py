"""A network of each member, or several that are alike, as one: an actor, a value function, SAC's critics together.

Plain networks are differentiated by hand. Where somebody has hooked a module, or where a body is more than linear
layers with simple nonlinearities, the modules themselves are run, and autograd differentiates them.
"""

from collections.abc import Sequence
from functools import reduce

import torch
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import Tensor, nn

from agents.population.by_hand import Shown
from agents.population.modules import CannotStackError, StackedLinear, Stacker
from agents.population.perceptron import Perceptrons, hidden_layers, product
from agents.population.rows import Rows


class Headed:
    """A body and linear heads that read it. Networks of a member follow one another: `[members * networks, ...]`.

    Args:
        rows: the parameters, in each block those of one network, perhaps among others.
        gradient: where the gradients go, laid out as the rows are.
        body: what leads to the heads, of the first network.
        heads: of the first network.

    Attributes:
        numbers: which of a block's parameters are its own.
        made: for each leaf of the first network the stacked module.

    Raises:
        CannotStackError: a module is of a kind that is not known stacked.
    """

    def __init__(self, rows: Rows, gradient: Tensor, body: Sequence[nn.Module], heads: Sequence[nn.Module]) -> None:
        self.rows = rows
        numbers = {param: number for number, param in enumerate(rows.members[0][: rows.blocks[0]])}
        own = [param for module in (*body, *heads) for param in module.parameters()]
        self.numbers = {numbers[param] for param in own}
        leaves: dict[Tensor, nn.Parameter] = {
            param: nn.Parameter(rows.joint(rows.flat, numbers[param])) for param in own
        }
        self._places = {leaf: rows.joint(gradient, numbers[param]) for param, leaf in leaves.items()}
        stacker = Stacker(leaves.__getitem__)
        self.body = stacker.chain(body)
        self.heads = [part for head in heads if isinstance(part := stacker.leaf(head), StackedLinear)]
        if len(self.heads) < len(heads):
            raise CannotStackError("a head that is not linear")
        self.made = stacker.made
        *before, last = body
        shape = hidden_layers(last) if all(type(module) is FlattenExtractor for module in before) else None
        places = [numbers[param] for param in last.parameters()]
        self._perceptrons = None if shape is None else Perceptrons(rows, gradient, shape, places)
        # What the last pass kept was given and gave, with its graph; or what its heads were given, and no outputs.
        self._start, self._outputs = torch.empty(0), list[Tensor]()

    def __call__(self, inputs: Tensor, keep: bool = False) -> list[Tensor]:
        """What the heads give, `[members * networks, samples, outputs]` each, without a graph.

        Args:
            inputs: `[members * networks, samples, ...]`.
            keep: whether `learn` or `by_inputs` follows.
        """
        if keep and (self._perceptrons is None or self._is_watched()):
            with torch.enable_grad():
                self._start = inputs.detach().requires_grad_()
                latent = self.body(self._start)
                self._outputs = [head(latent) for head in self.heads]
            return [output.detach() for output in self._outputs]
        with torch.no_grad():
            latent = self._perceptrons.run(inputs.flatten(2), keep) if self._perceptrons else self.body(inputs)
            if keep:
                self._start, self._outputs = latent, []
            return [head(latent) for head in self.heads]

    @torch.no_grad()
    def exactly(self, inputs: Tensor) -> list[Tensor]:
        """What the heads give; on a CPU the very bits that each member's own modules would, at some cost.

        For actions that are real numbers: in chaotic environments one bit makes another rollout.
        """
        for part in self.body.parts:
            inputs = part.exactly(inputs) if isinstance(part, StackedLinear) else part(inputs)
        return [head.exactly(inputs) for head in self.heads]

    def by_hand(self) -> list[Shown]:
        """Who shows what passes through modules that are not called."""
        if self._perceptrons is None:
            return []
        self._perceptrons.shown = Shown(self.body)
        return [self._perceptrons.shown]

    def learn(self, *gradients: Tensor) -> None:
        """Write the gradients of a loss by all parameters, given those by what the heads gave."""
        if self._outputs:
            found = torch.autograd.grad(self._outputs, list(self._places), gradients)
            with torch.no_grad():
                torch._foreach_copy_(list(self._places.values()), found)
            return
        assert self._perceptrons is not None
        flows = []
        for head, gradient in zip(self.heads, gradients, strict=True):
            by_bias = None if head.bias is None else self._places[head.bias]
            flows.append(head.backward(self._start, gradient, self._places[head.weight], by_bias))
        self._perceptrons.learn(reduce(torch.add, flows))

    def by_inputs(self, *gradients: Tensor) -> Tensor:
        """The gradient of a loss by the inputs, given those by what the heads gave."""
        if self._outputs:
            return torch.autograd.grad(self._outputs, self._start, gradients)[0]
        assert self._perceptrons is not None
        with torch.no_grad():
            flows = [product(gradient, head.weight) for head, gradient in zip(self.heads, gradients, strict=True)]
        return self._perceptrons.by_inputs(reduce(torch.add, flows))

    def _is_watched(self) -> bool:
        parts = (*self.body.parts, *self.heads)
        return any(part._forward_hooks or part._forward_pre_hooks for part in parts)
