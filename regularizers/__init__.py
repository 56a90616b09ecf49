"""Regularisers: penalties added to the loss. One file a method; to add one, add its file and its line here."""

from regularizers.base import Regularizer
from regularizers.spectral import Spectral

REGULARIZERS: dict[str, type[Regularizer]] = {"spectral": Spectral}

__all__ = ["REGULARIZERS", "Regularizer", "Spectral"]
