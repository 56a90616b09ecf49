"""A population of SAC agents: each member is the agent that SB3 would have trained alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import TQC
from stable_baselines3 import SAC, HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor, nn

from agents import NETWORKS
from agents.finite import FiniteGuard
from agents.plasticity import Plasticity
from agents.population import Population, Streams, stackable
from agents.population.headed import Headed
from agents.population.off_policy import OffPolicyStack
from agents.population.rows import Rows
from agents.population.squashed import Squashed
from regularizers import L2, Spectral
from resets import CBP, ReDo
from tests.agents.population.seen import Noisy, Seen

ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


SHOWN = ("actions", "buffer_actions", "new_obs", "rewards", "dones", "num_collected_steps")


def noisy() -> Noisy:
    """Observations in 64 bits, and actions in several dimensions with bounds of their own."""
    actions = spaces.Box(np.array([[-1, 0], [2, -3]]), np.array([[1, 0.5], [7, 3]]), (2, 2), np.float64)
    return Noisy(actions, spaces.Box(-1, 1, (2, 3), np.float64))


def make(env: Any, seed: int, n_envs: int = 1, **arguments: Any) -> SAC:
    """A small agent; `env` is an id or makes an environment."""
    settings: dict[str, Any] = {
        "learning_starts": 20,
        "batch_size": 16,
        "buffer_size": 64,
        "policy_kwargs": {"net_arch": [16, 16]},
    }
    return SAC("MlpPolicy", make_vec_env(env, n_envs), seed=seed, device="cpu", **(settings | arguments))


def plain(count: int, **arguments: Any) -> Population:
    return Population.build(lambda seed: make("Pendulum-v1", seed, **arguments), range(count))


CASES: dict[str, dict[str, Any]] = {
    "plain": {"env": "Pendulum-v1"},
    "fixed temperature": {"env": "Pendulum-v1", "ent_coef": 0.2},
    "given temperature": {"env": "Pendulum-v1", "ent_coef": "auto_0.1", "target_entropy": -0.5},
    "several steps": {"env": "Pendulum-v1", "train_freq": 4, "gradient_steps": 2},
    "as many steps": {"env": "Pendulum-v1", "n_envs": 2, "train_freq": 3, "gradient_steps": -1},
    "slow targets": {"env": "Pendulum-v1", "gradient_steps": 3, "target_update_interval": 2, "tau": 0.1},
    "wide actions": {"env": noisy, "n_envs": 2},
    "endless": {"env": noisy, "replay_buffer_kwargs": {"handle_timeout_termination": False}, "gamma": 0.5},
    "numbered": {"env": lambda: Noisy(spaces.Box(-1, 1, (2,)), spaces.Discrete(6))},
    "schedule": {"env": "Pendulum-v1", "learning_rate": lambda left: 1e-3 * left},
    "three critics": {"env": "Pendulum-v1", "policy_kwargs": {"net_arch": [16], "n_critics": 3}},
    "two shapes": {"env": "Pendulum-v1", "policy_kwargs": {"net_arch": {"pi": [8], "qf": [12, 40, 4]}}},
    "no bodies": {"env": "Pendulum-v1", "policy_kwargs": {"net_arch": []}},
    "tanh": {"env": "Pendulum-v1", "policy_kwargs": {"net_arch": [16], "activation_fn": nn.Tanh}},
    "elu": {"env": "Pendulum-v1", "policy_kwargs": {"net_arch": [16], "activation_fn": nn.ELU}},
}


@pytest.mark.parametrize(("name", "members"), [("plain", 1), *((name, 3) for name in CASES)])
def test_members_equal_single_runs(name: str, members: int) -> None:
    """The same bit for bit until the first update; then the same to rounding, with the same random numbers drawn."""
    case = dict(CASES[name])
    count = 40 * case.get("n_envs", 1)
    seen = [Seen(SHOWN) for _ in range(members)]
    population = Population.build(lambda seed: make(seed=seed, **case), range(members))
    population.learn(count, seen)
    for seed in range(members):
        alone, shown = make(seed=seed, **case), Seen(SHOWN)
        alone.learn(count, shown)
        assert seen[seed].moments == shown.moments
        assert len(seen[seed].steps) == len(shown.steps)
        before = [step for step in shown.steps if step["step"] <= alone.learning_starts + 1]
        assert len(before) >= 10
        for mine, theirs in zip(seen[seed].steps, before, strict=False):
            for key, value in theirs.items():
                np.testing.assert_array_equal(mine[key], value, err_msg=key)
        assert_alike(population.models[seed], alone)
        assert torch.equal(population.streams[seed].torch.get_state(), torch.get_rng_state())
        drawn = zip(population.streams[seed].numpy.get_state(), np.random.get_state(), strict=True)  # noqa: NPY002
        assert all(np.array_equal(mine, theirs) for mine, theirs in drawn)


def test_actions_before_the_first_update_are_the_same_to_the_last_bit() -> None:
    """Also those that the networks choose; a single bit makes another rollout of a robot."""
    settings: dict[str, Any] = {"learning_starts": 10, "train_freq": 200, "policy_kwargs": None}
    seen = [Seen(SHOWN) for _ in range(3)]
    population = Population.build(lambda seed: make("HalfCheetah-v5", seed, **settings), range(3))
    population.learn(200, seen)
    alone, shown = make("HalfCheetah-v5", 2, **settings), Seen(SHOWN)
    alone.learn(200, shown)
    for mine, theirs in zip(seen[2].steps, shown.steps, strict=True):
        np.testing.assert_array_equal(mine["buffer_actions"], theirs["buffer_actions"])
        np.testing.assert_array_equal(mine["new_obs"], theirs["new_obs"])


def trained(model: SAC) -> dict[str, list[Tensor]]:
    """All that is learnt."""
    temperature = [] if model.log_ent_coef is None else [model.log_ent_coef]
    parts = {name: list(getattr(model, name).parameters()) for name in ("actor", "critic", "critic_target")}
    return {**parts, "temperature": temperature}


def assert_alike(member: Any, alone: Any) -> None:
    """The same parameters, statistics, replay buffers, logged values and episodes."""
    for (name, mine), theirs in zip(trained(member).items(), trained(alone).values(), strict=True):
        for own, expected in zip(mine, theirs, strict=True):
            assert (own - expected).norm() <= 1e-5 * expected.norm().clamp_min(1e-3), name
    optimizers = ("actor.optimizer", "critic.optimizer", *["ent_coef_optimizer"] * (alone.log_ent_coef is not None))
    for name in optimizers:
        states = [optimizer_of(model, name).state.values() for model in (member, alone)]
        for mine, theirs in zip(*states, strict=True):
            for key, value in theirs.items():
                assert (mine[key] - value).norm() <= 1e-3 * value.norm().clamp_min(1e-6), (name, key)
    for name in ARRAYS:
        kept, array = getattr(member.replay_buffer, name), getattr(alone.replay_buffer, name)
        np.testing.assert_allclose(kept, array, rtol=1e-3, atol=1e-4, err_msg=name)
        assert kept.dtype == array.dtype
    assert (member.replay_buffer.pos, member.replay_buffer.full) == (alone.replay_buffer.pos, alone.replay_buffer.full)
    logged = {name: value for name, value in alone.logger.name_to_value.items() if name.startswith("train/")}
    assert logged
    assert logged.keys() == {name for name in member.logger.name_to_value if name.startswith("train/")}
    for name, value in logged.items():
        assert member.logger.name_to_value[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name
    for name in ("num_timesteps", "_n_updates", "_episode_num", "_current_progress_remaining"):
        assert getattr(member, name) == getattr(alone, name)
    assert [episode["l"] for episode in member.ep_info_buffer] == [episode["l"] for episode in alone.ep_info_buffer]


def optimizer_of(model: Any, name: str) -> torch.optim.Optimizer:
    for part in name.split("."):
        model = getattr(model, part)
    assert isinstance(model, torch.optim.Optimizer)
    return model


@pytest.mark.parametrize(
    "settings",
    [{"layer_norm": "before"}, {"activation": "crelu"}, {"activation": "adaptive_linear"}],
    ids=lambda settings: next(iter(settings.values())),
)
def test_members_with_other_networks_equal_single_runs(settings: dict[str, Any]) -> None:
    def build(seed: int) -> SAC:
        network = NETWORKS["mlp"](hidden=(16, 16), **settings)
        env = make_vec_env("Pendulum-v1", 1)
        policy: Any = network.policy(env.observation_space, SAC)
        kwargs = network.policy_kwargs()
        return SAC(policy, env, seed=seed, learning_starts=20, batch_size=16, policy_kwargs=kwargs, device="cpu")

    population = Population.build(build, range(2))
    population.learn(30)
    for seed, member in enumerate(population.models):
        alone = build(seed)
        alone.learn(30)
        assert_alike(member, alone)


def test_normalised_observations_and_rewards_are_each_members_own() -> None:
    def build(seed: int) -> SAC:
        env = VecNormalize(make_vec_env(noisy, 2))
        return SAC("MlpPolicy", env, seed=seed, learning_starts=20, batch_size=16, buffer_size=64, device="cpu")

    population = Population.build(build, range(2))
    population.learn(80)
    alone = build(1)
    alone.learn(80)
    assert_alike(population.models[1], alone)
    assert not np.array_equal(population.models[0].env.obs_rms.mean, population.models[1].env.obs_rms.mean)


class Dumps(BaseCallback):
    """Notes when the logger is dumped, and how many episodes there were then."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[tuple[int, Any]] = []

    def _on_training_start(self) -> None:
        self.logger.dump = self._note  # type: ignore[method-assign]

    def _note(self, step: int = 0) -> None:
        self.noted.append((step, self.logger.name_to_value["time/episodes"]))

    def _on_step(self) -> bool:
        return True


