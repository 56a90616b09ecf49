"""The trainability probe: its arithmetic against a plain loop, what it tells apart, and that it leaves no trace."""

import copy
import functools
import math
import zlib
from collections.abc import Callable
from typing import Any

import pytest
import stable_baselines3 as sb3
import torch
from torch import Tensor, nn
from torch.func import functional_call

from agents.injection import inject
from agents.layers import Network
from agents.modules import SpectralNorm
from configs.settings import SettingError
from metrics.base import View
from metrics.trainability import TrainabilityProbe
from metrics.trainability.chain import Chain
from metrics.trainability.copies import Copies, Weights, take
from metrics.trainability.fitting import fit, stepper
from metrics.trainability.probe import summary
from metrics.trainability.stacked import is_plain, run_plain
from metrics.trainability.targets import random_targets
from optimizers import Muon, UnitAdam
from tests.features import Watched
from tests.models import MODELS


class Seen(View):
    """A view that knows the inputs of networks and nothing else."""

    def __init__(self, watched: Watched, seed: int = 0) -> None:
        self.watched, self.seed = watched, seed

    def inputs(self, network: Network) -> tuple[Any, ...]:
        return self.watched.inputs(network.name)

    def generator(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(zlib.crc32(f"{self.seed}{purpose}".encode()))


Seen.__abstractmethods__ = frozenset()  # the probe asks for nothing else


def seen(kind: str, learn: int = 0, samples: int = 48) -> Seen:
    watched = Watched(kind, learn)
    watched.model.observation_space.seed(0)
    watched.model.action_space.seed(0)
    watched.run(samples)
    return Seen(watched)


@functools.cache
def learnt(kind: str) -> Seen:
    """The view of an agent that has learnt a little, for tests that leave it as it is."""
    return seen(kind, learn=STEPS.get(kind, 64))


STEPS = {"ppo-cnn-tiny": 16, "ppo-dict": 16, "crossq": 22, "td3": 24}

BORN = [False, True, False]
"""Which of the copies in `check` are fresh networks."""


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def one_by_one(
    view: Seen, network: Network, copies: Copies, weights: Weights, targets: Tensor, batches: Tensor
) -> Tensor:
    """Train the agent's own network as each copy in turn: the last with its own optimiser, the others with new ones."""
    policy, owner, inputs = view.watched.model.policy, network.optimizer, view.inputs(network)
    assert owner is not None
    before, state = copy.deepcopy(policy.state_dict()), copy.deepcopy(owner.state_dict())
    group = {key: value for key, value in owner.param_groups[0].items() if key in ("lr", "eps", "alpha")}
    own = [param.tensor for param in copies.params.values()]
    added = [tensor for tensor, param in zip(own, copies.params.values(), strict=True) if "probe" in param.name]

    def outputs(inputs: tuple[Any, ...]) -> Tensor:
        flow = torch.cat(network.run(*inputs), dim=1)
        return nn.functional.linear(flow, *added) if added else flow

    errors = []
    for index, target in enumerate(targets):
        with torch.no_grad():
            for name, param in copies.params.items():
                param.tensor.copy_(weights[name][index])
        for module in policy.modules() if BORN[index] else ():
            if isinstance(module, SpectralNorm):
                module.start()
        kind: Any = type(owner)
        optimizers = [kind(own, **group)]
        if index == len(targets) - 1:
            optimizers = [owner, *([kind(added, **group)] if added else [])]
        for batch in batches:
            error = (outputs(take(inputs, batch)) - target[batch]).square().mean()
            gradients = torch.autograd.grad(error, own)
            policy.zero_grad()
            for tensor, gradient in zip(own, gradients, strict=True):
                tensor.grad = gradient
            for optimizer in optimizers:
                optimizer.step()
        with torch.no_grad():
            errors.append((outputs(inputs) - target).square().mean())
        policy.load_state_dict(before)
        owner.load_state_dict(state)
    policy.zero_grad()
    return torch.stack(errors)


def check(view: Seen, network: Network) -> None:
    """Compare training with the plain loop: two copies with a new optimiser, one that carries the agent's on."""
    copies = Copies(network, view.inputs(network))
    random = generator()
    sets = [copies.now(random), copies.fresh(random), copies.now(random)]
    weights = {name: torch.stack([one[name] for one in sets]) for name in sets[0]}
    copies.prepare(weights, BORN)
    with torch.no_grad():
        targets = torch.randn(copies.run(weights, copies.inputs).shape, generator=random)
    batches = torch.randint(targets.shape[1], (12, 16), generator=random)
    assert network.optimizer is not None
    found = fit(copies, weights, targets, batches, network.optimizer, new=2)
    expected = one_by_one(view, network, copies, weights, targets, batches)
    torch.testing.assert_close(found, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("ppo", ["actor", "critic"]),
        ("ppo-box", ["actor"]),
        ("a2c", ["critic"]),
        ("sac", ["actor", "critic1"]),
        ("sac-layernorm", ["critic0"]),
        ("ppo-crelu", ["critic"]),
        ("ppo-spectral-norm", ["actor"]),
        ("ppo-cnn-tiny", ["shared", "actor"]),
    ],
)
def test_copies_trained_together_are_those_of_a_plain_loop(kind: str, names: list[str]) -> None:
    view = learnt(kind)
    for name in names:
        view.watched.model.policy.set_training_mode(True)
        check(view, view.watched.networks[name])
        view.watched.model.policy.set_training_mode(False)


