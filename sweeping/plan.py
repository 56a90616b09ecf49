"""What a sweep consists of: arms x benchmarks x seeds, from one YAML file. Each cell is a run of `train.py`.

    seeds: 8                      # how many, from 0 on, or the seeds themselves: [3, 5, 9]
    together: 8                   # seeds of an arm that are trained as one population; 1: each by itself
    settings: {agent: ppo}        # what all cells have in common, written as in a file for --config
    benchmarks:
      switching: {config: cartpole_permuted}
      still: {config: cartpole_permuted, schedule: stationary, arms: [none]}  # all arms where none are named
    arms:
      none: {}
      fresh: {reset: fresh}
      gentle: {reset: {redo: {tau: 0.05}}, regularizer: l2}

Benchmarks and arms that need no settings of their own can be listed by name: `arms: [none, fresh, redo+spectral]`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from configs import files
from configs.building import check_times, usage_errors
from configs.flags import canonical, from_mapping
from configs.names import ARMS, CHOICES, ONE, SEVERAL, read_block, read_normalize, underscored
from configs.plans import read_mapping
from configs.population import LAST_SEED, MOST_MEMBERS, CommandLine, Population
from configs.settings import LARGEST, UsageError, did_you_mean
from envs.reading import scaled, times
from recording.directory import RUNS
from sweeping.job import Job

KEYS = ("seeds", "together", "settings", "benchmarks", "arms", "search")
NOT_HERE = {
    "seed": "the sweep's own `seeds` say which",
    "seeds": "the sweep's own `seeds` say which",
    "processes": "the engine says how many there are",
    "run_dir": "each cell has a directory named after its configuration",
    "restart": "a sweep goes on with what is there",
    "verify": "it trains nothing",
    "quiet": "the sweep does the talking",
}
"""Settings of `train.py` that cells cannot have, and why."""
LONGEST_NAME = 60


@dataclass
class Sweep:
    """Arms x benchmarks x seeds.

    Attributes:
        name: what the folder of its runs is called.
        folder: where its runs are.
        jobs: what is trained, each one or several cells, benchmark by benchmark, the first seeds of all arms first.
        words: of the command line of each arm on each benchmark, but for its seeds.
        blocks: what its file says of each arm.
        search: what its file says of a search, not yet looked at.
    """

    name: str
    folder: Path
    jobs: list[Job]
    words: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    blocks: dict[str, dict[str, Any]] = field(default_factory=dict)
    search: Any = None

    @property
    def benchmarks(self) -> list[str]:
        """Their names, in order."""
        return list(dict.fromkeys(job.benchmark for job in self.jobs))

    @property
    def arms(self) -> list[str]:
        """Their names, in order."""
        return list(dict.fromkeys(job.arm for job in self.jobs))

    @property
    def cells(self) -> int:
        """How many runs there are."""
        return sum(job.cells for job in self.jobs)

    def job(self, benchmark: str, arm: str, seeds: Sequence[int], more: Sequence[str], folder: Path) -> Job:
        """Some seeds of an arm on a benchmark with more settings; a UsageError where `train.py` refuses them."""
        cell = _Cell([*self.words[benchmark, arm], *more], benchmark, arm, f"{self.name}.yaml")
        return cell.job(tuple(seeds), folder)


def find(name: str) -> Path:
    """The file of a sweep, by its path or as one of those that are shipped."""
    return files.find("sweeps", name, "sweep")


def read_sweep(path: Path, out: Path | None = None, scale: float | None = None) -> Sweep:
    """Read a sweep.

    Args:
        path: its YAML file.
        out: the folder for its runs; None: `runs/` and the file's name.
        scale: factor on the lengths of runs and tasks, over that of the file.

    Raises:
        UsageError: anything wrong in it; one sentence that names the file and, where it is one's, the arm.
    """
    content, origin = files.read(path), path.name
    if unknown := next((key for key in content if key not in KEYS), None):
        raise UsageError(
            f"{origin}: {unknown!r} is no part of a sweep, which has {', '.join(KEYS)}"
            f"{did_you_mean(unknown, KEYS) or '.'}"
        )
    seeds = read_seeds(content.get("seeds", 1), origin)
    together = read_count(content.get("together", len(seeds)), f"{origin}: together")
    settings = _block(content.get("settings"), f"{origin}: settings")
    if scale is not None:
        settings["scale"] = scale
    benchmarks = _named(content.get("benchmarks"), f"{origin}: benchmarks", _benchmark)
    arms = _named(content.get("arms"), f"{origin}: arms", _arm)
    folder = out or RUNS / path.stem
    parts = [tuple(seeds[start : start + together]) for start in range(0, len(seeds), together)]
    sweep = Sweep(path.stem, folder, [], blocks=arms, search=content.get("search"))
    jobs, known = sweep.jobs, dict[str, str]()
    for benchmark, own in benchmarks.items():
        there = _arms_of(own.pop("arms", None), arms, f"{origin}: benchmarks.{benchmark}.arms")
        for arm, block in arms.items():
            # An arm's settings over a benchmark's over those of all; of those too that only a search may train there.
            tree = _scaled(_over(_over(settings, own), block))
            words = as_words(tree, f"{origin}: arm {arm} on {benchmark}")
            sweep.words[benchmark, arm] = words
        cells = [_Cell(sweep.words[benchmark, arm], benchmark, arm, origin) for arm in there]
        for some in parts:
            for cell in cells:
                job = cell.job(some, folder)
                if twin := known.get(job.digest):
                    raise UsageError(f"{cell.where}: is the same as {twin}; name it once.")
                known[job.digest] = f"arm {cell.arm} on {benchmark}"
                jobs.append(job)
    if sweep.cells > MOST_CELLS:
        raise UsageError(f"{origin}: {sweep.cells:,} cells are too many; a sweep has at most {MOST_CELLS:,}.")
    return sweep


MOST_CELLS = 100_000
"""Of one sweep, which looks at all their directories."""


def _arms_of(names: Any, arms: dict[str, dict[str, Any]], where: str) -> dict[str, dict[str, Any]]:
    """The arms that are trained on a benchmark: all, or those that it names."""
    if names is None:
        return arms
    if not isinstance(names, list) or not names:
        raise UsageError(f"{where} must be a list of arms, not {names!r}.")
    for name in names:
        if not isinstance(name, str) or name not in arms:
            raise UsageError(f"{where} must be of {', '.join(arms)}, not {name!r}{did_you_mean(name, arms) or '.'}")
    return {name: block for name, block in arms.items() if name in names}


class _Cell:
    """An arm on a benchmark, whose jobs differ in their seeds alone.

    Args:
        words: of its command line, but for seeds.
        benchmark: its name in the sweep.
        arm: its name in the sweep.
        origin: the file that says so.

    Raises:
        UsageError: `train.py` would refuse it.
    """

    def __init__(self, words: list[str], benchmark: str, arm: str, origin: str) -> None:
        self.words, self.benchmark, self.arm = words, benchmark, arm
        self.where = f"{origin}: arm {arm} on {benchmark}"
        with self._telling_where():
            self._line = CommandLine(words)
            several = self._line.of([0]) if len(self._line.arms) > 1 else None
        if isinstance(several, Population):
            raise UsageError(
                f"{self.where}: these are {len(several.arms)} arms, {', '.join(several.arms)}; give each a name."
            )

    def job(self, seeds: tuple[int, ...], folder: Path) -> Job:
        """Some of its seeds; a UsageError where `train.py` would refuse them."""
        own = ["--seed", str(seeds[0])] if len(seeds) == 1 else ["--seeds", ",".join(map(str, seeds))]
        with self._telling_where():
            asked = self._line.of(seeds)
            config = asked.members[0] if isinstance(asked, Population) else asked
            with usage_errors():
                check_times(config, config.tasks)
        words = self.words if len(seeds) > 1 else _without_stack(self.words)
        return Job.of([*words, *own], asked, folder, self.benchmark, self.arm)

    @contextmanager
    def _telling_where(self) -> Iterator[None]:
        try:
            yield
        except UsageError as error:
            raise UsageError(f"{self.where}: {error}") from error


def _without_stack(words: Sequence[str]) -> list[str]:
    """What is said to a run alone, of which nothing is stacked."""
    found: list[str] = []
    for word in words:
        if found[-1:] == ["--stack"] and not word.startswith("--"):  # its value
            continue
        found.append(word)
    return [word for word in found if word not in ("--stack", "--no-stack")]


def as_words(tree: Mapping[str, Any], where: str) -> list[str]:
    """Settings as in a file for `--config`, as words of a command line."""
    tree = {underscored(key): value for key, value in tree.items()}
    if key := next((key for key in tree if key in NOT_HERE), None):
        raise UsageError(f"{where}: {key} has no place in a sweep: {NOT_HERE[key]}.")
    words: list[str] = []
    for group in (*ONE, *SEVERAL):
        if group not in tree:
            continue
        block = tree.pop(group)
        if group == "schedule" and isinstance(block, Mapping) and "kind" in block:
            raise UsageError(f"{where}: a schedule of one's own is a file; name it, as in schedule: mine.yaml.")
        if group in ONE and isinstance(block, Mapping) and "name" not in block:  # of whichever is named elsewhere
            words += _flags(block, where, f"{group}.")
            continue
        blocks = read_block(block, group, where)
        words += [f"--{group}", ("+" if group in ARMS else ",").join(blocks) or "none"]
        for name, settings in blocks.items():
            prefix = f"{group}.{name}." if group in SEVERAL else f"{group}."
            words += _flags(settings, where, prefix)
    if "normalize" in tree:
        words += _flags(read_normalize(tree.pop("normalize")), where, "normalize.")
    return words + _flags(tree, where)


def _flags(settings: Mapping[str, Any], where: str, prefix: str = "") -> list[str]:
    flags = from_mapping(settings, where, prefix)
    return [word for name, (values, _) in flags.items() for word in (f"--{canonical(name)}", *values)]


def read_seeds(content: Any, origin: str) -> list[int]:
    """Which seeds: so many from 0 on, or those that are listed; a UsageError for anything else."""
    if isinstance(content, list):
        if not content or not all(type(seed) is int and 0 <= seed <= LAST_SEED for seed in content):
            raise UsageError(f"{origin}: seeds must be whole numbers from 0 to {LAST_SEED}, not {content}.")
        if twice := [seed for seed in content if content.count(seed) > 1]:
            raise UsageError(f"{origin}: seeds names {twice[0]} twice.")
        return content
    return list(range(read_count(content, f"{origin}: seeds")))


def read_count(content: Any, where: str) -> int:
    """A whole number; a UsageError for anything else."""
    if type(content) is not int or not 1 <= content <= MOST_MEMBERS:
        raise UsageError(f"{where} must be a whole number from 1 to {MOST_MEMBERS:,}, not {content!r}.")
    return content


def _over(low: Mapping[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    """Settings over settings; a block without a name is of what was named before: `agent: sac`, then its settings."""
    low = dict(low)
    for group in ONE:
        below, above = low.get(group), high.get(group)
        if isinstance(below, str) and isinstance(above, dict) and not {"name", "kind"} & set(above):
            low[group] = {"name": below}
    return files.merged(low, high)


def _scaled(tree: dict[str, Any]) -> dict[str, Any]:
    """Settings whose steps and periods are times their `scale`, as those of the benchmark's file will be."""
    scale = tree.get("scale", 1)
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0 < scale <= LARGEST:
        return tree  # train.py will refuse it
    steps = {"steps": times(tree["steps"], scale)} if "steps" in tree else {}
    blocks = {name: scaled(tree[name], scale) for name in ("schedule", "normalize") if isinstance(tree.get(name), dict)}
    return tree | steps | blocks


