"""A search for the settings of arms: trials that Optuna proposes, each trained with some seeds, worth what they earn.

    search:
      benchmark: switching              # the first one unless said
      seeds: [1000, 1001, 1002]         # other than those that are reported
      trials: 16                        # of each arm
      at_once: 4                        # trials that are proposed without knowing what the others of them are worth
      arms:
        redo: {reset.redo.tau: {low: 0.001, high: 0.5, log: true}, reset.redo.every: [2048, 20480]}

A trial is worth the mean return at the end of its later tasks, over its seeds. It is given up at the end of a task at
which its mean so far is below the median of the trials before those that were proposed with it. Whatever a trial is
compared with was known when it was proposed, and each proposal has a seed of its own: so the same file gives the same
search, whoever finishes first, and however often it is interrupted.

Proposals: tree-structured Parzen estimators (Bergstra et al., NeurIPS 2011) as in Optuna; the rule for giving up is its
`MedianPruner`'s.
"""

import hashlib
import json
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from configs import files
from configs.flags import canonical, from_mapping
from configs.plans import read_mapping
from configs.settings import UsageError, did_you_mean
from recording.console import make_table, number
from recording.directory import RunDirectory
from sweeping.job import Job
from sweeping.plan import Sweep, read_count, read_seeds

KEYS = ("benchmark", "seeds", "trials", "at_once", "arms")
RANGE = ("low", "high", "log")
STARTUP = 4
"""Finished trials before the first one is given up, and before proposals are more than draws from the ranges."""
SEED = 20_231_116
"""Of the proposals; a trial's number is added."""


@dataclass
class Search:
    """For one arm.

    Attributes:
        sweep: that it is of.
        benchmark: on which trials are trained.
        arm: whose settings are looked for.
        seeds: of each trial.
        trials: how many.
        at_once: how many are proposed together.
        space: what may be chosen for each setting.
    """

    sweep: Sweep
    benchmark: str
    arm: str
    seeds: tuple[int, ...]
    trials: int
    at_once: int
    space: dict[str, BaseDistribution]

    @property
    def folder(self) -> Path:
        """Where its trials are."""
        return self.sweep.folder / "search" / self.benchmark

    def job(self, settings: Mapping[str, Any]) -> Job:
        """The run of `train.py` that tries some settings."""
        flags = from_mapping(dict(settings), f"search: {self.arm}")
        words = [word for name, (values, _) in flags.items() for word in (f"--{canonical(name)}", *values)]
        return self.sweep.job(self.benchmark, self.arm, self.seeds, words, self.sweep.folder / "search")

    def made(self, study: optuna.Study) -> list[FrozenTrial]:
        """The trials that have come to an end; not what an interruption has left half proposed."""
        known = study.get_trials(deepcopy=False)
        return [trial for trial in known if trial.state.is_finished() and self.is_whole(trial)]

    def is_whole(self, trial: FrozenTrial) -> bool:
        """Whether all of its settings were proposed."""
        return trial.params.keys() == self.space.keys()

    def is_over(self, study: optuna.Study) -> bool:
        """Whether all trials have been made."""
        return len(self.made(study)) >= self.trials

    @property
    def digest(self) -> str:
        """Of all that trials have in common: with other settings, seeds or ranges it is another search."""
        ranges = {name: repr(distribution) for name, distribution in sorted(self.space.items())}
        content = json.dumps([self.sweep.words[self.benchmark, self.arm], list(self.seeds), ranges])
        return hashlib.sha256(content.encode()).hexdigest()

    def study(self) -> optuna.Study:
        """What is known of all trials so far."""
        self.folder.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # the sweep does the talking
        journal = self.folder / f"{self.arm}-{self.digest[:6]}.journal"
        storage = JournalStorage(JournalFileBackend(str(journal)))
        return optuna.create_study(storage=storage, study_name=self.arm, direction="maximize", load_if_exists=True)


