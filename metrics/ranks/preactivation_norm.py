"""How large a representation is before its nonlinearity: the norm of the pre-activations.

    E_s |z(s)|_2

with z what the nonlinearity of a hidden layer is given for one observation. Moalla et al., "No Representation, No
Trust", NeurIPS 2024, arXiv 2405.00662, section 3, prefer it to the norm of the features: bounded units and dead ones
hide that pre-activations grow. Their regulariser PFO (`regularizers.pfo`) holds pre-activations near those of the
rollout.

With a layer normalisation before the nonlinearity it is what comes out of that, near the root of the number of units
whatever the weights do. A unit of CReLU or of Fourier features has one pre-activation.
"""

from dataclasses import dataclass

from agents.layers import Network
from metrics.base import Measured, Metric, View, by_layer
from metrics.ranks.feature_norm import mean_norm


@dataclass
class PreactivationNorm(Metric):
    """Mean Euclidean norm of the last hidden layer's pre-activations (Moalla et al. 2024)."""

    title = "Pre-activation norm of the last hidden layer"
    family = "ranks"
    reads = "batch"
    names = ("preact_norm",)

    def measure(self, network: Network, view: View) -> Measured:
        """That of the last hidden layer, and of each layer."""
        features = view.features(network)
        if features is None:
            return {}
        layers = {layer: mean_norm(z, len(features)) for layer, z in view.preactivations(network).items()}
        return by_layer("preact_norm", layers[network.hidden[-1]], layers, network)
