"""From laps to figures: speeds of sides, and how many times faster one is than another, with the spread over rounds."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .cases import Question
from .work import Lap

Heat = Sequence[Lap]
"""The laps of a side's processes, which ran at the same time."""
Round = Mapping[str, Heat]
"""Heats by side, all of the same round."""
Measure = Callable[[Heat], float]


def per_second(heat: Heat) -> float:
    """Environment steps a second, of all processes together: each runs for as long as the others."""
    return sum(lap.steps / lap.seconds for lap in heat)


def undisturbed(heat: Heat) -> float:
    """The same had other programs never taken a processor away.

    A process that was at work for less than the time that went by would have needed no more than its own processor
    time, with a processor to itself; one that was at work for more, with several threads, is taken as it was.
    """
    return sum(lap.steps / min(lap.seconds, lap.processor) for lap in heat)


MEASURES: dict[str, Measure] = {"wall": per_second, "undisturbed": undisturbed}


@dataclass(frozen=True)
class Spread:
    """The median over rounds, and the ends of their middle half."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Of at least one value."""
        found = list(values)
        low, median, high = statistics.quantiles(found, n=4, method="inclusive") if len(found) > 1 else found * 3
        return cls(*(float(f"{value:.4g}") for value in (median, low, high)))

    def __str__(self) -> str:
        digits = 2 if self.median < 100 else 0
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f}–{self.high:,.{digits}f})"


def fastest(sides: Iterable[str], rounds: Sequence[Round], measure: Measure) -> str:
    """The side whose median is highest."""
    return max(sides, key=lambda side: statistics.median(measure(one[side]) for one in rounds))


@dataclass(frozen=True)
class Ratio:
    """How many times faster one side is than another."""

    ours: str
    theirs: str
    times: Spread

    def __str__(self) -> str:
        return f"{self.times}\n{self.ours} / {self.theirs}"


def answer(question: Question, rounds: Sequence[Round]) -> dict[str, Ratio]:
    """By each measure, ratios within each round, of the sides that are fastest over all rounds."""
    found = {}
    for name, measure in MEASURES.items():
        ours, theirs = (fastest(sides, rounds, measure) for sides in (question.ours, question.theirs))
        found[name] = Ratio(ours, theirs, Spread.of(measure(one[ours]) / measure(one[theirs]) for one in rounds))
    return found


@dataclass(frozen=True)
class Speed:
    """A side's own figures.

    Attributes:
        wall: environment steps a second.
        undisturbed: the same had other programs never taken a processor away.
        at_work: share of the wall's time for which a process was at work, in the median; above 1 with several threads.
            With one thread, 1 where nobody else wanted the processor.
        peak_mib: memory of its largest process.
    """

    wall: Spread
    undisturbed: Spread
    at_work: float
    peak_mib: int

    @classmethod
    def of(cls, heats: Sequence[Heat]) -> "Speed":
        """From all heats of the side."""
        laps = [lap for heat in heats for lap in heat]
        return cls(
            wall=Spread.of(map(per_second, heats)),
            undisturbed=Spread.of(map(undisturbed, heats)),
            at_work=round(statistics.median(lap.processor / lap.seconds for lap in laps), 2),
            peak_mib=round(max(lap.peak for lap in laps) / 2**20),
        )
