"""What a view shows of a model is what the model does, and looking changes nothing."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from torch.distributions import Categorical, Normal

from agents.sb3 import Batch, read_networks, sample_batch
from agents.viewing import ModelView, initial_tensors
from tests.models import make, small, weights

KINDS = (
    "ppo",
    "ppo-box",
    "ppo-gsde",
    "ppo-crelu",
    "ppo-dict",
    "sac",
    "sac-gsde",
    "sac-cnn-shared",
    "td3",
    "dqn",
    "tqc",
)


def viewed(kind: str, samples: int = 40, **options: Any) -> tuple[Any, ModelView]:
    """A model that has learnt a little, seen on transitions of its own."""
    model: Any = make(kind)
    model.learn(64 if kind.startswith("ppo") else 40)  # as many transitions as a batch has
    networks = [network for network in read_networks(model) if network.layers]
    batch = sample_batch(model, samples, np.random.default_rng(0), learning=True)
    return model, ModelView(model, networks, batch, (0, 1), **options)


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_are_those_of_the_networks_on_their_inputs(kind: str) -> None:
    model, view = viewed(kind)
    model.policy.set_training_mode(False)
    for network in view.networks:
        with torch.no_grad():
            expected = network.run(*view.inputs(network))
        for ours, theirs in zip(view.outputs(network), expected, strict=True):
            torch.testing.assert_close(ours, theirs)
            assert not ours.requires_grad
        features = view.features(network)
        assert features is not None
        assert len(features) == 40 or kind == "ppo-dict"
        last = network.hidden[-1]
        heads = [layer for layer in network.layers if layer.is_head]
        assert features.shape[1] == last.units * last.expansion
        if heads and network.heads and isinstance(network.heads[0], torch.nn.Linear):
            with torch.no_grad():
                torch.testing.assert_close(network.heads[0](features), expected[0])


@pytest.mark.parametrize("kind", ["ppo", "sac", "td3", "dqn", "ppo-crelu"])
def test_activations_are_the_nonlinearity_of_preactivations(kind: str) -> None:
    _, view = viewed(kind)
    for network in view.networks:
        before, after = view.preactivations(network), view.activations(network)
        assert set(before) == set(after) == set(network.hidden)
        for layer in network.hidden:
            if layer.expansion == 1:
                torch.testing.assert_close(after[layer], before[layer].relu())
            assert layer.nonlinearity is layer.output
        assert view.activations(network) is after


@pytest.mark.parametrize("kind", KINDS)
def test_looking_changes_neither_weights_nor_modes_nor_random_numbers(kind: str) -> None:
    model, view = viewed(kind)
    before, training = weights(model), model.policy.training
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    state, of_numpy = torch.get_rng_state(), np.random.random()  # noqa: NPY002 (the global one is meant)
    np.random.seed(3)  # noqa: NPY002
    for network in view.networks:
        view.activations(network)
        view.loss(network)
        view.sample_gradients(network)
        view.returns(network)
    view.policy()
    view.log_ratio()
    assert torch.equal(weights(model), before)
    assert model.policy.training == training
    assert torch.equal(torch.get_rng_state(), state)
    assert np.random.random() == of_numpy  # noqa: NPY002
    for module in model.policy.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_categorical_policies_are_read_as_logits() -> None:
    model, view = viewed("ppo")
    policy, distribution = view.policy(), model.policy.get_distribution(view.batch.observations).distribution
    assert policy is not None
    torch.testing.assert_close(Categorical(logits=policy.logits[0]).probs, distribution.probs)


@pytest.mark.parametrize("kind", ["ppo-box", "ppo-gsde"])
def test_gaussian_policies_are_read_as_moments(kind: str) -> None:
    model, view = viewed(kind)
    policy, distribution = view.policy(), model.policy.get_distribution(view.batch.observations).distribution
    assert policy is not None
    torch.testing.assert_close(policy.mean, distribution.mean)
    torch.testing.assert_close(policy.std, distribution.stddev)
    assert not policy.squashed


@pytest.mark.parametrize("kind", ["sac", "sac-gsde", "tqc"])
def test_squashed_policies_are_read_before_the_tanh(kind: str) -> None:
    model, view = viewed(kind)
    policy, actor = view.policy(), model.actor
    assert policy is not None
    assert view.batch is not None
    assert policy.squashed
    with torch.no_grad():
        mean, log_std, kwargs = actor.get_action_dist_params(view.batch.observations)
        found = actor.action_dist.proba_distribution(mean, log_std, **kwargs).distribution
    torch.testing.assert_close(policy.mean, found.mean)
    torch.testing.assert_close(policy.std, found.stddev)


def test_a_deterministic_policy_is_read_before_its_tanh() -> None:
    model, view = viewed("td3")
    policy = view.policy()
    assert policy is not None
    assert policy.mean is not None
    assert policy.std is None
    torch.testing.assert_close(policy.mean.tanh(), model.actor(view.batch.observations).detach(), atol=1e-5, rtol=1e-4)


def test_bits_are_read_as_pairs_of_logits() -> None:
    model: Any = make("ppo")
    space = __import__("gymnasium").spaces.MultiBinary(3)
    policy = sb3.common.policies.ActorCriticPolicy(model.observation_space, space, lambda _: 1e-3, **small())
    model.policy, model.action_space = policy, space
    networks = [network for network in read_networks(model) if network.layers]
    view = ModelView(model, networks, Batch(torch.randn(5, 4), torch.zeros(5, 3)))
    found, expected = view.policy(), policy.get_distribution(view.batch.observations).distribution.probs
    assert found is not None
    torch.testing.assert_close(torch.stack([pair.softmax(-1)[:, 1] for pair in found.logits], -1), expected)


@pytest.mark.parametrize("kind", ["ppo", "ppo-box", "ppo-dict"])
def test_the_ratio_is_one_on_what_the_present_policy_has_done_and_follows_it(kind: str) -> None:
    model: Any = make(kind)
    model.n_epochs = 1
    _, callback = model._setup_learn(64, None)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
    networks = [network for network in read_networks(model) if network.layers]
    batch = sample_batch(model, 64, np.random.default_rng(0), learning=True)
    assert batch is not None
    view = ModelView(model, networks, batch)
    ratio = view.log_ratio()
    assert ratio is not None
    torch.testing.assert_close(ratio, torch.zeros_like(ratio), atol=1e-5, rtol=0)
    before = view.policy()
    model.train()
    view = ModelView(model, networks, batch, before=before)
    after, ratio = view.policy(), view.log_ratio()
    assert after is not None
    assert before is view.policy_before()
    assert ratio is not None
    assert batch.actions is not None
    if kind == "ppo-box":
        expected = _log_prob(after, batch.actions) - _log_prob(before, batch.actions)
    else:
        actions = batch.actions.flatten()
        expected = Categorical(logits=after.logits[0]).log_prob(actions)
        expected = expected - Categorical(logits=before.logits[0]).log_prob(actions)
    torch.testing.assert_close(ratio, expected, atol=1e-5, rtol=1e-4)
    assert ratio.abs().max() > 1e-4


def _log_prob(policy: Any, actions: torch.Tensor) -> torch.Tensor:
    return Normal(policy.mean, policy.std).log_prob(actions).sum(-1)


def test_the_start_is_remembered() -> None:
    model: Any = make("ppo")
    networks = [network for network in read_networks(model) if network.layers]
    start = initial_tensors(networks)
    first = {param.name: param.tensor.detach().clone() for network in networks for param in network.params()}
    model.learn(128)
    view = ModelView(model, networks, None, initial=start)
    for network in networks:
        for param in network.params():
            initial = view.initial(param)
            assert initial is not None
            assert torch.equal(initial, first[param.name])
            assert not torch.equal(initial, param.tensor)
    unknown = ModelView(model, networks, None)
    assert unknown.initial(networks[0].params()[0]) is None


def test_generators_follow_from_run_moment_and_purpose() -> None:
    def drawn(seed: tuple[int, ...], purpose: str) -> float:
        return float(torch.rand(1, generator=ModelView(make("ppo"), [], None, seed).generator(purpose)))

    assert drawn((0, 1), "a") == drawn((0, 1), "a")
    assert len({drawn((0, 1), "a"), drawn((0, 2), "a"), drawn((1, 1), "a"), drawn((0, 1), "b")}) == 4


class OneSwitch(gym.ActionWrapper[Any, Any, Any]):
    """CartPole whose action is a list of one bit."""

    def __init__(self) -> None:
        super().__init__(gym.make("CartPole-v1"))
        self.action_space = gym.spaces.MultiBinary(1)

    def action(self, action: Any) -> int:
        return int(action[0])


def test_the_ratio_of_a_single_bit_is_a_number_a_sample() -> None:
    model = sb3.PPO("MlpPolicy", OneSwitch(), n_steps=64, batch_size=64, policy_kwargs=small(), device="cpu").learn(64)
    networks = [network for network in read_networks(model) if network.layers]
    batch = sample_batch(model, 40, np.random.default_rng(0), learning=True)
    found = ModelView(model, networks, batch, (0, 1)).log_ratio()
    assert batch is not None
    assert found is not None
    with torch.no_grad():
        _, expected, _ = model.policy.evaluate_actions(batch.observations, batch.actions)
    torch.testing.assert_close(found, expected - batch.learning["log_prob"])
