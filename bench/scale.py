"""What a sweep of many runs needs: `python bench/scale.py runs/leaderboard`.

Measures, on this machine, what `docs/scale.md` extrapolates from:

- disk: files and bytes of a finished cell, by kind, in the folders that are given;
- start: what a job of eight members costs that trains for one rollout, and its memory;
- writing: what such a job writes in a minute, checkpoints among it;
- looking: reading a sweep file of 10,000 cells, looking at their directories, and drawing the live table;
- ray: tasks a second through the engine, and what Ray's own processes hold in memory (with `perennial[sweep]`);
- tensorboard: how long it takes until it shows 100 and 400 cells, and its memory.

`--write` keeps the figures in `bench/results/scale.json`.
"""

import argparse
import io
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml
from rich.console import Console
from rich.table import Table

from recording.directory import versions
from recording.run import tensorboard_command
from sweeping.job import Job
from sweeping.plan import read_sweep
from sweeping.running import Progress
from sweeping.table import DRAW_EVERY, LiveTable, look
from sweeping.work import Command

RESULTS = Path(__file__).parent / "results" / "scale.json"
CELLS = 10_000
TASKS = 400
SHOWN = 100, 400
KINDS = {
    "events.out.tfevents.*": "TensorBoard",
    "episodes.csv": "episodes",
    "metrics.jsonl": "diagnostics",
    "model.zip": "models",
}
LONG = "--config cartpole_permuted --seeds 8 --quiet"
START = "--steps 2048 --schedule stationary --env CartPole-v1 --agent.n-envs 8 --agent.n-steps 256 --seeds 8 --quiet"


def disk(folders: list[Path]) -> dict[str, float]:
    """Files and bytes of a finished cell, by kind; what a population keeps for all members is shared out."""
    cells, files, found = 0, 0, defaultdict[str, float](float)
    for status in (status for folder in folders for status in folder.rglob("status.json")):
        if json.loads(status.read_text())["state"] == "finished":
            cells += status.with_name("tasks.csv").exists()  # or it is a population's
            for path in (*status.parent.glob("*"), *status.parent.glob("mean-*/*")):
                if path.is_file():
                    files += 1
                    kind = next((name for pattern, name in KINDS.items() if path.match(pattern)), "the rest")
                    found[f"{kind}, bytes"] += path.stat().st_size
    if not cells:
        raise SystemExit("there is no finished cell in these folders")
    return {"cells": cells, "files": files / cells} | {name: size / cells for name, size in found.items()}


def start() -> dict[str, float]:
    """A job of eight members and one rollout: seconds, seconds of the processor, and memory at its peak."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "train", *START.split(), "--run-dir", f"{folder}/run"]
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run(words, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": time.monotonic() - began,
        "processor seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "memory, bytes": after.ru_maxrss * 1024.0,
    }


def writing() -> dict[str, float]:
    """What a job of eight members writes in a minute, after its first ten seconds."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "train", *LONG.split(), "--run-dir", f"{folder}/run"]
        process = subprocess.Popen(words)
        try:
            wait_for(lambda: list(Path(folder).glob("run/*/episodes.csv")))
            time.sleep(10)
            before = written(process.pid)
            time.sleep(60)
            after = written(process.pid)
        finally:
            process.kill()
            process.wait()
    return {"calls": after["syscw"] - before["syscw"], "all, bytes": after["wchar"] - before["wchar"]}


def written(process: int) -> dict[str, float]:
    """What a process has written so far, as the kernel counts it."""
    lines = Path(f"/proc/{process}/io").read_text().splitlines()
    return {name: float(value) for name, value in (line.split(": ") for line in lines)}


def looking() -> dict[str, float]:
    """Seconds to read a sweep of many cells, to look at their directories, and to draw the table once."""
    content = {
        "seeds": CELLS // 10,
        "together": 1,
        "settings": {"config": "cartpole_permuted"},
        "benchmarks": {"switching": {}},
        "arms": {"none": None, "fresh": None}
        | {f"redo{n}": {"reset": {"redo": {"tau": n / 100}}} for n in range(1, 9)},
    }
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "many.yaml")
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        with timed(found, "reading the file"):
            sweep = read_sweep(path, Path(folder, "runs"))
        assert sweep.cells == CELLS
        with timed(found, "looking where nothing is"):
            look(sweep)
        for job in sweep.jobs:
            job.path.mkdir(parents=True)
            job.directory.set_status("finished", job.steps, 300.0)
        with timed(found, "looking where all is finished"):
            view = look(sweep)
        assert view.cells("finished") == CELLS
        progress = Progress(sweep, finished=sweep.jobs[200:], running=dict.fromkeys(sweep.jobs[:200], 0.0))
        with LiveTable(sweep, Console(file=io.StringIO(), force_terminal=True), 200) as table:
            table.draw(progress)
            time.sleep(DRAW_EVERY)
            with timed(found, "drawing the table, 200 at work"):
                table.draw(progress)
    return found