@pytest.mark.parametrize("log_interval", [None, 3])
def test_logs_are_dumped_after_as_many_episodes_as_in_a_single_run(log_interval: int | None) -> None:
    dumps = [Dumps(), Dumps()]
    population = Population.build(lambda seed: make(noisy, seed, n_envs=2), range(2))
    population.learn(120, dumps, log_interval)
    alone, expected = make(noisy, 1, n_envs=2), Dumps()
    alone.learn(120, expected, log_interval or 4)
    assert len(expected.noted) > 2
    assert dumps[1].noted == expected.noted


def interventions() -> dict[str, Callable[[], list[Any]]]:
    """What penalises, resets at each step, resets between rollouts, or looks at gradients."""
    return {
        "penalties": lambda: [Spectral(strength=0.1), L2(strength=0.1)],
        "at each step": lambda: [CBP(replacement_rate=0.02, maturity=3)],
        "between rollouts": lambda: [ReDo(tau=0.5, every=10)],
    }


@pytest.mark.parametrize("name", interventions())
def test_interventions_act_as_in_a_single_run(name: str) -> None:
    """Beside a guard that has a say in each step."""
    chosen = interventions()[name]
    events: list[list[dict[str, Any]]] = [[], [], []]

    def callbacks(number: int) -> list[BaseCallback]:
        plasticity = Plasticity(*chosen(), seed=number)
        plasticity.listeners.append(events[number].append)
        return [FiniteGuard(), plasticity]

    population = plain(2)
    lists = [CallbackList(callbacks(number)) for number in range(2)]
    population.learn(40, lists)
    alone = make("Pendulum-v1", 1)
    plasticity = Plasticity(*chosen(), seed=1)
    plasticity.listeners.append(events[2].append)
    alone.learn(40, [FiniteGuard(), plasticity])
    assert events[1] == events[2]
    assert bool(events[2]) == (name != "penalties")
    assert_alike(population.models[1], alone)


