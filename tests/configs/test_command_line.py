"""The command line in two stages, its layers, and the resolved configuration that repeats a run."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import train
from agents import AGENTS
from agents.policies import STOCK
from configs import arms, files
from configs.command_line import Config, parse
from configs.help import print_help
from configs.settings import UsageError
from envs.changes import CHANGES
from envs.compositions import Composition
from envs.normalize import Normalization
from envs.schedules import COMPOSITIONS, SCHEDULES, Geometric
from optimizers import OPTIMIZERS
from regularizers import REGULARIZERS
from resets import RESETS

OURS = {"exploration_noise", "n_envs"}
"""Settings of agents that SB3 has no argument for."""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a YAML file and gives its name."""
    monkeypatch.chdir(tmp_path)

    def to_file(text: str, name: str = "x.yaml") -> str:
        Path(name).write_text(text)
        return name

    return to_file


@pytest.mark.parametrize("name", AGENTS)
def test_defaults_of_agents_are_those_of_sb3(name: str) -> None:
    agent = AGENTS[name]
    arguments = inspect.signature(agent.algorithm.__init__).parameters
    for entry in fields(agent):
        if entry.name not in OURS:
            assert arguments[entry.name].default == entry.default, entry.name


def test_an_optimizer_is_named_with_its_settings(write: Any) -> None:
    config = parse(["--optimizer", "unit-adam", "--optimizer.betas", "0.99,0.98", "--reset", "redo"])
    assert config.optimizer == OPTIMIZERS["unit_adam"](betas=(0.99, 0.98))  # type: ignore[call-arg]
    assert config.arm == "redo+unit_adam"
    assert config.as_dict()["optimizer"] == {
        "name": "unit_adam",
        "betas": [0.99, 0.98],
        "eps": None,
        "weight_decay": 0.0,
    }
    name = write("env: CartPole-v1\noptimizer: {name: trac, start: 1e-7}\n")
    assert parse(["--config", name]).optimizer == OPTIMIZERS["trac"](start=1e-7)  # type: ignore[call-arg]
    assert parse(["--config", name, "--optimizer.start", "1e-6"]).optimizer.start == 1e-6  # type: ignore[attr-defined]
    again = parse(["--config", name, "--optimizer", "agent"])
    assert (again.optimizer.policy_kwargs(), again.optimizer.interventions(), again.arm) == ({}, [], "none")


def test_the_fresh_arm_is_the_one_that_starts_everything_anew_at_switches_and_nothing_else() -> None:
    assert parse(["--reset", "full"]).arm == "fresh"
    for more in (
        "--reset.when periodic", "--reset.parts head", "--reset.networks actor", "--regularizer l2",
        "--optimizer unit_adam", "--network.activation crelu", "--normalize moving",
    ):  # fmt: skip
        assert parse(["--reset", "full", *more.split()]).arm != "fresh"
    assert parse(["--reset", "full+redo"]).arm == "full+redo"
    assert set(arms.STOCK_ACTIVATIONS) == {"agent", *STOCK}


def test_an_arm_is_named_by_all_that_differs_from_the_plain_agent() -> None:
    words = "--network.activation crelu --network.layer-norm before --regularizer spectral --optimizer sam"
    assert parse(words.split()).arm == "spectral+crelu+layer_norm+sam"
    assert parse(["--network.activation", "tanh", "--network.hidden", "32"]).arm == "none"


def test_without_arguments_the_default_benchmark_runs() -> None:
    for words, arm in (("--optimizer.eps 1e-9", "none"), ("--optimizer.betas 0.9,0.99", "adam")):
        assert parse(["--optimizer", "adam", *words.split()]).arm == arm
    config = parse([])
    assert (config.benchmark, config.run.env, config.run.steps) == ("cartpole_permuted", "CartPole-v1", 368_640)
    assert config.names == {"agent": "ppo", "network": "mlp", "schedule": "permuted", "optimizer": "agent"}
    assert (config.arm, list(config.tasks.changes)) == ("none", ["observation_permutation", "action_permutation"])
    assert (config.agent.n_envs, config.network.hidden) == (8, (64, 64))


