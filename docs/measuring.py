"""Writes `docs/measuring.md`, on what is measured and how, from the code: `python docs/measuring.py`.

A test compares the page with what this makes, so that it can't go stale.
"""

import inspect
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from configs.help import first_line
from configs.values import as_written
from metrics import METRICS, Metric
from reporting.provenance import sources

PAGE = Path(__file__).with_name("measuring.md")
COSTS = Path(__file__).parent.parent / "bench" / "results" / "measuring.json"

HEAD = """<!-- Made by `python docs/measuring.py`; change the docstrings instead. -->

# Measuring

`--metrics default`, `all`, `none`, or names: `--metrics default,srank,hessian --metrics.hessian.order 60`. Each is one
small file in `metrics/` that says which definition it is, where the field uses one word for several (three things are
called stable rank), and what its traps are.

Measuring never moves the agent: with all metrics on, a run's weights are bit for bit those of the run with none, which
tests hold on PPO, SAC, A2C and DQN.

## When, and on what

- Cheap metrics are measured every `--measure-every` steps (2,048) and at the end of each task; costly ones every
  `--measure-costly-every` (40,960), and at the beginnings and ends of tasks once three quarters of that have gone by.
  Both are rounded up to whole rollouts.
- Those that read activations are measured twice: on the **current batch**, `--measure-samples` (512) transitions of the
  last rollout, or of the last steps in the replay buffer; and on the **probe batch**, the first batch of the run, which
  never changes (`probe.npz`). What moves on both is the network; what moves on the current batch alone may be what the
  agent sees. An on-policy statistic confounds the two (Moalla et al. 2024), a replay buffer mixes tasks.
- Some are also measured on the **first batch of each task**, before the agent has learnt anything from it (off-policy:
  within its first {fewest} transitions). There a saturated policy shows, which is another illness than a body that
  cannot be trained, and has other cures.
- Metrics of **gradient steps** look at one of {every} steps (`churn` at one of {of_outputs}), between `zero_grad` and
  the step, before any clipping, and are averaged until the next measurement. A SAC critic is so seen in its own step,
  not in the actor's.

| file | what |
|---|---|
| `metrics.jsonl` | every measurement, with layers (`actor/dormant/0`) and both batches |
| `tasks.csv` | a row for each task: values of whole networks at its end, `switch/…` on its first batch |
| `episodes.csv` | every episode: step, task, return, length, and whether a switch cut it short |
| TensorBoard | the page "Custom scalars" has four parts: learning, tasks, networks, gradients and curvature |

`--histograms` adds all weights and activations to TensorBoard. Its HParams tab sorts runs by `final/plasticity_gap`,
which is written once the fresh arm (`--reset full`) has finished in the same folder.

```python
from metrics import diagnose

print(diagnose(model, observations))  # any SB3 model; in a notebook it shows as a table
```

```console
python -m metrics runs/cartpole_permuted/ppo-none-s0-…/model.zip     # loads nothing that could run code
python report.py runs/cartpole_permuted                              # compares arms: tables, figures, one HTML page
```

{cost}
"""

COST = """Cost: the share of a run's processor time that measuring takes, and the run's time over that without any
metric (median and middle half), which a busy machine blurs. {sources}.
All metrics stay below a tenth in short tasks of wide networks too; `--measure-costly-every` thins them out.

| run | default | all |
|---|---|---|
{rows}
"""

FAMILIES = {
    "units": "Units",
    "ranks": "Representations",
    "weights": "Weights",
    "gradients": "Gradients",
    "curvature": "Curvature",
    "policy": "Policy and value",
    "trainability": "Trainability",
}
READS = {
    "weights": "weights",
    "batch": "current and probe batch",
    "rollout": "current batch",
    "step": "gradient steps",
}
TASKS = """
## Tasks

What an agent earns is measured from `episodes.csv`, in `metrics/tasks/`, one file a measure; `report.py` shows them.

| measure | what |
|---|---|
{rows}"""


def page() -> str:
    """The whole page."""
    from recording.measuring import FEWEST, OUTPUTS_EVERY, STEP_EVERY

    parts = [HEAD.format(fewest=FEWEST, every=STEP_EVERY, of_outputs=STEP_EVERY * OUTPUTS_EVERY, cost=costs())]
    for family, title in FAMILIES.items():
        parts.append(f"\n## {title}\n\n| name | what | values | measured on | settings |\n|---|---|---|---|---|\n")
        own = ((name, kind) for name, kind in METRICS.items() if kind.family == family)
        parts += [f"| {' | '.join(row(name, kind))} |\n" for name, kind in own]
    parts.append(TASKS.format(rows="".join(task_rows())))
    return "".join(parts)


def row(name: str, kind: type[Metric]) -> Iterator[str]:
    """The cells of one metric."""
    yield f"`{name}`"
    yield linked(kind)
    yield ", ".join(f"`{value}`" for value in kind.names)
    extras = [READS[kind.reads], *["first of each task"] * kind.at_switch, *["costly"] * kind.costly]
    yield ", ".join(extras) + ("; **default**" if kind.default else "")
    yield ", ".join(f"{entry.name.replace('_', '-')} {as_written(entry.default)}" for entry in fields(kind)) or "–"


def linked(kind: type[Any]) -> str:
    """The first sentence of the class's docstring, its paper a link where the module's docstring gives an arXiv id."""
    first = first_line(kind)
    module = inspect.getdoc(sys.modules[kind.__module__]) or ""
    named = re.search(r"\(([^()]*\d{4}[^()]*)\)", first)
    if named is None:
        return first
    author = re.search(r"([A-Z]\w+)(?: and [A-Z]\w+| et al\.)? \d{4}", named[1])
    # The number that follows the author's name, before that of any other paper.
    sources = re.findall(r"(.*?)arXiv[\s:]+(\d{4}\.\d{5})", module, re.DOTALL)
    found = [arxiv for text, arxiv in sources if author and author[1] in text[-300:]]
    if not found or ";" in named[1]:
        return first
    return first.replace(named[0], f"([{named[1]}](https://arxiv.org/abs/{found[-1]}))")


def task_rows() -> Iterator[str]:
    """A row for each measure of a task, from the first line of its file."""
    for path in sorted((Path(__file__).parent.parent / "metrics" / "tasks").glob("[a-z]*.py")):
        first = path.read_text().partition('"""')[2].partition('"""')[0].partition("\n\n")[0].replace("\n", " ")
        name, _, told = first.partition(": ")
        yield f"| {name if told else path.stem.replace('_', ' ')} | {(told or first).rstrip('.')} |\n"


def costs() -> str:
    """The measured costs."""
    if not COSTS.exists():
        return ""
    found = json.loads(COSTS.read_text())
    made = {case: sets["made"] for case, sets in found["cases"].items()}
    rows = []
    for case, sets in found["cases"].items():
        cells = [
            f"{100 * cell['share']:.1f} %, {cell['ratio']:.2f} ({cell['low']:.2f}–{cell['high']:.2f})"
            for cell in (sets["default"], sets["all"])
        ]
        rows.append(f"| {case} | {' | '.join(cells)} |")
    return COST.format(rows="\n".join(rows), sources=sources(made))


if __name__ == "__main__":
    PAGE.write_text(page())
