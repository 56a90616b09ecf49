"""Adding heads to a network in place: what plasticity injection needs of torch modules.

A network is an encoder phi and a head h_theta, the last affine layers with what stands between them. Injected, it gives

    h_theta(phi) + h_theta1(phi) - h_theta2(phi)

Nothing is swapped. Each module of the head gets a child, `perennial_injection`, with its two copies, and a forward
hook that runs them beside it on flows of their own; at the output layers the hook adds their difference, before any
squashing that follows. As children the copies belong to the policy: to its `parameters()`, `to()` and `state_dict()`,
and, since a target network is treated alike, to what Polyak averaging walks through. In the optimiser theta1 takes
theta's place.
"""

import copy
import itertools
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from agents.layers import Layer, Network, Param

CHILD = "perennial_injection"
HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)
"""Where a module keeps who listens to its passes."""

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def leaves(module: nn.Module) -> Iterator[nn.Module]:
    """The modules without children of their own, in the order in which they are registered; empty chains are none."""
    children = [child for name, child in module.named_children() if name != CHILD]
    if not children and not isinstance(module, nn.Sequential):
        yield module
    for child in children:
        yield from leaves(child)


def learner(module: nn.Module) -> nn.Module:
    """What learns in the place of a module: its copy in theta1 where it has been injected, otherwise itself."""
    added = getattr(module, CHILD, None)
    return added.learning if isinstance(added, Added) else module


def unheard_copy(modules: AnyModule, memo: dict[int, Any] | None = None) -> AnyModule:
    """A deep copy without the hooks of whoever listens to the original; those of an injected head are part of it.

    Args:
        modules: one, with all of its children.
        memo: as for `copy.deepcopy`: what stands in the copy for what, by its id; takes up what is copied.
    """
    memo = {} if memo is None else memo
    for module in modules.modules():
        memo |= {id(getattr(module, registry)): OrderedDict() for registry in HOOKS}
    twin = copy.deepcopy(modules, memo)
    for module in list(twin.modules()):
        if isinstance(added := getattr(module, CHILD, None), Added):
            module.register_forward_hook(added.follow)
    return twin


def is_injected(networks: list[Network]) -> bool:
    """Whether one of these networks has an injected head."""
    modules = (module for network in networks for module in (network.heads or network.body[-1:]))
    return any(hasattr(leaf, CHILD) for module in modules for leaf in leaves(module))


class Flow:
    """What the last forward pass has left at one module of a head, for the module that follows."""

    def __init__(self) -> None:
        self.tensors: tuple[Tensor, Tensor, Tensor] | None = None  # of theta, theta1 and theta2

    def __getstate__(self) -> dict[str, None]:
        # Tensors of a graph can neither be copied nor pickled, and no later pass has a use for them.
        return {"tensors": None}