def test_an_environment_alone_runs_nothing_that_changes() -> None:
    config = parse(["--env", "Pendulum-v1", "--agent=sac"])
    assert (config.names["schedule"], config.tasks.changes, config.benchmark) == ("stationary", {}, "")
    assert config.agent == AGENTS["sac"]()


def test_flags_go_over_files_and_files_over_defaults(write: Any) -> None:
    name = write("env: CartPole-v1\nsteps: 1e4\nagent: {name: ppo, learning_rate: 1e-2, n_steps: 64}\nreset: redo\n")
    config = parse(["--config", name, "--agent.n-steps", "128", "--reset.tau", "0.05"])
    assert (config.run.steps, config.agent.learning_rate, config.agent.n_steps) == (10_000, 1e-2, 128)  # type: ignore
    assert config.resets == {"redo": RESETS["redo"](tau=0.05)}  # type: ignore[call-arg]


def test_another_name_leaves_the_files_block_of_the_first(write: Any) -> None:
    name = write("env: Pendulum-v1\nagent: {name: ppo, n_steps: 64}\nreset: {redo: {tau: 0.2}, full: {parts: head}}\n")
    config = parse(["--config", name, "--agent", "sac", "--reset", "full"])
    assert config.agent == AGENTS["sac"]()
    assert config.resets == {"full": RESETS["full"](parts="head")}  # type: ignore[call-arg]
    assert parse(["--config", name, "--reset", "none"]).resets == {}


@pytest.mark.parametrize("given_as", ["redo+shrink_perturb", "redo+shrink-perturb", "redo+shrink_perturb,"])
def test_several_resets(given_as: str) -> None:
    config = parse(["--reset", *given_as.split(), "--reset.tau", "0.3", "--reset.shrink-perturb.when", "periodic"])
    assert config.arm == "redo+shrink_perturb"
    assert config.resets["redo"].tau == 0.3  # type: ignore[attr-defined]
    assert config.resets["shrink_perturb"].when == "periodic"  # type: ignore[attr-defined]


@pytest.mark.parametrize("short_first", [True, False])
def test_of_a_short_and_a_full_flag_the_later_holds(short_first: bool) -> None:
    pair = [["--reset.tau", "0.3"], ["--reset.redo.tau", "0.2"]]
    words = [word for flag in (pair if short_first else pair[::-1]) for word in flag]
    assert parse(["--reset", "redo", *words]).resets["redo"].tau == (0.2 if short_first else 0.3)  # type: ignore


def test_settings_of_a_shipped_schedule_are_changed_one_by_one(write: Any) -> None:
    block = "schedule: {name: friction, period: 500, changes: {mujoco_friction: {low: 0.5}}}"
    config = parse(["--config", write(f"env: Hopper-v5\n{block}\n"), "--schedule.seed", "3"])
    friction = config.tasks.changes["mujoco_friction"]
    assert (config.tasks.schedule.period, config.tasks.schedule.seed) == (500, 3)  # type: ignore[attr-defined]
    assert (friction.low, friction.high, friction.draw) == (0.5, 2.0, "log_uniform")  # type: ignore[attr-defined]


LABELLED = "kind: periodic\nperiod: 32\nchanges: {%s: {change: reward_scale, values: [1, -1]}}\n"


def test_a_label_names_a_change(write: Any) -> None:
    config = parse(["--schedule", write(LABELLED % "my_flip"), "--schedule.my-flip.values", "1,-2"])
    assert config.tasks.changes == {"my_flip": CHANGES["reward_scale"](values=(1.0, -2.0))}  # type: ignore[call-arg]


@pytest.mark.parametrize("label", ["class", "task", "seed", "kind", "my label", "a__b", "_a", "3a", "'3'", "a-b", "''"])
def test_a_label_that_could_be_no_flag_is_refused(write: Any, label: str) -> None:
    with pytest.raises(UsageError, match="cannot label a change"):
        parse(["--schedule", write(LABELLED % (label if label.startswith("'") else f"'{label}'"))])


