"""PyTorch's compiler, which a plain optimiser loads for nothing.

Some methods of `torch.optim.Optimizer` are to be left alone by `torch.compile`. At their first call they load all of
the compiler to have that arranged, which takes a quarter to a third of the time in which a population starts, whether
anything is ever compiled or not. Where the compiler is not loaded there is nothing to arrange.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch

ARRANGED = "__dynamo_disable"
"""Where PyTorch keeps, at such a method, what it calls in its place (`torch/_compile.py`)."""


def leave_unloaded() -> None:
    """Have optimisers do without the compiler until something else has loaded it; from then on all is as ever.

    Nothing happens with a PyTorch that arranges it otherwise.
    """
    for method in vars(torch.optim.Optimizer).values():
        own = getattr(method, "__wrapped__", None)
        code = getattr(method, "__code__", None)
        if own is not None and code is not None and ARRANGED in code.co_consts and not hasattr(own, ARRANGED):
            setattr(own, ARRANGED, _plainly(own, method))


def _plainly(own: Callable[..., Any], method: Callable[..., Any]) -> Callable[..., Any]:
    """A method as it is, as long as the compiler is not loaded."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if "torch._dynamo" not in sys.modules:
            return own(*args, **kwargs)
        delattr(own, ARRANGED)
        return method(*args, **kwargs)

    return call
