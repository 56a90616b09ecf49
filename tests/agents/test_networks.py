"""Networks as users ask for them: what is built, what it computes, and that everything else goes on working with it."""

import itertools
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sb3_contrib
import stable_baselines3 as sb3
import torch
import yaml
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

import train as command
from agents import AGENTS
from agents.interventions import Intervention
from agents.modules import SpectralNorm
from agents.networks import CNN, MLP, NetworkSettings
from agents.plasticity import Plasticity
from agents.policies import VARIANTS, Architecture, variant
from agents.sb3 import read_networks
from configs.command_line import parse
from configs.settings import SettingError
from regularizers import Spectral
from resets import Full, ReDo, ShrinkPerturb
from tests.models import OFF, Noise, built, make, off_policy, ppo, weights

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    ("algorithm", "env"), [(sb3.PPO, "CartPole-v1"), (sb3.SAC, "Pendulum-v1"), (sb3.DQN, "CartPole-v1")]
)
@pytest.mark.parametrize("activation", ["agent", "relu", "elu"])
def test_settings_that_sb3_knows_build_its_own_policy(algorithm: Any, env: str, activation: Any) -> None:
    settings = MLP(activation=activation)
    model = algorithm(env=env, policy="MlpPolicy", seed=1, policy_kwargs=settings.policy_kwargs(), device="cpu")
    assert settings.policy(model.observation_space, algorithm) == "MlpPolicy"
    assert settings.policy_kwargs().keys() == ({"activation_fn"} if activation != "agent" else set())


@pytest.mark.parametrize("stock", VARIANTS)
def test_a_variant_without_differences_has_the_weights_of_its_original(stock: type[BasePolicy]) -> None:
    algorithm, alias = next(
        (algorithm, alias)
        for algorithm in (sb3.PPO, sb3.SAC, sb3.TD3, sb3.DQN, sb3_contrib.TQC)
        for alias, kind in algorithm.policy_aliases.items()
        if kind is stock
    )
    dictionary, continuous = alias == "MultiInputPolicy", algorithm not in (sb3.PPO, sb3.DQN)
    env = ("Pendulum-v1" if continuous else "CartPole-v1") if alias == "MlpPolicy" else Noise(continuous, dictionary)
    arguments = {"n_steps": 16, "batch_size": 8} if algorithm is sb3.PPO else OFF
    plain = algorithm(alias, env, seed=0, device="cpu", **arguments)
    same = algorithm(variant(algorithm, alias), env, seed=0, device="cpu", **arguments)
    normed = algorithm(
        variant(algorithm, alias),
        env,
        seed=0,
        device="cpu",
        policy_kwargs={"architecture": Architecture(layer_norm="before", spectral_norm="hidden")},
        **arguments,
    )
    assert torch.equal(weights(plain), weights(same))
    assert plain.policy.state_dict().keys() == same.policy.state_dict().keys()
    mine = [p for p in read_networks(normed) for p in p.layers]
    others = [p for p in read_networks(plain) for p in p.layers]
    assert len(mine) == len(others)
    for layer, other in zip(mine, others, strict=True):
        assert torch.equal(layer.weight.tensor, other.weight.tensor), "paired with the plain agent"


def by_hand(settings: Architecture, sizes: list[int], tensors: list[Tensor], x: Tensor, own: str) -> Tensor:
    """A body without its head, unit by unit; `tensors` are its parameters in their order."""
    left = [tensor.detach().double() for tensor in tensors]
    h = x.double()
    for size in sizes:
        expanded = settings.activation in ("crelu", "fourier")
        units = size // 2 if expanded and settings.halve else size
        weight, bias = left.pop(0), left.pop(0)
        assert weight.shape == (units, h.shape[1])
        if settings.spectral_norm == "hidden":
            weight = weight / torch.linalg.svdvals(weight)[0]
        z = h @ weight.T + bias
        if settings.layer_norm == "before":
            z = normalised(z, left.pop(0), left.pop(0))
        alpha = left.pop(0) if settings.activation == "adaptive_linear" else torch.zeros(units)
        columns: list[Tensor] = []
        for unit in range(units):
            columns += nonlinear(settings.activation, own, z[:, unit], alpha[unit])
        h = torch.stack(columns, 1)
        if settings.layer_norm == "after":
            h = normalised(h, left.pop(0), left.pop(0))
    assert not left
    return h


