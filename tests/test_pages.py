"""Every code block of the README and of the documentation works: Python runs, YAML is read, commands are understood."""

import importlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from stable_baselines3 import PPO
from tensorboard import program
from tensorboard.plugins.base_plugin import FlagsError

import report
import sweep
import train
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
OTHERS = ("sbatch", "make", "tensorboard")
"""How commands of other programs begin."""
NOT_TRIED = ("python -m rl_zoo3.train --algo ppo --env CartPole-v1 --conf-file plastic.yml",)
"""Of programs that nothing here needs; tests/test_docs.py makes the callback of that file."""


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
                if command.startswith(("python ", *OTHERS)) and command not in NOT_TRIED:
                    yield page, command


COMMANDS = list(commands())


def by_page(language: str) -> list[Any]:
    return [pytest.param(block, id=f"{block.page}-{n}") for n, block in enumerate(BLOCKS) if block.language == language]


def test_there_are_blocks() -> None:
    assert len(COMMANDS) > 40
    assert {block.language for block in BLOCKS} <= {"", "console", "python", "yaml", "csv", "text"}
    assert [page for page, language, _ in BLOCKS if not language] == ["docs/design.md"], "a drawing"
    lines = sum(block.code.count("\n") for block in BLOCKS if block.language == "console")
    assert len(COMMANDS) + len(NOT_TRIED) == lines, "nothing but commands"
    assert all(any(command in block.code for block in BLOCKS) for command in NOT_TRIED)


@pytest.mark.parametrize("block", by_page("python"))
def test_python_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "import wandb" in block.code:
        pytest.importorskip("wandb", reason="a tracker is none of what the project needs")
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
        assert block.page == "docs/other_tools.md"


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a reader has saved the files that pages show, and made the run that they name."""
    monkeypatch.chdir(tmp_path)
    for block in BLOCKS:
        named = re.match(r"# (\w+\.yaml)", block.code)
        if block.language == "yaml" and named:
            (tmp_path / named[1]).write_text(block.code)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run, for commands that want one that is finished."""
    path = tmp_path_factory.mktemp("trained") / "run"
    words = "--steps 64 --agent.n-envs 1 --agent.n-steps 32 --agent.batch-size 32 --network.hidden 8 --metrics none"
    assert train.main([*words.split(), "--quiet", "--no-preflight", "--run-dir", str(path)]) == 0
    return path


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[f"{page}: {command}" for page, command in COMMANDS])
def test_commands_are_understood(page: str, command: str, reader: Path, trained: Path) -> None:
    understand(shlex.split(command), reader, trained)


def understand(words: list[str], reader: Path, trained: Path) -> None:
    """Fail where a command is not what its program takes."""
    match words:
        case ["python", "train.py", *rest]:
            understand_training(rest, reader)
        case ["python", "sweep.py", *rest]:
            options = sweep.read(rest)
            assert read_sweep(find(options.sweep)).cells
        case ["python", "report.py", *rest]:
            assert report.read(rest).runs
        case ["python", "-m", "metrics" | "recording.comparing" as module, *rest]:
            for path in (word for word in rest if word.startswith("runs/")):
                place = Path(path).parent if path.endswith("model.zip") else Path(path)
                shutil.copytree(trained, reader / place)
            assert importlib.import_module("metrics.__main__" if module == "metrics" else module).main(rest) == 0
        case ["python", "-m", "pytest", "-n", "2", "--dist", "worksteal"] | ["python", "-m", "pytest", "-n", "2"]:
            pass  # this very suite
        case ["python", name, *rest] if not name.startswith("-"):
            script, own = (ROOT / name).read_text(), rest[: rest.index("--")] if "--" in rest else rest
            for flag in (word for word in own if word.startswith("--")):
                assert f'"{flag}"' in script, f"{name} has no {flag}"
        case ["make", target]:
            understand(made_by(target), reader, trained)
        case ["mkdocs", "build", "--strict", "--quiet"]:
            assert (ROOT / "mkdocs.yml").is_file()
        case ["tensorboard", *rest]:
            board = program.TensorBoard()
            board.configure(words)
            assert board.flags is not None
            assert [f"--logdir={board.flags.logdir}"] == ["=".join(rest)]
        case ["sbatch", *rest] if "--wrap" in rest:
            understand(shlex.split(rest[rest.index("--wrap") + 1]), reader, trained)
        case ["sbatch", *rest]:
            start = next(number for number, word in enumerate(rest) if not word.startswith("-"))
            understand(started_by(rest[start], rest[start + 1 :], reader), reader, trained)
        case _:
            pytest.fail("nobody has tried this command")


def understand_training(words: list[str], reader: Path) -> None:
    """What follows `train.py`."""
    named = words[words.index("--config") + 1] if "--config" in words else ""
    if named.startswith("runs/"):
        (reader / named).parent.mkdir(parents=True)
        (reader / named).write_text(yaml.safe_dump(parse(["--reset", "redo"]).as_dict()))
    if "--help" in words:
        print_help([word for word in words if word != "--help"])
    else:
        read(words)


def made_by(target: str) -> list[str]:
    """The last command of a target of the Makefile, as `make` prints it, without its folder and environment."""
    if not shutil.which("make"):
        pytest.skip("there is no make")
    alone = {"PATH": os.environ["PATH"]}  # without what another make, which runs this suite, has been given
    done = subprocess.run(["make", "-n", target], cwd=ROOT, env=alone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    words = shlex.split(done.stdout.splitlines()[-1])
    first, *rest = (word for number, word in enumerate(words) if number or "=" not in word)
    assert first.startswith(".venv/bin/")
    return [first.removeprefix(".venv/bin/"), *rest]


def started_by(script: str, words: list[str], reader: Path) -> list[str]:
    """What a script for SLURM starts on the machines that it is given; SLURM and Ray only say what they are asked."""
    programs = {
        "scontrol": 'test "$*" = "show hostnames node[1-2]" && printf "node1\\nnode2\\n"',
        "ray": 'test "$*" = "get-auth-token --generate"',
        "srun": 'printf "%s\\n" "$@"',
    }
    for name, does in programs.items():
        path = reader / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{does}\n")
        path.chmod(0o755)
    given = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_PER_TASK": "32"}
    environment = {**os.environ, **given, "PATH": f"{reader / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", str(ROOT / script), *words], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    asked, found = done.stdout.partition("\n--\n")[::2]
    assert asked.split() == [
        *("ray", "symmetric-run", "--address", "node1:6379", "--min-nodes", "2", "--num-cpus", "32"),
    ]
    return found.splitlines()


@pytest.mark.parametrize(
    "command",
    [
        "make trian",
        "tensorboard --logdr runs",
        "tensorboard",
        'sbatch --wrap "python sweep.py leaderbord"',
        "sbatch docs/swep.sbatch leaderboard",
        "sbatch docs/sweep.sbatch leaderboard --ot runs",
        "python -m metrics runs/x/model.zip --metric all",
        "python -m recording.comparison runs/ONE runs/OTHER",
        "python bench/scale.py runs/leaderboard --wite",
        "python train.py --rest redo",
        "ls",
    ],
)
def test_a_command_that_is_wrong_would_be_found(command: str, reader: Path, trained: Path) -> None:
    with pytest.raises((AssertionError, FlagsError, SystemExit, UsageError, pytest.fail.Exception)):
        understand(shlex.split(command), reader, trained)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page: str) -> None:
    prose = re.sub(r"```.*?```", "", PAGES[page].read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", prose):
        assert target.startswith("https://") or (PAGES[page].parent / target).exists(), target
