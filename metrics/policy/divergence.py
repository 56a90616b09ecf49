"""How far training on a rollout has carried the whole policy: the exact divergence on its states.

    kl = E_s KL(pi_before(.|s) | pi(.|s))

in nats, over all actions and not only those taken (`approx_kl` estimates it from these), with the closed forms of
`metrics.policy.distribution`. The direction is that of TRPO's constraint (Schulman et al., "Trust Region Policy
Optimization", ICML 2015, arXiv 1502.05477) and of `approx_kl`. For a saturated policy it is finite, but can be as large
as the gap of its logits.
"""

from dataclasses import dataclass

from agents.layers import Network
from metrics.base import Measured, View
from metrics.policy.base import OfActor
from metrics.policy.distribution import kl_divergence


@dataclass
class Divergence(OfActor):
    """Exact divergence of the policy before training on the rollout from the one after (Schulman et al. 2015)."""

    title = "KL divergence by training on the rollout"
    reads = "rollout"
    names = ("kl",)

    def measure(self, network: Network, view: View) -> Measured:
        """The mean over the rollout's states; nothing where the earlier policy is not known, or deterministic."""
        before, after = view.policy_before(), view.policy()
        divergence = None if before is None or after is None else kl_divergence(before, after)
        return {} if divergence is None else {"kl": float(divergence.mean())}