def test_modules_that_are_hooked_are_run_and_differentiated() -> None:
    """What the stacked module of a critic gives is shown, and nothing learnt differs for it."""
    population, unwatched = plain(2), plain(2)
    unwatched.learn(24)
    shown: list[Tensor] = []

    def watch() -> None:
        if isinstance(stack := population.stack, OffPolicyStack) and not handles:
            module, rows = stack.rows_of(population.models[0].critic.q_networks[1][1])
            handles.append(module.register_forward_hook(lambda module, inputs, output: shown.append(output[rows])))

    handles: list[Any] = []
    population.learn(24, at_rollout=watch)
    assert shown[-1].shape == (2, 16, 16)
    assert sum(each.requires_grad for each in shown) == 2 * population.models[0]._n_updates
    for mine, theirs in zip(population.models, unwatched.models, strict=True):
        assert_alike(mine, theirs)


def test_members_share_memory_while_they_learn_and_none_afterwards(tmp_path: Path) -> None:
    population = plain(4)

    def look() -> None:
        assert isinstance(population.stack, OffPolicyStack)
        base = population.stack.critic_steps.rows.flat
        inside = [
            base.data_ptr() <= tensor.data_ptr() < base.data_ptr() + 4 * base.numel()
            for model in population.models
            for tensor in model.critic.parameters()
        ]
        assert all(inside)

    population.learn(30, at_rollout=look)
    for model in population.models:
        for tensor in (tensor for tensors in trained(model).values() for tensor in tensors):
            assert tensor.untyped_storage().nbytes() == 4 * tensor.numel()
        for name in ("actor.optimizer", "critic.optimizer", "ent_coef_optimizer"):
            for entry in optimizer_of(model, name).state.values():
                assert entry["exp_avg"].untyped_storage().nbytes() == 4 * entry["exp_avg"].numel()
    member, alone = population.models[3], make("Pendulum-v1", 3)
    alone.learn(30)
    for model, name in ((member, "member"), (alone, "alone")):
        model.save(tmp_path / name)
        model.save_replay_buffer(tmp_path / f"{name} buffer")
    for kind in (".zip", " buffer.pkl"):
        sizes = [(tmp_path / f"{name}{kind}").stat().st_size for name in ("member", "alone")]
        assert sizes[0] < 1.1 * sizes[1]
    loaded = SAC.load(tmp_path / "member")
    loaded.load_replay_buffer(tmp_path / "member buffer")
    assert_same_actions(loaded, member)
    loaded.set_env(make_vec_env("Pendulum-v1", 1))
    loaded.learn(30)  # as any other model


