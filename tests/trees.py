"""Comparing trees strictly: every type, every bit, the order of keys."""

import struct
from typing import Any

import numpy as np
import torch


def canonical(value: Any) -> Any:
    """Something that is equal for two trees only if they are the same down to types, bits and orders."""
    kind = type(value)
    if kind is float:
        return "float", struct.pack("<d", value) if value == value else "nan"
    if kind in (list, tuple):
        return kind.__name__, [canonical(item) for item in value]
    if kind is dict:
        return "dict", [(canonical(key), canonical(item)) for key, item in value.items()]
    if kind is torch.Tensor:
        return (
            "tensor",
            value.dtype,
            tuple(value.shape),
            value.contiguous().flatten().view(torch.uint8).numpy().tobytes(),
        )
    if isinstance(value, (np.ndarray, np.generic)):
        return kind, value.dtype.str, value.shape, value.tobytes()
    return kind.__name__, value
