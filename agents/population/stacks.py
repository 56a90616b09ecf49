"""The networks of neighbouring members as stacks: layers and parameters of `[members, ...]`.

A method acts on them as on one network's. They share memory with the members' own, and are no part of what trains.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from agents.layers import Layer, Network, Param
from agents.population.modules import Stacker
from agents.population.stepping import Stepper


class StackedNetworks:
    """Stacks of networks, whose parameters are leaves of graphs of their own in the rows' memory.

    Args:
        members: the networks of each member.
        steppers: what steps their parameters, all by plain Adam.

    Attributes:
        networks: the stacks.
        optimizers: for each stepper one that is never stepped: it says of stacks what the members' say of their own.
        made: for each leaf of the first member's networks its stack.
        leaves: the parameters that each stepper steps.
        places: where their gradients go.
    """

    def __init__(self, members: Sequence[list[Network]], steppers: Sequence[Stepper]) -> None:
        self.leaves: list[list[nn.Parameter]] = []
        self.places: list[list[Tensor]] = []
        self.optimizers: list[torch.optim.Optimizer] = []
        self._leaf_of: dict[Tensor, nn.Parameter] = {}
        for stepper in steppers:
            leaves = [nn.Parameter(view) for view in stepper.rows.views(stepper.rows.flat[stepper.part])]
            self._leaf_of.update(zip(stepper.members[0], leaves, strict=True))
            self.leaves.append(leaves)
            self.places.append(stepper.rows.views(stepper.gradient))
            self.optimizers.append(_shown(stepper, leaves))
        self._owners = {
            leaf: optimizer for optimizer in self.optimizers for leaf in optimizer.param_groups[0]["params"]
        }
        self._stacker = Stacker(self._leaf_of.__getitem__)
        self._layers: dict[Layer, Layer] = {}
        each = list(zip(*members, strict=True))
        for networks in each:
            for layers in zip(*(network.layers for network in networks), strict=True):
                self._layers[layers[0]] = self._layer(layers)
        for layer, stack in self._layers.items():
            stack.consumers = [replace(reader, layer=self._layers[reader.layer]) for reader in layer.consumers]
        self.networks = [self._network(networks) for networks in each]
        self.made = self._stacker.made

    def _network(self, members: Sequence[Network]) -> Network:
        first = members[0]
        return replace(
            first,
            layers=[self._layers[layer] for layer in first.layers],
            free=self._params([network.free for network in members]),
            inputs=self._params([network.inputs for network in members]),
            body=[self._stacker.chain([module]) for module in first.body],
            heads=[self._stacker.chain([module]) for module in first.heads],
            twins={},
        )

    def _layer(self, members: Sequence[Layer]) -> Layer:
        first = members[0]
        return replace(
            first,
            module=self._stacker.leaf(first.module),
            output=self._stacker.leaf(first.output),
            nonlinearity=first.nonlinearity and self._stacker.leaf(first.nonlinearity),
            weight=self._param([layer.weight for layer in members]),
            bias=first.bias and self._param([layer.bias for layer in members if layer.bias]),
            norm=self._params([layer.norm for layer in members]),
            slopes=self._params([layer.slopes for layer in members]),
            consumers=[],
            members=list(members),
        )

    def _params(self, members: Sequence[list[Param]]) -> list[Param]:
        return [self._param(params) for params in zip(*members, strict=True)]

    def _param(self, members: Sequence[Param]) -> Param:
        leaf = self._leaf_of[members[0].tensor]
        # What follows a parameter of a member, a target network's copy, follows each by itself.
        return replace(
            members[0], tensor=leaf, optimizer=self._owners[leaf], target=None, buffers=[], members=list(members)
        )


def _shown(stepper: Stepper, leaves: list[nn.Parameter]) -> torch.optim.Adam:
    """An optimiser that has the settings, and the statistics of the leaves, that the members' have."""
    adam = stepper.adam
    assert adam is not None
    group = stepper.optimizers[0].param_groups[0]
    optimizer = torch.optim.Adam(leaves, lr=group["lr"], betas=group["betas"], eps=group["eps"])
    views = zip(leaves, stepper.rows.views(adam.mean), stepper.rows.views(adam.square), strict=True)
    for number, (leaf, mean, square) in enumerate(views):
        optimizer.state[leaf] = {"step": adam.steps[:, number], "exp_avg": mean, "exp_avg_sq": square}
    return optimizer
