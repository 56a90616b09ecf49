"""Tables of arms: how much they earn, and how fast they learn."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from configs import arms as labels
from recording.console import share
from reporting.figures import Looks
from reporting.statistics import Interval
from reporting.summary import ArmSummary
from reporting.words import Write, number, steps, written


class Cell:
    """A cell of a table: a value, and what stands below it in small type, first its interval."""

    def __init__(self, value: str = "", *below: str) -> None:
        self.value = value
        self.below = [text for text in below if text]


@dataclass(frozen=True)
class Row:
    """A row of a table: an arm and its cells."""

    label: str
    color: str
    note: str
    cells: list[Cell]


@dataclass(frozen=True)
class Table:
    """A table of arms; columns in which no arm has a value are left out."""

    columns: list[str]
    rows: list[Row]


def ranking(arms: Sequence[ArmSummary], looks: Looks) -> Table:
    """The arms, best first: return, gap, and how likely an improvement is."""
    columns = {
        "return in later tasks": [_cell(arm.aggregate) for arm in arms],
        "gap to fresh": [_cell(arm.gap) for arm in arms],
        "normalised gap": [_cell(arm.normalized_gap, share) for arm in arms],
        "probability of improvement over none": [_cell(arm.improvement, share) for arm in arms],
        "runs": [_seeds(arm) for arm in arms],
    }
    return _table(arms, columns, looks)


def speed(arms: Sequence[ArmSummary], looks: Looks) -> Table:
    """How fast the arms learn each task, what they carry over, and what they cost."""
    columns = {
        "area under the curve": [_cell(arm.area) for arm in arms],
        "steps to recover": [_recovery(arm) for arm in arms],
        "drop at switches": [_cell(arm.drop) for arm in arms],
        "jump start": [_cell(arm.jump_start) for arm in arms],
        "forward transfer": [_cell(arm.forward_transfer) for arm in arms],
        "forgetting": [_cell(arm.forgetting) for arm in arms],
        "steps a second": [Cell(number(arm.steps_per_second or math.nan).strip("–")) for arm in arms],
    }
    return _table(arms, columns, looks)


def _cell(interval: Interval | None, write: Write | None = None) -> Cell:
    return Cell() if interval is None or math.isnan(interval.value) else Cell(*written(interval, write))


def _recovery(arm: ArmSummary) -> Cell:
    """Mean steps to recover; below them their interval, their median and how often the return never came back."""
    cell = _cell(arm.recovery, steps)
    told = []
    if arm.recovery_median is not None and math.isfinite(arm.recovery_median):
        told.append(f"median {steps(arm.recovery_median)}")
    if arm.recovery_censored is not None and not math.isnan(arm.recovery_censored):
        told.append(f"never in {share(arm.recovery_censored)}")
    return Cell(cell.value, *cell.below, ", ".join(told)) if cell.value else Cell()


def _seeds(arm: ArmSummary) -> Cell:
    """The number of runs, and below it their seeds."""
    seeds = sorted(arm.seeds)
    row = len(seeds) > 2 and seeds == list(range(seeds[0], seeds[0] + len(seeds)))
    named = f"{seeds[0]} to {seeds[-1]}" if row else ", ".join(map(str, seeds))
    return Cell(str(arm.runs), f"seed{'' if len(seeds) == 1 else 's'} {named}")


def _table(arms: Sequence[ArmSummary], columns: dict[str, list[Cell]], looks: Looks) -> Table:
    kept = {title: cells for title, cells in columns.items() if any(cell.value for cell in cells)}
    notes = {labels.NONE: "the plain agent", labels.FRESH: "starts each task afresh"}
    rows = [
        Row(arm.label, looks[arm.label].color, notes.get(arm.label, ""), [cells[place] for cells in kept.values()])
        for place, arm in enumerate(arms)
    ]
    return Table(list(kept), rows)