def test_parameters_keep_step_counts_of_their_own() -> None:
    view = seen("ppo", learn=64)
    network = view.watched.networks["actor"]
    assert network.optimizer is not None
    network.layers[0].weight.reset_moments(moments="zero_and_step")
    network.layers[1].params()[1].forget()
    check(view, network)


def with_optimizer(settings: Any) -> Seen:
    kwargs = {"net_arch": [12, 10]} | settings.policy_kwargs(1e-5)
    MODELS["probed"] = lambda **k: sb3.PPO(
        "MlpPolicy", "CartPole-v1", n_steps=64, n_epochs=2, policy_kwargs=kwargs, **k
    )
    try:
        return seen("probed", learn=64)
    finally:
        del MODELS["probed"]


def test_an_optimiser_of_this_project_that_treats_each_element_by_itself_trains_the_copies() -> None:
    view = with_optimizer(UnitAdam())
    check(view, view.watched.networks["critic"])


def test_adam_stands_in_for_an_optimiser_of_whole_matrices_and_takes_over_its_moments() -> None:
    view = with_optimizer(Muon(betas=(0.8, 0.99)))
    network = view.watched.networks["actor"]
    optimizer = network.optimizer
    assert optimizer is not None
    copies = Copies(network, view.inputs(network))
    fresh, carried = ({name: param.tensor.detach()[None] for name, param in copies.params.items()} for _ in range(2))
    made = stepper(optimizer, copies.params, fresh, carried, factor=2)
    (group,) = made.param_groups
    assert type(made) is torch.optim.Adam
    assert (group["lr"], group["betas"], group["eps"]) == (6e-4, (0.8, 0.99), 1e-5)
    assert not any(stack in made.state for stack in fresh.values())
    for name, param in copies.params.items():
        own = optimizer.state[param.tensor]
        if name == "body.0.2.weight":  # Muon's own, which has no second moment
            assert carried[name] not in made.state
            continue
        assert float(made.state[carried[name]]["step"]) == own["step"] == 2
        torch.testing.assert_close(made.state[carried[name]]["exp_avg"][0], own["exp_avg"])
        torch.testing.assert_close(made.state[carried[name]]["exp_avg_sq"][0], own["exp_avg_sq"])
    values = TrainabilityProbe(steps=5).measure(network, view)
    assert all(0 < value < 2 for value in values.values())


def everything(view: Seen) -> list[Any]:
    """All that the probe could touch: numbers, gradients, modes, hooks and what they saw, optimisers, randomness."""
    model = view.watched.model
    modules = list(model.policy.modules())
    optimizers = {id(o): o for o in (getattr(x, "optimizer", None) for x in modules) if o is not None}
    states = [copy.deepcopy(optimizer.state_dict()) for optimizer in optimizers.values()]
    return [
        {name: tensor.clone() for name, tensor in model.policy.state_dict().items()},
        [None if tensor.grad is None else tensor.grad.clone() for tensor in model.policy.parameters()],
        [tensor.requires_grad for tensor in model.policy.parameters()],
        [(module.training, len(module._forward_hooks), len(module._forward_pre_hooks)) for module in modules],
        states,
        torch.get_rng_state(),
        torch.is_grad_enabled(),
        [view.watched.watcher.read(network, "activations") for network in view.watched.networks.values()],
    ]


@pytest.mark.parametrize(
    "kind",
    [
        "ppo",
        "ppo-box",
        "sac",
        "ppo-cnn-tiny",
        "ppo-dict",
        "ppo-crelu",
        "sac-layernorm",
        "ppo-spectral-norm",
        "td3",
        "crossq",
    ],
)
def test_values_are_finite_and_the_agent_is_left_as_it_was(kind: str) -> None:
    view = learnt(kind)
    probe = TrainabilityProbe(steps=3)
    before = everything(view)
    for network in view.watched.networks.values():
        assert probe.applies(network)
        values = probe.measure(network, view)
        assert set(values) == set(probe.names)
        assert all(math.isfinite(value) for value in values.values())
        assert values == probe.measure(network, view)
    torch.testing.assert_close(everything(view), before, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["ppo", "ppo-box", "sac", "sac-layernorm", "ppo-crelu"])
