"""One run from its first step, or from its last checkpoint, to its end: training wired up with all that records it."""

import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from stable_baselines3.common.vec_env import VecEnv

from agents.finite import FiniteGuard
from agents.plasticity import Plasticity
from agents.sb3 import read_networks
from checkpoints.checkpoint import Checkpoint
from checkpoints.errors import CheckpointError
from checkpoints.lock import RunLock
from checkpoints.store import Store
from configs.building import notes
from configs.command_line import Config
from configs.interval import Interval
from configs.settings import UsageError
from envs import Tasks
from envs.normalize import Normalize
from metrics import DEFAULT, METRICS
from recording.checkpointer import MISFITS, Checkpointer, misfit, read_lengths, when_lost
from recording.console import ProgressBar
from recording.directory import RunDirectory, State, versions
from recording.failures import FilesWatch, run_errors
from recording.gap import finals, tell_others
from recording.measuring import Measurer
from recording.recorder import Recorder
from recording.signals import Interruption
from recording.tensorboard import Curves


class Run:
    """A run in its directory, which is this process's alone while it is worked on.

    Args:
        config: everything it depends on.
        directory: where it is recorded.
        console: what is told to whoever watches.
        tasks: what changes and when.
        env: the environments.
        model: the agent.
        plasticity: the interventions.
    """

    def __init__(
        self,
        config: Config,
        directory: RunDirectory,
        console: Console,
        tasks: Tasks,
        env: VecEnv,
        model: BaseAlgorithm,
        plasticity: Plasticity,
    ) -> None:
        self.config = config
        self.directory = directory
        self.console = console
        self.tasks = tasks
        self.env = env
        self.model = model
        self.plasticity = plasticity
        self.store = Store(directory.checkpoints)
        self.every = Interval.parse(config.run.checkpoint_every)
        self.measurer = Measurer(config.metrics, config.run.seed, config.run.measure_samples, directory.probe)

    def begin(self, command: str) -> None:
        """Take up the unfinished run that is there, or begin anew.

        Raises:
            UsageError: neither can be done.
        """
        self.resume = self._find()
        if self.resume is not None:
            self._say(f"Going on from step {self.resume.step:,}, where the run was last saved.")
        else:
            if moved := self.directory.create(self.config, command):
                self._say(f"An unfinished run was in the way; it is kept in {moved}.")
            self.store.newest()  # there is none, and the store wants that to be known
        for note in self._notes():
            self._note(note)
        arm = f"{self.config.names['agent']} + {self.config.arm} on {self.config.run.env}"
        self._say(f"{arm}, {self.directory.path}")

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
            lengths = {str(name): int(size) for name, size in read_lengths(checkpoint).items()}
            float(checkpoint.about["seconds"])  # which will be needed
            for sentence in self.directory.rewind(lengths):
                self._note(sentence)
        except (CheckpointError, OSError) as error:
            raise UsageError(f"{str(error).rstrip('.')}; --restart begins the run anew.") from error
        except MISFITS as error:
            raise misfit(checkpoint, error) from error
        return checkpoint

    def _notes(self) -> Iterator[str]:
        """What a careful user would want to know before the run."""
        if self.resume is None:
            yield from notes(self.config, self.tasks)
            yield from self._idle_metrics()
        elif changed := _changed(self.resume.about.get("versions", {})):
            yield f"{changed}; from here on the run may not be, bit for bit, what it would have been."

    def _idle_metrics(self) -> Iterator[str]:
        """Which of the metrics that were singled out have nothing to measure."""
        idle = self.measurer.idle(self.model)
        if idle and list(self.measurer.metrics) not in (list(METRICS), list(DEFAULT)):
            networks = ", ".join(network.name for network in read_networks(self.model))
            name = type(self.model).__name__
            yield f"there is nothing for the metrics {', '.join(idle)} in {name}, which has {networks}."

    def learn(self, lock: RunLock) -> int:
        """Train to the end, while holding the directory's lock; returns the exit status."""
        config, directory, model = self.config, self.directory, self.model
        directory.set_status("running", self.resume.step if self.resume else 0)
        output = TensorBoardOutputFormat(str(directory.path))
        model.set_logger(Logger(str(directory.path), [output]))
        recorder = self._recorder()
        bar = ProgressBar(config.run.steps, self.tasks.n_tasks(config.run.steps), recorder, self.console)
        recorder.on_task = bar.task_finished
        interruption = Interruption(notify=self._say)
        guard = FiniteGuard(config.run.on_nonfinite, tell=self._warn)
        watch = FilesWatch(directory.path)
        checkpointer = Checkpointer(
            guard,
            recorder,
            self.plasticity,
            [bar],
            self.store,
            lock,
            self.every,
            interruption,
            {"versions": versions()},
            watch,
            self._note,
            self.resume,
            resumed=lambda: bar.resume(directory.read_tasks(), model.num_timesteps),
        )
        failures = run_errors(
            directory.path,
            config.run.env,
            where=lambda: f"step {model.num_timesteps:,} (task {recorder.task})",
            recovery=lambda: when_lost(checkpointer.saved, self.every),
            broken_weights=guard.broken_weights,
        )
        state: State = "failed"
        try:
            with failures:
                with interruption:
                    model.learn(config.run.steps, callback=checkpointer)
                self._export()
                recorder.curves.finish(model.num_timesteps, finals(directory))
            state = "finished"
        except KeyboardInterrupt:
            state = "interrupted"
            with suppress(OSError):
                self._export()
        finally:
            bar.close()
            self.plasticity.close()
            guard.close()
            with suppress(OSError):  # where the disk is full, which is being told already
                recorder.close()
                output.close()
                directory.set_status(state, model.num_timesteps, checkpointer.seconds)
        if state == "finished":
            tell_others(directory)
            shutil.rmtree(directory.checkpoints, ignore_errors=True)
        self._tell_end(state, checkpointer.saved)
        return 0 if state == "finished" else interruption.status or 130

    def _recorder(self) -> Recorder:
        config = self.config
        settings = {key: value for key, value in config.as_dict().items() if key != "metrics"}
        return Recorder(
            self.directory,
            self.plasticity,
            describe=lambda task: str(self.env.env_method("describe_task", task, indices=[0])[0]),
            curves=Curves({"arm": config.arm, **settings}, config.run.histograms, resumed=self.resume is not None),
            measurer=self.measurer,
            measure_every=config.run.measure_every,
            costly_every=config.run.measure_costly_every,
        )

    def _export(self) -> None:
        """Leave the agent behind in SB3's own format, for others to load, and what its observations went through."""
        self.model.save(self.directory.model)
        if isinstance(self.env, Normalize):
            self.env.save(self.directory.normalizer)

    def _tell_end(self, state: State, saved: int | None) -> None:
        path = self.directory.path
        self._say(f"{path} ({state} after {self.model.num_timesteps:,} steps)", style="bold")
        if state == "interrupted":
            self._say(when_lost(saved, self.every))
        self._say(f"Look at the curves: {tensorboard_command()} --logdir {shlex.quote(str(path))}")

    def _say(self, sentence: str, style: str | None = None) -> None:
        self.console.print(sentence, style=style, soft_wrap=True, highlight=False)

    def _note(self, sentence: str) -> None:
        self._say(f"Note: {sentence}")

    def _warn(self, sentence: str) -> None:
        self._say(f"Warning: {sentence}")


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
