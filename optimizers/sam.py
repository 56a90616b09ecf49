"""SAM: step along the gradient of a point uphill, so that flat regions are found.

    e = rho g / |g|   (g: the gradient at theta, over all parameters of the optimiser)
    theta <- Adam's step from theta along the gradient at theta + e

Foret, Kleiner, Mobahi and Neyshabur, "Sharpness-Aware Minimization for Efficiently Improving Generalization", ICLR
2021, arXiv 2010.01412, equations 2 and 3 (rho 0.05). Against plasticity loss: Lee, Cho, Kim, Gwak, Kim, Choo, Yun and
Yun, "PLASTIC", NeurIPS 2023, arXiv 2306.10711, together with LayerNorm, CReLU and resets of the head (rho 0.1).

The loss is needed twice on one minibatch, which `step(closure)` does. SB3's training gives no closure; the callback
`Plasticity` lets PPO, A2C and DQN see each minibatch twice instead (`agents.passes`): first the ascent, then the step.
SAC, TD3 and TQC update several networks and their targets on one minibatch and are refused. An update costs twice.
Clipping does not change the ascent, which has length rho, and clips the second gradient as ever. Penalties are part of
both losses; what acts before or after a step acts once, at the weights themselves, while `step.activations` and the
like are those of the second pass. SB3's logged losses are means over both passes, and PPO's `target_kl` is compared at
the ascended weights too.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor

from optimizers.base import AdamBased, AdamSettings, Closure


@dataclass
class SAM(AdamSettings):
    """Step along the gradient of a point uphill, towards flat regions; PPO, A2C and DQN only (Foret et al. 2021)."""

    rho: Annotated[float, Ge(0)] = 0.1
    """Length of the ascent (PLASTIC: 0.1; Foret et al. 2021: 0.05)."""

    def kind(self) -> type[torch.optim.Optimizer]:
        """The optimiser of this file."""
        return SAMOptimizer

    def arguments(self, eps: float) -> dict[str, Any]:
        """Adam's, and the length of the ascent."""
        return super().arguments(eps) | {"rho": self.rho}


class SAMOptimizer(AdamBased):
    """Adam along the gradient at the ascended weights.

    Call `step` with a closure that clears the gradients, computes the loss and its gradients and returns it; or, with
    gradients in place, `ascend`, then with new gradients `restore` and `step`.

    Args:
        params: parameters or groups of them.
        rho: length of the ascent.
        others: as of `AdamBased`.
    """

    def __init__(self, params: Any, lr: float = 1e-3, rho: float = 0.1, **others: Any) -> None:
        super().__init__(params, lr, rho=rho, **others)
        self.origin: list[tuple[Tensor, Tensor]] = []
        self.has_ascended = False

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:
        """Take one step; returns the loss at the weights from which it is taken."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
                self.ascend()
                closure()
            self.restore()
        if not self.has_ascended:
            raise RuntimeError(
                "SAM needs the loss of each minibatch twice: call step with a closure, or let an SB3 model learn with "
                "the callback Plasticity()."
            )
        self.has_ascended = False
        self.move(self.groups())
        return loss

    @torch.no_grad()
    def ascend(self) -> None:
        """Move all weights uphill, along their gradients, and remember where they were."""
        groups = self.groups()
        norms = [norm for _, _, grads in groups for norm in torch._foreach_norm(grads)]
        length = torch.stack(norms).norm() + 1e-12 if norms else torch.ones(())
        self.origin = [(param, param.clone()) for _, params, _ in groups for param in params]
        for group, params, grads in groups:
            torch._foreach_add_(params, torch._foreach_mul(grads, group["rho"] / length))
        self.has_ascended = True

    @torch.no_grad()
    def restore(self) -> None:
        """Put the weights back to where they were, exactly, if they have ascended."""
        for param, weights in self.origin:
            param.copy_(weights)
        self.origin = []
