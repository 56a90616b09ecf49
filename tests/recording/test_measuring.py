"""Metrics are asked at their moments, of the right transitions, and the model learns as if nobody had looked."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from agents.layers import Network
from configs.building import build
from configs.command_line import parse
from metrics import METRICS
from metrics.base import Measured, Metric, StepView, View
from recording.measuring import FEWEST, STEP_EVERY, Measurement, Measurer
from tests.models import make, weights
from tests.recording.conftest import PPO, SAC, Recorded, record

ALL = """--metrics all --measure-every 40 --measure-costly-every 240 --measure-samples 40 --histograms
    --metrics.trainability.steps 10 --metrics.hessian.order 10"""
OTHERS = {
    "box": "--env Pendulum-v1 --schedule stationary --agent a2c --agent.n-steps 32 --steps 192 --network.hidden 8,8",
    "dqn": "--env CartPole-v1 --schedule stationary --agent dqn --steps 200 --agent.learning-starts 30 "
    "--agent.train-freq 2 --agent.batch-size 16 --agent.buffer-size 200 --network.hidden 8,8",
    "variant": "--env CartPole-v1 --schedule permuted --schedule.period 128 --agent.n-steps 64 --agent.n-epochs 2 "
    "--agent.batch-size 32 --steps 256 --network.hidden 8,8 --network.activation crelu --network.layer-norm after "
    "--reset cbp",
}


@dataclass
class Spy(Metric):
    """Says what it was shown."""

    title = "spy"
    family = "units"
    names = ("spy",)
    reads = "batch"
    seen: ClassVar[list[Any]] = []

    def measure(self, network: Network, view: View) -> Measured:
        self.seen.append((network.name, view))
        return {"spy": float(len(self.seen))}


@dataclass
class StepSpy(Metric):
    """Keeps the steps it was shown."""

    title = "step spy"
    family = "gradients"
    names = ("step_spy",)
    reads = "step"
    reads_outputs = True
    steps: ClassVar[list[tuple[str, StepView]]] = []

    def measure_step(self, network: Network, step: StepView) -> Measured:
        self.steps.append((network.name, step))
        return {"step_spy": math.nan if len(self.steps) == 1 else 2.0}


LINES = {
    "ppo": PPO.replace("--measure-every 1 ", ""),
    "sac": SAC.replace("--measure-every 1e6", "").replace("period 212 --steps 636", "period 80 --steps 160"),
    **OTHERS,
}


@pytest.fixture(scope="module")
def all_of_ppo(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """PPO measured with all that there is."""
    return record(f"{LINES['ppo']} {ALL}", tmp_path_factory.mktemp("all") / "run")


@pytest.mark.parametrize("kind", LINES)
def test_with_all_metrics_the_weights_are_bit_for_bit_those_without_any(
    kind: str, all_of_ppo: Recorded, tmp_path: Path
) -> None:
    measured = all_of_ppo if kind == "ppo" else record(f"{LINES[kind]} {ALL}", tmp_path / "run")
    config = parse([*LINES[kind].split(), "--metrics", "none"])
    _, env, model, plasticity = build(config)
    model.learn(config.run.steps, callback=[plasticity])
    env.close()
    assert torch.equal(weights(model), weights(measured.model))
    lines = [json.loads(line) for line in measured.directory.measurements.read_text().splitlines()]
    names = {key.split("/")[1] for line in lines for key in line["values"]}
    assert set(measured.config.metrics) == set(METRICS)
    assert len(names) > 20


def lines(run: Recorded) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.directory.measurements.read_text().splitlines()]


def test_the_first_batch_of_each_task_is_measured_before_any_update_on_it(ppo: Recorded) -> None:
    """Rollouts of 80 steps, tasks of 160."""
    at_switch = [line for line in lines(ppo) if line["when"] == "switch"]
    assert [(line["step"], line["task"]) for line in at_switch] == [(80, 0), (240, 1), (400, 2)]
    rows = ppo.directory.read_tasks()
    for line, row in zip(at_switch, rows, strict=True):
        assert row["switch/actor/entropy"] == pytest.approx(line["values"]["actor/entropy"], rel=1e-4)
    # Before any update the new policy's output layer is almost zero: nearly uniform over two actions.
    assert rows[0]["switch/actor/entropy"] == pytest.approx(math.log(2), abs=1e-3)


def test_off_policy_it_is_measured_on_the_first_steps_of_the_task(sac: Recorded) -> None:
    period = sac.config.tasks.schedule.period  # type: ignore[attr-defined]
    at_switch = [line for line in lines(sac) if line["when"] == "switch"]
    assert [line["task"] for line in at_switch] == [0, 1, 2]
    for line in at_switch:
        assert FEWEST <= line["step"] - line["task"] * period < FEWEST + 8


def test_costly_metrics_have_a_cadence_of_their_own_and_the_ends_of_tasks(tmp_path: Path) -> None:
    line = PPO + " --metrics grad_norm,hessian --measure-costly-every 100 --measure-samples 16"
    run = record(line, tmp_path / "run")
    seen = [line for line in lines(run) if any("hessian" in key for key in line["values"])]
    # Rollouts of 80 steps: a hundred have passed at 160, the end of task 0; 320 and 480 likewise.
    assert [line["step"] for line in seen if line["when"] == "rollout"] == [160, 320, 480]
    assert [line["step"] for line in seen if line["when"] == "switch"] == [80, 240, 400]
    cheap = [line["step"] for line in lines(run) if any(key.endswith("grad_norm") for key in line["values"])]
    assert cheap == [80, 160, 240, 320, 400, 480]


def test_the_probe_batch_is_the_first_one_and_stays(ppo: Recorded) -> None:
    probe, kept = ppo.recorder.measurer.probe, np.load(ppo.directory.probe)
    assert probe is not None
    np.testing.assert_array_equal(probe.observations.numpy(), kept["observations"])
    assert len(kept["observations"]) == 80
    seen = [line["step"] for line in lines(ppo) if line["batch"] == "probe"]
    assert seen == [80, 160, 240, 320, 400, 480]


def test_off_policy_the_probe_batch_waits_for_as_many_steps_as_it_has(tmp_path: Path) -> None:
    run = record(SAC + " --measure-samples 50 --steps 212", tmp_path / "run")
    kept = np.load(run.directory.probe)
    assert kept["observations"].shape == (50, 3)
    assert kept["actions"].shape == (50, 1)
    first = run.model.replay_buffer.observations[:52].reshape(-1, 3)  # type: ignore[attr-defined]
    assert {tuple(row) for row in kept["observations"].tolist()} <= {tuple(row) for row in first.tolist()}


def test_a_metric_is_shown_the_current_batch_and_the_probe_batch(tmp_path: Path) -> None:
    model: Any = make("ppo")
    Spy.seen.clear()
    found: list[Measurement] = []
    measurer = Measurer({"spy": Spy()}, 0, 16, listen=found.append)
    measurer.start(model)
    _, callback = model._setup_learn(1000, None)
    for step in (64, 128):
        model.collect_rollouts(model.env, callback, model.rollout_buffer, 64)
        measurer.collected(step)
        stored = torch.as_tensor(model.rollout_buffer.observations).reshape(-1, 4).clone()
        model.train()
        measurer.measure(step, 0, 64, costly=False)
        (_, current), _, (_, probe), _ = Spy.seen[-4:]
        known = {tuple(row) for row in stored.tolist()}
        assert {tuple(row) for row in current.batch.observations.tolist()} <= known
        assert probe.batch is measurer.probe
        assert current.networks == measurer.networks
    assert [(one.step, one.batch) for one in found] == [
        (64, "current"), (64, "probe"), (128, "current"), (128, "probe"),
    ]  # fmt: skip
    measurer.close()


@pytest.mark.parametrize("kind", ["ppo", "sac"])
def test_steps_are_seen_before_clipping_with_the_outputs_around_them(kind: str) -> None:
    model: Any = make(kind)
    model.max_grad_norm = 1e-3
    StepSpy.steps.clear()
    found: list[Measurement] = []
    measurer = Measurer({"step_spy": StepSpy()}, 0, 16, listen=found.append)
    model.learn(64)
    measurer.start(model)
    measurer.collected(64)
    if kind == "ppo":
        model.n_epochs = STEP_EVERY * 5
        model.batch_size = 64
        model.train()
    else:
        model.train(gradient_steps=STEP_EVERY * 5, batch_size=16)
    of_actor = [step for name, step in StepSpy.steps if name == "actor"]
    assert len(of_actor) == 2, "the first and the 64th of 80 steps"
    networks = {network.name: network for network in measurer.networks}
    for name, step in StepSpy.steps:
        assert set(step.gradients) <= set(networks[name].params())
        norm = torch.cat([gradient.flatten() for gradient in step.gradients.values()]).norm()
        if kind == "ppo" and name == "critic":
            assert norm > 1e-3, "SB3 clips at 0.001"
        assert all(before.shape == after.shape for before, after in zip(step.before, step.after, strict=True))
        assert any(not torch.equal(before, after) for before, after in zip(step.before, step.after, strict=True))
    measurer.measure(128, 0, 64, costly=False)
    values = found[0].values
    assert values["actor/step_spy"] == 2.0, "the mean of what could be measured"
    measurer.close()
    assert not any(parameter._post_accumulate_grad_hooks for parameter in model.policy.parameters())


def test_what_cannot_be_measured_is_left_out_of_the_file() -> None:
    measurement = Measurement(
        5, 1, "rollout", "current", {"actor/a": math.nan, "actor/b": 1.23456789, "actor/c": math.inf}
    )
    assert measurement.as_dict()["values"] == {"actor/b": 1.23457}


def test_metrics_without_anything_to_measure_are_named() -> None:
    chosen = {name: METRICS[name]() for name in ("entropy", "kl", "explained_var", "dormant", "hessian")}
    assert Measurer(chosen, 0).idle(make("ppo")) == []
    assert Measurer(chosen, 0).idle(make("sac")) == ["kl", "explained_var"]
    assert Measurer(chosen, 0).idle(make("dqn")) == ["entropy", "kl", "explained_var"]


def test_columns_are_all_that_may_be_measured(all_of_ppo: Recorded) -> None:
    columns, seen = set(all_of_ppo.directory.read_tasks()[0]), lines(all_of_ppo)
    found = {key for line in seen if line["when"] == "rollout" for key in line["values"] if key.count("/") == 1}
    assert found
    assert found <= columns
    assert {f"switch/{key}" for line in seen if line["when"] == "switch" for key in line["values"]} <= columns
