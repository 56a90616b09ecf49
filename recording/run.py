"""A run from its first step, or from its last checkpoint, to its end: training wired up with all that records it.

What is trained here is one member; `recording.population_run` trains those of a population together.
"""

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from stable_baselines3.common.callbacks import BaseCallback

from agents.sb3 import read_networks
from checkpoints.checkpoint import Checkpoint
from checkpoints.errors import CheckpointError
from checkpoints.lock import RunLock
from checkpoints.store import Store
from configs.building import notes, notes_on_methods
from configs.command_line import Config
from configs.interval import Interval
from configs.population import Population
from configs.settings import UsageError
from metrics import DEFAULT, METRICS
from recording.checkpointer import MISFITS, Checkpointer, misfit, read_lengths, when_lost
from recording.console import ProgressBar, TaskTable
from recording.directory import RunDirectory, State, versions
from recording.failures import FilesWatch, run_errors
from recording.gap import finals, write_gaps
from recording.member import Member
from recording.recorder import TaskRow
from recording.signals import Interruption


class Run:
    """One member that is trained, in its directory, which is this process's alone while it is worked on.

    Args:
        config: everything it depends on.
        directory: where it is recorded.
        console: what is told to whoever watches.
        members: the agents with what follows them; a plain run has one.
    """

    def __init__(
        self, config: Config | Population, directory: RunDirectory, console: Console, members: Sequence[Member]
    ) -> None:
        self.config = config
        self.directory = directory
        self.console = console
        self.members = list(members)
        self.store = Store(directory.checkpoints)
        self.every = Interval.parse(config.run.checkpoint_every)

    # Before

    def begin(self, command: str) -> None:
        """Take up the unfinished run that is there, or begin anew.

        Raises:
            UsageError: neither can be done.
        """
        self.resume = self._find()
        if self.resume is not None:
            self._say(f"Going on from step {self.resume.step:,}, where the run was last saved.")
        else:
            if moved := self._create(command):
                self._say(f"An unfinished run was in the way; it is kept in {moved}.")
            self.store.newest()  # there is none, and the store wants that to be known
        for note in self._notes():
            self._note(note)
        self._say(self._title())

    def _create(self, command: str) -> Path | None:
        return self.directory.create(self.config, command)

    def _title(self) -> str:
        (member,) = self.members
        arm = f"{member.config.names['agent']} + {member.config.arm} on {member.config.run.env}"
        return f"{arm}, {self.directory.path}"

    def _find(self) -> Checkpoint | None:
        """The newest whole checkpoint of this very run, its files cut to what they were then."""
        if self.config.run.restart or not self.directory.is_unfinished(self.config):
            return None
        checkpoint = None
        try:
            checkpoint = self.store.newest()
            for sentence in self.store.damaged:
                self._note(sentence)
            if checkpoint is None:
                return None
            float(checkpoint.about["seconds"])  # which will be needed
            for sentence in self._rewind(checkpoint):
                self._note(sentence)
        except (CheckpointError, OSError) as error:
            raise UsageError(f"{str(error).rstrip('.')}; --restart begins the run anew.") from error
        except MISFITS as error:
            raise misfit(checkpoint, error) from error
        return checkpoint

    def _rewind(self, checkpoint: Checkpoint) -> Iterator[str]:
        """Cut all files to what they were when they were saved."""
        lengths = read_lengths(checkpoint, len(self.members))
        for member, own in zip(self.members, lengths, strict=True):
            yield from member.directory.rewind(own)

    def _notes(self) -> Iterator[str]:
        """What a careful user would want to know before the run."""
        first = self.members[0]
        if self.resume is None:
            yield from notes(first.config, first.tasks)
            yield from dict.fromkeys(note for member in self.members for note in notes_on_methods(member.config))
            yield from _idle_metrics(first)
        elif changed := _changed(self.resume.about.get("versions", {})):
            yield f"{changed}; from here on the run may not be, bit for bit, what it would have been."

    # Meanwhile

    def learn(self, lock: RunLock) -> int:
        """Train to the end, while holding the directory's lock; returns the exit status."""
        run, first = self.config.run, self.members[0]
        for directory in self._directories():
            directory.set_status("running", self.resume.step if self.resume else 0)
        for member in self.members:
            member.start(self.resume is not None, self._warn)
        bar = self._bar(first.tasks.n_tasks(run.steps))
        self.show = self._tasks_shown()
        for number, member in enumerate(self.members):
            member.recorder.on_task = partial(self._task_finished, number)
        interruption = Interruption(notify=self._say)
        checkpointer = Checkpointer(
            self.members,
            self.store,
            lock,
            self.every,
            interruption,
            self._about,
            FilesWatch(self.directory.path),
            self._note,
            self.resume,
            resumed=self._resumed,
            tell=self._tell_progress,
        )
        failures = run_errors(
            self.directory.path,
            run.env,
            where=lambda: f"{self._who()}step {checkpointer.step:,} (task {first.recorder.task})",
            recovery=lambda: when_lost(checkpointer.saved, self.every),
            broken_weights=self._broken_weights,
        )
        state: State = "failed"
        try:
            with failures:
                with interruption:
                    self._train(bar, checkpointer.at_rollout)
                self._finish()
                self._compare(checkpointer.seconds)
            state = "finished"
        except KeyboardInterrupt:
            state = "interrupted"
            with suppress(OSError):
                self._export()
        finally:
            bar.close()
            for member in self.members:
                member.close(state, checkpointer.seconds)
            self._close(state, checkpointer)
        if state == "finished":
            if all(directory.state() == "finished" for directory in self._directories()):
                shutil.rmtree(self.directory.checkpoints, ignore_errors=True)
            else:  # the disk is full just now: what it can be finished from stays
                self.console.print("How it ended could not be written down; the same command does so.")
        self._tell_end(state, checkpointer.saved)
        return 0 if state == "finished" else interruption.status or 130

    def _directories(self) -> list[RunDirectory]:
        """All that say how the run stands."""
        return [self.directory]

    def _bar(self, tasks: int) -> ProgressBar:
        """What shows how far the run is, of so many tasks."""
        recorders = [member.recorder for member in self.members]
        return ProgressBar(self.config.run.steps, tasks, recorders, self.console)

    def _tasks_shown(self) -> Callable[[int, dict[str, Any]], None]:
        """What shows finished tasks: given the number of a member and a row of its `tasks.csv`."""
        table = TaskTable(self.console)
        return lambda number, row: table.add(row)

    def _task_finished(self, number: int, row: TaskRow) -> None:
        self.show(number, row.flat())

    def _resumed(self) -> None:
        """Show what was finished before."""
        for number, member in enumerate(self.members):
            for row in member.directory.read_tasks():
                self.show(number, row)

    def _tell_progress(self, steps: int, seconds: float) -> None:
        """Let the directory say how far the run is, for those who look from outside."""
        with suppress(OSError):  # of a disk that is full, which is noticed where something would be lost
            for directory in self._directories():
                directory.set_status("running", steps, seconds)

    def _train(self, bar: ProgressBar, at_rollout: Callable[[], None]) -> None:
        (member,) = self.members
        member.model.learn(self.config.run.steps, callback=[member.callbacks, bar, AtRollout(at_rollout)])

    def _about(self) -> dict[str, object]:
        """What every checkpoint says of itself."""
        return {"versions": versions()}

    def _who(self) -> str:
        """Whose failure it is, as the beginning of a sentence; nothing where there is only one."""
        return ""

    def _broken_weights(self) -> str | None:
        return self.members[0].guard.broken_weights()

    # Afterwards

    def _finish(self) -> None:
        (member,) = self.members
        self._export()
        member.recorder.curves.finish(member.model.num_timesteps, finals(member.directory))

    def _export(self) -> None:
        for member in self.members:
            member.export()

    def _close(self, state: State, checkpointer: Checkpointer) -> None:
        """What is left to close once the members are."""

    def _compare(self, seconds: float) -> None:
        """Write down the gap between this run and those beside it.

        First it says that it is trained, then it looks for others that do: of two that end at the same moment at least
        one sees the other. And all that before it is finished: a run that is killed here is taken up and does it again.
        """
        (member,) = self.members
        member.set_status("running", seconds, is_trained=True)
        write_gaps(self.directory)

    def _tell_end(self, state: State, saved: int | None) -> None:
        path = self.directory.path
        steps = self.members[0].model.num_timesteps
        self._say(f"{path} ({state} after {steps:,} steps)", style="bold")
        if state == "interrupted":
            self._say(when_lost(saved, self.every))
        self._say(f"Look at the curves: {tensorboard_command()} --logdir {shlex.quote(str(path))}")

    def _say(self, sentence: str, style: str | None = None) -> None:
        self.console.print(sentence, style=style, soft_wrap=True, highlight=False)

    def _note(self, sentence: str) -> None:
        self._say(f"Note: {sentence}")

    def _warn(self, sentence: str) -> None:
        self._say(f"Warning: {sentence}")


