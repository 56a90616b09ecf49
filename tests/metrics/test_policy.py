"""Diagnostics of policies and critics: by hand, against torch.distributions and SB3's own, and on real agents."""

import copy
import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import explained_variance as explained_by_sb3
from torch import Tensor

from agents.layers import Layer, Network, Param
from agents.sb3 import read_networks
from metrics.base import Loss, Measured, Metric, Policy, StepView, View
from metrics.policy import (
    Churn,
    Divergence,
    Entropy,
    ExplainedVariance,
    LogitGap,
    PolicyVariance,
    TrustRegion,
    explained_variance,
    greedy_churn,
    kl_divergence,
    logit_gap,
    output_churn,
    policy_entropy,
    policy_variance,
    probabilities,
    ratio_summary,
    saturated_choice,
)
from tests.models import make

laws: Any = torch.distributions  # which has no types

METRICS: list[Metric] = [
    Entropy(),
    LogitGap(),
    PolicyVariance(),
    TrustRegion(),
    Divergence(),
    ExplainedVariance(),
]


class Fake(View):
    """A view that knows what a policy does and nothing of a model."""

    def __init__(
        self,
        policy: Policy | None = None,
        before: Policy | None = None,
        log_ratio: Tensor | None = None,
        values: Tensor | None = None,
        returns: Tensor | None = None,
    ) -> None:
        self.now, self.before, self.ratio, self.values, self.targets = policy, before, log_ratio, values, returns

    def policy(self) -> Policy | None:
        return self.now

    def policy_before(self) -> Policy | None:
        return self.before

    def log_ratio(self) -> Tensor | None:
        return self.ratio

    def returns(self, network: Network) -> Tensor | None:
        return self.targets

    def outputs(self, network: Network) -> list[Tensor]:
        assert self.values is not None
        return [self.values]

    def activations(self, network: Network) -> dict[Layer, Tensor]:
        raise NotImplementedError

    def preactivations(self, network: Network) -> dict[Layer, Tensor]:
        raise NotImplementedError

    def features(self, network: Network) -> Tensor | None:
        raise NotImplementedError

    def inputs(self, network: Network) -> tuple[Any, ...]:
        raise NotImplementedError

    def loss(self, network: Network) -> Loss | None:
        raise NotImplementedError

    def sample_gradients(self, network: Network) -> Tensor | None:
        raise NotImplementedError

    def initial(self, param: Param) -> Tensor:
        raise NotImplementedError

    def generator(self, purpose: str) -> torch.Generator:
        raise NotImplementedError


ACTOR, CRITIC = Network("actor", "actor", []), Network("critic", "critic", [])


def of(metric: Metric, policy: Policy) -> Measured:
    return metric.measure(ACTOR, Fake(policy))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gaussian(samples: int, seed: int, squashed: bool = False) -> Policy:
    return Policy(mean=normal(samples, 3, seed=seed), std=normal(samples, 3, seed=seed + 1).exp(), squashed=squashed)


def saturated(gap: float, samples: int = 8) -> Policy:
    return Policy((torch.tensor([[gap, 0.0, -1.0]]).expand(samples, 3),))


# What the distributions say


def test_entropy_and_divergence_by_hand() -> None:
    p, q = Policy((torch.tensor([[0.75, 0.25]]).log(),)), Policy((torch.tensor([[0.5, 0.5]]).log(),))
    assert policy_entropy(p) == pytest.approx(0.75 * math.log(4 / 3) + 0.25 * math.log(4))
    assert kl_divergence(p, q) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert kl_divergence(q, p) == pytest.approx(0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(2))
    narrow = Policy(mean=torch.tensor([[1.0]]), std=torch.tensor([[1.0]]))
    wide = Policy(mean=torch.tensor([[3.0]]), std=torch.tensor([[2.0]]))
    assert kl_divergence(narrow, wide) == pytest.approx(math.log(2) + (1 + 4) / 8 - 0.5)
    assert policy_entropy(wide) == pytest.approx(0.5 * math.log(2 * math.pi * math.e * 4))


def test_parts_of_an_action_add_up_as_in_torch() -> None:
    p, q = (Policy((normal(20, 4, seed=s), normal(20, 2, seed=s + 1))) for s in (0, 10))
    pairs = [[laws.Categorical(logits=part.double()) for part in both] for both in zip(p.logits, q.logits, strict=True)]
    torch.testing.assert_close(policy_entropy(p), pairs[0][0].entropy() + pairs[1][0].entropy())
    expected = laws.kl_divergence(*pairs[0]) + laws.kl_divergence(*pairs[1])
    torch.testing.assert_close(kl_divergence(p, q), expected)


