"""Parameters of several members as rows of one matrix, and the Adam that steps them all at once.

A member's parameter becomes a view of the matrix: the object that its optimiser, its policy and its interventions hold
stays the same, and so whatever changes it in place changes the row. The same holds for Adam's statistics.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

ALIGNED = 16
"""Each parameter begins at a multiple of so many numbers, 64 bytes, as tensors of their own do: matrix products on a
CPU round otherwise where their operands lie otherwise in memory."""


class Rows:
    """The parameters of all members, laid end to end, a member a row.

    Args:
        members: for each member its tensors, in the same order and of the same shapes.
        blocks: how many tensors belong together, one after another; each block is as long as the longest, so that
            tensors that come first in several blocks and have the same shapes lie at regular distances.

    Attributes:
        flat: all numbers, `[members, numbers]`, with zeros between parameters.
        stacked: for each parameter a view `[members, *shape]`.
    """

    def __init__(self, members: Sequence[Sequence[Tensor]], blocks: Sequence[int] | None = None) -> None:
        self.members = [list(tensors) for tensors in members]
        first = self.members[0]
        self.shapes = [tensor.shape for tensor in first]
        self.sizes = [math.prod(shape) for shape in self.shapes]
        self.blocks = list(blocks or [len(first)])
        self.starts, self.length = _places(self.sizes, self.blocks)
        width = self.length * len(self.blocks)
        self.flat = torch.zeros(len(self.members), width, dtype=first[0].dtype, device=first[0].device)
        self.stacked = self.views(self.flat)
        self._rows = [[stack[number] for stack in self.stacked] for number in range(len(self.members))]
        self._tensors = [tensor for tensors in self.members for tensor in tensors]
        self._places = [row.data_ptr() for rows in self._rows for row in rows]
        self.adopt()

    def views(self, flat: Tensor) -> list[Tensor]:
        """For each parameter a view `[members, *shape]` of a matrix laid out as `flat` is, or of some of its rows."""
        parts = zip(self.starts, self.sizes, self.shapes, strict=True)
        return [flat[:, start : start + size].view(len(flat), *shape) for start, size, shape in parts]

    def joint(self, flat: Tensor, number: int) -> Tensor:
        """The parameter of this number in its block, of all blocks, as a view `[members * blocks, *shape]`."""
        start, size = self.starts[number], self.sizes[number]
        blocks = flat.view(len(flat) * len(self.blocks), self.length)
        return blocks[:, start : start + size].view(len(blocks), *self.shapes[number])

    @torch.no_grad()
    def adopt(self) -> None:
        """Make every parameter that is no row yet, or no longer, the row that it should be; its numbers stay."""
        if [tensor.data_ptr() for tensor in self._tensors] == self._places:
            return
        for tensors, rows in zip(self.members, self._rows, strict=True):
            for tensor, row in zip(tensors, rows, strict=True):
                if tensor.data_ptr() != row.data_ptr():
                    row.copy_(tensor)
                    tensor.data = row

    @torch.no_grad()
    def release(self) -> None:
        """Give every parameter memory of its own again, so that saving one member does not save them all."""
        for tensors in self.members:
            for tensor in tensors:
                tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)


def _places(sizes: Sequence[int], blocks: Sequence[int]) -> tuple[list[int], int]:
    """Where each parameter begins in a row, and how long each block is."""
    aligned = [-(-size // ALIGNED) * ALIGNED for size in sizes]
    ends = [sum(blocks[: index + 1]) for index in range(len(blocks))]
    inner = [aligned[end - count : end] for end, count in zip(ends, blocks, strict=True)]
    length = max(map(sum, inner))
    starts = [index * length + sum(block[:place]) for index, block in enumerate(inner) for place in range(len(block))]
    return starts, length


def plain_adam(optimizer: torch.optim.Optimizer) -> bool:
    """Whether an optimiser is Adam without anything that `RowsAdam` does not do."""
    if type(optimizer) is not torch.optim.Adam or len(optimizer.param_groups) != 1:
        return False
    group = optimizer.param_groups[0]
    return not (group["amsgrad"] or group["maximize"] or group["weight_decay"] or group["differentiable"])


def release_statistics(optimizer: torch.optim.Optimizer) -> None:
    """Give an optimiser's statistics memory of their own again."""
    for state in optimizer.state.values():
        state.update({name: value.clone() for name, value in state.items() if isinstance(value, Tensor)})


