"""Continual backpropagation: at every gradient step, replace a tiny share of the least useful units.

After every step of the optimiser, for hidden layer h with the activations of the step's minibatch (mean over samples
and, for a convolution's channels, positions):

    age <- age + 1,     m_i <- decay m_i + (1 - decay) mean h_i,     u_i <- decay u_i + (1 - decay) y_i
    y_i = mean |h_i| mean_k |W_out[k, i]|                                                  (contribution)
    elig = {i: age_i > maturity},     n = rate |elig|, a fraction of which is a chance

The n eligible units of lowest u_i / (1 - decay^age) are replaced: what they gave on average goes into the biases of the
layers that read them, then their incoming weights are drawn anew, their outgoing weights become zero and they start
with age, u and m of zero.

    b_out <- b_out + sum_i W_out[:, i] m_i / (1 - decay^age_i)

Dohare, Hernandez-Garcia, Lan, Rahman, Mahmood and Sutton, "Loss of plasticity in deep continual learning", Nature 2024,
arXiv 2306.13812; first in Dohare, Sutton and Mahmood, arXiv 2108.06325. Details from the authors' code
(shibhansh/loss-of-plasticity, lop/algos/gnt.py).

- Their code's last line has no effect: m is set to zero before it is read. `bias_compensation false` is what it does.
- Their PPO runs have weight decay of 1e-4 (`--regularizer l2`) and Adam with both betas at 0.99
  (`--optimizer equal_betas`) besides: what is reported as CBP is all three together.
- Where n is above 1, which at 1e-4 takes 10 000 units, their code drops its fraction; here that is a chance too.
- A new unit's weights and bias come from its layer's own initialiser. Theirs: weights uniform after LeCun, biases zero,
  as they are at first in SB3's PPO, not in its SAC.
- Activations that are never zero: a saturated tanh unit has the highest contribution and works as a bias. With tanh,
  SB3's default for PPO, use `utility zero_contribution`. Jucas (below) reports that CBP fails with other nonlinearities
  than ReLU.
- `layers first`: A. Jucas, "Layerwise Perspective into Continual Backpropagation: Replacing the First Layer is All You
  Need", bachelor thesis, TU Delft 2025: nearly as good as all layers, and deeper layers alone worse.

Of neighbouring layers that replace units in one step, all means move first, then all rows, then all columns: a replaced
unit's outgoing weights are zero also where its reader is new, and old units get the means of both. The compensation is
exact for constant activations and keeps the mean of what linear readers get. It is approximate for a convolution's
channels, whose mean is over all positions, where a reader is spectrally normalised, and in layers with normalisation,
whose statistics a new unit changes for all of its neighbours.
Output layers keep their rows, target networks follow by themselves.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le, Lt
from torch import Tensor

from agents.interventions import Intervention, MomentName, ResetEvent, Step
from agents.layers import Layer, MomentPolicy, Network, reinitialize_units
from agents.stacking import At, Random, each_member
from agents.watching import Watched
from configs.settings import SettingError
from resets import scores
from resets.units import UnitReset, stacked

Utility = Literal[
    "contribution",
    "zero_contribution",
    "adaptable_contribution",
    "feature_by_input",
    "weight",
    "adaptation",
    "gradient",
    "attribution",
    "random",
]


@dataclass
class CBP(UnitReset):
    """Replace a tiny share of the least useful units at every gradient step (Dohare et al. 2024)."""

    touches = ("hidden", "norm", "heads")
    apart = ("steps", "birth", "mature", "recount", "owed", "patience")

    replacement_rate: Annotated[float, Ge(0), Le(1)] = 1e-4
    """Share of a layer's mature units that is replaced at each gradient step: 1e-4 for PPO (Dohare et al. 2024; one of
    64 units every 156 steps), 1e-6 for SAC (code of Calibrated Partial Resets, 2026, MinAtar and Meta-World), 1e-6 to
    1e-4 in supervised learning; 0 switches the method off."""

    maturity: Annotated[int, Ge(0)] = 10_000
    """Steps of the network's optimiser before a unit may be replaced: 10 000 for PPO (Dohare et al. 2024), 1000 to
    10 000 for SAC (code of Calibrated Partial Resets, 2026), 100 in supervised learning. SB3's PPO takes 320 steps a
    rollout of 2048 environment steps, SAC one an environment step."""

    utility: Utility = "contribution"
    """What a unit is worth. contribution: size of activation times size of outgoing weights (PPO in the paper).
    zero_contribution: of the activation's deviation from its mean. adaptable_contribution: that over the size of
    incoming weights (the paper's supervised experiments). feature_by_input: deviation over incoming weights. weight:
    outgoing weights. adaptation: 1 over incoming weights. gradient, attribution: see `resets/scores.py` (for the latter
    the reference is the mean under bias_compensation, else zero). random: a lottery."""

    layers: Literal["all", "first"] | tuple[Annotated[int, Ge(0)], ...] = "all"
    """Which hidden layers of each network: all, the first (Jucas 2025), or those of these numbers, from 0."""

    decay: Annotated[float, Ge(0), Lt(1)] = 0.99
    """Of the moving averages, per step (Dohare et al. 2024: 0.99 in all experiments)."""

    accumulate: bool = False
    """Whether fractions of a unit are added up until they make one; otherwise they are a chance, as in the paper's
    experiments."""

    bias_compensation: bool = True
    """Whether the mean of a replaced unit goes into the biases of its readers, as the paper's code means to; false is
    what it does, see above."""

    moments: MomentPolicy = "keep"
    """What happens to the optimiser's statistics of replaced units' weights. keep: as in the paper's PPO runs, where
    old momentum then moves the new weights for a while; its other optimiser, AdamGnT, starts them anew, as zero does
    with `--optimizer unit_adam`. With zero and Adam's default betas their next steps are 3 to 6 times the learning
    rate, since its step count goes on."""

    def check(self, networks: list[Network], others: Sequence[Intervention]) -> None:
        """Layers asked for by number must exist somewhere."""
        most = max(len(network.hidden) for network in networks)
        if isinstance(self.layers, (tuple, list)) and (not self.layers or max(self.layers) >= most):
            problem = f"must be numbers from 0 to {most - 1}, not {', '.join(map(str, self.layers)) or 'none'}"
            raise SettingError(self, "layers", problem)

    def uses(self, moment: MomentName) -> bool:
        """Nothing at all for a rate of zero."""
        return self.replacement_rate > 0 and super().uses(moment)

    def watches(self) -> set[Watched]:
        """Activations, and for attribution what the loss makes of them."""
        return {"activations", *scores.watched(self.utility)}

    def chosen_layers(self, network: Network) -> list[Layer]:
        """The hidden layers that the setting names."""
        if self.layers == "all":
            return network.hidden
        numbers = (0,) if self.layers == "first" else self.layers
        return [layer for number, layer in enumerate(network.hidden) if number in numbers]

    def stacks(self, number: int) -> float:
        """All steps."""
        return math.inf

    @torch.no_grad()
    def after_step(self, networks: list[Network], step: Step, generator: Random) -> Iterator[ResetEvent]:
        """Follow all units, and replace some."""
        samples: dict[Layer, Tensor] = {}
        gradients: dict[Layer, Tensor] = {}
        for network in networks:
            found = step.activations(network)
            if self.utility == "attribution":
                gradients |= step.gradients(network)
                found = {layer: h for layer, h in found.items() if layer in gradients}
            samples |= {layer: found[layer] for layer in self.chosen_layers(network) if layer in found}
        averages: dict[Layer, tuple[Tensor, Tensor, int]] = {}
        for layers, h in stacked(samples):
            utility, seen = self.follow(layers, h, gradients)
            averages.update((layer, (utility, seen, row)) for row, layer in enumerate(layers))
        for at, own in each_member(generator):
            if chosen := self.member(at).choose(averages, at, own):
                self.remind()
                self.member(at).replace({layer.member(at): units for layer, units in chosen.items()}, own)
                for network in networks:
                    for layer in network.hidden:
                        if layer in chosen:
                            count = int(chosen[layer].sum())
                            yield ResetEvent(network.name, layer.name, "units", count, f"lowest {self.utility}", at)

    def choose(
        self, averages: dict[Layer, tuple[Tensor, Tensor, int]], at: At, generator: torch.Generator
    ) -> dict[Layer, Tensor]:
        """The units to replace now.

        Args:
            averages: of utilities and of the constant 1, `[layers, ..., units]`, and which row is the layer's; of all
                members where this is one of a stack's.
            at: which of these it is.
            generator: its own.

        Returns:
            The mask `[units]` for each layer in which there are any.
        """
        chosen: dict[Layer, Tensor] = {}
        for layer, (utility, seen, row) in averages.items():
            if count := self.due(layer, self.grow_older(layer), generator):
                worth = utility[row][at] / seen[row][at]
                if self.utility == "random":
                    worth = torch.rand(layer.units, generator=generator, device=worth.device)
                mature = (self.age(layer) > self.maturity).to(worth.device)
                chosen[layer] = scores.lowest(torch.where(mature, worth, torch.inf), count)
        return chosen

    def grow_older(self, layer: Layer) -> int:
        """Count a step; gives how many units are old enough, which is counted anew only where that may have changed.

        Births stay on the CPU, so that nothing waits for a GPU before there is a unit to replace.
        """
        now = self.state[f"steps.{layer.name}"] = self.state.get(f"steps.{layer.name}", 0) + 1
        if now >= self.state.get(f"recount.{layer.name}", 0):
            self.state.setdefault(f"birth.{layer.name}", torch.zeros(layer.units, dtype=torch.long))
            age = self.age(layer)
            immature = age[age <= self.maturity]
            self.state[f"mature.{layer.name}"] = layer.units - len(immature)
            wait = self.maturity + 1 - int(immature.max()) if len(immature) else 10**12
            self.state[f"recount.{layer.name}"] = now + wait
        return int(self.state[f"mature.{layer.name}"])

    def age(self, layer: Layer) -> Tensor:
        """Steps since each unit was born, `[units]` on the CPU."""
        age: Tensor = self.state[f"steps.{layer.name}"] - self.state[f"birth.{layer.name}"]
        return age

    def follow(self, layers: list[Layer], h: Tensor, gradients: dict[Layer, Tensor]) -> tuple[Tensor, Tensor]:
        """Take one step of the moving averages; gives those of the utilities and of 1, `[layers, ..., units]`.

        Averages start from zero, and so does `seen`, that of the constant 1, which they are to be divided by.

        Args:
            layers: layers of one width.
            h: their activations, `[layers, ..., outputs of a unit, samples, units]`.
            gradients: of the loss by activation, where that is needed.
        """
        shape = (*h.shape[1:-3], h.shape[-1])
        utility = self.remembered("utility", layers, lambda layer: h.new_zeros(shape))
        deviation = self.utility in ("zero_contribution", "adaptable_contribution", "feature_by_input")
        deviation |= self.utility == "attribution" and self.bias_compensation
        seen = self.remembered("seen", layers, lambda layer: h.new_zeros(shape))
        seen.mul_(self.decay).add_(1 - self.decay)
        centred = h
        if self.bias_compensation or deviation:
            mean = self.remembered("mean", layers, lambda layer: h.new_zeros(*h.shape[1:-2], h.shape[-1]))
            mean.lerp_(h.mean(dim=-2), 1 - self.decay)
            if deviation:
                centred = h - (mean / seen.unsqueeze(-2)).unsqueeze(-2)
        if self.utility != "random":
            utility.lerp_(self.worth(layers, centred.flatten(-3, -2), gradients), 1 - self.decay)
        return utility, seen

    def worth(self, layers: list[Layer], h: Tensor, gradients: dict[Layer, Tensor]) -> Tensor:
        """The utility on one minibatch, `[layers, ..., units]`.

        Args:
            layers: whose.
            h: activations, or how far they are from their means, `[layers, ..., samples, units]`.
            gradients: of the loss by activation, where that is needed.
        """
        if self.utility == "gradient":
            return torch.stack([scores.gradient(weight_gradient(layer)) for layer in layers])
        if self.utility == "attribution":
            return scores.attribution(h, torch.stack([gradients[layer] for layer in layers]))
        worth = h.new_ones(()) if self.utility in ("weight", "adaptation") else scores.activation(h)
        if self.utility in ("contribution", "zero_contribution", "adaptable_contribution", "weight"):
            worth = worth * scores.outgoing(layers)
        if self.utility in ("adaptable_contribution", "feature_by_input", "adaptation"):
            worth = worth / torch.stack([scores.gradient(layer.weight.matrix) for layer in layers])
        return worth

    def due(self, layer: Layer, eligible: int, generator: torch.Generator) -> int:
        """How many of the eligible units to replace now."""
        amount = self.replacement_rate * eligible
        count, chance = int(amount), amount - int(amount)
        if not chance:
            return count
        if self.accumulate:
            owed = self.state.get(f"owed.{layer.name}", 0.0) + chance
            self.state[f"owed.{layer.name}"] = owed - int(owed)
            return count + int(owed)
        # An event with this chance at every step, for which a number is drawn only when it happens: when the sum of
        # -log(1 - chance) has reached one that is exponentially distributed.
        key = f"patience.{layer.name}"
        if key not in self.state:
            self.state[key] = -math.log1p(-uniform(generator))
        self.state[key] += math.log1p(-chance)
        if self.state[key] > 0:
            return count
        del self.state[key]
        return count + 1

    @torch.no_grad()
    def replace(self, chosen: dict[Layer, Tensor], generator: torch.Generator) -> None:
        """Start the masked units anew, and let their readers' biases take their place."""
        if self.bias_compensation:
            for layer, units in chosen.items():
                self.compensate(layer, units)
        reinitialize_units(chosen, generator, self.moments)
        for layer, units in chosen.items():
            self.state[f"birth.{layer.name}"][units.cpu()] = self.state[f"steps.{layer.name}"]
            self.state[f"recount.{layer.name}"] = 0
            for name in ("utility", "mean", "seen"):
                if (memory := self.state.get(f"{name}.{layer.name}")) is not None:
                    memory.masked_fill_(units, 0)

    def compensate(self, layer: Layer, units: Tensor) -> None:
        """Add what the masked units give on average to the biases of all layers that read them."""
        mean = self.state[f"mean.{layer.name}"] / self.state[f"seen.{layer.name}"]
        given = torch.where(units, mean, 0.0)  # [outputs of a unit, units]
        for consumer in layer.consumers:
            if consumer.layer.bias is not None:
                columns = consumer.by_unit(consumer.layer.weight.matrix)
                outputs = columns.reshape(*columns.shape[:-1], layer.expansion, -1).sum(dim=-1)
                shift = (outputs * given.mT).sum(dim=(-2, -1))
                consumer.layer.bias.tensor.add_(shift)


def weight_gradient(layer: Layer) -> Tensor:
    """The gradient of a layer's incoming weights, `[..., units, fan_in]`."""
    grad = layer.weight.tensor.grad
    return torch.zeros_like(layer.weight.matrix) if grad is None else layer.weight.as_matrix(grad)


def uniform(generator: torch.Generator) -> float:
    """A number from 0 to below 1."""
    return float(torch.rand((), generator=generator, device=generator.device))
