"""Interventions on a population do to each member what they do to an agent alone, stacked or one after another."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from torch import Tensor

from agents.finite import FiniteGuard
from agents.hooks import Idleness, OptimizerHooks, Unneeded
from agents.interventions import Intervention
from agents.plasticity import Plasticity
from agents.population import Population
from agents.population.interventions import parts_of, plasticities
from agents.population.stepping import Stepper
from agents.sb3 import read_networks
from agents.stacking import Generators, SharedMemory, draw, each_member
from envs import NonStationary, Tasks
from envs.changes.rewards import RewardScale
from envs.schedules import Periodic
from optimizers import SAM, AdamRel, MomentReset, UnitAdam
from optimizers.base import AdamSettings
from regularizers import L2, REGULARIZERS, EffectiveRank, FeatureNorm, InFeR, L2Init, Spectral, WeightClipping
from resets import CBP, CPR, DASH, RESETS, SWR, PlasticityInjection, ReDo, ReGraMa
from tests.methods import METHODS
from tests.models import small, weights

Make = Callable[..., BaseAlgorithm]
Interventions = Callable[[], Sequence[Intervention]]

STACKED = [row for row, method in METHODS.items() if not method.adds_parameters]
OTHERS = [row for row in STACKED if row != "fire"]
TOGETHER = [["fire"], *(OTHERS[number::6] for number in range(6))]
"""Several methods at once, for time's sake. Where units have been reset, `fire` fills directions that a matrix does not
have with whatever rounding leaves."""


def make_ppo(seed: int, **arguments: Any) -> BaseAlgorithm:
    # Three actions: of two, the biases are each other's opposites, and which is smaller is for rounding to say.
    settings: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "policy_kwargs": small()}
    return sb3.PPO("MlpPolicy", arguments.pop("env", "Acrobot-v1"), seed=seed, device="cpu", **(settings | arguments))


def make_sac(seed: int, **arguments: Any) -> BaseAlgorithm:
    settings: dict[str, Any] = {"buffer_size": 100, "batch_size": 16, "learning_starts": 12, "policy_kwargs": small()}
    return sb3.SAC("MlpPolicy", "Pendulum-v1", seed=seed, device="cpu", **(settings | arguments))


class Member:
    """An agent's interventions and what is heard of them."""

    def __init__(self, interventions: Sequence[Intervention], seed: int, *others: BaseCallback) -> None:
        self.plasticity = Plasticity(*interventions, seed=seed)
        self.events: list[dict[str, Any]] = []
        self.plasticity.listeners.append(self.events.append)
        self.callback = CallbackList([*others, self.plasticity])
        self.model: BaseAlgorithm | None = None

    def compare(self, other: "Member") -> None:
        """The same weights, events, penalties and memories as another's."""
        assert self.model is not None
        assert other.model is not None
        torch.testing.assert_close(weights(self.model), weights(other.model), rtol=1e-5, atol=1e-5)
        assert self.events == other.events
        mine, others = self.plasticity.state_dict(), other.plasticity.state_dict()
        assert mine["counters"] == others["counters"]
        assert all(torch.equal(mine["generators"][number], state) for number, state in others["generators"].items())
        compare_trees(mine["penalties"], others["penalties"])
        for left, right in zip(mine["interventions"], others["interventions"], strict=True):
            compare_trees(left, right)


def compare_trees(left: dict[Any, Any], right: dict[Any, Any]) -> None:
    assert left.keys() == right.keys()
    for key, value in right.items():
        if str(key).startswith("next."):  # when SNR looks next, which may be earlier where others may be due
            continue
        assert type(left[key]) is type(value)
        torch.testing.assert_close(torch.as_tensor(left[key]), torch.as_tensor(value), rtol=1e-3, atol=1e-4)


def train_alone(make: Make, interventions: Interventions, steps: int, seed: int, *others: BaseCallback) -> Member:
    member = Member(interventions(), seed, *others)
    member.model = make(seed).learn(steps, callback=member.callback)
    return member


def train_together(
    make: Make,
    members: Sequence[Member],
    steps: int,
    at_rollout: Callable[[Population], None] = lambda population: None,
) -> Population:
    population = Population.build(make, range(len(members)))
    callbacks = [member.callback for member in members]
    population.learn(steps, callbacks=callbacks, at_rollout=lambda: at_rollout(population))
    for member, model in zip(members, population.models, strict=True):
        member.model = model
    return population


