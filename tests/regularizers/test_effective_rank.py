"""The differentiable effective rank against the diagnostic, finite differences and cases known beforehand."""

from typing import Any

import pytest
import torch
from torch import Tensor

from metrics.ranks import effective_rank as rank_of
from metrics.ranks import singular_values
from regularizers import EffectiveRank
from regularizers.effective_rank import effective_rank
from tests.features import Watched
from tests.models import train


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def diagnostic(features: Tensor) -> float:
    return rank_of(singular_values(features))


@pytest.mark.parametrize("shape", [(40, 7), (7, 40), (12, 12), (64, 30)])
def test_the_value_is_that_of_the_diagnostic(shape: tuple[int, int]) -> None:
    for features in (random(*shape), random(*shape).relu(), random(shape[0], 3) @ random(3, shape[1], seed=1)):
        assert float(effective_rank(features)) == pytest.approx(diagnostic(features), rel=1e-4)
        assert float(effective_rank(1e-3 * features.float())) == pytest.approx(diagnostic(features), rel=1e-3)


def test_by_hand() -> None:
    assert float(effective_rank(3 * torch.eye(5))) == pytest.approx(5, rel=1e-5)
    features = torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 0.0]])  # p = 3/4, 1/4
    assert float(effective_rank(features)) == pytest.approx((4 / 3) ** 0.75 * 4**0.25, rel=1e-5)
    assert float(effective_rank(torch.outer(torch.arange(1.0, 5.0), torch.ones(6)))) == pytest.approx(1, rel=1e-4)


def test_stacked_members_are_ranked_as_each_alone() -> None:
    stack = random(3, 9, 5)
    torch.testing.assert_close(effective_rank(stack), torch.stack([effective_rank(member) for member in stack]))


@pytest.mark.parametrize("shape", [(9, 5), (5, 9), (6, 6)])
def test_the_gradient_is_that_of_finite_differences(shape: tuple[int, int]) -> None:
    features = random(*shape).requires_grad_()
    (gradient,) = torch.autograd.grad(effective_rank(features), features)
    for row, column in ((0, 0), (2, 3), (4, 1)):
        nudge = torch.zeros(shape, dtype=torch.float64)
        nudge[row, column] = 1e-5
        with torch.no_grad():
            slope = (diagnostic(features + nudge) - diagnostic(features - nudge)) / 2e-5
        assert float(gradient[row, column]) == pytest.approx(slope, rel=1e-4, abs=1e-7)
    assert abs(float((gradient * features.detach()).sum())) < 1e-6, "the rank has no scale"


@pytest.mark.parametrize("shape", [(16, 8), (8, 16)])
def test_dead_twin_and_constant_units_leave_the_gradient_finite(shape: tuple[int, int]) -> None:
    dead, twins = random(*shape), random(*shape)
    dead[:, :3] = 0
    twins[:, 1] = twins[:, 0]
    for features in (dead, twins, torch.zeros(shape), torch.ones(shape), torch.eye(*shape), dead.float() * 1e-12):
        features = features.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(effective_rank(features), features)
        assert torch.isfinite(gradient).all()
    assert torch.autograd.grad(effective_rank(dead.requires_grad_()), dead)[0][:, :3].abs().max() < 1e-3


def test_a_step_up_the_gradient_raises_the_rank() -> None:
    features = (random(32, 4) @ random(4, 10, seed=1) + 0.05 * random(32, 10, seed=2)).requires_grad_()
    before = float(effective_rank(features).detach())
    (gradient,) = torch.autograd.grad(effective_rank(features), features)
    assert float(effective_rank(features.detach() + 1e-3 * gradient / gradient.norm())) > before


@pytest.mark.parametrize(("kind", "name"), [("ppo", "actor"), ("sac", "critic0"), ("ppo-norm", "critic")])
def test_the_penalty_is_the_mean_over_layers(kind: str, name: str) -> None:
    model = Watched(kind)
    network = model.networks[name]
    ranks = [diagnostic(h.detach()) for h in model.step(name).activations(network).values()]
    every: Any = EffectiveRank(2.0, form="loss").loss_term(network, model.step(name))
    last: Any = EffectiveRank(2.0, form="loss", layers="last").loss_term(network, model.step(name))
    assert float(every.detach()) == pytest.approx(-2 * sum(ranks) / len(ranks), rel=1e-4)
    assert float(last.detach()) == pytest.approx(-2 * ranks[-1], rel=1e-4)


