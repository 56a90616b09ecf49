"""What every reset and regulariser must keep to, whatever it does; a new one adds a row to `tests.methods`.

- It changes weights in place, on every agent: no module, parameter or optimiser is swapped.
- Set to do nothing, it leaves a run bit-identical to the plain agent.
- What it remembers goes through `state_dict`: a run that is stopped and resumed ends in the same weights, bit for bit.
- Each of its settings is explained.
"""

from dataclasses import fields
from typing import Any

import pytest
import torch
from tyro._docstrings import get_field_docstring

from agents.interventions import Intervention
from agents.plasticity import Plasticity
from regularizers import REGULARIZERS
from resets import RESETS
from tests.methods import METHODS
from tests.models import STEPS, STEPS_CNN, make, plain_weights, train, weights

TOGETHER = ("sac-cnn-shared", "a2c-cnn-tiny", "td3-cnn-tiny", "tqc-cnn-tiny")
"""Agents whose convolutions are read as those of others; several methods at once are tried on them, for time's sake."""
ALONE = [kind for kind in STEPS | STEPS_CNN if kind not in TOGETHER]
EVERY_AGENT = [(row, kind) for row in METHODS if row in (RESETS | REGULARIZERS) for kind in ALONE]
"""Each method in its main form; other forms of it are tried on fewer agents, for time's sake."""
SOME_AGENTS = [(row, kind) for row in METHODS if row not in RESETS | REGULARIZERS for kind in ("ppo", "sac", "dqn")]


def test_every_registered_method_has_a_row() -> None:
    assert {method.name for method in METHODS.values()} == {*RESETS, *REGULARIZERS}
    assert {*RESETS, *REGULARIZERS} <= METHODS.keys(), "the main form's row has the method's own name"


@pytest.mark.parametrize(("row", "kind"), EVERY_AGENT + SOME_AGENTS)
def test_acts_in_place_on_every_agent(row: str, kind: str) -> None:
    model = make(kind)
    before = [*model.policy.parameters()]
    model.learn((STEPS | STEPS_CNN)[kind], callback=Plasticity(METHODS[row].acting()))
    after = [*model.policy.parameters()]
    if METHODS[row].adds_parameters:
        assert len(after) > len(before)
        after = [new for new in after if any(new is old for old in before)]
    assert all(old is new for old, new in zip(before, after, strict=True)), "modules were swapped"
    assert not torch.equal(weights(model), plain_weights(kind)), "the intervention did nothing"
    assert torch.isfinite(weights(model)).all()


@pytest.mark.parametrize("kind", TOGETHER)
def test_several_methods_act_in_place_on_the_other_agents_with_convolutions(kind: str) -> None:
    model = make(kind)
    before = [*model.policy.parameters()]
    rows = ("redo", "cbp", "shrink_perturb, soft", "spectral", "churn")
    plasticity = Plasticity(*(METHODS[row].acting() for row in rows))
    events: list[dict[str, Any]] = []
    plasticity.listeners.append(events.append)
    model.learn((STEPS | STEPS_CNN)[kind], callback=plasticity)
    assert all(old is new for old, new in zip(before, model.policy.parameters(), strict=True)), "modules were swapped"
    assert {event["method"] for event in events} == {"ReDo", "CBP"}
    assert torch.isfinite(weights(model)).all()


@pytest.mark.parametrize("kind", ["ppo", "sac"])
@pytest.mark.parametrize("row", METHODS)
def test_idle_is_bit_identical_to_the_plain_agent(kind: str, row: str) -> None:
    model, _ = train(kind, METHODS[row].idle())
    assert torch.equal(weights(model), plain_weights(kind))


@pytest.mark.parametrize("kind", ["ppo", "sac"])
@pytest.mark.parametrize("row", METHODS)
def test_a_resumed_run_goes_on_bit_for_bit(kind: str, row: str) -> None:
    steps = {"ppo": 64, "sac": 33}[kind]
    whole, straight = train(kind, METHODS[row].acting(), steps=steps)
    whole.learn(6, callback=straight, reset_num_timesteps=False)

    halves, first = train(kind, METHODS[row].acting(), steps=steps)
    second = Plasticity(METHODS[row].acting())
    second.load_state_dict(first.state_dict())
    halves.learn(6, callback=second, reset_num_timesteps=False)
    assert torch.equal(weights(halves), weights(whole))
    left, right = straight.state_dict(), second.state_dict()
    assert left["counters"] == right["counters"]
    for mine, other in zip(left["interventions"], right["interventions"], strict=True):
        assert mine.keys() == other.keys()
        assert all(torch.equal(torch.as_tensor(mine[key]), torch.as_tensor(other[key])) for key in mine)


@pytest.mark.parametrize("row", RESETS | REGULARIZERS)
def test_weights_stay_finite_over_200_updates(row: str) -> None:
    model, plasticity = train("ppo-long", METHODS[row].acting(), steps=128)
    assert max(plasticity.state_dict()["counters"]["gradient_steps"]) >= 200
    assert torch.isfinite(weights(model)).all()


@pytest.mark.parametrize("rows", [[*RESETS][::2], [*RESETS][1::2], [*REGULARIZERS][::2], [*REGULARIZERS][1::2]])
def test_weights_stay_finite_over_200_updates_off_policy(rows: list[str]) -> None:
    """Several methods together, for time's sake; plasticity injection shares a network with none of the others."""
    groups = [["plasticity_injection"], [row for row in rows if row != "plasticity_injection"]]
    for group in groups if "plasticity_injection" in rows else groups[1:]:
        model, plasticity = train("sac", *(METHODS[row].acting() for row in group), steps=220)
        assert max(plasticity.state_dict()["counters"]["gradient_steps"]) >= 200
        assert torch.isfinite(weights(model)).all()


@pytest.mark.parametrize("kind", [*RESETS.values(), *REGULARIZERS.values()])
def test_every_setting_is_explained_and_the_paper_named(kind: type[Intervention]) -> None:
    assert "20" in (kind.__doc__ or ""), "the first line names the paper with its year"
    for entry in fields(kind):
        assert get_field_docstring(kind, entry.name, ()), f"{kind.__name__}.{entry.name} has no docstring"
