"""Plasticity injection: the sum of three heads, worked out from three plain models."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import Tensor, nn

from agents.injection import CHILD, is_injected
from agents.layers import Network
from agents.plasticity import Plasticity
from agents.sb3 import Batch, activations, read_networks, sample_batch
from agents.watching import Watcher
from regularizers import Spectral
from resets import Full, Moment, PlasticityInjection
from tests.models import make, train, weights
from train import main

KINDS = ["ppo", "ppo-box", "ppo-gsde", "ppo-norm", "a2c", "sac", "sac-gsde", "td3", "dqn", "tqc", "qrdqn"]
CNN = ["ppo-cnn", "ppo-cnn-separate", "ppo-dict", "sac-cnn", "sac-cnn-shared"]


def inject(model: BaseAlgorithm, injection: PlasticityInjection | None = None, seed: int = 3) -> list[Network]:
    """Inject now; returns the networks acted on."""
    injection = injection or PlasticityInjection(every=1)
    networks = [network for network in read_networks(model) if injection.acts_on(network)]
    moment = Moment(1, 1, {}, switched=False, activations=lambda _: {})
    assert list(injection.between_rollouts(networks, moment, torch.Generator().manual_seed(seed)))
    return networks


def batch_of(model: BaseAlgorithm, size: int = 5) -> Batch:
    model.observation_space.seed(7)
    observations = [model.observation_space.sample() for _ in range(size)]
    tensors = [model.policy.obs_to_tensor(observation)[0] for observation in observations]
    actions = torch.randn(size, *model.action_space.shape, generator=torch.Generator().manual_seed(2))  # type: ignore[misc]
    if isinstance(tensors[0], dict):
        return Batch({key: torch.cat([part[key] for part in tensors]) for key in tensors[0]}, actions)  # type: ignore[index]
    return Batch(torch.cat(tensors), actions)  # type: ignore[arg-type]


@torch.no_grad()
def outputs(model: BaseAlgorithm) -> list[Tensor]:
    """What SB3's own functions give, of targets too."""
    batch, policy = batch_of(model), model.policy
    found: list[Any] = []
    p: Any = policy
    p.set_training_mode(False)
    if isinstance(model, OnPolicyAlgorithm):
        distribution = p.get_distribution(batch.observations).distribution
        found = [distribution.logits if hasattr(distribution, "logits") else distribution.mean]
        found += [p.predict_values(batch.observations), p(batch.observations, deterministic=True)[1]]
    elif hasattr(p, "critic"):
        found = [p._predict(batch.observations, deterministic=True), *p.critic(batch.observations, batch.actions)]
        found += p.critic_target(batch.observations, batch.actions)
        if hasattr(p.actor, "get_action_dist_params"):
            found += p.actor.get_action_dist_params(batch.observations)[:2]
        if getattr(p, "actor_target", None) is not None:
            found.append(p.actor_target(batch.observations))
    else:
        for name in ("q_net", "q_net_target", "quantile_net", "quantile_net_target"):
            if hasattr(p, name):
                found.append(getattr(p, name)(batch.observations))
    return [tensor for part in found if part is not None for tensor in (part if isinstance(part, tuple) else (part,))]


def variant(model: BaseAlgorithm, kind: str, part: str) -> BaseAlgorithm:
    """A plain model with the encoder of an injected one and with one of its heads: theta, learning or frozen."""
    plain = make(kind)
    state = model.policy.state_dict()
    own = {key: value for key, value in state.items() if CHILD not in key}
    if part != "theta":
        for key in own:
            stem, _, name = key.rpartition(".")
            own[key] = state.get(f"{stem}.{CHILD}.{part}.{name}", own[key])
    plain.policy.load_state_dict(own)
    return plain


def frozen_parts(model: BaseAlgorithm) -> dict[str, Tensor]:
    """The theta and theta2 of the trained networks."""
    named = dict(model.policy.named_parameters())
    own = [name for name in named if f".{CHILD}.frozen" in name and "_target" not in name]
    return {name: named[name] for key in own for name in (key, key.replace(f".{CHILD}.frozen", ""))}