class Leads:
    """Notes, between updates, whose interventions have stacks that act for them."""

    def __init__(self) -> None:
        self.seen: list[bool] = []

    def __call__(self, population: Population) -> None:
        assert population.attached is not None
        if population.models[0]._n_updates:
            self.seen += [
                firing.led for own in population.attached.members for plasticity in own for firing in plasticity.firings
            ]


@pytest.fixture
def stacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where a member's own optimiser has to step."""
    monkeypatch.setattr(Stepper, "_own_step", lambda stepper, number: pytest.fail("a member steps by itself"))


def check(make: Make, steps: int, interventions: Interventions) -> None:
    """A population of two equals two agents."""
    members = [Member(interventions(), seed) for seed in range(2)]
    train_together(make, members, steps)
    for seed, member in enumerate(members):
        member.compare(train_alone(make, interventions, steps, seed))


@pytest.mark.usefixtures("stacked")
@pytest.mark.parametrize("row", STACKED)
def test_members_of_ppo_are_what_they_are_alone(row: str) -> None:
    check(make_ppo, 96, lambda: [METHODS[row].acting()])


@pytest.mark.usefixtures("stacked")
def test_step_counts_that_are_set_back() -> None:
    """By resets that leave events, and by one that finds nothing to reset."""
    kept: Any = "zero_and_step"
    check(make_ppo, 96, lambda: [CBP(replacement_rate=0.05, maturity=1, moments=kept), SWR(every=3, moments=kept)])
    check(make_ppo, 96, lambda: [SWR(every=3, factor=1e-20, utility="magnitude", moments=kept)])


@pytest.mark.usefixtures("stacked")
def test_learning_rates_that_change() -> None:
    def make(seed: int) -> BaseAlgorithm:
        return make_ppo(seed, learning_rate=lambda left: 0.01 * left)

    check(make, 96, lambda: [L2(1.0, decay="decoupled"), InFeR(1e-3)])


def step_counts(member: Member) -> list[list[int]]:
    """Steps that each optimiser remembers of its parameters."""
    assert member.model is not None
    networks = read_networks(member.model)
    optimizers = dict.fromkeys(network.optimizer for network in networks if network.optimizer)
    return [[int(state["step"]) for state in optimizer.state.values()] for optimizer in optimizers]


AT_TARGETS: dict[str, tuple[Make, AdamSettings, int]] = {
    f"{type(settings).__name__}, {agent}, {settings.when}": (make, settings, steps)
    for kind in (AdamRel, MomentReset)
    for agent, make, settings, steps in (
        ("ppo", make_ppo, kind(), 160),
        ("ppo", make_ppo, kind(when="periodic", every=3, unit="gradient_steps"), 160),
        ("sac", make_sac, kind(when="periodic", every=5, unit="env_steps"), 24),
    )
}
"""Optimisers whose step counts, or more, are set back between rollouts: for PPO at each of five rollouts."""


@pytest.mark.usefixtures("stacked")
@pytest.mark.parametrize("name", AT_TARGETS)
def test_statistics_that_are_set_back_at_new_targets(name: str) -> None:
    plain, settings, steps = AT_TARGETS[name]

    def make(seed: int) -> BaseAlgorithm:
        # With its own eps, which PPO's is not.
        return plain(seed, policy_kwargs=small() | settings.policy_kwargs(1e-6))

    members, leads = [Member(settings.interventions(), seed) for seed in range(2)], Leads()
    train_together(make, members, steps, leads)
    assert all(leads.seen)
    counts = []
    for seed, member in enumerate(members):
        alone = train_alone(make, settings.interventions, steps, seed)
        member.compare(alone)
        assert step_counts(member) == step_counts(alone)
        counts += step_counts(alone)
    taken = max(member.plasticity.state_dict()["counters"]["gradient_steps"][0] for member in members)
    assert 0 < min(min(own, default=1) for own in counts) < taken, "nothing was set back"


@pytest.mark.usefixtures("stacked")
@pytest.mark.parametrize("rows", TOGETHER, ids=lambda rows: rows[0])
def test_members_of_sac_are_what_they_are_alone(rows: list[str]) -> None:
    check(make_sac, 24, lambda: [METHODS[row].acting() for row in rows])


def test_every_method_is_tried_or_refused() -> None:
    assert {METHODS[row].name for row in STACKED} == {*RESETS, *REGULARIZERS} - {"plasticity_injection"}


MIXED: dict[str, Interventions] = {
    "stacks": lambda: [CBP(replacement_rate=0.1, maturity=1), Spectral(1e-2), FeatureNorm(), L2(), WeightClipping()],
    "rare": lambda: [SWR(every=3, factor=0.1), EffectiveRank(1e-3, every=4), ReDo(tau=0.5, every=1, score="gradient")],
}


