"""Soft resets: let all weights drift a little towards the distribution they were born from.

Between two tasks the best weights move; a model of that is one step of an Ornstein-Uhlenbeck process whose stationary
distribution is the initialisation,

    p(theta' | theta) = N(gamma theta + (1 - gamma) mu0, (1 - gamma^2) sigma0^2)

    theta <- gamma theta + (1 - gamma) mu0 + noise sqrt(1 - gamma^2) sigma0 eps,        eps ~ N(0, 1)

gamma = 1 keeps the weights, gamma = 0 starts them anew. With `noise` 0 the weights go to the mean of the drift, which
is where the paper's update starts from; with 1 they are a sample of it.

Galashov, Titsias, György, Lyle, Pascanu, Teh and Sahani, "Non-Stationary Learning of Neural Networks with Automatic
Soft Parameter Reset", NeurIPS 2024, arXiv 2411.04034.

**A reconstruction with a fixed gamma**, from the paper's drift model. The paper finds gammas for layers or weights
before each update, by gradient steps on how well the drifted weights predict the next batch, and makes the learning
rate of that update larger the further the weights drift. Neither is here: the constants of that search, and what it
predicts in RL, could not be established. A fixed gamma at known switches is among the paper's own comparisons.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor

from agents.interventions import Moment, MomentName, ResetEvent, Step
from agents.layers import MomentPolicy, Network, Param
from agents.stacking import Random, each_member
from configs.settings import SettingError
from resets.base import TimedReset, normal_like


@dataclass
class SoftReset(TimedReset):
    """Let weights drift towards their initialisation, at a fixed rate (after Galashov et al. 2024)."""

    touches = ("hidden", "norm", "heads", "targets")
    apart = ("sigma",)
    needs = "layers"

    when: Literal["gradient_step", "periodic", "switch"] = "gradient_step"  # type: ignore[assignment]
    """gradient_step: after every step of the optimiser. periodic: every `every` `unit`s. switch: when the task
    changes."""

    gamma: Annotated[float, Ge(0), Le(1)] = 0.9999
    """What stays of the weights in one drift; 1 changes nothing. A choice, for every gradient step: half of a weight's
    distance from its start is gone after 7000 steps that do not use it. At switches rather 0.5."""

    noise: Annotated[float, Ge(0), Le(1)] = 0.0
    """Share of the drift's standard deviation that is drawn: 0 the mean, as at the start of the paper's update; 1 a
    sample, under which weights that are not used end up as spread as a fresh network's."""

    towards: Literal["initial", "mean"] = "initial"
    """mu0. initial: the weights at the start of the run. mean: the mean of the layers' initialisers, 0 for weights."""

    moments: MomentPolicy = "keep"
    """What happens to the optimiser's statistics; at every gradient step they are kept."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.when == "gradient_step":
            if self.gamma < 0.9:
                raise SettingError(self, "gamma", f"must be at least 0.9 at every gradient step, not {self.gamma:g}")
            if self.moments != "keep":
                raise SettingError(self, "moments", f"must be keep at every gradient step, not {self.moments}")

    def uses(self, moment: MomentName) -> bool:
        """Nothing after a step unless the settings say so."""
        return super().uses(moment) and (moment != "after_step" or (self.when == "gradient_step" and self.gamma < 1))

    def stacks(self, number: int) -> float:
        """All steps."""
        return math.inf

    def between_rollouts(
        self, networks: list[Network], moment: Moment, generator: torch.Generator
    ) -> Iterator[ResetEvent]:
        """The periodic forms; a target network becomes a copy of the network it follows."""
        for network in networks:
            self.find_priors(network, generator)  # the weights at the start of the run, before the first step
        if self.when == "gradient_step" or self.gamma == 1:
            return
        for network in self.due_networks(networks, moment):
            self.drift([network], generator)
            for param in _params(network):
                param.reset_moments(moments=self.moments)
                param.sync_target()
            yield ResetEvent(network.name, "all", "networks", 1, self.why())

    def after_step(self, networks: list[Network], step: Step, generator: Random) -> Iterator[ResetEvent]:
        """The form of every gradient step; target networks follow by themselves. Leaves no event."""
        self.drift(networks, generator)
        return iter(())

    @torch.no_grad()
    def drift(self, networks: list[Network], generator: Random) -> None:
        """One step of the process, for all weights and biases at once."""
        params = [param for network in networks for param in _params(network)]
        weights = [param.tensor for param in params]
        torch._foreach_lerp_(weights, [self.state[f"mu.{param.name}"] for param in params], 1 - self.gamma)
        if self.noise > 0:
            scale = self.noise * math.sqrt(1 - self.gamma**2)
            for at, own in each_member(generator):
                weights, state = [param.member(at).tensor for param in params], self.member(at).state
                eps = normal_like(weights, own)
                torch._foreach_mul_(eps, [scale * state[f"sigma.{param.name}"] for param in params])
                torch._foreach_add_(weights, eps)

    def find_priors(self, network: Network, generator: torch.Generator) -> None:
        """Work out mu0 and sigma0 of every parameter."""
        for param in _params(network):
            if (key := f"mu.{param.name}") not in self.state:
                constant, sigma = _birth(param, generator)
                mean = param.tensor.detach().clone() if self.towards == "initial" else constant
                self.state[key], self.state[f"sigma.{param.name}"] = mean, sigma


def _params(network: Network) -> list[Param]:
    return [param for layer in network.layers for param in layer.params()]


def _birth(param: Param, generator: torch.Generator) -> tuple[Tensor, float]:
    """Mean and standard deviation of a parameter's initialiser.

    An initialiser is a constant (of a bias, of a normalisation) or symmetric around zero. Few elements, such as a
    head's only bias, are drawn often enough for a standard deviation.
    """
    draws = torch.stack([param.fresh(generator).detach() for _ in range(2 + 1000 // param.tensor.numel())])
    sigma = float((draws - draws.mean(0)).square().sum().div((draws.shape[0] - 1) * param.tensor.numel()).sqrt())
    return (draws[0].clone(), 0.0) if bool((draws == draws[0]).all()) else (torch.zeros_like(draws[0]), sigma)
