"""DASH against loops over rows and kernels."""

import math

import pytest
import torch
from torch import Tensor

from agents.interventions import Step
from agents.layers import Network, Param
from agents.sb3 import read_networks
from agents.watching import Watcher
from resets import DASH, Moment
from resets.dash import shrunk
from tests.models import make, plain_weights, train, weights


def networks_of(kind: str) -> list[Network]:
    """Networks with random weights, biases too."""
    networks = [network for network in read_networks(make(kind)) if network.layers]
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for param in (param for network in networks for param in network.params()):
            param.tensor.copy_(torch.randn(param.tensor.shape, generator=generator))
    return networks


def moment(network: Network, steps: int, switched: bool = False) -> Moment:
    assert network.optimizer is not None
    return Moment(0, 0, {network.optimizer: steps}, switched, lambda _: {})


def gather(dash: DASH, networks: list[Network], steps: int, seed: int = 0) -> list[dict[Param, Tensor]]:
    """Steps of the optimiser with random gradients; returns these."""
    generator, found = torch.Generator().manual_seed(seed), []
    for number in range(steps):
        gradients = {}
        for param in (param for network in networks for param in network.params()):
            gradients[param] = param.tensor.grad = torch.randn(param.tensor.shape, generator=generator)
        assert networks[0].optimizer is not None
        list(dash.after_step(networks, Step(networks[0].optimizer, number, Watcher()), torch.Generator()))
        found.append(gradients)
    return found


def cosine(one: Tensor, other: Tensor) -> float:
    return float(one.double() @ other.double() / (one.double().norm() * other.double().norm()))


def expected(weight: Tensor, gradient: Tensor, floor: float) -> Tensor:
    """One tensor after the update: rows, kernels or a whole bias at a time."""
    new = weight.clone()
    if weight.dim() == 1:
        return new * min(max(cosine(weight, -gradient), floor), 1.0)
    for i in range(weight.shape[0]):
        if weight.dim() == 2:
            new[i] *= min(max(cosine(weight[i], -gradient[i]), floor), 1.0)
            continue
        for j in range(weight.shape[1]):
            new[i, j] *= min(max(cosine(weight[i, j].flatten(), -gradient[i, j].flatten()), floor), 1.0)
    return new


@pytest.mark.parametrize("kind", ["ppo-norm", "ppo-cnn", "sac"])
def test_against_loops(kind: str) -> None:
    network = networks_of(kind)[0]
    dash = DASH(when="periodic", every=3, alpha=0.4, floor=0.1)
    first, second, third = gather(dash, [network], 3)
    before = {param: param.tensor.detach().clone() for param in network.params()}
    events = list(dash.between_rollouts([network], moment(network, 3), torch.Generator()))
    assert [(event.part, event.count) for event in events] == [("all", 1)]
    norms = {param for layer in network.layers for param in layer.norm}
    moved = 0
    for param, old in before.items():
        if param in norms:
            assert torch.equal(param.tensor, old)
            continue
        average = 0.4 * (third[param] + 0.6 * second[param] + 0.36 * first[param])
        torch.testing.assert_close(param.tensor.detach(), expected(old, average, 0.1), atol=1e-6, rtol=1e-4)
        moved += int((param.tensor.detach() != old).sum())
    assert moved > 100


def test_by_hand() -> None:
    weight = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 2.0], [5.0, 5.0]])
    gradient = torch.tensor([[-6.0, -8.0], [1.0, 0.0], [-3.0, -3.0], [0.0, 0.0]])
    new = shrunk(Param("w", weight, lambda old, _: old), gradient, 0.25)
    # Along the descent, against it, at 45 degrees to it, and without any.
    root = math.sqrt(2)
    torch.testing.assert_close(new, torch.tensor([[3.0, 4.0], [0.25, 0.0], [0.0, root], [1.25, 1.25]]))
    torch.testing.assert_close(shrunk(Param("w", weight, lambda old, _: old), 1e-20 * gradient, 0.25), new)


