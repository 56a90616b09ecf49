"""Interventions on learning models: where they fire, what they leave alone, and exactly what they add.

The strictest tests compare final weights bit for bit: with a run without the intervention, with SB3's own `train()`
patched so that the penalty stands in the loss, and with a run that was stopped and resumed.
"""

import inspect
import textwrap
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from sb3_contrib import MaskablePPO
from sb3_contrib.common.envs import InvalidActionEnvMultiDiscrete
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from agents.hooks import OptimizerHooks
from agents.interventions import Step
from agents.layers import Layer, Network
from agents.plasticity import Plasticity
from agents.sb3 import read_networks
from agents.watching import Watched, Watcher
from envs import Tasks, make_vec_env
from envs.changes import CHANGES
from envs.schedules import Periodic
from regularizers import L2, PFO, Regularizer, Spectral
from resets import CBP, Full, PlasticityInjection, ReDo, Reset, ShrinkPerturb
from tests.models import STEPS, make, plain_weights, train, weights


def patched(model: BaseAlgorithm, replacements: dict[str, str], penalty: Any) -> None:
    """Give the model a copy of its own `train()` with the penalty written into the loss."""
    source = textwrap.dedent(inspect.getsource(type(model).train))
    for old, new in replacements.items():
        assert old in source
        source = source.replace(old, new)
    scope = {**inspect.getmodule(type(model)).__dict__, "penalty": penalty}  # type: ignore[union-attr]
    exec(source, scope)
    model.train = types.MethodType(scope["train"], model)  # type: ignore[method-assign]


IN_THE_LOSS = pytest.mark.parametrize(
    ("kind", "replacements"),
    [
        ("ppo", {"loss.backward()": "(loss + penalty('actor', 'critic')).backward()"}),
        (
            "sac",
            {
                "critic_loss.backward()": "(critic_loss + penalty('critic0', 'critic1')).backward()",
                "actor_loss.backward()": "(actor_loss + penalty('actor')).backward()",
            },
        ),
    ],
)


def with_penalty_in_the_loss(
    kind: str, replacements: dict[str, str], strength: float, penalty: Callable[[Network], torch.Tensor]
) -> BaseAlgorithm:
    """A model that has learnt with its own patched `train()`."""
    model = make(kind)
    networks = {network.name: network for network in read_networks(model)}
    patched(model, replacements, lambda *names: sum(strength * penalty(networks[name]) for name in names))
    model.learn(STEPS[kind])
    return model


class Quartic(Regularizer):
    """A penalty whose gradient autograd finds."""

    def penalty(self, network: Network) -> torch.Tensor:
        return torch.stack([param.tensor.pow(4).sum() for layer in network.layers for param in layer.params()]).sum()


@IN_THE_LOSS
def test_a_penalty_is_the_same_bit_for_bit_as_one_written_into_the_loss(
    kind: str, replacements: dict[str, str]
) -> None:
    ours, _ = train(kind, Quartic(0.1))
    reference = with_penalty_in_the_loss(kind, replacements, 0.1, Quartic().penalty)
    assert torch.equal(weights(ours), weights(reference))
    assert not torch.equal(weights(ours), plain_weights(kind))


@IN_THE_LOSS
def test_a_gradient_in_closed_form_is_that_of_the_penalty_written_into_the_loss(
    kind: str, replacements: dict[str, str]
) -> None:
    ours, plasticity = train(kind, Spectral(0.1))
    spectral = Spectral()
    reference = with_penalty_in_the_loss(kind, replacements, 0.1, spectral.penalty)
    plain, difference = plain_weights(kind), (weights(ours) - weights(reference)).abs().max()
    assert float(difference) < 1e-3 * float((weights(ours) - plain).abs().max())
    for key, value in plasticity.interventions[0].state.items():
        torch.testing.assert_close(value, spectral.state[key], rtol=1e-3, atol=1e-4)


class Loud(Regularizer):
    """Penalises activations, outputs and weights together."""

    def watches(self) -> set[Watched]:
        return {"activations", "outputs"}

    def loss_term(self, network: Network, step: Step) -> torch.Tensor | None:
        return loudness(network, step.activations(network), step.outputs(network))


