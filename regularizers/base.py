"""What all regularisers share: a penalty on the weights, added to the loss with a strength."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from agents.layers import Network
from resets.base import Intervention


@dataclass
class Regularizer(Intervention):
    """Base of all penalties; a regulariser implements `penalty`."""

    strength: Annotated[float, Ge(0)] = 0.0
    """Factor on the penalty in the loss."""

    def penalty(self, network: Network) -> Tensor:
        """The penalty of one network, a scalar that can be differentiated; without the factor `strength`."""
        raise NotImplementedError
