"""Moment reset: clear Adam's moments and step count with every new target.

    m, v, t <- 0 at a new target

Each target makes another problem of it, to which the moments of the last one do not belong.

Asadi, Fakoor and Sabach, "Resetting the Optimizer in Deep RL: An Empirical Study", NeurIPS 2023, arXiv 2306.17833:
Rainbow, at every copy of the target network. With PPO and A2C every rollout is a new target (the arm Adam-MR of Ellis
et al. 2024, arXiv 2412.17113). The first steps are then as long as the learning rate whatever the gradient, which for
A2C, with one step a rollout, leaves the gradient's sign. SAC, TD3, TQC and DQN with `tau` below 1 need a period.
"""

from dataclasses import dataclass

from agents.interventions import Intervention
from agents.layers import Param
from optimizers.targets import AtNewTarget, TargetSettings


@dataclass
class MomentReset(TargetSettings):
    """Adam whose moments are cleared with every new target (Asadi et al. 2023)."""

    def interventions(self) -> list[Intervention]:
        """What clears the moments."""
        return [ClearMoments(when=self.when, every=self.every, unit=self.unit)]


@dataclass(kw_only=True)
class ClearMoments(AtNewTarget):
    """Clear the optimiser's moments and step counts (Asadi et al. 2023)."""

    def act(self, param: Param) -> None:
        """All that the optimiser remembers of one parameter."""
        param.forget()
