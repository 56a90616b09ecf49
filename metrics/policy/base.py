"""What the metrics of policies have in common: they are measured on the actor alone."""

from abc import abstractmethod
from dataclasses import dataclass

from agents.layers import Network
from metrics.base import Measured, Metric, Policy, View


@dataclass
class OfActor(Metric):
    """Base of the metrics of the actor; agents without one (DQN) have nothing for them."""

    family = "policy"

    def applies(self, network: Network) -> bool:
        """The actor, hidden layers or none."""
        return network.role == "actor"


@dataclass
class OfPolicy(OfActor):
    """Base of those that need nothing but what the policy does on a batch."""

    reads = "batch"

    def measure(self, network: Network, view: View) -> Measured:
        """What `of` makes of the policy on this batch; nothing where there is none."""
        policy = view.policy()
        return {} if policy is None else self.of(policy)

    @abstractmethod
    def of(self, policy: Policy) -> Measured:
        """The metric's values for a policy on a batch."""