class AtRollout(BaseCallback):
    """Calls a function at the start of each rollout; the last of the callbacks.

    Args:
        function: what to call.
    """

    def __init__(self, function: Callable[[], None]) -> None:
        super().__init__()
        self.function = function

    def _on_rollout_start(self) -> None:
        self.function()

    def _on_step(self) -> bool:
        return True


def _idle_metrics(member: Member) -> Iterator[str]:
    """Which of the metrics that were singled out have nothing to measure."""
    idle = member.measurer.idle(member.model)
    if idle and list(member.measurer.metrics) not in (list(METRICS), list(DEFAULT)):
        networks = ", ".join(network.name for network in read_networks(member.model))
        name = type(member.model).__name__
        yield f"there is nothing for the metrics {', '.join(idle)} in {name}, which has {networks}."


def tensorboard_command() -> str:
    """TensorBoard as it can be called from here: by its name, or by its path in an environment that is not active."""
    beside = Path(sys.executable).parent / "tensorboard"
    if shutil.which("tensorboard") or not beside.exists():
        return "tensorboard"
    return shlex.quote(os.path.relpath(beside))


def _changed(before: dict[str, str]) -> str | None:
    """What is of another version than when a checkpoint was written."""
    now = versions()
    changed = [
        f"{name} was {before[name]} and is {now[name]}" for name in now if before.get(name, now[name]) != now[name]
    ]
    return ", ".join(changed) or None
