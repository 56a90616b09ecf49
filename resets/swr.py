"""Selective weight reinitialisation: start the least useful single weights anew, rather than whole units.

After every F-th step of an optimiser, in each parameter tensor by itself, the utility of every weight is

    u = |w * g|  (gradient)    or    u = |w|  (magnitude)    or random,

with g the gradient of the step just taken and w the weight after it; optionally u is a moving average over all steps,
u <- decay * u + (1 - decay) * |w * g|, which starts from zero again where a tensor has been reset. Then either

    proportional:  the k = floor(n * factor) + Bernoulli(n * factor - floor(n * factor)) weights of least utility, or
    threshold:     all weights with u <= factor * mean(u)

are drawn again from the initialiser (resample) or set to its mean (mean: 0 for weights and biases, 1 for the scale of a
normalisation).

Hernandez-Garcia, Dohare, Luo and Sutton, "Reinitializing weights vs units for maintaining plasticity in neural
networks", CoLLAs 2025 (PMLR 330), arXiv 2508.00212; order of operations and constants from the authors' code
(JFernando4/collas_2025_swr_paper). They found it better than resetting units in small networks and in networks with
layer normalisation, otherwise equal. Their experiments are supervised: nothing is published for RL. Their code resets
all parameters, biases, normalisations and output layers too; a policy's log_std and SAC's temperature have no
counterpart there and are never touched. Their initialiser for permuted MNIST is a normal distribution for all layers,
for the transformer each layer's own; here it is each layer's own.

One minibatch decides unless there is an average: with ReLUs, units that happen to be silent in it have no gradient and
lose all their weights under the threshold rule, though they may speak in the next. In PPO a reset falls between the
minibatches of one update, so that the ratio to the policy of the rollout moves too. Target networks follow by
themselves.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor

from agents.interventions import MomentName, ResetEvent, Step
from agents.layers import Layer, MomentPolicy, Network, Param
from agents.stacking import Random, draw, each_member
from configs.settings import SettingError
from resets.base import Reset


@dataclass
class SWR(Reset):
    """Reinitialise the single weights of least utility (Hernandez-Garcia et al. 2025)."""

    touches = ("hidden", "norm", "heads")

    every: Annotated[int, Gt(0)] = 600
    """Period, in steps of the network's own optimiser. 600 with factor 1e-4 under AdamW in the authors' permuted MNIST;
    2048 with 1e-5 under SGD there, 128 with 5e-4 for their vision transformer. Nothing is published for PPO or SAC."""

    factor: Annotated[float, Ge(0), Le(1)] = 1e-4
    """threshold: how far below the mean utility of its tensor a weight must be. proportional: the share of each tensor
    that is reset (0.4 every 2400 steps in permuted MNIST). 0 switches the method off, as in the authors' code."""

    rule: Literal["threshold", "proportional"] = "threshold"
    """Which weights: those with a utility of at most `factor` times the mean of their tensor, however many these are
    (under the gradient utility all those of a dead unit at once, and a whole tensor that had no gradient); or a fixed
    share, those of least utility."""

    utility: Literal["gradient", "magnitude", "random"] = "gradient"
    """What a weight is worth: |w g|, the authors' choice; |w|; or nothing, a lottery."""

    reinit: Literal["resample", "mean"] = "resample"
    """What a reset weight becomes: a new draw from its initialiser, or the initialiser's mean. The authors use resample
    with the gradient utility and mean with the magnitude (factor 1e-3)."""

    decay: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Decay of the moving average of the utility; 0, as in the paper, uses the last step's alone. Above 0 the utility
    is computed at every step, which costs some time, and units must be silent for many steps to lose their weights."""

    biases: bool = True
    """Whether biases, and slopes of nonlinearities, are reset too; biases are in the authors' code."""

    norms: bool = True
    """Whether scales and offsets of normalisations are reset too, as in the authors' code."""

    heads: bool = True
    """Whether output layers are reset too, as in the authors' code; a policy's outputs then jump a little."""

    moments: MomentPolicy = "keep"
    """What happens to the optimiser's statistics of reset weights. keep: as in the authors' code (their setting for it
    has no effect), though under Adam the old first moment then pushes the new weight for about ten steps. zero: with
    Adam's default betas the next steps are 3 to 6 times the learning rate, since its step count goes on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.utility == "random" and self.decay:
            raise SettingError(self, "decay", f"must be 0 while utility is random, not {self.decay:g}")

    def acts_on(self, network: Network) -> bool:
        """Networks in which the settings leave parameters to reset."""
        return super().acts_on(network) and any(True for _ in self.tensors(network))

    def uses(self, moment: MomentName) -> bool:
        """Nothing at all for a factor of zero."""
        return self.factor > 0 and super().uses(moment)

    def idle(self, number: int) -> float:
        """All steps between two resets, unless utilities are averaged."""
        return 0 if self.decay else -(number + 1) % self.every

    def stacks(self, number: int) -> float:
        """All steps."""
        return math.inf

    def after_step(self, networks: list[Network], step: Step, generator: Random) -> Iterable[ResetEvent]:
        """Average the utility where that is asked for, and reset weights at every F-th step."""
        due = (step.number + 1) % self.every == 0
        return self.reset(networks, due, generator) if due or self.decay else ()

    @torch.no_grad()
    def reset(self, networks: list[Network], due: bool, generator: Random) -> Iterator[ResetEvent]:
        """Look at the utilities and, where it is time, reset the weights that have least."""
        found = [(network, layer, param) for network in networks for layer, param in self.tensors(network)]
        if self.utility == "gradient":  # what has none was not in the loss of this step
            found = [entry for entry in found if entry[2].tensor.grad is not None]
        utilities = self.utilities([param for _, _, param in found], generator)
        if not due:
            return
        counts: dict[tuple[str, str], Tensor] = {}
        for (network, layer, param), utility in zip(found, utilities, strict=True):
            matrix = param.as_matrix(utility)
            flat = matrix.flatten(-2) if layer and param is layer.weight else matrix
            where = self.least_useful(flat, generator)
            # Weights and biases are born around zero, everything else as a constant, which is its own mean.
            around_zero = layer is not None and param in (layer.weight, layer.bias)
            fresh = 0.0 if self.reinit == "mean" and around_zero else param.fresh(generator)
            param.overwrite(fresh, where.view(matrix.shape), self.moments)
            if self.decay:
                # As in the authors' code, a tensor in which nothing was reset keeps its average.
                flat.mul_(~where.any(dim=-1, keepdim=True))
            key, count = (network.name, layer.name if layer else "inputs"), where.sum(dim=-1)
            counts[key] = counts[key] + count if key in counts else count
        for at, _ in each_member(generator):
            for (name, part), total in counts.items():
                if number := int(total[at]):
                    yield ResetEvent(name, part, "weights", number, f"every {self.every} gradient steps", at)

    def tensors(self, network: Network) -> Iterator[tuple[Layer | None, Param]]:
        """The parameters that may be reset, each with its layer; None for a normalisation of the inputs."""
        if self.norms:
            yield from ((None, param) for param in network.inputs)
        for layer in network.layers:
            if layer.is_head and not self.heads:
                continue
            yield layer, layer.weight
            if self.biases:
                yield from ((layer, param) for param in [layer.bias, *layer.slopes] if param)
            if self.norms:
                yield from ((layer, param) for param in layer.norm)

    def utilities(self, params: list[Param], generator: Random) -> list[Tensor]:
        """The utility of every weight, in each tensor's own shape; under `decay` the averages, one step further."""
        if not params:
            return []
        tensors = [param.tensor for param in params]
        if self.utility == "random":
            now = [draw(partial(_uniform, param), generator) for param in params]
        elif self.utility == "magnitude":
            now = list(torch._foreach_abs(tensors))
        else:
            gradients = [tensor.grad for tensor in tensors if tensor.grad is not None]
            now = list(torch._foreach_mul(tensors, gradients))
            torch._foreach_abs_(now)
        if not self.decay:
            return now
        for param, value in zip(params, now, strict=True):
            if f"utility.{param.name}" not in self.state:
                self.state[f"utility.{param.name}"] = torch.zeros_like(value)
        averages = [self.state[f"utility.{param.name}"] for param in params]
        torch._foreach_lerp_(averages, now, 1 - self.decay)
        return averages

    def least_useful(self, utility: Tensor, generator: Random) -> Tensor:
        """The mask `[..., n]` of the weights to reset."""
        if self.rule == "threshold":
            return utility <= self.factor * utility.mean(dim=-1, keepdim=True)
        whole = math.floor(utility.shape[-1] * self.factor)
        chance = utility.shape[-1] * self.factor - whole
        extra = draw(lambda own: torch.rand(1, generator=own, device=utility.device), generator) < chance
        chosen = torch.arange(utility.shape[-1], device=utility.device) < whole + extra.long()
        order = utility.argsort(dim=-1, stable=True)
        return torch.zeros_like(utility, dtype=torch.bool).scatter(-1, order, chosen)


def _uniform(param: Param, generator: torch.Generator) -> Tensor:
    return torch.rand(param.shape, generator=generator, device=param.tensor.device)
