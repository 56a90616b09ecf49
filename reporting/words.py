"""Numbers as text, and the sentences that a report begins with; the same on the page and in the terminal."""

import math
from collections.abc import Callable

from configs import arms as labels
from reporting.statistics import Interval
from reporting.summary import ArmSummary, Summary

Write = Callable[[float], str]


def steps(value: float) -> str:
    """Environment steps, in whole numbers; a dash where there are none."""
    return f"{value:,.0f}" if math.isfinite(value) else "–"


def number(value: float) -> str:
    """Three figures, or whole numbers beyond; a dash where nothing was measured."""
    return fitting(value)(value)


def fitting(*values: float) -> Write:
    """What writes all of these with the decimals that suit the largest of them."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    decimals = 0 if largest >= 99.95 else 1 if largest >= 9.995 else 2 if largest >= 0.9995 else 3

    def write(value: float) -> str:
        if math.isnan(value):
            return "–"
        text = f"{value:,.{decimals}f}"
        return signed(text if float(text.replace(",", "")) else text.lstrip("-"))

    return write


def signed(text: str) -> str:
    """A number with a minus sign in place of the hyphen."""
    return text.replace("-", "−")


def written(interval: Interval, write: Write | None = None) -> tuple[str, str]:
    """A value and the ends of its interval: `123` and `80 to 160`; no ends where too few runs were made for them."""
    write = write or fitting(interval.value, interval.low, interval.high)
    ends = "" if math.isnan(interval.low + interval.high) else f"{write(interval.low)} to {write(interval.high)}"
    return signed(write(interval.value)), signed(ends)


def with_interval(interval: Interval) -> str:
    """A value and its interval: `123 (95 % interval 80 to 160)`."""
    value, ends = written(interval)
    return f"{value} (95\u00a0% interval {ends})" if ends else value


def counted(amount: int, noun: str) -> str:
    """`1 run`, `3 runs`."""
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"


def headline(summary: Summary) -> list[str]:
    """What a reader in a hurry should know: is there plasticity loss, of which kind, and which arm is best."""
    arms = {arm.label: arm for arm in summary.arms}
    # Without a fresh arm, the first sentence on the illness says that whether there is one is not known.
    illness = summary.illness[: 1 if labels.FRESH in arms else 2]
    known = [] if illness and labels.FRESH not in arms else [loss(arms)]
    return [*known, *illness, best(summary.arms)]


def loss(arms: dict[str, ArmSummary]) -> str:
    """Whether the plain agent earns less than one that starts each task afresh."""
    plain = arms.get(labels.NONE)
    if plain is None or labels.FRESH not in arms:
        absent = [f"no arm {name}" for name in (labels.NONE, labels.FRESH) if name not in arms]
        return f"Whether plasticity is lost cannot be said: there is {' and '.join(absent)}."
    gap = plain.gap
    if gap is None or math.isnan(gap.value):
        return "Whether plasticity is lost cannot be said: none and fresh share no seed with a finished later task."
    less = gap.value >= 0
    shown = gap if less else Interval(-gap.value, -gap.high, -gap.low, gap.runs)
    value, ends = written(shown)
    earns = f"the plain agent earns {value} {'less' if less else 'more'} than one that starts each of them afresh"
    pairs = f"{counted(gap.runs, 'pair')} of runs"
    if not ends:
        return f"In later tasks {earns}, but with {pairs} this cannot be told from chance."
    begin = "Plasticity is lost" if gap.is_positive else "No plasticity is lost"
    if not (gap.is_positive or gap.is_negative):
        begin, ends = "Plasticity loss is not shown", f"{ends}, which has 0 in it"
    return f"{begin}: in later tasks {earns} (95\u00a0% interval {ends}; {pairs})."


def best(arms: list[ArmSummary]) -> str:
    """The arm with the highest return, and how sure that is; without fresh and the like."""
    ranked = [arm for arm in arms if arm.label != labels.FRESH and labels.part(arm.label) is None]
    found = [arm for arm in ranked if math.isfinite(arm.aggregate.value)]
    if not found:
        return "No arm has finished a later task yet, so nothing can be ranked."
    first = found[0]
    sentence = f"{first.label} earns {with_interval(first.aggregate)} in later tasks"
    if len(found) == 1:
        other = "other arm than fresh" if len(arms) > 1 else "other arm"
        return f"{sentence}; there is no {other} to compare it with."
    second = found[1]
    sentence = f"Best arm: {sentence}, followed by {second.label} with {with_interval(second.aggregate)}"
    if math.isnan(first.aggregate.low) or math.isnan(second.aggregate.high):
        return f"{sentence}; without more seeds this is an anecdote."
    if first.aggregate.low <= second.aggregate.high:
        return f"{sentence}; their intervals overlap."
    return f"{sentence}."
