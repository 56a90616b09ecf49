"""What interventions are shown of a gradient step, compared with an independent computation on the same minibatch."""

import itertools
from typing import Any

import pytest
import torch
from torch import nn

from agents.interventions import Intervention, Step
from agents.layers import Layer, Network
from agents.watching import Watched as Kinds
from tests.features import Watched
from tests.models import STEPS, plain_weights, train, weights


class Spy(Intervention):
    """Keeps what it is shown at each moment of the first steps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.seen: list[tuple[str, str, dict[str, Any]]] = []

    def watches(self) -> set[Kinds]:
        return {"activations", "preactivations", "gradients", "inputs", "outputs"}

    def note(self, moment: str, network: Network, step: Step) -> None:
        shown = {
            "activations": step.activations(network),
            "preactivations": step.preactivations(network),
            "inputs": step.inputs(network),
            "outputs": step.outputs(network),
            "weights": [layer.weight.tensor.detach().clone() for layer in network.layers],
            "gradients": step.gradients(network) if moment == "after" else {},
            "weight gradients": [layer.weight.tensor.grad.clone() for layer in network.layers]
            if moment == "after"
            else [],
            "again": step.run(network, step.inputs(network) or ()) if network.body else [],
        }
        self.seen.append((moment, network.name, shown))

    def before_backward(self, networks: list[Network], step: Step) -> dict[str, torch.Tensor]:
        for network in networks:
            self.note("before", network, step)
        return {}

    def after_step(self, networks: list[Network], step: Step, generator: torch.Generator) -> Any:
        for network in networks:
            self.note("after", network, step)
        return ()


def spied(kind: str) -> Spy:
    spy = Spy()
    model, _ = train(kind, spy)
    assert torch.equal(weights(model), plain_weights(kind)), "watching changes nothing"
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.policy.modules())
    return spy


@pytest.mark.parametrize("kind", [kind for kind in STEPS if "cnn" not in kind])
def test_the_forward_pass_of_the_step_is_seen(kind: str) -> None:
    """Units and outputs, recomputed from the watched inputs with the weights of that moment."""
    seen = [entry for entry in spied(kind).seen if entry[0] == "before" and entry[2]["inputs"]]
    assert seen
    assert {name for _, name, _ in seen} >= {"ppo": {"actor", "critic"}, "sac": {"actor", "critic0", "critic1"}}.get(
        kind, set()
    )
    for _, _, shown in seen:
        for again, output in zip(shown["again"], shown["outputs"], strict=True):
            torch.testing.assert_close(again, output)
        for layer, z in shown["preactivations"].items():
            assert shown["activations"][layer].shape == z.shape == (len(shown["inputs"][0]), layer.units)
            torch.testing.assert_close(layer.output(z), shown["activations"][layer])
        assert all(h.requires_grad for h in shown["activations"].values())


@pytest.mark.parametrize("kind", ["ppo-box", "sac", "td3", "dqn"])
def test_gradients_with_respect_to_activations(kind: str) -> None:
    """dL/dW of a hidden layer is the sum over the minibatch of dL/dz h', and dL/dz is dL/dh where a ReLU is active."""
    checked = 0
    for moment, _, shown in spied(kind).seen:
        if moment == "before":
            continue
        layers: list[Layer] = list(shown["activations"])
        for number, (below, above) in enumerate(itertools.pairwise(layers)):
            h, gradient = shown["activations"][below], shown["gradients"][above]
            assert not h.requires_grad
            through = gradient * (shown["activations"][above] > 0)
            expected = through.mT @ h
            actual = shown["weight gradients"][number + 1]
            scale = float(actual.norm() / expected.norm().clamp_min(1e-12))  # clipping scales all alike
            torch.testing.assert_close(actual, scale * expected, rtol=1e-3, atol=1e-6)
            assert scale <= 1.001
            assert isinstance(above.module, nn.Linear)
            checked += 1
    assert checked > 4


@pytest.mark.parametrize("kind", ["ppo-crelu", "ppo-cnn-crelu"])
def test_units_with_two_outputs_have_twice_the_samples(kind: str) -> None:
    seen = Watched(kind)
    for network in seen.networks.values():
        before = seen.watcher.read(network, "preactivations")
        for layer, h in seen.watcher.read(network, "activations").items():
            if layer.expansion == 2:
                z = before[layer]
                torch.testing.assert_close(h, torch.cat([z.relu(), (-z).relu()]))
                assert z.shape[-1] == layer.units
    assert any(layer.expansion == 2 for network in seen.networks.values() for layer in network.hidden)
