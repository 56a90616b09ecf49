"""Lanczos against matrices whose eigenvalues are known, and the Hessian against dense ones."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian

from agents.losses import network_loss
from agents.sb3 import read_networks, sample_batch
from metrics.base import Loss
from metrics.curvature import Hessian, hessian_product, lanczos, multiplicities
from tests.models import make


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def diagonal(values: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda vector: values * vector


def test_all_steps_find_all_eigenvalues() -> None:
    values = torch.tensor([-4.0, -1.0, 0.5, 2.0, 7.0], dtype=torch.double)
    start = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.double)
    found = lanczos(diagonal(values), start, 9)
    assert found.remaining == 0
    ritz = found.ritz()
    torch.testing.assert_close(ritz.values, values)
    torch.testing.assert_close(ritz.weights, start.square() / 55)
    torch.testing.assert_close(multiplicities(ritz, 5), torch.ones(5, dtype=torch.double))


@pytest.mark.parametrize("zero", [False, True])
def test_nodes_and_weights_give_the_moments_and_residuals_bound_the_errors(zero: bool) -> None:
    values = torch.linspace(-3, 5, 60, dtype=torch.double) ** 3
    start = torch.randn(60, generator=generator(), dtype=torch.double)
    found = lanczos(diagonal(values), start, 12)
    ritz = found.ritz_with_zero() if zero else found.ritz()
    nearest = (ritz.values.unsqueeze(1) - values).abs().min(dim=1).values
    assert bool((nearest <= ritz.residuals + 1e-9).all())
    assert float(ritz.residuals[-1]) < 1 < float(ritz.residuals.median())
    assert zero == (float(ritz.values.abs().min()) < 1e-9)
    share = start.square() / start.square().sum()
    for power in range(23):  # of degree 2k - 1 a Gauss rule is exact, of 2k - 2 one with a given node
        torch.testing.assert_close((ritz.weights * ritz.values**power).sum(), (share * values**power).sum())


def test_a_node_where_no_eigenvalue_is_has_a_residual_that_says_so() -> None:
    values = torch.linspace(5, 9, 40, dtype=torch.double)
    ritz = lanczos(diagonal(values), torch.randn(40, generator=generator(), dtype=torch.double), 6).ritz_with_zero()
    assert float(ritz.values[0]) == pytest.approx(0, abs=1e-9)
    assert float(ritz.residuals[0]) >= 5


def test_a_node_at_zero_keeps_zeros_from_being_counted_as_more() -> None:
    # Zeros between many eigenvalues to both sides: without it, two Ritz values stand beside them.
    sides = 10 ** torch.linspace(-0.5, 2, 50, dtype=torch.double)
    values = torch.cat([-sides, sides, torch.zeros(100, dtype=torch.double)])
    counts = []
    for seed in range(5):
        found = lanczos(diagonal(values), torch.randn(200, generator=generator(seed), dtype=torch.double), 20)
        both = (found.ritz(), found.ritz_with_zero())
        counts.append([float(multiplicities(ritz, 200)[ritz.values.abs() > 0.1].sum()) for ritz in both])
    plain, with_zero = np.mean(counts, axis=0)
    assert plain > 150
    assert with_zero < 100
    assert abs((plain + with_zero) / 2 - 100) < min(plain - 100, 100 - with_zero)


def test_multiple_eigenvalues_are_counted_by_weight_and_single_ones_as_one() -> None:
    values = torch.cat([torch.tensor([50.0, -20.0, 9.0]), torch.full((400,), 2.0), torch.zeros(597)]).double()
    for seed in range(5):
        ritz = lanczos(diagonal(values), torch.randn(1000, generator=generator(seed), dtype=torch.double), 30).ritz()
        assert len(ritz.values) == 5  # the space is exhausted
        counts = multiplicities(ritz, 1000)
        torch.testing.assert_close(ritz.values, torch.tensor([-20.0, 0.0, 2.0, 9.0, 50.0], dtype=torch.double))
        torch.testing.assert_close(counts[[0, 3, 4]], torch.ones(3, dtype=torch.double))
        assert float(counts[2]) == pytest.approx(400, rel=0.2)
        assert float(counts.sum()) == pytest.approx(1000)


def test_the_identity_is_exhausted_at_once() -> None:
    ritz = lanczos(diagonal(torch.full((100,), 3.0)), torch.randn(100, generator=generator()), 30).ritz()
    assert ritz.values.tolist() == pytest.approx([3.0])
    assert multiplicities(ritz, 100).tolist() == pytest.approx([100])
    found = lanczos(diagonal(torch.tensor([-1.0, 1.0] * 50)), torch.randn(100, generator=generator()), 30)
    assert found.ritz_with_zero().values.tolist() == pytest.approx([-1, 1])


def quadratic(values: Tensor) -> Loss:
    """Half the sum of `values` times squared parameters: a Hessian with these on its diagonal."""

    def of(parameters: Mapping[str, Tensor], samples: Tensor) -> Tensor:
        joined = torch.cat([parameters["a"], parameters["b"]])
        return samples * (values * joined.square()).sum() / 2

    half = len(values) // 2
    return Loss({"a": torch.ones(half), "b": torch.ones(len(values) - half)}, torch.tensor([0.5, 1.5]), of)


def test_the_values_of_a_known_hessian() -> None:
    values = torch.cat([torch.tensor([8.0, 3.0, -2.0, 0.2]), torch.linspace(-0.09, 0.09, 500)])
    found = Hessian(order=40).of(quadratic(values), generator())
    assert found["hessian_max"] == pytest.approx(8)
    assert found["hessian_min"] == pytest.approx(-2, rel=1e-4)
    assert found["hessian_rank"] == pytest.approx(4, abs=1e-3)
    assert found["hessian_trace"] == pytest.approx(
        9.2, abs=6
    )  # three times what an estimate of the small ones spreads by
    assert Hessian(order=40, epsilon=2.5).of(quadratic(values), generator())["hessian_rank"] == pytest.approx(2)


def test_probes_are_averaged_over() -> None:
    values = torch.cat([torch.tensor([8.0, -6.0]), torch.randn(600, generator=generator())])
    loss, metric = quadratic(values), Hessian(order=40, epsilon=0.5)
    one, many = (replace(metric, probes=probes).of(loss, generator()) for probes in (1, 20))
    assert many["hessian_max"] == pytest.approx(one["hessian_max"])
    assert many["hessian_rank"] == pytest.approx(int((values.abs() > 0.5).sum()), abs=12)
    # One estimate of the trace of what is not found spreads by the square root of twice the sum of squares.
    spread = math.sqrt(2 * float(values[2:].square().sum()))
    assert 1e-3 < abs(many["hessian_trace"] - float(values.sum())) < 3 * spread / math.sqrt(20)
    assert abs(one["hessian_trace"] - float(values.sum())) < 3 * spread


def net_loss(net: nn.Module, samples: int = 20) -> Loss:
    drawn = generator(1)
    inside = {"x": torch.randn(samples, 3, generator=drawn), "y": torch.randn(samples, 2, generator=drawn)}

    def of(parameters: Mapping[str, Tensor], inside: Any) -> Tensor:
        return (functional_call(net, dict(parameters), (inside["x"],)) - inside["y"]).square().sum(1)

    return Loss({name: tensor.detach() for name, tensor in net.named_parameters()}, inside, of)


def dense(loss: Loss) -> Tensor:
    """The Hessian, row by row and column by column as `torch.func` makes it."""
    blocks = hessian(loss.mean)(dict(loss.parameters))
    sizes = {name: tensor.numel() for name, tensor in loss.parameters.items()}
    rows = [torch.cat([blocks[a][b].reshape(sizes[a], sizes[b]) for b in sizes], 1) for a in sizes]
    return torch.cat(rows).double()


def check(loss: Loss, order: int) -> None:
    product, size = hessian_product(loss)
    full = dense(loss)
    vector = torch.randn(size, generator=generator(5))
    torch.testing.assert_close(
        product(vector).double(), full @ vector.double(), rtol=1e-3, atol=1e-4 * float(full.norm())
    )
    exact = torch.linalg.eigvalsh((full + full.T) / 2)
    found = Hessian(order=order, probes=4).of(loss, generator())
    assert found["hessian_max"] == pytest.approx(float(exact[-1]), rel=1e-3)
    assert found["hessian_min"] == pytest.approx(float(exact[0]), rel=0.02, abs=1e-3 * float(exact[-1]))
    rank = int((exact.abs() > 0.1).sum())
    assert found["hessian_rank"] == pytest.approx(rank, abs=max(1.5, 0.25 * rank))
    assert found["hessian_trace"] == pytest.approx(float(exact.sum()), abs=max(0.3, 0.2 * float(exact.norm())))


@pytest.mark.parametrize("nonlinearity", [nn.Tanh, nn.ReLU])
def test_a_small_networks_hessian_is_the_dense_one(nonlinearity: type[nn.Module]) -> None:
    torch.manual_seed(0)
    check(
        net_loss(nn.Sequential(nn.Linear(3, 8), nonlinearity(), nn.Linear(8, 8), nonlinearity(), nn.Linear(8, 2))), 40
    )


@pytest.mark.parametrize("kind", ["ppo", "sac", "ppo-spectral-norm"])
def test_an_agents_hessian_is_the_dense_one(kind: str) -> None:
    model: Any = make(kind)
    model.learning_starts = 100
    model.learn(64)
    batch = sample_batch(model, 64, np.random.default_rng(0), learning=True)
    assert batch is not None
    for network in read_networks(model)[:2]:  # actor and critic
        loss = network_loss(model, network, batch, generator())
        assert loss is not None
        check(loss, 60)


def test_the_first_samples_of_the_views_loss_are_measured() -> None:
    torch.manual_seed(0)
    loss = net_loss(nn.Linear(3, 2))
    view: Any = SimpleNamespace(loss=lambda network: loss, generator=lambda purpose: generator())
    network: Any = None
    found = Hessian(samples=5).measure(network, view)
    x = torch.cat([loss.samples["x"][:5], torch.ones(5, 1)], 1)  # (2/n) X'X, for each of two outputs
    exact = torch.linalg.eigvalsh(2 * x.T @ x / 5)
    assert list(found) == list(Hessian.names)
    assert found["hessian_max"] == pytest.approx(float(exact[-1]), rel=1e-4)
    assert found["hessian_min"] == pytest.approx(float(exact[0]), abs=1e-4)
    view.loss = lambda network: None
    assert Hessian().measure(network, view) == {}


def test_nothing_is_measured_where_the_loss_is_not_finite() -> None:
    loss = quadratic(torch.tensor([1.0, 2.0, math.inf, 3.0]))
    assert all(math.isnan(value) for value in Hessian().of(loss, generator()).values())
    assert all(math.isnan(value) for value in Hessian().of(quadratic(torch.full((9,), math.nan)), generator()).values())


def test_a_flat_or_linear_loss_has_no_curvature() -> None:
    expected = dict.fromkeys(Hessian.names, 0.0)
    assert Hessian().of(quadratic(torch.zeros(50)), generator()) == expected
    linear = Loss({"a": torch.ones(30)}, torch.ones(4), lambda given, x: x * given["a"].sum())
    assert Hessian().of(linear, generator()) == expected


def test_a_parameter_that_the_loss_does_not_read_adds_zeros() -> None:
    loss = Loss({"a": torch.ones(1), "b": torch.ones(99)}, torch.ones(4), lambda given, x: x * given["a"] ** 2)
    found = Hessian().of(loss, generator())
    assert found == pytest.approx({"hessian_max": 2, "hessian_min": 0, "hessian_rank": 1, "hessian_trace": 2}, abs=1e-5)


def test_measuring_leaves_the_loss_and_the_random_stream_alone() -> None:
    loss = net_loss(nn.Linear(3, 2))
    before, state = {name: tensor.clone() for name, tensor in loss.parameters.items()}, torch.get_rng_state()
    with torch.no_grad():
        first = Hessian().of(loss, generator(4))
    assert first == Hessian().of(loss, generator(4))
    assert torch.equal(state, torch.get_rng_state())
    for name, tensor in loss.parameters.items():
        assert torch.equal(tensor, before[name])
        assert tensor.grad is None
        assert not tensor.requires_grad
