"""Draws the pictures of `docs/concepts.md`: `python docs/concepts.py`."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from reporting.figures.style import COLORS, FAINT, INK

HERE = Path(__file__).parent
PERIOD, ROLLOUT, STEPS = 10.0, 2.0, 40.0
WORDS = ("original", "obs −2 −1 −0 −3", "obs +1 +2 −0 −3", "obs +3 −2 +1 −0")


def clock() -> Figure:
    """Tasks, episodes, rollouts and the times of interventions on the one clock of a run."""
    figure = Figure(figsize=(8.6, 3.1))
    axis = figure.subplots()
    rows = {
        "tasks": 5.0,
        "episodes": 4.0,
        "rollouts": 3.0,
        "at switches": 2.0,
        "every so often": 1.0,
        "every step": 0.0,
    }
    for task, words in enumerate(WORDS):
        axis.barh(rows["tasks"], PERIOD, left=task * PERIOD, height=0.62, color=COLORS[task], alpha=0.25)
        axis.text((task + 0.5) * PERIOD, rows["tasks"], f"task {task}: {words}", ha="center", va="center", fontsize=8)
        if task:
            axis.plot([task * PERIOD] * 2, [-0.6, 5.5], color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
            axis.text(task * PERIOD, 5.55, "switch", ha="center", va="bottom", fontsize=8, color=INK)
    for begin, end, cut in _episodes():
        axis.barh(rows["episodes"], end - begin - 0.12, left=begin, height=0.4, color="#d9d9d9")
        if cut:
            axis.plot([end - 0.12] * 2, [rows["episodes"] - 0.3, rows["episodes"] + 0.3], color=COLORS[2], linewidth=2)
    for begin in np.arange(0, STEPS, ROLLOUT):
        axis.barh(rows["rollouts"], ROLLOUT - 0.12, left=begin, height=0.4, color="#cfe0ee")
        steps = begin + ROLLOUT - 0.1 + 0.09 * np.arange(-4, 0)
        axis.plot(steps, [rows["every step"]] * len(steps), "|", color=COLORS[3], markersize=8)
    axis.plot(PERIOD * np.arange(1, 4), [rows["at switches"]] * 3, "v", color=COLORS[0], markersize=8)
    due = np.arange(7, STEPS, 7.0)
    fires = np.ceil(due / ROLLOUT) * ROLLOUT
    for one, other in zip(due, fires, strict=True):
        axis.plot([one, other], [rows["every so often"]] * 2, color=FAINT, linewidth=1)
    axis.plot(due, [rows["every so often"]] * len(due), "o", color=FAINT, markersize=3)
    axis.plot(fires, [rows["every so often"]] * len(fires), "D", color=COLORS[2], markersize=6)
    labels = {
        "tasks": "tasks",
        "episodes": "episodes, cut\nshort at a switch",
        "rollouts": "rollouts, an\nupdate after each",
        "at switches": "when=switch\n(fresh, fire)",
        "every so often": "when=periodic\n(redo, interpolate)",
        "every step": "each gradient step\n(cbp, swr, l2)",
    }
    axis.set_yticks(list(rows.values()), [labels[name] for name in rows], fontsize=8)
    axis.set_xlim(0, STEPS)
    axis.set_ylim(-0.6, 6.1)
    axis.set_xticks([])
    axis.set_xlabel("environment steps of the run, over all parallel environments", fontsize=8)
    axis.tick_params(length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)
    figure.tight_layout()
    return figure


def _episodes() -> Iterator[tuple[float, float, bool]]:
    """Beginnings and ends of episodes, and whether a switch cut them short."""
    rng, now = np.random.default_rng(3), 0.0
    while now < STEPS:
        switch = (now // PERIOD + 1) * PERIOD
        end = now + rng.uniform(0.8, 3.6)
        yield now, min(end, switch), end > switch and switch < STEPS
        now = min(end, switch)


def update() -> Figure:
    """Where in the course of one update each kind of intervention acts."""
    figure = Figure(figsize=(8.6, 2.3))
    axis = figure.subplots()
    stations = {
        0.0: "rollout",
        1.4: "zero_grad",
        3.7: "loss and\nbackward",
        5.1: "clip",
        6.9: "step",
        10.5: "next\nrollout",
    }
    for x, words in stations.items():
        box = FancyBboxPatch(
            (x - 0.42, -0.28), 0.84, 0.56, boxstyle="round,pad=0.03", facecolor="#eeeeee", edgecolor=FAINT
        )
        axis.add_patch(box)
        axis.text(x, 0, words, ha="center", va="center", fontsize=8)
    places = list(stations)
    for one, other in pairwise(places):
        axis.annotate("", (other - 0.46, 0), (one + 0.46, 0), arrowprops={"arrowstyle": "-|>", "color": FAINT})
    hooks = [
        (2.45, COLORS[0], "before_backward", "spectral, l2,\nparseval"),
        (3.7, COLORS[0], "loss_term", "churn, pfo,\ninfer"),
        (6.0, COLORS[0], "before_step", "decay apart\nfrom Adam"),
        (7.95, COLORS[2], "after_step", "cbp, swr,\nweight_clipping"),
        (9.45, COLORS[2], "between_rollouts", "redo, interpolate,\nfull, fire"),
    ]
    for x, color, moment, methods in hooks:
        top = -0.3 if x in stations else 0.0
        axis.plot([x, x], [top, -0.62], color=color, linewidth=1.1)
        axis.plot([x], [top], "o", color=color, markersize=4)
        axis.text(x, -0.68, moment, ha="center", va="top", fontsize=7.5, color=color, family="monospace")
        axis.text(x, -0.98, methods, ha="center", va="top", fontsize=7.5, color=INK)
    axis.plot([8.55, 8.55, 1.4, 1.4], [0, 0.72, 0.72, 0.4], color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    axis.annotate("", (1.4, 0.3), (1.4, 0.5), arrowprops={"arrowstyle": "-|>", "color": FAINT})
    axis.text(5.0, 0.76, "each minibatch", ha="center", va="bottom", fontsize=8, color=INK)
    axis.set_xlim(-0.6, 11.1)
    axis.set_ylim(-1.6, 1.05)
    axis.axis("off")
    figure.tight_layout()
    return figure


if __name__ == "__main__":
    for name, picture in (("clock", clock()), ("update", update())):
        picture.savefig(HERE / f"concepts_{name}.png", dpi=150)
