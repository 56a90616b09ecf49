"""How far training has carried the policy from the one that took the actions, seen at these actions.

With r = pi(a|s) / pi_before(a|s) on the rollout, after all epochs on it,

    clip_fraction = E 1[|r - 1| > epsilon]
    ratio_above   = E[r | r > 1 + epsilon]       1 + epsilon where there is none
    ratio_below   = E[r | r < 1 - epsilon]       1 - epsilon where there is none
    approx_kl     = E[(r - 1) - log r]

The clip fraction says how often the ratio is outside of the bounds of PPO (Schulman et al., "Proximal Policy
Optimization Algorithms", arXiv 1707.06347), not how far. Clipping takes the gradient away but does not bring a ratio
back, and a network with few features left cannot move one state without the others: violations then grow while the
clip fraction looks flat (Moalla et al., "No Representation, No Trust", NeurIPS 2024, arXiv 2405.00662; the means beyond
the bounds are those of their `compute_models_diff`). The estimate of KL(pi_before | pi) is the one that Schulman calls
k3 ("Approximating KL Divergence", joschu.net/blog/kl-approx.html): unbiased as long as actions come from pi_before,
never negative, but far off in single batches once rare actions have become likely; `kl` is exact.

Stable-Baselines3 logs a clip fraction and this estimate too, but averages over minibatches, each before its own step,
all epochs (clip fraction) or the last one (KL); these here are values after the last step.
"""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt, Lt
from torch import Tensor

from agents.layers import Network
from metrics.base import Measured, View
from metrics.policy.base import OfActor

LARGEST = 88.0
"""Log of about the largest number in single precision, in which curves are stored."""


def ratio_summary(log_ratio: Tensor, epsilon: float = 0.2) -> Measured:
    """Clip fraction, mean ratios beyond the bounds, and estimated divergence.

    Args:
        log_ratio: log of pi(a|s) over pi_before(a|s), `[samples]`; counted as 88 where it is more, so that no ratio
            overflows.
        epsilon: bound on |r - 1|.
    """
    log_ratio = log_ratio.double().clamp_max(LARGEST)
    ratio = log_ratio.exp()
    above, below = ratio[ratio > 1 + epsilon], ratio[ratio < 1 - epsilon]
    return {
        "clip_fraction": (len(above) + len(below)) / len(ratio) if len(ratio) else float("nan"),
        "ratio_above": float(above.mean()) if len(above) else 1 + epsilon,
        "ratio_below": float(below.mean()) if len(below) else 1 - epsilon,
        "approx_kl": float((log_ratio.expm1() - log_ratio).mean()),
    }


@dataclass
class TrustRegion(OfActor):
    """Clip fraction, and how far ratios lie beyond the bounds (Schulman et al. 2017; Moalla et al. 2024)."""

    title = "Clip fraction after training on the rollout"
    reads = "rollout"
    names = ("clip_fraction", "ratio_above", "ratio_below", "approx_kl")

    epsilon: Annotated[float, Gt(0), Lt(1)] = 0.2
    """Bound on |r - 1|, not read off the agent: 0.2 is PPO's best clip range in the paper and SB3's default."""

    def measure(self, network: Network, view: View) -> Measured:
        """The four values on the rollout; nothing where no probabilities were kept."""
        log_ratio = view.log_ratio()
        return {} if log_ratio is None else ratio_summary(log_ratio, self.epsilon)
