"""Wasserstein regularisation: its closed form against autograd through the sorting, and by hand."""

import pytest
import torch

from agents.sb3 import read_networks
from regularizers import Wasserstein
from regularizers.wasserstein import MANY, ranking
from tests.models import make
from tests.regularizers.penalties import KINDS, check_closed_form, closed_form, learnt, move


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("heads", [True, False])
def test_the_closed_form_is_the_gradient_of_the_formula(kind: str, heads: bool) -> None:
    networks = learnt(kind)
    first, second = Wasserstein(0.3, heads=heads), Wasserstein(0.3, heads=heads)
    for network in networks:
        assert float(second.penalty(network).detach()) == 0.0
    values, _ = closed_form(first, networks)
    assert all(float(value) == 0.0 for value in values.values())
    for _ in range(2):
        move(networks, 0.1)
        check_closed_form(first, second, networks)


def test_by_hand() -> None:
    actor = next(network for network in read_networks(make("ppo")) if network.role == "actor")
    weight = actor.layers[-1].weight.tensor  # two rows of ten
    penalty = Wasserstein()
    with torch.no_grad():
        weight.copy_(torch.arange(20.0).view(2, 10))
        penalty.penalty(actor)
        weight.copy_(weight.flip(0).flip(1))
        assert float(penalty.penalty(actor)) == 0.0, "an exchange of weights costs nothing"
        weight[0, 0] += 5  # the largest: away from 19 by 5
        assert float(penalty.penalty(actor)) == pytest.approx(25)
        weight[1, 9] = 2.5  # the smallest now between 2 and 3: 1, 2, 2.5 in the places of 0, 1, 2
        assert float(penalty.penalty(actor)) == pytest.approx(25 + 1 + 1 + 0.25)


def test_ranks_that_are_kept_for_some_steps() -> None:
    networks = learnt("sac")
    kept, renewed = Wasserstein(1.0, every=3), Wasserstein(1.0)
    for number in range(7):
        values, gradients = closed_form(kept, networks, number)
        expected, exact = closed_form(renewed, networks, number)
        fresh = number % 3 == 0
        for name, value in values.items():
            assert float(value) >= float(expected[name]) - 1e-6, "old ranks can only be farther"
            assert (float(value) == float(expected[name])) == fresh
        pairs = zip(gradients, exact, strict=True)
        assert all(a is None or torch.equal(a, b) for a, b in pairs if b is not None) == fresh
        move(networks, 0.1, seed=number)


def test_normalisations_are_left_out() -> None:
    networks = learnt("ppo-norm")
    closed_form(Wasserstein(1.0), networks)
    for network in networks:
        for layer in network.layers:
            assert all(param.tensor.grad is None for param in layer.norm)
            assert layer.weight.tensor.grad is not None


@pytest.mark.parametrize("count", [7, MANY, 5000])
def test_ranks_are_those_of_a_stable_sort(count: int) -> None:
    numbers = torch.randn(3, count, generator=torch.Generator().manual_seed(0))
    numbers[1] = numbers[1].mul(10).round_().add_(0.5)  # many are equal, most of them negative or positive alike
    numbers[2, ::3] = float("inf")
    numbers[2, 1::3] = -1e-42  # too small for the usual form of a float
    assert torch.equal(ranking(numbers), torch.argsort(numbers, dim=-1, stable=True))
    assert torch.equal(ranking(numbers[:, 1:]), torch.argsort(numbers[:, 1:], dim=-1, stable=True)), "not contiguous"
