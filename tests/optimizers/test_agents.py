"""Every optimiser on every agent: it learns, is saved and loaded, goes on exactly, and starts reborn units anew."""

import importlib.util
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor
from torch.nn import functional
from tyro._docstrings import get_field_docstring

import tests.models as models
from agents.layers import reinitialize_units
from agents.plasticity import Plasticity
from agents.sb3 import read_networks
from configs.building import build
from configs.command_line import parse
from configs.settings import UsageError
from optimizers import OPTIMIZERS, SAM, AdamRel, MomentReset, Muon, OptimizerSettings
from optimizers.muon import MuonOptimizer
from resets import ReDo
from tests.models import STEPS, make, plain_weights, weights

KINDS = ["ppo", "a2c", "sac", "td3", "dqn", "tqc"]
INSTALLED = [name for name in OPTIMIZERS if name != "kron" or importlib.util.find_spec("kron_torch")]
AT_TARGETS = ("adam_rel", "moment_reset")
EPS = {"ppo": 1e-5, "a2c": 1e-5}


def settings_for(name: str, kind: str) -> OptimizerSettings:
    periodic = name in AT_TARGETS and kind in ("sac", "td3", "tqc")
    given: dict[str, Any] = {"when": "periodic", "every": 8} if periodic else {}
    return OPTIMIZERS[name](**(given | ({"start": 1e-2} if name == "trac" else {})))


def agent(monkeypatch: pytest.MonkeyPatch, kind: str, settings: OptimizerSettings) -> BaseAlgorithm:
    kwargs = settings.policy_kwargs(EPS.get(kind, 1e-8))
    small = models.small
    with monkeypatch.context() as patch:
        patch.setattr(models, "small", lambda: small() | kwargs)
        model = make(kind)
    if kind == "dqn":
        model.target_update_interval = 30  # type: ignore[attr-defined]
    return model


def learnt(monkeypatch: pytest.MonkeyPatch, name: str, kind: str, steps: int | None = None) -> BaseAlgorithm:
    settings = settings_for(name, kind)
    model = agent(monkeypatch, kind, settings)
    model.learn(steps or STEPS[kind], callback=Plasticity(*settings.interventions()))
    return model


def optimizers(model: BaseAlgorithm) -> list[torch.optim.Optimizer]:
    networks = [network for network in read_networks(model) if network.layers]
    return list(dict.fromkeys(network.optimizer for network in networks if network.optimizer))


def plain(kind: str) -> Tensor:
    if kind != "dqn":
        return plain_weights(kind)
    model = make(kind)
    model.target_update_interval = 30  # type: ignore[attr-defined]
    model.learn(STEPS[kind])
    return weights(model)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", INSTALLED)
def test_it_learns_is_saved_and_starts_reborn_units_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, kind: str
) -> None:
    if name == "sam" and kind in ("sac", "td3", "tqc"):
        with pytest.raises(ValueError, match=rf"SAM needs .* twice.* not {kind.upper()}"):
            learnt(monkeypatch, name, kind)
        return
    model = learnt(monkeypatch, name, kind)
    assert torch.isfinite(weights(model)).all()
    same = name == "adam" and kind != "a2c"  # Adam with the agent's own settings
    assert torch.equal(weights(model), plain(kind)) == same
    if temperature := getattr(model, "ent_coef_optimizer", None):
        assert type(temperature) is torch.optim.Adam

    model.save(tmp_path / "model")
    again = type(model).load(tmp_path / "model")
    for one, two in zip(optimizers(model), optimizers(again), strict=True):
        for optimizer in (one, two):
            for index, param in enumerate(optimizer.param_groups[0]["params"]):
                param.grad = torch.linspace(-1, 1, param.numel()).view_as(param) + index
            if name == "sam":
                optimizer.ascend()  # type: ignore[attr-defined]
                optimizer.restore()  # type: ignore[attr-defined]
            optimizer.step()
    assert torch.equal(weights(model), weights(again)), "what was loaded goes on differently"

    generator = torch.Generator().manual_seed(0)
    for network in read_networks(model):
        if not network.layers:
            continue
        layer = network.hidden[-1]
        chosen = torch.arange(layer.units) < 3
        moments = [moment for moment, _ in layer.weight.moments()]
        assert moments, "nothing is remembered in the parameter's shape"
        reinitialize_units({layer: chosen}, generator, "zero")
        assert all(not moment[chosen].any() for moment in moments)
        assert any(moment[~chosen].any() for moment in moments)