def test_a_copy_is_the_network(kind: str) -> None:
    view = learnt(kind)
    for network in view.watched.networks.values():
        copies = Copies(network, view.inputs(network))
        weights = {name: tensor[None] for name, tensor in copies.now(generator()).items()}
        copies.prepare(weights, [False])
        torch.testing.assert_close(
            copies.run(weights, copies.inputs)[0], torch.cat(network.run(*view.inputs(network)), 1)
        )


@pytest.mark.parametrize(
    ("kind", "name"), [("ppo", "actor"), ("sac", "actor"), ("ppo-crelu", "critic"), ("sac-layernorm", "critic0")]
)
def test_only_plain_networks_are_run_by_products_of_matrices(kind: str, name: str) -> None:
    view = learnt(kind)
    chain = Chain(view.watched.networks[name])
    (inputs,) = chain.cut(view.watched.inputs(name))
    assert is_plain(chain) == (kind in ("ppo", "sac"))
    if is_plain(chain):
        stacks = {of: torch.stack([tensor.detach(), -tensor.detach()]) for of, tensor in chain.named_parameters()}
        for outputs, sign in zip(run_plain(chain, stacks, inputs), (1, -1), strict=True):
            weights = {of: sign * tensor.detach() for of, tensor in chain.named_parameters()}
            torch.testing.assert_close(outputs, functional_call(chain, weights, (inputs,)))


def test_hooks_and_missing_biases_are_not_passed_over() -> None:
    view = seen("ppo")
    inject([view.watched.networks["critic"]], 2, generator())
    injected, chain = (Chain(view.watched.networks[name]) for name in ("critic", "actor"))
    injected.cut(view.watched.inputs("critic"))
    assert not is_plain(injected)
    chain.heads[0] = nn.Linear(10, 2, bias=False)
    (inputs,) = chain.cut(view.watched.inputs("actor"))
    assert is_plain(chain)
    stacks = {name: tensor.detach()[None] for name, tensor in chain.named_parameters()}
    torch.testing.assert_close(run_plain(chain, stacks, inputs)[0], chain(inputs))


def test_outputs_are_fitted_before_they_are_squashed() -> None:
    view = seen("td3")
    network = view.watched.networks["actor"]
    copies = Copies(network, view.inputs(network))
    weights = {name: tensor[None] for name, tensor in copies.now(generator()).items()}
    copies.prepare(weights, [False])
    (action,) = network.run(*view.inputs(network))
    torch.testing.assert_close(copies.run(weights, copies.inputs)[0].tanh(), action)


def test_an_injected_network_is_probed_as_it_is_and_against_one_without_injection() -> None:
    view = seen("ppo")
    network = view.watched.networks["critic"]
    inject([network], 2, generator())
    with torch.no_grad():
        for param in network.params():
            param.tensor += 0.3 * torch.randn(param.tensor.shape, generator=generator())
    copies = Copies(network, view.inputs(network))
    now, fresh = copies.now(generator()), copies.fresh(generator())
    weights = {name: torch.stack([now[name], fresh[name]]) for name in now}
    copies.prepare(weights, [False, True])
    injected, plain = copies.run(weights, copies.inputs)
    torch.testing.assert_close(injected, network.run(*view.inputs(network))[0])
    first, second, head = (
        [fresh[name] for name, of in copies.params.items() if of in layer.params()] for layer in network.layers
    )
    flow: Tensor = copies.inputs[0]
    for layer in (first, second):
        flow = nn.functional.linear(flow, *layer).relu()
    torch.testing.assert_close(plain, nn.functional.linear(flow, *head))
    assert math.isfinite(TrainabilityProbe(steps=3).measure(network, view)["probe_ratio"])


def damaged(kind: str, name: str, damage: Callable[[Network], None]) -> dict[str, float]:
    """What the probe says of a damaged fresh network; small ones want a larger learning rate."""
    view = seen(kind)
    with torch.no_grad():
        damage(view.watched.networks[name])
    return TrainabilityProbe(targets=2, learning_rates=(10.0,)).measure(view.watched.networks[name], view)


def nothing(network: Network) -> None:
    pass


def kill(network: Network) -> None:
    for layer in network.hidden:
        assert layer.bias is not None
        layer.bias.tensor[: round(0.8 * layer.units)] = -100


def saturate(network: Network) -> None:
    for layer in network.hidden:
        layer.weight.tensor.mul_(50)


def burden(network: Network) -> None:
    assert network.optimizer is not None
    for param in network.params():
        zero, large = torch.zeros_like(param.tensor), torch.full_like(param.tensor, 1e4)
        network.optimizer.state[param.tensor] = {"step": torch.tensor(1e4), "exp_avg": zero, "exp_avg_sq": large}


