"""Training stacked copies of a network with the agent's optimiser: one step moves all of them.

An optimiser that treats every element by itself does to a stack of weights what it does to each copy alone, so that the
agent's own class steps all copies in one go, and all their parameters as one long row. Optimisers that look at whole
matrices or at all weights together (Muon, Kron, TRAC, UPGD, SAM) cannot be stacked: Adam stands in for them, with their
learning rate, and with betas, eps and moments of those that contain Adam.
"""

import copy
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agents.layers import Param
from metrics.trainability.copies import Copies, Weights, take
from optimizers.base import AdamBased

ELEMENTWISE = {"SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "Adadelta", "RMSprop"}
ELEMENTWISE |= {"RMSpropTFLike", "AdamBased", "UnitAdamOptimizer"}
"""Classes, of torch, SB3 and this project, that treat every element by itself."""

State = dict[str, Any]


@dataclass(eq=False)
class Segment:
    """Parameters that an optimiser treats alike: same options, same count of steps.

    Attributes:
        names: the parameters.
        options: of the optimiser's group.
        state: what the optimiser remembers of them: tensors `[elements]`, one parameter after another, and numbers.
    """

    names: list[str]
    options: dict[str, Any]
    state: State


def segments(params: dict[str, Param], optimizer: torch.optim.Optimizer) -> list[Segment]:
    """Parameters by what their optimiser has for them; as a rule they are all in one segment."""
    groups = {tensor: index for index, group in enumerate(optimizer.param_groups) for tensor in group["params"]}
    states = {name: _state(param, optimizer) for name, param in params.items()}
    alike: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for name, param in params.items():
        numbers = ((key, None if _rows(value) else float(value)) for key, value in states[name].items())
        alike[groups.get(param.tensor, 0), *numbers].append(name)
    return [
        Segment(
            names,
            _options(optimizer, optimizer.param_groups[group]),
            {
                key: torch.cat([states[name][key].flatten() for name in names]) if _rows(value) else value
                for key, value in states[names[0]].items()
            },
        )
        for (group, *_), names in alike.items()
    ]


def fit(
    copies: Copies,
    weights: Weights,
    targets: Tensor,
    batches: Tensor,
    optimizer: torch.optim.Optimizer,
    new: int,
    factor: float = 1.0,
) -> Tensor:
    """Train all copies on the same minibatches, each towards its own targets.

    Args:
        copies: what runs them.
        weights: of all copies, at the start.
        targets: `[copies, samples, outputs]`.
        batches: indices of the samples of each step `[steps, minibatch]`.
        optimizer: what trains them is like it.
        new: the first so many copies have a new optimiser, the others one that remembers what `optimizer` does.
        factor: on the learning rate.

    Returns:
        Mean squared error of each copy on all samples after training `[copies]`.
    """
    parts = segments(copies.params, optimizer)
    rows = [torch.cat([weights[name].flatten(1) for name in part.names], dim=1).requires_grad_() for part in parts]
    trained: list[tuple[slice, list[Tensor], torch.optim.Optimizer]] = []
    for share, remembers in ((slice(0, new), False), (slice(new, None), True)):
        views = [row.detach()[share] for row in rows]  # of the same memory: a step on them moves the rows
        trained.append((share, views, _like(optimizer, parts, views, factor, remembers)))
    with torch.enable_grad():
        for batch in batches:
            outputs = copies.run(weights | _unpack(rows, parts, weights), take(copies.inputs, batch))
            loss = (outputs - targets[:, batch]).square().mean(dim=(1, 2)).sum()
            gradients = torch.autograd.grad(loss, rows)
            for share, views, own in trained:
                for view, gradient in zip(views, gradients, strict=True):
                    view.grad = gradient[share]
                own.step()
    with torch.no_grad():
        outputs = copies.run(weights | _unpack(rows, parts, weights), copies.inputs)
        return (outputs - targets).square().mean(dim=(1, 2))


def _unpack(rows: list[Tensor], parts: list[Segment], like: Weights) -> Weights:
    """Rows of parameters as parameters."""
    found: Weights = {}
    for row, part in zip(rows, parts, strict=True):
        pieces = torch.split(row, [like[name][0].numel() for name in part.names], dim=1)
        found |= {name: piece.view_as(like[name]) for name, piece in zip(part.names, pieces, strict=True)}
    return found


def _like(
    optimizer: torch.optim.Optimizer, parts: list[Segment], rows: list[Tensor], factor: float, with_state: bool
) -> torch.optim.Optimizer:
    """An optimiser of the agent's kind for rows of stacked parameters, with or without what the agent's remembers."""
    kind: Any = type(optimizer) if type(optimizer).__name__ in ELEMENTWISE else torch.optim.Adam
    groups = [
        part.options | {"lr": part.options["lr"] * factor, "params": [row]}
        for part, row in zip(parts, rows, strict=True)
    ]
    made: torch.optim.Optimizer = kind(groups)
    for part, row in zip(parts, rows, strict=True):
        if with_state and part.state:
            made.state[row] = {
                key: value.expand_as(row).clone() if _rows(value) else copy.deepcopy(value)
                for key, value in part.state.items()
            }
    return made


def _state(param: Param, optimizer: torch.optim.Optimizer) -> State:
    """What can be taken over of what an optimiser remembers of a parameter."""
    state = {key: value for key, value in optimizer.state.get(param.tensor, {}).items() if value is not None}
    if type(optimizer).__name__ in ELEMENTWISE:
        return {key: value.detach().clone() if isinstance(value, Tensor) else value for key, value in state.items()}
    adam = ("exp_avg", "exp_avg_sq", "step")
    if not isinstance(optimizer, AdamBased) or not state.keys() >= set(adam):
        return {}
    return {key: state[key] for key in adam[:2]} | {"step": torch.tensor(float(state["step"]))}


def _options(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> dict[str, Any]:
    if type(optimizer).__name__ in ELEMENTWISE:
        return {key: value for key, value in group.items() if key != "params"}
    kept = ("lr", "betas", "eps") if isinstance(optimizer, AdamBased) else ("lr",)
    return {key: group[key] for key in kept}


def _rows(value: Any) -> bool:
    """Whether a part of an optimiser's state has a value for each element."""
    return isinstance(value, Tensor) and value.dim() > 0
