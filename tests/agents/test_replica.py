"""Replicas compute what the live network computed, on every kind of network, and go through a state unchanged."""

from typing import Any

import pytest
import torch
from torch import nn

from agents.injection import inject
from agents.layers import Network
from agents.replica import Replica, Replicas
from tests.features import Watched, move

KINDS = ["ppo", "ppo-norm", "ppo-cnn", "ppo-dict", "sac", "sac-cnn", "sac-cnn-shared", "td3", "dqn", "tqc", "crossq"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_replica_computes_what_the_network_did(kind: str) -> None:
    model = Watched(kind)
    for name, network in model.networks.items():
        model.run()  # a shared extractor has moved with the network before
        inputs, step, replica = model.inputs(name), model.step(name), Replica(network)
        outputs = [output.detach().clone() for output in network.run(*inputs)]
        before = {"activations": step.activations(network), "preactivations": step.preactivations(network)}
        before = {what: {layer: h.detach().clone() for layer, h in found.items()} for what, found in before.items()}
        assert before["activations"].keys() == set(network.hidden)
        move(network)
        assert all(map(torch.equal, replica(*inputs), outputs))
        assert not any(map(torch.equal, network.run(*inputs), replica(*inputs))), "the live one has moved on"
        assert not any(output.requires_grad for output in replica(*inputs))
        for what, expected in before.items():
            found = replica.features(what, *inputs)  # type: ignore[arg-type]
            assert found.keys() == expected.keys(), "keyed by the layers of the network itself"
            assert all(torch.equal(found[layer], expected[layer]) for layer in expected)
            assert not any(h.requires_grad for h in found.values())


def test_an_injected_head_is_part_of_its_replica() -> None:
    model = Watched("ppo")
    actor = model.networks["actor"]
    inject([actor], 2, torch.Generator())
    replica = Replica(actor)
    move(actor)  # the copies that learn, no longer their frozen counterweights
    assert not any(map(torch.equal, replica(*model.inputs("actor")), actor.run(*model.inputs("actor"))))
    replica.follow()
    assert all(map(torch.equal, replica(*model.inputs("actor")), actor.run(*model.inputs("actor"))))


@pytest.mark.parametrize("kind", ["ppo-cnn", "sac", "sac-cnn-shared", "ppo-norm", "crossq"])
def test_following_brings_it_up_to_date_in_place(kind: str) -> None:
    model = Watched(kind)
    for name, network in model.networks.items():
        inputs, replica = model.inputs(name), Replica(network)
        own = [tensor.data_ptr() for tensor in replica.tensors]
        assert not {tensor.data_ptr() for tensor in model.model.policy.state_dict().values()} & set(own)
        move(network)
        replica.follow()
        assert [tensor.data_ptr() for tensor in replica.tensors] == own
        assert all(map(torch.equal, replica(*inputs), network.run(*inputs)))


def test_what_modules_share_stays_shared() -> None:
    model = Watched("ppo-cnn")
    actor = model.networks["actor"]
    assert not actor.hidden, "all its hidden layers are in the shared extractor, which is in its body"
    trained = len(list(nn.ModuleList([*actor.body, *actor.heads]).parameters()))
    twice = Network("twice", "actor", actor.layers, body=actor.body, heads=[*actor.heads, *actor.heads])
    replica = Replica(twice)
    assert len(Replica(actor).tensors) == len(replica.tensors) == trained
    with torch.no_grad():
        replica.tensors[-1].fill_(7.0)  # the bias of the head that is there twice
    assert torch.equal(*replica(*model.inputs("actor")))


def test_nobody_watches_a_replica() -> None:
    model = Watched("sac")
    critic, calls = model.networks["critic0"], list[int]()
    handles = [layer.module.register_forward_hook(lambda *_: calls.append(0)) for layer in critic.layers]
    inputs, kept = model.inputs("critic0"), model.step("critic0").activations(critic)
    replica = Replica(critic)
    with torch.enable_grad():
        replica(*inputs)
        replica.features("activations", *inputs)
    after = model.step("critic0").activations(critic)
    assert not calls
    assert all(after[layer] is h for layer, h in kept.items())
    for handle in handles:
        handle.remove()


def test_twin_critics_read_features_and_action() -> None:
    model, state, replicas = Watched("sac"), dict[str, Any](), Replicas("old")
    inputs = model.inputs("critic0")
    assert inputs[0].shape == (8, 3 + 1)
    first, second = (replicas.of(model.networks[name], state)(*inputs)[0] for name in ("critic0", "critic1"))
    assert not torch.equal(first, second)
    assert torch.equal(second, model.networks["critic1"].run(*inputs)[0])
    assert len(Replica(model.networks["actor"])(*model.inputs("actor"))) == 2, "mu and log_std"


@pytest.mark.parametrize("kind", ["ppo-cnn", "ppo-norm", "sac", "crossq"])
def test_a_state_restores_it_bit_for_bit(kind: str) -> None:
    model = Watched(kind)
    for name, network in model.networks.items():
        inputs, state, replicas = model.inputs(name), dict[str, Any](), Replicas("old")
        expected = replicas.of(network, state)(*inputs)
        assert replicas.of(network, state) is replicas.of(network, state), "made once"
        saved = {key: value.clone() for key, value in state.items()}
        assert all(key.startswith(f"old.{name}.") for key in saved)
        move(network)
        for restored in (replicas, Replicas("old")):  # a state that was loaded replaces what was there
            loaded = dict(saved)
            found = restored.of(network, loaded)
            assert all(map(torch.equal, found(*inputs), expected))
            found.follow()
            assert all(map(torch.equal, loaded.values(), found.live)), "the state follows"
            assert not all(map(torch.equal, saved.values(), found.live)), "what was saved does not"


def test_training_mode_is_that_of_the_network() -> None:
    model = Watched("crossq", learn=30)
    critic, inputs = model.networks["critic0"], model.inputs("critic0")
    replica = Replica(critic)
    for training in (False, True, False):
        model.model.policy.set_training_mode(training)
        before = [tensor.clone() for tensor in replica.tensors]
        assert all(map(torch.equal, replica(*inputs), critic.run(*inputs)))
        assert all(map(torch.equal, before, replica.tensors)) != training, "running statistics move in training only"
