"""FiniteGuard: what is not finite is found before it touches a weight, named as far as is known, or left out."""

import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import optimizers
from agents.finite import FiniteGuard, NonFiniteError, Response, may_be_finite
from agents.hooks import OptimizerHooks
from agents.plasticity import Plasticity
from agents.sb3 import read_networks
from optimizers import OPTIMIZERS
from resets import CBP
from tests.models import STEPS, make, plain_weights, weights


def poison(model: BaseAlgorithm, value: float, at: int = 5, see: Callable[[], None] = lambda: None) -> None:
    """Make one number of the first trained parameter's gradient this value, in the backward pass number `at`."""
    first = next(param for net in read_networks(model) for param in net.params() if param.optimizer).tensor
    count = 0

    def hook(gradient: torch.Tensor) -> torch.Tensor:
        nonlocal count
        count += 1
        if count != at:
            return gradient
        see()
        gradient = gradient.clone()
        gradient.view(-1)[1] = value
        return gradient

    first.register_hook(hook)  # type: ignore[no-untyped-call]


def learn(model: BaseAlgorithm, guard: FiniteGuard, *others: BaseCallback, steps: int = 200) -> None:
    try:
        model.learn(steps, callback=[guard, *others])
    finally:
        guard.close()


def test_a_sum_tells_what_may_be_finite() -> None:
    fine = [torch.ones(3, 2), torch.zeros(4)]
    assert may_be_finite([])
    assert may_be_finite(fine)
    for value in (math.nan, math.inf, -math.inf):
        assert not may_be_finite([*fine, torch.tensor([1.0, value])])


@pytest.mark.parametrize("agent", ["ppo", "a2c", "sac", "td3", "dqn", "tqc", "qrdqn", "crossq"])
def test_it_stops_before_any_weight_is_touched(agent: str) -> None:
    model, seen = make(agent), []
    poison(model, math.nan, see=lambda: seen.append(weights(model)))
    with pytest.raises(NonFiniteError, match=r"^step \d+: gradient step 5 of .* learning rate may help\.$"):
        learn(model, FiniteGuard())
    assert len(seen) == 1
    assert torch.equal(weights(model), seen[0])
    assert all("step" not in vars(network.optimizer) for network in read_networks(model))


def test_it_names_the_gradient_where_clipping_has_not_spread_it() -> None:
    for agent, value, culprit in [
        ("sac", math.nan, r"gradient step 5 of actor: the gradient of actor\.0\.weight is not finite \(nan\);"),
        # The norm is infinite, by which all that is finite becomes zero.
        ("dqn", math.inf, r"gradient step 5 of critic: the gradient of critic\.0\.weight is not finite \(nan\|inf\);"),
        ("ppo", math.nan, r"of actor and critic: all gradients are nan, so that nothing can be said of where it began"),
    ]:
        model = make(agent)
        poison(model, value)
        with pytest.raises(NonFiniteError, match=culprit.replace(r"\|", "|")):
            learn(model, FiniteGuard())