@pytest.mark.parametrize("kind", KINDS + CNN)
def test_at_the_injection_no_output_changes_a_bit(kind: str) -> None:
    model = make(kind)
    if kind in KINDS:
        model.learn(64 if kind.startswith("ppo") else 24)
    before = outputs(model)
    optimizers = {network.optimizer: None for network in read_networks(model) if network.layers}
    groups = [[len(group["params"]) for group in optimizer.param_groups] for optimizer in optimizers if optimizer]
    trainable = sum(p.numel() for optimizer in optimizers if optimizer for p in optimizer.param_groups[0]["params"])
    networks = inject(model)
    after = outputs(model)
    assert len(before) == len(after) >= 2
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    held = [p for optimizer in optimizers if optimizer for group in optimizer.param_groups for p in group["params"]]
    assert groups == [[len(g["params"]) for g in optimizer.param_groups] for optimizer in optimizers if optimizer]
    assert sum(tensor.numel() for tensor in held) == trainable, "as many weights to train as before"
    assert all(tensor.requires_grad for tensor in held)
    params = [param for network in networks for param in network.params()]
    assert {id(param.tensor) for param in params} == {id(tensor) for tensor in held}
    in_policy = {id(tensor) for tensor in model.policy.parameters()}
    assert all(id(tensor) in in_policy for tensor in held), "SB3 clips and moves what is in the policy"
    assert frozen_parts(model)
    assert not any(tensor.requires_grad for tensor in frozen_parts(model).values())


@pytest.mark.parametrize("kind", [*KINDS, "ppo-cnn", "sac-cnn-shared"])
def test_outputs_and_gradients_are_those_of_three_plain_heads(kind: str) -> None:
    model = make(kind)
    inject(model)
    generator = torch.Generator().manual_seed(1)
    for name, tensor in model.policy.named_parameters():
        if CHILD not in name or ".learning." in name:
            with torch.no_grad():
                tensor += 0.05 * torch.randn(tensor.shape, generator=generator)
    parts = {part: read_networks(variant(model, kind, part)) for part in ("theta", "learning", "frozen")}
    signs = {"theta": 1.0, "learning": 1.0, "frozen": -1.0}
    batch = batch_of(model)
    for index, network in enumerate(read_networks(model)):
        if not any(layer.is_head for layer in network.layers):
            continue
        first = network.layers[0]
        inputs = batch.observations
        if network.name.startswith("critic") and hasattr(model.policy, "critic"):
            inputs = torch.randn(5, first.weight.tensor.shape[1], generator=generator)
        elif torch.is_tensor(inputs) and inputs.dim() == 4:
            inputs = inputs.float() / 255
        plain = {part: nets[index].run(inputs) for part, nets in parts.items()}
        for head, output in enumerate(network.run(inputs)):
            terms = {part: torch.atanh(o[head]) if _squashed(kind, network) else o[head] for part, o in plain.items()}
            total = sum(signs[part] * term for part, term in terms.items())
            expected = torch.tanh(total) if _squashed(kind, network) else total  # type: ignore[arg-type]
            torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)
        encoder = next((layer for layer in network.layers if not _in_head(layer.module, model)), None)
        if encoder is not None:
            network.run(inputs)[0].square().sum().backward()
            total = sum(
                signs[part] * (torch.atanh(o[0]) if _squashed(kind, network) else o[0]) for part, o in plain.items()
            )
            loss = (torch.tanh(total) if _squashed(kind, network) else total).square().sum()  # type: ignore[arg-type]
            number = network.layers.index(encoder)
            mine = [nets[index].layers[number].weight.tensor for nets in parts.values()]
            gradient = sum(torch.autograd.grad(loss, mine))
            torch.testing.assert_close(encoder.weight.tensor.grad, gradient, rtol=1e-3, atol=1e-4)


def _squashed(kind: str, network: Network) -> bool:
    return kind == "td3" and network.name == "actor"


