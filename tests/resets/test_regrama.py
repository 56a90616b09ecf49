"""ReGraMa by hand: which units, what becomes of their weights and moments."""

from typing import Any

import pytest
import torch

from agents.interventions import Moment
from agents.layers import Layer, Network
from agents.sb3 import read_networks
from resets import ReGraMa
from tests.models import make, step_of


def trained(kind: str, name: str) -> Network:
    model = make(kind)
    model.learn(40)
    return next(network for network in read_networks(model) if network.name == name)


def step(regrama: ReGraMa, network: Network, silent: dict[Layer, dict[int, float]]) -> None:
    """A step with gradients of one, but for the rows of these units."""
    for layer in network.layers:
        grad = torch.ones_like(layer.weight.tensor)
        for unit, value in silent.get(layer, {}).items():
            grad[unit] = value
        layer.weight.tensor.grad = grad
    list(regrama.after_step([network], step_of(network), torch.Generator()))


def fire(regrama: ReGraMa, network: Network, seed: int = 0) -> dict[str, int]:
    assert network.optimizer is not None
    now = Moment(0, 0, {network.optimizer: 10**6}, switched=False, activations=lambda network: {})
    events = regrama.between_rollouts([network], now, torch.Generator().manual_seed(seed))
    return {event.part: event.count for event in events}


@pytest.mark.parametrize(
    ("kind", "name"), [("ppo", "actor"), ("sac", "critic1"), ("sac", "actor"), ("ppo-cnn", "shared")]
)
@pytest.mark.parametrize("outgoing", ["keep", "zero"])
def test_rows_columns_and_moments(kind: str, name: str, outgoing: Any) -> None:
    network = trained(kind, name)
    first, second = network.hidden[-2:]
    before = {param: param.tensor.detach().clone() for param in network.params()}
    regrama = ReGraMa(outgoing=outgoing)
    step(regrama, network, {first: {1: 0.0, 4: 0.005}, second: {2: 0.5}})
    assert fire(regrama, network, seed=3) == {first.name: 2}
    fresh = first.weight.fresh(torch.Generator().manual_seed(3)) if network.hidden[0] is first else None
    changed = (first.weight.matrix != first.weight.as_matrix(before[first.weight])).any(dim=1)
    assert changed.nonzero().flatten().tolist() == [1, 4]
    if fresh is not None:
        assert torch.equal(first.weight.tensor[[1, 4]], fresh[[1, 4]])
    for value, _ in first.weight.moments():
        assert torch.all(value[[1, 4]] == 0)
        assert torch.any(value[[0, 2, 3]] != 0)
    for consumer in first.consumers:
        old, new = before[consumer.layer.weight], consumer.layer.weight.tensor.detach()
        own, others = consumer.by_unit(new.flatten(1)), [unit for unit in range(first.units) if unit not in (1, 4)]
        assert torch.equal(own[:, others], consumer.by_unit(old.flatten(1))[:, others])
        if outgoing == "keep":
            assert torch.equal(new, old)
        else:
            assert torch.all(own[:, [1, 4]] == 0)
        for value, _ in consumer.layer.weight.moments():
            assert torch.all(consumer.by_unit(value.flatten(1))[:, [1, 4]] == 0), "moments go as in the authors' code"


def test_heads_are_never_reset() -> None:
    network = trained("ppo", "actor")
    head = network.layers[-1]
    assert head.is_head
    before = head.weight.tensor.detach().clone()
    regrama = ReGraMa(tau=0.9)
    step(regrama, network, {head: {0: 0.0}})
    assert fire(regrama, network) == {}
    assert torch.equal(head.weight.tensor, before)


@pytest.mark.parametrize(("gradients", "count"), [("all", 1), ("last", 2)])
def test_all_gradients_or_the_last_ones(gradients: Any, count: int) -> None:
    """Unit 2 never has a gradient, unit 3 had one at the first step only."""
    network = trained("ppo", "actor")
    first = network.hidden[0]
    regrama = ReGraMa(gradients=gradients)
    step(regrama, network, {first: {2: 0.0}})
    step(regrama, network, {first: {2: 0.0, 3: 0.0}})
    assert fire(regrama, network) == {first.name: count}
    assert fire(regrama, network) == {}, "nothing to judge by until the next step"


def test_no_gradient_at_all_is_no_verdict() -> None:
    network = trained("ppo", "actor")
    for param in network.params():
        param.tensor.grad = None
    regrama = ReGraMa()
    list(regrama.after_step([network], step_of(network), torch.Generator()))
    assert fire(regrama, network) == {}


def test_zero_and_step_starts_the_clock_of_the_tensor_anew() -> None:
    network = trained("ppo", "actor")
    first, second = network.hidden
    assert network.optimizer is not None
    regrama = ReGraMa(moments="zero_and_step")
    step(regrama, network, {first: {2: 0.0}})
    fire(regrama, network)
    state = network.optimizer.state
    assert [float(state[layer.weight.tensor]["step"]) for layer in (first, second)] == [0, 0]