def normalised(z: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    return (z - z.mean(1, keepdim=True)) / (z.var(1, correction=0, keepdim=True) + 1e-5).sqrt() * scale + offset


def nonlinear(name: str, own: str, z: Tensor, alpha: Tensor) -> list[Tensor]:
    phi = {"relu": lambda z: z.clamp(min=0), "tanh": torch.tanh}
    slope = {"relu": lambda z: (z > 0).double(), "tanh": lambda z: 1 - z.tanh().square()}
    if name == "adaptive_linear":
        return [phi[own](z) + alpha * z * torch.cos(math.pi / 2 * slope[own](z))]
    return {
        "agent": lambda: [phi[own](z)],
        "crelu": lambda: [phi["relu"](z), phi["relu"](-z)],
        "fourier": lambda: [z.sin(), z.cos()],
        "smooth_leaky_relu": lambda: [0.1 * z + 0.9 * z / (1 + torch.exp(-5 / 3 * z))],
        "leaky_relu": lambda: [torch.where(z > 0, z, 0.01 * z)],
    }[name]()


COMBINATIONS = [
    Architecture(activation, norm, spectral, halve)  # type: ignore[arg-type]
    for activation, norm, spectral, halve in itertools.product(
        ["agent", "crelu", "fourier", "adaptive_linear", "smooth_leaky_relu", "leaky_relu"],
        ["none", "before", "after"],
        ["none", "hidden"],
        [True, False],
    )
    if halve or activation in ("crelu", "fourier")
]


@pytest.mark.parametrize("agent", ["ppo", "sac", "td3", "dqn", "tqc"])
def test_a_network_computes_what_is_written_out_by_hand(agent: str) -> None:
    generator = torch.Generator().manual_seed(0)
    for settings in COMBINATIONS if agent == "ppo" else COMBINATIONS[:: len(agent) + 4]:
        if agent == "ppo":  # tanh of its own, where the others here have ReLU
            model: Any = ppo("MlpPolicy", settings, seed=0, policy_kwargs={"activation_fn": nn.Tanh})
        else:
            kinds = {"sac": sb3.SAC, "td3": sb3.TD3, "dqn": sb3.DQN, "tqc": sb3_contrib.TQC}
            model = off_policy(kinds[agent], settings, seed=0)
        policy = model.policy
        for parameter in policy.parameters():  # away from ones and zeros
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
        for module in policy.modules():
            if isinstance(module, SpectralNorm):  # its iteration has come to its end
                module.running_u.copy_(torch.linalg.svd(module.weight.detach().flatten(1)).U[:, 0])
        body = {
            "ppo": lambda p=policy: p.mlp_extractor.value_net,
            "sac": lambda p=policy: p.actor.latent_pi,
            "td3": lambda p=policy: p.actor.mu[:-2],
            "dqn": lambda p=policy: p.q_net.q_net[:-1],
            "tqc": lambda p=policy: p.critic.qf1[:-1],
        }[agent]()
        inputs = body[0].in_features
        x = torch.randn(5, inputs, generator=generator)
        expected = by_hand(settings, [12, 10], [*body.parameters()], x, "tanh" if agent == "ppo" else "relu")
        torch.testing.assert_close(body(x).double(), expected, atol=2e-4, rtol=1e-3)
        policy.set_training_mode(False)
        model.predict(model.observation_space.sample())


def count(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.policy.parameters())


@pytest.mark.parametrize(
    ("settings", "body"),
    [
        (Architecture(), (4 * 12 + 12) + (12 * 10 + 10)),
        (Architecture("crelu"), (4 * 6 + 6) + (12 * 5 + 5)),
        (Architecture("crelu", halve=False), (4 * 12 + 12) + (24 * 10 + 10)),
        (Architecture("crelu", "before"), (4 * 6 + 6 + 12) + (12 * 5 + 5 + 10)),
        (Architecture("crelu", "after"), (4 * 6 + 6 + 24) + (12 * 5 + 5 + 20)),
        (Architecture("adaptive_linear", "after"), (4 * 12 + 12 + 12 + 24) + (12 * 10 + 10 + 10 + 20)),
        (Architecture(spectral_norm="all"), (4 * 12 + 12) + (12 * 10 + 10)),
    ],
)
def test_numbers_of_parameters(settings: Architecture, body: int) -> None:
    head = 20 if settings.activation == "crelu" and not settings.halve else 10
    assert count(ppo("MlpPolicy", settings)) == 2 * body + (head * 2 + 2) + (head + 1)


def test_numbers_of_parameters_of_convolutions() -> None:
    plain = (1 * 64 * 32 + 32) + (32 * 16 * 64 + 64) + (64 * 9 * 64 + 64) + (64 * 512 + 512)
    halved = (1 * 64 * 16 + 16) + (32 * 16 * 32 + 32) + (64 * 9 * 32 + 32) + (64 * 256 + 256)
    wide = (1 * 64 * 32 + 32) + (64 * 16 * 64 + 64) + (128 * 9 * 64 + 64) + (128 * 512 + 512)
    found = {
        settings.activation + str(settings.halve): sum(
            parameter.numel() for parameter in ppo("CnnPolicy", settings).policy.features_extractor.parameters()
        )
        for settings in (Architecture("relu"), Architecture("crelu"), Architecture("crelu", halve=False))
    }
    assert found == {"reluTrue": plain, "creluTrue": halved, "creluFalse": wide}


def kinds(body: Any) -> list[str]:
    return [type(module).__name__ for module in body]


def test_where_normalisations_stand() -> None:
    before = ppo("MlpPolicy", Architecture("crelu", "before", "last_hidden")).policy.mlp_extractor
    assert kinds(before.policy_net) == ["Linear", "LayerNorm", "CReLU", "SpectralLinear", "LayerNorm", "CReLU"]
    after = off_policy(sb3.DQN, Architecture("elu", "after", "all")).policy
    expected = ["SpectralLinear", "ELU", "LayerNorm"] * 2 + ["SpectralLinear"]
    assert kinds(after.q_net.q_net) == kinds(after.q_net_target.q_net) == expected
    images = ppo("CnnPolicy", Architecture("elu", "before", "last_hidden"), policy_kwargs={"net_arch": []}).policy
    assert kinds(images.features_extractor.cnn) == ["Conv2d", "GroupNorm", "ELU"] * 3 + ["Flatten"]
    assert kinds(images.features_extractor.linear) == ["SpectralLinear", "LayerNorm", "ELU"]
    images = ppo("CnnPolicy", Architecture(spectral_norm="hidden")).policy
    assert kinds(images.features_extractor.cnn) == ["SpectralConv2d", "ReLU"] * 3 + ["Flatten"]
    actor = off_policy(sb3.TD3, Architecture("fourier", "before", "hidden")).policy.actor_target
    assert kinds(actor.mu) == ["SpectralLinear", "LayerNorm", "Fourier"] * 2 + ["Linear", "Tanh"]
    heads = ppo("MlpPolicy", Architecture(spectral_norm="all")).policy
    assert kinds([heads.action_net, heads.value_net]) == ["SpectralLinear"] * 2


def test_layers_are_born_as_the_agents_own() -> None:
    body = ppo("MlpPolicy", Architecture("crelu", "before")).policy.mlp_extractor.policy_net
    weight = body[0].weight  # 6 units of 4 inputs, orthogonal with gain sqrt 2
    torch.testing.assert_close(weight.T @ weight, 2 * torch.eye(4), atol=1e-5, rtol=1e-5)
    assert torch.all(body[0].bias == 0)
    weight = off_policy(sb3.SAC, Architecture("crelu")).policy.actor.latent_pi[3 - 1].weight
    assert 0.9 / math.sqrt(12) < weight.abs().max() <= 1 / math.sqrt(12)


INTERVENTIONS: list[Any] = [
    lambda: ReDo(tau=0.999, every=1),
    lambda: Full(when="periodic", every=16),
    lambda: ShrinkPerturb(when="gradient_step", shrink=0.999, perturb=1e-3),
    lambda: Spectral(1e-2),
]


@pytest.mark.parametrize(
    "kind",
    ["ppo-crelu-layernorm", "ppo-adaptive", "ppo-spectral-norm", "ppo-cnn-crelu", "sac-fourier", "sac-spectral-norm",
     "td3-smooth", "dqn-crelu", "tqc-fourier"],
)  # fmt: skip
def test_interventions_act_on_variants(kind: str) -> None:
    steps = {"ppo": 128, "sac": 28, "td3": 28, "dqn": 48, "tqc": 28}[kind[:3]] if "cnn" not in kind else 32
    plain = make(kind)
    plain.learn(steps)
    for intervention in INTERVENTIONS:
        model, plasticity = make(kind), Plasticity(intervention())
        before = [*model.policy.parameters()]
        model.learn(steps, callback=plasticity)
        assert all(old is new for old, new in zip(before, model.policy.parameters(), strict=True))
        assert torch.isfinite(weights(model)).all()
        assert not torch.equal(weights(model), weights(plain))


@pytest.mark.parametrize("kind", ["ppo-spectral-norm", "sac-spectral-norm", "dqn-crelu"])
def test_a_resumed_run_goes_on_bit_for_bit(kind: str, tmp_path: Path) -> None:
    steps = {"ppo-spectral-norm": 64, "sac-spectral-norm": 28, "dqn-crelu": 40}[kind]

    def intervention() -> Intervention:
        return ReDo(tau=0.9, every=1)

    whole, straight = make(kind), Plasticity(intervention())
    whole.learn(steps, callback=straight)
    whole.learn(12, callback=straight, reset_num_timesteps=False)
    halves, first = make(kind), Plasticity(intervention())
    halves.learn(steps, callback=first)
    second = Plasticity(intervention())
    second.load_state_dict(first.state_dict())
    halves.learn(12, callback=second, reset_num_timesteps=False)
    left, right = whole.policy.state_dict(), halves.policy.state_dict()
    assert all(torch.equal(left[name], right[name]) for name in left)
    whole.save(tmp_path / "model")
    loaded = type(whole).load(tmp_path / "model")
    assert all(torch.equal(left[name], value) for name, value in loaded.policy.state_dict().items())


def test_saved_models_are_loaded_in_a_fresh_process(tmp_path: Path) -> None:
    program = ["import numpy, stable_baselines3, sb3_contrib"]
    expected = []
    for kind in ("ppo-crelu", "ppo-cnn-adaptive", "sac-spectral-norm", "tqc-fourier"):
        model = make(kind)
        model.learn(24)
        model.save(tmp_path / f"{kind}.zip")
        observation = model.observation_space.sample()
        np.save(tmp_path / f"{kind}.npy", observation)
        expected.append(np.asarray(model.predict(observation, deterministic=True)[0]))
        package = type(model).__module__.partition(".")[0]
        program += [
            f"model = {package}.{type(model).__name__}.load('{kind}.zip', device='cpu')",
            f"print(model.predict(numpy.load('{kind}.npy'), deterministic=True)[0].tolist())",
        ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(program)], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )  # fmt: skip
    for line, action in zip(done.stdout.splitlines(), expected, strict=True):
        np.testing.assert_allclose(np.array(json.loads(line)), action, rtol=1e-5)


