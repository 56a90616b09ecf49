"""Shrink and perturb: pull all weights towards zero and add a little of a fresh initialisation.

    theta <- shrink * theta + perturb * theta_fresh

with theta_fresh a new draw from each parameter's own initialiser, so that the noise has the scale of the layer. Hard at
a switch or periodically, or soft after every gradient step.

Ash and Adams, "On Warm-Starting Neural Network Training", NeurIPS 2020, arXiv 1910.08475, section 4. In RL: Juliani and
Ash, "A Study of Plasticity Loss in On-Policy Deep Reinforcement Learning", NeurIPS 2024 (hard with 0.5 and 0.5 at a
shift; soft with 1 - 1e-6 and 1e-6 at every step). The weight perturbation of Dohare et al., "Loss of Plasticity in Deep
Continual Learning", Nature 2024, arXiv 2306.13812, is soft with normal noise of one standard deviation for all weights
and biases; its shrinking is weight decay in the loss (`--regularizer l2`), so that here shrink is 1.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor

from agents.interventions import Moment, MomentName, ResetEvent, Step
from agents.layers import Network, Param
from agents.stacking import Random, each_member
from configs.settings import SettingError
from resets.base import TimedReset, normal_like


@dataclass
class ShrinkPerturb(TimedReset):
    """Shrink all weights and add a fresh initialisation (Ash and Adams 2020)."""

    touches = ("hidden", "norm", "heads", "targets")
    apart = ("deviation",)
    needs = "layers"

    when: Literal["periodic", "switch", "gradient_step"] = "switch"  # type: ignore[assignment]
    """switch: when the task changes (hard). periodic: every `every` `unit`s (hard). gradient_step: after every step of
    the optimiser (soft)."""

    shrink: Annotated[float, Ge(0), Le(1)] = 0.5
    """Factor on the weights: 0.5 for the hard form, 0.999999 for the soft one (Juliani and Ash 2024)."""

    perturb: Annotated[float, Ge(0)] = 0.5
    """Factor on the fresh weights that are added: 0.5 for the hard form, 1e-6 for the soft one (same source)."""

    noise: Literal["fresh", "matched", "normal"] = "fresh"
    """What is added. fresh: a new draw of each layer's initialiser (Ash and Adams 2020). matched: normal noise with the
    standard deviation that the initialiser has for each weight matrix and bias, the cheap form for every gradient step,
    where an orthogonal draw costs more than the step itself. normal: standard normal noise, so that perturb is the
    standard deviation (Dohare et al. 2024: 1e-4 to 1e-6)."""

    moments: Literal["keep", "zero"] = "keep"
    """What happens to the optimiser's statistics: kept, as in the papers, or dropped together with the step count."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.when == "gradient_step":
            if self.shrink < 0.9:
                raise SettingError(self, "shrink", f"must be at least 0.9 at every gradient step, not {self.shrink:g}")
            if self.moments == "zero":
                raise SettingError(self, "moments", "must be keep at every gradient step, not zero")

    def stacks(self, number: int) -> float:
        """All steps."""
        return math.inf

    def uses(self, moment: MomentName) -> bool:
        """After a step or between rollouts, as the settings say."""
        own = "after_step" if self.when == "gradient_step" else "between_rollouts"
        return moment == own

    def between_rollouts(
        self, networks: list[Network], moment: Moment, generator: torch.Generator
    ) -> Iterator[ResetEvent]:
        """The hard forms; a target network becomes a copy of the network it follows."""
        for network in self.due_networks(networks, moment):
            self.mix(network, generator)
            for param in network.params():
                param.sync_target()
            yield ResetEvent(network.name, "all", "networks", 1, self.why())

    def after_step(self, networks: list[Network], step: Step, generator: Random) -> Iterator[ResetEvent]:
        """The soft form; target networks follow by themselves. Leaves no event: it would be one at every step."""
        for network in networks:
            self.mix(network, generator)
        return iter(())

    @torch.no_grad()
    def mix(self, network: Network, generator: Random) -> None:
        """Apply the update to the weights and biases of all layers; a policy's log_std and SAC's temperature stay."""
        params = [param for layer in network.layers for param in layer.params()]
        if not params:
            return
        torch._foreach_mul_([param.tensor for param in params], self.shrink)
        for at, own in each_member(generator) if self.perturb > 0 else ():
            parts = [param.member(at) for param in params]
            fresh = self.member(at).draw(parts, own)
            torch._foreach_add_([part.tensor for part in parts], fresh, alpha=self.perturb)
        if self.moments == "zero":
            for param in params:
                param.forget()

    def draw(self, params: list[Param], generator: torch.Generator) -> list[Tensor]:
        """What is added, before the factor `perturb`, for each parameter."""
        if self.noise == "fresh":
            return [param.fresh(generator) for param in params]
        scales = [1.0 if self.noise == "normal" else self.deviation(param, generator) for param in params]
        noise = normal_like([param.tensor for param in params], generator)
        torch._foreach_mul_(noise, scales)
        return [part if scales[i] else params[i].fresh(generator) for i, part in enumerate(noise)]

    def deviation(self, param: Param, generator: torch.Generator) -> float:
        """Standard deviation around zero of a parameter's initialiser, measured once; 0 where it is no draw at all."""
        key = f"deviation.{param.name}"
        if key not in self.state:
            drawn = param.fresh(generator)
            constant = bool((drawn == drawn.flatten()[0]).all())
            self.state[key] = 0.0 if constant else float(drawn.square().mean().sqrt())
        return float(self.state[key])
