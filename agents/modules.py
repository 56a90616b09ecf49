"""What hidden layers can be made of beside SB3's own: nonlinearities, normalisations, spectrally normalised layers.

Nonlinearities that make two outputs of a unit put them next to each other (outputs 2i and 2i + 1 are those of unit i,
for channels as for features) and say so with `expansion = 2`.
"""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

TRACE = 1e-12
"""What stays of an old vector under a matrix of zeros; nothing beside any other."""


class SmoothLeakyReLU(nn.Module):
    """Leaky ReLU without the kink: f(z) = z (a + (1 - a) sigmoid(c z / p)).

    Lillo and Cheney, "Activation Function Design Sustains Plasticity in Continual Learning", 2025, arXiv 2509.22562,
    equation 1. a = 0.1, p = 3 and c = 5 are the values that a public reading of the paper reports from it.

    Args:
        leak: a, the slope far below zero.
        steepness: c / p, how fast the slope changes around zero.
    """

    def __init__(self, leak: float = 0.1, steepness: float = 5 / 3) -> None:
        super().__init__()
        self.leak = leak
        self.steepness = steepness

    def forward(self, z: Tensor) -> Tensor:
        """Elementwise; z sigmoid(kz) is silu(kz) / k."""
        swish = functional.silu(self.steepness * z)
        return torch.add(self.leak * z, swish, alpha=(1 - self.leak) / self.steepness)


class CReLU(nn.Module):
    """Both signs of a unit: relu(z) and relu(-z).

    Shang et al., ICML 2016, arXiv 1603.05201; against plasticity loss: Abbas, Zhao, Modayil, White and Machado, "Loss
    of Plasticity in Continual Deep Reinforcement Learning", CoLLAs 2023, arXiv 2303.07507.
    """

    expansion = 2

    def forward(self, z: Tensor) -> Tensor:
        """From `[samples, units, ...]` to `[samples, 2 units, ...]`."""
        return torch.stack((z.relu(), (-z).relu()), dim=2).flatten(1, 2)


class Fourier(nn.Module):
    """Sine and cosine of a unit, of which one is always near linear.

    Lewandowski, Schuurmans and Machado, "Plastic Learning with Deep Fourier Features", ICLR 2025, arXiv 2410.20634.
    """

    expansion = 2

    def forward(self, z: Tensor) -> Tensor:
        """From `[samples, units, ...]` to `[samples, 2 units, ...]`."""
        return torch.stack((z.sin(), z.cos()), dim=2).flatten(1, 2)


class AdaptiveLinear(nn.Module):
    """AdaLin: each unit learns how much of its input to let through where its nonlinearity is flat.

        f(z) = phi(z) + alpha_i z g(z),    g(z) = cos(pi/2 |phi'(z)| / L)

    with phi the agent's own nonlinearity, L its Lipschitz constant (1 for ReLU and tanh) and no gradient through g.
    With ReLU this is PReLU with a slope for each unit.

    Rohani, Khajavi, Chung, Chen and Vaswani, "Preserving Plasticity in Continual Learning with Adaptive Linearity
    Injection", CoLLAs 2025, arXiv 2505.09486. Where alpha starts could not be established; 0, the plain nonlinearity,
    is a choice.

    Args:
        base: phi.
        units: how many; channels of a convolution.
    """

    def __init__(self, base: Literal["relu", "tanh"], units: int) -> None:
        super().__init__()
        self.base = base
        self.alpha = nn.Parameter(torch.zeros(units))

    def forward(self, z: Tensor) -> Tensor:
        """Elementwise, with the units in dimension 1."""
        if self.base == "relu":
            return functional.prelu(z, self.alpha)
        phi = z.tanh()
        gate = phi.detach().square().mul_(math.pi / 2).sin_()  # cos(pi/2 (1 - phi^2))
        return torch.addcmul(phi, self.alpha.view(-1, *(1,) * (z.dim() - 2)) * gate, z)


def layer_norm(layer: nn.Module, outputs: int) -> nn.Module:
    """Layer normalisation (Ba et al. 2016, arXiv 1607.06450) of the outputs of a linear layer or a convolution.

    A convolution's channels and positions are normalised together, each image by itself, with one scale and offset a
    channel, so that they belong to units: `GroupNorm` with one group.
    """
    return nn.GroupNorm(1, outputs) if isinstance(layer, nn.Conv2d) else nn.LayerNorm(outputs)


