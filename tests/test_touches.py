"""Every method keeps its hands off what it does not name: `touches` and `moments` against what really happens.

The moments of an intervention are wrapped while a model learns; the networks and the optimiser's statistics are
compared before and after each call.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, get_args, get_type_hints

import pytest
import torch
from torch import Tensor

from agents.interventions import Intervention
from agents.layers import MomentPolicy, Network, Param
from agents.plasticity import Plasticity
from configs.settings import SettingError
from regularizers import REGULARIZERS
from resets import RESETS
from tests.methods import METHODS
from tests.models import STEPS, make

KINDS = ["ppo-norm", "ppo-box", "sac"]


def parts(networks: list[Network]) -> Iterator[tuple[str, Param]]:
    """Every parameter with the part that it belongs to."""
    for network in networks:
        for param in network.inputs:
            yield "norm", param
        for layer in network.layers:
            for param in layer.params():
                part = "norm" if param in layer.norm else "heads" if layer.is_head else "hidden"
                yield part, param
        for param in network.free:
            yield "temperature" if network.role == "temperature" else "log_std", param


@dataclass
class Before:
    """Weights, targets, gradients and statistics of all parameters before an intervention is called."""

    weight: Tensor
    target: Tensor | None
    grad: Tensor | None
    moments: list[Tensor]

    @classmethod
    def of(cls, param: Param) -> "Before":
        target = None if param.target is None else param.target.detach().clone()
        grad = None if param.tensor.grad is None else param.tensor.grad.clone()
        return cls(param.tensor.detach().clone(), target, grad, [moment.clone() for moment, _ in param.moments()])


class Observed:
    """An intervention whose calls are watched while a model learns."""

    def __init__(self, item: Intervention, kind: str) -> None:
        self.item = item
        self.touched: set[str] = set()
        self.overwritten = 0
        for name in ("before_backward", "before_step", "after_step", "between_rollouts", "loss_term"):
            setattr(item, name, self.wrapped(getattr(item, name)))
        self.plasticity = Plasticity(item)
        # Terms keep their graphs here, so that one can ask which parameters they lead to.
        self.plasticity.watcher.leaves = lambda: contextlib.nullcontext({})  # type: ignore[method-assign,assignment]
        self.model = make(kind)
        self.model.learn(STEPS.get(kind, 128), callback=self.plasticity)

    def wrapped(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*arguments: Any) -> Any:
            everything = list(parts(self.plasticity.networks))
            before = [Before.of(param) for _, param in everything]
            result = method(*arguments)
            if method.__name__ == "loss_term":
                self.note_gradients(result, everything)
                return result
            result = result if method.__name__ == "before_backward" else list(result or ())
            for (part, param), old in zip(everything, before, strict=True):
                self.compare(part, param, old, moved=method.__name__ in ("after_step", "between_rollouts"))
            return result

        return call

    def note_gradients(self, term: Tensor | None, everything: list[tuple[str, Param]]) -> None:
        if term is None or not term.requires_grad:
            return
        tensors = [param.tensor for _, param in everything if param.tensor.requires_grad]
        names = [part for part, param in everything if param.tensor.requires_grad]
        gradients = torch.autograd.grad(term, tensors, retain_graph=True, allow_unused=True)
        self.touched |= {name for name, gradient in zip(names, gradients, strict=True) if gradient is not None}

    def compare(self, part: str, param: Param, old: Before, moved: bool) -> None:
        changed = param.tensor.detach() != old.weight
        gradient = param.tensor.grad
        if changed.any() or (gradient is not None and (old.grad is None or not torch.equal(gradient, old.grad))):
            self.touched.add(part)
        if param.target is not None and not torch.equal(param.target, old.target):  # type: ignore[arg-type]
            self.touched.add("targets")
        now = [moment for moment, _ in param.moments()]
        kept = len(now) == len(old.moments) and all(map(torch.equal, now, old.moments))
        if not kept:
            self.touched.add(part)
        policy = getattr(self.item, "moments", None)
        if not moved or policy not in get_args(MomentPolicy) or param.optimizer is None:
            return
        state = param.optimizer.state.get(param.tensor, {})
        now = [moment for moment, _ in param.moments()]
        if policy == "keep":
            assert len(now) == len(old.moments)
            assert all(torch.equal(*pair) for pair in zip(now, old.moments, strict=True)), (
                f"{param.name}: moments moved"
            )
        elif changed.any():
            self.overwritten += 1
            for moment, (_, start) in zip(now, param.moments(), strict=True):
                assert torch.all(moment[changed] == start), f"{param.name}: moments of new weights are old"
            if policy == "zero_and_step":
                assert not state or float(state["step"]) == 0, f"{param.name}: the step count goes on"


@pytest.mark.parametrize("name", [*RESETS, *REGULARIZERS])
def test_touches_what_it_says_and_nothing_else(name: str) -> None:
    claimed = {**RESETS, **REGULARIZERS}[name].touches
    touched: set[str] = set()
    for row in (row for row in METHODS.values() if row.name == name):
        for kind in KINDS:
            found = Observed(row.acting(), kind).touched
            assert found, "it did nothing"
            touched |= found
    assert touched == set(claimed), "what is claimed must be done by some row, and nothing else"


def with_moments() -> Iterator[tuple[str, str]]:
    """Rows whose method has a setting for the optimiser's statistics, with each of its values."""
    for row, method in METHODS.items():
        kind = type(method.acting())
        for value in get_args(get_type_hints(kind).get("moments", None)):
            if value in get_args(MomentPolicy):
                yield row, value


REFUSED = {
    ("shrink_perturb, soft", "zero"),
    ("shrink_perturb, matched", "zero"),
    ("soft_reset", "zero"),
    ("soft_reset", "zero_and_step"),
}
"""At every gradient step moments can only be kept."""


@pytest.mark.parametrize("kind", ["ppo-norm", "sac"])
@pytest.mark.parametrize(("row", "value"), [case for case in with_moments() if case not in REFUSED])
def test_moments_are_treated_as_set(kind: str, row: str, value: str) -> None:
    item: Any = replace(METHODS[row].acting(), moments=value)  # type: ignore[call-arg]
    if hasattr(item, "bias_compensation"):  # what is added to old biases leaves them old
        item = replace(item, bias_compensation=False)
    observed = Observed(item, kind)
    assert value == "keep" or observed.overwritten


@pytest.mark.parametrize(("row", "value"), sorted(REFUSED))
def test_moments_that_cannot_be_treated_so_are_refused(row: str, value: str) -> None:
    assert (row, value) in list(with_moments())
    with pytest.raises(SettingError, match=f"moments must be keep at every gradient step, not {value}$"):
        replace(METHODS[row].acting(), moments=value)  # type: ignore[call-arg]


def test_every_row_with_moments_is_tried_with_several_values() -> None:
    rows = {row for row, method in METHODS.items() if hasattr(method.acting(), "moments")}
    assert len(rows) > 15
    for value in ("keep", "zero"):
        assert {row for row, each in with_moments() if each == value} == rows