def assert_same_actions(first: SAC, second: SAC) -> None:
    observation = np.zeros(3, dtype=np.float32)
    actions, others = (model.predict(observation, deterministic=True)[0] for model in (first, second))
    np.testing.assert_array_equal(actions, others)


def test_a_second_call_goes_on_from_weights_and_memory() -> None:
    population = plain(2)
    population.learn(30)
    member = population.models[1]
    before = member.replay_buffer.observations[:30].copy()
    steps = [float(state["step"]) for state in member.critic.optimizer.state.values()]
    population.learn(30)
    assert member.replay_buffer.pos == 60
    np.testing.assert_array_equal(member.replay_buffer.observations[:30], before)
    assert [float(state["step"]) for state in member.critic.optimizer.state.values()] == [2 * step for step in steps]


@pytest.mark.parametrize("when", [0, 25])
def test_a_memory_from_elsewhere_is_kept_and_shared(when: int) -> None:
    """As a run that is taken up fills it, in the place of the first rollout's start, or somebody else later."""
    filled = make("Pendulum-v1", 5)
    filled.learn(25)
    memory = filled.replay_buffer
    assert memory is not None
    population = plain(2)

    def fill() -> None:
        member = population.models[1]
        if member.num_timesteps == when:
            member.replay_buffer = memory

    population.learn(30, at_rollout=fill)
    first, second = (model.replay_buffer for model in population.models)
    assert second is memory
    assert (first.pos, second.pos) == (30, 55 - when)
    assert np.abs(second.observations[: second.pos]).sum(axis=(1, 2)).all()
    for name in ARRAYS:
        assert getattr(first, name).base is getattr(second, name).base


