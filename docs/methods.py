"""Writes `docs/methods.md`, the table of all methods, from the code and the measured costs: `python docs/methods.py`.

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

from agents.interventions import Intervention
from configs.flags import canonical
from configs.help import first_line
from configs.values import as_written
from optimizers import OPTIMIZERS
from regularizers import REGULARIZERS
from reporting.provenance import sources
from resets import RESETS, PlasticityInjection, TimedReset

PAGE = Path(__file__).with_name("methods.md")
COSTS = Path(__file__).parent.parent / "bench" / "results" / "interventions.json"
WIDTHS = ("64x64", "256x256")
SHARED = {"networks", "when", "every", "unit"}
"""Settings that every method of a room has; the column on when it fires says what they are."""

HEAD = """<!-- Made by `python docs/methods.py`; change the docstrings instead. -->

# Methods

Every method is one small file; its docstring has the equations, what is known to differ between paper and published
code, and the source of each default (`python train.py --reset redo --help` shows them). Resets and regularisers are
trained in the tests on PPO, A2C, SAC, TD3, DQN and TQC, with fully connected and with convolutional networks, and on
PPO and SAC stopped and resumed, bit for bit; optimisers on the same six agents; networks on all of them but A2C, whose
policies are PPO's. Exceptions are named below.

- **Fires**: "between rollouts" is when the last training is done and nothing of the next rollout stands yet. Periods
  are rounded up to that moment. A switch is an oracle: real life does not announce it.
