"""Studies whose numbers are known: gaps, shares of gaps, illnesses, suspects, and what is missing."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metrics.tasks import later
from reporting import illness
from reporting.random_policy import random_return, random_returns
from reporting.runs import Study, find_runs, group, read_run
from reporting.statistics import Interval
from reporting.summary import ArmSummary, Attribution, PartEffect, Summary, summarize
from tests.reporting.synthetic import POOR, write_run, write_study

NAN = math.nan


def study(folder: Path) -> Study:
    (found,) = group(find_runs([folder]))
    return found


def by_label(summary: Summary) -> dict[str, ArmSummary]:
    return {arm.label: arm for arm in summary.arms}


@pytest.fixture
def arms(tmp_path: Path) -> dict[str, ArmSummary]:
    write_study(tmp_path)
    return by_label(summarize(study(tmp_path), random_return=POOR))


def test_arms_are_ranked_by_the_return_in_later_tasks(arms: dict[str, ArmSummary]) -> None:
    assert list(arms) == ["fresh", "redo", "none"]
    plain = arms["none"]
    # seeds add 0, 2, 4: cells 60 62 64, 40 42 44, 20 22 24, of which floor(9/4) = 2 are cut on either side
    assert plain.aggregate.value == pytest.approx((24 + 40 + 42 + 44 + 60) / 5)
    np.testing.assert_allclose(plain.per_task[1], [102, 62, 42, 22])
    np.testing.assert_allclose(plain.mean_per_task, [102, 62, 42, 22])
    np.testing.assert_allclose(plain.low, [100, 60, 40, 20])
    assert plain.seeds == [0, 1, 2]
    assert plain.runs == 3


def test_the_gap_is_paired_by_seed(arms: dict[str, ArmSummary]) -> None:
    gap = arms["none"].gap
    assert gap is not None
    assert gap.runs == 3
    # seeds differ, differences within a seed do not
    assert (gap.value, gap.low, gap.high) == tuple(pytest.approx(60) for _ in range(3))
    np.testing.assert_allclose(arms["redo"].gap_per_task, [[0, 20, 30, 40]] * 3)
    normalized = arms["redo"].normalized_gap
    assert normalized is not None
    assert normalized.value == pytest.approx(30 / (102 - POOR))
    assert arms["fresh"].gap is None
    assert arms["fresh"].normalized_gap is None


def test_probability_of_improvement_over_the_plain_agent(arms: dict[str, ArmSummary]) -> None:
    assert arms["none"].improvement is None
    assert arms["redo"].improvement is not None
    assert arms["redo"].improvement.value == 1


def test_what_episodes_tell(arms: dict[str, ArmSummary]) -> None:
    plain = arms["none"]
    # 10 until step 510, where the first good episode ends
    assert plain.area is not None
    assert plain.area.value == pytest.approx(0.51 * 10 + 0.49 * 42)
    assert plain.drop is not None
    assert plain.drop.value == pytest.approx((102 + 62 + 42) / 3 - 10)
    assert plain.jump_start is not None
    assert plain.jump_start.value == 0
    transfer = plain.forward_transfer
    ceiling = 104 - 10  # the best return of any run, above the random policy
    own = [[0.49 * (gain + 2 * seed - 10) / ceiling for gain in (60, 40, 20)] for seed in range(3)]
    fresh = [0.49 * (100 + 2 * seed - 10) / ceiling for seed in range(3)]
    known = [(area - best) / (1 - best) for row, best in zip(own, fresh, strict=True) for area in row]
    assert transfer is not None
    assert transfer.value == pytest.approx(np.mean(known))
    assert plain.forgetting is None
    assert plain.visits is None


def test_steps_to_recover_against_the_fresh_agent(arms: dict[str, ArmSummary]) -> None:
    plain, fresh = arms["none"], arms["fresh"]
    assert fresh.recovery is not None
    assert plain.recovery is not None
    # from step 510 on each 10 steps one of the window's 20 is good: 16 of them after 16 episodes
    assert fresh.recovery.value == fresh.recovery_median == 660
    assert fresh.recovery_censored == 0
    assert plain.recovery.value == 1000
    assert plain.recovery_median == math.inf
    assert plain.recovery_censored == 1


def test_without_a_fresh_arm_an_agent_recovers_to_its_own_first_task(tmp_path: Path) -> None:
    write_run(tmp_path / "run", returns=[100, 100, 50])
    summary = summarize(study(tmp_path), random_return=POOR)
    (plain,) = summary.arms
    assert plain.gap is None
    assert plain.recovery_censored == 0.5
    assert plain.recovery_median == 660
    assert math.isnan(plain.aggregate.low)
    assert any("No arm starts afresh" in sentence for sentence in summary.missing)
    assert any("one run has no interval" in sentence for sentence in summary.notes)


def test_only_seeds_that_both_arms_have_are_compared(tmp_path: Path) -> None:
    write_run(tmp_path / "a0", "none", 0, [100, 50])
    write_run(tmp_path / "a7", "none", 7, [100, 20])
    write_run(tmp_path / "b7", "fresh", 7, [100, 90])
    write_run(tmp_path / "b5", "fresh", 5, [100, 500])
    summary = summarize(study(tmp_path))
    plain = by_label(summary)["none"]
    assert plain.gap is not None
    assert (plain.gap.value, plain.gap.runs) == (70, 1)
    assert plain.gap_seeds == [7]
    assert plain.normalized_gap is None
    assert plain.forward_transfer is None
    assert any("same seeds" in sentence for sentence in summary.missing)


def test_tasks_that_a_run_has_not_finished_are_missing_and_not_zero(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "none", 0, [100, 50, 50])
    write_run(tmp_path / "b", "none", 1, [100, 70, 10], finished=2, state="interrupted")
    summary = summarize(study(tmp_path))
    (plain,) = summary.arms
    np.testing.assert_array_equal(plain.per_task, [[100, 50, 50], [100, 70, NAN]])
    np.testing.assert_array_equal(plain.mean_per_task, [100, 60, 50])
    assert any(sentence.startswith("b: interrupted, not finished") for sentence in summary.missing)
    assert any("some are missing" in sentence for sentence in summary.missing)


def test_runs_without_episodes_have_gaps_but_no_areas(tmp_path: Path) -> None:
    write_study(tmp_path, episodes=False)
    summary = summarize(study(tmp_path), random_return=POOR)
    plain = by_label(summary)["none"]
    assert plain.gap is not None
    lacking = (plain.area, plain.recovery, plain.drop, plain.jump_start, plain.forward_transfer, plain.forgetting)
    assert lacking == (None,) * 6
    assert any(sentence.startswith("All runs: no episodes.csv") for sentence in summary.missing)


def test_tasks_that_recur_show_what_was_forgotten_and_how_well_it_is_learnt_anew(tmp_path: Path) -> None:
    write_run(tmp_path / "run", returns=[100, 50, 80, 30], changes=["a", "b", "a", "b"])
    (plain,) = summarize(study(tmp_path)).arms
    assert plain.forgetting is not None
    assert plain.forgetting.value == pytest.approx(((100 - POOR) + (50 - POOR)) / 2)
    assert plain.visits is not None
    np.testing.assert_allclose(plain.visits, [[5.1 + 0.49 * 75, 5.1 + 0.49 * 55]])


def test_a_single_task_stands_for_the_later_ones(tmp_path: Path) -> None:
    write_run(tmp_path / "run", returns=[100])
    summary = summarize(study(tmp_path))
    assert summary.arms[0].aggregate.value == 100
    assert summary.illness == []
    assert summary.moved == []


def test_nothing_finished_is_no_error(tmp_path: Path) -> None:
    write_run(tmp_path / "run", finished=0, state="running")
    summary = summarize(study(tmp_path), random_return=POOR)
    assert math.isnan(summary.arms[0].aggregate.value)
    assert summary.missing


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_numbers_without_bounds_are_no_error(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path / f"a{seed}", "none", seed, [1e308, -1e308, 1e308])
        write_run(tmp_path / f"b{seed}", "fresh", seed, [1e308, 1e308, 1e308])
    with np.errstate(all="ignore"):
        assert len(summarize(study(tmp_path), random_return=-1e308).arms) == 2


PARTS = {
    "none": (100.0, 20.0, 20.0),
    "fresh": (100.0, 100.0, 100.0),
    "actor's head renewed": (100.0, 92.0, 84.0),
    "critic renewed": (100.0, 20.0, 28.0),
    "redo": (100.0, 60.0, 60.0),
}


def test_shares_of_the_gap_by_hand(tmp_path: Path) -> None:
    write_study(tmp_path, PARTS)
    found = summarize(study(tmp_path)).attribution
    assert found is not None
    assert [part.label for part in found.parts] == ["actor's head", "critic"]
    head, critic = (part.restored for part in found.parts)
    assert head is not None
    assert critic is not None
    assert head.value == pytest.approx((72 + 64) / 160)
    assert critic.value == pytest.approx(8 / 160)
    assert "actor's head 85 %" in found.sentence
    assert "The actor's head carries more" in found.sentence


def test_shares_take_the_seeds_that_all_three_arms_have(tmp_path: Path) -> None:
    write_study(tmp_path, {"none": (100, 20), "fresh": (100, 100)}, spread=0)
    write_run(tmp_path / "part", "moments renewed", 2, [100, 60])
    write_run(tmp_path / "stray", "moments renewed", 9, [100, 1000])
    found = summarize(study(tmp_path)).attribution
    assert found is not None
    assert found.parts[0].restored is not None
    assert found.parts[0].restored.value == pytest.approx(0.5)
    assert found.parts[0].restored.runs == 1


def test_where_there_is_no_gap_nothing_is_divided(tmp_path: Path) -> None:
    for seed, gap in enumerate((-10, 1, 12)):
        write_run(tmp_path / f"a{seed}", "none", seed, [100, 50])
        write_run(tmp_path / f"b{seed}", "fresh", seed, [100, 50 + gap])
        write_run(tmp_path / f"c{seed}", "critic renewed", seed, [100, 51])
    summary = summarize(study(tmp_path))
    assert summary.attribution is not None
    assert summary.attribution.parts[0].restored is None
    assert "no gap to divide" in summary.attribution.sentence
    assert summary.illness == [
        "The plain agent loses nothing that could be told from chance, so that there is no illness to name."
    ]


def test_without_arms_of_parts_the_report_says_which_to_run(tmp_path: Path) -> None:
    write_study(tmp_path)
    found = summarize(study(tmp_path)).attribution
    assert found is not None
    assert found.parts == []
    assert "--reset.full.parts head" in found.sentence


def ill(folder: Path, head: float | None = None, **columns: tuple[float, ...]) -> list[str]:
    """What is said of a plain agent that loses 80 of 100, with these diagnostics, and what a new head restores."""
    for seed in range(3):
        named = {name.replace("__", "/"): values for name, values in columns.items()}
        write_run(folder / f"a{seed}", "none", seed, [100, 20 + seed, 20], columns=named)
        write_run(folder / f"b{seed}", "fresh", seed, [100, 100 + seed, 100])
        if head is not None:
            write_run(folder / f"c{seed}", "actor's head renewed", seed, [100] + [20 + 80 * head] * 2)
    return summarize(study(folder)).illness


SURE: dict[str, Any] = {"switch__actor__entropy": (0.69, 1e-7, 1e-4), "switch__actor__logit_gap": (0.1, 130.0, 78.0)}
UNSURE: dict[str, Any] = {"switch__actor__entropy": (0.69, 0.5, 0.6), "switch__actor__logit_gap": (0.1, 2.0, 3.0)}
UNFIT: dict[str, Any] = {"actor__probe_ratio": (1.1, 3.0, 9.0), "critic__probe_ratio": (1.0, 1.0, 1.0)}
FIT: dict[str, Any] = {"actor__probe_ratio": (1.1, 1.2, 1.0), "critic__probe_ratio": (0.9, 1.0, 1.0)}


@pytest.mark.parametrize(
    ("head", "columns", "verdict"),
    [
        (0.9, SURE | FIT, "This points to a saturated policy, not to lost capacity."),
        (0.1, SURE | FIT, "that is not all: a new head does not bring the return back"),
        (0.9, SURE, "This points to a saturated policy."),
        (None, SURE, "This points to a saturated policy; an arm that renews"),
        (0.1, UNSURE | UNFIT, "This points to networks that can no longer be trained."),
        (0.9, UNSURE | UNFIT, "what fails is near the outputs"),
        (None, UNSURE | UNFIT, "would tell whether it is the body"),
        (0.9, SURE | UNFIT, "it is the saturation that costs it"),
        (None, SURE | UNFIT, "would tell which of them costs the return"),
        (0.1, UNSURE | FIT, "Neither"),
        (0.1, UNSURE, "cannot be told from what was measured."),
        (0.9, {}, "it is near the actor's outputs"),
    ],
)
def test_illnesses_are_told_apart(tmp_path: Path, head: float | None, columns: dict[str, Any], verdict: str) -> None:
    assert verdict in ill(tmp_path, head, **columns)[0]


def test_illnesses_are_told_with_their_numbers(tmp_path: Path) -> None:
    told = " ".join(ill(tmp_path, 0.5, **SURE, **UNFIT))
    assert "On the first batch of 6 of 6 later tasks the policy was saturated (median entropy 5e-05" in told
    assert "on the very first batch 0.69; median lead of the largest logit 104)" in told
    assert "actor 1.1 in the first task, 9.0 in the last third; critic 1.0 in the first task" in told
    assert "restores 49 % of the gap" in told


def test_a_low_entropy_alone_is_no_saturation(tmp_path: Path) -> None:
    told = ill(tmp_path, switch__actor__entropy=(0.69, 1e-7, 1e-4), switch__actor__logit_gap=(0.1, 5.0, 5.0), **FIT)
    assert "Neither" in told[0]
    assert "0 of 6 later tasks" in told[1]


def test_an_undecided_policy_that_ignores_the_state_is_a_collapsed_representation(tmp_path: Path) -> None:
    told = ill(tmp_path, **UNSURE, **FIT, actor__policy_variance=(0.1, 0.05, 0.001))
    assert "a collapsed representation" in told[-1]


def test_a_diagnostic_that_goes_with_the_loss_is_found_and_another_is_not(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for seed in range(6):
        loss = generator.permutation([0.0, 10, 20, 30, 40])
        columns = {
            "actor/dormant": [*loss, 0.0],  # as the agent enters the next task
            "actor/rank": [*(-loss), 0.0],
            "switch/actor/entropy": [0.0, *loss],
            "actor/noise": generator.normal(size=6),
            "actor/constant": [1.0] * 6,
            "critic/unknown": [NAN] * 6,
        }
        returns = [100, *(100 - loss)]
        write_run(tmp_path / f"a{seed}", "none", seed, returns, columns=columns)
        write_run(tmp_path / f"b{seed}", "fresh", seed, [100] * 6)
    summary = summarize(study(tmp_path))
    found = {moved.name: moved for moved in summary.moved}
    assert set(found) == {"actor/dormant", "actor/rank", "switch/actor/entropy", "actor/noise"}
    assert found["actor/dormant"].correlation.value == pytest.approx(1)
    assert found["actor/rank"].correlation.value == pytest.approx(-1)
    assert found["switch/actor/entropy"].correlation.value == pytest.approx(1)
    assert [name for name, moved in found.items() if not moved.moved] == ["actor/noise"] == list(found)[-1:]
    assert found["actor/noise"].cells == 30
    assert any("3 of 4 diagnostics moved" in note for note in summary.notes)


def test_two_runs_are_too_few_to_say_what_moved(tmp_path: Path) -> None:
    write_study(tmp_path, seeds=2, columns={"actor/dormant": [0.0, 0.1, 0.2, 0.3]})
    (moved,) = summarize(study(tmp_path)).moved
    assert moved.correlation.value > 0.9
    assert not moved.moved


def test_diagnostics_by_run_and_task(tmp_path: Path) -> None:
    write_study(
        tmp_path, seeds=2, columns={"actor/dormant": [0.1, 0.2, 0.3, NAN], "switch/actor/entropy": [4, 3, 2, 1]}
    )
    plain = by_label(summarize(study(tmp_path)))["none"]
    np.testing.assert_array_equal(plain.diagnostics["actor/dormant"], [[0.1, 0.2, 0.3, NAN]] * 2)
    np.testing.assert_array_equal(plain.at_switch["actor/entropy"], [[4, 3, 2, 1]] * 2)


def test_few_runs_are_said_to_be_few(tmp_path: Path) -> None:
    write_study(tmp_path)
    assert any("With as few as 3 runs" in note for note in summarize(study(tmp_path)).notes)


def test_no_share_of_what_the_fresh_agent_does_not_learn(tmp_path: Path) -> None:
    for seed, learnt in enumerate((-3, 1, 4)):
        write_run(tmp_path / f"a{seed}", "none", seed, [100, 20])
        write_run(tmp_path / f"b{seed}", "fresh", seed, [100, 50 + learnt])
    summary = summarize(study(tmp_path), random_return=50)
    assert by_label(summary)["none"].gap is not None
    assert by_label(summary)["none"].normalized_gap is None
    assert any("does not clearly earn more than a random policy" in sentence for sentence in summary.missing)


def test_a_random_policy_may_be_known_task_by_task(tmp_path: Path) -> None:
    write_study(tmp_path, spread=0)
    floor = np.array([0.0, 50, NAN, 20])  # what was not tried counts with the mean of the others, (0 + 50 + 20) / 3
    plain = by_label(summarize(study(tmp_path), floor))["none"]
    span = 300 - 50 - 70 / 3 - 20
    assert plain.normalized_gap is not None
    assert plain.normalized_gap.value == pytest.approx(180 / span)


def test_what_a_random_policy_earns_in_the_runs_own_tasks(tmp_path: Path) -> None:
    changes = {"reward_scale": {"change": "reward_scale", "values": [1.0, 5.0, 5.0]}}
    schedule = {"name": "x", "kind": "periodic", "boundary": "truncate", "period": 1000, "changes": changes}
    run = read_run(write_run(tmp_path / "run", returns=[100, 100, 100], schedule=schedule))
    found, problem = random_returns(run, episodes=20)
    assert found is not None
    assert problem == ""
    assert len(found) == 3
    assert 15 < found[0] < 35  # CartPole falls after some 22 steps
    np.testing.assert_allclose(found[1:], 5 * found[0])  # the same episodes, each reward five times as large
    mean, _ = random_return(run, episodes=20)
    assert mean == pytest.approx(5 * found[0])


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"env": "Nowhere-v0"}, "No random policy was tried in Nowhere-v0"),
        ({"env": "os:CartPole-v1"}, "names a module"),
        ({"schedule": "permuted"}, "no schedule"),
        ({"schedule": {"kind": "periodic", "period": -1}}, "No random policy"),
        ({"schedule": {"kind": "unheard of"}}, "No random policy"),
    ],
)
def test_where_no_random_policy_can_be_tried_a_sentence_says_why(
    tmp_path: Path, settings: dict[str, Any], problem: str
) -> None:
    found, told = random_return(read_run(write_run(tmp_path / "run", **settings)))
    assert found is None
    assert problem in told
    assert told.endswith(".")


def test_later_tasks_are_all_but_the_first() -> None:
    np.testing.assert_array_equal(later(np.array([[1.0, 2, 3]])), [[2, 3]])
    np.testing.assert_array_equal(later(np.array([[1.0]])), [[1]])


def test_where_no_known_illness_is_found_the_part_that_restores_most_is_named() -> None:
    def effect(label: str, value: float) -> PartEffect:
        return PartEffect(label, Interval(value, value, value, 3), Interval(1.0, 1.0, 1.0, 3))

    parts = [effect("actor", 0.98), effect("actor's body", 0.8), effect("actor's head", 0.6), effect("critic", 0.0)]
    part = illness._part(Attribution(parts, ""))
    assert part == ("actor's body", 0.8)
    assert "the actor's body alone brings 80 % of the gap back" in illness._verdict(False, False, 0.6, part)
    assert illness._part(Attribution([effect("actor", 0.9), effect("moments", 0.1)], "")) is None
    assert "the loss has another cause" in illness._verdict(False, False, None, None)
