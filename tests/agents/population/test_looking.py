"""Gradient steps of a population that somebody looks at are taken at once, and look as those of agents alone do."""

from collections.abc import Sequence

import pytest
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from agents.finite import FiniteGuard
from agents.layers import Network
from agents.population.stepping import Stepper
from metrics.base import Measured, Metric, StepView
from recording import measuring
from recording.measuring import Measurer
from regularizers import L2
from tests.agents.population.test_interventions import (
    MIXED,
    Bursting,
    Interventions,
    Make,
    Member,
    make_ppo,
    make_sac,
    train_together,
)
from tests.models import small, weights

ALL: dict[str, Interventions] = {"none": list, **MIXED}


class Gradients(Metric):
    """Keeps what it is shown of each step: the gradients."""

    title = "gradients"
    family = "gradients"
    names = ("gradients",)
    reads = "step"

    def __init__(self) -> None:
        self.kept: list[tuple[str, torch.Tensor]] = []

    def measure_step(self, network: Network, step: StepView) -> Measured:
        self.kept.append((network.name, self.read(step)))
        return {}

    def read(self, step: StepView) -> torch.Tensor:
        return torch.cat([gradient.flatten() for gradient in step.gradients.values()])


class Outputs(Gradients):
    """Keeps by how much the outputs changed."""

    reads_outputs = True

    def read(self, step: StepView) -> torch.Tensor:
        return torch.cat([(after - before).flatten() for before, after in zip(step.before, step.after, strict=True)])


class Looker(BaseCallback):
    """Measures every step that is looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.gradients, self.outputs = Gradients(), Outputs()

    def _on_training_start(self) -> None:
        self.measurer = Measurer({"gradients": self.gradients, "outputs": self.outputs}, seed=0, samples=16)
        self.measurer.start(self.model)

    def _on_rollout_end(self) -> None:
        self.measurer.collected(self.num_timesteps)

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self.counts = [tap.count for tap in self.measurer.taps]
        self.measurer.close()


def compare(
    make: Make, interventions: Interventions, steps: int, *others: type[BaseCallback], behind: bool = False
) -> list[Looker]:
    """A population of two, each member looked at, and the same agents alone; returns the lookers of these.

    And one of which nobody looks at anything is the same to the last bit.

    Args:
        make: what makes an agent.
        interventions: of each.
        steps: of the environment.
        others: callbacks before who looks.
        behind: whether they look behind the interventions.
    """

    def member(seed: int, *lookers: Looker) -> Member:
        made = Member(interventions(), seed, *(kind() for kind in others), *(() if behind else lookers))
        if behind:
            made.callback.callbacks += lookers
        return made

    def alone(seed: int, looker: Looker) -> Member:
        made = member(seed, looker)
        made.model = make(seed).learn(steps, callback=made.callback)
        return made

    lookers = [Looker() for _ in range(2)]
    members = [member(seed, own) for seed, own in enumerate(lookers)]
    train_together(make, members, steps)
    unseen = [member(seed) for seed in range(2)]
    train_together(make, unseen, steps)
    twins = []
    for seed, (seen, plain, mine) in enumerate(zip(members, unseen, lookers, strict=True)):
        theirs = Looker()
        seen.compare(alone(seed, theirs))
        assert seen.model is not None
        assert plain.model is not None
        if not behind:
            torch.testing.assert_close(weights(seen.model), weights(plain.model), rtol=0, atol=0)
        assert mine.counts == theirs.counts
        for found, expected in ((mine.gradients, theirs.gradients), (mine.outputs, theirs.outputs)):
            assert [name for name, _ in found.kept] == [name for name, _ in expected.kept]
            for (_, values), (_, right) in zip(found.kept, expected.kept, strict=True):
                torch.testing.assert_close(values, right, rtol=1e-3, atol=1e-5)
        twins.append(theirs)
    return twins


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every third step is looked at, and the outputs at every second of these."""
    monkeypatch.setattr(measuring, "STEP_EVERY", 3)
    monkeypatch.setattr(measuring, "OUTPUTS_EVERY", 2)


@pytest.fixture
def stacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where a member's own optimiser has to step."""
    monkeypatch.setattr(Stepper, "_own_step", lambda stepper, number: pytest.fail("a member steps by itself"))


def make_clipped(seed: int, **arguments: object) -> BaseAlgorithm:
    return make_ppo(seed, max_grad_norm=1e-2, **arguments)


@pytest.mark.parametrize("interventions", ALL.values(), ids=ALL)
@pytest.mark.usefixtures("stacked")
def test_steps_of_ppo(interventions: Interventions) -> None:
    for looker in compare(make_clipped, interventions, 96):
        assert looker.counts == [12]
        assert len(looker.gradients.kept) == 2 * 4
        assert len(looker.outputs.kept) == 2 * 2
        assert max(values.norm() for _, values in looker.gradients.kept) > 1e-2, "as they are before clipping"
        assert all(values.any() for _, values in looker.outputs.kept)


@pytest.mark.parametrize("interventions", ALL.values(), ids=ALL)
@pytest.mark.usefixtures("stacked")
def test_steps_of_sac(interventions: Interventions) -> None:
    for looker in compare(make_sac, interventions, 40):
        assert any(values.any() for _, values in looker.outputs.kept)
        assert min(looker.counts) >= 25
        assert {name for name, _ in looker.gradients.kept} >= {"actor", "critic0", "critic1"}


class Guard(FiniteGuard):
    """Leaves out steps whose gradients are not finite."""

    def __init__(self) -> None:
        super().__init__("skip", tell=lambda sentence: None)


@pytest.mark.parametrize("interventions", ALL.values(), ids=ALL)
def test_steps_that_are_left_out_are_not_seen(interventions: Interventions) -> None:
    def make(seed: int) -> BaseAlgorithm:
        return make_ppo(seed, env=Bursting(at=33 if seed == 0 else 0), n_epochs=4)

    first, second = compare(make, interventions, 128, Guard)
    assert first.counts == second.counts == [32]
    assert len(first.gradients.kept) < len(second.gradients.kept)
    assert all(values.isfinite().all() for _, values in first.gradients.kept)


def test_who_looks_behind_a_decay_sees_it() -> None:
    compare(make_clipped, lambda: [L2(5.0, decay="decoupled")], 96, behind=True)


def test_only_some_members_are_looked_at() -> None:
    looker = Looker()
    own: Sequence[Sequence[BaseCallback]] = [[], [looker], []]
    members = [Member([], seed, *callbacks) for seed, callbacks in enumerate(own)]
    train_together(lambda seed: make_ppo(seed, policy_kwargs=small()), members, 96)
    assert looker.counts == [12]
    assert len(looker.gradients.kept) == 2 * 4
