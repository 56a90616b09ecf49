"""UPGD: move useful weights less, and perturb the useless ones.

    U <- b_u U + (1 - b_u) (-g theta)            utility: how much the loss would grow without the weight, first order
    u = sigmoid((U / (1 - b_u^t)) / max over all weights)
    UPGD:     theta <- (1 - lr wd) theta - 2 lr (1 - u) (g + xi)
    AdaUPGD:  theta <- (1 - lr wd) theta - 2 lr (1 - u) (m / (sqrt(v) + eps) + xi)          xi ~ N(0, sigma^2)

with m and v Adam's debiased moments. A weight of no utility has u = 1/2, hence the factor 2.

Elsayed and Mahmood, "Addressing Loss of Plasticity and Catastrophic Forgetting in Continual Learning", ICLR 2024,
arXiv 2404.00781, and the authors' repository: constants and the form for PPO, AdaUPGD. (Some of its files have the
factor 1 where its front page and AdaUPGD have 2.) Where no weight has a positive utility, the published ratio changes
sign and the least useful weights are protected; here the largest utility counts by its size alone.

The noise comes from a generator of the optimiser's own, started from torch's seed and the parameters' sizes and saved
in `state_dict`, so that the agent's random stream stays what it is.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from configs.settings import SettingError
from optimizers.base import AdamBased, AdamSettings, Beta, Group


@dataclass
class UPGD(AdamSettings):
    """Move useful weights less and perturb useless ones (Elsayed and Mahmood 2024)."""

    base: Literal["adam", "sgd"] = "adam"
    """adam: AdaUPGD, which the authors use with PPO. sgd: UPGD itself, which wants another learning rate than Adam."""

    weight_decay: Annotated[float, Ge(0)] = 1e-3
    """Decay of the weights a step, times the learning rate, apart from the gradient (authors' code, PPO)."""

    sigma: Annotated[float, Ge(0)] = 1e-3
    """Standard deviation of the noise, on the scale of Adam's direction for adam, of the gradient for sgd (same)."""

    utility_decay: Beta = 0.999
    """Decay of the mean utility (same)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.base == "sgd" and self.betas != (0.9, 0.999):
            raise SettingError(self, "betas", "must be left alone while base is sgd, which has none")

    def kind(self) -> type[torch.optim.Optimizer]:
        """The optimiser of this file."""
        return UPGDOptimizer

    def arguments(self, eps: float) -> dict[str, Any]:
        """Adam's, and those of utility and noise."""
        own = {"adaptive": self.base == "adam", "sigma": self.sigma, "utility_decay": self.utility_decay}
        return super().arguments(eps) | own


class UPGDOptimizer(AdamBased):
    """UPGD, on Adam's directions or on the gradients.

    Args:
        params: parameters or groups of them.
        weight_decay: apart from the gradient.
        adaptive: whether on Adam's directions.
        sigma: standard deviation of the noise.
        utility_decay: decay of the mean utility.
        others: as of `AdamBased`.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        weight_decay: float = 1e-3,
        adaptive: bool = True,
        sigma: float = 1e-3,
        utility_decay: float = 0.999,
        **others: Any,
    ) -> None:
        own: dict[str, Any] = {
            "decay": weight_decay,
            "adaptive": adaptive,
            "sigma": sigma,
            "utility_decay": utility_decay,
        }
        super().__init__(params, lr, weight_decay=0.0, **(own | others))
        sizes = [param.numel() for group in self.param_groups for param in group["params"]]
        self.seed = int(np.random.SeedSequence([torch.initial_seed() % 2**63, *sizes]).generate_state(1)[0])
        self.generator: torch.Generator | None = None

    def move(self, groups: list[Group]) -> None:
        """One step; the largest utility is that of all groups together."""
        debiased = [self.utilities(group, params, grads) for group, params, grads in groups]
        largest = torch.stack([utility.max() for utilities in debiased for utility in utilities]).max().abs()
        largest = largest.clamp_min(torch.finfo(largest.dtype).tiny)
        for (group, params, grads), utilities in zip(groups, debiased, strict=True):
            if group["adaptive"]:
                directions = self.directions(group, params, grads)
            else:
                directions = list(torch._foreach_mul(grads, 1.0))
            if group["sigma"] > 0:
                torch._foreach_add_(directions, self.noise(params), alpha=group["sigma"])
            torch._foreach_div_(utilities, largest)
            torch._foreach_neg_(utilities)
            torch._foreach_sigmoid_(utilities)  # 1 - sigmoid(x) = sigmoid(-x)
            torch._foreach_mul_(directions, utilities)
            torch._foreach_mul_(params, 1 - group["lr"] * group["decay"])
            torch._foreach_add_(params, directions, alpha=-2 * group["lr"])

    def utilities(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
        """The debiased mean utility of every weight."""
        decay, means = group["utility_decay"], self.memory(params, "utility")
        torch._foreach_mul_(means, decay)
        torch._foreach_addcmul_(means, grads, params, -(1 - decay))
        for param in params:
            self.state[param]["utility_step"] = self.state[param].get("utility_step", 0) + 1
        weights = [1 - decay ** self.state[param]["utility_step"] for param in params]
        return list(torch._foreach_div(means, weights))

    def noise(self, params: list[Tensor]) -> list[Tensor]:
        """Standard normal noise in the shapes of the parameters, drawn all at once."""
        if self.generator is None:
            self.generator = torch.Generator(params[0].device).manual_seed(self.seed)
        sizes = [param.numel() for param in params]
        drawn = torch.randn(sum(sizes), generator=self.generator, device=params[0].device, dtype=params[0].dtype)
        return [part.view_as(param) for part, param in zip(torch.split(drawn, sizes), params, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """As of any optimiser, and the state of the generator."""
        return super().state_dict() | {"noise": None if self.generator is None else self.generator.get_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave, on the kind of device it was made on."""
        super().load_state_dict(state_dict)
        self.generator = None
        if (state := state_dict.get("noise")) is not None:
            self.generator = torch.Generator(self.param_groups[0]["params"][0].device)
            self.generator.set_state(state.cpu())
