"""Arms compared in one number each: over later tasks, against none, and part by part."""

from functools import partial

import numpy as np

from configs import arms as labels
from metrics.tasks import later
from recording.console import share
from reporting.figures import Dot, Line, Looks, dots
from reporting.illustrations.base import Illustration, told
from reporting.summary import Summary


def aggregates(summary: Summary, looks: Looks) -> Illustration:
    """The interquartile mean of each arm."""
    name, title = "aggregate_return", "Return over the later tasks"
    arms = [arm for arm in summary.arms if np.isfinite(arm.aggregate.value)]
    if not arms:
        return Illustration(name, title, "No arm has finished a later task yet.")
    rows = [
        Dot(
            arm.label,
            arm.aggregate.value,
            arm.aggregate.low,
            arm.aggregate.high,
            looks[arm.label],
            Line(later(arm.per_task).T).mean() if arm.runs > 1 else None,
        )
        for arm in arms
    ]
    return Illustration(
        name,
        title,
        "Interquartile mean over runs and later tasks with its 95 % interval; small dots: the mean of each run.",
        partial(dots, rows, "interquartile mean of the return"),
        "; ".join(f"{arm.label}: {told(arm.aggregate)}" for arm in arms),
    )


def improvements(summary: Summary, looks: Looks) -> Illustration:
    """How likely each arm is to earn more than the plain agent."""
    name, title = "probability_of_improvement", "Probability of improvement over none"
    found = [(arm, arm.improvement) for arm in summary.arms if arm.improvement and arm.label != labels.NONE]
    if not found:
        plain = any(arm.label == labels.NONE for arm in summary.arms)
        why = "There is no arm to compare with none." if plain else "There is no arm none to compare with."
        return Illustration(name, title, why)
    rows = [Dot(arm.label, chance.value, chance.low, chance.high, looks[arm.label]) for arm, chance in found]
    return Illustration(
        name,
        title,
        "How often a run of the arm earns more than a run of none in the same later task, with its 95 % interval.",
        partial(
            dots,
            rows,
            "probability of earning more than none",
            references=[(0.5, "no difference")],
            limits=(0.0, 1.0),
            share=True,
        ),
        "; ".join(f"{arm.label}: {told(chance, share)}" for arm, chance in found),
    )


def parts(summary: Summary, looks: Looks) -> Illustration:
    """What renewing a part at switches restores of the gap."""
    name, title = "where_the_gap_comes_from", "Where the gap comes from"
    if summary.attribution is None or not summary.attribution.parts:
        return Illustration(
            name,
            title,
            "This takes arms that renew one part of the agent at switches, beside none and fresh, such as:",
            command="python train.py … --reset full --reset.parts head --reset.networks actor",
        )
    parts = [(part, part.restored) for part in summary.attribution.parts if part.restored]
    if not parts:
        return Illustration(name, title, summary.attribution.sentence)
    look = next(iter(looks.values()))
    rows = [
        Dot(part.label, restored.value, restored.low, restored.high, looks.get(part.label + labels.RENEWED, look))
        for part, restored in parts
    ]
    return Illustration(
        name,
        title,
        f"{summary.attribution.sentence} Share of the gap between none and fresh that renewing this part alone at "
        "switches closes, with its 95 % interval.",
        partial(
            dots,
            rows,
            "share of the gap restored",
            references=[(0.0, "as none"), (1.0, "as fresh")],
            limits=(0.0, 1.0),
            share=True,
        ),
        "; ".join(f"{part.label}: {told(restored, share)}" for part, restored in parts),
    )
