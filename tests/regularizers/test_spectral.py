"""Spectral regularisation against singular value decompositions and numbers worked out by hand."""

from typing import Any

import pytest
import torch

from agents.layers import Param
from agents.sb3 import read_networks
from configs.settings import SettingError
from regularizers import Spectral
from tests.models import make, step_of
from tests.regularizers.penalties import KINDS, by_autograd, check_closed_form, closed_form, learnt, move


def converge(spectral: Spectral, network, steps: int = 200) -> torch.Tensor:  # type: ignore[no-untyped-def]
    """The penalty once the power iteration has had time."""
    for _ in range(steps):
        penalty = spectral.penalty(network)
    return penalty


@pytest.mark.parametrize(("kind", "k"), [("ppo", 1), ("ppo", 2), ("ppo", 3), ("sac", 3), ("ppo-cnn", 1)])
def test_the_penalty_is_that_of_the_singular_values(kind: str, k: int) -> None:
    for network in read_networks(make(kind)):
        if not network.layers:
            continue
        expected = 0.0
        for layer in network.layers:
            sigma = torch.linalg.svdvals(layer.weight.tensor.detach().flatten(1).double())[0]
            expected += float((sigma**k - 1) ** 2)
            expected += float(layer.bias.tensor.detach().double().norm() ** k) ** 2  # type: ignore[union-attr]
        penalty = converge(Spectral(k=k), network).detach()
        assert float(penalty) == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [{}, {"k": 1, "target": "initial"}, {"k": 3, "heads": False}])
def test_the_closed_form_is_the_gradient_of_the_formula(kind: str, settings: dict[str, Any]) -> None:
    networks = learnt(kind)
    first, second = Spectral(0.3, **settings), Spectral(0.3, **settings)
    for _ in range(3):  # the same power iterations, on weights that move
        check_closed_form(first, second, networks)
        move(networks, 0.03)
    for key, value in second.state.items():
        torch.testing.assert_close(first.state[key], value, rtol=1e-4, atol=1e-4)


def test_the_closed_form_adds_to_gradients_that_are_there() -> None:
    networks = learnt("sac")
    _, alone = closed_form(Spectral(0.3), networks)
    for network in networks:
        for param in network.params():
            param.tensor.grad = torch.ones_like(param.tensor)
    Spectral(0.3).before_backward(networks, step_of(networks[0]))
    added = [param.tensor.grad for network in networks for param in network.params()]
    for sum_, gradient in zip(added, alone, strict=True):
        torch.testing.assert_close(sum_, 1 + gradient)  # type: ignore[operator]


def test_largest_entries_of_a_scale_share_the_gradient() -> None:
    networks = learnt("ppo-norm")
    scale = networks[-1].layers[0].norm[0]
    with torch.no_grad():
        scale.tensor.clamp_(-0.9, 0.9)
        scale.tensor[[1, 4]] = torch.tensor([1.5, -1.5])
    closed_form(Spectral(1.0), networks)
    expected = torch.zeros(12)
    expected[[1, 4]] = torch.tensor([1.0, -1.0]) * 4 * 1.5 * (1.5**2 - 1) / 2
    torch.testing.assert_close(scale.tensor.grad, expected)


def test_by_hand() -> None:
    network = read_networks(make("ppo"))[0]
    first, second, head = network.layers
    with torch.no_grad():
        for param in network.params():
            param.tensor.zero_()
        first.weight.tensor[0, 0], first.weight.tensor[1, 1] = 3.0, 2.0  # sigma 3: (9 - 1)^2 = 64
        second.weight.tensor[0, 0] = 0.5  # (1/4 - 1)^2 = 0.5625
        second.bias.tensor[:2] = torch.tensor([1.0, 2.0])  # type: ignore[union-attr]  # (1 + 4)^2 = 25
        head.weight.tensor[0, 0] = 1.0  # 0
    assert float(converge(Spectral(), network).detach()) == pytest.approx(64 + 0.5625 + 25)
    assert float(converge(Spectral(heads=False), network).detach()) == pytest.approx(64 + 0.5625 + 25)
    with torch.no_grad():
        head.weight.tensor[0, 0] = 2.0  # (4 - 1)^2 = 9
    assert float(converge(Spectral(), network).detach()) == pytest.approx(64 + 0.5625 + 25 + 9)
    assert float(converge(Spectral(heads=False), network).detach()) == pytest.approx(64 + 0.5625 + 25)


