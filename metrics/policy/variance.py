"""Whether the policy looks at the state: the variance of what it does over states.

    V = E_a Var_s pi(a|s)

for categorical policies, the mean over all choices of all parts: 0 when every state gets the same distribution, however
high its entropy, and at most about 1/4. Moalla et al., "No Representation, No Trust", NeurIPS 2024, arXiv 2405.00662
(their `compute_policy_diversity`).

For real-valued actions it is the variance of the mean action over states, after the tanh where there is one, averaged
over dimensions; in squared units of the action. That differs from the authors' code, which averages the variances of
the Gaussian's mean and of its standard deviation, before any tanh: the latter is 0 for PPO by construction, and a mean
that wanders far out in tanh's flat part would pass for attention to the state.

Values of different action spaces cannot be compared: with more choices each has a smaller share to vary. And 0 is no
defect where one action is best everywhere.
"""

from dataclasses import dataclass

import torch

from metrics.base import Measured, Policy
from metrics.policy.base import OfPolicy
from metrics.policy.distribution import probabilities


def policy_variance(policy: Policy) -> float:
    """Variance over samples (unbiased) of each choice's probability or of the mean action, averaged over these.

    Returns:
        At least 0; NaN for fewer than two samples.
    """
    if policy.logits:
        actions = torch.cat(probabilities(policy), dim=-1)
    elif policy.mean is not None:
        actions = torch.tanh(policy.mean) if policy.squashed else policy.mean
    else:
        return float("nan")
    return float(actions.double().var(dim=0).mean()) if len(actions) > 1 else float("nan")


@dataclass
class PolicyVariance(OfPolicy):
    """Variance of the policy over states: 0 where it ignores them (Moalla et al. 2024)."""

    title = "Variance of the policy over states"
    names = ("policy_variance",)
    at_switch = True

    def of(self, policy: Policy) -> Measured:
        """The variance over the batch."""
        return {"policy_variance": policy_variance(policy)}