@pytest.mark.parametrize("kind", ["ppo", "dqn", "sac"])
@pytest.mark.parametrize("name", ["unit_adam", "adam_rel", "moment_reset", "trac", "upgd", "sam", "muon"])
def test_a_resumed_run_goes_on_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, kind: str
) -> None:
    if (name, kind) == ("sam", "sac"):
        return
    settings = settings_for(name, kind)
    steps = {"ppo": 64, "dqn": 48, "sac": 32}[kind]

    def callback() -> Plasticity:
        return Plasticity(ReDo(tau=0.9, every=4), *settings.interventions())

    whole, straight = agent(monkeypatch, kind, settings), callback()
    whole.learn(steps, callback=straight)
    whole.learn(16, callback=straight, reset_num_timesteps=False)

    halves, first = agent(monkeypatch, kind, settings), callback()
    halves.learn(steps, callback=first)
    states = [optimizer.state_dict() for optimizer in optimizers(halves)]
    torch.save(states, tmp_path / "states.pt")
    for optimizer, state in zip(optimizers(halves), torch.load(tmp_path / "states.pt", weights_only=True), strict=True):
        optimizer.state.clear()
        optimizer.load_state_dict(state)
    second = callback()
    second.load_state_dict(first.state_dict())
    halves.learn(16, callback=second, reset_num_timesteps=False)
    assert torch.equal(weights(halves), weights(whole))


@pytest.mark.parametrize("kind", [OptimizerSettings, *OPTIMIZERS.values()])
def test_every_setting_is_explained_and_the_paper_named(kind: type[OptimizerSettings]) -> None:
    assert "20" in (kind.__doc__ or "") or kind is OptimizerSettings, "the first line names the paper with its year"
    for entry in fields(kind):
        assert get_field_docstring(kind, entry.name, ()), f"{kind.__name__}.{entry.name} has no docstring"


def steps_taken(model: BaseAlgorithm) -> set[int]:
    return {int(state["step"]) for optimizer in optimizers(model) for state in optimizer.state.values()}


