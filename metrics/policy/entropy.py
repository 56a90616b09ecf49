"""How undecided the policy is: the mean entropy, and the least probability of any choice.

    entropy  = E_s H(pi(.|s))          min_prob = min_{s, a} pi(a|s)

in nats, with H as in `metrics.policy.distribution`: summed over the parts or dimensions of an action, for a Gaussian
analytic and before any squashing. For PPO and A2C it is what Stable-Baselines3 logs as minus `entropy_loss`, for SAC it
is not (there it is the action's, estimated by samples).

Entropy has to be read beside two others. High entropy with a `policy_variance` of 0 is a policy that does the same in
all states (Moalla et al., "No Representation, No Trust", NeurIPS 2024, arXiv 2405.00662, figure 2); entropy near 0 with
a large `logit_gap` is a saturated softmax. A `min_prob` of exactly 0, in the agent's own precision, is an action that
cannot be sampled and whose logit receives no gradient.
"""

from dataclasses import dataclass

from metrics.base import Measured, Policy
from metrics.policy.base import OfPolicy
from metrics.policy.distribution import policy_entropy, probabilities


@dataclass
class Entropy(OfPolicy):
    """Mean entropy of the policy, and the least probability of any action."""

    title = "Policy entropy"
    names = ("entropy", "min_prob")
    default = True
    at_switch = True

    def of(self, policy: Policy) -> Measured:
        """The mean over the batch, and the minimum over samples and choices for categorical actions."""
        values: Measured = {}
        nats = policy_entropy(policy)
        if nats is not None:
            values["entropy"] = float(nats.mean())
        if policy.logits:
            values["min_prob"] = min(float(part.min()) for part in probabilities(policy))
        return values