def test_a_callback_can_end_learning() -> None:
    class Stop(BaseCallback):
        def _on_step(self) -> bool:
            return self.num_timesteps < 33

    population = plain(2)
    population.learn(100, [None, Stop()])
    assert population.models[1].num_timesteps == 33


def test_an_error_leaves_ordinary_models() -> None:
    def fail() -> None:
        if population.models[0].num_timesteps == 25:
            raise RuntimeError("enough")

    population = plain(2)
    with pytest.raises(RuntimeError, match="enough"):
        population.learn(96, at_rollout=fail)
    for model in population.models:
        for tensor in (tensor for tensors in trained(model).values() for tensor in tensors):
            assert tensor.untyped_storage().nbytes() == 4 * tensor.numel()


def goal() -> gym.Env[Any, Any]:
    parts = {name: spaces.Box(-1, 1, (2,)) for name in ("observation", "achieved_goal", "desired_goal")}
    env = Noisy(spaces.Box(-1, 1, (2,)), spaces.Dict(parts))  # type: ignore[arg-type]
    env.compute_reward = lambda *_: np.zeros(1)  # type: ignore[attr-defined]
    return env


def spectral_norm(seed: int) -> SAC:
    network = NETWORKS["mlp"](hidden=(16,), spectral_norm="hidden")
    env = make_vec_env("Pendulum-v1", 1)
    policy: Any = network.policy(env.observation_space, SAC)
    return SAC(policy, env, policy_kwargs=network.policy_kwargs(), device="cpu")


@pytest.mark.parametrize(
    ("models", "reason"),
    [
        (lambda: [make("Pendulum-v1", 0, use_sde=True)], "gSDE"),
        (lambda: [make("Pendulum-v1", 0, action_noise=NormalActionNoise(np.zeros(1), np.ones(1)))], "noise"),
        (lambda: [make("Pendulum-v1", 0, train_freq=(1, "episode"))], "train_freq in episodes"),
        (lambda: [make("Pendulum-v1", 0, n_steps=3)], "NStepReplayBuffer"),
        (
            lambda: [SAC("MultiInputPolicy", goal(), replay_buffer_class=HerReplayBuffer, buffer_size=99)],
            "HerReplayBuffer",
        ),
        (
            lambda: [
                make(
                    "Pendulum-v1",
                    0,
                    optimize_memory_usage=True,
                    replay_buffer_kwargs={"handle_timeout_termination": False},
                )
            ],
            "optimize_memory_usage",
        ),
        (lambda: [spectral_norm(0)], "is not known stacked"),
        (lambda: [make("Pendulum-v1", 0), make("Pendulum-v1", 1, tau=0.5)], "differ in tau: 0.005 and 0.5"),
        (lambda: [make("Pendulum-v1", 0), make("Pendulum-v1", 1, ent_coef=0.5)], "differ in ent_coef: auto and 0.5"),
        (lambda: [make("Pendulum-v1", 0), make(noisy, 1)], "differ in observation_space"),
        (lambda: [TQC("MlpPolicy", "Pendulum-v1", device="cpu")], "TQC is not known stacked"),
    ],
)
def test_what_cannot_be_stacked_is_named(models: Callable[[], list[BaseAlgorithm]], reason: str) -> None:
    made = models()
    said = stackable(made)
    assert said is not None
    assert reason in said
    with pytest.raises(ValueError, match=reason.split(":", maxsplit=1)[0].replace("(", r"\(")):
        Population(made, [Streams() for _ in made])


