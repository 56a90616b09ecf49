"""Interpolate: functionally equivalent permutations, and mixtures with them."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from agents.layers import Layer, Network
from agents.sb3 import Batch, activations, forward, read_networks, sample_batch
from configs.settings import SettingError
from resets import Interpolate, Moment
from tests.models import make, train

KINDS = {
    **{"ppo": 64, "ppo-norm": 64, "ppo-cnn": 16, "ppo-cnn-separate": 16, "ppo-dict": 16},
    **{"sac": 32, "sac-cnn": 32, "sac-cnn-shared": 32, "td3": 32, "dqn": 40, "tqc": 32},
    **{"ppo-crelu-layernorm": 64, "ppo-adaptive": 64, "ppo-cnn-crelu": 16, "ppo-dict-fourier": 16, "td3-smooth": 32},
}


def batch_of(model: BaseAlgorithm, seed: int) -> Batch:
    """Observations and actions that the model has met; made-up ones where they are dictionaries."""
    space = model.observation_space
    if isinstance(space, spaces.Dict):
        space.seed(seed)
        made_up = {key: np.stack([space[key].sample() for _ in range(32)]) for key in space}
        return Batch(model.policy.obs_to_tensor(made_up)[0], None)
    batch = sample_batch(model, 32, np.random.default_rng(seed))
    assert batch is not None
    return batch


def moment_of(model: BaseAlgorithm) -> Moment:
    """A switch, with activations of the model's own observations."""
    batch = batch_of(model, 0)
    return Moment(0, 1, {}, switched=True, activations=lambda network: activations(model, network.hidden, batch))


def outputs(model: BaseAlgorithm) -> dict[str, Tensor]:
    """What all heads, and those of the target networks, give on a fixed batch."""
    batch = batch_of(model, 1)
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: Any, inputs: Any, output: Tensor) -> None:
            found[name] = output.detach().clone()

        return hook

    heads = [layer for network in read_networks(model) for layer in network.layers if layer.is_head]
    handles = [layer.module.register_forward_hook(keep(layer.name)) for layer in heads]
    forward(model, batch)
    for handle in handles:
        handle.remove()
    policy: Any = model.policy
    with torch.no_grad():
        if hasattr(policy, "critic_target"):
            found["targets"] = torch.cat(tuple(policy.critic_target(batch.observations, batch.actions)), dim=-1)
        if hasattr(policy, "actor_target"):
            found["actor target"] = policy.actor_target(batch.observations)
        if hasattr(policy, "q_net_target"):
            found["targets"] = policy.q_net_target(batch.observations)
    return found


def fire(reset: Interpolate, model: BaseAlgorithm, seed: int = 0) -> list[Network]:
    """Let it act once on all networks of a model."""
    networks = [network for network in read_networks(model) if reset.acts_on(network)]
    list(reset.between_rollouts(networks, moment_of(model), torch.Generator().manual_seed(seed)))
    return networks


@pytest.mark.parametrize("kind", KINDS)
def test_a_permutation_leaves_every_function_as_it_is(kind: str) -> None:
    model = make(kind)
    model.learn(KINDS[kind])
    networks = read_networks(model)
    hidden = [layer for network in networks for layer in network.hidden]
    before = outputs(model)
    old = {param: param.tensor.detach().clone() for network in networks for param in network.params()}
    reset = Interpolate(when="switch", alpha=1.0, fraction=0.6)
    fire(reset, model)
    after = outputs(model)
    assert len(before) >= 2 or kind == "dqn"
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-5, rtol=1e-4)
    for layer in hidden:
        moved = (layer.weight.matrix.detach() != old[layer.weight].view_as(layer.weight.matrix)).any(dim=-1)
        assert int(moved.sum()) >= reset.count(layer.units), layer.name
        for param in layer.norm:
            assert not torch.equal(param.tensor, old[param]), param.name


@pytest.mark.parametrize("kind", ["ppo", "sac"])
def test_with_alpha_one_learning_goes_on_as_if_nothing_had_happened(kind: str) -> None:
    """Moments and targets move with the weights, so that all later steps are the same but for the order of sums."""
    steps = {"ppo": 192, "sac": 60}[kind]
    plain, _ = train(kind, steps=steps)
    model, _ = train(kind, Interpolate(alpha=1.0, fraction=0.9, every=1), steps=steps)
    first = read_networks(plain)[0].layers[0].weight.tensor
    assert not torch.allclose(first, read_networks(model)[0].layers[0].weight.tensor, atol=1e-3)
    for name, value in outputs(plain).items():
        torch.testing.assert_close(outputs(model)[name], value, atol=2e-3, rtol=1e-2)