def _in_head(module: nn.Module, model: BaseAlgorithm) -> bool:
    return any(CHILD in name for name, other in model.policy.named_modules() if other is module)


@pytest.mark.parametrize("kind", ["ppo", "ppo-box", "a2c", "sac", "td3", "dqn", "tqc", "ppo-cnn"])
def test_what_is_frozen_stays_and_the_rest_learns(kind: str) -> None:
    model = make(kind)
    plasticity = Plasticity(PlasticityInjection(every=1, unit="rollouts"))
    on_policy = kind.startswith(("ppo", "a2c"))
    model.learn(65 if on_policy and kind != "ppo-cnn" else 32, callback=plasticity)
    assert is_injected(plasticity.networks)
    frozen = {name: (tensor, tensor.detach().clone()) for name, tensor in frozen_parts(model).items()}
    params = {
        param.name: (param.tensor, param.tensor.detach().clone())
        for network in plasticity.networks
        for param in network.params()
    }
    model.learn({"ppo-cnn": 32, "a2c": 96}.get(kind, 128 if on_policy else 40), callback=plasticity)
    assert all(torch.equal(tensor, old) for tensor, old in frozen.values())
    assert all(tensor.grad is None for tensor, _ in frozen.values())
    still = [name for name, (tensor, old) in params.items() if torch.equal(tensor, old)]
    assert not [name for name in still if "bias" not in name], "theta1 and the encoder learn"
    assert any(name.startswith("actor") for name in params) or kind == "dqn"


@pytest.mark.parametrize(("kind", "updates"), [("sac", 1), ("tqc", 1), ("td3", 2), ("dqn", 1), ("sac-cnn-shared", 1)])
def test_targets_follow_as_they_follow_everything(kind: str, updates: int) -> None:
    model = make(kind)
    model.learn(24)
    networks = [network for network in inject(model) if network.role == "critic" or kind == "td3"]
    followed = [param for network in networks for param in network.params()]
    assert followed
    before = []
    for param in followed:
        assert param.target is not None
        before.append(param.target.clone())
        assert not _in(param.target, followed)
    fresh = [param for param in followed if param.optimizer and param.tensor not in param.optimizer.state]
    assert fresh
    assert all(torch.equal(param.tensor, param.target) for param in fresh)  # type: ignore[arg-type]
    theta = next(tensor for name, tensor in frozen_parts(model).items() if CHILD not in name)
    model.train(gradient_steps=updates, batch_size=8)  # type: ignore[attr-defined]
    tau = model.tau  # type: ignore[attr-defined]
    if isinstance(model, DQN):
        model.target_update_interval = model.n_envs = 1
        model._on_step()
    for param, old in zip(followed, before, strict=True):
        torch.testing.assert_close(param.target, old * (1 - tau) + tau * param.tensor)
    assert not torch.equal(fresh[0].tensor, before[followed.index(fresh[0])]), "what the target follows has moved"
    assert not theta.requires_grad


def _in(tensor: Tensor, params: list[Any]) -> bool:
    return any(param.tensor is tensor for param in params)


def test_the_learning_copies_are_drawn_from_the_layers_own_initialisers() -> None:
    model = make("ppo")
    networks = inject(model, seed=9)
    actor = networks[0]
    assert [layer.name for layer in actor.layers] == ["actor.0", "actor.1", "actor.head"]
    gains = [torch.linalg.svdvals(layer.weight.tensor.detach()) for layer in actor.layers[1:]]
    torch.testing.assert_close(gains[0], torch.full_like(gains[0], 2**0.5))
    torch.testing.assert_close(gains[1], torch.full_like(gains[1], 0.01))
    again = read_networks(model)[0]
    for layer, other in zip(actor.layers, again.layers, strict=True):
        assert layer.module is other.module
        assert layer.output is other.output
        assert [a.tensor is b.tensor for a, b in zip(layer.params(), other.params(), strict=True)] == [True, True]
        drawn = [param.fresh(torch.Generator().manual_seed(0)) for param in (layer.weight, other.weight)]
        assert torch.equal(*drawn), "initialisers are found again"


