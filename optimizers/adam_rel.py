"""AdamRel: Adam whose step count starts at zero with every new target, while its moments stay.

    t <- 0 at a new target, then      theta <- theta - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

When the target changes, gradients may grow at once. Plain Adam's steps then grow with them, by up to
(1 - b1) / sqrt(1 - b2) = 3.2 at first; with the count at zero both corrections are large again and the step stays near
the learning rate. Where gradients do not grow it is an annealing of the learning rate: the first step after a long
history is sqrt(1 - b2) / (1 - b1) = 0.32 of it.

Ellis, Jackson, Lupu, Goldie, Fellows, Whiteson and Foerster, "Adam on Local Time: Addressing Nonstationarity in RL with
Relative Adam Timesteps", NeurIPS 2024, arXiv 2412.17113: PPO at every rollout, DQN at every copy of the target network.
SAC, TD3 and TQC, whose targets move a little at every step, are not in the paper: there a period must be given. (DQN
with `tau` below 1 has no copies either: choose periodic there too, nothing would happen otherwise.)

Never with equal betas: 0.99 and 0.99 make that first step ten times the learning rate. Such betas are refused.
"""

from dataclasses import dataclass
from math import sqrt

import torch

from agents.interventions import Intervention
from agents.layers import Param
from configs.settings import SettingError
from optimizers.targets import AtNewTarget, TargetSettings


@dataclass
class AdamRel(TargetSettings):
    """Adam whose step count starts at zero with every new target (Ellis et al. 2024)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        beta1, beta2 = self.betas
        first = sqrt(1 - beta2) / (1 - beta1)
        if first > 1 + 1e-6:
            raise SettingError(
                self,
                "betas",
                f"must have sqrt(1 - b2) at most 1 - b1, not be {beta1:g} and {beta2:g}, which make the first step "
                f"after each restart {first:.3g} times the learning rate",
            )

    def interventions(self) -> list[Intervention]:
        """What puts the step count back."""
        return [RelativeTime(when=self.when, every=self.every, unit=self.unit)]


@dataclass(kw_only=True)
class RelativeTime(AtNewTarget):
    """Put Adam's step count back to zero and keep its moments (Ellis et al. 2024)."""

    def act(self, param: Param) -> None:
        """The step count of one parameter."""
        state = param.optimizer.state.get(param.tensor, {}) if param.optimizer else {}
        step = state.get("step")
        if isinstance(step, torch.Tensor):
            step.zero_()
        elif step is not None:
            state["step"] = 0
