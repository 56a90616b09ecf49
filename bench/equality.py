"""Does it matter whether seeds are trained as a population or one after another? Returns of long runs, task by task.

    python bench/equality.py --seeds 16 -- --agent ppo --scale 0.25
    python bench/equality.py --seeds 8 --name SAC -- --agent sac --env Pendulum-v1 --schedule rotated …

Trains the same seeds with `--stack` and with `--no-stack`; what follows `--` goes to `train.py` as it is. A seed has
the same tasks and begins the same in both, then they round otherwise and part. If that is all, both returns of a seed
and task are draws from the same distribution, and each seed may change sides: that is what the p-value rests on, the
share of sign changes of whole seeds under which the tasks' mean differences, each in its standard errors and squared,
add up to as much as was found. `--write` keeps the figures in `bench/results/equality.json`, under the name.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import stats

from recording.directory import RunDirectory, versions

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results" / "equality.json"
CHANGES = 20_000
"""Random sign changes, of which there are too many to try all."""
console = Console()


def returns(folder: Path, stack: bool, options: argparse.Namespace) -> NDArray[Any]:
    """Train all seeds, and give the return at the end of each task, `[seeds, tasks]`."""
    command = [sys.executable, str(ROOT / "train.py"), *options.flags, "--seeds", str(options.seeds), "--quiet"]
    command += ["--processes", str(options.processes), "--run-dir", str(folder)] + ([] if stack else ["--no-stack"])
    if status := subprocess.run(command, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode:
        sys.exit(f"equality.py: train.py has failed with status {status}.")
    members = sorted(path.parent for path in folder.glob("*/tasks.csv"))
    rows = [[row["return_end"] for row in RunDirectory(member).read_tasks()] for member in members]
    if len(rows) != options.seeds:
        sys.exit(f"equality.py: {folder} has {len(rows)} members, not {options.seeds}.")
    return np.array(rows, dtype=float)


def p_value(differences: NDArray[Any], generator: np.random.Generator) -> float:
    """How likely such differences `[seeds, tasks]` are if the two runs of each seed might as well change places."""
    signs = generator.choice([-1.0, 1.0], (CHANGES, len(differences)))
    # The standard error under the hypothesis, that the mean is zero: no change of signs alters it.
    errors = np.sqrt(np.square(differences).sum(axis=0)).clip(min=1e-12)
    found = np.square(differences.sum(axis=0) / errors).sum()
    changed = np.square(signs @ differences / errors).sum(axis=1)
    return float((1 + np.count_nonzero(changed >= found * (1 - 1e-9))) / (1 + CHANGES))


def main() -> None:
    """Train, compare, print, and keep the figures where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--name", default="ppo", help="what the figures are kept as")
    parser.add_argument("--write", action="store_true", help=f"keep the figures in {RESULTS.name}")
    parser.add_argument("flags", nargs="*", help="of train.py, after --")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        alone, together = (returns(Path(scratch) / str(stack), stack, options) for stack in (False, True))

    differences = together - alone
    half = stats.t.ppf(0.975, options.seeds - 1) * differences.std(axis=0, ddof=1) / np.sqrt(options.seeds)
    table = Table("task", "one after another", "population", "difference (95 % interval)", title=options.name)
    for task, difference in enumerate(differences.mean(axis=0)):
        shown = [f"{own[:, task].mean():.1f} ± {own[:, task].std(ddof=1):.1f}" for own in (alone, together)]
        table.add_row(
            str(task), *shown, f"{difference:+.1f} ({difference - half[task]:+.1f} to {difference + half[task]:+.1f})"
        )
    console.print(table)
    p = p_value(differences, np.random.default_rng(0))
    overall = differences.mean(axis=1)
    spread = stats.t.ppf(0.975, options.seeds - 1) * overall.std(ddof=1) / np.sqrt(options.seeds)
    console.print(
        f"mean over tasks: {overall.mean():+.2f} ({overall.mean() - spread:+.2f} to {overall.mean() + spread:+.2f})"
    )
    console.print(f"p = {p:.3f}")
    if options.write:
        known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        command = shlex.join(["python", "bench/equality.py", *sys.argv[1:]])
        known[options.name] = {
            "seeds": options.seeds,
            "alone": alone.mean(axis=0).round(2).tolist(),
            "together": together.mean(axis=0).round(2).tolist(),
            "difference": differences.mean(axis=0).round(2).tolist(),
            "half_of_95_percent_interval": half.round(2).tolist(),
            "mean_difference": [round(float(overall.mean()), 2), round(float(spread), 2)],
            "p": round(p, 4),
            "made": {"date": date.today().isoformat(), "command": command, **versions()},
        }
        RESULTS.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
