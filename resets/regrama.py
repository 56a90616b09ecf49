"""ReGraMa: give new incoming weights to units that no longer receive gradient.

    G_i = mean_j |dL/dW_ij|,   s_i = G_i / mean_k G_k <= tau    ->    W_in[i, :], b_i <- fresh

A unit may be active and yet have stopped learning (a saturated tanh unit), or be silent in a network whose other paths
carry its part (residual connections): the gradient tells where activations do not.

Liu, Wu, Obando-Ceron, Castro, Courville and Pan, "Measure gradients, not activations! Enhancing neuronal activity in
deep reinforcement learning", NeurIPS 2025, arXiv 2505.24061; details from the authors' code
(torressliu/grad-based-plasticity-metrics). Different here, each for its reason:

- Gradients are added up over all steps since the last firing (`gradients: last` is the code's single minibatch), since
  PPO's clipped samples have none.
- Output layers are never reset. The code's masks include them, so that an action or a value can be drawn anew.
- The code draws from Kaiming's distribution; here it is each layer's own.

As in the code outgoing weights stay by default, so that the network's output changes: a small gradient does not mean a
small contribution. Target networks follow by themselves.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Gt, Le, Lt

from agents.interventions import Moment, ResetEvent, Step
from agents.layers import MomentPolicy, Network, reinitialize_units
from agents.stacking import Random
from resets import scores
from resets.base import TimedReset
from resets.redo import dormant_units


@dataclass
class ReGraMa(TimedReset):
    """Give fresh incoming weights to units without gradient (Liu et al. 2025)."""

    touches = ("hidden", "norm", "heads")
    needs = "hidden"

    tau: Annotated[float, Lt(1)] = 0.01
    """A unit is reset when its mean absolute gradient is at most tau times its layer's: 0.01 in AgileRL's version;
    tuned for PPO 0.25 on a slippery ant and 0.15 on a humanoid, every 100 steps; 1e-4 every 100 000 for SAC (code of
    Calibrated Partial Resets, 2026). The paper's own value could not be established. Below 0 nothing is reset."""

    gradients: Literal["all", "last"] = "all"
    """Which gradients count: those of all steps since the last firing, added up; or the last step's, as in the code."""

    outgoing: Literal["keep", "zero"] = "keep"
    """What happens to outgoing weights: they stay, as in the authors' code, or become zero, as in ReDo."""

    max_fraction: Annotated[float, Gt(0), Le(1)] = 1.0
    """At most this share of a layer at once, rounded down, those of lowest gradient: 1, no limit, in the paper; 0.02 in
    the code of Calibrated Partial Resets for SAC (2026)."""

    moments: MomentPolicy = "zero"
    """What happens to the optimiser's statistics of incoming weights, and of outgoing ones too as in the authors' code.
    zero: with Adam's default betas the next steps are then 3 to 6 times the learning rate, since its step count goes
    on. The authors' code is zero_and_step, which slows the rest of the layer down for a while."""

    def stacks(self, number: int) -> float:
        """All steps."""
        return math.inf

    def after_step(self, networks: list[Network], step: Step, generator: Random) -> Iterable[ResetEvent]:
        """Add up the gradients."""
        for network in networks:
            if self.gradients == "last":
                scores.take(self.state, network)
            scores.add_up(self.state, scores.of_step("gradient", network, step))
        return ()

    def between_rollouts(
        self, networks: list[Network], moment: Moment, generator: torch.Generator
    ) -> Iterator[ResetEvent]:
        """Reset the units without gradient of every network whose time has come."""
        for network in self.due_networks(networks, moment):
            totals = scores.take(self.state, network)
            silent = {
                layer: dormant_units(scores.relative(total), self.tau, self.max_fraction)
                for layer, total in totals.items()
            }
            reinitialize_units(silent, generator, self.moments, self.outgoing)
            for layer, units in silent.items():
                if count := int(units.sum()):
                    yield ResetEvent(network.name, layer.name, "units", count, self.why())
