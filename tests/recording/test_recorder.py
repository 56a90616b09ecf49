"""What is recorded is what happened, and recording it changes nothing."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from configs.building import build
from configs.command_line import parse
from tests.models import weights
from tests.recording.conftest import PPO, SAC, Recorded, record


def test_rows_are_the_tasks_and_their_episodes(recorded: Recorded) -> None:
    rows = recorded.directory.read_tasks()
    period = recorded.config.tasks.schedule.period  # type: ignore[attr-defined]
    assert [row["task"] for row in rows] == [0, 1, 2]
    assert [row["start"] for row in rows] == [0, period, 2 * period]
    assert [row["end"] for row in rows] == [period, 2 * period, recorded.model.num_timesteps]
    for row in rows:
        returns = [earned for _, task, earned in recorded.witness.episodes if task == row["task"]]
        assert row["episodes"] == len(returns)
        if returns:
            assert row["return"] == pytest.approx(np.mean(returns), rel=1e-5)
            assert row["return_end"] == pytest.approx(np.mean(returns[-20:]), rel=1e-5)
        else:
            assert math.isnan(row["return"])
    assert sum(row["episodes"] for row in rows) == len(recorded.witness.episodes) > 0


def test_columns_are_the_means_over_networks(recorded: Recorded) -> None:
    networks = {"ppo": ["actor", "critic"], "sac": ["actor"]}[recorded.config.names["agent"]]
    for row in recorded.directory.read_tasks():
        assert {f"{network}/dormant" for network in networks} <= set(row)
        for measure in ("dormant", "effective_rank"):
            found = [value for column, value in row.items() if column.endswith(f"/{measure}") and not math.isnan(value)]
            assert row[measure] == pytest.approx(np.mean(found), rel=1e-4)
        assert 0 <= row["dormant"] <= 1
        assert 0 <= row["effective_rank"] <= 12
        assert all(value > 0 for column, value in row.items() if column.endswith("/weight_norm"))


def test_events_are_every_switch_and_every_reset(recorded: Recorded) -> None:
    events = [json.loads(line) for line in recorded.directory.events.read_text().splitlines()]
    period, n_envs = recorded.config.tasks.schedule.period, recorded.config.agent.n_envs  # type: ignore[attr-defined]
    switches = [(event["task"], event["step"], event["env"]) for event in events if event["event"] == "switch"]
    assert sorted(switches) == [(task, task * period, env) for task in (1, 2) for env in range(n_envs)]
    resets = [event for event in events if event["event"] == "reset"]
    assert resets
    assert {"step", "task", "method", "network", "part", "what", "count", "why"} <= set(resets[0])
    units = sum(event["count"] for event in resets)
    assert sum(int(str(row["resets"]).split()[0]) for row in recorded.directory.read_tasks()) == units


def test_gradient_norms_are_means_over_the_steps_since_the_last_measurement(sac: Recorded) -> None:
    """SAC does not clip: its optimisers step by the gradient itself. It is measured at the ends of tasks only."""
    rows = sac.directory.read_tasks()
    assert {"actor", "critic0", "critic1"} <= set(sac.witness.norms)
    for network, norms in sac.witness.norms.items():
        for row in rows:
            seen = [norm for step, norm in norms if row["start"] < step <= row["end"]]
            assert row[f"{network}/grad_norm"] == pytest.approx(np.mean(seen), rel=1e-4)


def curve(run: Recorded, tag: str) -> list[float]:
    events = EventAccumulator(str(run.directory.path))
    events.Reload()
    return [point.value for point in events.Scalars(tag)]


def test_gradient_norms_without_clipping_are_those_of_the_steps(tmp_path: Path) -> None:
    run = record(PPO.replace("max-grad-norm 0.01", "max-grad-norm 1e9"), tmp_path / "run")
    for network, norms in run.witness.norms.items():
        assert curve(run, f"gradients/{network}/grad_norm") == pytest.approx([norm for _, norm in norms], rel=1e-4)


def test_gradient_norms_are_from_before_clipping(ppo: Recorded) -> None:
    """The run clips at 0.01, and what is recorded is larger."""
    clipped = [norm for norms in ppo.witness.norms.values() for _, norm in norms]
    assert max(clipped) <= 0.0101
    for network in ("actor", "critic"):
        assert min(curve(ppo, f"gradients/{network}/grad_norm")) > 0.0101


@pytest.mark.parametrize(("kind", "line"), [("ppo", PPO), ("sac", SAC)])
def test_recording_leaves_the_run_bit_for_bit_as_it_would_have_been(
    kind: str, line: str, request: pytest.FixtureRequest
) -> None:
    with_recorder: Recorded = request.getfixturevalue(kind)
    config = parse(line.split())
    _, env, model, plasticity = build(config)
    model.learn(config.run.steps, callback=[plasticity])
    env.close()
    assert torch.equal(weights(model), weights(with_recorder.model))


def test_nothing_is_left_hooked_to_the_model(recorded: Recorded) -> None:
    assert recorded.recorder.measurer.taps == []
    assert all("zero_grad" not in vars(network.optimizer) for network in recorded.recorder.measurer.networks)
    for parameter in recorded.model.policy.parameters():
        assert not parameter._post_accumulate_grad_hooks
