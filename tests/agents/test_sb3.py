"""A model seen as layers: checked by what its outputs do, not by the names of its parts."""

import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import Tensor, nn

from agents.layers import Layer, Network, reinitialize_units
from agents.modules import SpectralNorm
from agents.sb3 import Batch, UnreadableModelError, activations, forward, read_networks, sample_batch
from tests.models import MODELS, VARIANTS, make

KINDS = sorted(MODELS)


def observed(model: BaseAlgorithm, size: int = 6) -> Batch:
    """Random observations and actions of the model's spaces, as its networks take them."""
    space, actions = model.observation_space, model.action_space
    space.seed(1)
    actions.seed(1)
    samples = [space.sample() for _ in range(size)]
    stacked: Any = (
        {key: np.stack([sample[key] for sample in samples]) for key in samples[0]}
        if isinstance(samples[0], dict)
        else np.stack(samples)
    )
    chosen = np.stack([np.atleast_1d(actions.sample()) for _ in range(size)])
    return Batch(model.policy.obs_to_tensor(stacked)[0], torch.as_tensor(chosen, dtype=torch.float32))


def outputs(model: BaseAlgorithm, networks: list[Network], batch: Batch) -> Tensor:
    """The outputs of all heads, `[samples, everything]`."""
    heads = [layer for network in networks for layer in network.layers if layer.is_head]
    found: dict[Layer, Tensor] = {}
    handles = [
        head.module.register_forward_hook(lambda _m, _i, output, head=head: found.__setitem__(head, output))
        for head in heads
    ]
    forward(model, batch)
    for handle in handles:
        handle.remove()
    return torch.cat([found[head].flatten(1) for head in heads], dim=1)


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> BaseAlgorithm:
    return make(request.param)


def without_statistics(model: BaseAlgorithm) -> BaseAlgorithm:
    """The model without what lets each unit move all others: means and variances of a layer, largest singular values.

    What is left of a normalisation are its scale and offset.
    """
    for module in model.policy.modules():
        if isinstance(module, (nn.LayerNorm, nn.GroupNorm)):
            affine = lambda h, m=module: h * like(m.weight, h) + like(m.bias, h)  # noqa: E731
            module.forward = affine  # type: ignore[method-assign]
        if isinstance(module, SpectralNorm):
            module.normalized = lambda m=module: m.weight  # type: ignore[method-assign]
    return model


def like(vector: Tensor, h: Tensor) -> Tensor:
    """A vector of units in the shape of their outputs."""
    return vector.view(-1, *(1,) * (h.dim() - 2))


@pytest.mark.parametrize("kind", KINDS)
def test_a_unit_speaks_through_its_consumers_columns_and_through_nothing_else(kind: str) -> None:
    model = without_statistics(make(kind))
    networks, batch = read_networks(model), observed(model)
    for layer in [layer for network in networks for layer in network.hidden]:
        state = {name: value.clone() for name, value in model.policy.state_dict().items()}
        units = torch.zeros(layer.units, dtype=torch.bool)
        units[torch.arange(0, layer.units, 3)] = True
        for consumer in layer.consumers:
            consumer.layer.weight.overwrite(0.0, consumer.columns(units).unsqueeze(-2))
        silenced = outputs(model, networks, batch)
        change(layer, units)
        assert torch.equal(outputs(model, networks, batch), silenced), f"{layer.name} is heard elsewhere"
        change(layer, ~units)
        assert not torch.equal(outputs(model, networks, batch), silenced), f"{layer.name} is not heard at all"
        model.policy.load_state_dict(state)


def change(layer: Layer, units: Tensor) -> None:
    """Add one to every parameter of these units."""
    for param in layer.params():
        where = units.unsqueeze(-1) if param is layer.weight else units
        before = param.tensor.clone()
        param.overwrite(param.tensor + 1.0, where)
        assert int((param.tensor != before).sum()) == param.tensor.numel() * int(units.sum()) // layer.units


def test_normalisation_belongs_to_the_layer_it_follows() -> None:
    for network in read_networks(make("ppo-norm")):
        for layer in network.hidden:
            assert [param.tensor.shape for param in layer.norm] == [(layer.units,), (layer.units,)]
            assert isinstance(layer.output, nn.ReLU)


@pytest.mark.parametrize("kind", ["ppo-crelu-layernorm", "ppo-cnn-crelu"])
def test_after_two_outputs_of_a_unit_a_normalisation_has_two_entries_a_unit(kind: str) -> None:
    for layer in [layer for network in read_networks(make(kind)) for layer in network.hidden]:
        assert (layer.expansion, [param.block for param in layer.norm]) == (2, [2, 2])
        assert [param.tensor.shape for param in layer.norm] == [(2 * layer.units,)] * 2
        units = torch.arange(layer.units) == 1
        reinitialize_units({layer: units}, torch.Generator())
        change(layer, units)
        assert (layer.norm[0].tensor == 2.0).nonzero().flatten().tolist() == [2, 3]


