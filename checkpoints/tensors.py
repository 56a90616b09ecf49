"""Tensors as the bytes of a safetensors file, and back.

Nothing in such a file can be executed: it is a header of names, types and shapes, followed by the numbers.
"""

from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from checkpoints.errors import CheckpointError

LIMIT = 4 * 2**30
"""Bytes that one file may have."""

DTYPES = frozenset(
    {
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.bool),
        *(torch.int64, torch.int32, torch.int16, torch.int8),
        *(torch.uint64, torch.uint32, torch.uint16, torch.uint8),
    }
)
"""What the elements of a tensor may be."""


def encode(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """The safetensors file of contiguous CPU tensors that share no memory.

    Raises:
        ValueError: there is more than `LIMIT`.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if size > LIMIT * 0.99:  # names and shapes need room, too
        raise ValueError(f"tensors of {size} bytes are too many for one file; at most {LIMIT} bytes are allowed")
    return save(dict(tensors))


def decode(content: bytes, source: str) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, each in memory of its own.

    Args:
        content: the file.
        source: what errors call it.

    Raises:
        CheckpointError: it is not such a file.
    """
    try:
        tensors = load(content)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OverflowError, AssertionError) as error:
        raise CheckpointError(f"{source} is not a safetensors file of known types ({error}).") from error
    unknown = {str(tensor.dtype) for tensor in tensors.values()} - {str(dtype) for dtype in DTYPES}
    if unknown:
        raise CheckpointError(f"{source} holds tensors of {', '.join(sorted(unknown))}, which no checkpoint has.")
    return tensors