def test_dimensions_of_a_gaussian_add_up_as_in_torch() -> None:
    p, q = gaussian(20, 0), gaussian(20, 5)
    assert p.mean is not None
    assert p.std is not None
    assert q.mean is not None
    assert q.std is not None
    ours, theirs = (laws.Normal(mean.double(), std.double()) for mean, std in ((p.mean, p.std), (q.mean, q.std)))
    torch.testing.assert_close(policy_entropy(p), ours.entropy().sum(-1))
    torch.testing.assert_close(kl_divergence(p, q), laws.kl_divergence(ours, theirs).sum(-1))


def test_divergence_is_the_same_after_a_tanh() -> None:
    p, q = gaussian(1, 0, squashed=True), gaussian(1, 5, squashed=True)
    ours, theirs = (
        laws.TransformedDistribution(laws.Normal(one.mean, one.std), [laws.TanhTransform(cache_size=1)])
        for one in (p, q)
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        actions = ours.sample((40_000,))
    inside = (actions.abs() < 1).all(-1)  # rounded to 1, a sample cannot be undone
    difference = (ours.log_prob(actions[inside]) - theirs.log_prob(actions[inside])).sum(-1)
    expected = kl_divergence(p, q)
    assert expected is not None
    assert float(difference.mean()) == pytest.approx(float(expected), rel=0.05)


def test_a_deterministic_policy_has_neither() -> None:
    policy = Policy(mean=normal(5, 2), squashed=True)
    assert policy_entropy(policy) is None
    assert kl_divergence(policy, policy) is None
    assert of(Entropy(), policy) == {}
    assert Divergence().measure(ACTOR, Fake(policy, before=policy)) == {}


def test_a_constant_added_to_all_logits_changes_nothing() -> None:
    logits, other = normal(30, 4), normal(30, 4, seed=1)
    for metric in (Entropy(), LogitGap(), PolicyVariance()):
        assert of(metric, Policy((logits + 50,))) == pytest.approx(of(metric, Policy((logits,))), rel=1e-4)
    torch.testing.assert_close(
        kl_divergence(Policy((logits + 50,)), Policy((other - 9,))),
        kl_divergence(Policy((logits,)), Policy((other,))),
        rtol=1e-4,
        atol=1e-5,
    )


def test_the_divergence_of_one_step_is_not_lost_in_rounding() -> None:
    logits = normal(200, 4) * 3
    step = 1e-4 * normal(200, 4, seed=1)
    p = torch.softmax(logits.double(), -1)
    second_order = 0.5 * ((p * step**2).sum(-1) - (p * step).sum(-1) ** 2)  # variance of the change, halved
    found = kl_divergence(Policy((logits.double(),)), Policy((logits.double() + step,)))
    torch.testing.assert_close(found, second_order, rtol=1e-3, atol=1e-14)
    single = kl_divergence(Policy((logits,)), Policy((logits + step,)))
    assert single is not None
    assert float(single.mean()) == pytest.approx(float(second_order.mean()), rel=1e-2)


# Entropy, saturation, variance


def test_a_uniform_policy_that_ignores_the_state() -> None:
    policy = Policy((torch.zeros(9, 4), torch.zeros(9, 2)))
    assert of(Entropy(), policy) == pytest.approx({"entropy": math.log(8), "min_prob": 0.25})
    assert of(LogitGap(), policy) == {"logit_gap": 0, "action_saturated": 0}
    assert of(PolicyVariance(), policy) == {"policy_variance": 0}


def test_minimum_probability_is_over_states_choices_and_parts() -> None:
    policy = Policy(
        (torch.tensor([[0.5, 0.5], [0.9, 0.1]]).log(), torch.tensor([[0.3, 0.3, 0.4], [0.05, 0.9, 0.05]]).log())
    )
    assert of(Entropy(), policy)["min_prob"] == pytest.approx(0.05)


def test_a_saturated_softmax_gives_finite_numbers_and_shows_as_such() -> None:
    policy, other = saturated(130), Policy((torch.tensor([[0.0, 130.0, 1.0]]).expand(8, 3),))
    assert float(probabilities(policy)[0].min()) == 0.0
    measured = of(Entropy(), policy)
    assert measured == {"entropy": pytest.approx(0, abs=1e-50), "min_prob": 0.0}
    assert of(LogitGap(), policy) == {"logit_gap": 130, "action_saturated": 1}
    assert of(PolicyVariance(), policy) == {"policy_variance": 0}
    divergence = kl_divergence(policy, other)
    torch.testing.assert_close(divergence, torch.full((8,), 130.0).double())
    assert kl_divergence(policy, policy) == pytest.approx(np.zeros(8))


def test_a_choice_that_is_excluded_altogether_adds_nothing() -> None:
    masked = torch.tensor([[0.0, 0.0, -math.inf]])
    assert policy_entropy(Policy((masked,))) == pytest.approx(math.log(2))
    assert kl_divergence(Policy((masked,)), Policy((masked,))) == pytest.approx(0)
    assert kl_divergence(Policy((masked,)), Policy((torch.zeros(1, 3),))) == pytest.approx(math.log(1.5))


def test_the_gap_is_between_the_two_largest() -> None:
    logits = torch.tensor([[1.0, 5.0, 3.5], [2.0, 2.0, -7.0]])
    torch.testing.assert_close(logit_gap(logits), torch.tensor([1.5, 0.0]))
    assert of(LogitGap(), Policy((logits, logits + 1)))["logit_gap"] == pytest.approx(0.75)


def test_saturated_means_that_single_precision_knows_no_other_choice() -> None:
    for gap in np.arange(15.0, 19.0, 0.125):
        logits = torch.tensor([[float(gap), 0.0]])
        assert bool(saturated_choice(logits)) == bool(torch.softmax(logits, -1).max() == 1), gap
    one_in_four = Policy((torch.tensor([[20.0, 0.0], [1.0, 0.0], [0.0, 16.0], [3.0, 0.0]]),))
    assert of(LogitGap(), one_in_four)["action_saturated"] == 0.25


def test_where_the_policy_counts_as_saturated_its_gradient_has_vanished() -> None:
    for gap, moves in ((3.0, True), (130.0, False)):
        logits = torch.tensor([[gap, 0.0]], requires_grad=True)
        laws.Categorical(logits=logits).log_prob(torch.tensor([0])).sum().backward()
        assert logits.grad is not None
        assert bool(logits.grad.abs().max() > 0) is moves
        assert of(LogitGap(), Policy((logits.detach(),)))["action_saturated"] == (not moves)


def test_a_part_with_one_choice_has_no_gap() -> None:
    gap = of(LogitGap(), Policy((torch.zeros(4, 1), torch.tensor([[2.0, 0.0]]).expand(4, 2))))
    assert gap == {"logit_gap": 2, "action_saturated": 0}
    assert of(LogitGap(), Policy((torch.zeros(4, 1),))) == {}


def test_squashed_means_saturate_and_others_do_not() -> None:
    mean = torch.tensor([[0.0, 2.6], [2.7, -2.7]])  # tanh: 0, 0.989, 0.991, -0.991
    assert of(LogitGap(), Policy(mean=mean, squashed=True)) == {"action_saturated": 0.5}
    assert of(LogitGap(bound=0.98), Policy(mean=mean, squashed=True)) == {"action_saturated": 0.75}
    assert of(LogitGap(), Policy(mean=mean, std=torch.ones(2, 2))) == {}


def test_policy_variance_by_hand() -> None:
    always = Policy((torch.tensor([[0.9, 0.1], [0.1, 0.9]]).log(),))
    assert policy_variance(always) == pytest.approx(2 * 0.4**2)  # unbiased
    third = torch.full((2, 3), 1 / 3).log()  # three choices more that do not vary
    assert policy_variance(Policy((*always.logits, third))) == pytest.approx(2 * 0.4**2 * 2 / 5)
    mean = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    assert policy_variance(Policy(mean=mean)) == pytest.approx(1.0)
    assert policy_variance(Policy(mean=mean, squashed=True)) == pytest.approx((math.tanh(3) - math.tanh(1)) ** 2 / 4)
    assert math.isnan(policy_variance(Policy((torch.zeros(1, 2),))))


def test_a_policy_that_ignores_the_state_has_no_variance_at_any_entropy() -> None:
    one = normal(1, 5)
    policy = Policy((one.expand(64, 5),))
    assert policy_variance(policy) == pytest.approx(0, abs=1e-15)
    assert of(Entropy(), policy)["entropy"] > 1


# Trust region


def test_ratios_by_hand() -> None:
    ratios = torch.tensor([1.0, 1.1, 1.5, 2.5, 0.5, 0.9, 0.85, 1.19], dtype=torch.double)
    found = ratio_summary(ratios.log(), 0.2)
    assert found["clip_fraction"] == pytest.approx(3 / 8)
    assert found["ratio_above"] == pytest.approx(2.0)
    assert found["ratio_below"] == pytest.approx(0.5)
    assert found["approx_kl"] == pytest.approx(sum(r - 1 - math.log(r) for r in ratios.tolist()) / 8)
    inside = ratio_summary(torch.zeros(4), 0.2)
    assert inside == pytest.approx({"clip_fraction": 0, "ratio_above": 1.2, "ratio_below": 0.8, "approx_kl": 0})
    assert ratio_summary(ratios.log(), 0.1)["ratio_below"] == pytest.approx((0.5 + 0.85) / 2)


def test_violations_can_grow_at_the_same_clip_fraction() -> None:
    mild, wild = (ratio_summary(torch.tensor([0.0, 0.0, math.log(r)])) for r in (1.3, 30.0))
    assert mild["clip_fraction"] == wild["clip_fraction"] == pytest.approx(1 / 3)
    assert [mild["ratio_above"], wild["ratio_above"]] == pytest.approx([1.3, 30])


def test_extreme_ratios_stay_finite_in_single_precision() -> None:
    found = ratio_summary(torch.tensor([1e5, -1e5, 130.0, -math.inf]))
    assert found["clip_fraction"] == 1
    assert found["ratio_below"] == 0
    assert math.isfinite(np.float32(found["ratio_above"]))
    found = ratio_summary(torch.tensor([1e5, -1e5]))
    assert math.isfinite(np.float32(found["approx_kl"]))


def test_the_estimate_agrees_with_the_divergence_that_it_estimates() -> None:
    before, after = torch.tensor([1.0, 0.3, -0.2, -1.5]), torch.tensor([0.4, 0.6, 0.0, 0.2])
    samples = 200_000
    actions = torch.multinomial(before.softmax(0), samples, True, generator=torch.Generator().manual_seed(0))
    log_ratio = (after.log_softmax(0) - before.log_softmax(0))[actions]
    exact = kl_divergence(Policy((before[None],)), Policy((after[None],)))
    reverse = kl_divergence(Policy((after[None],)), Policy((before[None],)))
    assert exact is not None
    assert reverse is not None
    assert abs(float(exact) - float(reverse)) > 0.05  # so that the direction is tested as well
    found = ratio_summary(log_ratio, 0.2)
    assert found["approx_kl"] == pytest.approx(float(exact), rel=0.01)
    ratio = (after.softmax(0) / before.softmax(0)).tolist()
    beyond = sum(p for p, r in zip(before.softmax(0).tolist(), ratio, strict=True) if abs(r - 1) > 0.2)
    assert found["clip_fraction"] == pytest.approx(beyond, abs=0.005)


def test_the_exact_divergence_is_from_the_earlier_policy() -> None:
    before, after = Policy((normal(30, 3),)), Policy((2 * normal(30, 3, seed=1),))
    expected = kl_divergence(before, after)
    assert expected is not None
    assert Divergence().measure(ACTOR, Fake(after, before)) == {"kl": pytest.approx(float(expected.mean()))}


def test_where_nothing_is_known_nothing_is_said() -> None:
    for metric in METRICS:
        assert metric.measure(CRITIC if isinstance(metric, ExplainedVariance) else ACTOR, Fake()) == {}


# The critic's fit


def test_explained_variance_by_hand_and_as_in_sb3() -> None:
    returns = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert explained_variance(returns, returns) == 1
    assert explained_variance(returns + 7, returns) == pytest.approx(1)  # an offset is not seen
    assert explained_variance(torch.zeros(4), returns) == pytest.approx(0)
    assert explained_variance(-returns, returns) == pytest.approx(-3)
    assert explained_variance(torch.tensor([1.0, 2.0, 3.0, 6.0]), returns) == pytest.approx(1 - 0.75 / 1.25)
    values, targets = normal(100), normal(100) + 0.5 * normal(100, seed=1)
    assert explained_variance(values, targets) == pytest.approx(explained_by_sb3(values.numpy(), targets.numpy()))


def test_equal_returns_have_no_variance_to_explain() -> None:
    assert math.isnan(explained_variance(normal(512), torch.full((512,), 0.1)))


# Churn


def test_churn_of_greedy_actions_counts_joint_actions() -> None:
    before = [
        torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]),
        torch.tensor([[0.0, 2.0, 1.0]]).expand(4, 3),
    ]
    first = torch.tensor([[1.0, 0.0], [0.0, 0.1], [0.0, 0.1], [1.0, 0.9]])
    second = torch.tensor([[0.0, 2.0, 1.0], [0.0, 2.0, 1.0], [3.0, 2.0, 1.0], [0.0, 2.0, 2.5]])
    assert greedy_churn(before[:1], [first]) == 0.5
    assert greedy_churn(before, [first, second]) == 0.75
    assert greedy_churn(before, before) == 0