def test_channels_are_units_and_positions_samples() -> None:
    model = Watched("ppo-cnn")
    shared = model.networks["shared"]
    maps = shared.body[0].cnn[:2](model.inputs("shared")[0])  # type: ignore[index, operator]
    expected = diagnostic(maps.detach().movedim(1, -1).flatten(0, -2))
    found = model.step("shared").activations(shared)[shared.hidden[0]].detach()
    assert found.shape == (8 * maps.shape[-1] * maps.shape[-2], 32)
    assert float(effective_rank(found)) == pytest.approx(expected, rel=1e-3)


def test_its_own_step_is_a_plain_gradient_step() -> None:
    model = Watched("sac")
    actor = model.networks["actor"]
    penalty = EffectiveRank(1.0, form="loss").loss_term(actor, model.step("actor"))
    assert penalty is not None
    tensors = [param.tensor for layer in actor.hidden for param in layer.params()]
    slopes = torch.autograd.grad(penalty, tensors, retain_graph=True)
    before = [tensor.detach().clone() for tensor in tensors]
    heads = [layer.weight.tensor.detach().clone() for layer in actor.layers if layer.is_head]
    erank, step = EffectiveRank(0.01), model.step("actor")
    assert list(erank.before_backward([actor], step)) == ["actor"]
    assert all(map(torch.equal, before, tensors)), "nothing happens before the optimiser has stepped"
    list(erank.after_step([actor], step, torch.Generator()))
    for tensor, old, slope in zip(tensors, before, slopes, strict=True):
        torch.testing.assert_close(tensor.detach(), old - 0.01 * slope)
    assert all(map(torch.equal, heads, [layer.weight.tensor for layer in actor.layers if layer.is_head]))
    after = [tensor.detach().clone() for tensor in tensors]
    list(erank.after_step([actor], step, torch.Generator()))
    assert all(map(torch.equal, after, tensors)), "once"


def test_it_is_applied_every_so_many_steps() -> None:
    model = Watched("ppo")
    actor, erank = model.networks["actor"], EffectiveRank(1.0, form="loss", every=3)
    applied = [erank.loss_term(actor, model.step("actor", number)) is not None for number in range(7)]
    assert applied == [True, False, False, True, False, False, True]
    assert not erank.uses("after_step")
    assert EffectiveRank().uses("after_step")


@pytest.mark.parametrize("layers", ["last", "all"])
def test_what_is_logged_of_its_own_step_is_the_penalty_with_its_strength(layers: Any) -> None:
    """As under the form loss, whose term is what is logged."""
    model = Watched("sac")
    actor = model.networks["actor"]
    ranks = [diagnostic(h.detach()) for h in model.step("actor").activations(actor).values()]
    expected = -0.25 * (ranks[-1] if layers == "last" else sum(ranks) / len(ranks))
    logged = EffectiveRank(0.25, layers=layers).before_backward([actor], model.step("actor"))
    assert {name: float(value) for name, value in logged.items()} == {"actor": pytest.approx(expected, rel=1e-4)}
    assert not logged["actor"].requires_grad
    term = EffectiveRank(0.25, layers=layers, form="loss").loss_term(actor, model.step("actor"))
    assert term is not None
    torch.testing.assert_close(logged["actor"], term.detach())
    assert EffectiveRank(0.25, every=3).before_backward([actor], model.step("actor", 1)) == {}, "no step, no point"


def test_a_run_logs_the_penalty_of_its_own_step() -> None:
    """Of two strengths that are too small to move any weight, so that the ranks are the same."""
    small, large = (train("ppo", EffectiveRank(strength, every=1))[1].penalties for strength in (1e-20, 4e-20))
    assert set(small) == {("effectiverank", "actor"), ("effectiverank", "critic")}
    for key, value in small.items():
        assert -64e-20 < float(value) <= -1e-20, "a rank is at least 1"
        assert float(large[key]) == pytest.approx(4 * float(value))