class Third(Idleness):
    """Has to hear of every third step."""

    def __init__(self) -> None:
        self.count = 0

    def idle(self) -> float:
        return -self.count % 3

    def skipped(self, steps: int) -> None:
        self.count += steps


class Listener(BaseCallback):
    """Keeps the gradients that every third step is taken with."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Tensor] = []

    def _on_training_start(self) -> None:
        third = Third()

        def before_step(optimizer: torch.optim.Optimizer) -> None:
            if third.count % 3 == 0:
                tensors = optimizer.param_groups[0]["params"]
                self.heard.append(torch.cat([tensor.grad.flatten().clone() for tensor in tensors]))
            third.count += 1

        self.hooks = OptimizerHooks(self.model.policy.optimizer, before_step=before_step, idleness=third)

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self.hooks.remove()


@pytest.mark.parametrize("interventions", MIXED.values(), ids=MIXED)
def test_steps_that_somebody_has_to_hear_of_are_taken_one_after_another(interventions: Interventions) -> None:
    listeners = [Listener() for _ in range(2)]
    members = [Member(interventions(), seed, listener) for seed, listener in enumerate(listeners)]
    train_together(make_ppo, members, 96)
    for seed, (member, listener) in enumerate(zip(members, listeners, strict=True)):
        alone = Listener()
        member.compare(train_alone(make_ppo, interventions, 96, seed, alone))
        assert len(listener.heard) == len(alone.heard) == 4
        torch.testing.assert_close(listener.heard, alone.heard, rtol=1e-3, atol=1e-5)


class Bursting(gym.Wrapper[Any, Any, Any, Any]):
    """Gives one reward that is no number, where it is told to."""

    def __init__(self, at: int) -> None:
        super().__init__(gym.make("CartPole-v1"))
        self.countdown = at

    def step(self, action: Any) -> Any:
        observation, reward, *rest = self.env.step(action)
        self.countdown -= 1
        return observation, math.nan if self.countdown == 0 else reward, *rest


@pytest.mark.parametrize("interventions", [*MIXED.values(), list], ids=[*MIXED, "none"])
def test_a_member_whose_step_is_left_out_is_left_alone(interventions: Interventions) -> None:
    """The first member's gradients are not finite for a whole update; the second one's are."""

    def make(seed: int) -> BaseAlgorithm:
        return make_ppo(seed, env=Bursting(at=40 if seed == 0 else 0))

    def guard() -> FiniteGuard:
        return FiniteGuard("skip", tell=lambda sentence: None)

    members = [Member(interventions(), seed, guard()) for seed in range(2)]
    train_together(make, members, 128)
    taken = [member.plasticity.state_dict()["counters"]["gradient_steps"] for member in members]
    assert taken[0] < taken[1] == [16]
    for seed, member in enumerate(members):
        member.compare(train_alone(make, interventions, 128, seed, guard()))


class Counter(BaseCallback):
    """Counts how often gradients are cleared, as the metrics of gradient steps do.

    Args:
        idleness: given what counts, whether it has to be told.
    """

    def __init__(self, idleness: Callable[[Callable[[int], None]], Idleness]) -> None:
        super().__init__()
        self.count = 0
        self.idleness = idleness(self.add)

    def add(self, steps: int = 1) -> None:
        self.count += steps

    def _on_training_start(self) -> None:
        self.hooks = OptimizerHooks(
            self.model.policy.optimizer, before_backward=lambda optimizer: self.add(), idleness=self.idleness
        )

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self.hooks.remove()


class EveryThird(Unneeded):
    """Has to hear of every third clearing."""

    def __init__(self, count: Callable[[int], None]) -> None:
        super().__init__(count)
        self.owner: Any = getattr(count, "__self__", None)

    def idle(self) -> float:
        return -self.owner.count % 3


@pytest.mark.parametrize("idleness", [Unneeded, EveryThird])
@pytest.mark.parametrize("interventions", [*MIXED.values(), list], ids=[*MIXED, "none"])
def test_steps_that_are_left_out_count_where_gradients_are_cleared(
    interventions: Interventions, idleness: Callable[[Callable[[int], None]], Idleness]
) -> None:
    """And with the guard, which has looked at them; interventions count those that were taken.

    One sample of a rollout is no number, so that steps before, between and after those that are left out are taken.
    """

    def make(seed: int) -> BaseAlgorithm:
        return make_ppo(seed, env=Bursting(at=33 if seed == 0 else 0), n_epochs=4)

    def followers() -> tuple[FiniteGuard, Counter]:
        return FiniteGuard("skip", tell=lambda sentence: None), Counter(idleness)

    together = [followers() for _ in range(2)]
    members = [Member(interventions(), seed, *own) for seed, own in enumerate(together)]
    train_together(make, members, 128)
    for seed, (guard, counter) in enumerate(together):
        alone = followers()
        twin = train_alone(make, interventions, 128, seed, *alone)
        assert counter.count == alone[1].count == 32
        assert guard.state_dict() == alone[0].state_dict()
        assert guard.state_dict()["gradient_steps"] == [32]
        taken = members[seed].plasticity.state_dict()["counters"]["gradient_steps"]
        assert taken == twin.plasticity.state_dict()["counters"]["gradient_steps"]
        assert taken == [32 if seed else 28]
        assert guard.counts["gradients"] == 32 - taken[0]


@pytest.mark.parametrize("name", ["dash", "cpr", "regrama", "redo"])
def test_members_whose_tasks_switch_at_different_steps_remember_their_own(name: str) -> None:
    def make(seed: int) -> BaseAlgorithm:
        schedule = Periodic(period=64 + 32 * seed, boundary="immediate")
        return make_ppo(seed, env=NonStationary(gym.make("Acrobot-v1"), Tasks(schedule, {"reward": RewardScale()})))

    def interventions() -> Sequence[Intervention]:
        made: dict[str, Callable[[], Intervention]] = {
            "dash": lambda: DASH(wait=3),
            "cpr": lambda: CPR(when="switch"),
            "regrama": lambda: ReGraMa(when="switch", tau=0.5),
            "redo": lambda: ReDo(when="switch", tau=0.5, score="gradient"),
        }
        return [made[name]()]

    members = [Member(interventions(), seed) for seed in range(2)]
    train_together(make, members, 224)
    assert all(member.events for member in members)
    for seed, member in enumerate(members):
        member.compare(train_alone(make, interventions, 224, seed))


def test_members_may_have_different_interventions() -> None:
    settings: list[Interventions] = [
        lambda: [Spectral(1e-2)],
        lambda: [Spectral(1e-2)],
        list,
        lambda: [L2Init(1e-2), CBP(replacement_rate=0.1, maturity=1)],
        lambda: [L2Init(1e-2), CBP(replacement_rate=0.1, maturity=1)],
        lambda: [L2Init(1e-3), CBP(replacement_rate=0.1, maturity=1)],
    ]
    members, leads = [Member(own(), seed) for seed, own in enumerate(settings)], Leads()
    parts = parts_of([member.callback for member in members])
    assert parts == [slice(0, 2), slice(2, 3), slice(3, 5), slice(5, 6)]
    train_together(make_ppo, members, 64, leads)
    assert leads.seen == [True, True, False, True, True, False]
    for seed, (member, own) in enumerate(zip(members, settings, strict=True)):
        member.compare(train_alone(make_ppo, own, 64, seed))


def test_optimisers_without_stacks_step_their_members_one_after_another() -> None:
    def make(seed: int) -> BaseAlgorithm:
        return make_ppo(seed, policy_kwargs=small() | UnitAdam().policy_kwargs())

    members, leads = [Member(MIXED["stacks"](), seed) for seed in range(2)], Leads()
    train_together(make, members, 64, leads)
    assert not any(leads.seen)
    for seed, member in enumerate(members):
        member.compare(train_alone(make, MIXED["stacks"], 64, seed))


@pytest.mark.parametrize("interventions", MIXED.values(), ids=MIXED)
@pytest.mark.parametrize("resumed", [False, True])
def test_a_member_goes_on_alone(interventions: Interventions, resumed: bool) -> None:
    """After the population, with the same callback or with another one that is given its state."""

    def go_on(member: Member) -> None:
        plasticity = Plasticity(*interventions(), seed=1) if resumed else member.plasticity
        if resumed:
            plasticity.load_state_dict(member.plasticity.state_dict())
        assert member.model is not None
        member.model.learn(32, callback=plasticity, reset_num_timesteps=False)

    alone = train_alone(make_ppo, interventions, 64, seed=1)
    go_on(alone)
    members = [Member(interventions(), seed) for seed in range(2)]
    population = train_together(make_ppo, members, 64)
    with population.streams[1].active():
        go_on(members[1])
    assert members[1].model is not None
    assert alone.model is not None
    torch.testing.assert_close(weights(members[1].model), weights(alone.model), rtol=1e-4, atol=1e-5)


def test_what_is_put_into_members_counts() -> None:
    """Not what their stack remembers: here members are given each other's state in the middle of learning."""

    def swap(population: Population) -> None:
        assert population.attached is not None
        own = [plasticity for (plasticity,) in population.attached.members]
        if own[0].num_timesteps == 64:
            states = [plasticity.state_dict() for plasticity in own]
            kept.extend(states)
            for plasticity, state in zip(own, reversed(states), strict=True):
                plasticity.load_state_dict(state)

    kept: list[dict[str, Any]] = []
    members = [Member([L2Init(1e-2), Spectral(1e-2, target="initial")], seed) for seed in range(2)]
    train_together(make_ppo, members, 96, swap)
    for member, state in zip(members, reversed(kept), strict=True):
        own = member.plasticity.interventions[0].state
        assert len(own) == 12
        assert all(torch.equal(own[key], value) for key, value in state["interventions"][0].items())
        # The penalty is that of the distance from the other's first weights.
        way = [
            (param.tensor - own[f"initial.{param.name}"]).square().sum()
            for network in member.plasticity.networks
            for param in network.params()
        ]
        assert sum(map(float, way)) > 10