@pytest.mark.parametrize("name", AT_TARGETS)
def test_time_starts_with_every_rollout_of_ppo(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert steps_taken(learnt(monkeypatch, "adam", "ppo", 192)) == {6}  # three rollouts, two epochs, one minibatch
    assert steps_taken(learnt(monkeypatch, name, "ppo", 192)) == {2}


@pytest.mark.parametrize("name", AT_TARGETS)
def test_time_starts_with_every_copy_of_dqns_target(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    model = learnt(monkeypatch, name, "dqn", 76)  # a training each fourth step from the 24th on; copies at 30, 60
    assert steps_taken(learnt(monkeypatch, "adam", "dqn", 76)) == {14}
    assert steps_taken(model) == {5}  # at 60 (copied just before), 64, 68, 72, 76


def test_adam_rel_keeps_moments_and_moment_reset_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for settings, kept in ((AdamRel(), True), (MomentReset(), False)):
        model = agent(monkeypatch, "ppo", settings)
        plasticity = Plasticity(*settings.interventions())
        model.learn(64, callback=plasticity)
        param = read_networks(model)[0].layers[0].weight
        (item,) = settings.interventions()
        item.act(param)  # type: ignore[attr-defined]
        assert param.optimizer is not None
        assert bool(param.optimizer.state.get(param.tensor, {"exp_avg": torch.zeros(1)})["exp_avg"].any()) == kept


@pytest.mark.parametrize("kind", ["sac", "td3", "tqc"])
@pytest.mark.parametrize("settings", [AdamRel(), MomentReset()])
def test_targets_that_move_at_every_step_are_refused(
    monkeypatch: pytest.MonkeyPatch, kind: str, settings: OptimizerSettings
) -> None:
    with pytest.raises(ValueError, match="choose periodic or switch"):
        Plasticity(*settings.interventions()).check(agent(monkeypatch, kind, settings))


@pytest.mark.parametrize("kind", [*KINDS, "sac-cnn-shared", "ppo-cnn"])
def test_muon_is_told_which_matrices_are_hidden(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    settings = Muon()
    model = make(kind) if "cnn" in kind else agent(monkeypatch, kind, settings)
    networks = read_networks(model)
    (item,) = settings.interventions()
    hidden = item.hidden([network for network in networks if item.acts_on(network)])  # type: ignore[attr-defined]
    heads = [layer.weight.tensor for network in networks for layer in network.layers if layer.is_head]
    assert hidden
    assert not any(one is two for one in hidden for two in heads)
    names = {one: name for name, one in model.policy.named_parameters()}
    expected = {"ppo": 2, "a2c": 2, "dqn": 1, "sac": 3, "td3": 3, "tqc": 3, "sac-cnn-shared": 6, "ppo-cnn": 3}
    assert len(hidden) == expected[kind], [names[one] for one in hidden]
    if "cnn" in kind:
        return
    model.learn(STEPS[kind], callback=Plasticity(*settings.interventions()))
    found = []
    for optimizer in optimizers(model):
        assert isinstance(optimizer, MuonOptimizer)
        assert optimizer.told
        for param, flag in zip(optimizer.param_groups[0]["params"], optimizer.param_groups[0]["hidden"], strict=True):
            assert ("momentum_buffer" in optimizer.state[param]) == flag
            found += [param] if flag else []
    assert {id(one) for one in found} == {id(one) for one in hidden}


def test_muon_without_hidden_matrices_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "small", lambda: {"net_arch": [8]})
    with pytest.raises(ValueError, match="Muon would act on nothing"):
        Plasticity(*Muon().interventions()).check(make("ppo"))


def by_hand(model: BaseAlgorithm, loss: Any, clip: float) -> None:
    """One step of SAM, its loss written out, in the place of the model's training."""
    policy: Any = model.policy
    adam = torch.optim.Adam(policy.optimizer.param_groups[0]["params"], lr=policy.optimizer.param_groups[0]["lr"])
    params = adam.param_groups[0]["params"]
    before = [param.detach().clone() for param in params]
    adam.zero_grad()
    loss().backward()
    length = torch.cat([param.grad.flatten() for param in params]).norm()
    with torch.no_grad():
        for param in params:
            param += 0.1 * param.grad / length
    adam.zero_grad()
    loss().backward()
    with torch.no_grad():
        for param, old in zip(params, before, strict=True):
            param.copy_(old)
    torch.nn.utils.clip_grad_norm_(params, clip)
    adam.step()


def test_sam_on_ppo_is_sam_on_ppos_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = agent(monkeypatch, "ppo", SAM(eps=1e-8))
    ours.n_epochs = 1  # type: ignore[attr-defined]
    start = weights(ours)
    ours.learn(64, callback=Plasticity())
    theirs = make("ppo")  # after that, since making a model seeds the global generators

    def train() -> None:
        (batch,) = theirs.rollout_buffer.get(64)  # type: ignore[attr-defined]
        gain = (batch.advantages - batch.advantages.mean()) / (batch.advantages.std() + 1e-8)

        def loss() -> Tensor:
            values, log_prob, _ = theirs.policy.evaluate_actions(batch.observations, batch.actions.flatten())  # type: ignore
            ratio = (log_prob - batch.old_log_prob).exp()
            policy_loss = -torch.min(gain * ratio, gain * ratio.clamp(0.8, 1.2)).mean()
            return policy_loss + 0.5 * functional.mse_loss(batch.returns, values.flatten())  # type: ignore[no-any-return]

        by_hand(theirs, loss, 0.5)

    monkeypatch.setattr(theirs, "train", train)
    theirs.learn(64)
    moved = (weights(ours) - start).norm()
    assert (weights(ours) - weights(theirs)).norm() < 1e-3 * moved
    other = make("ppo")
    other.n_epochs = 1  # type: ignore[attr-defined]
    other.learn(64)
    assert (weights(ours) - weights(other)).norm() > 1e-2 * moved, "the ascent made no difference"


def test_sam_on_dqn_is_sam_on_dqns_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = agent(monkeypatch, "dqn", SAM())
    start = weights(ours)
    ours.learn(24, callback=Plasticity())
    theirs = make("dqn")
    trained = []

    def train(gradient_steps: int, batch_size: int) -> None:
        batch = theirs.replay_buffer.sample(batch_size)  # type: ignore[union-attr]
        with torch.no_grad():
            best = theirs.q_net_target(batch.next_observations).max(dim=1, keepdim=True).values  # type: ignore
            target = batch.rewards + (1 - batch.dones) * 0.99 * best

        def loss() -> Tensor:
            values = theirs.q_net(batch.observations).gather(1, batch.actions.long())  # type: ignore[attr-defined]
            return functional.smooth_l1_loss(values, target)

        by_hand(theirs, loss, 10)
        trained.append(gradient_steps)

    monkeypatch.setattr(theirs, "train", train)
    theirs.learn(24)
    assert trained == [1]
    assert ours._n_updates == ours.logger.name_to_value["train/n_updates"] == 1
    assert (weights(ours) - weights(theirs)).norm() < 1e-3 * (weights(ours) - start).norm()


def test_sams_second_pass_is_the_only_step_that_listeners_hear(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("ppo", "dqn", "a2c"):
        model, plasticity = agent(monkeypatch, kind, SAM()), Plasticity()
        model.learn(STEPS[kind], callback=plasticity)
        plain_model, plain_plasticity = make(kind), Plasticity()
        plain_model.learn(STEPS[kind], callback=plain_plasticity)
        assert plasticity.state_dict()["counters"] == plain_plasticity.state_dict()["counters"]
        assert model._n_updates == plain_model._n_updates
        buffer = getattr(model, "rollout_buffer", None) or getattr(model, "replay_buffer", None)
        assert not {"get", "sample", "step", "train"} & {*vars(model), *vars(buffer), *vars(model.policy.optimizer)}


def test_a_stop_at_sams_ascended_weights_takes_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    model = agent(monkeypatch, "ppo", SAM())
    model.target_kl = 1e-9  # type: ignore[attr-defined]
    before = weights(model)
    model.learn(64, callback=Plasticity())
    assert torch.equal(weights(model), before)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--agent sac --env Pendulum-v1 --optimizer sam", "PPO, A2C and DQN can give, but not SAC"),
        ("--agent sac --env Pendulum-v1 --optimizer adam_rel", "choose periodic or switch"),
        ("--agent dqn --env CartPole-v1 --agent.tau 0.5 --optimizer moment_reset", "with tau 0.5 it moves a little"),
        ("--optimizer muon --network.hidden 8", "Muon would act on nothing"),
        ("--env CartPole-v1 --optimizer adam_rel --optimizer.when switch", "optimizer adam_rel waits for a switch"),
        ("--optimizer kron", "needs the package kron-torch"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(words: str, message: str) -> None:
    if "kron" in words and "kron" in INSTALLED:
        pytest.skip("kron-torch is installed")
    with pytest.raises(UsageError) as error:
        build(parse(words.split()))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_agents_own_eps_holds_until_it_is_set() -> None:
    def eps(*words: str) -> float:
        model = build(parse([*words, "--optimizer", "unit_adam"]))[2]
        return float(optimizers(model)[0].param_groups[0]["eps"])

    assert eps("--agent", "ppo") == 1e-5
    assert eps("--agent", "dqn", "--env", "CartPole-v1") == 1e-8
    assert eps("--agent", "ppo", "--optimizer.eps", "1e-3") == 1e-3
    assert type(optimizers(build(parse(["--agent", "a2c", "--env", "CartPole-v1"]))[2])[0]).__name__ != "Adam"