def read_searches(sweep: Sweep, block: Any) -> list[Search]:
    """The searches of a sweep, one for each arm that its file names.

    Raises:
        UsageError: anything wrong in the block; one sentence.
    """
    where = f"{sweep.name}.yaml: search"
    tree = dict(read_mapping(block or {}, where))
    if unknown := next((key for key in tree if key not in KEYS), None):
        near = did_you_mean(unknown, KEYS) or "."
        raise UsageError(f"{where}: {unknown!r} is no part of a search, which has {', '.join(KEYS)}{near}")
    benchmark = tree.get("benchmark", sweep.benchmarks[0])
    if benchmark not in sweep.benchmarks:
        near = did_you_mean(benchmark, sweep.benchmarks) or "."
        raise UsageError(f"{where}.benchmark must be one of {', '.join(sweep.benchmarks)}, not {benchmark!r}{near}")
    if "seeds" not in tree:
        raise UsageError(f"{where} needs seeds, other than those that are reported.")
    seeds = read_seeds(tree["seeds"], where)
    if used := sorted(set(seeds) & {seed for job in sweep.jobs for seed in job.seeds}):
        raise UsageError(f"{where}.seeds must be other than those that are reported, not {used[0]}.")
    trials = read_count(tree.get("trials", 16), f"{where}.trials")
    at_once = read_count(tree.get("at_once", 4), f"{where}.at_once")
    arms = read_mapping(tree.get("arms") or {}, f"{where}.arms")
    if not arms:
        raise UsageError(f"{where}.arms needs at least one arm, with what may be chosen.")
    found = []
    for arm, ranges in arms.items():
        if arm not in sweep.arms:
            near = did_you_mean(arm, sweep.arms) or "."
            raise UsageError(f"{where}.arms must be of {', '.join(sweep.arms)}, not {arm!r}{near}")
        space = {
            str(name): _distribution(content, f"{where}.arms.{arm}: {name}")
            for name, content in read_mapping(ranges or {}, f"{where}.arms.{arm}").items()
        }
        if not space:
            raise UsageError(f"{where}.arms.{arm} needs at least one setting.")
        search = Search(sweep, benchmark, arm, tuple(seeds), trials, at_once, space)
        for corner in ("low", "high"):  # a setting that train.py refuses is found before any trial
            search.job({name: _end(distribution, corner) for name, distribution in space.items()})
        found.append(search)
    return found


def _distribution(content: Any, where: str) -> BaseDistribution:
    """A list of choices, or a range of numbers."""
    if isinstance(content, list) and len(content) > 1 and not any(isinstance(item, (list, dict)) for item in content):
        return CategoricalDistribution(content)
    if isinstance(content, Mapping) and {"low", "high"} <= set(content) <= set(RANGE):
        low, high = (_number(content[end]) for end in ("low", "high"))
        log = content.get("log", False)
        numbers = all(type(number) in (int, float) for number in (low, high)) and type(log) is bool
        if numbers and low < high and (low > 0 or not log):
            whole = type(low) is type(high) is int
            return IntDistribution(low, high, log=log) if whole else FloatDistribution(low, high, log=log)
    raise UsageError(
        f"{where} must be a list of choices, or {{low: 0.001, high: 0.5, log: true}} with low below high "
        f"(and above 0 where log is true), not {content!r}."
    )


def _number(value: Any) -> Any:
    """A number that YAML reads as a text, such as 1e-4, as what it is; anything else as it stands."""
    if isinstance(value, str):
        with suppress(ValueError):
            return float(value)
    return value


