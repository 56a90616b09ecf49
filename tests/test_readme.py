"""What the README shows works: its Python runs, its commands parse, its files exist."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

import sweep
from configs import files
from configs.command_line import parse
from configs.help import print_help
from configs.population import read
from recording.directory import default_path
from sweeping.plan import find, read_sweep

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
PROSE = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
COMMANDS = [
    line.split("#")[0].strip()
    for language, block in BLOCKS
    if language == "console"
    for line in block.splitlines()
    if line.startswith("python train.py")
]


@pytest.mark.parametrize("code", [block for language, block in BLOCKS if language == "python"])
def test_python_blocks_run(code: str) -> None:
    exec(code, {})


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    schedule = next(block for language, block in BLOCKS if language == "yaml")
    (tmp_path / "slippery.yaml").write_text(schedule)
    arguments = shlex.split(command)[2:]
    named = arguments[arguments.index("--config") + 1] if "--config" in arguments else ""
    if named.endswith(".yaml"):  # of a run that the reader has made
        config = tmp_path / named
        config.parent.mkdir(parents=True)
        config.write_text(yaml.safe_dump(parse(["--reset", "redo"]).as_dict()))
    if "--help" in arguments:
        print_help([word for word in arguments if word != "--help"])
        assert capsys.readouterr().out
    else:
        read(arguments)


@pytest.mark.parametrize("line", re.findall(r"^python sweep\.py .*$", README, re.MULTILINE))
def test_sweeps_can_be_read(line: str) -> None:
    options = sweep.read(shlex.split(line.split("#")[0])[2:])
    assert read_sweep(find(options.sweep)).cells


def test_the_run_that_the_commands_name_is_the_one_of_the_first_command() -> None:
    (named,) = {word for command in COMMANDS for word in shlex.split(command) if word.endswith("config.yaml")}
    assert Path(named).parent == default_path(parse(["--agent", "ppo", "--reset", "redo"]))


def test_the_table_of_benchmarks_is_complete() -> None:
    table = re.search(r"## Benchmarks\n(.*?)\n## ", README, re.DOTALL)
    assert table is not None
    assert set(re.findall(r"^\| `(\w+)` \|", table[1], re.MULTILINE)) == set(files.shipped("benchmarks"))


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#]+)\)", PROSE))
def test_links_lead_to_files(target: str) -> None:
    assert target.startswith("https://") or (ROOT / target).exists()


@pytest.mark.parametrize("target", re.findall(r"^make (\w+)", README, re.MULTILINE))
def test_make_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