def matrices(layers: list[Layer], orders: dict[Layer, Tensor]) -> dict[Layer, Tensor]:
    """Permutation matrices P of the layers, with P h the units in their new order."""
    return {layer: torch.eye(layer.units)[orders[layer]] for layer in layers if layer in orders}


@pytest.mark.parametrize("alpha", [0.3, 0.5, 1.0])
def test_against_permutation_matrices(alpha: float) -> None:
    model = make("sac")
    model.learn(32)
    actor = read_networks(model)[0]
    first, second = actor.hidden
    mu, log_std = actor.layers[2:]
    reset = Interpolate(when="switch", alpha=alpha, fraction=0.5)
    orders = reset.orders(actor, moment_of(model), torch.Generator().manual_seed(4))
    p = matrices(actor.layers, orders)
    statistics = {
        layer: [value.clone() for value, _ in layer.weight.moments()]
        for layer in actor.layers
        if layer.weight.optimizer
    }
    wanted: dict[Layer, Callable[[Tensor], Tensor]] = {
        first: lambda w: p[first] @ w,
        second: lambda w: p[second] @ w @ p[first].T,
        mu: lambda w: w @ p[second].T,
        log_std: lambda w: w @ p[second].T,
    }
    old = {layer: (layer.weight.tensor.detach().clone(), layer.bias.tensor.detach().clone()) for layer in wanted}  # type: ignore[union-attr]
    list(reset.between_rollouts([actor], moment_of(model), torch.Generator().manual_seed(4)))
    for layer, permuted in wanted.items():
        weight, bias = old[layer]
        torch.testing.assert_close(layer.weight.tensor.detach(), (1 - alpha) * weight + alpha * permuted(weight))
        own = p[layer] @ bias if layer in p else bias
        torch.testing.assert_close(layer.bias.tensor.detach(), (1 - alpha) * bias + alpha * own)  # type: ignore[union-attr]
        for (value, _), before in zip(layer.weight.moments(), statistics[layer], strict=True):
            torch.testing.assert_close(value, (1 - alpha) * before + alpha * permuted(before))


def test_channels_move_as_blocks_of_what_reads_them() -> None:
    model = make("ppo-cnn")
    model.learn(16)
    shared, actor, critic = read_networks(model)
    third, flat = shared.hidden[2:]
    reset = Interpolate(when="switch", alpha=0.25, fraction=0.5)
    orders = reset.orders(shared, moment_of(model), torch.Generator().manual_seed(1))
    old = flat.weight.tensor.detach().clone()
    heads = [network.layers[0].weight for network in (actor, critic)]
    before = [head.tensor.detach().clone() for head in heads]
    list(reset.between_rollouts([shared], moment_of(model), torch.Generator().manual_seed(1)))
    block = old.shape[1] // third.units
    new = torch.zeros_like(old)
    for row in range(flat.units):
        for unit in range(third.units):
            source = int(orders[third][unit])
            new[row, unit * block : (unit + 1) * block] = old[orders[flat][row], source * block : (source + 1) * block]
    torch.testing.assert_close(flat.weight.tensor.detach(), 0.75 * old + 0.25 * new)
    for head, weight in zip(heads, before, strict=True):
        torch.testing.assert_close(head.tensor.detach(), 0.75 * weight + 0.25 * weight[:, orders[flat]])


def test_one_odd_cycle_through_the_chosen_units() -> None:
    model = make("ppo")
    model.learn(64)
    actor = read_networks(model)[0]
    moment = moment_of(model)
    for which in ("active", "dormant", "random"):
        reset = Interpolate(which=which, fraction=0.5, when="switch")  # type: ignore[arg-type]
        for layer, order in reset.orders(actor, moment, torch.Generator().manual_seed(2)).items():
            moved = (order != torch.arange(layer.units)).nonzero().squeeze(-1)
            assert len(moved) == reset.count(layer.units) == 5, "of 12 and of 10 units"
            unit, seen = int(moved[0]), []
            while unit not in seen:
                seen.append(unit)
                unit = int(order[unit])
            assert sorted(seen) == moved.tolist(), "one cycle"
            score = moment.activations(actor)[layer].abs().mean(dim=0)
            ranked = score.argsort(descending=which == "active").tolist()
            assert which == "random" or set(ranked[:5]) == set(seen)


def test_contribution_weighs_activity_by_outgoing_weights() -> None:
    actor = read_networks(make("sac"))[0]
    second = actor.hidden[1]
    h = torch.rand(20, second.units, generator=torch.Generator().manual_seed(0))
    outgoing = sum(head.weight.tensor.abs().sum(dim=0) for head in actor.layers[2:])
    score = Interpolate(utility="contribution").score(second, h)
    expected = h.mean(dim=0) * outgoing
    torch.testing.assert_close((score / score.sum()).detach(), (expected / expected.sum()).detach())  # type: ignore[union-attr]


