"""Plain networks, run for a whole stack of weights: one product of matrices for each layer of all copies.

It is what `torch.func.vmap` does for networks of any kind, with less to do around the products, which is most of the
time in small networks.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from metrics.trainability.chain import Chain

POINTWISE = (nn.Identity, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Softplus)
"""Nonlinearities that treat every number by itself and have no parameters."""


def is_plain(chain: Chain) -> bool:
    """Whether it is made of linear layers and pointwise nonlinearities alone, without hooks."""
    return all(
        type(module) in (nn.Linear, *POINTWISE) and not module._forward_hooks and not module._forward_pre_hooks
        for sequence in (chain.body, chain.heads)
        for _, module in _leaves(sequence, "")
    )


def run_plain(chain: Chain, stacks: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    """Outputs of a plain chain with each of several sets of weights, all heads side by side.

    Args:
        chain: what is run; its own weights take no part.
        stacks: for each of its parameters by name the weights `[copies, ...]`.
        inputs: the same for all copies `[samples, features]`.

    Returns:
        `[copies, samples, outputs]`.
    """
    copies = len(next(iter(stacks.values())))
    flow = _through(chain.body, "body", stacks, inputs.T.expand(copies, *inputs.T.shape))
    heads = [_through(head, f"heads.{index}", stacks, flow) for index, head in enumerate(chain.heads)]
    return torch.cat(heads or [flow], dim=1).mT


def _through(sequence: nn.Module, name: str, stacks: Mapping[str, Tensor], flow: Tensor) -> Tensor:
    """What a sequence of modules makes of `[copies, features, samples]`, a sample a column."""
    for own, module in _leaves(sequence, name):
        if isinstance(module, nn.Linear):
            weight, bias = stacks[f"{own}.weight"], stacks.get(f"{own}.bias")
            flow = weight @ flow if bias is None else torch.baddbmm(bias.unsqueeze(2), weight, flow)
        else:
            flow = module(flow)
    return flow


def _leaves(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """The modules of sequences within sequences in the order in which they run, with their names."""
    if type(module) not in (nn.Sequential, nn.ModuleList):
        yield name, module
        return
    for key, child in module.named_children():
        yield from _leaves(child, f"{name}.{key}")
