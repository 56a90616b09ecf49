"""How much of the returns a critic explains.

    explained_var = 1 - Var(R - V) / Var(R)

1 for a perfect fit, 0 for a constant (any constant: an offset of all values is not seen), negative where the values are
worse than that. R are the returns that the critic is trained towards: for PPO and A2C the lambda-returns, advantages
plus the values of the time of the rollout, so that with a small lambda a critic that predicts nothing but itself looks
good, and a policy that earns the same everywhere makes Var(R) small and the value meaningless.

Stable-Baselines3 logs the same with the values that were predicted when the rollout was collected; here they are those
of the moment: on the first batch of a task before any learning, how much of the new task the old critic knows; later
after training on the batch, how well it could be fitted. A critic that cannot fit even that has lost plasticity.
"""

from dataclasses import dataclass

from torch import Tensor

from agents.layers import Network
from metrics.base import Measured, Metric, View


def explained_variance(values: Tensor, returns: Tensor) -> float:
    """Share of the returns' variance that the values explain.

    Args:
        values: predictions, `[samples]`.
        returns: what they should be, `[samples]`.

    Returns:
        At most 1; NaN where all returns are the same.
    """
    if len(returns) == 0 or bool(returns.max() == returns.min()):
        return float("nan")
    values, returns = values.double(), returns.double()
    return float(1 - (returns - values).var(correction=0) / returns.var(correction=0))


@dataclass
class ExplainedVariance(Metric):
    """Share of the returns' variance that the critic explains."""

    title = "Explained variance of returns"
    family = "policy"
    reads = "rollout"
    names = ("explained_var",)
    at_switch = True

    def applies(self, network: Network) -> bool:
        """Critics; those of off-policy agents have no returns and are skipped when measured."""
        return network.role == "critic"

    def measure(self, network: Network, view: View) -> Measured:
        """The share on the rollout; nothing for a critic that is not trained towards returns."""
        returns = view.returns(network)
        if returns is None:
            return {}
        return {"explained_var": explained_variance(view.outputs(network)[0].flatten(), returns)}
