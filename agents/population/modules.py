"""Modules of several members as one: `[members, samples, ...]` in and out, their weights stacked rows."""

import math
from collections.abc import Callable, Sequence

import torch
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import Tensor, nn
from torch.nn import functional

from agents.injection import CHILD, leaves, unheard_copy
from agents.modules import AdaptiveLinear, CReLU, Fourier, SmoothLeakyReLU

ELEMENTWISE = (
    nn.Tanh,
    nn.ReLU,
    nn.ELU,
    nn.LeakyReLU,
    nn.SiLU,
    nn.GELU,
    nn.Sigmoid,
    nn.Softplus,
    nn.Mish,
    nn.Identity,
    nn.Hardtanh,
    SmoothLeakyReLU,
)
SMALL = 400
"""Numbers of multiplications below which PyTorch's batched product on a CPU rounds otherwise than its single one, as it
does wherever there is one output."""

StackedOf = Callable[[Tensor], nn.Parameter]
"""Gives the stacked parameter in which a parameter of the first member is the first row."""


class CannotStackError(ValueError):
    """A module of a kind that is not known stacked; the message is a part of a sentence that names it."""


class StackedLinear(nn.Module):
    """Linear layers side by side.

    Args:
        weight: `[members, outputs, inputs]`.
        bias: `[members, outputs]`, or None.
    """

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """From `[members, samples, inputs]` to `[members, samples, outputs]`."""
        if self.bias is None:
            return torch.bmm(x, self.weight.mT)
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight.mT)

    def exactly(self, x: Tensor) -> Tensor:
        """The same; on a CPU the very bits that each member's own layer would give, at some cost in small products."""
        members, outputs, inputs = self.weight.shape
        if x.device.type != "cpu" or (outputs > 1 and x.shape[1] * outputs * inputs >= SMALL):
            found: Tensor = self.forward(x)
            return found
        biases = self.bias if self.bias is not None else [None] * members
        return torch.stack([functional.linear(*part) for part in zip(x, self.weight, biases, strict=True)])

    @torch.no_grad()
    def backward(self, x: Tensor, gradient: Tensor, by_weight: Tensor, by_bias: Tensor | None) -> Tensor:
        """The gradient by the input, from that by the output; those by weight and bias go where they belong."""
        torch.bmm(gradient.mT, x, out=by_weight)
        if by_bias is not None:
            torch.sum(gradient, dim=1, out=by_bias)
        return torch.bmm(gradient, self.weight)


class StackedLayerNorm(nn.Module):
    """Layer normalisations side by side, each over the last dimension."""

    def __init__(self, plain: nn.LayerNorm, weight: nn.Parameter | None, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.shape, self.eps = plain.normalized_shape, plain.eps
        self.weight = weight
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """`[members, samples, features]` in and out."""
        normed = functional.layer_norm(x, self.shape, eps=self.eps)
        if self.weight is not None:
            normed = normed * self.weight.unsqueeze(1)
        return normed if self.bias is None else normed + self.bias.unsqueeze(1)


class StackedAdaptiveLinear(nn.Module):
    """`AdaptiveLinear` side by side."""

    def __init__(self, plain: AdaptiveLinear, alpha: nn.Parameter) -> None:
        super().__init__()
        self.base = plain.base
        self.alpha = alpha

    def forward(self, z: Tensor) -> Tensor:
        """Elementwise."""
        if self.base == "relu":
            return z.clamp_min(0) + self.alpha.unsqueeze(1) * z.clamp_max(0)
        phi = z.tanh()
        gate = phi.detach().square().mul_(math.pi / 2).sin_()
        return torch.addcmul(phi, self.alpha.unsqueeze(1) * gate, z)


class EachSample(nn.Module):
    """A module without parameters that treats each sample by itself, given the samples of all members as one batch."""

    def __init__(self, plain: nn.Module) -> None:
        super().__init__()
        self.plain = plain

    def forward(self, x: Tensor) -> Tensor:
        """From `[members, samples, ...]` to `[members, samples, ...]`."""
        found: Tensor = self.plain(x.flatten(0, 1))
        return found.view(*x.shape[:2], *found.shape[1:])


class Chain(nn.Module):
    """Modules one after another."""

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        """What the last one gives."""
        for part in self.parts:
            x = part(x)
        return x


class Stacker:
    """Makes stacked modules of the first member's, each once, so that what is shared stays shared.

    Args:
        stack: gives stacked parameters.

    Attributes:
        made: the stacked module of each leaf of the first member.
    """

    def __init__(self, stack: StackedOf) -> None:
        self.stack = stack
        self.made: dict[nn.Module, nn.Module] = {}

    def chain(self, modules: Sequence[nn.Module]) -> Chain:
        """Modules one after another, such as a network's body.

        Raises:
            CannotStackError: one of them is of a kind that is not known stacked.
        """
        for module in modules:
            check_order(module)
        return Chain([self.leaf(part) for module in modules for part in leaves(module)])

    def leaf(self, module: nn.Module) -> nn.Module:
        """A module without children."""
        if module not in self.made:
            self.made[module] = self._make(module)
        return self.made[module]

    def _make(self, module: nn.Module) -> nn.Module:
        kind = type(module)
        if hasattr(module, CHILD):
            raise CannotStackError("an injected head")
        if isinstance(module, nn.Linear) and kind is nn.Linear:
            return StackedLinear(self.stack(module.weight), None if module.bias is None else self.stack(module.bias))
        if isinstance(module, nn.LayerNorm) and len(module.normalized_shape) == 1:
            affine = [None if part is None else self.stack(part) for part in (module.weight, module.bias)]
            return StackedLayerNorm(module, *affine)
        if isinstance(module, AdaptiveLinear):
            return StackedAdaptiveLinear(module, self.stack(module.alpha))
        if kind in ELEMENTWISE:
            return unheard_copy(module)
        if kind in (CReLU, Fourier, nn.Flatten):
            return EachSample(unheard_copy(module))
        raise CannotStackError(f"a {kind.__name__}")


def check_order(module: nn.Module) -> None:
    """Refuse modules whose children do not simply follow one another."""
    if next(module.children(), None) is None or isinstance(module, (nn.Sequential, FlattenExtractor)):
        for child in module.children():
            check_order(child)
        return
    raise CannotStackError(f"a {type(module).__name__}")