def test_slopes_of_a_nonlinearity_belong_to_the_layer_before_it() -> None:
    for layer in [layer for network in read_networks(make("ppo-adaptive")) for layer in network.hidden]:
        (slope,) = layer.slopes
        assert slope.tensor.shape == (layer.units,)
        assert slope in layer.params()
        assert not slope.name.endswith((".weight", ".scale")), "penalties would take it for a scale, which starts at 1"
        slope.overwrite(1.0)
        reinitialize_units({layer: torch.arange(layer.units) == 0}, torch.Generator())
        assert slope.tensor.tolist() == [0.0] + [1.0] * (layer.units - 1)


@pytest.mark.parametrize("kind", VARIANTS)
def test_a_network_computes_what_the_policy_computes(kind: str) -> None:
    model: Any = make(kind)
    batch, policy = observed(model), model.policy
    networks = {network.name: network for network in read_networks(model)}
    policy.set_training_mode(False)
    if hasattr(policy, "action_net"):
        found = policy.action_dist.proba_distribution(*networks["actor"].run(policy_inputs(model, batch)))
        expected = policy.get_distribution(batch.observations)
        assert torch.equal(found.distribution.logits, expected.distribution.logits)
        values = networks["critic"].run(policy_inputs(model, batch))
        assert torch.equal(values[0], policy.predict_values(batch.observations))
    elif hasattr(policy, "critic"):
        features = policy.critic.extract_features(batch.observations, policy.critic.features_extractor)
        expected = policy.critic(batch.observations, batch.actions)
        found = [networks[f"critic{n}"].run(torch.cat([features, batch.actions], 1))[0] for n in range(2)]
        assert torch.equal(
            torch.stack(found), expected.movedim(1, 0) if kind == "tqc-fourier" else torch.stack(expected)
        )
        actions = networks["actor"].run(policy_inputs(model, batch))[0]  # those of TD3's actor have their tanh
        actions = actions if kind == "td3-smooth" else actions.tanh()
        assert torch.equal(actions, policy._predict(batch.observations, deterministic=True))
    else:
        assert torch.equal(networks["critic"].run(policy_inputs(model, batch))[0], policy.q_net(batch.observations))


def policy_inputs(model: BaseAlgorithm, batch: Batch) -> Any:
    """Observations as the features extractor takes them."""
    return preprocess_obs(batch.observations, model.observation_space)


def test_every_trained_parameter_appears_once_with_its_optimizer(model: BaseAlgorithm) -> None:
    params = [param for network in read_networks(model) for param in network.params()]
    tensors = [param.tensor for param in params]
    assert len(set(tensors)) == len(tensors)
    owners = {
        tensor: optimizer
        for holder in (model.policy, getattr(model, "actor", None), getattr(model, "critic", None), model)
        for optimizer in (getattr(holder, "optimizer", None), getattr(holder, "ent_coef_optimizer", None))
        if optimizer is not None
        for group in optimizer.param_groups
        for tensor in group["params"]
    }
    assert {param.tensor: param.optimizer for param in params} == owners
    assert len({param.name for param in params}) == len(params)


def test_targets_are_the_copies_that_polyak_averaging_moves(model: BaseAlgorithm) -> None:
    params = {param.tensor: param for network in read_networks(model) for param in network.params()}
    for name in ("actor", "critic", "q_net", "quantile_net"):
        target = getattr(model.policy, f"{name}_target", None)
        if target is None:
            continue
        for online, copy in zip(getattr(model.policy, name).parameters(), target.parameters(), strict=True):
            assert params[online].target is copy


def test_fresh_weights_come_from_the_distribution_the_model_was_born_from(model: BaseAlgorithm) -> None:
    generator = torch.Generator().manual_seed(3)
    for param in (param for network in read_networks(model) for param in network.params()):
        fresh, born = param.fresh(generator), param.tensor.detach()
        assert fresh.shape == born.shape
        constant = bool(torch.all(born == born.flatten()[0]))
        if born.numel() > 300 and not constant:
            assert fresh.std().item() == pytest.approx(born.std().item(), rel=0.15), param.name
            assert not torch.equal(fresh, born)
        if born.numel() > 1 and constant:  # zero biases, log_std, scales and offsets of norms
            assert torch.equal(fresh, born), param.name


