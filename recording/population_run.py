"""The members of a population from their first step, or their last checkpoint, to their end.

They are at the same step at all times, and are saved, taken up and ended together; what one of them fails from ends
them all.
"""

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from stable_baselines3.common.callbacks import BaseCallback, CallbackList

from agents import population as stacked
from checkpoints.checkpoint import Checkpoint
from configs.population import Population
from recording.arm_table import ArmTable, summaries
from recording.checkpointer import Checkpointer
from recording.console import ProgressBar
from recording.directory import RunDirectory, State
from recording.mean_curves import MeanCurves
from recording.member import Member
from recording.members import PopulationDirectory
from recording.run import Run
from recording.tensorboard import FINAL


class PopulationRun(Run):
    """The members of a population, trained as one.

    Args:
        population: what they are.
        directory: where that is recorded which concerns all of them.
        console: what is told to whoever watches.
        members: arm by arm, as the population has them.
        trainer: what trains them.
    """

    def __init__(
        self,
        population: Population,
        directory: PopulationDirectory,
        console: Console,
        members: Sequence[Member],
        trainer: stacked.Population,
    ) -> None:
        super().__init__(population, directory, console, members)
        self.population = population
        self.place = directory
        self.trainer = trainer
        self.culprit: Member | None = None
        self.means: dict[str, MeanCurves] = {}
        self.arms = {
            arm: [member for member in self.members if member.config.arm == arm]
            for arm, own in population.arms.items()
            if len(own) > 1
        }

    def _create(self, command: str) -> Path | None:
        moved = super()._create(command)
        for member in self.members:
            member.directory.create(member.config, command)
        return moved

    def _title(self) -> str:
        first = self.members[0].config
        return f"{len(self.members)} members, {first.names['agent']} on {first.run.env}, {self.directory.path}"

    def _rewind(self, checkpoint: Checkpoint) -> Iterator[str]:
        yield from super()._rewind(checkpoint)
        for arm, lengths in checkpoint.about["means"].items():
            yield from RunDirectory(self.place.mean(arm)).rewind(lengths)

    def _directories(self) -> list[RunDirectory]:
        return [self.directory, *(member.directory for member in self.members)]

    def _tasks_shown(self) -> Callable[[int, dict[str, Any]], None]:
        self.arm_table = ArmTable(self.population, self.console)
        return self.arm_table.add

    def _train(self, bar: ProgressBar, at_rollout: Callable[[], None]) -> None:
        callbacks: list[BaseCallback | None] = [member.callbacks for member in self.members]
        callbacks[0] = CallbackList([self.members[0].callbacks, bar])

        def start() -> None:
            self._draw_means()
            at_rollout()

        try:
            self.trainer.learn(self.config.run.steps, callbacks, at_rollout=start)
        except Exception as error:
            self.culprit = culprit(error, self.members)
            raise

    def _draw_means(self) -> None:
        """Have what the members' curves were given since the last rollout on those of their arms."""
        if not self.means:
            for arm, members in self.arms.items():
                curves = [member.recorder.curves for member in members]
                self.means[arm] = MeanCurves(self.place.mean(arm), curves, self.resume is not None)
        for mean in self.means.values():
            mean.write()

    def _about(self) -> dict[str, object]:
        return super()._about() | {"means": {arm: mean.lengths() for arm, mean in self.means.items()}}

    def _who(self) -> str:
        return f"member {self.culprit.name}, " if self.culprit else ""

    def _broken_weights(self) -> str | None:
        found = ((member.name, member.guard.broken_weights()) for member in self.members)
        return next((f"of member {name} {broken}" for name, broken in found if broken), None)

    def _finish(self) -> None:
        self._export()
        rows = [member.directory.read_tasks() for member in self.members]
        found = summaries(self.population, rows)
        for member, summary in zip(self.members, found, strict=True):
            finals = {name: summary[name] for name in FINAL if name in summary}
            member.recorder.curves.finish(member.model.num_timesteps, finals)

    def _close(self, state: State, checkpointer: Checkpointer) -> None:
        with suppress(OSError):  # where the disk is full, which is being told already
            for mean in self.means.values():
                mean.close()
            self.directory.set_status(state, checkpointer.step, checkpointer.seconds)

    def _compare(self, seconds: float) -> None:
        """Gaps are among the members' final figures already: all of them end together."""

    def _tell_end(self, state: State, saved: int | None) -> None:
        self.arm_table.print_summary()
        super()._tell_end(state, saved)


def culprit(error: BaseException, members: Sequence[Member]) -> Member | None:
    """The member from whose environments, agent or callbacks an exception came; None where that cannot be told."""
    owners = {id(frame.f_locals.get("self")) for frame, _ in traceback.walk_tb(error.__traceback__)}
    for member in members:
        own = (member.env, member.env.unwrapped, member.model, member.callbacks, *member.callbacks.callbacks)
        if owners & set(map(id, own)):
            return member
    return None
