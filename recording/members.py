"""The directory of a population: an ordinary run directory for each member, and what concerns them all.

population.yaml   the members, and a hash of all that they depend on; each one's config.yaml repeats it alone
redo-s3/          a member: arm and seed
mean-redo/        the curves of an arm: the mean over its members and the range between them, for TensorBoard
part-0/           where several processes share the members: what one of them keeps
versions.json, status.json, checkpoints/, error.txt, run.lock   as in a run's directory, for all members together
"""

from pathlib import Path
from typing import Any

from configs import files
from configs.population import Population
from configs.settings import UsageError
from recording.directory import POPULATION, Recorded, RunDirectory, default_folder

MEAN = "mean-"
PART = "part-"


def default_population_path(population: Population) -> Path:
    """`runs/<benchmark>/<agent>-<arms>-s<seeds>-<hash>`, such as `ppo-none,redo-s0-7-1f00ba`."""
    first = population.members[0]
    return default_folder(first) / f"{first.names['agent']}-{population.title}-{population.digest[:6]}"


class PopulationDirectory(RunDirectory):
    """The files that concern all members.

    Args:
        path: where they are; made by `create`.
        members: where the members' directories are; None: there as well.
    """

    COMMENT = "The members of this population; each one's config.yaml repeats it alone."
    OTHER, OTHERS = "config.yaml", "one run, not a population"

    def __init__(self, path: Path, members: Path | None = None) -> None:
        super().__init__(path)
        self.members = path if members is None else members

    @property
    def config(self) -> Path:
        """What the population consists of."""
        return self.path / POPULATION

    def of(self, population: Population) -> list[RunDirectory]:
        """The members' directories."""
        return [RunDirectory(self.members / name) for name in population.names]

    def mean(self, arm: str) -> Path:
        """Where the curves of an arm's mean are."""
        return self.members / f"{MEAN}{arm}"

    def part(self, number: int) -> "PopulationDirectory":
        """What one of several processes keeps."""
        return Part(self.path / f"{PART}{number}", self.members)

    def is_unfinished(self, config: Recorded) -> bool:
        """Whether this very population is here and unfinished."""
        return self.state() not in (None, "finished") and self._is_of(config)

    def check_sharing(self, population: Population) -> None:
        """Refuse, with a UsageError, to go on with a population that was shared among processes otherwise."""
        if not self.is_unfinished(population):
            return
        found = files.read(self.config)
        if (found.get("processes"), found.get("stack")) != (population.processes, population.stack):
            flags = f"--processes {found.get('processes')} --stack {str(found.get('stack')).lower()}"
            raise UsageError(f"{self.path} was begun with {flags}; repeat that to go on, or begin anew with --restart.")

    def _is_of(self, config: Recorded) -> bool:
        kept = files.read(self.config) if self.config.is_file() else {}
        return bool(kept.get("configuration") == config.as_dict()["configuration"])

    def _has_recorded(self) -> bool:
        return next(self.members.glob("*/episodes.csv"), None) is not None

    def _tables(self, config: Any) -> list[Path]:
        return []


class Part(PopulationDirectory):
    """The files of one of several processes; those of its members are beside those of the others' members."""

    def _has_recorded(self) -> bool:
        # Members of its own, which have directories of theirs, are moved aside by themselves.
        return next(self.checkpoints.glob("step-*"), None) is not None