@pytest.mark.parametrize("alpha", [0.3, 0.5, 0.7])
def test_no_clones_and_no_lost_rank(alpha: float) -> None:
    """The map that the rows go through is invertible: units stay apart from each other, and so do their mixtures."""
    for fraction in (0.3, 0.34, 0.4, 0.67, 1.0):
        model = make("ppo-box")
        model.learn(64)
        actor = read_networks(model)[0]
        first = actor.layers[0]
        reset = Interpolate(when="switch", alpha=alpha, fraction=fraction)
        orders = reset.orders(actor, moment_of(model), torch.Generator().manual_seed(3))
        for layer, p in matrices(actor.layers, orders).items():
            mixture = (1 - alpha) * torch.eye(layer.units) + alpha * p
            assert float(torch.linalg.svdvals(mixture)[-1]) > 0.05
        reset.mix(orders)
        rows = torch.cat([first.weight.tensor, first.bias.tensor[:, None]], dim=1).detach()  # type: ignore[union-attr]
        distances = torch.cdist(rows, rows) + torch.eye(len(rows))
        assert float(distances.min()) > 1e-4


def test_too_few_units_stay_and_are_refused_where_that_is_all() -> None:
    assert [Interpolate(fraction=0.1).count(units) for units in (12, 30, 40, 64, 256)] == [0, 3, 3, 5, 25]
    assert Interpolate(fraction=1.0).count(2) == 0
    networks = read_networks(make("ppo"))
    with pytest.raises(SettingError, match=r"fraction must choose at least 3 of 12 units, not 0\.1"):
        Interpolate().check(networks, [])
    Interpolate(fraction=0.3).check(networks, [])
    Interpolate(fraction=0.0).check(networks, [])


@pytest.mark.parametrize(
    ("kind", "what"),
    [("ppo-gsde", "actor.log_std"), ("crossq", "BatchRenorm"), ("ppo-spectral-norm", "SpectralLinear")],
)
def test_what_cannot_be_permuted_is_refused(kind: str, what: str) -> None:
    reset = Interpolate(fraction=0.5)
    with pytest.raises(ValueError, match=what):
        reset.check([network for network in read_networks(make(kind)) if reset.acts_on(network)], [])


def test_targets_are_mapped_in_the_same_way() -> None:
    """A target that was the network's copy still is, and one that was not keeps its own share."""
    model = make("sac")
    model.learn(60)
    networks = [network for network in read_networks(model) if network.role == "critic"]
    for param in networks[0].params():
        param.sync_target()
    old = {param: param.target.clone() for param in networks[1].params() if param.target is not None}
    fire(Interpolate(when="switch", fraction=0.5), model)
    assert all(torch.equal(param.tensor, param.target) for param in networks[0].params())  # type: ignore[arg-type]
    for param, target in old.items():
        assert param.target is not None
        assert not torch.equal(param.tensor, param.target)
        assert torch.equal(param.target, target) == (param.name == "critic1.2.bias")


@pytest.mark.parametrize("moments", ["keep", "zero"])
def test_moments(moments: Literal["keep", "zero"]) -> None:
    model = make("ppo")
    model.learn(64)
    actor = read_networks(model)[0]
    before = {param: [value.clone() for value, _ in param.moments()] for param in actor.params()}
    old = {param: param.tensor.detach().clone() for param in actor.params()}
    reset = Interpolate(when="switch", fraction=0.5, moments=moments)
    list(reset.between_rollouts([actor], moment_of(model), torch.Generator().manual_seed(0)))
    for param, values in before.items():
        changed = param.tensor.detach() != old[param]
        for (value, _), was in zip(param.moments(), values, strict=True):
            assert torch.equal(value[~changed], was[~changed])
            assert torch.all(value[changed] == (was[changed] if moments == "keep" else 0.0))


def test_events_name_what_moved_and_nothing_moves_without_observations() -> None:
    model = make("ppo")
    model.learn(64)
    actor = read_networks(model)[0]
    reset = Interpolate(when="switch", fraction=0.5)
    events = list(reset.between_rollouts([actor], moment_of(model), torch.Generator()))
    assert [(event.part, event.what, event.count) for event in events] == [
        ("actor.0", "units", 5),
        ("actor.1", "units", 5),
    ]
    blind = Moment(0, 1, {}, switched=True, activations=lambda _: {})
    assert not list(reset.between_rollouts([actor], blind, torch.Generator()))
    lottery = Interpolate(when="switch", fraction=0.5, which="random")
    assert len(list(lottery.between_rollouts([actor], blind, torch.Generator()))) == 2
    assert not Interpolate(alpha=0.0).uses("between_rollouts")
    assert not Interpolate(fraction=0.0).uses("between_rollouts")