def loudness(network: Network, activations: dict[Layer, torch.Tensor], outputs: list[torch.Tensor]) -> torch.Tensor:
    terms = [h.square().mean() * layer.weight.tensor.square().mean() for layer, h in activations.items()]
    return torch.stack([*terms, *(output.square().mean() for output in outputs)]).sum()


@IN_THE_LOSS
def test_a_penalty_on_activations_acts_as_one_written_into_the_loss(kind: str, replacements: dict[str, str]) -> None:
    ours, _ = train(kind, Loud())
    reference = make(kind)
    watcher = Watcher()
    networks = {network.name: network for network in read_networks(reference)}
    for network in networks.values():
        watcher.watch(network, {"activations", "outputs"})

    def penalty(*names: str) -> torch.Tensor:
        own = [networks[name] for name in names]
        return torch.stack(
            [loudness(network, watcher.read(network, "activations"), watcher.outputs(network)) for network in own]
        ).sum()

    patched(reference, replacements, penalty)
    reference.learn(STEPS[kind])
    effect = (weights(reference) - plain_weights(kind)).norm()
    assert float((weights(ours) - weights(reference)).norm() / effect) < 1e-3


def test_the_model_is_clean_once_learning_has_ended() -> None:
    model, plasticity = train("sac", Spectral(1e-2), ReDo(tau=0.5, every=10))
    for optimizer in (model.actor.optimizer, model.critic.optimizer):  # type: ignore[attr-defined]
        assert "zero_grad" not in vars(optimizer)
        assert not optimizer._optimizer_step_post_hooks
    assert all(not module._forward_hooks for module in model.policy.modules())
    before = plasticity.state_dict()["counters"]["gradient_steps"]
    model.learn(20, reset_num_timesteps=False)
    assert plasticity.state_dict()["counters"]["gradient_steps"] == before