@pytest.mark.parametrize(
    "name", ["[reward_scale]", "{reward_scale: 1}", "3", "1.5", "true", "null", "2020-01-01", "''"]
)
def test_a_change_whose_name_is_no_text_is_told_in_a_sentence(
    write: Any, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write((LABELLED % "x").replace("change: reward_scale", f"change: {name}"))
    assert train.main(["--env", "CartPole-v1", "--schedule", path]) == 2
    found = capsys.readouterr().err
    assert found.startswith(f"train.py: error: {path}: there is no change ")
    assert "choose one of observation_permutation, " in found
    assert found.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--agnet ppo", ["--agnet", "did you mean '--agent'"]),
        ("--agent pp", ["--agent", "'pp'", "ppo, sac", "did you mean 'ppo'"]),
        ("--agent", ["--agent takes a name"]),
        ("--agent=", ["--agent takes a name"]),
        ("--agent ppo,sac", ["--agent takes one name, not 2"]),
        ("--reset", ["--reset takes a name"]),
        ("--reset ,", ["--reset takes a name"]),
        ("--reset none+redo", ["--reset", "none stands alone"]),
        ("--reset fresh+redo", ["--reset", "fresh stands alone"]),
        ("--reset fresh --reset.tau 1", ["--reset.tau", "fresh arm has no settings", "--reset full"]),
        ("--reset redo,cbp", ["--reset takes one arm here, not 2: redo, cbp"]),
        ("--reset redo+redo", ["--reset names redo twice"]),
        ("--reset reod", ["no reset 'reod'", "none, fresh, redo", "did you mean 'redo'"]),
        ("--reset.tau 0.3", ["--reset.tau", "no reset is chosen"]),
        ("--reset redo --reset.tua 3", ["--reset.redo.tua", "'--reset.redo.tau'"]),
        ("--reset redo --reset.tau 3", ["--reset.redo.tau", "below 1", "not 3"]),
        ("--reset redo+shrink_perturb --reset.when switch", ["--reset.redo.when or --reset.shrink-perturb.when"]),
        ("--regularizer redo", ["no regularizer 'redo'", "spectral"]),
        ("--optimizer unitadam", ["no optimizer 'unitadam'", "agent, adam, equal_betas", "did you mean 'unit_adam'"]),
        ("--optimizer adam,trac", ["--optimizer takes one name, not 2"]),
        ("--optimizer.betas 0.9,0.9", ["--optimizer.betas", "own optimizer has no settings", "unit_adam"]),
        ("--optimizer adam --optimizer.bets 0.9", ["'--optimizer.betas'"]),
        ("--optimizer adam --optimizer.betas 0.9", ["--optimizer.betas", "two numbers, not 1"]),
        ("--optimizer adam_rel --optimizer.betas 0.99,0.99", ["--optimizer.betas", "10 times the learning rate"]),
        ("--network nope", ["no network 'nope'", "mlp, cnn"]),
        ("--schedule permutted", ["no schedule 'permutted'", "did you mean 'permuted'"]),
        ("--schedule gone.yaml", ["no file 'gone.yaml'"]),
        ("--schedule permuted --schedule.period 0", ["--schedule.period", "above 0"]),
        ("--config", ["--config takes one value, got none"]),
        ("--config .", ["no benchmark '.'"]),
        ("--seed 4294967296", ["--seed", "4294967295", "not 4294967296"]),
        ("--seed 99999999999999999999", ["--seed", "not 99999999999999999999"]),
        ("--steps 0", ["--steps", "above 0"]),
        ("--threads 100000", ["--threads", "256"]),
        ("--device banana", ["--device", "cuda", "'banana'"]),
        ("--device cpu:7", ["--device", "'cpu:7'"]),
        ("--agent.batch-size 7", ["--agent.batch-size", "2048", "7"]),
        ("--agent.learning-rate inf", ["--agent.learning-rate", "finite"]),
        ("--agent.learning-rate 1e308", ["--agent.learning-rate", "at most 1e+30"]),
        ("--schedule.period 1 --steps 1000001", ["1,000,001 steps", "1,000,001 tasks", "1,000,000 are the most"]),
        (f"--run-dir a/{'b' * 201}/c", ["--run-dir", "200 bytes, not of 201"]),
        ("--run-dir ~nobody-of-this-name/x", ["--run-dir", "~nobody-of-this-name/x"]),
        ("--run-dir a\udc80", ["--run-dir", "can be printed", "udc80"]),
        ("--config cartpole_permuted --scale 1e308", ["--scale", "at most 1e+30"]),
        ("--config cartpole_permuted --scale 1e29", ["period", "whole number of at most"]),
        ("--run-dir a\0b", ["--run-dir", "can be printed", "x00"]),
    ],
)
def test_mistakes_are_named(words: str, expected: list[str]) -> None:
    with pytest.raises(UsageError) as error:
        parse(words.split())
    message = str(error.value)
    assert all(word in message for word in expected), message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("envv: CartPole-v1", ["x.yaml: envv", "'env'"]),
        ("agnet: {name: ppo}", ["x.yaml: agnet", "'agent'"]),
        ("agent: {learning_rate: 1e-3}", ["x.yaml: agent needs a 'name'"]),
        ("agent: {name: [ppo]}", ["x.yaml: agent needs a 'name', not ['ppo']"]),
        ("agent: [ppo, sac]", ["x.yaml: agent takes one name"]),
        ("agent: {name: ppo, learning_rat: 1}", ["x.yaml: agent.learning_rat", "'agent.learning_rate'"]),
        ("reset: 5", ["x.yaml: reset", "5"]),
        ("reset: {redo: 5}", ["x.yaml: reset.redo", "5"]),
        ("reset: [redo, redo]", ["x.yaml: reset", "twice"]),
        ("reset: [redo, none]", ["x.yaml: reset", "none stands alone"]),
        ("reset: [{redo: {tau: 0.2}}]", ["x.yaml: reset"]),
        ("seed: 2020-01-01", ["x.yaml: seed", "whole number"]),
        ("benchmark: ../elsewhere", ["x.yaml: benchmark", "without slashes"]),
        ("benchmark: [a]", ["x.yaml: benchmark", "['a']"]),
        ("benchmark: ..", ["x.yaml: benchmark", "'..'"]),
        ("schedule: {name: permuted, period: {a: 1}}", ["period.a"]),
        ("schedule: {kind: perodic}", ["kind", "'perodic'", "did you mean 'periodic'"]),
        ("schedule: {kind: periodic}", ["--schedule.period is missing"]),
        ("schedule: {kind: periodic, period: 9, changes: [reward_scale]}", ["changes", "name: value"]),
        ("schedule: {kind: periodic, period: 9, changes: {reward_scale: 3}}", ["changes.reward_scale", "3"]),
        ("schedule: {kind: periodic, period: 9, changes: {reward_scal: {}}}", ["'reward_scal'", "'reward_scale'"]),
    ],
)
def test_mistakes_in_files_are_named(write: Any, text: str, expected: list[str]) -> None:
    with pytest.raises(UsageError) as error:
        parse(["--config", write(text + "\n")])
    message = str(error.value)
    assert all(word in message for word in expected), message