def test_stacked_members_are_as_each_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, gradient = torch.randn(2, 3, 4, generator=generator), torch.randn(2, 3, 4, generator=generator)
    whole = shrunk(Param("w", weight, lambda old, _: old), gradient, 0.2)
    for index in range(2):
        alone = shrunk(Param("w", weight[index], lambda old, _: old), gradient[index], 0.2)
        torch.testing.assert_close(whole[index], alone)


def test_heads_and_biases_can_be_left_out() -> None:
    network = networks_of("ppo")[0]
    dash = DASH(when="periodic", every=1, heads=False, biases=False)
    gather(dash, [network], 1)
    before = {param: param.tensor.detach().clone() for param in network.params()}
    list(dash.between_rollouts([network], moment(network, 1), torch.Generator()))
    for layer in network.layers:
        assert torch.equal(layer.weight.tensor, before[layer.weight]) == layer.is_head
        assert torch.equal(layer.bias.tensor, before[layer.bias])  # type: ignore[union-attr, index]


def test_after_a_switch_the_gradient_of_the_new_task_is_gathered_first() -> None:
    network = networks_of("ppo")[0]
    dash = DASH(wait=5)
    param = network.layers[0].weight

    def fires(steps: int, switched: bool = False) -> bool:
        return bool(list(dash.between_rollouts([network], moment(network, steps, switched), torch.Generator())))

    gather(dash, [network], 3)
    assert not dash.state, "before a switch nothing is gathered"
    assert not fires(3)
    assert not fires(3, switched=True)
    gradients = gather(dash, [network], 4, seed=1)
    assert not fires(7)
    average = sum(0.3 * 0.7 ** (3 - i) * gradient[param] for i, gradient in enumerate(gradients))
    torch.testing.assert_close(dash.state[f"gradient.{param.name}"], average)
    assert not fires(7, switched=True), "another switch: from the start"
    newest = gather(dash, [network], 1, seed=2)[0]
    torch.testing.assert_close(dash.state[f"gradient.{param.name}"], 0.3 * newest[param])
    assert fires(12)
    assert not dash.state
    assert not fires(13)
    gather(dash, [network], 1)
    assert not dash.state


def test_without_any_gradient_nothing_shrinks() -> None:
    network = networks_of("ppo")[0]
    before = {param: param.tensor.detach().clone() for param in network.params()}
    dash = DASH(when="periodic", every=1, unit="env_steps")
    assert not list(dash.between_rollouts([network], Moment(9, 9, {}, False, lambda _: {}), torch.Generator()))
    assert all(torch.equal(param.tensor, value) for param, value in before.items())


def test_targets_become_copies_and_moments_can_be_dropped() -> None:
    for moments in ("keep", "zero"):
        model = make("sac")
        model.learn(24)
        critic = next(network for network in read_networks(model) if network.name == "critic1")
        assert critic.optimizer is not None
        dash = DASH(when="periodic", every=1, moments=moments)  # type: ignore[arg-type]
        gather(dash, [critic], 1)
        list(dash.between_rollouts([critic], moment(critic, 1), torch.Generator()))
        for param in critic.params():
            assert torch.equal(param.tensor, param.target)  # type: ignore[arg-type]
            assert (param.tensor in critic.optimizer.state) == (moments == "keep")


@pytest.mark.parametrize("kind", ["ppo", "sac"])
def test_while_learning_it_sees_the_gradients_of_the_steps(kind: str) -> None:
    """With alpha 1 the average is the last gradient, so that every factor can be told from it."""
    seen = 0

    class Watched(DASH):
        def between_rollouts(self, networks, moment, generator):  # type: ignore[no-untyped-def]
            nonlocal seen
            for network in networks:
                for param in self.chosen(network):
                    if f"gradient.{param.name}" in self.state and param.tensor.grad is not None:
                        seen += int(torch.equal(self.state[f"gradient.{param.name}"], param.tensor.grad))
            return list(super().between_rollouts(networks, moment, generator))

    model, _ = train(kind, Watched(when="periodic", every=2, alpha=1.0))
    assert seen > 10
    assert not torch.equal(weights(model), plain_weights(kind))
