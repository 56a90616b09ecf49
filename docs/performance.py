"""Puts what was measured into `docs/performance.md`: `python docs/performance.py`.

What stands between `<!-- table: NAME -->` and `<!-- end -->` there is replaced; all else is written by hand. A test
compares the page with what this makes, so that its tables can't go stale.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("performance.md")
RESULTS = Path(__file__).parent.parent / "bench" / "results"
NOT_MEASURED = "not measured"
IN_TURN = "members are trained one after another"


def page() -> str:
    """The page with its tables as they are measured now."""
    return re.sub(
        r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n{found[3]}",
        PAGE.read_text(),
        flags=re.DOTALL,
    )


def measured(name: str, device: str = "cpu") -> dict[str, Any]:
    """The figures of one case of `bench/throughput.py`; none where it was not measured."""
    path = RESULTS / "throughput.json"
    found: dict[str, Any] = json.loads(path.read_text()).get(device, {}).get(name, {}) if path.exists() else {}
    return found


def ratios(device: str = "cpu") -> str:
    """Every question of every case."""
    rows, made = [], []
    for name in CASES:
        if not (case := measured(name, device)):
            rows.append(f"| `{name}` | | | | {NOT_MEASURED} | |")
            continue
        made.append(case["made"])
        for ratio in case["ratios"]:
            aim = f"≥ {ratio['aim']:g}" if ratio["aim"] != 1 else "faster"
            cells = (times(ratio[key]["times"]) if key in ratio else NOT_MEASURED for key in ("wall", "undisturbed"))
            rows.append(f"| {case['title']} | {ratio['what']} | {ratio['against']} | {aim} | {' | '.join(cells)} |")
    rows += [*memory(device), *dearest(device)]
    head = "| work | what | against | aim | times faster | undisturbed |\n|---|---|---|---|---:|---:|\n"
    return head + "\n".join(rows) + "\n" + provenance(made)


def memory(device: str) -> Iterator[str]:
    """What a population takes of it, over what one stock run takes."""
    if case := measured("ppo_cartpole", device):
        ours, theirs = (case["sides"][side]["peak_mib"] for side in ("population", "SB3, one run at a time"))
        what = f"memory of {case['members']} seeds | one SB3 process | ≤ 1.5"
        yield f"| {case['title']} | {what} | {ours / theirs:.2f} | {ours:,} MiB over {theirs:,} |"


def dearest(device: str) -> Iterator[str]:
    """How many interventions cost more than they should, and which costs most."""
    if found := measured("methods", device):
        costs = {name: spread["median"] for name, spread in found["methods"].items() if spread}
        name = max(costs, key=lambda each: costs[each])
        within = sum(cost <= 1.10 for cost in costs.values())
        what = f"time with an intervention, {found['members']} seeds | none | ≤ 1.1"
        told = f"{within} of {len(costs)} within; at most {costs[name]:.2f} (`{name}`)"
        yield f"| PPO, CartPole-v1, 64x64 | {what} | | {told} |"


def sides() -> str:
    """Speeds and memory of all sides."""
    rows = []
    for name in CASES:
        for side, speed in measured(name).get("sides", {}).items():
            cells = (f"{speed[key]['median']:,.0f}" for key in ("wall", "undisturbed"))
            rows.append(
                f"| {measured(name)['title']} | {side} | {' | '.join(cells)} | {speed['at_work']:.2f} | "
                f"{speed['peak_mib']:,} |"
            )
    head = "| work | side | steps a second | undisturbed | at work | MiB |\n|---|---|---:|---:|---:|---:|\n"
    return head + "\n".join(rows) + "\n" if rows else f"{NOT_MEASURED}\n"


def methods() -> str:
    """What each reset and regulariser costs."""
    found = measured("methods")
    if not found:
        return f"{NOT_MEASURED}\n"
    cells = {name: times(spread) if spread else IN_TURN for name, spread in found["methods"].items()}
    rows = (f"| `{name}` | {cell} |" for name, cell in cells.items())
    return "| method | time over that of none |\n|---|---:|\n" + "\n".join(rows) + "\n" + provenance([found["made"]])


def scaling() -> str:
    """Speeds of all widths and members, and how near they come to the limit."""
    found = measured("scaling")
    if not found:
        return f"{NOT_MEASURED}\n"
    rows = []
    for point in found["points"]:
        shares = (100 * point["undisturbed"] / point[limit] for limit in ("limit", "limit_at_shapes"))
        cells = (f"{point['width']:g}", f"{point['members']:g}", f"{point['undisturbed']:,.0f}")
        rows.append(f"| {' | '.join(cells)} | {' | '.join(f'{share:.1f} %' for share in shares)} |")
    best = found["best"]
    rate, size = best["flops"] / 1e9, best["size"]
    told = f"Best matrix product: {rate:,.0f} GFLOP/s (float32, one thread, {size} × {size}).\n\n"
    head = "| width | members | steps a second | of the limit | at these shapes |\n|--:|--:|--:|--:|--:|\n"
    return told + head + "\n".join(rows) + "\n" + provenance([found["made"]])


def shares() -> str:
    """Where the time goes."""
    path = RESULTS / "shares.json"
    if not path.exists():
        return f"{NOT_MEASURED}\n"
    found = json.loads(path.read_text())
    return "\n".join(_shares(found["cases"])) + provenance([case["made"] for case in found["cases"].values()])


def _shares(cases: dict[str, Any]) -> Iterator[str]:
    for case in cases.values():
        columns = case["microseconds"]
        yield f"| {case['title']} | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}"
        for part in next(iter(columns.values())):
            yield f"| {part} | {' | '.join(f'{column[part]:,.0f}' for column in columns.values())} |"
        yield f"| all | {' | '.join(f'{sum(column.values()):,.0f}' for column in columns.values())} |\n"


def on_a_gpu() -> str:
    """The same questions on a GPU."""
    return ratios("cuda") if any(measured(name, "cuda") for name in CASES) else f"{NOT_MEASURED}\n"


def times(spread: dict[str, float]) -> str:
    """A ratio and the middle half of its rounds."""
    return f"{spread['median']:.2f} ({spread['low']:.2f}–{spread['high']:.2f})"


def provenance(made: list[dict[str, str]]) -> str:
    """When, where and by which commands."""
    told = {
        f"`{one['command']}`, {one['date']}, {one.get('machine', one['processor'])}, Python {one['python']}, "
        f"torch {one['torch']}, stable-baselines3 {one['stable-baselines3']}, gymnasium {one['gymnasium']}, "
        f"mujoco {one['mujoco']}": None
        for one in made
    }
    return f"\n<sub>{'; '.join(told)}.</sub>\n" if told else ""


CASES = ("ppo_cartpole", "ppo_cheetah", "ppo_ant", "sac_pendulum", "sac_cheetah", "sac_cheetah_8")
TABLES: dict[str, Callable[[], str]] = {
    "ratios": ratios,
    "sides": sides,
    "methods": methods,
    "scaling": scaling,
    "shares": shares,
    "gpu": on_a_gpu,
}


if __name__ == "__main__":
    PAGE.write_text(page())