def test_what_cannot_be_trained_at_once_is_refused_in_a_sentence() -> None:
    members = [Member([ReDo(), PlasticityInjection()], seed) for seed in range(2)]
    with pytest.raises(ValueError, match=r"^PlasticityInjection gives each member's networks another form"):
        train_together(make_ppo, members, 64)
    assert all(member.plasticity.networks == [] for member in members), "nothing has begun"

    def make(seed: int) -> BaseAlgorithm:
        return make_ppo(seed, policy_kwargs=small() | SAM().policy_kwargs())

    with pytest.raises(ValueError, match=r"needs the loss of each minibatch twice\.$"):
        train_together(make, [Member([], seed) for seed in range(2)], 64)


def test_plasticity_is_found_among_callbacks() -> None:
    first, second = Plasticity(), Plasticity(L2())
    assert [*plasticities(CallbackList([FiniteGuard("stop"), CallbackList([first]), second]))] == [first, second]
    assert [*plasticities(None)] == []


class Notes:
    """Something with a state."""

    def __init__(self, **state: Any) -> None:
        self.state: dict[str, Any] = state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = {key: value.clone() if isinstance(value, Tensor) else value for key, value in state.items()}


def test_a_stack_and_its_members_share_their_memory() -> None:
    members = [Notes(a=torch.tensor([1.0, 2.0]), n=3, own=5, late=number) for number in range(2)]
    stack = Notes()
    memory = SharedMemory(stack, members, apart=["own"])
    memory.gather()
    assert stack.state.keys() == {"a", "n"}
    stack.state["a"][1] += 1  # in place
    assert members[0].state["a"].tolist() == [1.0, 2.0]
    assert members[1].state["a"].tolist() == [2.0, 3.0]
    before = stack.state["a"]
    memory.gather()
    assert stack.state["a"] is before, "nothing has changed"

    stack.state = {"n": 4, "b": torch.tensor([[7], [8]])}
    memory.scatter()
    assert [member.state.keys() for member in members] == [{"n", "own", "late", "b"}] * 2
    assert [member.state["n"] for member in members] == [4, 4]
    members[0].state["b"] = torch.tensor([9])  # anew, as after a resume
    members[1].state["n"] = 5
    memory.gather()
    assert stack.state.keys() == {"b"}
    assert [member.state["n"] for member in members] == [4, 5], "what they differ in stays with them"
    del members[1].state["n"]
    assert not memory.gather()
    assert stack.state.keys() == {"b"}
    assert members[0].state["n"] == 4, "and what only one of them has"
    assert stack.state["b"].tolist() == [[9], [8]]
    members[0].state["b"].zero_()
    assert stack.state["b"].tolist() == [[0], [8]]


def generators() -> Iterator[torch.Generator]:
    return (torch.Generator().manual_seed(seed) for seed in (3, 4))


def test_members_draw_what_they_would_alone() -> None:
    stack, drawn = Generators([*generators()]), [torch.rand(5, generator=own) for own in generators()]
    assert torch.equal(draw(lambda own: torch.rand(5, generator=own), stack), torch.stack(drawn))
    assert [at for at, _ in each_member(stack)] == [0, 1]
    one = torch.Generator()
    assert [*each_member(one)] == [(..., one)]
    assert np.shape(draw(lambda own: torch.rand(5, generator=own), one)) == (5,)
