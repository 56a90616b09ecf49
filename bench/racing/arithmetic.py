"""How much multiplying a PPO agent asks for, and how fast this machine multiplies matrices."""

import time
from itertools import pairwise
from statistics import median

import torch


def layers(inputs: int, outputs: int, hidden: tuple[int, ...]) -> list[tuple[int, int]]:
    """Inputs and outputs of each layer of actor and critic, which share none, as in SB3's policies."""
    return [pair for last in (outputs, 1) for pair in pairwise((inputs, *hidden, last))]


def products(inputs: int, outputs: int, hidden: tuple[int, ...], epochs: int) -> dict[str, float]:
    """Floating point operations of all matrix products for one environment step of PPO, a multiply-add being two.

    By kind of product: one pass forward acts; in each epoch one goes forward, and one back to the weights and to all
    layers' inputs but the first ones'. Biases, nonlinearities, losses and the optimiser, which no matrix product does,
    are left out.
    """
    found = layers(inputs, outputs, hidden)
    every = 2.0 * sum(rows * columns for rows, columns in found)
    first = 2.0 * sum(rows * columns for rows, columns in found if rows == inputs)
    return {"act": every, "forward": epochs * every, "weights": epochs * every, "inputs": epochs * (every - first)}


def product_rate(members: int, rows: int, inner: int, columns: int, device: str = "cpu", seconds: float = 0.2) -> float:
    """Floating point operations a second of `[members, rows, inner]` times `[members, inner, columns]`, float32.

    The median over calls for at least so many seconds, after one that warms up.
    """
    left, right = torch.randn(members, rows, inner, device=device), torch.randn(members, inner, columns, device=device)
    out = torch.bmm(left, right)
    # Clocks tick too coarsely for a single small product.
    repeats = max(1, round(2e7 / (members * rows * inner * columns)))
    taken: list[float] = []
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends or len(taken) < 3:
        began = _now(device)
        for _ in range(repeats):
            torch.bmm(left, right, out=out)
        taken.append((_now(device) - began) / repeats)
    return 2 * members * rows * inner * columns / median(taken)


def best_rate(device: str = "cpu") -> tuple[int, float]:
    """The size of the square matrices that this device multiplies fastest, and its rate there."""
    sizes = (256, 512, 1024, 2048) if device == "cpu" else (1024, 2048, 4096, 8192)
    rates = {size: product_rate(1, size, size, size, device) for size in sizes}
    size = max(rates, key=rates.__getitem__)
    return size, rates[size]


def limit_at_shapes(members: int, batch: int, width: int, asked: dict[str, float], device: str = "cpu") -> float:
    """Environment steps a second of all members, were there nothing but the products, each at the rate of its shape.

    Args:
        members: rows of the stacks.
        batch: samples of each member in a minibatch.
        width: of the hidden layers, whose rates stand for those of all layers.
        asked: operations by kind, from `products`.
        device: as in torch.
    """
    shapes = {
        "act": (1, width, width),
        "forward": (batch, width, width),
        "weights": (width, batch, width),
        "inputs": (batch, width, width),
    }
    rates = {shape: product_rate(members, *shape, device) for shape in set(shapes.values())}
    return 1 / sum(operations / rates[shapes[kind]] for kind, operations in asked.items())


def _now(device: str) -> float:
    """Processor time, since other programs share it; on a GPU the clock on the wall, once all is done there."""
    if torch.device(device).type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()