def test_an_interrupted_model_is_clean_once_the_callback_is_closed() -> None:
    class Stop(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps == 100:
                raise KeyboardInterrupt
            return True

    model, plasticity = make("ppo"), Plasticity(Spectral(1e-2))
    with pytest.raises(KeyboardInterrupt):
        model.learn(128, callback=[plasticity, Stop()])
    assert "zero_grad" in vars(model.policy.optimizer)
    plasticity.close()
    assert "zero_grad" not in vars(model.policy.optimizer)
    assert not model.policy.optimizer._optimizer_step_post_hooks


def test_saving_while_interventions_are_attached_and_loading(tmp_path: Any) -> None:
    model = make("ppo")
    saved = []

    class Save(Plasticity):
        def _on_rollout_end(self) -> None:
            super()._on_rollout_end()
            self.model.save(tmp_path / "model.zip")
            saved.append(weights(self.model))

    model.learn(64, callback=Save(Spectral(1e-2)))
    loaded = type(model).load(tmp_path / "model.zip", env=model.get_env(), device="cpu")
    assert torch.equal(weights(loaded), saved[-1])
    loaded.learn(64, callback=Plasticity(Spectral(1e-2)))
    assert not torch.equal(weights(loaded), saved[-1])


class Counter(Reset):
    """Notes when it is called."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.calls: list[tuple[str, int]] = []

    def between_rollouts(self, networks: Any, moment: Any, generator: Any) -> Any:
        self.calls.append(("rollout", moment.env_steps))
        self.moment = moment
        return ()

    def after_step(self, networks: Any, step: Any, generator: Any) -> Any:
        self.calls += [(network.name, 0) for network in networks]
        return ()


def test_moments_on_ppo() -> None:
    counter = Counter()
    train("ppo", counter, steps=128)
    # two rollouts of 64 steps; two epochs of one minibatch each
    once = [("actor", 0), ("critic", 0)]
    assert counter.calls == [("rollout", 0), *once * 2, ("rollout", 64), *once * 2]
    assert list(counter.moment.gradient_steps.values()) == [2]


def test_moments_on_sac() -> None:
    counter = Counter()
    train("sac", counter, steps=23)
    learnt = [name for name, _ in counter.calls if name != "rollout"]
    # learning starts after 20 steps: three updates, in SAC's order
    assert learnt == ["temperature", "critic0", "critic1", "actor"] * 3
    assert [steps for name, steps in counter.calls if name == "rollout"] == list(range(23))


def test_an_agent_of_masked_actions_is_an_agent_like_others() -> None:
    masked = InvalidActionEnvMultiDiscrete([2, 3], n_invalid_actions=2)
    model = MaskablePPO("MlpPolicy", masked, n_steps=32, batch_size=16, n_epochs=1, seed=0, device="cpu")
    counter = Counter()
    model.learn(64, callback=Plasticity(counter, ReDo(every=32), CBP(), Spectral(1e-3), PFO()))
    assert {name for name, _ in counter.calls} == {"rollout", "actor", "critic"}


def test_resets_at_switches_fire_at_the_first_rollout_of_the_new_task() -> None:
    events: list[dict[str, Any]] = []
    tasks = Tasks(Periodic(period=256), {"length": CHANGES["cartpole"](parameter="length")}, seed=0)  # type: ignore[call-arg]
    model = make("ppo")
    model.set_env(make_vec_env("CartPole-v1", tasks, 1, seed=0))
    plasticity = Plasticity(Full())
    plasticity.listeners.append(events.append)
    model.learn(640, callback=plasticity)
    assert [(event["step"], event["task"], event["network"]) for event in events] == [
        (256, 1, "actor"),
        (256, 1, "critic"),
        (512, 2, "actor"),
        (512, 2, "critic"),
    ]


def test_what_would_do_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Full would act on nothing: .* nothing for it in DQN"):
        train("dqn", Full(networks="actor"))
    with pytest.raises(ValueError, match="ReDo would act on nothing"):
        train("ppo-cnn", ReDo(networks="actor"), steps=16)
    with pytest.raises(ValueError, match="Spectral cannot reach the actor of TRPO"):
        train("trpo", Spectral(1e-3), steps=64)
    for item in (L2(1e-3), PlasticityInjection()):
        with pytest.raises(ValueError, match=f"{type(item).__name__} cannot reach the actor of TRPO"):
            train("trpo", item, steps=64)
    train("trpo", Spectral(1e-3, networks="critic"), ReDo(every=1), steps=64)


def test_interventions_draw_from_generators_of_their_own() -> None:
    untouched = []

    class Watch(ReDo):
        def between_rollouts(self, networks: Any, moment: Any, generator: Any) -> Any:
            before = torch.get_rng_state()
            yield from super().between_rollouts(networks, moment, generator)
            untouched.append(torch.equal(before, torch.get_rng_state()))

    train("ppo", Watch(tau=0.9, every=1), steps=192)
    assert untouched == [True, True, True]


def test_a_second_intervention_leaves_the_draws_of_the_first_as_they_were() -> None:
    def soft() -> ShrinkPerturb:
        return ShrinkPerturb(when="gradient_step", shrink=0.999, perturb=1e-3)

    alone, _ = train("ppo", soft())
    with_another, _ = train("ppo", soft(), ReDo(tau=-1.0, every=1))
    assert torch.equal(weights(alone), weights(with_another))


def test_on_another_model_interventions_start_anew() -> None:
    plasticity = Plasticity(ReDo(tau=0.9, every=3), Spectral(1e-2))
    first = make("ppo")
    first.learn(256, callback=plasticity)
    second = make("ppo")
    second.learn(256, callback=plasticity)
    assert torch.equal(weights(first), weights(second))


def test_several_listeners_of_one_optimizer_come_and_go() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    calls: list[str] = []
    first = OptimizerHooks(optimizer, lambda _: calls.append("a"), after_step=lambda _: calls.append("step"))
    second = OptimizerHooks(optimizer, lambda _: calls.append("b"))
    optimizer.zero_grad()
    first.remove()
    optimizer.zero_grad()
    second.remove()
    optimizer.zero_grad()
    optimizer.step()
    assert calls == ["a", "b", "b"]
    assert "zero_grad" not in vars(optimizer)