def omit_step(model: BaseAlgorithm, number: int) -> None:
    """Without any guard: the first trained parameter's optimiser does not take its step number `number`."""
    optimizer = next(network.optimizer for network in read_networks(model) if network.optimizer)
    plain, count = optimizer.step, 0

    def step(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        return None if count == number else plain(*arguments)

    vars(optimizer)["step"] = step


def compare_with_omission(
    build: Callable[[], BaseAlgorithm], interventions: Callable[[], list[Any]], steps: int
) -> None:
    model, told = build(), []
    poison(model, math.nan)
    guard = FiniteGuard("skip", told.append)
    learn(model, guard, Plasticity(*interventions()), steps=steps)
    omitting = build()
    omit_step(omitting, 5)
    omitting.learn(steps, callback=Plasticity(*interventions()))
    assert torch.equal(weights(model), weights(omitting))
    assert weights(model).isfinite().all()
    assert guard.counts == {"gradients": 1}
    assert len(told) == 1
    assert told[0].endswith("and the step is left out.")


@pytest.mark.parametrize("agent", ["a2c", "sac", "dqn"])
def test_a_skipped_step_is_no_step(agent: str) -> None:
    compare_with_omission(lambda: make(agent), list, steps=80)


@pytest.mark.parametrize("name", ["trac", "muon", "kron"])
def test_no_optimizer_notices_a_skipped_step(name: str) -> None:
    """Counts, tuners and preconditioners stay as they were."""
    settings = OPTIMIZERS[name]()
    try:
        kwargs = settings.policy_kwargs()
    except ValueError as error:
        pytest.skip(str(error))

    def build() -> BaseAlgorithm:
        return PPO("MlpPolicy", "CartPole-v1", n_steps=64, policy_kwargs=kwargs | {"net_arch": [8, 8]}, seed=0)

    compare_with_omission(build, settings.interventions, steps=128)


def test_interventions_do_not_hear_of_a_skipped_step() -> None:
    """Continual backpropagation counts steps and averages what they saw."""
    compare_with_omission(lambda: make("ppo"), lambda: [CBP(replacement_rate=0.05, maturity=3)], steps=320)


def test_of_two_passes_the_second_is_guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """SAM ascends on the first gradient, nan and all; the weights are put back, and the step is left out."""
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", False)
    settings = optimizers.SAM()
    model = PPO(
        "MlpPolicy",
        "CartPole-v1",
        n_steps=64,
        n_epochs=1,
        seed=0,
        policy_kwargs=settings.policy_kwargs() | {"net_arch": [8]},
    )
    seen: list[torch.Tensor] = []
    poison(model, math.nan, at=1, see=lambda: seen.append(weights(model)))
    learn(model, FiniteGuard("skip", lambda sentence: None), Plasticity(*settings.interventions()), steps=64)
    assert torch.equal(weights(model), seen[0])


@pytest.mark.parametrize("agent", ["ppo", "sac"])
def test_watching_changes_nothing(agent: str) -> None:
    model, guard = make(agent), FiniteGuard()
    learn(model, guard, steps=STEPS[agent])
    assert torch.equal(weights(model), plain_weights(agent))
    assert not guard.counts


def test_large_numbers_are_finite() -> None:
    """Twice 3e38 is not a number of single precision, but 3e38 is."""
    tensors = [torch.tensor([3e38, 3e38])]
    assert not may_be_finite(tensors)
    model, guard = make("sac"), FiniteGuard()
    optimizer = read_networks(model)[0].optimizer
    assert optimizer is not None
    first, second = optimizer.param_groups[0]["params"][:2]

    def enlarge(gradient: torch.Tensor) -> torch.Tensor:
        return torch.full_like(gradient, 3e38)

    first.register_hook(enlarge)
    second.register_hook(enlarge)
    learn(model, guard, steps=24)
    assert not guard.counts


def test_weights_are_looked_at_when_a_rollout_starts() -> None:
    for on in ("stop", "skip"):
        model = make("sac")
        actor = read_networks(model)[0]
        assert actor.optimizer is not None
        head = actor.layers[0].bias
        assert head is not None

        def spoil(optimizer: torch.optim.Optimizer, tensor: torch.Tensor = head.tensor) -> None:
            with torch.no_grad():
                tensor[2] = math.inf

        OptimizerHooks(actor.optimizer, after_step=spoil)
        with pytest.raises(NonFiniteError, match=r"^step 21: the parameter actor\.0\.bias is not finite \(inf\); a sm"):
            learn(model, FiniteGuard(on))  # type: ignore[arg-type]


def test_findings_are_told_at_powers_of_ten() -> None:
    model, told = make("dqn"), []
    poison(model, math.nan, at=1)
    guard = FiniteGuard("warn", told.append)
    learn(model, guard, steps=20 + 4 * 60)
    assert guard.counts == {"gradients": 60, "weights": 59}
    assert ["so far" in sentence for sentence in told] == [False, False, True, True]
    assert told[2].endswith("(gradients were not finite 10 times so far).")
    assert "before it, the parameter critic.0.weight is not finite (nan), nor are 5 more" in told[2]


def test_a_run_that_goes_on_tells_the_same() -> None:
    first = FiniteGuard("warn", lambda sentence: None)
    first.counts["gradients"] = 9
    first._gradient_steps = [123]
    told: list[str] = []
    second = FiniteGuard("warn", told.append)
    second.load_state_dict(first.state_dict())
    model = make("dqn")
    poison(model, math.nan, at=1)
    learn(model, second, steps=24)
    assert told[0].startswith("step 24: gradient step 124 of critic: ")
    assert told[0].endswith("(gradients were not finite 10 times so far).")


def test_another_model_is_counted_anew() -> None:
    guard = FiniteGuard("warn", lambda sentence: None)
    for kind in ("ppo", "sac"):
        learn(make(kind), guard, steps=36)
    again = FiniteGuard("warn", lambda sentence: None)
    learn(make("sac"), again, steps=36)
    assert guard.state_dict()["gradient_steps"] == again.state_dict()["gradient_steps"]


def test_losses_that_no_optimizer_sees_are_read_from_the_log() -> None:
    """TRPO moves its actor by itself. An explained variance is nan where there is nothing to explain."""
    model: Any = make("trpo")
    plain = model.train

    def train() -> None:
        plain()
        model.logger.record("train/explained_variance", math.nan)
        if model.num_timesteps == 128:
            model.logger.record("train/policy_objective", math.nan)

    model.train = train
    expected = r"^step 128: the last update's train/policy_objective \(nan\) is not finite\.$"
    with pytest.raises(NonFiniteError, match=expected):
        learn(model, FiniteGuard())


class Sick(gym.Env[Any, Any]):
    """Gives what it is told to, in its step number `at`, and else zeros; episodes have four steps."""

    def __init__(self, at: int, observation: Any = 0.0, reward: float = 0.0, parts: bool = False) -> None:
        box = spaces.Box(-1, 1, (2, 3), np.float32)
        self.observation_space = spaces.Dict({"camera": box, "speed": box}) if parts else box
        self.action_space = spaces.Box(-1, 1, (1,))
        self.parts, self.at, self.sick, self.reward, self.steps = parts, at, observation, reward, 0

    def observed(self, value: float = 0.0) -> Any:
        array = np.zeros((2, 3), np.float32)
        array[1, 2] = value
        return {"camera": np.zeros((2, 3), np.float32), "speed": array} if self.parts else array

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return self.observed(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        now = self.steps == self.at
        observation = self.observed(self.sick if now else 0.0)
        return observation, self.reward if now else 0.0, self.steps % 4 == 0, False, {"task": 7}


def sick(on: Response, told: list[str], normalize: bool = False, steps: int = 32, **own: Any) -> FiniteGuard:
    """An agent in two environments of which the second is sick."""
    env: Any = DummyVecEnv([lambda: Sick(at=-1, parts=own.get("parts", False)), lambda: Sick(**own)])
    env = VecNormalize(env, clip_obs=10.0) if normalize else env
    policy = "MultiInputPolicy" if own.get("parts") else "MlpPolicy"
    model = PPO(policy, env, n_steps=8, batch_size=8, n_epochs=1, policy_kwargs={"net_arch": [4]}, device="cpu")
    guard = FiniteGuard(on, told.append)
    learn(model, guard, steps=steps)
    return guard


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (
            {"observation": math.nan},
            r"step 6 \(task 7\): environment 1 gave an observation that is not finite \(nan, \[1, 2\]\)\.",
        ),
        ({"observation": math.inf, "parts": True}, r".* an observation that is not finite \(inf, speed\[1, 2\]\)\."),
        ({"observation": -math.inf, "normalize": True}, r".* an observation that is not finite \(-inf, \[1, 2\]\)\."),
        (
            {"observation": math.nan, "at": 4},
            r"step 8 .* 1 gave a last observation that is not finite \(nan, \[1, 2\]\)\.",
        ),
        ({"reward": math.inf}, r"step 6 \(task 7\): environment 1 gave a reward that is not finite \(inf\)\."),
        ({"reward": math.nan, "normalize": True}, r"step 6 .* gave a reward that is not finite \(nan\)\."),
    ],
)
def test_what_an_environment_gives_is_looked_at(own: dict[str, Any], expected: str) -> None:
    with pytest.raises(NonFiniteError, match=f"^{expected}$"):
        sick("stop", [], **{"at": 3, **own})


def test_what_an_environment_gives_is_warned_of() -> None:
    told: list[str] = []
    assert sick("skip", told, at=3, reward=math.inf).counts["rewards"] == 1
    assert any("a reward that is not finite (inf)" in sentence for sentence in told)


class Acts(BaseCallback):
    """Lets the agent's policy speak nonsense from a step on."""

    def _on_step(self) -> bool:
        if self.num_timesteps == 40:
            actor: Any = self.model.policy.actor
            with torch.no_grad():
                actor.mu[-2].bias.fill_(math.nan)
        return True


def test_an_action_that_is_not_finite_is_named() -> None:
    """So that the environment is not blamed."""
    told: list[str] = []
    model = make("td3")
    model.learning_starts = 45  # type: ignore[attr-defined]
    learn(model, FiniteGuard("warn", told.append), Acts(), steps=47)
    first = next(sentence for sentence in told if "the environment gave" in sentence)
    assert first.endswith("an observation that is not finite (nan, [0]), after the action [nan].")