class RowsAdam:
    """Adam on neighbouring rows at once, with the statistics of each member's own `torch.optim.Adam` as rows.

    Kingma and Ba, ICLR 2015, arXiv 1412.6980, as one fused operation while all members have taken as many steps at the
    same learning rate.

    Args:
        rows: the parameters.
        optimizers: each member's own, all `plain_adam`.
        first: number of the first row; there are as many as optimisers.
    """

    def __init__(self, rows: Rows, optimizers: Sequence[torch.optim.Optimizer], first: int = 0) -> None:
        self.rows = rows
        self.optimizers = list(optimizers)
        self.part = slice(first, first + len(self.optimizers))
        self.flat = rows.flat[self.part]
        self.members = rows.members[self.part]
        self.mean = torch.zeros_like(self.flat)
        self.square = torch.zeros_like(self.flat)
        self.steps = torch.zeros(len(self.optimizers), len(rows.shapes), device="cpu")
        self.same_steps: int | None = 0
        views = zip(rows.views(self.mean), rows.views(self.square), strict=True)
        parts = [(mean.unbind(), square.unbind()) for mean, square in views]
        self._entries = [
            [
                {"step": self.steps[number, index], "exp_avg": mean[number], "exp_avg_sq": square[number]}
                for index, (mean, square) in enumerate(parts)
            ]
            for number in range(len(self.optimizers))
        ]

    @torch.no_grad()
    def link(self) -> None:
        """Make each optimiser's statistics the rows they should be; called before rows are stepped."""
        for optimizer, tensors, entries in zip(self.optimizers, self.members, self._entries, strict=True):
            for tensor, entry in zip(tensors, entries, strict=True):
                state = optimizer.state.get(tensor)
                if state is not None and state.get("exp_avg") is entry["exp_avg"]:
                    continue
                for name, row in entry.items():
                    if state:
                        row.copy_(state[name])
                    else:
                        row.zero_()
                optimizer.state[tensor] = dict(entry)
        low, high = self.steps.aminmax()
        self.same_steps = int(low) if low == high else None

    @torch.no_grad()
    def step(self, gradient: Tensor) -> None:
        """One step of all rows with their gradients `[rows, numbers]`."""
        group = self.optimizers[0].param_groups[0]
        (beta1, beta2), eps = group["betas"], group["eps"]
        rates = [optimizer.param_groups[0]["lr"] for optimizer in self.optimizers]
        self.steps += 1
        if self.same_steps is not None and min(rates) == max(rates):
            self.same_steps += 1
            torch._fused_adam_(
                [self.flat],
                [gradient],
                [self.mean],
                [self.square],
                [],
                [torch.tensor(float(self.same_steps), device=self.flat.device)],
                lr=float(rates[0]),
                beta1=beta1,
                beta2=beta2,
                weight_decay=0.0,
                eps=eps,
                amsgrad=False,
                maximize=False,
            )
            return
        self.mean.lerp_(gradient, 1 - beta1)
        self.square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        rate = torch.tensor([[float(rate)] for rate in rates])
        # Where each entry's step count stands; between parameters any will do, since their gradients are zero.
        places = torch.bucketize(torch.arange(self.flat.shape[1]), torch.tensor(self.rows.starts), right=True) - 1
        steps = self.steps.double()
        size, root = rate / (1 - beta1**steps), (1 - beta2**steps).sqrt()
        size, root = (part.float().index_select(1, places).to(self.flat) for part in (size, root))
        self.flat.sub_(size * self.mean / self.square.sqrt().div_(root).add_(eps))
