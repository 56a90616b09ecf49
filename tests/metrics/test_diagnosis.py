"""Any model's table, in a notebook and from the shell."""

import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.sb3 import Batch, activations, read_networks
from configs.settings import UsageError
from metrics import METRICS, diagnose
from metrics.__main__ import main, read_observations
from metrics.ranks import effective_rank, singular_values
from metrics.units import Dormant, dormancy_score
from tests.models import make, weights

KINDS = ("ppo", "ppo-box", "ppo-dict", "ppo-cnn-tiny", "sac", "td3", "dqn", "tqc", "crossq", "a2c", "ppo-crelu")
Captured = pytest.CaptureFixture[str]


def observations(model: Any, count: int = 30) -> Any:
    """A batch as the environment gives them."""
    model.observation_space.seed(1)
    drawn: Any = [model.observation_space.sample() for _ in range(count)]
    if isinstance(drawn[0], dict):
        return {key: np.stack([one[key] for one in drawn]) for key in drawn[0]}
    found = np.stack(drawn)
    return found if found.dtype == np.uint8 else np.clip(found, -5, 5)


@pytest.mark.parametrize("kind", KINDS)
def test_any_model_has_a_table_and_stays_as_it_is(kind: str) -> None:
    model = make(kind)
    before, training, state = weights(model), model.policy.training, torch.get_rng_state()
    found = diagnose(model, observations(model))
    assert torch.equal(weights(model), before)
    assert model.policy.training == training
    assert torch.equal(torch.get_rng_state(), state)
    networks = [network.name for network in read_networks(model) if network.layers]
    assert list(found.values) == networks
    text, page = str(found), found._repr_html_()
    for network in networks:
        assert network in text
        assert f"<th>{network}</th>" in page
        assert found.values[network]["weight_norm"] > 0
    assert "Weight norm" in text
    assert "weight_norm/" not in text
    assert any("/" in name for _, name, _ in found.rows(layers=True))


def test_the_values_are_those_of_the_metrics_on_these_observations() -> None:
    model: Any = make("ppo")
    seen = observations(model)
    found = diagnose(model, seen, metrics={"dormant": Dormant(tau=0.7), "effective_rank": METRICS["effective_rank"]()})
    for network in read_networks(model):
        hidden = activations(model, network.hidden, Batch(torch.as_tensor(seen), None))
        expected = float(torch.cat([dormancy_score(h) <= 0.7 for h in hidden.values()]).float().mean())
        assert 0 < expected < 1
        assert found.values[network.name]["dormant"] == pytest.approx(expected)
        rank = effective_rank(singular_values(hidden[network.hidden[-1]]))
        assert found.values[network.name]["effective_rank"] == pytest.approx(rank, rel=1e-5)
    assert next(iter(diagnose(model, seen, metrics=["weight_norm"]).values["actor"])) == "weight_norm"


def test_distances_need_the_model_of_the_start() -> None:
    model, start = make("ppo"), make("ppo")
    model.learn(128)
    seen = observations(model)
    assert "init_distance" not in diagnose(model, seen).values["actor"]
    found = diagnose(model, seen, initial=start)
    ours, theirs = dict(model.policy.named_parameters()), dict(start.policy.named_parameters())
    actor = [name for name in ours if "policy_net" in name or "action_net" in name]
    square = sum(float((ours[name] - theirs[name]).detach().square().sum()) for name in actor)
    assert found.values["actor"]["init_distance"] == pytest.approx(square**0.5, rel=1e-5)
    with pytest.raises(UsageError, match="same build"):
        diagnose(model, seen, initial=make("sac"))


def test_what_cannot_be_done_is_said_in_one_sentence() -> None:
    model = make("ppo")
    seen = observations(model)
    with pytest.raises(UsageError, match=r"no metric 'dormnt'.*did you mean 'dormant'"):
        diagnose(model, seen, metrics=["dormnt"])
    with pytest.raises(UsageError, match="grad_norm can only be measured while"):
        diagnose(model, seen, metrics=["grad_norm"])
    with pytest.raises(UsageError, match="observations: do not fit"):
        diagnose(model, np.zeros((5, 3), np.float32))
    with pytest.raises(UsageError, match="a batch is needed"):
        diagnose(model, np.zeros(4, np.float32))


def test_from_the_shell(tmp_path: Path, capsys: Captured) -> None:
    model = make("sac")
    model.save(tmp_path / "model.zip")
    assert main([str(tmp_path)]) == 2
    assert "there is no such file; name one with --observations" in capsys.readouterr().err
    np.savez(tmp_path / "probe.npz", observations=observations(model), actions=np.zeros((30, 1), np.float32))
    assert main([str(tmp_path), "--metrics", "dormant,weight-norm", "--layers"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    for word in ("actor", "critic0", "critic1", "dormant", "dormant/0", "weight_norm", "weight_norm/mu"):
        assert word in shown.out
    assert main([str(tmp_path / "model.zip"), "--metrics", "x"]) == 2
    assert capsys.readouterr().err.startswith("metrics: error: there is no metric 'x'")


@pytest.mark.filterwarnings("ignore:'metrics.__main__' found in sys.modules:RuntimeWarning")
def test_as_a_module_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr(sys, "argv", ["metrics", str(tmp_path / "none.zip")])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("metrics", run_name="__main__")
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_observations_are_read_from_array_files_alone(tmp_path: Path) -> None:
    array = np.arange(6.0).reshape(3, 2)
    np.save(tmp_path / "a.npy", array)
    found, actions = read_observations(tmp_path / "a.npy")
    assert actions is None
    np.testing.assert_array_equal(found, array)
    np.savez(tmp_path / "d.npz", **{"observations.x": array, "observations.y": array + 1})
    found, _ = read_observations(tmp_path / "d.npz")
    np.testing.assert_array_equal(found["y"], array + 1)
    np.save(tmp_path / "bad.npy", np.array([object()]), allow_pickle=True)
    np.savez(tmp_path / "bad.npz", observations=np.array([object()]))
    np.savez(tmp_path / "other.npz", something=array)
    (tmp_path / "text").write_text("no array")
    for name, message in (
        ("bad.npy", "without pickle"), ("bad.npz", "plain arrays"), ("text", "no array file"),
        ("other.npz", "no array named observations; it has something"), ("none", "no such file"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            read_observations(tmp_path / name)
