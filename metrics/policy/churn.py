"""Churn: what one optimiser step changes on observations that were not in its minibatch.

    churn        = E_s 1[argmax_a pi'(a|s) != argmax_a pi(a|s)]        categorical actors
    churn_kl     = E_s KL(pi(.|s) | pi'(.|s))                          categorical actors
    churn_output = E_s |f'(s) - f(s)| / spread of f over s             values, means of Gaussians, deterministic actions

with a dash for the network after the step, on the fixed probe batch. The first is that of Schaul, Barreto, Quan and
Ostrovski, "The Phenomenon of Policy Churn", NeurIPS 2022, arXiv 2206.00730, who count the greedy actions of value
networks. The second is what C-CHAIN (`regularizers.churn`) holds down, Tang et al., "Mitigating Plasticity Loss in
Continual Reinforcement Learning by Reducing Churn", ICML 2025, arXiv 2506.00592, which ties growing churn to a falling
rank of the neural tangent kernel; for values and means it takes the squared change. The third is a choice: the spread
is the root of the variance over samples, averaged over outputs, and makes churn comparable between networks and while
the scale of values grows.

- Where actions are nearly equal, as at the start of training, greedy actions change at the slightest touch: `churn` is
  then high with a tiny `churn_kl`. An action of several parts has changed when any of them has.
- A saturated policy cannot churn: 0 is not health.
- The probe batch is the first of the run; tasks later, it says what a step does far from the data.
- For a value network that gives a value for each action (DQN) only `churn_output` is measured: what its outputs stand
  for, actions or quantiles, cannot be seen from the network.
- For an actor with two heads (SAC) it is the mean's, before the tanh (for TD3 after it); that of the standard deviation
  is not in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.layers import Network
from metrics.base import Measured, Metric, Policy, StepView
from metrics.policy.distribution import kl_divergence


def greedy_churn(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    """Share of samples whose greedy action has changed in at least one of its parts.

    Args:
        before: logits (or values) of each part, `[samples, choices]`.
        after: the same after the step.
    """
    pairs = zip(before, after, strict=True)
    changed = [old.argmax(dim=-1) != new.argmax(dim=-1) for old, new in pairs]
    return float(torch.stack(changed).any(dim=0).double().mean())


def output_churn(before: Tensor, after: Tensor) -> float:
    """Mean absolute change of outputs in units of their spread over the samples.

    Args:
        before: real-valued outputs, `[samples, outputs]`.
        after: the same after the step.

    Returns:
        At least 0; NaN where the outputs were the same in all samples, so that there is no unit to measure in.
    """
    before, after = before.double(), after.double()
    spread = before.var(dim=0, correction=0).mean().sqrt()
    # Rounding of equal outputs is no spread: a network that ignores its inputs may differ in the last bit.
    if not bool(spread > 1e-7 * before.abs().max()):
        return float("nan")
    return float((after - before).abs().mean() / spread)


@dataclass
class Churn(Metric):
    """Change of outputs on other data by one optimiser step (Schaul et al. 2022; Tang et al. 2025)."""

    title = "Churn on the probe batch in one step"
    family = "policy"
    reads = "step"
    names = ("churn", "churn_kl", "churn_output")
    reads_outputs = True

    def applies(self, network: Network) -> bool:
        """Trained networks that have outputs; a shared extractor moves them, and is seen in them."""
        return network.optimizer is not None and any(layer.is_head for layer in network.layers)

    def measure_step(self, network: Network, step: StepView) -> Measured:
        """Churn of one step: of a policy for categorical actors, else of the first head's outputs."""
        if not step.before:
            return {}
        if not network.categories:
            return {"churn_output": output_churn(step.before[0], step.after[0])}
        before, after = (torch.split(heads[0], network.categories, dim=-1) for heads in (step.before, step.after))
        divergence = kl_divergence(Policy(tuple(before)), Policy(tuple(after)))
        assert divergence is not None  # categorical
        return {"churn": greedy_churn(before, after), "churn_kl": float(divergence.mean())}
