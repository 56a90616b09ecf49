"""The global random number generators: Python's, NumPy's, PyTorch's on the CPU and on every CUDA device."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from checkpoints.errors import CheckpointError
from checkpoints.tree import Tree

MERSENNE_WORDS = 624
"""Length of a Mersenne Twister's state, in words of 32 bits."""


def global_state() -> Tree:
    """Where all global generators are, a normal number that is kept for the next call included."""
    version, words, gauss = random.getstate()
    return {
        "python": {"version": version, "words": np.array(words, dtype=np.uint32), "gauss": gauss},
        "numpy": np.random.get_state(legacy=False),  # noqa: NPY002  # the global one, which SB3 draws from
        "torch": torch.get_rng_state(),
        # PyTorch has no types for the function.
        # PyTorch has no types for the function.
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],  # type: ignore[no-untyped-call]
    }


def set_global_state(tree: Tree) -> None:
    """Put all global generators where they were; CUDA devices without a state in `tree` are left alone.

    Raises:
        CheckpointError: `tree` is not what `global_state` gave, or there are fewer CUDA devices than there were; then
            no generator is changed.
    """
    try:
        python = _python_state(tree["python"])
        _check_numpy(tree["numpy"])
        # Generators of no use try each state, so that one which is refused has changed nothing.
        random.Random().setstate(python)
        np.random.RandomState().set_state(tree["numpy"])
        torch.Generator().set_state(tree["torch"])
        cuda = list(tree["cuda"])
        if len(cuda) > torch.cuda.device_count():
            raise CheckpointError(
                f"The checkpoint was written with {len(cuda)} CUDA device(s), and {torch.cuda.device_count()} are here."
            )
        for device, state in enumerate(cuda):
            torch.Generator(f"cuda:{device}").set_state(state)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise CheckpointError(f"The state of the random number generators is malformed ({error!r}).") from error
    random.setstate(python)
    np.random.set_state(tree["numpy"])  # noqa: NPY002  # as above
    torch.set_rng_state(tree["torch"])
    for device, state in enumerate(cuda):
        torch.cuda.set_rng_state(state, device)


def _python_state(tree: Mapping[str, Any]) -> tuple[Any, ...]:
    words = tree["words"]
    _check_words(words, MERSENNE_WORDS + 1)
    if not isinstance(tree["gauss"], (float, type(None))):
        raise TypeError("a kept normal number must be a float")
    return tree["version"], tuple(words.tolist()), tree["gauss"]


def _check_numpy(tree: Mapping[str, Any]) -> None:
    """NumPy itself takes any position, and would then read beyond the state; nor does it miss a kept normal number."""
    _check_words(tree["state"]["key"], MERSENNE_WORDS)
    position = tree["state"]["pos"]
    if type(position) is not int or not 0 <= position <= MERSENNE_WORDS:
        raise ValueError(f"a position of {position!r}")
    if type(tree["gauss"]) is not float or tree["has_gauss"] not in (0, 1):
        raise TypeError("a kept normal number must be a float")


def _check_words(words: Any, count: int) -> None:
    if not isinstance(words, np.ndarray) or words.dtype != np.uint32 or words.shape != (count,):
        raise TypeError(f"a state must be {count} words of 32 bits")