class SpectralNorm(nn.Module):
    """A layer whose weight matrix W is divided by its largest singular value wherever it is used.

        v = W'u / |W'u|,   u <- Wv / |Wv|,   sigma = u'Wv,   output = (W / sigma) x + b

    Each forward pass takes one step of power iteration from the stored u; u and v are constants to the gradient. Only
    passes that are learnt from, in training mode and with gradients, store the new u: a rollout, an evaluation or a
    target network is a function of weights and u alone, and the first minibatch after a rollout sees the policy that
    acted. `weight` stays the raw parameter, which interventions change in place. A kernel counts as the matrix
    `[channels out, channels in * height * width]`.

    Miyato, Kataoka, Koyama and Yoshida, ICLR 2018, arXiv 1802.05957, section 2.1.

    The name of the buffer is meant: SB3 copies buffers named `running_…` into target networks at every update of them,
    so that a target is a function of its own averaged weights and of the trained network's newest u.
    """

    running_u: Tensor
    weight: Any

    def start(self) -> None:
        """Find u for the weights as they are: 15 iterations, as many as torch's own starts with, from a fixed vector.

        The vector is drawn from a generator of its own, so that the agent's weights are those it would have without.
        """
        matrix: Tensor = self.weight.detach().flatten(1)
        u = torch.randn(len(matrix), generator=torch.Generator().manual_seed(0)).to(matrix)
        for _ in range(15):
            u, _, _ = power_step(matrix, u)
        self.register_buffer("running_u", u)

    def normalized(self) -> Tensor:
        """W / sigma."""
        matrix: Tensor = self.weight.flatten(1)
        with torch.no_grad():
            u, v, sigma = power_step(matrix, self.running_u)
        if self.training and torch.is_grad_enabled():
            self.running_u.copy_(u)
        # PyTorch has no types for `apply`.
        normed: Tensor = _Normalize.apply(matrix, u, v, sigma)  # type: ignore[no-untyped-call]  # which PyTorch has no types for
        return normed.view_as(self.weight)


class SpectralLinear(SpectralNorm, nn.Linear):
    """A linear layer with a spectrally normalised weight."""

    def forward(self, x: Tensor) -> Tensor:
        """Affine."""
        return functional.linear(x, self.normalized(), self.bias)


class SpectralConv2d(SpectralNorm, nn.Conv2d):
    """A convolution with a spectrally normalised kernel."""

    def forward(self, x: Tensor) -> Tensor:
        """Affine at every position."""
        output: Tensor = self._conv_forward(x, self.normalized(), self.bias)
        return output


def power_step(matrix: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One step of power iteration: the next left vector, the right one between, and the singular value.

    For a matrix of zeros u stays and the value is 1: units whose outgoing weights were all reset are heard again as
    soon as their gradient moves them.
    """
    right = torch.mv(matrix.mT, u)
    left = torch.addmv(u, matrix, right, beta=TRACE)
    short, long = torch.linalg.vector_norm(right), torch.linalg.vector_norm(left)
    sigma = torch.where(short > 0, long / short, 1.0)
    return left / long, right / short.clamp_min(TRACE), sigma


class _Normalize(torch.autograd.Function):
    """W / sigma with sigma = u'Wv, u and v constant; its gradient is (G - <G, W> / sigma uv') / sigma."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, u: Tensor, v: Tensor, sigma: Tensor) -> Tensor:
        ctx.save_for_backward(matrix, u, v, sigma)
        return matrix / sigma

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = gradients
        matrix, u, v, sigma = ctx.saved_tensors
        if torch.is_grad_enabled():  # for a second derivative, sigma has to be a function of the matrix
            sigma = torch.dot(u, torch.mv(matrix, v))
            sigma = torch.where(sigma > 0, sigma, 1.0)
        share = torch.dot(gradient.flatten(), matrix.flatten()) / sigma
        return torch.addr(gradient, u, v * -share).div_(sigma), None, None, None


def spectral_norm_(layer: nn.Linear | nn.Conv2d) -> None:
    """Make a layer a spectrally normalised one, in place: it stays the same object with the same parameters.

    So optimisers, lists of networks and attributes that hold it need no change.
    """
    layer.__class__ = SpectralConv2d if isinstance(layer, nn.Conv2d) else SpectralLinear
    assert isinstance(layer, SpectralNorm)
    layer.start()