def test_orthogonal_layers_are_born_orthogonal_again() -> None:
    gains = {"actor.0": math.sqrt(2), "actor.1": math.sqrt(2), "actor.head": 0.01, "critic.head": 1.0}
    generator = torch.Generator().manual_seed(0)
    layers = {layer.name: layer for network in read_networks(make("ppo")) for layer in network.layers}
    for name, gain in gains.items():
        weight = layers[name].weight.fresh(generator)
        gram = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
        torch.testing.assert_close(gram, gain**2 * torch.eye(len(gram)), atol=1e-5, rtol=1e-5)


def test_torch_default_layers_stay_in_their_bounds() -> None:
    generator = torch.Generator().manual_seed(0)
    for network in read_networks(make("sac")):
        for layer in network.layers:
            bound = 1 / math.sqrt(layer.weight.matrix.shape[1])
            assert layer.weight.fresh(generator).abs().max() <= bound
            assert layer.bias is not None
            assert 0.3 * bound < layer.bias.fresh(generator).abs().max() <= bound or layer.is_head


def test_activations_are_those_of_a_plain_loop() -> None:
    model = make("sac")
    batch = observed(model, 9)
    networks = {network.name: network for network in read_networks(model)}
    found = activations(model, networks["critic1"].hidden, batch)
    h = torch.cat([batch.observations, batch.actions], dim=1)
    for layer in networks["critic1"].hidden:
        h = torch.relu(h @ layer.weight.tensor.T + layer.bias.tensor)  # type: ignore[union-attr]
        torch.testing.assert_close(found[layer], h)


def test_a_channels_activations_are_all_its_positions() -> None:
    model = make("ppo-cnn")
    shared = read_networks(model)[0]
    batch = observed(model, 5)
    first = shared.hidden[0]
    maps = torch.relu(first.module(batch.observations.float() / 255))
    found = activations(model, [first], batch)[first]
    assert found.shape == (5 * maps.shape[2] * maps.shape[3], 32)
    torch.testing.assert_close(found.mean(0), maps.mean((0, 2, 3)))


def test_looking_at_a_model_draws_no_random_number_and_keeps_its_mode(model: BaseAlgorithm) -> None:
    batch = observed(model)
    model.policy.set_training_mode(True)
    before, weights = torch.get_rng_state(), {k: v.clone() for k, v in model.policy.state_dict().items()}
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    networks = read_networks(model)
    activations(model, [layer for network in networks for layer in network.hidden], batch)
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002
    assert model.policy.training
    assert all(torch.equal(value, weights[key]) for key, value in model.policy.state_dict().items())


def in_buffer(model: BaseAlgorithm) -> Callable[[Tensor], bool]:
    buffer: Any = getattr(model, "rollout_buffer", None) or model.replay_buffer  # type: ignore[attr-defined]
    stored = torch.as_tensor(buffer.observations.reshape(-1, *model.observation_space.shape))  # type: ignore[misc]
    return lambda row: bool((stored == row).all(1).any())


@pytest.mark.parametrize("kind", ["ppo", "sac"])
def test_a_batch_is_made_of_distinct_stored_observations(kind: str) -> None:
    model = make(kind)
    assert sample_batch(model, 8, np.random.default_rng(0)) is None
    model.learn(64)
    batch = sample_batch(model, 32, np.random.default_rng(0))
    again = sample_batch(model, 32, np.random.default_rng(0))
    assert batch is not None
    assert again is not None
    assert torch.equal(batch.observations, again.observations)
    assert len(batch.observations) == 32
    assert len(torch.unique(batch.observations, dim=0)) > 28
    known = in_buffer(model)
    assert all(known(row) for row in batch.observations)


@pytest.mark.parametrize("kind", ["ppo-dict", "ppo-cnn", "sac-cnn"])
def test_a_batch_of_images_or_dictionaries_can_be_run(kind: str) -> None:
    model = make(kind)
    model.learn(24)
    batch = sample_batch(model, 8, np.random.default_rng(0))
    assert batch is not None
    hidden = [layer for network in read_networks(model) for layer in network.hidden]
    found = activations(model, hidden, batch)
    assert [found[layer].shape[1] for layer in hidden] == [layer.units for layer in hidden]
    assert found[hidden[-1]].shape[0] == 8


