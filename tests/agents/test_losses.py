"""Losses as pure functions: their gradients are those with which SB3's own `train` steps."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor, nn

from agents.injection import inject
from agents.layers import Network
from agents.losses import network_loss
from agents.sb3 import Batch, read_networks, sample_batch
from metrics.base import Loss
from metrics.gradients.per_sample import sample_gradients
from tests.models import make, small

Gradients = dict[str, Tensor]


class Choices(gym.Env[Any, Any]):
    """Random observations for action spaces of any kind."""

    def __init__(self, action_space: spaces.Space[Any]) -> None:
        self.observation_space = spaces.Box(-1, 1, (5,), np.float32)
        self.action_space = action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), float(np.sum(action)), self.np_random.random() < 0.1, False, {}


def ppo(env: Any, algorithm: type[Any] = sb3.PPO, **arguments: Any) -> Any:
    kwargs = small() | arguments.pop("policy_kwargs", {})
    return algorithm("MlpPolicy", env, n_steps=64, policy_kwargs=kwargs, seed=0, device="cpu", **arguments)


ON_POLICY: dict[str, Callable[[], Any]] = {
    kind: lambda kind=kind: make(kind)
    for kind in (
        "ppo",
        "ppo-box",
        "ppo-gsde",
        "ppo-norm",
        "ppo-cnn-tiny",
        "ppo-cnn-separate",
        "ppo-dict",
        "ppo-adaptive",
        "ppo-spectral-norm",
        "a2c",
        "trpo",
    )
}
ON_POLICY |= {
    "several choices": lambda: ppo(Choices(spaces.MultiDiscrete([3, 2, 4]))),
    "binary choices": lambda: ppo(Choices(spaces.MultiBinary(3))),
    "squashed gsde": lambda: ppo("Pendulum-v1", use_sde=True, policy_kwargs={"squash_output": True}),
    "a2c, plain advantages": lambda: ppo("CartPole-v1", sb3.A2C, ent_coef=0.1),
}
OFF_POLICY = (
    "sac",
    "sac-gsde",
    "sac-cnn-tiny",
    "sac-cnn-shared",
    "td3",
    "tqc",
    "tqc-cnn-tiny",
    "dqn",
    "dqn-cnn-tiny",
    "qrdqn",
)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def learning_batch(model: Any, size: int = 10_000) -> Batch:
    found = sample_batch(model, size, np.random.default_rng(0), learning=True)
    assert found is not None
    return found


def shake(model: Any) -> None:
    """Change all weights a little; those of targets in their own way."""
    drawn = generator()
    with torch.no_grad():
        for tensor in model.policy.parameters():
            tensor += 0.1 * (tensor.abs().mean() + 0.1) * torch.randn(tensor.shape, generator=drawn)


@pytest.fixture
def stepped(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Gradients]:
    """Runs a model's own `train`; gives the gradient of each parameter at its optimiser's first step."""

    def run(model: Any) -> Gradients:
        networks = read_networks(model)
        found: Gradients = {}

        def keeper(optimizer: Any) -> Callable[..., None]:
            def step(*arguments: Any, **more: Any) -> None:
                for param in (param for network in networks for param in network.params()):
                    if param.optimizer is optimizer and param.tensor.grad is not None:
                        found.setdefault(param.name, param.tensor.grad.clone())

            return step

        for optimizer in {network.optimizer for network in networks} - {None}:
            monkeypatch.setattr(optimizer, "step", keeper(optimizer))
        monkeypatch.setattr(nn.utils, "clip_grad_norm_", lambda *arguments, **more: None)
        model.train(*() if isinstance(model, OnPolicyAlgorithm) else (1, 16))
        return found

    return run


def close(found: Tensor, expected: Tensor) -> None:
    assert float((found - expected).norm()) <= 1e-5 * float(expected.norm()) + 1e-7


def check(model: Any, batch: Batch, expected: Gradients) -> None:
    """The loss's gradient, at once and as the mean over single samples, is the expected one."""
    checked = 0
    for network in read_networks(model):
        loss = network_loss(model, network, batch, generator())
        if not network.layers:
            assert loss is None
            continue
        assert loss is not None
        parameters = {name: tensor.clone().requires_grad_() for name, tensor in loss.parameters.items()}
        found = torch.autograd.grad(loss.mean(parameters), list(parameters.values()), materialize_grads=True)
        for name, gradient in zip(parameters, found, strict=True):
            close(gradient, expected[name])
            checked += int(gradient.abs().max() > 0)
        close(sample_gradients(loss).mean(0), torch.cat([gradient.flatten() for gradient in found]))
    assert checked >= 6


