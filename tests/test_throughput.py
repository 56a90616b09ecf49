"""The bench of speeds measures what it says: its clocks, its ratios, its count of operations, its page."""

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import stable_baselines3 as sb3
import torch
from gymnasium.envs.classic_control import CartPoleEnv
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bench.racing import arithmetic, stopwatch
from bench.racing.cases import CASES, POPULATION_CORES, SB3_CORES, SBX, SIDES, Question, shares
from bench.racing.race import RaceError, race
from bench.racing.ratios import Speed, Spread, answer
from bench.racing.stopwatch import Stopwatch, TimeIsUpError
from bench.racing.work import Lap, Work

ROOT = Path(__file__).resolve().parent.parent
DOCS, BENCH = ROOT / "docs", ROOT / "bench"
SMALL = {"n_steps": 32, "batch_size": 32, "n_epochs": 1}


def work(trainer: str = "population", **changes: object) -> Work:
    """Three seeds of a tiny PPO."""
    given: dict[str, object] = {
        "trainer": trainer,
        "algorithm": "PPO",
        "env": "CartPole-v1",
        "hidden": (8,),
        "seeds": (0, 1, 2),
        "warm_up": 32,
        "seconds": 0.05,
        "settings": SMALL,
        "threads": 1,
    }
    return Work(**given | changes)  # type: ignore[arg-type]


def lap(steps: int, seconds: float, processor: float, peak: int = 0) -> Lap:
    return Lap(steps, seconds, processor, peak)


def test_the_clock_starts_when_warm_and_stops_at_the_first_rollout_after_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now: Iterator[float] = iter([10.0, 12.0, 15.0, 15.5])
    used: Iterator[float] = iter([1.0, 4.0])
    waited: list[str] = []
    monkeypatch.setattr(stopwatch, "time", SimpleNamespace(monotonic=lambda: next(now)))
    monkeypatch.setattr(stopwatch, "processor_seconds", lambda: next(used))
    clock = Stopwatch(
        work(warm_up=100, seconds=5), lambda: waited.append("for the others"), lambda: waited.append("device")
    )
    clock.rollout_starts(0)
    clock.rollout_starts(64)
    assert waited == []
    clock.rollout_starts(128)  # at 10
    assert waited == ["device", "for the others"]
    clock.rollout_starts(192)  # at 12
    assert clock.lap is None
    with pytest.raises(TimeIsUpError):
        clock.rollout_starts(256)  # at 15; the device is done at 15.5
    assert waited[2:] == ["device"]
    found = clock.lap
    assert found is not None
    assert (found.steps, found.seconds, found.processor) == (3 * (256 - 128), 5.5, 3.0)
    assert found.peak > 2**20


def test_ratios_are_taken_within_rounds_between_the_sides_that_are_fastest_over_all() -> None:
    question = Question("speed", ("ours", "ours too"), "theirs", ("theirs", "theirs too"), 2.0)
    rounds = [
        # A slow moment of the machine halves both speeds of a round, not their ratio. "ours too" leads in one round.
        {
            "ours": [lap(800, 2, 1), lap(800, 2, 1)],  # 800 a second, 1600 undisturbed
            "ours too": [lap(100, 1, 1)],
            "theirs": [lap(200, 1, 0.25)],  # 200, 800
            "theirs too": [lap(100, 1, 1)],
        },
        {
            "ours": [lap(400, 2, 1), lap(400, 2, 1)],  # 400, 800
            "ours too": [lap(900, 1, 1)],
            "theirs": [lap(100, 1, 0.25)],  # 100, 400
            "theirs too": [lap(100, 1, 1)],
        },
        {
            "ours": [lap(800, 2, 2), lap(800, 2, 2)],  # 800, 800
            "ours too": [lap(300, 1, 1)],
            "theirs": [lap(100, 1, 0.25)],  # 100, 400
            "theirs too": [lap(100, 1, 1)],
        },
    ]
    found = answer(question, rounds)
    assert (found["wall"].ours, found["wall"].theirs) == ("ours", "theirs")
    assert found["wall"].times == Spread(4.0, 4.0, 6.0)
    assert found["undisturbed"].times == Spread(2.0, 2.0, 2.0)


