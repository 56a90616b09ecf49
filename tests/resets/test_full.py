"""Full resets: exactly the named parts, their moments and their targets."""

from typing import Any, get_args, get_type_hints

import pytest
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.plasticity import Plasticity
from agents.sb3 import read_networks
from configs.settings import SettingError
from resets import Full, Moment
from tests.models import make

PARTS = get_args(get_type_hints(Full)["parts"])


def reset(model: BaseAlgorithm, full: Full) -> list[str]:
    """Fire at a switch; returns the names of the networks that were reset."""
    networks = [network for network in read_networks(model) if full.acts_on(network)]
    moment = Moment(1000, 1, {}, switched=True, activations=lambda _: {})
    return [event.network for event in full.between_rollouts(networks, moment, torch.Generator().manual_seed(1))]


def expected(model: BaseAlgorithm, full: Full, name: str, is_head: bool) -> bool:
    """Whether the settings mean this parameter."""
    role = name.split(".")[0].rstrip("0123456789")
    if role == "log_ent_coef" and full.parts in ("head", "body"):
        return False
    if full.parts in ("actor", "critic") and role != full.parts:
        return False
    if full.networks != "all" and role != full.networks:
        return False
    return {"head": is_head, "body": not is_head}.get(full.parts, True)


CASES = [
    *(
        (kind, parts, networks)
        for kind in ("ppo-box", "sac")
        for parts in PARTS
        for networks in ("all", "actor", "critic")
    ),
    *((kind, parts, "all") for kind in ("dqn", "td3") for parts in ("all", "head")),
]


@pytest.mark.parametrize(("kind", "parts", "networks"), CASES)
def test_only_the_named_parts_start_anew(kind: str, parts: str, networks: str) -> None:
    if parts in ("actor", "critic") and networks not in ("all", parts):
        with pytest.raises(SettingError, match="parts must be"):
            Full(parts=parts, networks=networks)  # type: ignore[arg-type]
        return
    model = make(kind)
    model.learn(24)
    full = Full(parts=parts, networks=networks)  # type: ignore[arg-type]
    seen = read_networks(model)
    heads = {param.name for network in seen for layer in network.layers if layer.is_head for param in layer.params()}
    heads |= {param.name for network in seen for param in network.free}
    before = {param.name: param.tensor.detach().clone() for network in seen for param in network.params()}
    reset(model, full)
    for param in (param for network in read_networks(model) for param in network.params()):
        chosen = expected(model, full, param.name, param.name in heads)
        moved = not torch.equal(param.tensor, before[param.name])
        assert moved == (chosen and parts != "moments"), param.name
        assert param.optimizer is not None
        assert (param.tensor in param.optimizer.state) == (not chosen), f"moments of {param.name}"
        if chosen and parts != "moments" and param.target is not None:
            assert torch.equal(param.target, param.tensor), f"target of {param.name}"


def test_all_of_a_new_agent_is_new_and_trains() -> None:
    model = make("sac")
    model.learn(30)
    assert reset(model, Full()) == ["actor", "critic0", "critic1"]
    fresh = {param.name: param for network in read_networks(model) for param in network.params()}
    assert float(fresh["log_ent_coef"].tensor.detach()) == 0.0
    before = fresh["actor.0.weight"].tensor.detach().clone()
    model.learn(10, reset_num_timesteps=False)
    assert not torch.equal(before, fresh["actor.0.weight"].tensor)
    assert model.replay_buffer is not None
    assert model.replay_buffer.size() == 40, "the replay buffer is kept"


def test_a_temperature_starts_where_its_own_setting_says() -> None:
    model = SAC("MlpPolicy", "Pendulum-v1", ent_coef="auto_0.1", buffer_size=200, learning_starts=20, seed=0)
    model.learn(24)
    reset(model, Full())
    assert float(model.log_ent_coef.detach().exp()) == pytest.approx(0.1)  # type: ignore[union-attr]


def test_events_tell_only_of_networks_that_were_reset() -> None:
    model = make("ppo-cnn")
    assert reset(model, Full(parts="head")) == ["actor", "critic"], "the shared convolutions have no head"
    assert reset(model, Full(parts="body")) == ["shared"], "actor and critic are nothing but heads"


def test_a_normalisation_of_the_inputs_is_no_head() -> None:
    seen = read_networks(make("crossq"))
    chosen = {param.name for network in seen for param in Full(parts="head").chosen(network)}
    assert chosen == {
        f"{name}.{kind}"
        for name in ("actor.mu", "actor.log_std", "critic0.1", "critic1.1")
        for kind in ("weight", "bias")
    }


def test_a_switch_is_needed_and_a_period_is_counted() -> None:
    model = make("ppo")
    networks = read_networks(model)

    def fires(full: Full, step: int, switched: bool = False) -> bool:
        moment = Moment(step, 1, {}, switched=switched, activations=lambda _: {})
        return bool(list(full.between_rollouts(networks, moment, torch.Generator())))

    assert not fires(Full(), 10**9)
    assert fires(Full(), 64, switched=True)
    periodic = Full(when="periodic", every=100)
    assert [fires(periodic, step) for step in (0, 64, 128, 192, 256)] == [False, False, True, False, True]
    assert not fires(periodic, 300, switched=True)


def test_a_model_that_learns_anew_is_reset_as_often_again() -> None:
    """SB3 counts environment steps from zero then."""
    model, plasticity, events = make("ppo"), Plasticity(Full(when="periodic", every=128, unit="env_steps")), list[Any]()
    plasticity.listeners.append(events.append)
    counts = []
    for _ in range(2):
        events.clear()
        model.learn(512, callback=plasticity)
        counts.append(len(events))
    assert counts[0] == counts[1] > 0