def test_churn_of_outputs_is_in_units_of_their_spread() -> None:
    before = torch.tensor([[0.0], [2.0]])  # spread 1
    assert output_churn(before, before + torch.tensor([[0.5], [-0.1]])) == pytest.approx(0.3)
    outputs, change = normal(50, 3), 0.01 * normal(50, 3, seed=1)
    assert output_churn(1000 * outputs + 5, 1000 * (outputs + change) + 5) == pytest.approx(
        output_churn(outputs, outputs + change), rel=1e-3
    )
    assert output_churn(outputs, outputs) == 0
    # one output that is the same everywhere makes the unit smaller, not zero
    assert math.isfinite(output_churn(torch.cat([outputs, torch.ones(50, 1)], -1), torch.ones(50, 4)))
    assert math.isnan(output_churn(torch.full((50, 1), 0.1), torch.ones(50, 1)))


def test_outputs_that_differ_in_the_last_bit_have_no_spread() -> None:
    before = torch.full((50, 1), 3.0)
    before[0] = torch.nextafter(before[0], torch.tensor(4.0))
    assert float(before.var()) > 0
    assert math.isnan(output_churn(before, before + 1))


def test_churn_of_a_policy_is_measured_from_the_one_before() -> None:
    actor = Network("actor", "actor", [], categories=[3, 2])
    before, after = normal(40, 5), 2 * normal(40, 5, seed=1)
    parts = [Policy(tuple(torch.split(outputs, [3, 2], dim=-1))) for outputs in (before, after)]
    there, back = (kl_divergence(*pair) for pair in (parts, parts[::-1]))
    assert there is not None
    assert back is not None
    assert abs(float(there.mean() - back.mean())) > 0.1
    changed = (before[:, :3].argmax(-1) != after[:, :3].argmax(-1)) | (
        before[:, 3:].argmax(-1) != after[:, 3:].argmax(-1)
    )
    found = Churn().measure_step(actor, StepView({}, [before], [after]))
    assert found == pytest.approx({"churn": float(changed.float().mean()), "churn_kl": float(there.mean())})


