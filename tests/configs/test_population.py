"""Command lines of many runs: which arms and seeds they name, and that each member is the run it would be alone."""

import pickle
from pathlib import Path

import pytest

from configs.command_line import Config, parse
from configs.help import print_help
from configs.population import LONGEST_LIST, Population, read
from configs.settings import UsageError
from recording.directory import default_path
from recording.members import default_population_path


def population(line: str) -> Population:
    found = read(line.split())
    assert isinstance(found, Population)
    return found


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("--reset redo --seeds 3", "redo-s0 redo-s1 redo-s2"),
        ("--seed 7 --seeds 2", "none-s7 none-s8"),
        ("--seeds 3,5,9", "none-s3 none-s5 none-s9"),
        ("--seeds 1", "none-s0"),
        ("--reset none,redo", "none-s0 redo-s0"),
        ("--reset none redo", "none-s0 redo-s0"),
        ("--reset none,redo --seeds 2", "none-s0 none-s1 redo-s0 redo-s1"),
        ("--reset redo+swr,cbp", "redo+swr-s0 cbp-s0"),
        (
            "--reset fresh,redo --regularizer none,l2+spectral",
            "fresh-s0 full+l2+spectral-s0 redo-s0 redo+l2+spectral-s0",
        ),
    ],
)
def test_arms_and_seeds(line: str, names: str) -> None:
    assert population(line).names == names.split()


def test_without_arms_and_seeds_it_is_one_run() -> None:
    assert isinstance(read(["--reset", "redo+swr", "--regularizer", "l2"]), Config)


@pytest.mark.parametrize(
    ("line", "alone"),
    [
        ("--reset redo,cbp --seeds 2", ["--reset redo", "--reset cbp"]),
        ("--reset none,redo --reset.tau 0.05 --seeds 2", ["", "--reset redo --reset.tau 0.05"]),
        ("--reset redo,swr --reset.redo.every 7", ["--reset redo --reset.every 7", "--reset swr"]),
        (
            "--reset fresh,full+redo --reset.full.parts head --reset.tau 0.3",
            ["--reset full", "--reset full+redo --reset.full.parts head --reset.tau 0.3"],
        ),
        (
            "--reset redo --regularizer none,l2,spectral --regularizer.l2.strength 1e-3 --network.hidden 32",
            [
                f"--network.hidden 32 --reset redo{more}"
                for more in ("", " --regularizer l2 --regularizer.strength 1e-3", " --regularizer spectral")
            ],
        ),
        ("--schedule rotated --seeds 4,6 --schedule.period 4096", ["--schedule rotated --schedule.period 4096"]),
    ],
)
def test_each_member_is_the_run_that_it_would_be_alone(line: str, alone: list[str]) -> None:
    found = population(line)
    singles = [parse([*words.split(), "--seed", str(seed)]) for words in alone for seed in found.seeds]
    for member, single in zip(found.members, singles, strict=True):
        assert member.as_dict() == single.as_dict()
        assert default_path(member) == default_path(single)
        assert member.tasks.seed == single.tasks.seed == single.run.seed
        assert member.tasks.schedule == single.tasks.schedule
        assert member.tasks.changes == single.tasks.changes


