"""Gradients of single samples against a loop of backward passes."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from metrics.base import Loss
from metrics.gradients.per_sample import count, fewer, most_samples, sample_gradients


def loss_of(net: nn.Module, *inputs: int, samples: int = 9) -> Loss:
    """Squared errors, each with a weight that comes from a dictionary of its own."""
    drawn = torch.Generator().manual_seed(1)
    inside = {
        "weights": {"of": torch.rand(samples, generator=drawn)},
        "x": torch.randn(samples, *inputs, generator=drawn),
        "y": torch.randn(samples, 2, generator=drawn),
    }

    def of(parameters: Mapping[str, Tensor], inside: Any) -> Tensor:
        error = functional_call(net, dict(parameters), (inside["x"],)) - inside["y"]
        return inside["weights"]["of"] * error.square().sum(1)

    return Loss({name: tensor.detach() for name, tensor in net.named_parameters()}, inside, of)


NETS = {
    "linear layers": (lambda: nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)), (3,)),
    "a convolution": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)),
        (1, 6, 6),
    ),
    "normalisation": (lambda: nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 2)), (3,)),
}


@pytest.mark.parametrize("chunk", [None, 1, 4])
@pytest.mark.parametrize("kind", NETS)
def test_rows_are_those_of_one_backward_pass_a_sample(kind: str, chunk: int | None) -> None:
    torch.manual_seed(0)
    make, inputs = NETS[kind]
    net = make()
    loss = loss_of(net, *inputs)
    rows = []
    for index in range(9):
        net.zero_grad()
        part = {key: loss.samples[key][[index]] for key in ("x", "y")}
        part["weights"] = {"of": loss.samples["weights"]["of"][[index]]}
        loss.of(dict(net.named_parameters()), part).sum().backward()
        rows.append(torch.cat([parameter.grad.flatten() for parameter in net.parameters()]))  # type: ignore[union-attr]
    found = sample_gradients(loss, chunk)
    torch.testing.assert_close(found, torch.stack(rows), rtol=1e-4, atol=1e-6)
    assert not found.requires_grad


def test_columns_are_in_the_order_of_the_losses_parameters() -> None:
    # Loss a x + b^2 y of two parameters: gradients x and 2 b y.
    samples = {"x": torch.tensor([1.0, 2.0]), "y": torch.tensor([3.0, 4.0])}

    def of(parameters: Mapping[str, Tensor], samples: Any) -> Tensor:
        total: Tensor = parameters["a"] * samples["x"] + parameters["b"] ** 2 * samples["y"]
        return total

    loss = Loss({"b": torch.tensor([5.0]), "a": torch.tensor([7.0])}, samples, of)
    torch.testing.assert_close(sample_gradients(loss), torch.tensor([[30.0, 1.0], [40.0, 2.0]]))


def test_a_parameter_that_the_loss_does_not_read_has_a_gradient_of_zero() -> None:
    loss = Loss({"a": torch.ones(2), "b": torch.ones(1)}, torch.ones(3), lambda given, x: given["b"] * x)
    torch.testing.assert_close(sample_gradients(loss), torch.tensor([[0.0, 0.0, 1.0]]).expand(3, 3))


def test_fewer_samples_are_the_first_ones() -> None:
    loss = loss_of(nn.Linear(3, 2), 3)
    few = fewer(loss, 4)
    assert (count(loss), count(few), count(fewer(loss, 100))) == (9, 4, 9)
    torch.testing.assert_close(sample_gradients(few), sample_gradients(loss)[:4])


def test_samples_that_fit_into_memory_are_counted_by_bytes() -> None:
    loss = loss_of(nn.Linear(3, 2), 3)  # 8 parameters of 4 bytes
    assert (most_samples(loss, 320), most_samples(loss, 319), most_samples(loss, 1)) == (10, 9, 1)


def test_gradients_come_also_where_nobody_tracks_any() -> None:
    loss = loss_of(nn.Linear(3, 2), 3)
    with torch.no_grad():
        found = sample_gradients(loss)
    torch.testing.assert_close(found, sample_gradients(loss))
    assert bool(found.abs().sum() > 0)
