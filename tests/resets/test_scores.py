"""Scores of units on small numbers, and against autograd on real networks."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from agents.interventions import Intervention, ResetEvent, Step
from agents.layers import Layer, Network
from agents.sb3 import read_networks
from agents.watching import Watched, Watcher
from resets import scores
from tests.models import make, step_of, train

H = torch.tensor([[1.0, -2.0, 0.0], [3.0, 2.0, 0.0]])
"""Activations of three units on two samples."""


def test_activation() -> None:
    assert scores.activation(H).tolist() == [2, 2, 0]
    members = torch.stack([H, 2 * H])
    assert scores.activation(members).tolist() == [[2, 2, 0], [4, 4, 0]]


def test_gradient() -> None:
    assert scores.gradient(torch.tensor([[1.0, -3.0], [0.0, 0.0], [2.0, 0.0]])).tolist() == [2, 0, 1]


def test_attribution_is_what_the_loss_changes_by_to_first_order() -> None:
    slopes = torch.tensor([[1.0, 1.0, 5.0], [-1.0, 2.0, 5.0]])
    assert scores.attribution(H, slopes).tolist() == [2, 2, 0]  # |1 - 3|, |-2 + 4|, 0
    assert scores.attribution(H - H.mean(dim=0), slopes).tolist() == [2, 2, 0]  # |-1 - 1|, |-2 + 4|, 0
    assert scores.attribution(H - 1.0, slopes).tolist() == [2, 1, 10]  # |0 - 2|, |-3 + 2|, |-5 - 5|
    # A linear loss changes by exactly that when the unit becomes constant.
    loss = (slopes * H).sum()
    for unit, reference in ((0, 0.0), (1, 1.0), (2, 1.0)):
        changed = H.clone()
        changed[:, unit] = reference
        difference = ((slopes * changed).sum() - loss).abs()
        assert scores.attribution(H - reference, slopes)[unit] == difference


def test_relative_scores_have_mean_one_and_no_scale() -> None:
    score = torch.tensor([1.0, 3.0, 0.0, 4.0])
    assert scores.relative(score).tolist() == pytest.approx([0.5, 1.5, 0, 2])
    torch.testing.assert_close(scores.relative(1e3 * score), scores.relative(score))
    assert scores.relative(torch.zeros(3)).tolist() == [0, 0, 0]


def test_lowest_takes_exactly_as_many_as_asked_for() -> None:
    score = torch.tensor([[3.0, 1.0, 1.0, 2.0], [0.0, 5.0, 4.0, 0.0]])
    assert scores.lowest(score, 0).sum() == 0
    assert scores.lowest(score, 1).tolist() == [[False, True, False, False], [True, False, False, False]]
    assert scores.lowest(score, 3).tolist() == [[False, True, True, True], [True, False, True, True]]


@pytest.mark.parametrize("kind", ["ppo", "sac", "ppo-cnn", "ppo-crelu", "ppo-dict", "sac-cnn-shared", "tqc"])
def test_outgoing_is_the_mean_over_all_readers(kind: str) -> None:
    for network in read_networks(make(kind)):
        for layer in network.hidden:
            total, count = torch.zeros(layer.units), 0
            for consumer in layer.consumers:
                matrix = consumer.layer.weight.matrix.detach()
                for unit in range(layer.units):
                    columns = consumer.columns(torch.arange(layer.units) == unit)
                    total[unit] += matrix[:, columns].abs().sum()
                count += len(matrix) * int(columns.sum())
            torch.testing.assert_close(scores.outgoing([layer])[0].detach(), total / count)
        same = [layer for layer in network.hidden if layer.units == network.hidden[0].units]
        if same:
            together = scores.outgoing(same).detach()
            torch.testing.assert_close(together, torch.cat([scores.outgoing([layer]) for layer in same]).detach())


@dataclass
class Collected(Intervention):
    """Keeps the scores of every step beside what they are made of."""

    score: str = "gradient"
    found: list[tuple[Layer, Tensor, Any]] = field(default_factory=list)

    def watches(self) -> set[Watched]:
        return scores.watched(self.score)

    def after_step(self, networks: list[Network], step: Step, generator: torch.Generator) -> Iterable[ResetEvent]:
        for network in networks:
            measured = scores.of_step(self.score, network, step)
            assert list(measured) == network.hidden
            for layer, score in measured.items():
                grad = layer.weight.tensor.grad
                assert grad is not None
                slope = step.gradients(network)[layer] if self.score == "attribution" else None
                h = step.activations(network).get(layer)
                self.found.append((layer, score, (grad.clone(), slope, h)))
        return ()


@pytest.mark.parametrize("kind", ["ppo", "sac", "ppo-cnn-tiny"])
@pytest.mark.parametrize("score", ["gradient", "attribution", "activation", "contribution"])
def test_scores_of_a_step_against_their_formulas(kind: str, score: str) -> None:
    collected = Collected(score=score)
    train(kind, collected)
    assert len(collected.found) > 8
    for layer, found, (grad, slope, h) in collected.found:
        if score == "gradient":
            expected = torch.stack([row.abs().mean() for row in grad])
        elif score == "attribution":
            expected = torch.stack([(slope[:, i] * h[:, i]).sum().abs() for i in range(layer.units)])
        else:
            expected = torch.stack([h[:, i].abs().mean() for i in range(layer.units)])
        if score == "contribution":  # the weights have moved on since; only its zeros can be compared
            assert torch.equal(found == 0, expected == 0)
        else:
            torch.testing.assert_close(found, expected)
    assert any(float(found.max()) > 0 for _, found, _ in collected.found)


def test_the_gradient_by_an_activation_is_that_of_its_incoming_bias_where_the_unit_is_active() -> None:
    """An independent way to the attribution of a network's last hidden layer: through the readers' weights."""
    actor = read_networks(make("ppo"))[0]
    watcher = Watcher()
    watcher.watch(actor, {"activations", "gradients"})
    (logits,) = actor.run(torch.randn(9, 4, generator=torch.Generator().manual_seed(0)))
    (logits.square().mean()).backward()  # type: ignore[no-untyped-call]
    last, step = actor.hidden[-1], step_of(actor, watcher)
    head = last.consumers[0].layer.weight.tensor.detach()
    slopes = 2 / logits.numel() * logits.detach() @ head
    with watcher.detached():
        h = step.activations(actor)[last]
        measured = scores.of_step("attribution", actor, step)[last]
    torch.testing.assert_close(measured, (slopes * h).sum(dim=0).abs())


def test_adding_up_and_taking() -> None:
    actor = read_networks(make("ppo"))[0]
    first, second = actor.hidden
    state: dict[str, Any] = {}
    scores.add_up(state, {first: torch.ones(12)})
    scores.add_up(state, {first: torch.ones(12), second: torch.full((10,), 2.0)})
    assert {layer.name: total[0].item() for layer, total in scores.take(state, actor).items()} == {
        "actor.0": 2,
        "actor.1": 2,
    }
    assert scores.take(state, actor) == {}