@pytest.mark.parametrize(("kind", "name"), [("ppo", "actor"), ("sac", "critic0")])
def test_dead_units_cost_trainability_and_a_fresh_network_lacks_none(kind: str, name: str) -> None:
    fresh, dead = damaged(kind, name, nothing), damaged(kind, name, kill)
    assert 0.6 < fresh["probe_ratio"] < 1.6
    assert dead["probe_ratio"] > 2.5
    assert fresh["probe_carried"] == pytest.approx(fresh["probe_loss"], rel=1e-4)  # there is nothing to carry


def test_saturated_units_cost_trainability() -> None:
    assert 0.6 < damaged("ppo-adaptive", "critic", nothing)["probe_ratio"] < 1.6
    assert damaged("ppo-adaptive", "critic", saturate)["probe_ratio"] > 2.5


def test_huge_second_moments_slow_only_the_copies_that_carry_them() -> None:
    found = damaged("ppo", "critic", burden)
    assert 0.6 < found["probe_ratio"] < 1.6
    assert found["probe_loss"] < 0.4
    assert found["probe_carried"] > 0.9


def test_without_training_errors_are_those_of_the_start() -> None:
    view = seen("ppo")
    network = view.watched.networks["critic"]
    with torch.no_grad():
        network.layers[-1].weight.tensor *= 1e3
        network.layers[-1].params()[1].tensor += 1e5
    outputs = network.run(*view.inputs(network))[0].detach().double()
    errors = {"outputs": 1.0, "mean": float(outputs.var(correction=0)), "zero": float(outputs.square().mean())}
    assert errors["mean"] > 1e4
    for around, error in errors.items():
        probe = TrainabilityProbe(steps=1, learning_rates=(1e-9,), around=around)  # type: ignore[arg-type]
        values = probe.measure(network, view)
        assert values["probe_loss"] == pytest.approx(error, rel=0.02)
        assert values["probe_fresh"] < 20


def test_networks_with_convolutions_get_a_share_of_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []

    def spy(copies: Copies, start: Weights, targets: Tensor, batches: Tensor, *rest: Any) -> Tensor:
        shapes.append((targets.shape[:2], batches.shape))
        return fit(copies, start, targets, batches, *rest)

    monkeypatch.setattr("metrics.trainability.probe.fit", spy)
    view = seen("ppo-cnn-tiny", samples=40)
    probe = TrainabilityProbe(targets=2, steps=8, minibatch=12, thrift=4)
    for network in view.watched.networks.values():
        probe.measure(network, view)
    assert shapes[0] == ((3, 10), (2, 3))
    assert shapes[1] == ((6, 40), (8, 12))


def test_values_by_hand() -> None:
    slow = [[4.0, 1.0], [2.0, 2.0], [0.5, 0.5]]
    fast = [[math.nan, 1.0], [1.0, 0.25], [3.0, 3.0]]
    found = summary(torch.tensor([slow, fast]))
    # fast training diverges for the first and is the better one for the second
    assert found["probe_loss"] == 2.5
    assert found["probe_fresh"] == 0.625
    assert found["probe_carried"] == 0.5
    assert found["probe_ratio"] == pytest.approx(4.0)  # sqrt(4 * 1) / sqrt(1 * 0.25)
    assert math.isnan(summary(torch.full((1, 3, 2), math.inf))["probe_ratio"])


def test_targets_are_standardised_and_a_constant_output_is_none() -> None:
    outputs = torch.tensor([[1.0, 7.0], [3.0, 7.0], [8.0, 7.0]])
    deviations = torch.tensor([-3.0, -1.0, 4.0]) / math.sqrt(26 / 3)
    torch.testing.assert_close(random_targets(outputs, "network"), torch.stack([deviations, torch.zeros(3)], 1))
    sines = torch.tensor([math.sin(1e5), math.sin(3e5), math.sin(8e5)])
    expected = (sines - sines.mean()) / sines.std(correction=0)
    torch.testing.assert_close(random_targets(outputs, "sine")[:, 0], expected, rtol=1e-5, atol=1e-6)
    assert not random_targets(outputs, "sine")[:, 1].any()


def test_without_a_batch_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    view = learnt("ppo")
    network = view.watched.networks["actor"]
    monkeypatch.setattr(view, "inputs", lambda network: ())
    assert TrainabilityProbe().measure(network, view) == {}


def test_the_probe_needs_a_learning_rate() -> None:
    with pytest.raises(SettingError, match="learning_rates must be at least one number"):
        TrainabilityProbe(learning_rates=())
    assert TrainabilityProbe(learning_rates=[0.1, 1.0]).learning_rates == (0.1, 1.0)  # type: ignore[arg-type]
