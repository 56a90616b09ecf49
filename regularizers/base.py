"""What all regularisers share: penalties, added to the loss with a strength, and projections.

A penalty on features gives its value, and autograd finds the gradient (`Regularizer`). A penalty on weights also gives
its gradient in closed form, which costs far less than to let autograd find it (`WeightPenalty`). A projection moves the
weights after a step of the optimiser (`Projection`).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

import torch
from annotated_types import Ge
from torch import Tensor

from agents.interventions import Intervention, MomentName, ResetEvent, Step
from agents.layers import Layer, Network, Param
from agents.passes import Ascends
from agents.stacking import Random

Kind = Literal["weight", "bias", "offset", "scale"]
"""What a parameter does in its layer; scale and offset are those of a normalisation."""

T = TypeVar("T")


@dataclass
class Regularizer(Intervention):
    """Base of all penalties; a regulariser implements `penalty`."""

    needs: ClassVar[Literal["layers", "hidden"]] = "layers"

    strength: Annotated[float, Ge(0)] = 0.0
    """Factor on the penalty in the loss."""

    def penalty(self, network: Network) -> Tensor:
        """The penalty of one network, a scalar that can be differentiated; without the factor `strength`."""
        raise NotImplementedError

    def stacks(self, number: int) -> float:
        """All steps: penalties are written on the last dimensions."""
        return math.inf

    def loss_term(self, network: Network, step: Step) -> Tensor | None:
        """The penalty times its strength; nothing at all for a strength of zero."""
        return self.strength * self.penalty(network) if self.strength > 0 else None


@dataclass(kw_only=True)
class Projection(Intervention):
    """Base of what moves weights back to where they are allowed to be, after every step of the optimiser.

    Target networks follow by themselves and the optimiser's statistics stay. There are no events: it would be one at
    every step.
    """

    needs = "layers"

    def project(self, networks: list[Network]) -> None:
        """Move the weights of these networks, in place."""
        raise NotImplementedError

    def stacks(self, number: int) -> float:
        """All steps: projections are written on the last dimensions."""
        return math.inf

    @torch.no_grad()
    def after_step(self, networks: list[Network], step: Step, generator: Random) -> Iterable[ResetEvent]:
        """Project the networks of the optimiser that has stepped."""
        self.project(networks)
        return ()


def kinds(layer: Layer) -> Iterator[tuple[Kind, Param]]:
    """The parameters of a layer, each with what it does there."""
    yield "weight", layer.weight
    if layer.bias:
        yield "bias", layer.bias
    for param in layer.norm:
        yield "scale" if param.name.endswith((".weight", ".scale")) else "offset", param


@dataclass(eq=False)
class Chosen:
    """The parameters of some networks that a penalty or a projection takes, those of one kind next to each other.

    Attributes:
        networks: the networks.
        by_kind: the parameters of each kind, over all networks.
        params: all of them, kind by kind, weights first.
        sizes: how many numbers each of them has, in one member of a stack.
        owners: `[networks, params]`, one where the parameter is the network's.
    """

    networks: list[Network]
    by_kind: dict[Kind, list[Param]]
    params: list[Param]
    sizes: list[int]
    owners: Tensor
    _found: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, networks: list[Network], includes: Callable[[Kind, Layer], bool]) -> "Chosen":
        """What the question `includes` is answered yes for."""
        by_kind: dict[Kind, list[Param]] = {kind: [] for kind in get_args(Kind)}
        owner: dict[Param, int] = {}
        for index, network in enumerate(networks):
            for layer in network.layers:
                for kind, param in kinds(layer):
                    if includes(kind, layer):
                        by_kind[kind].append(param)
                        owner[param] = index
        params = [param for members in by_kind.values() for param in members]
        sizes = [math.prod(param.matrix.shape[-2 if param in by_kind["weight"] else -1 :]) for param in params]
        like = networks[0].params()[0].tensor
        owners = torch.zeros(len(networks), len(params), dtype=like.dtype, device=like.device)
        for column, param in enumerate(params):
            owners[owner[param], column] = 1
        return cls(list(networks), by_kind, params, sizes, owners)

    def once(self, name: str, find: Callable[[], T]) -> T:
        """What `find` gives, found only once for these parameters."""
        if name not in self._found:
            self._found[name] = find()
        found: T = self._found[name]
        return found

    def by_network(self, terms: Tensor) -> Tensor:
        """The sums `[..., networks]` of the terms `[..., params]` of all parameters."""
        return terms @ self.owners.mT

    def by_param(self, factors: Tensor) -> Tensor:
        """For each parameter `[..., params]` what `factors` `[..., networks]` has for its network."""
        return factors @ self.owners

    def lengths(self, values: Sequence[Tensor]) -> Tensor:
        """The norms `[..., params]` of tensors like the matrices of all parameters."""
        if not self.params[0].members:
            return torch.stack(torch._foreach_norm(list(values)))
        weights = len(self.by_kind["weight"])
        norms = [torch.linalg.vector_norm(value, dim=(-2, -1)) for value in values[:weights]]
        norms += [torch.linalg.vector_norm(value, dim=-1) for value in values[weights:]]
        return torch.stack(norms, dim=-1)


def row_times(row: Tensor, matrix: Tensor) -> Tensor:
    """A vector `[..., m]` times a matrix `[..., m, n]`."""
    if row.dim() == 1:
        return torch.mv(matrix.t(), row)
    return torch.bmm(row.unsqueeze(-2), matrix).squeeze(-2)


def times_column(matrix: Tensor, column: Tensor, add: Tensor, share: float) -> Tensor:
    """A matrix `[..., m, n]` times a vector `[..., n]`, and a share of another `[..., m]`."""
    if column.dim() == 1:
        return torch.addmv(add, matrix, column, beta=share)
    # On a CPU a row times matrices takes less than half of the time that matrices times a column do.
    return row_times(column, matrix.mT).add_(add, alpha=share)


def outer(u: Tensor, v: Tensor) -> Tensor:
    """The products `[..., m, n]` of all entries of two vectors `[..., m]` and `[..., n]`."""
    return torch.outer(u, v) if u.dim() == 1 else u.unsqueeze(-1) * v.unsqueeze(-2)


def spread(values: Tensor, like: Tensor) -> Tensor:
    """Values `[...]` in a shape that broadcasts against `[..., units, fan_in]` or `[..., units]`."""
    return values.view(*values.shape, *[1] * (like.dim() - values.dim()))


class Segments:
    """Where vectors of several lengths, laid end to end, begin and end.

    Args:
        vectors: such vectors, `[..., length]`.
    """

    def __init__(self, vectors: list[Tensor]) -> None:
        self.sizes = [vector.shape[-1] for vector in vectors]
        number = torch.arange(len(vectors), device=vectors[0].device)
        self.owner = number.repeat_interleave(torch.tensor(self.sizes, device=number.device))
        self.members = (self.owner.unsqueeze(-1) == number).to(vectors[0].dtype)

    def sums(self, flat: Tensor) -> Tensor:
        """The sum of each vector's entries."""
        return flat @ self.members

    def maxima(self, flat: Tensor) -> Tensor:
        """The largest of each vector's entries, all of which are at least zero."""
        return (flat.unsqueeze(-1) * self.members).amax(dim=-2)

    def spread(self, values: Tensor) -> Tensor:
        """One value a vector, given to all of its entries."""
        return values.index_select(-1, self.owner)

    def split(self, flat: Tensor) -> list[Tensor]:
        """The vectors again, as views."""
        return list(torch.split(flat, self.sizes, dim=-1))