@pytest.mark.parametrize("kind", [PPO, SAC])
def test_a_batch_is_normalised_once_as_in_training(kind: type[Any]) -> None:
    env = VecNormalize(DummyVecEnv([lambda: gym.make("Pendulum-v1")] * 2), norm_reward=False)
    arguments = {"n_steps": 64, "batch_size": 64} if kind is PPO else {"buffer_size": 500, "learning_starts": 300}
    model = kind("MlpPolicy", env, seed=0, device="cpu", **arguments)
    model.learn(256)
    batch = sample_batch(model, 100, np.random.default_rng(0))
    assert batch is not None
    speeds = batch.observations[:, 2]  # raw ones go to 8
    assert 0.4 < float(speeds.std()) < 2.0


class Counting(gym.Env[Any, Any]):
    """Observes how many steps it has taken, so that a transition tells which it is; ends at 7, is cut off at 5."""

    def __init__(self, start: int, continuous: bool) -> None:
        self.observation_space = spaces.Box(0, np.inf, (1,), np.float32)
        self.action_space = spaces.Box(-1, 1, (1,)) if continuous else spaces.Discrete(2)
        self.start, self.count = start, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = float(self.start + self.count)
        self.count += 1
        return self._seen(), reward, self.count % 7 == 0, self.count % 5 == 0, {}

    def _seen(self) -> Any:
        return np.array([self.start + self.count], np.float32)


@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize("steps", [40, 130])
def test_recent_transitions_of_a_replay_buffer_and_what_is_learnt_from_them(steps: int, memory: bool) -> None:
    """Also where the buffer has gone round; two environments that count from 0 and from 1000."""
    env = DummyVecEnv([lambda: Counting(0, True), lambda: Counting(1000, True)])
    kwargs = {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}}
    model = SAC(
        "MlpPolicy", env, buffer_size=100, learning_starts=10**6, seed=0, device="cpu", policy_kwargs={"net_arch": [4]},
        **(kwargs if memory else {}),
    )  # fmt: skip
    model.learn(steps)
    batch = sample_batch(model, 1000, np.random.default_rng(0), recent=15, learning=True)
    assert batch is not None
    seen = batch.observations.flatten()
    last = steps // 2
    expected = [start + count for start in (0, 1000) for count in range(last - 8, last)]
    assert sorted(seen.tolist()) == expected, "15 steps of two environments are eight whole rows"
    assert torch.equal(batch.learning["rewards"].flatten(), seen)
    assert torch.equal(batch.learning["next_observations"].flatten(), seen + 1)
    after = seen % 1000 + 1
    ended = (after % 7 == 0) | (after % 5 == 0) if memory else after % 7 == 0  # without memory of timeouts all are ends
    assert torch.equal(batch.learning["dones"].flatten().bool(), ended)


@pytest.mark.parametrize("trained", [False, True])
def test_recent_transitions_of_a_rollout_and_what_is_learnt_from_them(trained: bool) -> None:
    env = DummyVecEnv([lambda: Counting(0, False), lambda: Counting(1000, False)])
    model = PPO("MlpPolicy", env, n_steps=16, batch_size=8, n_epochs=1, seed=0, device="cpu")
    _, callback = model._setup_learn(64, None)
    model.collect_rollouts(env, callback, model.rollout_buffer, 16)
    buffer = model.rollout_buffer
    expected = {
        float(buffer.observations[step, index, 0]): [
            float(getattr(buffer, name)[step, index]) for name in ("advantages", "returns", "values", "log_probs")
        ]
        for step in range(10, 16)
        for index in range(2)
    }
    if trained:
        next(iter(buffer.get(8)))  # from now on the buffer is flat, environment by environment
    batch = sample_batch(model, 1000, np.random.default_rng(0), recent=12, learning=True)
    assert batch is not None
    assert sorted(batch.observations.flatten().tolist()) == sorted(expected)
    for row, seen in enumerate(batch.observations.flatten().tolist()):
        found = [float(batch.learning[name][row]) for name in ("advantages", "returns", "values", "log_prob")]
        assert found == expected[seen]


def test_the_first_of_a_batch_are_those_of_all_its_parts() -> None:
    batch = Batch(
        {"a": torch.arange(5), "b": torch.arange(10).view(5, 2)}, torch.arange(5), {"rewards": torch.arange(5)}
    )
    first = batch.first(2)
    assert first.observations["b"].tolist() == [[0, 1], [2, 3]]
    assert first.actions is not None
    assert first.actions.tolist() == first.learning["rewards"].tolist() == first.observations["a"].tolist() == [0, 1]


def test_a_part_that_cannot_be_seen_is_refused_by_name() -> None:
    model = make("ppo")
    model.policy.stray = nn.Parameter(torch.zeros(3))
    model.policy.optimizer.add_param_group({"params": [model.policy.stray]})
    with pytest.raises(UnreadableModelError, match="'stray' belongs to no linear or convolutional layer"):
        read_networks(model)
