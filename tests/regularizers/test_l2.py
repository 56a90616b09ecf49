"""Decay against that of torch's own optimisers, bit for bit."""

from typing import Any, Literal

import pytest
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.sb3 import read_networks
from configs.settings import SettingError
from regularizers import L2
from tests.models import STEPS, make, step_of, train, weights


def optimizers(model: BaseAlgorithm) -> list[torch.optim.Optimizer]:
    """Those of the networks, without that of SAC's temperature."""
    found = [network.optimizer for network in read_networks(model) if network.layers]
    return [optimizer for optimizer in dict.fromkeys(found) if optimizer is not None]


@pytest.mark.parametrize("kind", ["ppo-box", "ppo-norm", "sac"])
@pytest.mark.parametrize("decay", ["coupled", "decoupled"])
def test_it_is_the_weight_decay_of_torch_bit_for_bit(kind: str, decay: Literal["coupled", "decoupled"]) -> None:
    steps = STEPS.get(kind, 128)
    ours, _ = train(kind, L2(0.05, decay=decay), steps=steps)
    reference: Any = make(kind)
    for optimizer in optimizers(reference):
        for group in optimizer.param_groups:
            group["weight_decay"], group["decoupled_weight_decay"] = 0.05, decay == "decoupled"
    reference.learn(steps)
    plain = make(kind)
    plain.learn(steps)
    assert torch.equal(weights(ours), weights(reference))
    assert not torch.equal(weights(ours), weights(plain))


def test_the_penalty_is_half_the_sum_of_squares() -> None:
    actor = next(network for network in read_networks(make("ppo-box")) if network.role == "actor")
    tensors = [param.tensor for param in actor.params()]
    assert any(param.name == "actor.log_std" for param in actor.params())
    expected = sum(0.5 * float(tensor.detach().double().square().sum()) for tensor in tensors)
    penalty = L2().penalty(actor)
    assert float(penalty.detach()) == pytest.approx(expected)
    for gradient, tensor in zip(torch.autograd.grad(penalty, tensors), tensors, strict=True):
        torch.testing.assert_close(gradient, tensor.detach())


@pytest.mark.parametrize(
    ("setting", "spared"),
    [("biases", {"bias"}), ("norms", {"norm"}), ("heads", {"head"}), ("log_std", {"log_std"})],
)
def test_what_is_spared(setting: str, spared: set[str]) -> None:
    for kind in ("ppo-norm", "ppo-box"):
        for network in read_networks(make(kind)):
            kept = set(L2().params(network)) - set(L2(**{setting: False}).params(network))
            expected = {
                param
                for layer in network.layers
                for param in layer.params()
                if ("norm" in spared and param in layer.norm)
                or ("bias" in spared and param is layer.bias)
                or ("head" in spared and layer.is_head)
            }
            assert kept == expected | (set(network.free) if "log_std" in spared else set())
            assert (
                kept or (setting, kind) in {("norms", "ppo-box"), ("log_std", "ppo-norm")} or network.role == "critic"
            )


def test_the_temperature_never_decays() -> None:
    found = [network for network in read_networks(make("sac")) if not L2().acts_on(network)]
    assert [network.role for network in found] == ["temperature"]


def test_nothing_decays_that_is_not_stepped() -> None:
    model = make("ppo")
    networks = read_networks(model)
    before = weights(model)
    for decay in ("coupled", "decoupled"):
        model.policy.optimizer.zero_grad()
        L2(1.0, decay=decay).before_step(networks, step_of(networks[0]), torch.Generator())  # type: ignore[arg-type]
    assert torch.equal(weights(model), before)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(SettingError, match="decay must be one of coupled, decoupled, not 'decouple'"):
        L2(decay="decouple")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="strength must be at least 0, not -1"):
        L2(-1.0)
