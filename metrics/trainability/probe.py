"""Whether a network can still learn: copies of it fit random targets, and fresh networks the same ones beside them.

    plasticity loss = c(O(theta_T)) - c(O(theta_init))

with O the training of a copy for a fixed number of steps and c the mean squared error that remains (Klein et al.,
"Plasticity Loss in Deep Reinforcement Learning: A Survey", 2024, arXiv 2411.04832, definition 2.1); here the quotient
of the two stands for the difference. Targets are random networks (Lyle et al. 2022, `metrics.trainability.targets`).
Optimiser and learning rate are the agent's own, as in Moalla et al., "No Representation, No Trust", NeurIPS 2024, arXiv
2405.00662; unlike there, actors too are judged by squared errors of their outputs: the policy of a fresh SB3 actor is
next to uniform, whatever it is asked to learn, and the KL from it next to nothing.

Traps:

- What remains after few steps is how fast a network learns; capacity in the limit would take far more of them. Where
  `probe_fresh` is near 1, too little was learnt for the ratio to mean anything: raise `steps`.
- Targets around zero measure a critic's scale: with values about 80, errors of thousands remain after 100 steps, since
  large outputs have to be unlearnt first. By default targets are added to what each copy gives at the start, so that
  all copies start with an error of 1 (`around`).
- Networks with large weights move further in a step. `learning_rates` of .1, 1 and 10 compare each kind at its best.
- A new optimiser hides what the agent's has become. `probe_carried` is of copies that go on with its statistics.
- The error is that on the samples which were trained on, not on others. On the first batch of a task they are the new
  task's observations.
- Only a network's own layers are trained; a feature extractor that belongs to another one stands still. It is probed by
  itself, under a new linear head. Neither clipping of gradients nor penalties and interventions take part.

Of two fresh networks the logarithm of the ratio has a mean of 0 and a standard deviation of 0.04 (PPO's actors) to 0.17
(its critics; CartPole, default settings).
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from agents.layers import Network
from configs.settings import SettingError
from metrics.base import Measured, Metric, View
from metrics.trainability.copies import Copies, Weights, count, take
from metrics.trainability.fitting import fit
from metrics.trainability.targets import Kind, random_targets

FLOOR = 1e-8  # errors count as at least this in a ratio; a choice
Count = Annotated[int, Ge(1)]


@dataclass
class TrainabilityProbe(Metric):
    """Error that copies of a network keep in fitting random targets, over fresh networks' (Lyle et al. 2022)."""

    title = "Error in fitting random targets, over a fresh network's"
    family = "trainability"
    reads = "rollout"
    names = ("probe_ratio", "probe_loss", "probe_fresh", "probe_carried")
    costly = True
    at_switch = True

    targets: Count = 1
    """How many random functions are fitted; values are means over them. 1 is a choice, for half the time of 2 in wide
    networks. From draw to draw the logarithm of a trained network's ratio spreads by 0.19 (actors of PPO on CartPole
    and SAC on Pendulum) to 0.55 (their critics) with 1, by 0.15 to 0.44 with 2, around the same mean."""

    steps: Count = 100
    """Optimiser steps of each copy (a choice; Lyle et al. 2022: 50,000, which no run can afford on the way)."""

    minibatch: Count = 64
    """Samples of each step (SB3's PPO)."""

    kind: Kind = "network"
    """network: random networks (Lyle et al. 2022). sine: sin(1e5 f) of them (Lyle et al. 2023); wants more steps."""

    around: Literal["outputs", "mean", "zero"] = "outputs"
    """What the targets are added to. outputs: what the copy gives at the start, sample by sample (a choice). mean: the
    mean of that over the batch. zero: nothing (Lyle et al. 2022; Moalla et al. 2024)."""

    learning_rates: tuple[Annotated[float, Gt(0)], ...] = (1.0,)
    """Multiples of the agent's own learning rate; with several, copies of each kind count at their best one."""

    thrift: Count = 4
    """Networks with convolutions, a thousand times as costly, get one over this of everything: samples, targets, steps,
    minibatch (a choice)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.learning_rates = tuple(self.learning_rates)
        if not self.learning_rates:
            raise SettingError(self, "learning_rates", "must be at least one number")

    def applies(self, network: Network) -> bool:
        """Networks with hidden layers that an optimiser trains."""
        trained = (param.optimizer for layer in network.layers for param in layer.params())
        return bool(network.hidden) and any(trained)

    def measure(self, network: Network, view: View) -> Measured:
        """Errors after training: 1 at the start, 0 for a perfect fit; with `around: zero` 1 for predicting the mean.

        probe_loss: of copies with a new optimiser. probe_fresh: of fresh networks with one. probe_ratio: the first over
        the second, as geometric mean over targets; above 1, the network learns less than a fresh one would.
        probe_carried: of copies that carry the agent's optimiser on. NaN where training diverges.
        """
        optimizer, inputs = network.optimizer, view.inputs(network)
        thrift = self.thrift if any(layer.weight.kernel for layer in network.hidden) else 1
        samples, steps = count(inputs) // thrift if inputs else 0, math.ceil(self.steps / thrift)
        if optimizer is None or samples < 2:
            return {}
        many, size = math.ceil(self.targets / thrift), min(samples, math.ceil(self.minibatch / thrift))
        generator = view.generator(f"trainability.{network.name}")
        copies = Copies(network, take(inputs, slice(samples)))
        batches = torch.randint(samples, (steps, size), generator=generator, device=generator.device)
        with torch.no_grad():
            goals = self._goals(copies, many, generator)
            old = [copies.now(generator) for _ in range(many)]
            start = _stack([*old, *(copies.fresh(generator) for _ in range(many)), *old])
        born = [False] * many + [True] * many + [False] * many
        targets = goals.repeat(3, 1, 1) + self._base(copies, start, born)
        errors = []
        for factor in self.learning_rates:
            copies.prepare(start, born)
            errors.append(fit(copies, start, targets, batches.to(targets.device), optimizer, 2 * many, factor))
        return summary(torch.stack(errors).view(-1, 3, many))

    def _goals(self, copies: Copies, many: int, generator: torch.Generator) -> Tensor:
        """Random functions on the batch `[functions, samples, outputs]`."""
        makers = _stack([copies.fresh(generator) for _ in range(many)])
        copies.prepare(makers, [True] * many)
        return random_targets(copies.run(makers, copies.inputs), self.kind)

    @torch.no_grad()
    def _base(self, copies: Copies, start: Weights, born: list[bool]) -> Tensor | float:
        """What is added to the random functions to make the copies' targets."""
        if self.around == "zero":
            return 0.0
        copies.prepare(start, born)
        outputs = copies.run(start, copies.inputs)
        return outputs if self.around == "outputs" else outputs.mean(dim=1, keepdim=True)


def summary(errors: Tensor) -> Measured:
    """The probe's values.

    Args:
        errors: after training `[learning rates, 3, targets]`: of the network's copies with a new optimiser, of fresh
            networks, of the network's copies that carry the optimiser on.
    """
    logs = errors.clamp_min(FLOOR).log()
    best = logs.mean(dim=2).nan_to_num(nan=math.inf).argmin(dim=0)
    each = torch.arange(3, device=errors.device)
    old, fresh, carried = errors[best, each].mean(dim=1)
    of_old, of_fresh, _ = logs[best, each].mean(dim=1)
    found = {"ratio": (of_old - of_fresh).exp(), "loss": old, "fresh": fresh, "carried": carried}
    return {f"probe_{name}": float(value) if value.isfinite() else math.nan for name, value in found.items()}


def _stack(weights: list[Weights]) -> Weights:
    return {name: torch.stack([one[name] for one in weights]) for name in weights[0]}