def test_a_home_and_folders_above_may_hold_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert parse(["--run-dir=~/x"]).run.run_dir == Path("/somewhere/x")
    assert parse(["--run-dir", "../a/../b"]).run.run_dir == Path("../a/../b")


@pytest.mark.parametrize("lengths", ["[9000000000000000000]", "[10]"])
def test_tasks_without_number_are_refused_in_compositions(write: Any, lengths: str) -> None:
    one = "{kind: geometric, period: 1, changes: {reward_scale: {}}}"
    name = write(f"kind: stages\nlengths: {lengths}\nparts: {{one: {one}, two: {one}}}\n")
    with pytest.raises(UsageError, match=r"tasks of this schedule, and 1,000,000 are the most"):
        parse(["--env", "CartPole-v1", "--schedule", name, "--steps", "1000100"])


def test_empty_blocks_are_the_defaults(write: Any) -> None:
    config = parse(["--config", write("env: CartPole-v1\nagent:\nschedule:\nreset:\nregularizer: none\nnetwork:\n")])
    assert (config.names["agent"], config.names["schedule"], config.arm) == ("ppo", "stationary", "none")


def resolved(config: Config) -> Mapping[str, Any]:
    kept = ("agent", "network", "optimizer", "resets", "regularizers", "names", "schedule_seed")
    return {name: getattr(config, name) for name in kept} | {
        "run": config.run,
        "schedule": config.tasks.schedule,
        "changes": config.tasks.changes,
    }


