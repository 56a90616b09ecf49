"""C-CHAIN, churn reduction: what an update learns from one minibatch should not move the outputs on others.

    R = E_{s in B_ref} D(f_prev(s), f(s))

with f_prev the network before its previous update and B_ref a minibatch which that update was not computed from. D is
the Kullback-Leibler divergence KL(pi_prev || pi) of a categorical policy (its gradient is that of the paper's cross
entropy, and it is zero where nothing churns), the mean squared difference of a policy's means and of values.

- B_ref is the minibatch of two steps ago. The authors draw an independent one of the same rollout or replay buffer.
- f_prev is the present network less what the last update changed, so that a reset between two updates is not taken
  for churn and undone.
- The strength is fixed. The authors set it, after a start at a fixed value, to a multiple of the running mean of the
  policy's loss over that of the churn, and start it anew at every task switch; a penalty does not see the loss, and
  norms of gradients, which it could see, are another measure.

Tang, Obando-Ceron, Castro, Courville and Berseth, "Mitigating Plasticity Loss in Continual Reinforcement Learning by
Reducing Churn", ICML 2025, arXiv 2506.00592.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from agents.interventions import Intervention, ResetEvent, Step
from agents.layers import Network
from agents.replica import Replica, Replicas
from agents.stacking import Random
from agents.watching import Watched
from regularizers.base import Regularizer, refuse_two_passes
from regularizers.features import mean_square


def churn(network: Network, before: list[Tensor], now: list[Tensor]) -> Tensor:
    """How far outputs have moved: per sample, the divergence of the policy or the mean square of values.

    Args:
        network: whose they are.
        before: `[..., samples, outputs]`, one tensor a head.
        now: the same.
    """
    if network.categories:
        logits = (torch.split(outputs[0], network.categories, -1) for outputs in (before, now))
        parts = [
            kl_div(log_softmax(new, -1), log_softmax(old, -1), reduction="none", log_target=True).sum(dim=(-2, -1))
            for old, new in zip(*logits, strict=True)
        ]
        return torch.stack(parts).sum(dim=0) / now[0].shape[-2]
    if network.role == "actor":  # the first head gives the actions or their means, a second one their spread
        return mean_square([now[0] - before[0]])
    return torch.stack([mean_square([new - old]) for old, new in zip(before, now, strict=True)]).mean(dim=0)


@dataclass
class Churn(Regularizer):
    """Hold outputs on other data still (C-CHAIN, Tang et al. 2025)."""

    touches = ("hidden", "norm", "heads")

    networks: Literal["all", "actor", "critic"] = field(default="actor", kw_only=True)
    """Which networks to act on. The paper: PPO's policy, not its value function; DQN's value network (critic)."""

    strength: Annotated[float, Ge(0)] = 10.0
    """Factor on the penalty in the loss. Before they adapt it to the losses, the authors start from 1 (Gym control), 10
    (ProcGen), 50 (MinAtar, values) or 100 (DeepMind Control, means) (code of Tang et al. 2025)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._replicas = Replicas("update")
        self._stepping: set[str] = set()  # never longer than from a penalty to its step

    def acts_on(self, network: Network) -> bool:
        """Networks that have outputs; an extractor that several share is reached through them."""
        return super().acts_on(network) and any(layer.is_head for layer in network.layers)

    def check(self, networks: list[Network], others: Sequence[Intervention]) -> None:
        """Refuse optimisers that look at each minibatch twice."""
        refuse_two_passes(self, networks)

    def watches(self) -> set[Watched]:
        """What the minibatches of later steps are compared on."""
        return {"inputs"}

    def loss_term(self, network: Network, step: Step) -> Tensor | None:
        """The churn of the last update on the minibatch before it; nothing until there have been two."""
        inputs = step.inputs(network)
        if self.strength == 0 or inputs is None:
            return None
        # Where the last step was left out, nothing is known of the update before it.
        known = f"update.{network.name}.0" in self.state and network.name not in self._stepping
        replica = self._replicas.of(network, self.state)
        reference = self._recall(network, 2)
        penalty = None
        if known and reference is not None:
            _difference(replica)  # from the change of the last update to the weights before it
            penalty = self.strength * churn(network, replica(*reference), step.run(network, reference))
        self._remember(network, inputs)
        replica.follow()
        self._stepping.add(network.name)
        return penalty

    def after_step(self, networks: list[Network], step: Step, generator: Random) -> Iterable[ResetEvent]:
        """Keep what the update has changed."""
        for network in networks:
            if network.name in self._stepping:
                self._stepping.remove(network.name)
                _difference(self._replicas.of(network, self.state))
        return ()

    def _recall(self, network: Network, age: int) -> tuple[Any, ...] | None:
        """The inputs of some steps ago, as `Network.run` takes them."""
        start = f"inputs.{network.name}.{age}."
        found: list[Any] = []
        for key in [key for key in self.state if key.startswith(start)]:
            index, part = key.removeprefix(start).split(".", 1)
            if part and int(index) < len(found):
                found[int(index)][part] = self.state[key]
            else:
                found.append({part: self.state[key]} if part else self.state[key])
        return tuple(found) or None

    def _remember(self, network: Network, inputs: tuple[Any, ...]) -> None:
        """Keep the inputs of this step, and those of the last one."""
        start = f"inputs.{network.name}."
        for index, item in enumerate(inputs):
            for part, tensor in item.items() if isinstance(item, dict) else [("", item)]:
                recent, older = f"{start}1.{index}.{part}", f"{start}2.{index}.{part}"
                if recent in self.state:
                    self.state[older] = self.state[recent]
                self.state[recent] = tensor


@torch.no_grad()
def _difference(replica: Replica) -> None:
    """Turn a replica of weights into their distance from the live ones, and such a distance back into weights."""
    torch._foreach_neg_(replica.tensors)
    torch._foreach_add_(replica.tensors, replica.live)
