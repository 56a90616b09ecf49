"""The promise: a run that is stopped anywhere and started again by the same command ends as if it had never stopped.

Each run is trained to its end; then again, stopped right after one of its checkpoints, and taken up. The two are
compared without tolerance: weights, optimisers, tables, events, measurements and TensorBoard curves. Here are a few of
each kind; `bench/resume.py` goes through every method, agent and environment.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3 import SAC as SB3SAC

import train
from checkpoints import manifest
from checkpoints.store import Store
from recording.comparing import differences
from recording.directory import versions
from tests.resuming import StoppedError, check_resume, stop_after

SMALL = "--network.hidden 12,12 --measure-every 64 --measure-samples 32"
PPO = f"""--agent.n-steps 32 --agent.n-envs 2 --agent.batch-size 32 --agent.n-epochs 2 --steps 320 {SMALL}
    --env CartPole-v1 --schedule permuted --schedule.period 128"""
OFF_POLICY = f"--agent.learning-starts 40 --agent.batch-size 16 --agent.buffer-size 90 --steps 150 {SMALL}"
SAC = f"--agent sac --env Pendulum-v1 --schedule pendulum_mass_drift --schedule.period 60 {OFF_POLICY}"
DQN = f"--agent dqn --schedule permuted --schedule.period 60 --agent.target-update-interval 30 {OFF_POLICY}"
ROBOT = """--agent.n-steps 64 --agent.n-envs 2 --agent.batch-size 64 --agent.n-epochs 1 --network.hidden 8
    --metrics none --steps 512"""

MANY_RESETS = """--reset redo+cbp+swr+interpolate+hare_tortoise --reset.redo.tau 0.9 --reset.redo.every 2
    --reset.cbp.replacement-rate 0.1 --reset.cbp.maturity 2 --reset.swr.every 2 --reset.interpolate.every 3
    --reset.interpolate.fraction 0.5
    --reset.hare-tortoise.every 2 --reset.hare-tortoise.unit rollouts"""
MANY_PENALTIES = "--regularizer spectral+l2_init+infer+churn+wasserstein+feature_norm+weight_clipping"
OTHER_RESETS = """--network.activation relu --reset snr+cpr+regrama+dash+soft_reset --reset.snr.max-age 2
    --reset.snr.adapt-every 3 --reset.snr.firing 0.5 --reset.cpr.every 2 --reset.regrama.every 2
    --reset.dash.when periodic --reset.dash.every 3"""
INJECTION = "--reset plasticity_injection --reset.every 1 --reset.unit rollouts"
ALL_METRICS = "--metrics all --measure-costly-every 128 --histograms"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("saves", [1, 2, 4])
@pytest.mark.parametrize("flags", [PPO, SAC], ids=["ppo", "sac"])
def test_from_the_start_the_middle_and_near_the_end(flags: str, saves: int) -> None:
    check_resume(f"{flags} --reset redo --reset.every 4 --regularizer spectral", every=40, saves=saves)


@pytest.mark.parametrize(
    "flags",
    [
        f"{PPO} {MANY_RESETS} {MANY_PENALTIES}",
        f"{SAC} {MANY_RESETS} {MANY_PENALTIES}",
        f"{PPO} {OTHER_RESETS}",
        f"{SAC} {OTHER_RESETS}",
        f"{PPO} {INJECTION}",
        f"{SAC} {INJECTION}",
    ],
    ids=["resets-ppo", "resets-sac", "others-ppo", "others-sac", "injection-ppo", "injection-sac"],
)
def test_with_interventions(flags: str) -> None:
    check_resume(flags)


@pytest.mark.parametrize(
    "flags",
    [
        f"{PPO} --agent a2c --agent.n-steps 8".replace("--agent.batch-size 32 --agent.n-epochs 2", ""),
        f"{SAC} --agent td3",
        f"{SAC} --agent tqc",
        f"{DQN} --env CartPole-v1 --optimizer sam",
        f"{PPO} --optimizer upgd --network.spectral-norm hidden",
        f"{SAC} --optimizer trac --network.activation crelu --network.layer-norm before",
        f"{PPO} --optimizer muon --normalize moving --normalize.rewards true",
        f"{SAC} --optimizer unit_adam --normalize reset --normalize.rewards true",
    ],
    ids=["a2c", "td3", "tqc", "dqn-sam", "upgd-spectral", "trac-crelu", "muon-moving", "unit-reset"],
)
def test_with_other_agents_optimisers_networks_and_normalisations(flags: str) -> None:
    check_resume(flags)


@pytest.mark.parametrize("flags", [PPO, SAC], ids=["ppo", "sac"])
def test_with_everything_measured(flags: str) -> None:
    check_resume(f"{flags} {ALL_METRICS}", saves=2)


@pytest.mark.parametrize(
    "flags",
    [
        "--env HalfCheetah-v5 --schedule friction_and_direction",
        "--env Ant-v5 --schedule friction --schedule.period 200",
        "--env Humanoid-v5 --schedule gravity --schedule.period 200 --stepping dummy",
        "--env CartPole-v1 --schedule cartpole_length --schedule.period 200 --stepping subproc",
        "--env LunarLander-v3",
        "--config nine_rooms --schedule.period 200",
    ],
    ids=["cheetah-batch", "ant-batch", "humanoid", "subproc", "lander", "rooms"],
)
def test_in_other_environments(flags: str) -> None:
    if "Lander" in flags:
        pytest.importorskip("Box2D")
    check_resume(f"{flags} --agent ppo {ROBOT}", every=128)


def test_with_images() -> None:
    convolutions = "--network cnn --network.hidden 12 --env tests.environments:Images-v0"
    check_resume(f"--agent ppo {ROBOT} {convolutions} --steps 256", every=128, saves=2)


def test_an_environment_that_cannot_be_read_begins_a_new_episode_and_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [*f"{ROBOT} --env tests.environments:Opaque-v0 --run-dir r".split(), "--checkpoint-every", "128"]
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(StoppedError):
            train.main(words)
    assert "Note: " in (first := capsys.readouterr().out)
    assert "begins new episodes" in first
    assert train.main(words) == 0
    assert "begins new episodes" in capsys.readouterr().out


def checkpoints(run: str) -> list[Path]:
    return sorted(Path(run, "checkpoints").glob("step-*"))


def stopped(saves: int = 4) -> list[str]:
    """A run that was stopped, with two checkpoints; returns its command."""
    words = [*PPO.split(), "--no-preflight", "--run-dir", "r", "--checkpoint-every", "64"]
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, saves)
        with pytest.raises(StoppedError):
            train.main(words)
    assert len(checkpoints("r")) == 2
    return words


def test_a_damaged_checkpoint_is_told_of_and_the_one_before_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    words = stopped()
    older, newer = checkpoints("r")
    content = bytearray((newer / "agent.safetensors").read_bytes())
    content[-3] ^= 1
    (newer / "agent.safetensors").write_bytes(content)
    capsys.readouterr()
    assert train.main(words) == 0
    shown = capsys.readouterr().out
    assert f"Note: {newer / 'agent.safetensors'} has been damaged" in shown
    assert f"Going on from step {int(older.name.removeprefix('step-')):,}" in shown
    assert train.main([*words[:-4], "--run-dir", "whole", "--quiet"]) == 0
    assert differences(Path("whole"), Path("r")) == []


def test_without_a_whole_checkpoint_the_run_begins_anew_beside_what_there_was(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = stopped()
    for path in checkpoints("r"):
        (path / "manifest.json").write_text("{")
    recorded = Path("r/episodes.csv").read_bytes()
    capsys.readouterr()
    assert train.main(words) == 0
    assert "it is kept in r.old1" in capsys.readouterr().out
    assert Path("r.old1/episodes.csv").read_bytes() == recorded


def test_restart_begins_anew_and_keeps_the_other() -> None:
    words = stopped()
    assert train.main([*words, "--restart"]) == 0
    assert len(checkpoints("r.old1")) == 2
    assert not Path("r/checkpoints").exists(), "a finished run needs none"


def test_a_checkpoint_of_an_unknown_format_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "FORMAT", 99)
        words = stopped()
    before = {path: path.read_bytes() for path in Path("r").rglob("*") if path.is_file()}
    capsys.readouterr()
    assert train.main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "99" in error
    assert "--restart" in error
    before = {path: content for path, content in before.items() if path.name != "run.lock"}
    assert {path: path.read_bytes() for path in before} == before, "nothing was touched"


@pytest.mark.parametrize(
    ("part", "content"),
    [
        ("agent", {}),
        ("agent", {"numbers": {"train": 1}, "policy": {}, "optimizers": []}),
        ("environments", {"rows": []}),
        ("interventions", []),
        ("recording", {"recorder": {"lengths": {}}, "guard": {}}),
        ("recording", {"recorder": {"lengths": {"../secret": 3}}}),
        ("recording", None),
        ("random", {"python": None}),
    ],
)
def test_a_forged_checkpoint_is_refused_in_a_sentence(
    part: str, content: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    words = stopped(2)
    Path("secret").write_text("secret")
    store = Store(Path("r/checkpoints"))
    newest = store.newest()
    assert newest is not None
    store.save(newest.step, {name: newest.read(name) for name in newest.parts} | {part: content}, newest.about)
    assert train.main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--restart" in error
    assert Path("secret").read_text() == "secret"


def test_a_run_of_the_first_format_is_taken_up(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(Path(__file__).parent / "data" / "run_format_1", "r")
    before = Path("r/episodes.csv").read_text()
    assert train.main(["--config", "r/config.yaml", "--run-dir", "r"]) == 0
    shown = capsys.readouterr().out
    assert "Going on from step 100" in shown
    if versions()["torch"] != "2.13.0+cpu":
        assert "torch was 2.13.0+cpu" in shown, "other versions may give other bits, and that is said"
    assert Path("r/episodes.csv").read_text().startswith(before)
    rows = Path("r/tasks.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["task", "0", "1", "2"]
    assert SB3SAC.load("r/model.zip").num_timesteps == 150


def test_a_run_whose_tables_are_gone_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    words = stopped()
    Path("r/episodes.csv").unlink()
    assert train.main(words) == 2
    assert "r/episodes.csv has 0 bytes" in capsys.readouterr().err


def test_a_run_goes_on_in_another_folder() -> None:
    words = stopped()
    shutil.move("r", "elsewhere")
    assert train.main([*words[:-4], "--run-dir", "elsewhere", "--quiet"]) == 0
    assert train.main([*words[:-4], "--run-dir", "whole", "--quiet"]) == 0
    assert differences(Path("whole"), Path("elsewhere")) == []


@pytest.mark.parametrize("stepping", ["dummy", "subproc"])
def test_the_same_command_gives_the_same_bits_in_any_number_of_processes(stepping: str) -> None:
    words = [*PPO.split(), "--agent.n-envs", "4", "--no-preflight", "--quiet"]
    assert train.main([*words, "--run-dir", "one"]) == 0
    assert train.main([*words, "--stepping", stepping, "--run-dir", "other"]) == 0
    assert differences(Path("one"), Path("other")) == []