class Added(nn.Module):
    """Two copies of one module of a head, which run beside it.

    Args:
        module: a module of the head, without children.
        previous: the one before it in the head, None for the first.
        is_output: whether it is the head's last, at which the copies' difference is added.

    Attributes:
        learning: the module's copy in theta1.
        frozen: its copy in theta2.
    """

    learning: nn.Module
    frozen: nn.Module

    def __init__(self, module: nn.Module, previous: nn.Module | None, is_output: bool) -> None:
        super().__init__()
        self.learning, self.frozen = unheard_copy(module), unheard_copy(module)
        self.source: Flow | None = None if previous is None else getattr(previous, CHILD).flow
        self.flow = Flow()
        self.is_output = is_output
        # First of all hooks, so that whoever watches the module sees the outputs of the injected network.
        module.register_forward_hook(self.follow, prepend=True)
        module.add_module(CHILD, self)

    def follow(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        """Run the copies on their own flows, which begin where the head does."""
        learning = frozen = inputs[0]
        if self.source is not None:
            if self.source.tensors is None or self.source.tensors[0] is not inputs[0]:
                raise RuntimeError("an injected head must be run from its first layer to its last in one go.")
            _, learning, frozen = self.source.tensors
        learning, frozen = self.learning(learning), self.frozen(frozen)
        if self.is_output:
            # The difference first: it is exactly zero as long as both copies are equal.
            total: Tensor = output + (learning - frozen)
            return total
        self.flow.tensors = (output, learning, frozen)
        return None


def head_chains(networks: list[Network], layers: int) -> list[list[nn.Module]]:
    """The last `layers` affine layers before each output, in order and with what stands between them.

    Raises:
        ValueError: an output has not so many layers in these networks, or they cannot be copied.
    """
    owners = {layer.module: layer for network in networks for layer in network.layers}
    chains: list[list[nn.Module]] = []
    for network in networks:
        if not any(layer.is_head for layer in network.layers):
            continue
        body = [leaf for module in network.body for leaf in leaves(module)]
        for head in network.heads or [nn.Sequential()]:
            way = [*body, *leaves(head)]
            affine = [index for index, leaf in enumerate(way) if isinstance(leaf, (nn.Linear, nn.Conv2d))]
            own = [index for index in affine if learner(way[index]) in owners]
            if len(own) < layers:
                raise ValueError(
                    f"PlasticityInjection: layers must be at most {len(own)}, the affine layers of {network.name} in "
                    f"the networks acted on, not {layers}."
                )
            chain = way[own[-layers] : affine[-1] + 1]
            _check_chain(network, chain, owners)
            chains.append(chain)
    return chains


def _check_chain(network: Network, chain: list[nn.Module], owners: dict[nn.Module, Layer]) -> None:
    affine = [owners[learner(leaf)] for leaf in chain if isinstance(leaf, (nn.Linear, nn.Conv2d))]
    for first, second in itertools.pairwise(affine):
        if all(consumer.layer is not second for consumer in first.consumers):
            raise ValueError(
                f"PlasticityInjection: the last {len(affine)} layers of {network.name} must follow one another, but "
                f"{second.name} does not read {first.name}."
            )
    for leaf in chain:
        # Three copies of a running statistic would each go their own way, and dropout would draw for each.
        buffers = [name for name, _ in leaf.named_buffers(recurse=False)]
        running = any("running" in name for name in buffers) or ("norm" in type(leaf).__name__.lower() and buffers)
        if running or isinstance(leaf, nn.modules.dropout._DropoutNd):
            raise ValueError(
                f"PlasticityInjection: the head of {network.name} must be without dropout and running statistics, "
                f"but it has a {type(leaf).__name__}."
            )


def inject(networks: list[Network], layers: int, generator: torch.Generator) -> None:
    """Give the heads of networks and of their targets fresh copies; the networks' layers become those that learn.

    Args:
        networks: all that are injected; a feature extractor that they share takes part where it is among them.
        layers: how many affine layers a head has.
        generator: where the fresh weights are drawn from, out of the layers' own initialisers.
    """
    twins = {module: twin for network in networks for module, twin in network.twins.items()}
    added: dict[nn.Module, Added] = {}
    followers: dict[nn.Module, Added] = {}
    for chain in head_chains(networks, layers):
        previous: nn.Module | None = None
        for leaf in chain:
            if leaf not in added:
                added[leaf] = Added(leaf, previous, leaf is chain[-1])
                if leaf in twins:
                    before = None if previous is None else twins[previous]
                    followers[leaf] = Added(twins[leaf], before, leaf is chain[-1])
            previous = leaf
    _hand_over(networks, added, followers, generator)


@torch.no_grad()
def _hand_over(
    networks: list[Network],
    added: dict[nn.Module, Added],
    followers: dict[nn.Module, Added],
    generator: torch.Generator,
) -> None:
    """Draw the copies, freeze what no longer learns, and let layers and optimisers speak of what does."""
    params = {param.tensor: param for network in networks for param in network.params()}
    for leaf, pair in added.items():
        follower = followers.get(leaf)
        for name, old in leaf.named_parameters(recurse=False):
            param = params[old]
            fresh = param.fresh(generator)
            for copies in (pair, follower):
                if copies is not None:
                    getattr(copies.learning, name).copy_(fresh)
                    getattr(copies.frozen, name).copy_(fresh).requires_grad_(False)
            new = getattr(pair.learning, name)
            _replace_in_optimizer(param, new)
            old.requires_grad_(False)
            old.grad = None
            param.tensor = new
            param.target = getattr(follower.learning, name) if follower is not None else None
    for layer in (layer for network in networks for layer in network.layers):
        layer.module, layer.output = learner(layer.module), learner(layer.output)


def _replace_in_optimizer(param: Param, new: Tensor) -> None:
    """Let `new` be trained in the place of a parameter, with the same options and no moments."""
    param.forget()
    for group in param.optimizer.param_groups if param.optimizer else ():
        group["params"] = [new if tensor is param.tensor else tensor for tensor in group["params"]]