FLOATS = st.floats(1e-12, 1.0)
LINES = st.fixed_dictionaries(
    {
        "--seed": st.integers(0, 2**32 - 1),
        "--steps": st.integers(1, 10**8),
        "--agent": st.sampled_from(sorted(AGENTS)),
        "--agent.learning-rate": FLOATS,
        "--agent.gamma": FLOATS,
        "--schedule": st.sampled_from(sorted(files.shipped("schedules"))),
        "--schedule.seed": st.none() | st.integers(0, 2**63),
        "--network.hidden": st.none() | st.lists(st.integers(1, 512), min_size=1, max_size=3),
        "--regularizer": st.sampled_from(["none", *REGULARIZERS]),
        "--optimizer": st.sampled_from(["agent", *OPTIMIZERS]),
        "--reset": st.permutations(sorted(RESETS)),
        "--reset.redo.tau": st.floats(-1.0, -1e-9) | st.floats(1e-9, 0.999),
        "--reset.shrink-perturb.perturb": FLOATS,
        "--env": st.sampled_from(["CartPole-v1", "Hopper-v5"]),
    }
)


@given(line=LINES)
@settings(max_examples=8, deadline=None)
def test_the_resolved_configuration_is_read_as_the_same(
    tmp_path_factory: pytest.TempPathFactory, line: dict[str, Any]
) -> None:
    """Any valid settings -> as_dict -> YAML -> parse gives equal settings, in the same order."""
    joined = {
        flag: ("+" if flag == "--reset" else ",").join(map(str, v)) if isinstance(v, list) else v
        for flag, v in line.items()
    }
    words = [f"{flag}={v}" for flag, v in joined.items()]
    config = parse(words)
    path = tmp_path_factory.getbasetemp() / "resolved.yaml"
    files.write(path, config.as_dict(), "Resolved.")
    again = parse(["--config", str(path)])
    assert resolved(again) == resolved(config)
    assert list(again.resets) == list(config.resets)
    assert again.as_dict() == config.as_dict() == files.read(path)


@pytest.mark.parametrize("name", files.shipped("benchmarks"))
def test_shipped_benchmarks_parse(name: str) -> None:
    assert parse(["--config", name]).benchmark == name


def test_help_lists_everything_that_can_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    print_help([])
    text = capsys.readouterr().out
    names = [
        *AGENTS,
        *RESETS,
        *REGULARIZERS,
        *OPTIMIZERS,
        *CHANGES,
        *SCHEDULES,
        *COMPOSITIONS,
        *files.shipped("schedules"),
        "mlp",
        "cnn",
        "HalfCheetah-v5",
    ]
    flags = ["--env", "--steps", "--seed", "--device", "--run-dir", "--config", "--verify", "--quiet"]
    assert [word for word in names + flags if word not in text] == []


def test_help_runs_on_where_a_docstring_breaks_its_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "2000")
    print_help(["--reset", "cbp"])
    assert "Dohare et al. 2024; one of 64 units every 156 steps" in capsys.readouterr().out