@dataclass
class WeightPenalty(Regularizer):
    """Base of penalties on weights alone, one term a parameter, whose gradient is known in closed form.

    A penalty says what it `includes`; `term` is its formula, and `derivatives` gives the same with gradients: for all
    networks of an optimiser at once and without a graph.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._chosen: dict[str, Chosen] = {}

    def includes(self, kind: Kind, layer: Layer) -> bool:
        """Whether the layer's parameter of this kind has a term."""
        raise NotImplementedError

    def term(self, kind: Kind, param: Param) -> Tensor:
        """The term of one parameter, as autograd can differentiate it."""
        raise NotImplementedError

    def derivatives(self, chosen: Chosen, factor: float) -> tuple[Tensor, Sequence[Tensor]]:
        """The penalties `[..., networks]`, and the gradient of `factor` times their sum to each parameter of `chosen`.

        Gradients have the shape of the parameters' matrices; they become `.grad`, so must not share memory.
        """
        raise NotImplementedError

    def penalty(self, network: Network) -> Tensor:
        """The penalty of one network, without the factor `strength`."""
        chosen = Chosen.of([network], self.includes)
        terms = [self.term(kind, param).sum() for kind, params in chosen.by_kind.items() for param in params]
        return torch.stack(terms).sum() if terms else torch.zeros(())

    def uses(self, moment: MomentName) -> bool:
        """Only the closed form, and nothing at all for a strength of zero."""
        return moment == "before_backward" and self.strength > 0

    @torch.no_grad()
    def before_backward(self, networks: list[Network], step: Step) -> Mapping[str, Tensor]:
        """Add the gradients of all terms, times the strength."""
        chosen = self.chosen(networks)
        if not chosen.params:
            return {}
        penalties, gradients = self.derivatives(chosen, self.strength)
        for param, gradient in zip(chosen.params, gradients, strict=True):
            tensor = param.tensor
            gradient = gradient.view(tensor.shape) if param.kernel else gradient
            tensor.grad = gradient if tensor.grad is None else tensor.grad.add_(gradient)
        values = (self.strength * penalties).unbind(-1)
        return dict(zip((network.name for network in networks), values, strict=True))

    def chosen(self, networks: list[Network]) -> Chosen:
        """The parameters of these networks that have a term; found once."""
        chosen = self._chosen.get(networks[0].name)
        if chosen is None or chosen.networks != networks:
            chosen = self._chosen[networks[0].name] = Chosen.of(networks, self.includes)
        return chosen

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        super().load_state_dict(state)
        self._chosen.clear()

    def remembered(self, what: str, param: Param, first: Callable[[Tensor], Tensor]) -> Tensor:
        """What `state` has of a parameter under `what.name`; where it has nothing yet, what `first` makes of it."""
        key = f"{what}.{param.name}"
        if key not in self.state:
            self.state[key] = first(param.matrix.detach()).clone()
        found: Tensor = self.state[key]
        return found


def refuse_two_passes(item: Intervention, networks: Sequence[Network]) -> None:
    """Refuse optimisers that go over each minibatch twice (SAM), for what counts on one pass a step.

    Raises:
        ValueError: there is one; a sentence.
    """
    if any(isinstance(network.optimizer, Ascends) for network in networks):
        raise ValueError(f"{type(item).__name__} needs one pass a step, and SAM takes two; choose another optimiser.")