def test_figures_of_a_side() -> None:
    # Two threads are at work in the first process.
    heats = [[lap(100, 1, 2.0, 3 * 2**20), lap(300, 2, 1.0, 2**20)], [lap(500, 1, 0.5, 2**20), lap(100, 1, 0.5, 2**20)]]
    found = Speed.of(heats)
    assert found.wall.median == (250 + 600) / 2
    assert found.undisturbed.median == (400 + 1200) / 2
    assert (found.at_work, found.peak_mib) == (0.5, 3)


def test_seeds_are_dealt_out_to_all_cores() -> None:
    assert shares(8, 3) == [(0, 3, 6), (1, 4, 7), (2, 5)]
    case = CASES["ppo_cheetah"]
    ours = case.works(SIDES[POPULATION_CORES], cores=2, members=8, seconds=1, device="cpu")
    assert [(part.members, part.threads) for part in ours] == [(4, 1), (4, 1)]
    theirs = case.works(SIDES[SB3_CORES], cores=2, members=8, seconds=1, device="cpu")
    assert [(part.seeds, part.members) for part in theirs] == [((0,), 1), ((1,), 1)]
    assert len(case.works(SIDES[SBX], cores=2, members=8, seconds=1, device="cpu")) == 1


def test_work_survives_its_way_to_another_process() -> None:
    for case in CASES.values():
        for side in SIDES.values():
            for own in case.works(side, 2, case.members, 0.5, "cpu"):
                assert Work.from_json(own.to_json()) == own


def test_operations_are_those_that_pytorch_counts() -> None:
    batch, hidden = 32, (24, 16)
    model = sb3.PPO("MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": list(hidden)}, device="cpu")
    observations, actions = torch.randn(batch, 4), torch.zeros(batch)
    expected = arithmetic.products(4, 2, hidden, epochs=1)
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        model.policy(observations)
    assert counted.get_total_flops() == batch * expected["act"]
    with FlopCounterMode(display=False) as counted:
        values, log_prob, _ = model.policy.evaluate_actions(observations, actions)
        (values.sum() + log_prob.sum()).backward()
    assert counted.get_total_flops() == batch * (sum(expected.values()) - expected["act"])
    many = arithmetic.products(4, 2, hidden, epochs=10)
    assert sum(many.values()) == expected["act"] + 10 * (sum(expected.values()) - expected["act"])


def test_limits_add_up_the_time_of_all_products(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {(1, 64, 64): 10.0, (32, 64, 64): 100.0, (64, 32, 64): 50.0}
    monkeypatch.setattr(arithmetic, "product_rate", lambda members, *shape: rates[shape[:3]])
    asked = {"act": 10.0, "forward": 300.0, "weights": 300.0, "inputs": 200.0}
    assert arithmetic.limit_at_shapes(8, 32, 64, asked) == pytest.approx(1 / (1 + 3 + 6 + 2))


def test_populations_and_stock_runs_are_timed_in_processes_of_their_own() -> None:
    laps = race([work(), work("sb3")])
    assert laps[0].steps % (3 * 32) == 0
    assert laps[1].steps % 32 == 0
    for found in laps:
        assert found.steps > 0
        assert found.seconds >= 0.05
        assert 0 < found.processor < 2 * found.seconds
        assert 2**26 < found.peak < 2**33


def test_a_process_that_fails_ends_the_race_with_its_last_line(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho one >&2\necho 'ValueError: no such thing' >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(RaceError, match=r"^ValueError: no such thing$"):
        race([work(), work()], str(python))


def test_a_sample_belongs_to_the_part_that_is_being_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    shares_of = runpy.run_path(str(BENCH / "shares.py"))
    found: list[str] = []

    class Looked(CartPoleEnv):
        def step(self, action: int) -> Any:
            found.append(shares_of["part_of"](sys._getframe()))
            return super().step(action)

    class Weighed(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found.append(shares_of["part_of"](sys._getframe()))
            return super().forward(x)

    model = sb3.PPO("MlpPolicy", Looked(), n_steps=2, batch_size=2, n_epochs=1, device="cpu")
    model.policy.action_net.__class__ = Weighed
    model.learn(2)
    assert found == ["acting", "environments", "acting", "environments", "forward"]


def test_the_page_has_the_measured_tables() -> None:
    made = runpy.run_path(str(DOCS / "performance.py"))["page"]()
    assert (DOCS / "performance.md").read_text() == made, "run python docs/performance.py"