def test_free_parameters_are_left_alone() -> None:
    model = make("ppo-box")
    log_std = model.policy.log_std
    actor = inject(model)[0]
    assert [param.tensor for param in actor.free] == [log_std]
    assert log_std.requires_grad


def test_a_shared_extractors_last_layer_belongs_to_both_heads() -> None:
    model = make("ppo-cnn")
    shared, actor, critic = inject(model)
    injected = [_in_head(layer.module, model) for layer in shared.layers]
    assert injected == [False, False, False, True]
    assert [_in_head(net.layers[0].module, model) for net in (actor, critic)] == [True, True]
    assert sum(name.endswith(f"{CHILD}.learning.weight") for name, _ in model.policy.named_parameters()) == 3


def test_it_happens_once_at_its_time_or_at_the_first_switch() -> None:
    def fire(injection: PlasticityInjection, networks: list[Network], step: int, switched: bool) -> int:
        moment = Moment(step, 1, {}, switched=switched, activations=lambda _: {})
        return len(list(injection.between_rollouts(networks, moment, torch.Generator())))

    networks, injection = read_networks(make("ppo")), PlasticityInjection(every=100)
    assert [fire(injection, networks, step, True) for step in (0, 64, 128, 192, 256)] == [0, 0, 2, 0, 0]
    assert injection.state["injected"] == 128
    networks, injection = read_networks(make("ppo")), PlasticityInjection(when="switch", every=1)
    assert [fire(injection, networks, step, step in (64, 192)) for step in (0, 64, 128, 192)] == [0, 2, 0, 0]


@pytest.mark.parametrize("kind", ["ppo", "dqn"])
def test_a_run_resumed_after_the_injection_goes_on_bit_for_bit(kind: str) -> None:
    whole, straight = train(kind, PlasticityInjection(every=64), steps=128)
    assert is_injected(straight.networks)
    whole.learn(64, callback=straight, reset_num_timesteps=False)
    halves, first = train(kind, PlasticityInjection(every=64), steps=128)
    second = Plasticity(PlasticityInjection(every=64))
    second.load_state_dict(first.state_dict())
    halves.learn(64, callback=second, reset_num_timesteps=False)
    assert torch.equal(weights(halves), weights(whole))
    assert second.interventions[0].state == straight.interventions[0].state


@pytest.mark.parametrize("kind", ["ppo", "sac", "td3", "dqn", "ppo-cnn"])
def test_a_saved_model_is_restored_in_form_and_weights(kind: str, tmp_path: Path) -> None:
    model, plasticity = train(kind, PlasticityInjection(every=8), steps=128 if kind == "ppo" else 28)
    model.save(tmp_path / "model.zip")
    with pytest.raises(RuntimeError, match=CHILD):
        type(model).load(tmp_path / "model.zip")
    fresh = make(kind, seed=5)
    PlasticityInjection().restore(read_networks(fresh))
    fresh.set_parameters(tmp_path / "model.zip")
    assert all(torch.equal(old, new) for old, new in zip(outputs(model), outputs(fresh), strict=True))
    pairs = zip(plasticity.networks, read_networks(fresh), strict=True)
    for mine, other in ((a, b) for one, two in pairs for a, b in zip(one.params(), two.params(), strict=True)):
        moments = zip(mine.moments(), other.moments(), strict=True)
        assert mine.name == "log_ent_coef" or torch.equal(mine.tensor, other.tensor)
        assert all(torch.equal(a, b) for (a, _), (b, _) in moments), mine.name
    second = Plasticity(PlasticityInjection(every=8))
    second.load_state_dict(plasticity.state_dict())
    fresh.learn(4, callback=second, reset_num_timesteps=False)


def test_state_and_model_must_agree() -> None:
    model, plasticity = train("ppo", PlasticityInjection(every=64), steps=128)
    with pytest.raises(ValueError, match="injected before, which is possible only once"):
        model.learn(64, callback=Plasticity(PlasticityInjection(every=64)), reset_num_timesteps=False)
    second = Plasticity(PlasticityInjection(every=64))
    second.load_state_dict(plasticity.state_dict())
    with pytest.raises(ValueError, match="call restore before its weights are loaded"):
        make("ppo").learn(64, callback=second)


