"""Plasticity loss on the default benchmark: arms x seeds, and a table of the return at the end of each task.

    python bench/cartpole_permuted.py                      # none, full at switches, redo; seeds 0 to 2
    python bench/cartpole_permuted.py --arms none spectral --seeds 0 1 2 3 --jobs 4

Each cell is a run of `train.py` in a process of its own; what is finished is not run again.
"""

import argparse
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

from configs.command_line import parse
from recording.directory import RunDirectory, default_path, versions

ROOT = Path(__file__).resolve().parent.parent

ARMS = {
    "none": [],
    "full": ["--reset", "full"],
    "redo": ["--reset", "redo"],
    "spectral": ["--regularizer", "spectral"],
    "shrink_perturb": ["--reset", "shrink_perturb"],
    "actor": ["--reset", "full", "--reset.parts", "actor"],
    "critic": ["--reset", "full", "--reset.parts", "critic"],
    "actor-head": ["--reset", "full", "--reset.parts", "head", "--reset.networks", "actor"],
    "actor-body": ["--reset", "full", "--reset.parts", "body", "--reset.networks", "actor"],
    "moments": ["--reset", "full", "--reset.parts", "moments"],
}


def run(cell: tuple[str, int, list[str]]) -> RunDirectory | None:
    """Train one cell; returns its directory, or None where it failed."""
    arm, seed, more = cell
    flags = [*ARMS[arm], "--seed", str(seed), *more]
    directory = RunDirectory(ROOT / default_path(parse(flags)))
    command = [sys.executable, str(ROOT / "train.py"), *flags, "--quiet", "--run-dir", str(directory.path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    status = subprocess.run(command, check=False, env=environment).returncode
    print(f"{arm}, seed {seed}: {'done' if status == 0 else f'failed with status {status}'}", flush=True)
    return directory if status == 0 else None


def row(arm: str, directories: list[RunDirectory]) -> str:
    """One arm's line of the table: mean over seeds of the return at the end of each task, then a summary."""
    runs = [directory.read_tasks() for directory in directories]
    tasks = range(min(len(rows) for rows in runs))
    ends = [[rows[task]["return_end"] for task in tasks] for rows in runs]
    later = [statistics.mean(end[first_later(len(end)) :]) for end in ends]
    dormant = statistics.mean(rows[-1]["dormant"] for rows in runs)
    rank = statistics.mean(rows[-1]["effective_rank"] for rows in runs)
    cells = [f"{statistics.mean(end[task] for end in ends):.0f}" for task in tasks]
    spread = f" ({min(later):.0f} to {max(later):.0f})" if len(later) > 1 else ""
    return f"| {arm} | {' | '.join(cells)} | **{statistics.mean(later):.0f}**{spread} | {dormant:.2f} | {rank:.1f} |"


def first_later(tasks: int) -> int:
    """The first of the tasks that the summary is the mean of: the second, since on the first all arms are alike."""
    return 1 if tasks > 1 else 0


def main() -> None:
    """Run all cells and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=["none", "full", "redo"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at once")
    parser.add_argument("flags", nargs="*", help="more flags of train.py, after --")
    options = parser.parse_args()
    cells = [(arm, seed, options.flags) for seed in options.seeds for arm in options.arms]
    with ThreadPoolExecutor(options.jobs) as pool:
        directories = list(pool.map(run, cells))
    by_arm = {
        arm: [found for cell, found in zip(cells, directories, strict=True) if cell[0] == arm and found]
        for arm in options.arms
    }
    tasks = min((len(found.read_tasks()) for found in directories if found), default=0)
    found = versions()
    print(
        f"\nReturn of the last 20 episodes of each task, mean over seeds {', '.join(map(str, options.seeds))}; "
        f"{date.today()}, Python {found['python']}, torch {found['torch']}, "
        f"stable-baselines3 {found['stable-baselines3']}, {found['processor']}, {os.cpu_count()} cores.\n"
    )
    later = f"tasks {first_later(tasks)} to {tasks - 1} (least to most of a seed)"
    columns = [*map(str, range(tasks)), later, "dormant", "rank"]
    print(f"| arm | {' | '.join(columns)} |")
    print("|---|" + "---:|" * (tasks + 3))
    for arm, runs in by_arm.items():
        print(row(arm, runs) if runs else f"| {arm} | every run of it failed |")
    sys.exit(any(found is None for found in directories))


if __name__ == "__main__":
    main()
