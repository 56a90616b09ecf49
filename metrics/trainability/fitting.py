"""Training stacked copies of a network with the agent's optimiser: one step moves all of them.

An optimiser that treats every element by itself does to a stack of weights what it does to each copy alone, so that the
agent's own class steps all copies in one go. Optimisers that look at whole matrices or at all weights together (Muon,
Kron, TRAC, UPGD, SAM) cannot be stacked: Adam stands in for them, with their learning rate, and with betas, eps and
moments of those that contain Adam.
"""

import copy
from typing import Any

import torch
from torch import Tensor

from agents.layers import Param
from metrics.trainability.copies import Copies, Weights, take
from optimizers.base import AdamBased

ELEMENTWISE = {"SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "Adadelta", "RMSprop"}
ELEMENTWISE |= {"RMSpropTFLike", "AdamBased", "UnitAdamOptimizer"}
"""Classes, of torch, SB3 and this project, that treat every element by itself."""


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
    trained = {name: weights[name].clone().requires_grad_() for name in copies.params}
    shares = slice(0, new), slice(new, None)
    fresh, carried = ({name: stack.detach()[share] for name, stack in trained.items()} for share in shares)
    own = stepper(optimizer, copies.params, fresh, carried, factor)
    for batch in batches:
        with torch.enable_grad():
            outputs = copies.run(weights | trained, take(copies.inputs, batch))
        # That of each copy's mean squared error; no other copy's depends on its outputs.
        slope = (outputs.detach() - targets[:, batch]) * (2 / outputs[0].numel())
        gradients = torch.autograd.grad(outputs, list(trained.values()), slope, materialize_grads=True)
        for stacks, share in zip((fresh, carried), shares, strict=True):
            for tensor, gradient in zip(stacks.values(), gradients, strict=True):
                tensor.grad = gradient[share].contiguous()  # as a fused step takes for granted
        own.step()
    with torch.no_grad():
        outputs = copies.run(weights | trained, copies.inputs)
        return (outputs - targets).square().mean(dim=(1, 2))


def stepper(
    optimizer: torch.optim.Optimizer, params: dict[str, Param], fresh: Weights, carried: Weights, factor: float = 1.0
) -> torch.optim.Optimizer:
    """An optimiser of the agent's kind that steps stacked weights in place.

    Args:
        optimizer: the agent's.
        params: the parameters that there are copies of.
        fresh: stacks of them that it remembers nothing of.
        carried: stacks of which it remembers, for each copy, what the agent's optimiser does of the parameter.
        factor: on the learning rate.
    """
    kind: Any = type(optimizer) if type(optimizer).__name__ in ELEMENTWISE else torch.optim.Adam
    groups = [_options(optimizer, group) for group in optimizer.param_groups]
    index = {tensor: index for index, group in enumerate(optimizer.param_groups) for tensor in group["params"]}
    for group in groups:
        group |= {"lr": group["lr"] * factor, "params": []}
    for name, param in params.items():
        groups[index.get(param.tensor, 0)]["params"] += [fresh[name], carried[name]]
    made: torch.optim.Optimizer = kind([group for group in groups if group["params"]])
    for name, param in params.items():
        if state := _state(param, optimizer):
            stack = carried[name]
            made.state[stack] = {key: _for_each(value, stack) for key, value in state.items()}
    return made


def _for_each(value: Any, stack: Tensor) -> Any:
    """What an optimiser remembers of a parameter, as what it remembers of a stack of copies."""
    elementwise = isinstance(value, Tensor) and value.dim() > 0
    return value.detach().expand_as(stack).clone() if elementwise else copy.deepcopy(value)


def _state(param: Param, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What can be taken over of what an optimiser remembers of a parameter."""
    state = {key: value for key, value in optimizer.state.get(param.tensor, {}).items() if value is not None}
    if type(optimizer).__name__ in ELEMENTWISE:
        return state
    adam = ("exp_avg", "exp_avg_sq", "step")
    if not isinstance(optimizer, AdamBased) or not state.keys() >= set(adam):
        return {}
    return {key: state[key] for key in adam[:2]} | {"step": torch.tensor(float(state["step"]))}


def _options(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> dict[str, Any]:
    """Those of a group that the copies' optimiser takes."""
    if type(optimizer).__name__ in ELEMENTWISE:
        options = {key: value for key, value in group.items() if key != "params"}
    else:
        kept = ("lr", "betas", "eps") if isinstance(optimizer, AdamBased) else ("lr",)
        options = {key: group[key] for key in kept} | {"fused": None}
    # On a CPU one pass over all numbers takes a tenth of the time of one for each operation.
    fusible = "fused" in options and not options.get("differentiable") and group["params"][0].device.type == "cpu"
    return options | {"fused": True, "foreach": None} if fusible else options