def one_step(kind: str) -> dict[str, Measured]:
    """Churn of every network of a model by one step along the gradient of its outputs."""
    model = make(kind)
    model.policy.set_training_mode(False)
    observations: Any = torch.as_tensor(np.stack([model.observation_space.sample() for _ in range(64)])).clamp(-5, 5)
    action = [torch.as_tensor(np.stack([model.action_space.sample() for _ in range(64)]))]
    found = {}
    for network in read_networks(model):
        if not network.layers or not Churn().applies(network):
            continue
        reads_actions = "critic" in network.name and kind in ("sac", "td3", "tqc")
        inputs = (torch.cat([observations, *action], -1),) if reads_actions else (observations,)
        assert network.optimizer is not None
        with torch.no_grad():
            before = [head.clone() for head in network.run(*inputs)]
        loss: Any = torch.stack([head.square().mean() for head in network.run(*inputs)]).sum()
        loss.backward()
        network.optimizer.step()
        network.optimizer.zero_grad()
        with torch.no_grad():
            after = network.run(*inputs)
        found[network.name] = Churn().measure_step(network, StepView({}, before, after))
        still = Churn().measure_step(network, StepView({}, before, before))
        assert all(value == 0 for value in still.values())
    return found


@pytest.mark.parametrize("kind", ["ppo", "ppo-box", "sac", "td3", "dqn", "tqc"])
def test_churn_of_every_kind_of_network(kind: str) -> None:
    for name, values in one_step(kind).items():
        categorical = kind == "ppo" and name == "actor"
        assert set(values) == ({"churn", "churn_kl"} if categorical else {"churn_output"})
        for key, value in values.items():
            assert value >= 0
            assert value > 0 or key == "churn"