def _block(content: Any, where: str) -> dict[str, Any]:
    return dict(read_mapping(content or {}, where))


def _named(content: Any, where: str, of_name: Any) -> dict[str, dict[str, Any]]:
    """Blocks by name: a mapping, or a list of names that stand for themselves."""
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        if twice := [name for name in content if content.count(name) > 1]:
            raise UsageError(f"{where} names {twice[0]} twice.")
        blocks = {name: of_name(name, where) for name in content}
    else:
        blocks = {
            name: of_name(name, where) if block is None else _block(block, f"{where}.{name}")
            for name, block in read_mapping(content or {}, where, "a list of names, or ").items()
        }
    if not blocks:
        raise UsageError(f"{where} needs at least one name.")
    for name in blocks:
        if not name.isprintable() or "/" in name or name in ("", ".", "..") or len(name) > LONGEST_NAME:
            raise UsageError(f"{where} must have short names without slashes, not {name!r}.")
    return blocks


def _benchmark(name: str, where: str) -> dict[str, Any]:
    return {"config": name}


def _arm(name: str, where: str) -> dict[str, Any]:
    """What an arm's name says, its parts joined by plus signs: `none`, `fresh`, `redo+spectral`."""
    block: dict[str, dict[str, Any]] = {}
    for part in map(underscored, name.split("+")):
        group = next(_groups_of(part), None)
        if group is None:
            known = ["none", "fresh", *(option for group in ARMS for option in CHOICES[group])]
            raise UsageError(
                f"{where}: there is no reset or regularizer {part!r}; choose from {', '.join(known)}, or "
                f"say what it is, '{name}: {{reset: …}}'{did_you_mean(part, known) or '.'}"
            )
        block.setdefault(group, {})[part] = {}
    return {group: "+".join(parts) for group, parts in block.items() if list(parts) != ["none"]}


def _groups_of(name: str) -> Iterator[str]:
    if name in ("none", "fresh"):
        yield "reset"
    yield from (group for group in ARMS if name in CHOICES[group])
