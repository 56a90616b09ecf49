"""Entropy and divergence of the distributions that policies act by, in closed form and in nats.

A categorical policy has one or more independent parts (the components of a MultiDiscrete action), a Gaussian one has
independent dimensions; over either, entropies and divergences add up:

    H(p)    = sum_parts  - sum_a p_a log p_a                                 categorical
            = sum_d      1/2 log(2 pi e sigma_d^2)                           Gaussian
    KL(p|q) = sum_parts  sum_a p_a (log p_a - log q_a)                       categorical
            = sum_d      log(sigma_q / sigma_p) + (sigma_p^2 + (mu_p - mu_q)^2) / (2 sigma_q^2) - 1/2

Where actions are a Gaussian's tanh, the entropy is that of the Gaussian before it: SAC's own is that of the action,
lower by E sum_d -log(1 - tanh(u_d)^2), and has no closed form. The divergence is the same before and after, since tanh
can be undone.

Arithmetic is in double precision: between two policies one optimiser step apart the divergence is of the order of 1e-6,
where single precision leaves only rounding noise.
"""

import math

import torch
from torch import Tensor

from metrics.base import Policy


def probabilities(policy: Policy) -> tuple[Tensor, ...]:
    """Probability of each choice, `[samples, choices]` a categorical part, in the precision the agent computes in.

    A choice that is far enough behind has exactly 0 there, as it has for the agent: in single precision at a logit 104
    below the largest (measured on a CPU). Empty for real-valued actions.
    """
    return tuple(torch.softmax(logits, dim=-1) for logits in policy.logits)


def policy_entropy(policy: Policy) -> Tensor | None:
    """Entropy in each state, `[samples]`, in nats; of a Gaussian that before squashing, which may be negative.

    Between 0 and the sum of log(choices) for categorical policies; None for a deterministic policy of real-valued
    actions.
    """
    if policy.logits:
        return _total([torch.special.entr(torch.softmax(part.double(), dim=-1)).sum(dim=-1) for part in policy.logits])
    if policy.std is None:
        return None
    return (policy.std.double().log() + 0.5 * math.log(2 * math.pi * math.e)).sum(dim=-1)


def kl_divergence(p: Policy, q: Policy) -> Tensor | None:
    """KL(p|q) in each state, `[samples]`, in nats, at least 0.

    Args:
        p: the distribution that the expectation is over.
        q: the other, with the same actions and for the same states.

    Returns:
        None where a policy is deterministic in real-valued actions.
    """
    if p.logits:
        pairs = zip(p.logits, q.logits, strict=True)
        return _total([_categorical_kl(this.double(), other.double()) for this, other in pairs]).clamp_min(0)
    if p.mean is None or p.std is None or q.mean is None or q.std is None:
        return None
    ratio = (p.std.double() / q.std.double()).square()
    distance = ((p.mean.double() - q.mean.double()) / q.std.double()).square()
    return (0.5 * (ratio + distance - 1 - ratio.log())).sum(dim=-1).clamp_min(0)


def _categorical_kl(p: Tensor, q: Tensor) -> Tensor:
    log_p, log_q = torch.log_softmax(p, dim=-1), torch.log_softmax(q, dim=-1)
    # What p never does adds nothing, also where q excludes it altogether (a logit of minus infinity).
    return torch.where(log_p.exp() > 0, log_p.exp() * (log_p - log_q), 0.0).sum(dim=-1)


def _total(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).sum(dim=0)