def test_a_network_without_outputs_has_no_churn_of_its_own() -> None:
    applies = {network.name: Churn().applies(network) for network in read_networks(make("sac-cnn-shared"))}
    assert applies == {"shared": False, "actor": True, "critic0": True, "critic1": True, "temperature": False}
    assert Churn().measure_step(ACTOR, StepView({}, [], [])) == {}


# Real agents


class Parts(gym.Env[Any, Any]):
    """Noise, and actions of two parts."""

    observation_space = spaces.Box(-1, 1, (3,))
    action_space = spaces.MultiDiscrete([3, 2])

    def reset(self, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        super().reset(**arguments)
        self.observation_space.seed(0)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return (
            self.observation_space.sample(),
            float(action[0] - action[1]),
            bool(self.np_random.random() < 0.1),
            False,
            {},
        )


class Before(BaseCallback):
    """Keeps the policy that collected a rollout."""

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.policy: Any = copy.deepcopy(self.model.policy)


def policy_of(distribution: Any) -> Policy:
    inner = distribution.distribution
    if isinstance(inner, list):
        return Policy(tuple(part.logits for part in inner))
    if isinstance(inner, laws.Categorical):
        return Policy((inner.logits,))
    return Policy(mean=inner.mean, std=inner.stddev)


@pytest.mark.parametrize("kind", ["discrete", "parts", "box"])
def test_a_real_ppo_agrees_with_what_its_distributions_say(kind: str) -> None:
    env: Any = {"discrete": "CartPole-v1", "parts": Parts(), "box": "Pendulum-v1"}[kind]
    model: Any = sb3.PPO("MlpPolicy", env, n_steps=128, batch_size=32, seed=0, device="cpu", learning_rate=3e-3)
    callback = Before()
    model.learn(128, callback=callback)
    buffer = model.rollout_buffer  # flattened by training
    observations, actions = torch.as_tensor(buffer.observations), torch.as_tensor(buffer.actions)
    actor, critic = read_networks(model)
    with torch.no_grad():
        now, before = (policy.get_distribution(observations) for policy in (model.policy, callback.policy))
        taken = actions.flatten() if kind == "discrete" else actions
        log_ratio = now.log_prob(taken) - torch.as_tensor(buffer.log_probs).flatten()
        values = model.policy.predict_values(observations)
    returns = torch.as_tensor(buffer.returns).flatten()
    view = Fake(policy_of(now), policy_of(before), log_ratio, values, returns)
    found: Measured = {}
    for metric in METRICS:
        measured = metric.measure(critic if metric.applies(critic) else actor, view)
        assert set(measured) <= set(metric.names)
        found |= measured

    entropy = now.entropy()
    assert entropy is not None
    assert found["entropy"] == pytest.approx(float(entropy.mean()), rel=1e-5)
    if kind == "parts":
        pairs = zip(before.distribution, now.distribution, strict=True)
        kl = torch.stack([laws.kl_divergence(*pair) for pair in pairs]).sum(0)
    else:
        kl = laws.kl_divergence(before.distribution, now.distribution)
        kl = kl.sum(-1) if kind == "box" else kl
    assert found["kl"] == pytest.approx(float(kl.mean()), rel=1e-3)
    assert found["approx_kl"] == pytest.approx(found["kl"], rel=0.5)  # an estimate from 128 actions
    assert 0 < found["clip_fraction"] < 1
    assert found["ratio_below"] < 0.8 < 1.2 < found["ratio_above"]
    assert found["explained_var"] == pytest.approx(
        explained_by_sb3(values.flatten().numpy(), returns.numpy()), rel=1e-4
    )
    assert found["policy_variance"] > 0
    assert ("logit_gap" in found) == (kind != "box")
    assert all(math.isfinite(value) for value in found.values())


def test_metrics_of_the_policy_are_the_actors_alone() -> None:
    networks = {network.name: network for kind in ("sac", "dqn") for network in read_networks(make(kind))}
    for metric in METRICS:
        applies = {name for name, network in networks.items() if metric.applies(network)}
        expected = {"critic", "critic0", "critic1"} if isinstance(metric, ExplainedVariance) else {"actor"}
        assert applies == expected


def test_names_fit_into_tags() -> None:
    names = [name for metric in [*METRICS, Churn()] for name in metric.names]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 16 for name in names)