def test_the_gradient_is_along_the_leading_singular_vectors() -> None:
    network = read_networks(make("sac"))[0]
    spectral = Spectral()
    penalty = converge(spectral, network)
    gradients = torch.autograd.grad(penalty, [layer.weight.tensor for layer in network.layers])
    for layer, gradient in zip(network.layers, gradients, strict=True):
        u, sigma, vt = torch.linalg.svd(layer.weight.tensor.detach())
        expected = 4 * sigma[0] * (sigma[0] ** 2 - 1) * torch.outer(u[:, 0], vt[0])
        torch.testing.assert_close(gradient, expected, rtol=2e-3, atol=1e-5)


def test_one_iteration_a_step_follows_weights_that_move() -> None:
    model = make("sac")
    network = read_networks(model)[0]
    spectral = Spectral()
    converge(spectral, network)
    generator = torch.Generator().manual_seed(0)
    layer = network.layers[1]
    for _ in range(100):
        with torch.no_grad():
            layer.weight.tensor += 1e-3 * torch.randn(layer.weight.tensor.shape, generator=generator)
        sigma = spectral.largest_singular_value(layer.weight)
    exact = torch.linalg.svdvals(layer.weight.tensor.detach())[0]
    assert float(sigma.detach()) == pytest.approx(float(exact), rel=2e-2)


def test_initial_target_starts_without_a_penalty_on_weights() -> None:
    network = read_networks(make("ppo"))[0]
    spectral = Spectral(target="initial")
    assert float(spectral.penalty(network).detach()) == pytest.approx(0.0, abs=1e-9)  # biases of PPO are born zero
    with torch.no_grad():
        network.layers[2].weight.tensor.mul_(2)
    grown = ((2 * 0.01) ** 2 - 0.01**2) ** 2
    assert float(spectral.penalty(network).detach()) == pytest.approx(grown, rel=1e-3)


def test_normalisation_is_drawn_to_the_identity() -> None:
    network = read_networks(make("ppo-norm"))[0]
    norm = network.layers[0].norm
    spectral = Spectral(heads=False)
    before = float(converge(spectral, network).detach())
    with torch.no_grad():
        norm[0].tensor[3] = -2.0  # ((2)^2 - 1)^2 = 9
        norm[1].tensor[:2] = 1.0  # (1 + 1)^2 = 4
    assert float(converge(spectral, network).detach()) - before == pytest.approx(13, rel=1e-5)


@pytest.mark.parametrize("closed", [False, True])
def test_a_matrix_that_was_zero_for_a_while_is_seen_again(closed: bool) -> None:
    networks = learnt("sac")[:1]
    weight, spectral = networks[0].layers[1].weight, Spectral(1.0, heads=False)
    kept = weight.tensor.detach().clone()

    def step() -> None:
        if closed:
            closed_form(spectral, networks)
        else:
            by_autograd(spectral, networks)

    step()
    with torch.no_grad():
        weight.tensor.zero_()
    for _ in range(30):
        step()
    if closed:
        assert weight.tensor.grad is not None
        assert not weight.tensor.grad.any()
    assert float(spectral.state[f"u.{weight.name}"].norm()) == pytest.approx(1)
    with torch.no_grad():
        weight.tensor.copy_(kept)
    for _ in range(100):
        step()
    sigma = spectral.largest_singular_value(weight)
    assert float(sigma.detach()) == pytest.approx(float(torch.linalg.svdvals(kept)[0]), rel=1e-4)


def test_stacked_members_are_penalised_as_each_alone() -> None:
    stack = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))

    def sigma(tensor: torch.Tensor) -> torch.Tensor:
        spectral, param = Spectral(), Param("w", tensor, lambda old, _: old)
        for _ in range(100):
            found = spectral.largest_singular_value(param)
        return found

    torch.testing.assert_close(sigma(stack), torch.stack([sigma(member) for member in stack]))
    torch.testing.assert_close(sigma(stack), torch.linalg.svdvals(stack)[:, 0])


def test_bad_settings_are_refused() -> None:
    with pytest.raises(SettingError, match="strength must be at least 0, not -1"):
        Spectral(-1.0)
    with pytest.raises(SettingError, match="target must be one of one, initial, not 'two'"):
        Spectral(target="two")  # type: ignore[arg-type]
