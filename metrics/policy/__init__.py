"""What the policy does and what an update makes of it: entropy, saturation, churn, trust region, the critic's fit."""

from metrics.policy.churn import Churn, greedy_churn, output_churn
from metrics.policy.critic import ExplainedVariance, explained_variance
from metrics.policy.distribution import kl_divergence, policy_entropy, probabilities
from metrics.policy.divergence import Divergence
from metrics.policy.entropy import Entropy
from metrics.policy.saturation import LogitGap, logit_gap, saturated_choice
from metrics.policy.trust_region import TrustRegion, ratio_summary
from metrics.policy.variance import PolicyVariance, policy_variance

__all__ = [
    "Churn",
    "Divergence",
    "Entropy",
    "ExplainedVariance",
    "LogitGap",
    "PolicyVariance",
    "TrustRegion",
    "explained_variance",
    "greedy_churn",
    "kl_divergence",
    "logit_gap",
    "output_churn",
    "policy_entropy",
    "policy_variance",
    "probabilities",
    "ratio_summary",
    "saturated_choice",
]
