"""Bodies of linear layers and simple nonlinearities, several of a member's at once, with a backward pass of their own.

Those of S members, or of S members with two critics each, are S or 2 S perceptrons, whose layers are one batched
product each. Small networks spend their time in what surrounds each operation: here that is one product and one
nonlinearity a layer forward, three operations and one sum backward, no graph, and gradients written where the optimiser
reads them.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from agents.population.by_hand import Shown
from agents.population.rows import Rows

Activation = Callable[[Tensor], Tensor]


class Nonlinearity(NamedTuple):
    """A nonlinearity in place, and the gradient by its input from that by its output and the output itself."""

    forward: Activation
    backward: Callable[[Tensor, Tensor], Tensor]


def _relu_backward(gradient: Tensor, output: Tensor) -> Tensor:
    found: Tensor = torch.ops.aten.threshold_backward(gradient, output, 0)
    return found


def _tanh_backward(gradient: Tensor, output: Tensor) -> Tensor:
    found: Tensor = torch.ops.aten.tanh_backward(gradient, output)
    return found


NONLINEARITIES: dict[type[nn.Module], Nonlinearity] = {
    nn.ReLU: Nonlinearity(torch.relu_, _relu_backward),
    nn.Tanh: Nonlinearity(torch.tanh_, _tanh_backward),
}

NARROW = 32
"""Columns of a second factor below which PyTorch's batched product on a CPU takes up to five times as long as that of
the transposed factors."""

Shape = tuple[tuple[int, int, type[nn.Module]], ...]
"""For each layer its inputs, its units, and the kind of its nonlinearity."""


def hidden_layers(body: nn.Module) -> Shape | None:
    """The layers of a body; None where it is of another make, and for one without layers."""
    parts = list(body) if isinstance(body, nn.Sequential) else []
    found = []
    for linear, nonlinearity in zip(parts[::2], parts[1::2], strict=False):
        if type(linear) is not nn.Linear or linear.bias is None or type(nonlinearity) not in NONLINEARITIES:
            return None
        found.append((linear.in_features, linear.out_features, type(nonlinearity)))
    return tuple(found) if found and len(parts) % 2 == 0 else None


def product(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """The batched product of matrices, by whatever is fastest on a CPU."""
    if a.shape[2] == 1:
        return torch.mul(a, b, out=out)
    if b.shape[2] >= NARROW:
        return torch.bmm(a, b, out=out)
    found = torch.bmm(b.mT, a.mT).mT
    return found if out is None else out.copy_(found)


class Perceptrons:
    """The bodies of all members.

    Args:
        rows: the parameters.
        gradient: where the gradients go, laid out as the rows are.
        shape: of each body.
        numbers: where in a block of the rows its weights and biases are, in turns.

    Attributes:
        shown: who shows interventions what passes through, if anybody does.
    """

    def __init__(self, rows: Rows, gradient: Tensor, shape: Shape, numbers: Sequence[int]) -> None:
        params = [rows.joint(rows.flat, number) for number in numbers]
        self.weights, self.biases = params[::2], [bias.unsqueeze(1) for bias in params[1::2]]
        self.transposed = [weight.mT for weight in self.weights]
        places = [rows.joint(gradient, number) for number in numbers]
        self.weight_places, self.bias_places = places[::2], places[1::2]
        self.nonlinearities = [NONLINEARITIES[kind] for _, _, kind in shape]
        self.outputs: list[Tensor] = []
        self.shown: Shown | None = None

    @torch.no_grad()
    def run(self, flow: Tensor, keep: bool = False) -> Tensor:
        """From `[members * blocks, samples, inputs]` to `[members * blocks, samples, units]`.

        Args:
            flow: the inputs.
            keep: whether `learn` or `by_inputs` follows.
        """
        outputs, before = [flow], list[Tensor]()
        for weight, bias, nonlinearity in zip(self.transposed, self.biases, self.nonlinearities, strict=True):
            flow = torch.baddbmm(bias, flow, weight)
            if keep and self.shown and self.shown.before:
                before.append(flow)
                flow = flow.clone()
            flow = nonlinearity.forward(flow)
            outputs.append(flow)
        if keep:
            self.outputs = outputs
            if self.shown:
                self.shown.run(outputs[0], before, outputs[1:])
        return flow

    @torch.no_grad()
    def learn(self, flow: Tensor) -> None:
        """Write the gradients of all weights and biases, given the gradient of the loss by what `run` gave."""
        for number in reversed(range(len(self.weights))):
            if self.shown:
                self.shown.by_outputs(number, flow)
            flow = self.nonlinearities[number].backward(flow, self.outputs[number + 1])
            if self.shown:
                self.shown.by_inputs(number, flow)
            product(flow.mT, self.outputs[number], out=self.weight_places[number])
            torch.sum(flow, dim=1, out=self.bias_places[number])
            if number:
                flow = torch.bmm(flow, self.weights[number])

    @torch.no_grad()
    def by_inputs(self, flow: Tensor) -> Tensor:
        """The gradient of the loss by the inputs, given that by what `run` gave."""
        for number in reversed(range(len(self.weights))):
            flow = self.nonlinearities[number].backward(flow, self.outputs[number + 1])
            flow = product(flow, self.weights[number])
        return flow