def test_help_on_a_method_shows_settings_defaults_and_source(capsys: pytest.CaptureFixture[str]) -> None:
    print_help(["--reset", "redo"])
    text = capsys.readouterr().out
    assert all(word in text for word in ["--reset.tau", "0.1", "Sokar", "--reset.moments {keep,zero,zero_and_step}"])
    with pytest.raises(UsageError, match="no reset 'rdo'"):
        print_help(["--reset", "rdo"])


COMPOSED = """
kind: together
signal: info
parts:
  slow: {kind: drift, period: 4000, changes: {length: {change: cartpole, low: 0.3, high: 0.9}}}
  fast: {kind: geometric, period: 1000, shortest: 64, changes: {reward_scale: {}}}
"""


def test_compositions_of_schedules(write: Callable[..., str]) -> None:
    name = write(COMPOSED)
    words = ["--env", "CartPole-v1", "--schedule", name, "--schedule.fast.shortest", "128"]
    config = parse([*words, "--schedule.slow.length.low", "0.2", "--seed", "6"])
    tasks = config.tasks
    assert isinstance(tasks, Composition)
    assert (tasks.signal, tasks.boundary, tasks.seed) == ("info", "truncate", 6)
    assert tasks.parts["fast"].schedule == Geometric(period=1000, shortest=128, seed=6)
    assert tasks.changes["length"].low == 0.2  # type: ignore[attr-defined]
    path = write(yaml.safe_dump(config.as_dict()), "resolved.yaml")
    assert parse(["--config", path]).as_dict() == config.as_dict()
    block = {"name": name, "parts": {"slow": {"curve": "sigmoid"}}, "fast": {"period": 700}}
    merged = parse(["--config", write(yaml.safe_dump({"env": "CartPole-v1", "schedule": block}), "c.yaml")]).tasks
    assert isinstance(merged, Composition)
    assert (merged.parts["slow"].schedule.curve, merged.parts["fast"].schedule.period) == ("sigmoid", 700)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("signal: info", "sginal: info", "'schedule.sginal' is not a setting here|sginal"),
        ("kind: drift", "kind: drfit", "kind must be one of .* not 'drfit'; did you mean 'drift'"),
        ("slow:", "class:", "'class' cannot label a part"),
        ("{kind: drift,", "{kind: drift, boundary: immediate,", "boundary is set for all parts together, not for slow"),
        ("{kind: drift,", "{kind: together,", "kind must be one of .*, not 'together'"),
        ("reward_scale: {}", "length: {change: reward_scale}", "two parts have a change labelled length"),
        ("parts:", "prats:", "together needs parts, each with a kind and changes of its own"),
    ],
)
def test_compositions_that_are_wrong(write: Callable[..., str], old: str, new: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(["--env", "CartPole-v1", "--schedule", write(COMPOSED.replace(old, new))])


def test_scale_shrinks_what_files_say_and_not_what_flags_say(write: Callable[..., str]) -> None:
    config = parse(["--scale", "0.1"])
    assert (config.run.steps, config.tasks.schedule.period) == (36_864, 3_072)
    config = parse(["--scale", "0.1", "--steps", "5000", "--schedule.period", "400"])
    assert (config.run.steps, config.tasks.schedule.period) == (5000, 400)
    assert parse(["--scale", "1"]).as_dict() == parse([]).as_dict()
    text = "env: CartPole-v1\nnormalize: {policy: moving, horizon: 4000}\n"
    assert parse(["--config", write(text), "--scale", "0.5"]).normalize.horizon == 2000
    assert "scale" not in config.as_dict()


def test_normalisation_is_named_in_short_and_in_full(write: Callable[..., str]) -> None:
    config = parse(["--normalize", "moving", "--normalize.horizon", "500"])
    assert config.normalize == Normalization(policy="moving", horizon=500)
    assert config.arm == "norm_moving"
    for text in ("normalize: reset", "normalize: {policy: reset}"):
        assert parse(["--config", write(f"env: CartPole-v1\n{text}\n")]).normalize == Normalization(policy="reset")