def test_a_fresh_arm_is_what_it_is_whatever_a_file_says(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("env: CartPole-v1\nreset: {full: {parts: head}}\n")
    found = population(f"--config {path} --reset full,fresh")
    assert [config.arm for config in found.members] == ["full", "fresh"]
    assert found.members[1].as_dict()["reset"] == parse(["--reset", "full"]).as_dict()["reset"]


def test_members_share_nothing_that_changes() -> None:
    first, second = population("--reset redo --regularizer spectral --seeds 2").members
    for group in ("resets", "regularizers", "metrics"):
        for name, own in getattr(first, group).items():
            assert own == getattr(second, group)[name]
            assert own is not getattr(second, group)[name]
    assert first.run is not second.run


def test_a_population_is_named_after_its_arms_and_seeds() -> None:
    assert default_population_path(population("--reset none,redo --seeds 8")).name.startswith("ppo-none,redo-s0-7-")
    assert population("--seeds 3,5").title == "none-s3,5"
    resets = "redo,regrama,cbp,cpr,snr,shrink_perturb,swr,interpolate,fire,dash,hare_tortoise,soft_reset"
    many = population(f"--reset {resets} --seeds {','.join(map(str, range(100, 200, 3)))}")
    assert many.title == "12-arms-s100-and-33-more"
    assert len(population("--reset redo,cbp --seeds 300").title) < LONGEST_LIST
    other = [
        default_population_path(population(f"--reset none,redo --reset.tau {tau} --seeds 2")) for tau in (0.1, 0.2)
    ]
    assert other[0] != other[1]
    unrecorded = population("--reset none,redo --seeds 2 --processes 2 --quiet --no-stack")
    assert default_population_path(unrecorded) == default_population_path(population("--reset none,redo --seeds 2"))


def test_a_population_can_be_sent_to_another_process() -> None:
    found = population("--reset none,redo --agent sac --env Pendulum-v1 --schedule pendulum_mass_drift --seeds 2")
    assert pickle.loads(pickle.dumps(found)).digest == found.digest


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--seeds 0", ["--seeds must be a number from 1 to 4,096", "not 0"]),
        ("--seeds 4097", ["--seeds must be a number from 1 to 4,096", "not 4,097"]),
        ("--seeds", ["--seeds must be a number from 1"]),
        ("--seeds x", ["--seeds", "'x'"]),
        ("--seeds -3", ["--seeds", "at least 0"]),
        ("--seeds 4294967295,4294967296", ["--seeds", "at most 4294967295"]),
        ("--seeds 3,3", ["--seeds names 3 twice"]),
        ("--seeds 0,0", ["--seeds names 0 twice"]),
        ("--seed 1 --seeds 3,4", ["--seed and a list of --seeds exclude each other"]),
        ("--seed 4294967295 --seeds 2", ["goes beyond 4294967295"]),
        ("--seeds 2048 --reset none,redo,cbp", ["6,144 members are too many", "4,096"]),
        ("--reset none,none", ["--reset names the arm none twice"]),
        ("--reset full,fresh", ["two of the arms are fresh"]),
        ("--reset none,redo --regularizer ,", ["--regularizer takes a name, got none"]),
        ("--reset none,redoo", ["no reset 'redoo'", "did you mean 'redo'"]),
        ("--reset none,redo+redo", ["names redo twice"]),
        ("--reset redo,none+cbp", ["none stands alone"]),
        ("--reset none,redo --reset.tua 0.1", ["--reset.redo.tua", "'--reset.redo.tau'"]),
        ("--reset none,fresh --reset.tau 0.1", ["--reset.tau", "no reset is chosen"]),
        ("--reset cbp,none --reset.redo.tau 0.1", ["redo.tau is not a setting"]),
        ("--reset cbp,redo+shrink_perturb --reset.when switch", ["redo and shrink_perturb", "--reset.redo.when"]),
        ("--agent ppo,sac --seeds 2", ["--agent takes one name, not 2"]),
        ("--optimizer adam,trac --seeds 2", ["--optimizer takes one name, not 2"]),
        ("--processes 2", ["--stack and --processes are for a population", "--seeds"]),
        ("--processes 0 --seeds 2", ["--processes must be at least 1"]),
        ("--seds 3", ["did you mean '--seeds'"]),
    ],
)
def test_mistakes_are_named(line: str, expected: list[str]) -> None:
    with pytest.raises(UsageError) as error:
        read(line.split())
    message = str(error.value)
    assert all(word in message for word in expected), message


def test_help_shows_the_settings_of_all_arms(capsys: pytest.CaptureFixture[str]) -> None:
    print_help(["--reset", "none,redo,cbp+fire"])
    shown = capsys.readouterr().out
    assert all(f"--reset.{name}" in shown for name in ("redo.tau", "cbp.maturity", "fire."))
    print_help([])
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("--seeds", "--processes", "--no-stack"))
