"""The loss that each algorithm trains each of its networks with, as a pure function of the network's parameters.

Losses of one sample:

    PPO       actor -min(r A, clip(r, 1 - c, 1 + c) A) - k H        critic k_V (R - V)^2, V perhaps clipped around V_old
    A2C       actor -A log pi - k H                                 critic k_V (R - V)^2
    TRPO      actor -r A                                            critic (R - V)^2
    SAC       actor alpha log pi(u|s) - min_i Q_i(s, u)             critic i 1/2 (Q_i - y)^2
    TQC       actor alpha log pi(u|s) - mean_i Q_i(s, u)            critic i quantile Huber over the number of critics
    TD3, DDPG actor -Q_0(s, mu(s))                                  critic i (Q_i - y)^2
    DQN       smooth L1 of Q(s, a) - y                              QR-DQN: quantile Huber, summed over quantiles

with r = pi/pi_old, advantages A normalised over the batch where the agent does so, u an action drawn with given noise,
y the target. A feature extractor that actor and critic share is trained by the sum in PPO and A2C, and by the actor's
loss alone in TRPO, SAC and TD3. Penalties of regularisers are not part of these losses.

All is computed in evaluation mode, also where the agent trains with dropout or batch statistics: the loss of a single
sample has no meaning otherwise. A loss is known by the `train` method that takes it; of an algorithm with a `train` of
its own (CrossQ, MaskablePPO, a subclass that overrides it) it is not known.
"""

from collections.abc import Callable
from typing import Any

import torch
from sb3_contrib import QRDQN, TQC, TRPO
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.layers import Network
from agents.losses.off_policy import off_policy
from agents.losses.on_policy import on_policy
from agents.losses.pure import Losses, trained
from agents.losses.values import action_values
from agents.sb3 import Batch
from metrics.base import Loss

KNOWN: dict[Callable[..., None], Callable[[Any, Network, Batch, torch.Generator], Losses | None]] = {
    **dict.fromkeys([PPO.train, A2C.train, TRPO.train], on_policy),
    **dict.fromkeys([SAC.train, TQC.train, TD3.train], off_policy),
    **dict.fromkeys([DQN.train, QRDQN.train], action_values),
}
"""For each `train` what makes the loss it takes."""


def network_loss(model: BaseAlgorithm, network: Network, batch: Batch, generator: torch.Generator) -> Loss | None:
    """The loss that a model's algorithm trains one of its networks with, on a batch.

    Args:
        model: the agent; nothing of it is changed.
        network: one of its networks.
        batch: observations and actions with what is learnt from them in `learning`, `[samples]` each. On-policy:
            `advantages`, `returns`, and `values` and `log_prob` as they were when the agent acted. Off-policy:
            `next_observations`, `rewards` (of one step, normalised where the agent's are), `dones` (0 where an episode
            was only cut short).
        generator: where the noise in actions is drawn from, if any: first for the observations, then for the next ones,
            whichever network is asked for.

    Returns:
        The loss with its parameters in the order of `network.params()`; None where it is not known, and for what is no
        network of layers: an entropy temperature.
    """
    algorithm: Any = type(model)
    make = KNOWN.get(algorithm.train)
    if make is None or not network.layers or not batch.learning or batch.actions is None:
        return None
    with torch.no_grad():
        made = make(model, network, batch, generator)
    return None if made is None else Loss({param.name: param.tensor.detach() for param in trained(network)}, *made)