def _end(distribution: BaseDistribution, corner: str) -> Any:
    """The least or the greatest that may be chosen."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0 if corner == "low" else -1]
    return getattr(distribution, corner)


class Proposals:
    """The trials of an arm that are proposed together, and what becomes of them.

    Args:
        search: whose they are.
        study: what is known of all trials.
    """

    def __init__(self, search: Search, study: optuna.Study) -> None:
        self.search = search
        self.study = study
        known = study.get_trials(deepcopy=False)
        before = search.made(study)
        first = len(before)
        # Where it was interrupted, the trials that were proposed are there.
        count = min(search.at_once, search.trials - first)
        self.trials = []
        for trial in known:
            if not trial.state.is_finished():
                whole = search.is_whole(trial)
                self.trials.append(trial) if whole else study.tell(trial.number, state=TrialState.FAIL)
        while len(self.trials) < count:
            self.trials.append(self._propose(first + len(self.trials)))
        self.jobs: dict[Job, list[FrozenTrial]] = {}  # the same settings may have been proposed twice
        for trial in self.trials:
            self.jobs.setdefault(search.job(trial.params), []).append(trial)
        self._courses = [_course(trial) for trial in before if trial.state == TrialState.COMPLETE]

    def _propose(self, number: int) -> FrozenTrial:
        # A new sampler each time, so that what it draws depends on the number of the trial and on nothing else.
        self.study.sampler = optuna.samplers.TPESampler(n_startup_trials=STARTUP, seed=SEED + number)
        asked = self.study.ask(self.search.space)
        return self.study.get_trials(deepcopy=False)[asked.number]

    def is_hopeless(self, job: Job) -> bool:
        """Whether a trial is to be given up, once another task is finished."""
        return given_up_at(running_means(returns(job)), self._courses) is not None

    def tell(self, failed: Iterable[Job]) -> None:
        """Write down what the trials, all of which have ended, are worth."""
        failed = set(failed)
        worth = {trial.number: (trial, job) for job, trials in self.jobs.items() for trial in trials}
        for place, (trial, job) in sorted(worth.items()):
            ends = returns(job)
            means = running_means(ends)
            # Asked once more, because a trial may have finished before it could be stopped.
            stop = given_up_at(means, self._courses)
            if job in failed or not ends:
                self.study.tell(place, state=TrialState.FAIL)
                continue
            live = optuna.Trial(self.study, trial._trial_id)
            for task, mean in enumerate(means if stop is None else means[: stop + 1]):
                live.report(mean, task)
            if stop is None:
                self.study.tell(place, means[-1] if means else ends[-1])  # of a run of one task
            else:
                self.study.tell(place, state=TrialState.PRUNED)


def returns(job: Job) -> list[float]:
    """The return at the end of each task that all seeds have finished, the mean over them."""
    members = [RunDirectory(job.path / name) for name in job.names] or [RunDirectory(job.path)]
    rows = [[float(row["return_end"]) for row in member.read_tasks()] for member in members]
    return [statistics.fmean(cells) for cells in zip(*rows, strict=False)]


def running_means(ends: list[float]) -> list[float]:
    """For each task but the first, on which arms are alike, the mean over those up to it."""
    return [statistics.fmean(ends[1 : last + 1]) for last in range(1, len(ends))]


def given_up_at(means: list[float], before: list[list[float]]) -> int | None:
    """The first task at which a trial is below the median of earlier ones; None where there is none, or too few."""
    if len(before) < STARTUP:
        return None
    last = min(len(course) for course in before) - 1  # there it is finished anyway
    for task, mean in enumerate(means[:last]):
        if not mean >= statistics.median(course[task] for course in before):
            return task
    return None


def _course(trial: FrozenTrial) -> list[float]:
    """What was reported of a finished trial, task by task."""
    return [trial.intermediate_values[task] for task in sorted(trial.intermediate_values)]


def ranked(study: optuna.Study) -> list[tuple[float, FrozenTrial]]:
    """What finished trials are worth, the best first."""
    finished = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    found = [(trial.value, trial) for trial in finished if trial.value is not None]
    return sorted(found, key=lambda each: -each[0])


def print_trials(search: Search, study: optuna.Study, console: Console, most: int = 10) -> None:
    """The trials that were worth most, and how many were given up or have failed."""
    finished = ranked(study)
    states = Counter(trial.state for trial in study.get_trials(deepcopy=False))
    console.print(
        f"{search.arm} on {search.benchmark}: {len(finished)} trials finished, {states[TrialState.PRUNED]} given up, "
        f"{states[TrialState.FAIL]} failed; return at the end of later tasks, {len(search.seeds)} seeds",
        style="bold",
        highlight=False,
        soft_wrap=True,
    )
    table = make_table()
    table.add_column("trial", justify="right")
    table.add_column("return", justify="right")
    for name in search.space:
        table.add_column(name, justify="right", overflow="fold")
    for value, trial in finished[:most]:
        table.add_row(str(trial.number), number(value), *(shown(trial.params[name]) for name in search.space))
    console.print(table)


def shown(value: Any) -> str:
    """A setting as it is written into tables."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_best(search: Search, study: optuna.Study) -> Path | None:
    """Keep the best settings as an arm that a sweep's file can take."""
    found = ranked(study)
    if not found:
        return None
    path = search.folder / f"{search.arm}.yaml"
    comment = f"The best of {search.trials} trials with seeds {', '.join(map(str, search.seeds))}: an arm of a sweep."
    files.write(path, {f"{search.arm} tuned": {**search.sweep.blocks[search.arm], **found[0][1].params}}, comment)
    return path