@contextmanager
def timed(found: dict[str, float], name: str) -> Iterator[None]:
    """Keep how many seconds something takes."""
    began = time.monotonic()
    yield
    found[name] = time.monotonic() - began


def over_ray() -> dict[str, float]:
    """Jobs of nothing through the engine: how many a second, and the memory of Ray's processes."""
    from sweeping.ray_engine import Ray

    with tempfile.TemporaryDirectory() as folder:
        command = Command(("true",), Path(folder), Path(folder, "log"))
        jobs = [Job("b", "a", (n,), (), Path(folder, str(n)), "", 1, ()) for n in range(TASKS)]
        with patch.object(Command, "of", lambda job: command), Ray(None, 2) as engine:
            engine.start(jobs[0])
            wait_for(lambda: engine.ended(1.0))
            began, started, done = time.monotonic(), 0, 0
            while done < TASKS - 1:
                while started < TASKS - 1 and started - done < engine.slots():
                    started += 1
                    engine.start(jobs[started])
                done += len(engine.ended(1.0))
            seconds = time.monotonic() - began
            memory = sum(rss(pid) for pid in named("raylet", "gcs_server", "dashboard", "log_monitor", "runtime_env"))
    return {"jobs a second": (TASKS - 1) / seconds, "memory of a head node, bytes": memory}


def named(*names: str) -> Iterator[int]:
    """Processes whose command line names one of these."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if any(f"/{name}".encode() in words or f"{name}.py".encode() in words for name in names):
            yield int(path.parent.name)


def rss(pid: int) -> float:
    """The memory of a process, in bytes."""
    try:
        return float(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return 0.0


def tensorboard(folders: list[Path], shown: int) -> dict[str, float]:
    """Copies of cells that are there, until TensorBoard lists the scalars of all of them."""
    cells = sorted({path.parent for folder in folders for path in folder.rglob("tasks.csv")})
    if not cells:
        raise SystemExit("there is no cell in these folders")
    with tempfile.TemporaryDirectory() as folder:
        size = 0
        for number in range(shown):
            for path in cells[number % len(cells)].glob("events.out.tfevents.*"):
                target = Path(folder, f"cell{number}", path.name)
                target.parent.mkdir(exist_ok=True)
                shutil.copy(path, target)
                size += path.stat().st_size
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words = [tensorboard_command(), "--logdir", folder, "--port", str(port)]
        began = time.monotonic()
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: listed(port) == shown, 300)
            found = {"events, bytes": float(size), "seconds": time.monotonic() - began}
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            found["memory, bytes"] = sum(rss(int(pid)) for pid in [process.pid, *children])
        finally:
            process.terminate()
            process.wait()
    return found


def listed(port: int) -> int:
    """How many runs TensorBoard shows the last scalars of."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/data/plugin/scalars/tags", timeout=30) as answer:
            runs: dict[str, dict[str, Any]] = json.load(answer)
    except OSError:
        return 0
    return sum("final/plasticity_gap" in tags or len(tags) > 20 for tags in runs.values())


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until something holds."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise SystemExit("nothing came of it")
        time.sleep(0.05)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, help="of finished runs")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    found: dict[str, Any] = {
        "disk": disk(arguments.folders),
        "start": start(),
        "writing": writing(),
        "looking": looking(),
    }
    found["ray"] = over_ray()
    found |= {f"tensorboard, {shown} cells": tensorboard(arguments.folders, shown) for shown in SHOWN}
    table = Table("", "what", "measured")
    for group, figures in found.items():
        for name, value in figures.items():
            is_size = name.endswith("bytes")
            shown = f"{value / 1e6:,.3f} MB" if is_size else f"{value:,.3g}"
            table.add_row(group, name.removesuffix(", bytes"), shown)
    Console().print(table)
    if arguments.write:
        about = {"date": date.today().isoformat(), "cores": len(os.sched_getaffinity(0)), **versions()}
        RESULTS.write_text(json.dumps({"about": about, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
