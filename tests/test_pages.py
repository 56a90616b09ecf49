"""Every code block of the README and of the documentation works: Python runs, YAML is read, commands are understood."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from stable_baselines3 import PPO

import report
import sweep
from configs.command_line import parse
from configs.help import print_help
from configs.population import read
from configs.settings import UsageError
from envs.reading import read_tasks
from sweeping.plan import find, read_sweep

ROOT = Path(__file__).parent.parent
PAGES = {str(path.relative_to(ROOT)): path for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]}
# In new_method.md code, test and row belong together: tests/test_docs.py runs them.
ELSEWHERE = {"docs/new_method.md"}
OTHERS = ("sbatch", "make", "tensorboard", "python -m rl_zoo3")
"""How commands of other programs begin."""


class Block(NamedTuple):
    """What stands between two fences."""

    page: str
    language: str
    code: str


BLOCKS = [
    Block(page, *found)
    for page, path in PAGES.items()
    for found in re.findall(r"```(\w*)\n(.*?)```", path.read_text(), re.DOTALL)
    if page not in ELSEWHERE
]


def commands() -> Iterator[tuple[str, str]]:
    """Page and command, without what a comment, or words after several spaces, say of it."""
    for page, language, code in BLOCKS:
        if language == "console":
            for line in code.splitlines():
                command = re.split(r"\s+#|\s{4,}", line.strip())[0]
                if command.startswith(("python ", *OTHERS)):
                    yield page, command


COMMANDS = list(commands())


def by_page(language: str) -> list[Any]:
    return [pytest.param(block, id=f"{block.page}-{n}") for n, block in enumerate(BLOCKS) if block.language == language]


def test_there_are_blocks() -> None:
    assert len(COMMANDS) > 40
    assert {block.language for block in BLOCKS} <= {"", "console", "python", "yaml", "csv", "text"}
    assert [page for page, language, _ in BLOCKS if not language] == ["docs/design.md"], "a drawing"
    lines = sum(block.code.count("\n") for block in BLOCKS if block.language == "console")
    assert len(COMMANDS) == lines, "nothing but commands"


@pytest.mark.parametrize("block", by_page("python"))
def test_python_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=64, batch_size=64, device="cpu").learn(64)
    exec(block.code, {"model": model, "observations": model.rollout_buffer.observations.reshape(-1, 4)})


@pytest.mark.parametrize("block", by_page("yaml"))
def test_yaml_is_read(block: Block, tmp_path: Path) -> None:
    tree = yaml.safe_load(block.code.replace("!!float ", ""))
    if "kind" in tree:
        assert read_tasks(tree).n_tasks(10_000_000) > 1
    elif "benchmarks" in tree:
        path = tmp_path / "shown.yaml"
        path.write_text(block.code)
        assert read_sweep(path).cells
    else:  # what rl-zoo3 reads; tests/test_docs.py makes the callback of it
        assert block.page == "docs/rl_zoo.md"


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a reader has saved the files that pages show, and made the run that they name."""
    monkeypatch.chdir(tmp_path)
    for block in BLOCKS:
        named = re.match(r"# (\w+\.yaml)", block.code)
        if block.language == "yaml" and named:
            (tmp_path / named[1]).write_text(block.code)
    return tmp_path


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[f"{page}: {command}" for page, command in COMMANDS])
def test_commands_are_understood(page: str, command: str, reader: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if command.startswith(OTHERS):
        return
    words = shlex.split(command)[1:]
    if words[0] == "train.py":
        named = words[words.index("--config") + 1] if "--config" in words else ""
        if named.startswith("runs/"):
            (reader / named).parent.mkdir(parents=True)
            (reader / named).write_text(yaml.safe_dump(parse(["--reset", "redo"]).as_dict()))
        if "--help" in words:
            print_help([word for word in words[1:] if word != "--help"])
            assert capsys.readouterr().out
        else:
            read(words[1:])
    elif words[0] == "sweep.py":
        options = sweep.read(words[1:])
        assert read_sweep(find(options.sweep)).cells
    elif words[0] == "report.py":
        assert report.read(words[1:]).runs
    elif words[0] == "-m":
        assert (ROOT / words[1].replace(".", "/")).with_suffix(".py").exists() or (ROOT / words[1]).is_dir()
    else:
        script, own = (ROOT / words[0]).read_text(), words[: words.index("--")] if "--" in words else words
        for flag in (word for word in own if word.startswith("--")):
            assert f'"{flag}"' in script, f"{words[0]} has no {flag}"


def test_a_command_that_is_wrong_would_be_found() -> None:
    with pytest.raises(UsageError, match="did you mean"):
        read(["--rest", "redo"])


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page: str) -> None:
    prose = re.sub(r"```.*?```", "", PAGES[page].read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", prose):
        assert target.startswith("https://") or (PAGES[page].parent / target).exists(), target
