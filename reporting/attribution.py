"""Where the gap comes from: how much of it comes back when only a part of the agent is made new at every switch.

    share restored by a part = mean (R^part - R^none) / mean (R^fresh - R^none)

over later tasks and the seeds that all three arms have, with R the return at the end of a task. Arms that renew a part
at switches (the actor's head, its body, the critic, the optimiser's moments) are otherwise the plain agent, so that
the share tells which part carries what fails. Intervals draw triples of runs of one seed. Own definition; its logic is
that of the resets of single parts by Nikishin et al. (ICML 2022, arXiv 2205.07802) and of the control arms that a
collapse by a saturated policy calls for.

Traps: shares need not add up to 1, since parts depend on each other (a new head on an old body is not half a new
network). Renewing a part costs what it had learnt, so that a share of 0 does not prove it healthy. Where there is no
gap to speak of, there is nothing to divide by.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from configs import arms as labels
from metrics.tasks import later
from recording.console import number, share
from reporting import statistics
from reporting.arms import ArmSummary
from reporting.comparing import ratio
from reporting.statistics import Cells, Interval

HINT = (
    "No arm makes only a part of the agent new, so that nothing tells where the gap comes from; "
    "--reset full --reset.full.parts head --reset.full.networks actor makes one for the actor's head."
)


@dataclass
class PartEffect:
    """What making one part new at switches restores.

    Attributes:
        label: the part, such as `actor's head`.
        restored: share of the gap, 1 for all of it; None where there is no gap to divide, or no seed in common.
        return_: interquartile mean of the return at the end, over later tasks.
    """

    label: str
    restored: Interval | None
    return_: Interval


@dataclass
class Attribution:
    """The gap, divided among parts.

    Attributes:
        parts: the largest share first.
        sentence: what they say.
        gap: of the plain agent, where it is known.
    """

    parts: list[PartEffect]
    sentence: str
    gap: Interval | None = None


def attribute(arms: Sequence[ArmSummary]) -> Attribution | None:
    """Divide the gap of the plain agent; None without the arms none and fresh."""
    by_label = {arm.label: arm for arm in arms}
    plain, fresh = by_label.get(labels.NONE), by_label.get(labels.FRESH)
    if plain is None or fresh is None:
        return None
    partial = [(name, arm) for arm in arms if (name := labels.part(arm.label)) is not None]
    gap = plain.gap
    if not partial:
        return Attribution([], HINT, gap)
    divisible = gap is not None and gap.value > 0 and (gap.is_positive or gap.runs == 1)
    effects = [
        PartEffect(name, restored(arm, plain, fresh) if divisible else None, arm.aggregate) for name, arm in partial
    ]
    effects.sort(key=lambda effect: -effect.restored.value if effect.restored else 0.0)
    return Attribution(effects, _sentence(effects, gap, divisible), gap)


def restored(arm: ArmSummary, plain: ArmSummary, fresh: ArmSummary) -> Interval | None:
    """The share of the gap that an arm restores; None without a seed in common."""
    common = sorted(set(arm.seeds) & set(plain.seeds) & set(fresh.seeds))
    part, none, best = (later(_rows(each, common)) for each in (arm, plain, fresh))
    gained, gap = part - none, best - none
    unknown = np.isnan(gained) | np.isnan(gap)
    found = statistics.interval(ratio, np.where(unknown, np.nan, gained), np.where(unknown, np.nan, gap))
    return None if np.isnan(found.value) else found


def _rows(arm: ArmSummary, seeds: list[int]) -> Cells:
    return arm.per_task[[arm.seeds.index(seed) for seed in seeds]]


def _sentence(effects: Sequence[PartEffect], gap: Interval | None, divisible: bool) -> str:
    if gap is None:
        return "The arms none and fresh have no later task of one seed in common, so that there is no gap to divide."
    size = f"{number(gap.value)}{_ends(gap, number)}"
    if not divisible:
        what = "is negative" if gap.is_negative or gap.runs == 1 else "may as well be 0"
        return f"There is no gap to divide among parts: fresh less none is {size}, which {what}."
    parts = [
        f"{effect.label} {share(effect.restored.value)}{_ends(effect.restored, share)}"
        for effect in effects
        if effect.restored
    ]
    if not parts:
        return "No arm that makes a part new shares a seed with none and fresh."
    told = f"Of the gap of {size}, what comes back when one part alone is made new at every switch: {'; '.join(parts)}."
    first = effects[0]
    rest = [effect.restored.high for effect in effects[1:] if effect.restored]
    if first.restored and first.restored.is_positive and all(first.restored.low > high for high in rest):
        told += f" The {first.label} carries more of what fails than the other parts." if rest else ""
    if gap.runs == 1:
        told += " With one seed none of this can be told from chance."
    return f"{told} Shares need not add up, since parts depend on each other."


def _ends(interval: Interval, write: Callable[[float], str]) -> str:
    """The interval in brackets; nothing where there are too few runs for one."""
    if np.isnan(interval.low):
        return ""
    return f" (95 % interval {write(interval.low)} to {write(interval.high)})"
