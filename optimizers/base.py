"""What all optimisers share: settings that SB3 takes as `policy_kwargs`, and Adam's arithmetic on lists of tensors.

    model = PPO("MlpPolicy", env, policy_kwargs=UnitAdam().policy_kwargs())
    model.learn(100_000, callback=Plasticity(*UnitAdam().interventions()))

Every optimiser is a `torch.optim.Optimizer` and needs nothing of this project to be used. What it remembers of a
parameter element by element stands in `state[parameter]` in the parameter's own shape and starts at zero, so that
`Param.reset_moments` can start the elements of a reborn unit anew. SB3 sets `lr` of every group before each update.
SAC's entropy coefficient always keeps SB3's own Adam.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

from agents.interventions import Intervention
from configs.settings import SettingError, Settings

Beta = Annotated[float, Ge(0), Lt(1)]
Closure = Callable[[], Any]
Group = tuple[dict[str, Any], list[Tensor], list[Tensor]]
"""A group of parameters, those that have a gradient, and their gradients."""


@dataclass
class OptimizerSettings(Settings):
    """The agent's own optimiser, untouched: Adam, for A2C RMSprop."""

    def policy_kwargs(self, eps: float = 1e-8) -> dict[str, Any]:
        """Keyword arguments for an SB3 policy.

        Args:
            eps: where the settings leave Adam's eps to the agent, the agent's: SB3 gives PPO and A2C 1e-5.
        """
        return {}

    def interventions(self) -> list[Intervention]:
        """What has to act while the agent learns, beside the optimiser itself."""
        return []


@dataclass
class AdamSettings(OptimizerSettings):
    """Base of the variants of Adam."""

    betas: tuple[Beta, ...] = (0.9, 0.999)
    """Decay of the mean and of the mean square of the gradients (Kingma and Ba 2015; SB3)."""

    eps: Annotated[float, Gt(0)] | None = None
    """Added to the root of the mean square; none: the agent's own (SB3: 1e-5 for PPO and A2C, 1e-8 for others)."""

    weight_decay: Annotated[float, Ge(0)] = 0.0
    """Strength of an L2 penalty that goes through Adam's statistics, as torch's Adam has it (SB3: none)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.betas = tuple(self.betas)
        if len(self.betas) != 2:
            raise SettingError(self, "betas", f"must be two numbers, not {len(self.betas)}")

    def kind(self) -> type[torch.optim.Optimizer]:
        """The class of the optimiser."""
        return torch.optim.Adam

    def policy_kwargs(self, eps: float = 1e-8) -> dict[str, Any]:
        """The optimiser's class and its arguments."""
        return {"optimizer_class": self.kind(), "optimizer_kwargs": self.arguments(eps)}

    def arguments(self, eps: float) -> dict[str, Any]:
        """Arguments of the optimiser beside parameters and learning rate."""
        own = eps if self.eps is None else self.eps
        return {"betas": self.betas, "eps": own, "weight_decay": self.weight_decay}


class AdamBased(torch.optim.Optimizer):
    """Base of optimisers that contain Adam; a subclass says in `move` how the weights move.

    The step count is a plain number, so that nothing has to wait for a device.

    Args:
        params: parameters or groups of them.
        lr: step size.
        betas: decay of the mean and of the mean square of the gradients.
        eps: added to the root of the mean square.
        weight_decay: strength of an L2 penalty.
        others: more defaults of the groups.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **others: Any,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, **others})

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:
        """Take one step; returns what the closure gives, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.move(self.groups())
        return loss

    def groups(self) -> list[Group]:
        """Each group with its parameters that have a gradient, and these gradients."""
        found: list[Group] = []
        for group in self.param_groups:
            params = [param for param in group["params"] if param.grad is not None]
            if params:
                found.append((group, params, [param.grad for param in params]))
        return found

    def move(self, groups: list[Group]) -> None:
        """Change the weights, in place; plain Adam here."""
        for group, params, grads in groups:
            torch._foreach_add_(params, self.directions(group, params, grads), alpha=-group["lr"])

    def directions(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
        """Adam's direction m / (sqrt(v) + eps), both debiased, of each parameter; updates its statistics."""
        (beta1, beta2), eps = group["betas"], group["eps"]
        means, squares = self.memory(params, "exp_avg"), self.memory(params, "exp_avg_sq")
        steps = self.count(params)
        if group["weight_decay"]:
            grads = list(torch._foreach_add(grads, params, alpha=group["weight_decay"]))
        torch._foreach_lerp_(means, grads, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_div_(roots, [(1 - beta2**step) ** 0.5 for step in steps])
        torch._foreach_add_(roots, eps)
        directions = torch._foreach_div(means, roots)
        torch._foreach_div_(directions, [1 - beta1**step for step in steps])
        return list(directions)

    def memory(self, params: list[Tensor], name: str) -> list[Tensor]:
        """The tensors of one name that the optimiser keeps of these parameters, in their shapes; zero at first."""
        for param in params:
            if name not in self.state[param]:
                self.state[param][name] = torch.zeros_like(param)
        return [self.state[param][name] for param in params]

    def count(self, params: list[Tensor]) -> list[int]:
        """One more step of each of these parameters; how many there are now."""
        for param in params:
            self.state[param]["step"] = self.state[param].get("step", 0) + 1
        return [self.state[param]["step"] for param in params]
