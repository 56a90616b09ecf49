"""Churn against the outputs of networks kept aside, and which minibatch and weights it is measured with."""

from typing import Any

import pytest
import torch
from stable_baselines3 import PPO
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from agents.layers import Network
from agents.plasticity import Plasticity
from agents.replica import Replica
from optimizers import SAM
from regularizers import Churn, InFeR
from regularizers.churn import churn
from resets import Full
from tests.features import Watched, move
from tests.models import make, train


def steps(item: Churn, model: Watched, name: str, count: int) -> tuple[list[Tensor | None], list[Any], list[Replica]]:
    """Penalties, inputs and replicas (as they were before the update) of several updates."""
    network, terms, inputs, replicas = model.networks[name], list[Tensor | None](), list[Any](), list[Replica]()
    for number in range(count):
        model.run()
        inputs.append(model.inputs(name))
        replicas.append(Replica(network))
        terms.append(item.loss_term(network, model.step(name, number)))
        if number < count - 1:
            move(network, seed=number)
            list(item.after_step([network], model.step(name, number), torch.Generator()))
    return terms, inputs, replicas


@pytest.mark.parametrize("kind", ["ppo", "ppo-norm", "ppo-cnn"])
def test_a_categorical_policys_churn_is_its_divergence_on_the_minibatch_of_two_steps_ago(kind: str) -> None:
    model = Watched(kind)
    actor = model.networks["actor"]
    terms, inputs, replicas = steps(Churn(3.0), model, "actor", 4)
    assert terms[:2] == [None, None], "there are no two steps before"
    for number in (2, 3):
        before, now = replicas[number - 1], replicas[number]
        policies = [Categorical(logits=replica(*inputs[number - 2])[0]) for replica in (before, now)]
        term = terms[number]
        assert term is not None
        torch.testing.assert_close(term.detach(), 3 * kl_divergence(*policies).mean(), rtol=1e-3, atol=1e-6)
    head = next(layer for layer in actor.layers if layer.is_head).weight.tensor
    assert terms[3] is not None
    (found,) = torch.autograd.grad(terms[3], head)
    old, new = (actor_probabilities(replicas[2], inputs[1]), actor.run(*inputs[1])[0].log_softmax(-1))
    cross_entropy = -3 * (old * new).sum(-1).mean()
    torch.testing.assert_close(found, torch.autograd.grad(cross_entropy, head)[0], rtol=1e-3, atol=1e-6)


def actor_probabilities(replica: Replica, inputs: Any) -> Tensor:
    return replica(*inputs)[0].softmax(-1)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("ppo-box", "actor"),
        ("ppo", "critic"),
        ("sac", "critic1"),
        ("sac", "actor"),
        ("dqn", "critic"),
        ("td3", "actor"),
    ],
)
def test_means_and_values_churn_by_their_mean_square(kind: str, name: str) -> None:
    model = Watched(kind)
    terms, inputs, replicas = steps(Churn(2.0), model, name, 3)
    before, now = replicas[1](*inputs[0]), replicas[2](*inputs[0])
    assert terms[2] is not None
    expected = 2 * (before[0] - now[0]).pow(2).mean()  # of SAC's actor the means only
    torch.testing.assert_close(terms[2].detach(), expected, rtol=1e-3, atol=1e-7)


def test_several_groups_of_categories_add_up() -> None:
    generator = torch.Generator().manual_seed(0)
    before, now = torch.randn(2, 6, 5, generator=generator)
    network = Network("actor", "actor", [], categories=[2, 3])
    expected = sum(
        kl_divergence(Categorical(logits=before[:, part]), Categorical(logits=now[:, part])).mean()
        for part in (slice(0, 2), slice(2, 5))
    )
    torch.testing.assert_close(churn(network, [before], [now]), expected)
    assert float(churn(network, [now], [now])) == 0.0