@pytest.mark.parametrize("kind", ON_POLICY)
def test_the_gradient_is_the_one_that_an_on_policy_agent_is_stepped_with(
    kind: str, stepped: Callable[[Any], Gradients], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ON_POLICY[kind]()
    model.n_epochs, model.batch_size = 1, 16
    model.learn(model.n_steps)
    shake(model)  # so that the policy is not the one that has acted
    model.n_epochs, model.batch_size, model.n_critic_updates = 1, model.n_steps, 1
    if kind in ("ppo", "squashed gsde", "ppo-dict"):
        model.clip_range, model.clip_range_vf, model.ent_coef = lambda left: 0.01, lambda left: 0.02, 0.3
    batch, searched = learning_batch(model), {}
    if kind == "trpo":
        original = model._compute_actor_grad

        def keep(kl: Tensor, objective: Tensor) -> Any:
            found = original(kl, objective)
            names = {param.tensor: param.name for network in read_networks(model) for param in network.params()}
            parts = found[1].split([tensor.numel() for tensor in found[0]])
            for tensor, part in zip(found[0], parts, strict=True):
                searched[names[tensor]] = -part.view_as(tensor)
            return found

        monkeypatch.setattr(model, "_compute_actor_grad", keep)
        monkeypatch.setattr(model, "line_search_max_iter", 0)
    before = copy.deepcopy(model.policy.state_dict())
    expected = stepped(model) | searched
    for name, value in model.policy.state_dict().items():
        assert torch.equal(value, before[name]) or "running_u" in name  # spectral normalisation's power iteration
    model.policy.load_state_dict(before)
    check(model, batch, expected)


def replayed(model: Any, monkeypatch: pytest.MonkeyPatch) -> Batch:
    """A batch that the model's buffer will give, its noise to be that of `generator()`."""
    batch, drawn = learning_batch(model, 16), generator()
    more, actions = batch.learning, batch.actions
    assert actions is not None
    if isinstance(model, sb3.DQN | sb3_contrib.QRDQN):
        actions = actions.long()
    ends, rewards = more["dones"].unsqueeze(1), more["rewards"].unsqueeze(1)
    sample = ReplayBufferSamples(batch.observations, actions, more["next_observations"], ends, rewards)
    monkeypatch.setattr(model.replay_buffer, "sample", lambda *arguments, **named: sample)

    def noise(shape: torch.Size, *arguments: Any, **named: Any) -> Tensor:
        return torch.randn(shape, generator=drawn)

    def smoothing(tensor: Tensor, mean: float, std: float) -> Tensor:
        drawn.manual_seed(3)
        noise(tensor.shape)  # of the actions, of which TD3 has no use
        return tensor.copy_(noise(tensor.shape) * std + mean)

    monkeypatch.setattr("torch.distributions.normal._standard_normal", noise)
    monkeypatch.setattr(Tensor, "normal_", smoothing)
    return batch


@pytest.mark.parametrize("kind", OFF_POLICY)
def test_the_gradient_is_the_one_that_an_off_policy_agent_is_stepped_with(
    kind: str, stepped: Callable[[Any], Gradients], monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = make(kind)
    model.learning_starts, model.policy_delay, model.tau = 100, 1, 0.0  # the actor steps too, targets stay as they are
    model.learn(24)
    model.target_policy_noise, model.target_noise_clip = 0.5, 0.3
    shake(model)
    batch = replayed(model, monkeypatch)
    batch.learning["dones"][::5] = 1
    check(model, batch, stepped(model))


def test_an_injected_head_learns_through_its_copy(stepped: Callable[[Any], Gradients]) -> None:
    model: Any = make("ppo")
    networks = read_networks(model)
    inject(networks, 2, generator())
    model.n_epochs, model.batch_size = 4, 16
    model.learn(model.n_steps)
    model.n_epochs, model.batch_size = 1, model.n_steps
    batch = learning_batch(model)
    check(model, batch, stepped(model))


def everything(model: Any) -> Iterator[Any]:
    yield from (tensor.clone() for tensor in model.policy.state_dict().values())
    yield from (tensor.grad is None for tensor in model.policy.parameters())
    yield from (module.training for module in model.policy.modules())
    yield torch.get_rng_state()
    numpy_state: Any = np.random.get_state()  # noqa: NPY002
    yield torch.as_tensor(numpy_state[1].astype(np.int64))


@pytest.mark.parametrize("kind", ["ppo-spectral-norm", "ppo-cnn-tiny", "sac-gsde", "td3", "dqn"])
def test_nothing_of_the_model_is_touched_and_nobody_hears_of_it(kind: str) -> None:
    model: Any = make(kind)
    model.learn(24)
    model.policy.zero_grad()
    model.policy.train()
    batch, before = learning_batch(model, 8), list(everything(model))

    def hook(*arguments: Any) -> None:
        raise AssertionError("a live module was run")

    handles = [module.register_forward_hook(hook) for module in model.policy.modules()]
    for network in read_networks(model):
        if (loss := network_loss(model, network, batch, generator())) is not None:
            sample_gradients(loss)
            parameters = {name: tensor.requires_grad_() for name, tensor in loss.parameters.items()}
            loss.mean(parameters).backward()
    for handle in handles:
        handle.remove()
    for old, new in zip(before, everything(model), strict=True):
        assert torch.equal(old, new) if isinstance(old, Tensor) else old == new


def some_loss(model: Any, batch: Batch, name: str) -> Loss | None:
    network: Network = next(network for network in read_networks(model) if network.name == name)
    return network_loss(model, network, batch, generator())


def test_dropout_is_off_and_stays_on() -> None:
    model: Any = make("ppo")
    model.learn(64)
    model.policy.mlp_extractor.policy_net.append(nn.Dropout(0.5))
    model.policy.train()
    loss = some_loss(model, learning_batch(model), "actor")
    assert loss is not None
    assert torch.equal(loss.mean(loss.parameters), loss.mean(loss.parameters))
    assert model.policy.mlp_extractor.policy_net[-1].training


def test_every_tensor_of_the_samples_has_the_samples_first() -> None:
    for kind in ("ppo-cnn-tiny", "sac-gsde", "tqc"):
        model: Any = make(kind)
        model.learning_starts = 100
        model.learn(16)
        for network in read_networks(model):
            loss = network_loss(model, network, learning_batch(model, 7), generator())
            parts = [] if loss is None else [*loss.samples.values()]
            for part in parts:
                assert all(len(tensor) == 7 for tensor in (part.values() if isinstance(part, dict) else [part]))


def test_what_is_not_known_has_no_loss() -> None:
    class Own(sb3.PPO):
        def train(self) -> None:
            super().train()

    known: Any = make("ppo")
    known.learn(64)
    batch = learning_batch(known)
    assert some_loss(known, batch, "actor") is not None
    assert some_loss(known, Batch(batch.observations, batch.actions), "actor") is None
    own = Own("MlpPolicy", "CartPole-v1", n_steps=64, policy_kwargs=small(), device="cpu")
    assert some_loss(own, batch, "actor") is None
    crossq: Any = make("crossq")
    crossq.learn(30)
    assert some_loss(crossq, learning_batch(crossq, 8), "critic0") is None