@pytest.mark.parametrize("scale", [0.1, 5.0])
def test_draws_and_their_gradients_are_those_of_sb3s_distribution(scale: float) -> None:
    """Also where tanh is saturated, and where the deviation has left its bounds."""
    torch.manual_seed(0)
    mean, log_std = scale * torch.randn(2, 50, 3), torch.randn(2, 50, 3)
    log_std[:, :5] = 3.0
    for tensor in (mean, log_std):
        tensor.requires_grad_()
    by_actions, by_log_prob = torch.randn(2, 50, 3), torch.randn(2, 50, 1)
    drawn = Squashed.draw(mean.detach(), log_std.detach(), seeded(2))
    log_prob, gradients = drawn.log_prob(), drawn.backward(by_actions, by_log_prob)
    for number in range(2):
        torch.manual_seed(number)
        made = SquashedDiagGaussianDistribution(3)
        expected, expected_log_prob = made.log_prob_from_params(mean[number], log_std[number].clamp(-20, 2))
        assert torch.equal(drawn.actions[number], expected)
        torch.testing.assert_close(log_prob[number], expected_log_prob, rtol=1e-4, atol=1e-4)
        loss = (expected * by_actions[number]).sum() + expected_log_prob @ by_log_prob[number].squeeze(1)
        found = torch.autograd.grad(loss, (mean, log_std))
        for mine, theirs in zip(gradients, found, strict=True):
            torch.testing.assert_close(mine[number], theirs[number], rtol=1e-3, atol=1e-4)


def test_a_deviation_below_its_bound_has_no_gradient() -> None:
    """Where SB3 loses the noise, and with it the gradient by the mean, to rounding."""
    drawn = Squashed.draw(torch.zeros(1, 4, 2), torch.tensor([[[-30.0, -10.0]]]).expand(1, 4, 2), seeded(1))
    by_mean, by_log_std = drawn.backward(torch.ones(1, 4, 2), torch.ones(1, 4, 1))
    assert (by_log_std[..., 0] == 0).all()
    torch.testing.assert_close(by_log_std[..., 1], torch.full((1, 4), -1.0), rtol=1e-3, atol=0)
    torch.testing.assert_close(by_mean, torch.ones(1, 4, 2), rtol=1e-3, atol=0)


def seeded(count: int) -> list[Streams]:
    streams = [Streams() for _ in range(count)]
    for number, own in enumerate(streams):
        own.torch.manual_seed(number)
    return streams


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("width", [3, 40])
def test_gradients_of_networks_are_autograds(watched: bool, width: int) -> None:
    """By parameters and by inputs, of two networks of each of three members, with two heads each."""
    torch.manual_seed(0)
    members = [[nn.Sequential(nn.Linear(width, 6), nn.ReLU(), nn.Linear(6, 5), nn.Tanh()) for _ in "ab"] for _ in "abc"]
    heads = [[[nn.Linear(5, 1), nn.Linear(5, 2)] for _ in own] for own in members]
    each = [
        [*body.parameters(), *(param for head in ends for param in head.parameters())]
        for own, of_own in zip(members, heads, strict=True)
        for body, ends in zip(own, of_own, strict=True)
    ]
    rows = Rows([each[2 * number] + each[2 * number + 1] for number in range(3)], [len(each[0])] * 2)
    gradient = torch.zeros_like(rows.flat)
    network = Headed(rows, gradient, [members[0][0]], heads[0][0])
    if watched:
        network.made[members[0][0][1]].register_forward_hook(lambda *_: None)
    inputs = torch.randn(6, 7, width)
    gradients = torch.randn(6, 7, 1), torch.randn(6, 7, 2)
    outputs = network(inputs, keep=True)
    network(torch.randn(6, 4, width))  # not kept
    network.learn(*gradients)
    network(inputs, keep=True)
    by_inputs = network.by_inputs(*gradients)
    for number in range(6):
        own = inputs[number].clone().requires_grad_()
        latent = members[number // 2][number % 2](own)
        expected = [head(latent) for head in heads[number // 2][number % 2]]
        for mine, theirs in zip(outputs, expected, strict=True):
            torch.testing.assert_close(mine[number], theirs)
        torch.autograd.backward(expected, [gradient[number] for gradient in gradients])
        torch.testing.assert_close(by_inputs[number], own.grad)
        found = [rows.joint(gradient, index)[number] for index in range(len(each[0]))]
        for mine, param in zip(found, each[number], strict=True):
            torch.testing.assert_close(mine, param.grad)