def test_copies_and_watchers_see_the_injected_network() -> None:
    model = make("sac")
    model.learn(40)
    networks = read_networks(model)
    actor = next(network for network in networks if network.name == "actor")
    watcher = Watcher()
    watcher.watch(actor, {"outputs"})
    inject(model)
    generator = torch.Generator().manual_seed(0)
    read = next(network for network in read_networks(model) if network.name == "actor")
    with torch.no_grad():
        for param in read.layers[-1].params():
            param.tensor += 1.0
    observations = torch.randn(4, 3, generator=generator)
    seen = read.run(observations)
    assert all(torch.equal(a, b) for a, b in zip(watcher.outputs(actor), seen, strict=True))

    twin = copy.deepcopy(model.policy)
    assert torch.equal(twin.actor(observations, True), model.policy.actor(observations, True))  # type: ignore[operator, union-attr]
    with torch.no_grad():
        read.layers[-1].weight.tensor.zero_()
        read.layers[-2].weight.tensor.zero_()
    own = [tensor for name, tensor in twin.named_parameters() if "actor" in name and ".learning.weight" in name]
    assert own
    assert all(bool(tensor.any()) for tensor in own), "a copy has copies of its own"

    batch = sample_batch(model, 16, np.random.default_rng(0))
    assert batch is not None
    found = activations(model, read.hidden, batch)
    assert list(found) == read.hidden
    assert all(h.shape == (16, layer.units) for layer, h in found.items())


def test_heads_must_be_run_in_one_go() -> None:
    model = make("ppo")
    inject(model)
    policy: Any = model.policy
    policy.mlp_extractor.forward_actor(torch.zeros(2, 4))
    with pytest.raises(RuntimeError, match="in one go"):
        policy.action_net(torch.zeros(2, 10))


def test_what_cannot_be_is_refused() -> None:
    injection = PlasticityInjection
    for others in ([injection(every=3)], [Full()], [Spectral(networks="critic")]):
        with pytest.raises(ValueError, match=r"PlasticityInjection cannot share the (actor|critic) with"):
            Plasticity(injection(), *others).check(make("ppo"))
    Plasticity(injection(networks="actor"), Spectral(networks="critic")).check(make("ppo"))
    Plasticity(injection(networks="actor"), injection(networks="critic")).check(make("ppo"))
    with pytest.raises(ValueError, match=r"layers must be at most 3, the affine layers of actor.*, not 4"):
        Plasticity(injection(layers=4)).check(make("ppo"))
    with pytest.raises(ValueError, match="layers must be at most 1"):
        Plasticity(injection(networks="critic")).check(make("ppo-cnn"))
    with pytest.raises(ValueError, match="without dropout and running statistics, but it has a BatchRenorm"):
        Plasticity(injection()).check(make("crossq"))


def test_a_penalty_on_another_network_of_the_optimiser_goes_on() -> None:
    model, _ = train("ppo", PlasticityInjection(networks="critic", every=64), Spectral(0.1, networks="actor"))
    alone, _ = train("ppo", PlasticityInjection(networks="critic", every=64))
    assert is_injected(read_networks(model))
    assert not torch.equal(weights(model), weights(alone))


def test_a_recorded_run_measures_what_learns(tmp_path: Path) -> None:
    words = """--agent a2c --reset plasticity_injection --reset.every 100 --steps 300 --measure-every 300
        --metrics grad_norm --quiet"""
    assert main([*words.split(), "--run-dir", str(tmp_path / "run")]) == 0
    events = (tmp_path / "run" / "events.jsonl").read_text().splitlines()
    assert [json.loads(event)["network"] for event in events] == ["actor", "critic"]
    header, row = (tmp_path / "run" / "tasks.csv").read_text().splitlines()[:2]
    found = dict(zip(header.split(","), row.split(","), strict=True))
    assert float(found["actor/grad_norm"]) > 0