- **Touches**: what the method overwrites or gives a gradient at any of its settings; a test holds it to that. `hidden`:
  weights and biases of hidden layers. `heads`: output layers (a unit's outgoing weights may stand there).
- **Cost**: {cost}

`--reset redo+cbp` and `--regularizer spectral+l2` combine; resets fire in the order in which they are named.
"""

COST = """time of PPO's training with the method at its defaults over that without, networks of 64x64 and 256x256
  units, median and middle half of the rounds; timed resets fire at every rollout here, whatever their period.
  Another round moves a figure by about 0.05. {sources}."""

OPTIMIZERS_HEAD = """
## Optimisers

`--optimizer` and a name; as a library `policy_kwargs=UnitAdam().policy_kwargs()`. SAC's entropy coefficient keeps SB3's
own Adam. `sam` needs the loss of each minibatch twice, which PPO, A2C and DQN can give; `kron` needs `pip install
perennial[kron]`.

| name | idea | paper | defaults | cost |
|---|---|---|---|---|
"""

NETWORKS_HEAD = """
## Networks

Settings of `--network mlp` and `--network cnn` alike; they combine. As a library: `agents/policies.py`.

| setting | idea and paper | cost |
|---|---|---|
"""

WHY = """
## What costs more than a tenth, and why

In networks of this size an update is some four hundred small operations, and it is their number that costs time.

- `spectral`, `cbp`, `snr`, `normalize_project`, `l2_init`: a few dozen operations of their own for all layers together;
  their arithmetic is small. Wider networks and larger minibatches hide them.
- `wasserstein` sorts every weight matrix (with `--regularizer.every 20` 1.1 to 1.2); `parseval` multiplies each by
  itself.
- `pfo`, `churn`, `infer`: a further forward pass, of a frozen copy or of another minibatch, `churn` with its backward.
- `plasticity_injection`: three heads in the place of one.
- `sam`: two passes over each minibatch. `muon` orthogonalises each hidden matrix at every step, `kron` keeps Kronecker
  factors of all; `upgd` draws noise for all weights.
- Normalisations are layers of their own; `spectral_norm` takes a power step in every forward pass.
"""

NETWORKS = {
    "network.layer-norm before": "Layer normalisation before each nonlinearity ([Lyle et al. 2024]"
    "(https://arxiv.org/abs/2407.01800))",
    "network.layer-norm after": "Layer normalisation after each nonlinearity ([Ba et al. 2016]"
    "(https://arxiv.org/abs/1607.06450))",
    "network.activation crelu": "relu(z) and relu(-z) of each unit ([Abbas et al. 2023]"
    "(https://arxiv.org/abs/2303.07507))",
    "network.activation fourier": "sin(z) and cos(z) of each unit ([Lewandowski et al. 2025]"
    "(https://arxiv.org/abs/2410.20634))",
    "network.activation adaptive_linear": "A learnt linear part where the nonlinearity is flat ([Rohani et al. 2025]"
    "(https://arxiv.org/abs/2505.09486))",
    "network.activation smooth_leaky_relu": "Leaky ReLU without the kink ([Lillo and Cheney 2025]"
    "(https://arxiv.org/abs/2509.22562))",
    "network.spectral-norm hidden": "Weights divided by their largest singular value ([Miyato et al. 2018]"
    "(https://arxiv.org/abs/1802.05957); in RL Bjorck et al. 2021, Gogianu et al. 2021); also `last_hidden`, `all`",
}


def page() -> str:
    """The whole page."""
    costs = json.loads(COSTS.read_text())["ppo"]
    made = {f"`{name}` {width}": cells[width]["made"] for name, cells in costs["methods"].items() for width in WIDTHS}
    parts = [HEAD.format(cost=COST.format(sources=sources(made)))]
    for title, flag, registry in (
        ("Resets", "--reset", RESETS),
        ("Regularisers and projections", "--regularizer", REGULARIZERS),
    ):
        parts.append(f"\n## {title}\n\n`{flag}` and a name, or several joined by a plus; a comma separates arms.\n\n")
        parts.append("| name | idea | paper | fires | touches | defaults | cost |\n|---|---|---|---|---|---|---|\n")
        parts += [f"| {' | '.join(row(name, kind, costs['methods']))} |\n" for name, kind in registry.items()]
    parts.append(OPTIMIZERS_HEAD)
    for name, kind in OPTIMIZERS.items():
        cells = [f"`{name}`", idea(kind), paper(kind), defaults(kind), cost(name, costs["methods"])]
        parts.append(f"| {' | '.join(cells)} |\n")
    parts.append(NETWORKS_HEAD)
    for setting, told in NETWORKS.items():
        parts.append(f"| `--{setting}` | {told} | {cost(setting, costs['methods'])} |\n")
    parts.append(WHY)
    return "".join(parts)


def row(name: str, kind: type[Intervention], costs: dict[str, Any]) -> Iterator[str]:
    """The cells of one reset or regulariser."""
    yield f"`{name}`"
    yield idea(kind)
    yield paper(kind)
    yield fires(kind())
    yield ", ".join(kind.touches)
    yield defaults(kind)
    yield cost(name, costs)


def idea(kind: type[Any]) -> str:
    """The first sentence of the class's docstring, without the paper."""
    return re.sub(r" \([^()]*\d{4}[^()]*\)", "", first_line(kind))


def paper(kind: type[Any]) -> str:
    """The paper as the class's docstring names it, with a link where the module's docstring gives its arXiv id."""
    named = re.search(r"\(([^()]*\d{4}[^()]*)\)", first_line(kind))
    module = inspect.getdoc(sys.modules[kind.__module__]) or ""
    arxiv = re.search(r"arXiv[\s:]+(\d{4}\.\d{5})", module)
    text = named[1] if named else ""
    return f"[{text}](https://arxiv.org/abs/{arxiv[1]})" if arxiv and ";" not in text else text


def fires(item: Intervention) -> str:
    """When a method acts at its defaults, in words."""
    found = []
    if (item.uses("loss_term") or item.uses("before_backward")) and getattr(item, "form", "loss") == "loss":
        found.append("in the loss, every gradient step")
    if item.uses("before_step"):
        found.append("before every gradient step")
    if isinstance(item, PlasticityInjection):
        found.append(f"once, between rollouts, after {item.every:,} {item.unit.replace('_', ' ')}")
    elif isinstance(item, TimedReset) and str(item.when) != "gradient_step":
        period = f"between rollouts, every {item.every:,} {item.unit.replace('_', ' ')}"
        found.append("at a switch" if item.when == "switch" else period)
    elif item.uses("after_step"):
        every = 1 if isinstance(item, TimedReset) else getattr(item, "every", 1)
        found.append("after every gradient step" if every == 1 else f"every {every:,} gradient steps")
    return "; ".join(found)


def defaults(kind: type[Any]) -> str:
    """Settings and their defaults as one writes them on the command line."""
    shown = [entry for entry in fields(kind) if entry.name not in SHARED]
    return ", ".join(f"{canonical(entry.name)} {as_written(entry.default)}" for entry in shown)


def cost(name: str, costs: dict[str, Any]) -> str:
    """Ratios with their middle half, by width."""
    cells = [costs[name][width] for width in WIDTHS]
    return "; ".join(f"{cell['ratio']:.2f} ({cell['low']:.2f}–{cell['high']:.2f})" for cell in cells)


if __name__ == "__main__":
    PAGE.write_text(page())
