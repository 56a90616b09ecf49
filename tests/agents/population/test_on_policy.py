"""A population of PPO agents: each member is the agent that SB3 would have trained alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from agents import NETWORKS
from agents.population import Population, Streams, stackable
from agents.population.on_policy import OnPolicyStack
from tests.agents.population.seen import Noisy, Seen

SHOWN = ("actions", "clipped_actions", "new_obs", "rewards", "dones", "n_steps")


def make(env: Any, seed: int, n_envs: int = 1, **arguments: Any) -> PPO:
    """A small agent; `env` is an id or makes an environment."""
    settings: dict[str, Any] = {"n_steps": 48, "batch_size": 16, "n_epochs": 2, "policy_kwargs": {"net_arch": [16, 16]}}
    return PPO("MlpPolicy", make_vec_env(env, n_envs), seed=seed, device="cpu", **(settings | arguments))


RELU: dict[str, Any] = {"net_arch": [16, 16], "activation_fn": torch.nn.ReLU}
CASES: dict[str, dict[str, Any]] = {
    "discrete": {"env": "CartPole-v1"},
    "continuous": {"env": "Pendulum-v1"},
    "several choices": {"env": lambda: Noisy(spaces.MultiDiscrete([2, 4, 3])), "ent_coef": 0.1},
    "bits": {"env": lambda: Noisy(spaces.MultiBinary(3)), "ent_coef": 0.1},
    "wide actions": {"env": lambda: Noisy(spaces.Box(-0.3, 0.4, (2, 3), np.float32)), "ent_coef": 0.05},
    "discrete observations": {"env": lambda: Noisy(spaces.Discrete(3), spaces.Discrete(6))},
    "small integers": {"env": lambda: Noisy(spaces.Discrete(3), spaces.Box(0, 9, (4,), np.int64))},
    "two environments": {"env": "CartPole-v1", "n_envs": 2, "ent_coef": 0.01},
    "uneven minibatches": {"env": "CartPole-v1", "batch_size": 20},
    "clipped values": {"env": "Pendulum-v1", "clip_range_vf": 0.05},
    "plain advantages": {"env": "CartPole-v1", "normalize_advantage": False, "max_grad_norm": 0.01},
    "schedules": {
        "env": "CartPole-v1",
        "learning_rate": lambda left: 1e-3 * left,
        "clip_range": lambda left: 0.1 + left / 5,
    },
    "no bodies": {"env": "CartPole-v1", "policy_kwargs": {"net_arch": []}},
    "uneven bodies": {"env": "CartPole-v1", "policy_kwargs": {"net_arch": {"pi": [16], "vf": [8, 8]}}},
    "relu": {"env": "Pendulum-v1", "policy_kwargs": RELU},
    "elu": {"env": "Pendulum-v1", "policy_kwargs": {"net_arch": [16, 16], "activation_fn": torch.nn.ELU}},
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("members", [1, 3])
def test_members_equal_single_runs(name: str, members: int) -> None:
    """The first rollout is the same bit for bit; what is learnt from it the same to rounding."""
    seen = [Seen(SHOWN) for _ in range(members)]
    case = dict(CASES[name])
    population = Population.build(lambda seed: make(seed=seed, **case), range(members))
    population.learn(96 * case.get("n_envs", 1), seen)
    for seed in range(members):
        alone, shown = make(seed=seed, **case), Seen(SHOWN)
        alone.learn(96 * alone.n_envs, shown)
        assert seen[seed].moments == shown.moments
        assert len(seen[seed].steps) == len(shown.steps) == 96
        for mine, theirs in zip(seen[seed].steps[:48], shown.steps[:48], strict=True):
            for key, value in theirs.items():
                np.testing.assert_array_equal(mine[key], value, err_msg=key)
        assert_alike(population.models[seed], alone)


def assert_alike(member: Any, alone: Any) -> None:
    """The same parameters, statistics, rollout buffers, logged values and episodes."""
    for mine, theirs in zip(member.policy.parameters(), alone.policy.parameters(), strict=True):
        assert (mine - theirs).norm() <= 1e-5 * theirs.norm().clamp_min(1e-3)
        for name, value in alone.policy.optimizer.state[theirs].items():
            kept = member.policy.optimizer.state[mine][name]
            assert (kept - value).norm() <= 1e-3 * value.norm().clamp_min(1e-6), name
    for name in ("observations", "actions", "rewards", "values", "log_probs", "advantages", "returns"):
        kept, array = getattr(member.rollout_buffer, name), getattr(alone.rollout_buffer, name)
        # SB3 leaves them with all steps of an environment next to each other.
        kept = member.rollout_buffer.swap_and_flatten(kept) if array.shape != kept.shape else kept
        np.testing.assert_allclose(kept.squeeze(), array.squeeze(), rtol=1e-3, atol=1e-4, err_msg=name)
    logged = {name: value for name, value in alone.logger.name_to_value.items() if name.startswith("train/")}
    assert logged.keys() <= member.logger.name_to_value.keys()
    for name, value in logged.items():
        assert member.logger.name_to_value[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name
    assert member.num_timesteps == alone.num_timesteps
    assert member._n_updates == alone._n_updates
    assert [episode["l"] for episode in member.ep_info_buffer] == [episode["l"] for episode in alone.ep_info_buffer]


@pytest.mark.parametrize(
    "settings",
    [
        {"layer_norm": "before"},
        {"layer_norm": "after"},
        {"activation": "crelu"},
        {"activation": "fourier"},
        {"activation": "adaptive_linear"},
    ],
    ids=lambda settings: next(iter(settings.values())),
)
def test_members_with_other_networks_equal_single_runs(settings: dict[str, Any]) -> None:
    kind = NETWORKS["mlp"]

    def build(seed: int) -> PPO:
        network = kind(hidden=(16, 16), **settings)
        env = make_vec_env("CartPole-v1", 1)
        policy: Any = network.policy(env.observation_space, PPO)
        kwargs = network.policy_kwargs()
        return PPO(policy, env, seed=seed, n_steps=48, batch_size=16, n_epochs=2, policy_kwargs=kwargs, device="cpu")

    population = Population.build(build, range(2))
    population.learn(48)
    for seed, member in enumerate(population.models):
        alone = build(seed)
        alone.learn(48)
        assert_alike(member, alone)


def test_a_first_rollout_of_a_robot_is_the_same_to_the_last_bit() -> None:
    """A single bit in an action makes another rollout of it within some hundred steps."""
    seen = [Seen(SHOWN) for _ in range(3)]
    settings: dict[str, Any] = {"n_steps": 512, "n_epochs": 1, "policy_kwargs": None}
    population = Population.build(lambda seed: make("HalfCheetah-v5", seed, **settings), range(3))
    population.learn(512, seen)
    alone, shown = make("HalfCheetah-v5", 2, **settings), Seen(SHOWN)
    alone.learn(512, shown)
    np.testing.assert_array_equal(seen[2].steps[-1]["new_obs"], shown.steps[-1]["new_obs"])


def test_members_share_memory_while_they_learn_and_none_afterwards(tmp_path: Path) -> None:
    population = Population.build(lambda seed: make("CartPole-v1", seed), range(4))
    first, second = (next(model.policy.parameters()) for model in population.models[:2])
    together = []

    def look() -> None:
        assert isinstance(population.stack, OnPolicyStack)
        base = population.stack.update.rows.flat
        inside = [
            base.data_ptr() <= tensor.data_ptr() < base.data_ptr() + 4 * base.numel() for tensor in (first, second)
        ]
        together.append(all(inside))

    population.learn(96, at_rollout=look)
    assert together == [True, True]
    for model in population.models:
        for parameter in model.policy.parameters():
            assert parameter.untyped_storage().nbytes() == 4 * parameter.numel()
        for entry in model.policy.optimizer.state.values():
            assert entry["exp_avg"].untyped_storage().nbytes() == 4 * entry["exp_avg"].numel()
    population.models[3].save(tmp_path / "member")
    alone = make("CartPole-v1", 3)
    alone.learn(48)
    alone.save(tmp_path / "alone")
    assert (tmp_path / "member.zip").stat().st_size < 1.2 * (tmp_path / "alone.zip").stat().st_size
    loaded = PPO.load(tmp_path / "member")
    observation = np.zeros(4, dtype=np.float32)
    assert (
        loaded.predict(observation, deterministic=True)[0]
        == population.models[3].predict(observation, deterministic=True)[0]
    )
    loaded.set_env(make_vec_env("CartPole-v1", 1))
    loaded.learn(48)  # as any other model


def test_a_second_call_goes_on_from_the_weights() -> None:
    population = Population.build(lambda seed: make("CartPole-v1", seed), range(2))
    population.learn(48)
    before = [tensor.detach().clone() for tensor in population.models[1].policy.parameters()]
    states = population.models[1].policy.optimizer.state
    steps = [float(state["step"]) for state in states.values()]
    population.learn(48)
    after = list(population.models[1].policy.parameters())
    moved = [float((new.detach() - old).abs().max()) for new, old in zip(after, before, strict=True)]
    assert all(0 < size < 0.05 for size in moved)  # the moments were those of before: no new first step
    assert [float(state["step"]) for state in states.values()] == [2 * step for step in steps]


def test_normalised_observations_are_each_members_own() -> None:
    def build(seed: int) -> PPO:
        env = VecNormalize(make_vec_env("Pendulum-v1", 1))
        return PPO("MlpPolicy", env, seed=seed, n_steps=48, batch_size=16, n_epochs=2, device="cpu")

    population = Population.build(build, range(2))
    population.learn(96)
    alone = build(1)
    alone.learn(96)
    assert_alike(population.models[1], alone)
    assert not np.array_equal(population.models[0].env.obs_rms.mean, population.models[1].env.obs_rms.mean)


def test_a_callback_can_end_learning() -> None:
    class Stop(BaseCallback):
        def _on_step(self) -> bool:
            return self.num_timesteps < 60

    population = Population.build(lambda seed: make("CartPole-v1", seed), range(2))
    population.learn(480, [None, Stop()])
    assert population.models[1].num_timesteps == 60


def test_an_error_leaves_ordinary_models() -> None:
    def fail() -> None:
        raise RuntimeError("enough")

    population = Population.build(lambda seed: make("CartPole-v1", seed), range(2))
    with pytest.raises(RuntimeError, match="enough"):
        population.learn(96, at_rollout=fail)
    for model in population.models:
        for parameter in model.policy.parameters():
            assert parameter.untyped_storage().nbytes() == 4 * parameter.numel()


@pytest.mark.parametrize(
    ("models", "reason"),
    [
        (lambda: [make("CartPole-v1", 0, target_kl=0.01)], "target_kl"),
        (lambda: [make("Pendulum-v1", 0, use_sde=True)], "gSDE"),
        (lambda: [make("CartPole-v1", 0), make("CartPole-v1", 1, gamma=0.9)], "differ in gamma: 0.99 and 0.9"),
        (lambda: [make("CartPole-v1", 0), make("Pendulum-v1", 1)], "differ"),
        (lambda: [make("CartPole-v1", 0), make("CartPole-v1", 1, clip_range=0.1)], "differ in clip_range"),
        (lambda: [make("CartPole-v1", 0), make("CartPole-v1", 1, policy_kwargs=RELU)], "differ in the modules"),
        (lambda: [A2C("MlpPolicy", "CartPole-v1", device="cpu")], "A2C is not known stacked"),
    ],
)
def test_what_cannot_be_stacked_is_named(models: Any, reason: str) -> None:
    made = models()
    said = stackable(made)
    assert said is not None
    assert reason in said
    with pytest.raises(ValueError, match=r"stacked|differ|target_kl"):
        Population(made, [Streams() for _ in made])
