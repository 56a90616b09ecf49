"""How fast populations train, beside what one would run instead: `python bench/throughput.py`.

Each case is raced in rounds, all sides in turns: stock SB3 one run at a time and a run for each core, a population in
one process and in one for each core, SBX where it is asked about. A side's processes are fresh ones; their clocks start
together after the first updates, so that imports, building and compiling are left out, and stop at the first start of
a rollout after `--seconds`. Seeds trained one after another go at the speed of one, so that one run is timed for all.

Ratios are of environment steps a second of all seeds together, the fastest of our sides over the fastest of theirs, the
two within the same round: median and middle half over the rounds. Beside them stands the same undisturbed: as if other
programs had never taken a processor away, each process needing no more than its own processor time.

    python -m venv sbx && sbx/bin/pip install 'sbx-rl==0.28.0' 'gymnasium[mujoco]' packaging
    python bench/throughput.py --sbx-python sbx/bin/python --write         # everything
    python bench/throughput.py --only ppo_cartpole scaling --rounds 5 --write   # keeps the other cases' figures
    python bench/throughput.py --device cuda --members 64                       # the same tables on a GPU

`methods` is what each reset and regulariser costs a population of eight PPO agents (processor time of a rollout and its
updates over that without), `scaling` how speed grows with members and width beside the rate of matrix products.
`--write` keeps the figures in `bench/results/throughput.json` as soon as a case is done; `python docs/performance.py`
puts them into the page.
"""

import argparse
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from keeping import cores, keep
from racing import methods, scaling
from racing.arithmetic import best_rate
from racing.cases import CASES, SIDES, Case
from racing.race import RaceError, race
from racing.ratios import MEASURES, Speed, answer
from rich.console import Console
from rich.progress import track
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results" / "throughput.json"
FIGURE = ROOT / "docs" / "throughput.png"
METHODS, SCALING = "methods", "scaling"
console = Console()


def main() -> None:
    """Race the cases, print tables, and keep the figures where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*CASES, METHODS, SCALING]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="CASE", help=", ".join(names))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="that the clock runs in each process, at least")
    parser.add_argument("--members", type=int, help="seeds in each case, instead of its own number")
    parser.add_argument("--method", nargs="+", choices=list(methods.METHODS), default=[], metavar="NAME")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sbx-python", help="a Python that has SBX; without it SBX is not measured")
    parser.add_argument("--quick", action="store_true", help="one short round, to see that all of it works")
    parser.add_argument("--write", action="store_true", help=f"keep the figures in {RESULTS.name}")
    options = parser.parse_args()
    if options.quick:
        if options.write:
            parser.error("--quick measures too little to be kept by --write")
        options.rounds, options.seconds = 1, 0.1
    if torch.device(options.device).type == "cuda" and not torch.cuda.is_available():
        console.print(f"not measured: there is no device {options.device} here")
        return
    for name in options.only:
        if name == METHODS:
            found = cost_of_methods(options)
        elif name == SCALING:
            found = growth(options)
        else:
            try:
                found = compare(name, CASES[name], options)
            except RaceError as error:
                sys.exit(f"throughput.py: a process of {name} failed: {error}")
        if options.write:
            keep(RESULTS, {name: found}, torch.device(options.device).type)


def compare(name: str, case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Race one case, and answer its questions."""
    members = options.members or case.members
    sides = [side for side in case.sides if SIDES[side].trainer != "sbx" or options.sbx_python]
    rounds = []
    for number in range(options.rounds):
        order = sides[:: -1 if number % 2 else 1]  # what drifts favours neither the first nor the last
        one = {}
        for side in track(order, f"{name}, round {number + 1}", console=console, transient=True):
            works = case.works(SIDES[side], cores(), members, options.seconds, options.device)
            one[side] = race(works, options.sbx_python if SIDES[side].trainer == "sbx" else sys.executable)
        rounds.append(one)

    speeds = {side: Speed.of([one[side] for one in rounds]) for side in sides}
    table = Table("side", "steps a second", "undisturbed", "at work", "MiB", title=f"{case.title}: sides")
    for side, speed in speeds.items():
        table.add_row(side, str(speed.wall), str(speed.undisturbed), f"{speed.at_work:.2f}", str(speed.peak_mib))
    console.print(table)

    table = Table("what", "against", "aim", *MEASURES, title=f"{case.title}: times faster")
    answers: list[dict[str, Any]] = []
    for question in case.questions:
        found = answer(question, rounds) if set(question.sides) <= set(sides) else None
        cells = [str(ratio) for ratio in found.values()] if found else ["not measured"] * len(MEASURES)
        table.add_row(question.of(members), question.against, f"{question.aim:g}", *cells)
        asked = {"what": question.of(members), "against": question.against, "aim": question.aim}
        answers.append(asked | {measure: asdict(ratio) for measure, ratio in (found or {}).items()})
    console.print(table)
    return {
        "title": case.title,
        "members": members,
        "sides": {side: asdict(speed) for side, speed in speeds.items()},
        "ratios": answers,
        "sbx": version_of_sbx(options.sbx_python) if options.sbx_python else "not measured",
    }


def cost_of_methods(options: argparse.Namespace) -> dict[str, Any]:
    """What each reset and regulariser costs a population."""
    members = options.members or 8
    table = Table("method", "time over that of none", title=f"PPO, CartPole-v1, 64x64, population of {members}")
    found: dict[str, dict[str, float] | None] = {}
    chosen = options.method or list(methods.METHODS)
    for name in track(chosen[:1] if options.quick else chosen, METHODS, console=console, transient=True):
        try:
            spread = methods.cost(name, members, options.rounds, options.device)
        except ValueError as reason:
            found[name], cell = None, f"members one after another: {reason}"
        else:
            found[name], cell = asdict(spread), str(spread)
        table.add_row(name, cell)
    console.print(table)
    return {"members": members, "methods": found}


def growth(options: argparse.Namespace) -> dict[str, Any]:
    """How speed grows with members and width; draws the figure where figures are kept."""
    kind = torch.device(options.device).type
    widths, members = (scaling.WIDTHS, scaling.MEMBERS[kind]) if not options.quick else ((64,), (1, 2))
    torch.set_num_threads(1)
    size, rate = best_rate(options.device)
    title = f"best matrix product: {rate / 1e9:,.0f} GFLOP/s, at {size}x{size}, 1 thread"
    table = Table("width", "members", "steps a second", "undisturbed", "of the limit", "at these shapes", title=title)
    points = []
    for point in scaling.measure(widths, members, rate, min(options.seconds, 1.5), options.device):
        points.append(point)
        console.print(f"{point.width} wide, {point.members} members: {point.undisturbed:,.0f}")
        shares = f"{100 * point.share:.1f} %", f"{100 * point.share_at_shapes:.1f} %"
        table.add_row(str(point.width), str(point.members), f"{point.wall:,.0f}", f"{point.undisturbed:,.0f}", *shares)
    console.print(table)
    if options.write:
        scaling.draw(points, FIGURE.with_stem(FIGURE.stem + "_cuda" * (kind == "cuda")))
    return {"best": {"size": size, "flops": float(f"{rate:.4g}")}, "points": scaling.as_json(points)}


def version_of_sbx(python: str) -> str:
    """Which SBX, and which JAX, this Python has."""
    code = 'from importlib.metadata import version as v; print(f\'SBX {v("sbx-rl")}, JAX {v("jax")}\')'
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
