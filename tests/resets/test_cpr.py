"""Calibrated partial resets against their formulas, written out unit by unit."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch

from agents.interventions import Moment, ResetEvent, Step
from agents.layers import Network
from agents.sb3 import read_networks
from resets import CPR
from tests.models import make, plain_weights, step_of, train, weights


def fire(cpr: CPR, networks: list[Network], seed: int = 0) -> list[ResetEvent]:
    optimizer = networks[0].optimizer
    assert optimizer is not None
    now = Moment(0, 0, {optimizer: 10**6}, switched=False, activations=lambda network: {})
    return list(cpr.between_rollouts(networks, now, torch.Generator().manual_seed(seed)))


SHAPES: dict[str, Callable[[float], float]] = {
    "sigmoid": lambda x: 2 / (1 + math.exp(x)),
    "exp": lambda x: math.exp(-x),
    "softplus": lambda x: math.log(1 + math.exp(-x)) / math.log(2),
    "linear": lambda x: 1 - x,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_pull_is_largest_up_to_the_threshold_and_falls_above(shape: Any) -> None:
    cpr = CPR(rate=0.2, shape=shape, sharpness=3.0, threshold=0.8)
    utilities = [0.0, 0.5, 0.8, 0.9, 1.0, 1.5, 3.0]
    expected = [0.2 * min(1.0, max(0.0, SHAPES[shape](3.0 * (u - 0.8)))) for u in utilities]
    assert cpr.strength(torch.tensor(utilities)).tolist() == pytest.approx(expected, abs=1e-6)
    assert expected[:3] == pytest.approx([0.2] * 3)
    assert expected[3] < 0.2


def test_the_average_of_relative_gradients_starts_at_one() -> None:
    actor = read_networks(make("ppo"))[0]
    first = actor.hidden[0]
    cpr, expected = CPR(decay=0.9), [1.0] * first.units
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        for param in actor.params():
            param.tensor.grad = torch.randn(param.tensor.shape, generator=generator)
        list(cpr.after_step([actor], step_of(actor), generator))
        rows = [[abs(g) for g in row] for row in first.weight.tensor.grad.tolist()]  # type: ignore[union-attr]
        size = [sum(row) / len(row) for row in rows]
        mean = sum(size) / len(size)
        expected = [0.9 * u + 0.1 * s / mean for u, s in zip(expected, size, strict=True)]
    assert cpr.state["utility.actor.0"].tolist() == pytest.approx(expected, rel=1e-5)
    assert "utility.actor.action" not in cpr.state


@pytest.mark.parametrize(("kind", "name"), [("ppo", "actor"), ("sac", "actor"), ("ppo-cnn", "shared")])
def test_rows_are_mixed_and_columns_shrunk(kind: str, name: str) -> None:
    model = make(kind)
    network = next(network for network in read_networks(model) if network.name == name)
    assert network.optimizer is not None
    cpr = CPR(rate=0.3)
    pulls = {}
    generator = torch.Generator().manual_seed(1)
    for layer in network.hidden:
        utility = cpr.state[f"utility.{layer.name}"] = 2 * torch.rand(layer.units, generator=generator)
        pulls[layer] = cpr.strength(utility)
    expected = {layer: layer.weight.matrix.detach().clone() for layer in network.layers}
    readers = {consumer.layer for layer in network.hidden for consumer in layer.consumers}
    expected |= {layer: layer.weight.matrix.detach().clone() for layer in readers}
    others = {param: param.tensor.detach().clone() for layer in network.layers for param in layer.params()[1:]}
    fresh = torch.Generator().manual_seed(7)
    for layer, pull in pulls.items():
        new = layer.weight.fresh(fresh).flatten(1)
        for unit in range(layer.units):
            p = float(pull[unit])
            expected[layer][unit] = (1 - p) * expected[layer][unit] + p * new[unit]
            for consumer in layer.consumers:
                expected[consumer.layer][:, consumer.columns(torch.arange(layer.units) == unit)] *= 1 - p
    events = fire(cpr, [network], seed=7)
    assert [(event.part, event.count) for event in events] == [(layer.name, layer.units) for layer in network.hidden]
    for layer, matrix in expected.items():
        torch.testing.assert_close(layer.weight.matrix.detach(), matrix, rtol=1e-5, atol=1e-7)
    assert all(torch.equal(param.tensor, old) for param, old in others.items()), "biases and normalisations stay"
    assert cpr.state.keys() == {f"last.{network.name}"}, "averages start anew"


def test_moments_stay() -> None:
    class Watching(CPR):
        pulled = 0

        def between_rollouts(
            self, networks: list[Network], moment: Moment, generator: torch.Generator
        ) -> Iterator[ResetEvent]:
            params = [param for network in networks for param in network.params()]
            before = [value.clone() for param in params for value, _ in param.moments()]
            events = list(super().between_rollouts(networks, moment, generator))
            after = [value for param in params for value, _ in param.moments()]
            assert all(map(torch.equal, before, after))
            self.pulled += len(events)
            yield from events

    item = Watching(every=1)
    train("ppo", item)
    assert item.pulled >= 4


@pytest.mark.parametrize("score", ["gradient", "activation", "contribution", "attribution"])
def test_other_scores_are_averaged_just_so(score: Any) -> None:
    class Watching(CPR):
        steps = 0

        def after_step(self, networks: list[Network], step: Step, generator: torch.Generator) -> Iterable[ResetEvent]:
            before = {key: value.clone() for key, value in self.state.items() if key.startswith("utility")}
            super().after_step(networks, step, generator)
            for key, old in before.items():
                now = (self.state[key] - 0.99 * old) / 0.01
                assert float(now.mean()) == pytest.approx(1, abs=1e-2), "relative to the layer"
                self.steps += 1
            return ()

    item = Watching(score=score, every=10**9)
    model, _ = train("ppo", item)
    assert item.steps >= 12
    assert torch.equal(weights(model), plain_weights("ppo"))


def test_nothing_at_a_rate_of_zero() -> None:
    assert not CPR(rate=0.0).uses("after_step")
    assert not CPR(rate=0.0).uses("between_rollouts")
