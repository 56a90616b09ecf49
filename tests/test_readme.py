"""What the README shows works: its Python runs, its commands parse, its files exist."""

import re
import shlex
from pathlib import Path

import pytest

from configs import files
from configs.command_line import parse
from recording.directory import default_path

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


def test_the_run_that_the_commands_name_is_the_one_of_the_first_command() -> None:
    (named,) = {word for command in COMMANDS for word in shlex.split(command) if word.endswith("config.yaml")}
    assert Path(named).parent == default_path(parse(["--agent", "ppo", "--reset", "redo"]))


def test_the_table_of_benchmarks_is_complete() -> None:
    table = re.search(r"## Benchmarks\n(.*?)\n## ", README, re.DOTALL)
    assert table is not None
    assert set(re.findall(r"^\| `(\w+)` \|", table[1], re.MULTILINE)) == set(files.shipped("benchmarks"))


@pytest.mark.parametrize("target", re.findall(r"^make (\w+)", README, re.MULTILINE))
def test_make_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
