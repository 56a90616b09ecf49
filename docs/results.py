"""Tables and pictures of `docs/results/`, from the runs of sweeps.

    python docs/results.py leaderboard --runs runs/leaderboard    # figures into docs/results/leaderboard.json
    python docs/results.py                                        # tables and pictures from all figures that are there

A page is written by hand, but for what stands between `<!-- table leaderboard switching -->` and `<!-- end -->` (with a
number: the controls and that many of the best arms). A test compares these tables with the figures, so that they can't
go stale. The README is one of these pages. Pictures that a page shows are drawn: `<sweep>_<benchmark>.png` has all
arms, the best on top, `<sweep>_<benchmark>_tasks.png` their ways through the tasks.
"""

import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from configs.arms import FRESH, NONE
from configs.scripts import Parser, script
from configs.settings import UsageError
from recording.directory import versions
from reporting import measures
from reporting.arms import ArmSummary, Reference
from reporting.attribution import restored
from reporting.comparing import summarize_arm
from reporting.figures import Dot, Line, dots, looks, over_tasks
from reporting.runs import Run, read_run
from reporting.statistics import Interval, interval, mean
from sweeping.plan import find, read_sweep

RESULTS = Path(__file__).with_name("results")
README = Path(__file__).parent.parent / "README.md"
STILL = "still"
"""What a benchmark is called in which nothing changes; its plain agent stands in the others' tables."""
CONTROLS = (NONE, FRESH, STILL, "head", "body", "actor", "critic")
TOLD = " †"
"""After the name of an arm that is told of switches."""
COSTS = Path(__file__).parent.parent / "bench" / "results" / "interventions.json"
TABLE = re.compile(r"(<!-- table (\S+) (\S+)(?: (\d+))? -->\n).*?(<!-- end -->)", re.DOTALL)
PARTS = re.compile(r"(<!-- parts (\S+) (\S+) (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
"""A table of some arms of a benchmark beside the first of them."""
MADE = re.compile(r"(<!-- made (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
"""How, when and with what a sweep's figures were made."""
FRONT = ("leaderboard", "switching", (NONE, FRESH, "layer_norm", "spectral", "cbp", "redo"))
"""What the README's picture shows: arms of a benchmark of a sweep."""
SHARES = "shares"
"""In the place of a benchmark: what arms restore of the gap, on all benchmarks of the sweep."""
HEAD = """| | arm | return (95 %) | gap to fresh (95 %) | beats none | dormant | rank | cost |
|---:|---|---:|---:|---:|---:|---:|---:|
"""
NETWORKS = {
    "layer_norm": "network.layer-norm before",
    "spectral_norm": "network.spectral-norm hidden",
    "cbp_first": "cbp",
    "cbp_second": "cbp",
    **{name: f"network.activation {name}" for name in ("crelu", "fourier", "adaptive_linear", "smooth_leaky_relu")},
}
"""What arms are called in the table of costs, where it is not their name."""

Figures = dict[str, Any]


def collect(name: str, runs: Path) -> Figures:
    """What the finished cells of a sweep came to."""
    sweep = read_sweep(find(name), runs)
    found: dict[str, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    seconds = 0.0
    for job in sweep.jobs:
        if job.state() == "finished":
            seconds += job.seconds()
            for path in [job.path / member for member in job.names] or [job.path]:
                found[job.benchmark][job.arm].append(read_run(path))
    if not found:
        raise UsageError(f"{runs}: no cell of {name} is finished yet.")
    made = {"command": f"python sweep.py {name}", "date": date.today().isoformat(), **versions()}
    seeds = sorted({run.seed for arms in found.values() for own in arms.values() for run in own})
    return {
        "made": made,
        "seeds": seeds,
        "hours": round(seconds / 3600, 1),
        "benchmarks": {benchmark: _benchmark(arms) for benchmark, arms in found.items()},
    }


def _benchmark(arms: dict[str, list[Run]]) -> Figures:
    """The arms of one benchmark, best first."""
    tasks = max(len(run.tasks) for own in arms.values() for run in own)
    plain = measures.column(arms[NONE], tasks, "return_end") if NONE in arms else None
    reference = Reference(tasks, arms.get(FRESH, []), plain, None, float("nan"))
    summaries = {arm: summarize_arm(arm, own, reference, arm == FRESH, arm == NONE) for arm, own in arms.items()}
    found = {arm: _arm(summary, arms[arm]) for arm, summary in summaries.items()}
    if NONE in arms and FRESH in arms:
        for arm in set(arms) - {NONE, FRESH}:
            found[arm]["restored"] = _numbers(restored(summaries[arm], summaries[NONE], summaries[FRESH]))
    some_run = next(run for own in arms.values() for run in own)
    return {
        "agent": some_run.config["agent"]["name"],
        "steps": some_run.steps,
        "tasks": tasks,
        "arms": dict(sorted(found.items(), key=lambda item: -item[1]["return"][0])),
    }


def _arm(summary: ArmSummary, runs: list[Run]) -> Figures:
    tasks = summary.per_task.shape[1]
    first = min(1, tasks - 1)  # where there is one task only, that one

    def later(name: str) -> float | None:
        values = measures.column(runs, tasks, name)[:, first:]
        return None if np.isnan(values).all() else float(np.nanmean(values))

    resets = runs[0].config.get("reset")
    return {
        "runs": summary.runs,
        "told": isinstance(resets, dict) and any(own.get("when") == "switch" for own in resets.values()),
        "return": _numbers(summary.aggregate),
        "of_runs": [float(value) for value in np.nanmean(summary.per_task[:, first:], axis=1)],
        "gap": _numbers(summary.gap),
        "improvement": _numbers(summary.improvement),
        "dormant": later("dormant"),
        "rank": later("effective_rank"),
        "weights": {name: later(f"{name}/weight_norm") for name in ("actor", "critic")},
        "per_task": {
            "mean": [float(value) for value in summary.mean_per_task],
            "low": [float(value) for value in summary.low],
            "high": [float(value) for value in summary.high],
        },
    }


def _numbers(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.value, interval.low, interval.high]


def table(figures: Figures, benchmark: str, most: int | None = None) -> str:
    """One benchmark of a sweep, the best arm first; controls in bold, without a place.

    Args:
        figures: of the sweep.
        benchmark: which one.
        most: how many arms beside the controls; None for all.
    """
    of_all: Figures = figures["benchmarks"]
    costs: Figures = json.loads(COSTS.read_text()).get(of_all[benchmark]["agent"], {}).get("methods", {})
    still = of_all.get(STILL, {}).get("arms", {}) if benchmark != STILL else {}
    rows = [(arm, own) for arm, own in of_all[benchmark]["arms"].items()] + [(STILL, own) for own in still.values()]
    lines, place = [], 0
    for arm, own in sorted(rows, key=lambda row: -row[1]["return"][0]):
        is_control = arm in CONTROLS
        place += not is_control
        if most is not None and place > most and not is_control:
            continue
        cost = costs.get(NETWORKS.get(arm, arm), {}).get("64x64", {}).get("ratio")
        cells = [
            "" if is_control else str(place),
            f"**{arm}**" if is_control else f"`{arm}`{TOLD if own['told'] else ''}",
            _shown(own["return"]),
            _shown(own["gap"]),
            "" if own["improvement"] is None else _shown([100 * value for value in own["improvement"]], " %"),
            "" if own["dormant"] is None else f"{100 * own['dormant']:.0f} %",
            "" if own["rank"] is None else f"{own['rank']:.1f}",
            "" if cost is None or is_control else f"{cost:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |\n")
    return HEAD + "".join(lines)


def some(figures: Figures, benchmark: str, arms: list[str]) -> str:
    """Some arms of a benchmark: returns, how much less than the first one's, and norms of weights.

    Differences are seed by seed. Beside the plain agent it is how much more.
    """
    of_all: Figures = figures["benchmarks"][benchmark]["arms"]
    first = arms[0]
    word, sign = ("more", -1) if first == NONE else ("less", 1)
    lines = [
        f"| arm | return (95 %) | {word} than `{first}`, seed by seed (95 %) | actor's weights | critic's weights |\n"
    ]
    lines.append("|---|---:|---:|---:|---:|\n")
    for arm in arms:
        own = of_all[arm]
        apart = sign * np.subtract(of_all[first]["of_runs"], own["of_runs"])[:, None]
        cells = [_shown(own["return"]), "" if arm == first else _shown(_numbers(interval(mean, apart)))]
        cells += ["" if norm is None else f"{norm:.1f}" for norm in own["weights"].values()]
        lines.append(f"| `{arm}` | {' | '.join(cells)} |\n")
    return "".join(lines)


def made(figures: Figures) -> str:
    """How, when and with what the figures were made, in a sentence."""
    known = figures["made"]
    seeds = ", ".join(map(str, figures["seeds"]))
    packages = ("torch", "stable-baselines3", "gymnasium", "mujoco", "numpy")
    with_what = ", ".join([f"Python {known['python']}", *(f"{name} {known[name]}" for name in packages)])
    return (
        f"<sub>`{known['command']}`, seeds {seeds}; {figures['hours']} hours of a busy {known['processor']} "
        f"core; {known['date']}; {with_what}.</sub>\n"
    )


def shares(figures: Figures) -> str:
    """What each arm brings back of the gap between none and fresh, benchmark by benchmark."""
    arms = dict.fromkeys(arm for own in figures["benchmarks"].values() for arm in own["arms"])
    parts = [arm for arm in arms if arm not in (NONE, FRESH)]
    lines = [f"| benchmark | none | fresh | {' | '.join(f'`{part}` restores' for part in parts)} |\n"]
    lines.append(f"|---|---:|---:|{'---:|' * len(parts)}\n")
    for benchmark, own in figures["benchmarks"].items():
        cells = [f"`{benchmark}`", *(_shown(own["arms"].get(arm, {}).get("return")) for arm in (NONE, FRESH))]
        for part in parts:
            found = own["arms"].get(part, {}).get("restored")
            cells.append(_shown(found and [100 * value for value in found], " %"))
        lines.append(f"| {' | '.join(cells)} |\n")
    return "".join(lines)


def _shown(numbers: list[float] | None, unit: str = "") -> str:
    if numbers is None:
        return ""
    value, low, high = numbers
    digits = 0 if abs(value) >= 30 or unit else 1
    text = f"{value:.{digits}f}{unit} ({low:.{digits}f} to {high:.{digits}f})"
    return text.replace("-", "−")


def picture(figures: Figures, benchmark: str, path: Path) -> None:
    """The arms of a benchmark, best on top: the interquartile mean with its interval, and single runs.

    Arms that are told of switches have a colour of their own, and the dagger that they have in tables.
    """
    arms: Figures = figures["benchmarks"][benchmark]["arms"]
    plain = looks([NONE, FRESH])
    rest, told = looks(["any", "told"]).values()
    rows = []
    for arm, own in arms.items():
        mark = TOLD if own["told"] and arm not in CONTROLS else ""
        look = plain.get(arm, told if own["told"] else rest)
        rows.append(Dot(arm + mark, *own["return"], look, np.asarray(own["of_runs"])))
    references = [(arms[name]["return"][0], name) for name in (NONE, FRESH) if name in arms]
    dots(
        rows, "return at the end of tasks, interquartile mean over later tasks and runs", references=references
    ).savefig(path, dpi=150)


def curves(figures: Figures, benchmark: str, arms: Sequence[str], path: Path) -> None:
    """Some arms over the tasks, mean and 95 % interval of each."""
    found: Figures = figures["benchmarks"][benchmark]["arms"]
    lines = {}
    for arm in arms:
        own = {name: np.asarray(values) for name, values in found[arm]["per_task"].items()}
        lines[arm] = Line(own["mean"][None], own["low"], own["high"])
    over_tasks(lines, looks(arms), "return at the end of the task").savefig(path, dpi=150)


def _as_listed(name: str) -> Callable[[str], int]:
    """A key that sorts arms as the file of their sweep lists them."""
    return read_sweep(find(name)).arms.index


def filled(page: str, known: dict[str, Figures]) -> str:
    """A page with its tables made anew; one of a sweep without figures stays as it is."""

    def fill(match: re.Match[str]) -> str:
        start, name, benchmark, most, end = match.groups()
        if name not in known:
            return match.group()
        rows = shares(known[name]) if benchmark == SHARES else table(known[name], benchmark, most and int(most))
        return f"{start}\n{rows}\n{end}"

    def fill_some(match: re.Match[str]) -> str:
        start, name, benchmark, arms, end = match.groups()
        return f"{start}\n{some(known[name], benchmark, arms.split())}\n{end}"

    def fill_made(match: re.Match[str]) -> str:
        start, name, end = match.groups()
        return f"{start}\n{made(known[name])}\n{end}"

    return MADE.sub(fill_made, PARTS.sub(fill_some, TABLE.sub(fill, page)))


def known_figures() -> dict[str, Figures]:
    """The figures that are there, by sweep."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}


@script("docs/results.py")
def main(words: list[str]) -> int:
    """Collect figures where a sweep is named; then make tables and pictures anew. Returns the exit status."""
    parser = Parser("docs/results.py", __doc__)
    parser.add_argument("sweep", nargs="?")
    parser.add_argument("--runs", type=Path, help="where its runs are (runs/ and its name)")
    arguments = parser.read(words)
    if arguments.sweep:
        figures = collect(arguments.sweep, arguments.runs or Path("runs", arguments.sweep))
        (RESULTS / f"{arguments.sweep}.json").write_text(json.dumps(figures, indent=1) + "\n")
    known = known_figures()
    pages = {page: page.read_text() for page in (README, *RESULTS.glob("*.md"))}
    for name, figures in known.items():
        for benchmark in figures["benchmarks"]:
            path, over = (RESULTS / f"{name}_{benchmark}{kind}.png" for kind in ("", "_tasks"))
            if any(path.name in text for text in pages.values()):
                picture(figures, benchmark, path)
            if any(over.name in text for text in pages.values()):
                curves(figures, benchmark, sorted(figures["benchmarks"][benchmark]["arms"], key=_as_listed(name)), over)
    name, benchmark, arms = FRONT
    curves(known[name], benchmark, arms, RESULTS / "front.png")
    for page, text in pages.items():
        page.write_text(filled(text, known))
    return 0


if __name__ == "__main__":
    sys.exit(main())
