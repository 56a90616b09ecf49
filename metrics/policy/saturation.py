"""How far the policy is saturated: decided so firmly that its gradient vanishes.

    logit_gap        = E_s (largest logit - second largest logit)
    action_saturated = share of states with 1 - max_a pi(a|s) < 2^-24                          categorical
                     = share of states and dimensions with |tanh(mean)| > bound                squashed Gaussian

The gradient of log pi(a|s) in the logits is 1 - pi(a|s) for the action taken and -pi(b|s) for the others: no more than
e^-g where the likelier of two choices was taken that leads by a gap g. Beyond a gap of 17, what is left for the other
is lost when single precision adds it to 1: it is next to never sampled, and the one that is moves nothing. Beyond 104
its probability is an exact 0. A tanh passes on 1 - tanh(mean)^2 of the gradient, 2 % at 0.99.

This is another failure than lost capacity, which it is easily taken for at a task switch: where observations of the new
task lie far outside of those of the old one, the network extrapolates to huge logits, and the policy cannot move from
the first or second batch on. (The code of C-CHAIN, arXiv 2506.00592, with PPO on CartPole had gaps of 130, 4 and 78 on
the first batch after a switch, in three seeds, and of 130, 109 and 83 one or two iterations later, when no gradient
exceeded 1e-11; measured here.) To tell them apart, look at the first batches of a task: no gradient with
`action_saturated` near 1 is saturation, which a new head or smaller inputs should undo; no gradient with a small gap
comes from silent units or from advantages that are all alike. One may bring the other, since the features that make
such logits are huge and of low rank too.

The gap does not change when a constant is added to all logits. Its mean is ruled by the extremes: a few states at 130
look like all states at 17, which the share does not. A trained policy may well be sure of itself; a gap of a few units
is no defect. For Gaussians that nothing squashes (PPO, A2C) there is no such value: the gradient of their log
probability does not vanish far out, and a mean beyond the bounds, where the environment clips actions, cannot be seen
here. What takes the place of saturation there is a standard deviation near 0, which `entropy` shows.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Gt, Lt
from torch import Tensor

from metrics.base import Measured, Policy
from metrics.policy.base import OfPolicy

LOST = 2.0**-24
"""Half the spacing of single-precision numbers above 1 is 2^-24: adding less than that to 1 leaves 1."""


def logit_gap(logits: Tensor) -> Tensor:
    """Largest less second largest logit.

    Args:
        logits: `[..., choices]`, at least two choices.

    Returns:
        `[...]`, at least 0.
    """
    largest = logits.topk(2, dim=-1).values
    return largest[..., 0] - largest[..., 1]


def saturated_choice(logits: Tensor) -> Tensor:
    """Whether the probabilities of all but the likeliest choice together vanish beside 1 in single precision.

    Args:
        logits: `[..., choices]`.

    Returns:
        Boolean, `[...]`.
    """
    return 1 - torch.softmax(logits.double(), dim=-1).amax(dim=-1) < LOST


@dataclass
class LogitGap(OfPolicy):
    """How far the best logit leads, and the share of saturated actions."""

    title = "Gap of the two largest logits"
    names = ("logit_gap", "action_saturated")
    default = True
    at_switch = True

    bound: Annotated[float, Gt(0), Lt(1)] = 0.99
    """A squashed mean counts as saturated beyond this, in units of the largest action: a choice, the value that is
    common for tanh units."""

    def of(self, policy: Policy) -> Measured:
        """Means over the batch and the parts or dimensions of an action; parts with a single choice do not count."""
        parts = [logits for logits in policy.logits if logits.shape[-1] > 1]
        if parts:
            return {
                "logit_gap": float(torch.stack([logit_gap(logits) for logits in parts]).double().mean()),
                "action_saturated": float(torch.stack([saturated_choice(logits) for logits in parts]).double().mean()),
            }
        if policy.squashed and policy.mean is not None:
            return {"action_saturated": float((torch.tanh(policy.mean).abs() > self.bound).double().mean())}
        return {}