def test_a_reset_between_two_updates_is_not_undone() -> None:
    model, item = Watched("ppo"), Churn(1.0)
    actor = model.networks["actor"]
    for number in range(3):
        model.run()
        item.loss_term(actor, model.step("actor", number))
        if number < 2:
            move(actor, seed=number)
            list(item.after_step([actor], model.step("actor", number), torch.Generator()))
    # The third update moves nothing at all; then everything is overwritten.
    list(item.after_step([actor], model.step("actor", 2), torch.Generator()))
    move(actor, seed=9)
    model.run()
    term: Any = item.loss_term(actor, model.step("actor", 3))
    assert float(term.detach()) == pytest.approx(0.0, abs=1e-9)


def test_its_memory_is_the_last_change_and_two_minibatches() -> None:
    model, item = Watched("ppo-dict"), Churn()
    actor = model.networks["actor"]
    _, inputs, replicas = steps(item, model, "actor", 3)
    move(actor, seed=5)
    list(item.after_step([actor], model.step("actor", 2), torch.Generator()))
    for index, (before, live) in enumerate(zip(replicas[2].tensors, replicas[2].live, strict=True)):
        torch.testing.assert_close(item.state[f"update.actor.{index}"], live.detach() - before)
    for age, (kept,) in ((1, inputs[2]), (2, inputs[1])):
        assert kept.keys() == {"a", "b", "image"}
        assert all(torch.equal(item.state[f"inputs.actor.{age}.0.{key}"], kept[key]) for key in kept)
        (recalled,) = item._recall(actor, age) or ()
        assert all(torch.equal(recalled[key], kept[key]) for key in kept)


def test_the_live_network_is_run_unwatched_and_unmoved() -> None:
    model, item = Watched("sac"), Churn()
    steps(item, model, "actor", 2)
    actor = model.networks["actor"]
    move(actor, seed=2)
    list(item.after_step([actor], model.step("actor", 1), torch.Generator()))
    model.run()
    kept, before = model.step("actor").activations(actor), [p.tensor.detach().clone() for p in actor.params()]
    assert item.loss_term(actor, model.step("actor", 2)) is not None
    assert all(after is kept[layer] for layer, after in model.step("actor").activations(actor).items())
    assert all(torch.equal(old, param.tensor) for old, param in zip(before, actor.params(), strict=True))


def test_after_a_step_that_was_left_out_there_is_no_update_to_look_at() -> None:
    model, item = Watched("ppo"), Churn()
    steps(item, model, "actor", 3)
    actor, given = model.networks["actor"], []
    for number in range(3, 6):  # the third has left nothing behind
        model.run()
        given.append(item.loss_term(actor, model.step("actor", number)))
        move(actor, seed=number)
        list(item.after_step([actor], model.step("actor", number), torch.Generator()))
    assert given[0] is None
    assert all(term is not None and term.item() > 0 for term in given[1:])


@pytest.mark.parametrize("item", [Churn(), InFeR()])
def test_two_passes_a_step_are_refused(item: Churn | InFeR) -> None:
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=64, device="cpu", policy_kwargs=SAM().policy_kwargs())
    with pytest.raises(ValueError, match=r"needs one pass a step, and SAM takes two"):
        Plasticity(item).check(model)


def test_what_has_no_outputs_is_left_to_what_has() -> None:
    chosen = [
        network.name for network in Watched("ppo-cnn").networks.values() if Churn(networks="all").acts_on(network)
    ]
    assert chosen == ["actor", "critic"]
    with pytest.raises(ValueError, match=r"would act on nothing: with networks actor .* DQN, which has critic"):
        Plasticity(Churn()).check(make("dqn"))


def test_beside_a_reset_in_training() -> None:
    model, _ = train("sac", Churn(100.0, networks="all"), Full(when="periodic", every=30))
    assert all(torch.isfinite(tensor).all() for tensor in model.policy.parameters())
    train("sac-cnn-shared", Churn(networks="all"))