def test_a_policy_alone_is_saved_and_loaded(tmp_path: Path) -> None:
    for kind in ("ppo-crelu-wide", "dqn-crelu", "sac-gsde-crelu"):
        policy = make(kind).policy
        policy.save(str(tmp_path / kind))
        loaded = type(policy).load(str(tmp_path / kind), device="cpu")
        assert all(torch.equal(value, policy.state_dict()[name]) for name, value in loaded.state_dict().items())


def spectral(algorithm: Any, **arguments: Any) -> Any:
    return built(
        algorithm,
        "MlpPolicy",
        "CartPole-v1" if algorithm is sb3.DQN else "Pendulum-v1",
        Architecture(spectral_norm="all"),
        seed=0,
        **(OFF | arguments),
    )


def q_values(critic: Any, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    observations = torch.randn(7, critic.observation_space.shape[0], generator=generator)
    with torch.no_grad():
        if not hasattr(critic, "q_networks"):
            found: Tensor = critic(observations)
            return found
        return torch.stack([*critic(observations, torch.randn(7, 1, generator=generator).tanh())])


@pytest.mark.parametrize("algorithm", [sb3.SAC, sb3.TD3, sb3_contrib.TQC, sb3.DQN])
def test_a_target_that_is_a_copy_computes_the_same(algorithm: Any) -> None:
    """With tau = 1, after each update of the targets."""
    names = {sb3.DQN: ["q_net"], sb3.TD3: ["critic", "actor"]}.get(algorithm, ["critic"])
    model = spectral(
        algorithm, tau=1.0, **({"train_freq": 1, "target_update_interval": 1} if algorithm is sb3.DQN else {})
    )
    pairs = [(getattr(model.policy, name), getattr(model.policy, f"{name}_target")) for name in names]

    def same() -> bool:
        return all(torch.equal(q_values(online), q_values(target)) for online, target in pairs)

    assert same(), "from the start"
    start = q_values(pairs[0][1])
    # The 22nd step is the first to be followed by an update, and TD3 moves its targets at every second one.
    model.learn(32)
    model.policy.set_training_mode(False)
    assert not torch.equal(q_values(pairs[0][1]), start)
    if algorithm is sb3.DQN:  # which moves its target before the gradient step
        model.exploration_schedule = lambda _: 0.0
        model._n_calls = 0
        model._on_step()
    assert same()


def test_a_target_is_a_function_of_its_own_averaged_weights() -> None:
    model = spectral(sb3.SAC, tau=0.3)
    model.learn(40)
    for module, target in zip(model.critic.modules(), model.critic_target.modules(), strict=True):
        if not isinstance(module, SpectralNorm):
            continue
        assert torch.equal(module.running_u, target.running_u)
        assert not torch.equal(module.weight, target.weight)
        normed = target.normalized().detach()
        assert torch.linalg.matrix_norm(normed, 2).item() == pytest.approx(1.0, abs=0.02)


def test_a_target_stands_still_between_two_hard_updates() -> None:
    model = spectral(sb3.DQN, train_freq=1, target_update_interval=1000)
    start = q_values(model.q_net_target)
    model.learn(60)
    assert torch.equal(q_values(model.q_net_target), start)
    assert not torch.equal(q_values(model.q_net), start)


def test_a_full_reset_leaves_the_target_a_copy() -> None:
    model = spectral(sb3.SAC)
    model.learn(28)
    for network in read_networks(model):
        for param in network.params():
            param.overwrite(param.fresh(torch.Generator().manual_seed(0)))
            param.sync_target()
    assert torch.equal(q_values(model.critic), q_values(model.critic_target))


def test_the_first_minibatch_is_learnt_from_with_the_policy_that_acted() -> None:
    model: Any = make("ppo-spectral-norm")
    model.learn(64)
    model.policy.set_training_mode(False)
    observations = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        actions, _, acted = model.policy(observations)
    model.policy.set_training_mode(True)
    _, learnt, _ = model.policy.evaluate_actions(observations, actions)
    assert torch.equal(learnt.detach(), acted)


def test_combinations_that_cannot_be_are_refused() -> None:
    with pytest.raises(SettingError, match="hidden must be even widths while crelu halves the units, not 15"):
        MLP(hidden=(64, 15), activation="crelu")
    MLP(hidden=(64, 15), activation="crelu", halve=False)
    with pytest.raises(ValueError, match=r"even width, not of 15\.$"):
        ppo("MlpPolicy", Architecture("crelu"), policy_kwargs={"net_arch": [15]})
    with pytest.raises(ValueError, match="no network variants for QRDQN's MlpPolicy"):
        MLP(activation="crelu").policy(spaces.Box(-1, 1, (3,)), sb3_contrib.QRDQN)
    with pytest.raises(ValueError, match="knows the slopes of ReLU and Tanh, not of ELU"):
        ppo("MlpPolicy", Architecture("adaptive_linear"), policy_kwargs={"activation_fn": nn.ELU})
    with pytest.raises(ValueError, match="NatureCNN and CombinedExtractor, not Own"):
        ppo("MlpPolicy", Architecture("crelu"), policy_kwargs={"features_extractor_class": Own})
    with pytest.raises(SettingError, match="layer_norm must be one of none, before, after, not 'both'"):
        Architecture(layer_norm="both")  # type: ignore[arg-type]


class Own(BaseFeaturesExtractor):
    """A feature extractor of a user's own."""

    def __init__(self, space: spaces.Box) -> None:
        super().__init__(space, features_dim=3)
        self.layer = nn.Linear(4, 3)


@pytest.mark.parametrize(
    ("network", "settings"),
    [(MLP, {"activation": "fourier"}), (CNN, {"activation": "elu"}), (CNN, {"spectral_norm": "hidden"})],
)
def test_every_agent_takes_a_variant(network: type[NetworkSettings], settings: dict[str, Any]) -> None:
    chosen = network(**settings)
    for agent in AGENTS.values():
        space = spaces.Box(0, 255, (36, 36, 1), np.uint8) if network is CNN else spaces.Box(-1, 1, (3,))
        assert chosen.policy(space, agent.algorithm) in VARIANTS.values()
        mixed = spaces.Dict({"a": space})
        assert chosen.policy(mixed, agent.algorithm) is variant(agent.algorithm, "MultiInputPolicy")
    architecture = chosen.policy_kwargs()["architecture"]
    assert type(architecture) is Architecture
    assert {name: getattr(architecture, name) for name in settings} == settings


PPO_WORDS = """--env CartPole-v1 --schedule permuted --schedule.period 64 --agent ppo --agent.n-steps 64
    --agent.n-epochs 1 --steps 128 --metrics none"""
SAC_WORDS = """--agent sac --env Pendulum-v1 --agent.learning-starts 20 --agent.batch-size 16
    --agent.buffer-size 500 --steps 32 --metrics none"""


@pytest.mark.parametrize(
    "words",
    [
        f"{PPO_WORDS} --network.activation crelu --network.layer-norm before",
        f"{PPO_WORDS} --network.activation adaptive_linear --reset redo --reset.every 1 --reset.tau 0.9",
        f"{SAC_WORDS} --network.spectral-norm hidden --network.activation fourier --network.halve false",
        f"{SAC_WORDS} --network.layer-norm after --regularizer spectral",
    ],
)
def test_from_the_command_line(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert command.main([*words.split(), "--run-dir", "run", "--quiet"]) == 0
    content = yaml.safe_load(Path("run/config.yaml").read_text())["network"]
    again = parse(["--config", "run/config.yaml"])
    assert again.network == parse(words.split()).network
    assert content["layer_norm"] == again.network.layer_norm
    assert content["halve"] is again.network.halve


def test_mistakes_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--network.activation", "creluu"]) == 2
    assert "did you mean 'crelu'?" in capsys.readouterr().err
    assert command.main(["--network.activation", "crelu", "--network.hidden", "15"]) == 2
    assert "--network.hidden must be even" in capsys.readouterr().err
    assert command.main(["--network", "mlp", "--help"]) == 0
    shown = capsys.readouterr().out
    for word in ("--network.activation", "--network.layer-norm", "--network.spectral-norm", "--network.halve"):
        assert word in shown
