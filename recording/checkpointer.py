"""When a run is saved, what belongs to it, and how it goes on from there.

Everything happens at the start of a rollout, the one moment at which an SB3 algorithm has nothing half done: the last
update is over, environments and buffers agree. A run is saved there once its measurements, resets and switches are
done, and taken up at that very place: everything is made anew from configuration and seed, learning begins, and
instead of the first rollout's measurements and resets the saved state is put in, the random generators last. From then
on every number is what it would have been.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback, CallbackList

from agents.finite import FiniteGuard
from agents.plasticity import Plasticity
from agents.sb3 import agent_state, begin_episodes, load_agent_state, load_replay_position, replay_rings
from checkpoints.checkpoint import Checkpoint
from checkpoints.errors import CheckpointError
from checkpoints.lock import RunLock
from checkpoints.randomness import global_state, set_global_state
from checkpoints.segments import Ring
from checkpoints.store import Store
from configs.interval import Interval
from configs.settings import UsageError
from envs.snapshots import restore, snapshot, unsupported
from recording.failures import FilesWatch
from recording.recorder import Recorder
from recording.signals import Interruption

REPLAY = "replay"

MISFITS = (CheckpointError, ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError)
"""What is raised where a state of another form is put in; each part looks at its own, and none executes anything."""

LOOK_EVERY = 1.0
"""Seconds between two looks at the files of the run."""


class Left(KeyboardInterrupt):
    """The run was asked to leave, and has: all of it is saved."""


class Checkpointer(CallbackList):
    """Runs other callbacks, and saves the whole run between two rollouts.

    Args:
        guard: what looks for numbers that are none; it goes first.
        recorder: what has been recorded.
        plasticity: the interventions.
        others: callbacks that remember nothing.
        store: where checkpoints are kept.
        lock: of the run's directory, which must still be this process's when something is saved.
        every: how often to save.
        interruption: tells when the run is asked to leave.
        about: what every checkpoint says of itself.
        watch: notices when the run's files are deleted.
        note: told what a user should know.
        resume: the checkpoint to go on from; None where the run begins.
        resumed: called once the run goes on from there.

    Attributes:
        saved: step of the newest checkpoint; None while there is none.
    """

    def __init__(
        self,
        guard: FiniteGuard,
        recorder: Recorder,
        plasticity: Plasticity,
        others: Sequence[BaseCallback],
        store: Store,
        lock: RunLock,
        every: Interval,
        interruption: Interruption,
        about: dict[str, Any],
        watch: FilesWatch,
        note: Callable[[str], None],
        resume: Checkpoint | None = None,
        resumed: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__([guard, recorder, plasticity, *others])
        self.guard = guard
        self.recorder = recorder
        self.plasticity = plasticity
        self.store = store
        self.lock = lock
        self.every = every
        self.interruption = interruption
        self.about = about
        self.watch = watch
        self.note = note
        self.resume = resume
        self.resumed = resumed
        self.saved = resume.step if resume else None
        self._earlier = float(resume.about["seconds"]) if resume else 0.0
        self._began = self._saved_at = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long the run has taken, in all the processes that worked on it."""
        return self._earlier + time.monotonic() - self._began

    def _on_training_start(self) -> None:
        if (reason := unsupported(self.training_env)) and self.every != Interval():
            self.note(f"{reason}, so that a run which is taken up begins new episodes.")
        super()._on_training_start()
        for path in self.recorder.paths():
            self.watch.add(path)
        self._watch_curves()

    def _watch_curves(self) -> None:
        self._looked_at = time.monotonic()
        for path in self.recorder.curves.paths():
            self.watch.add(path, self._begin_curves)

    def _begin_curves(self, sentence: str) -> None:
        """Go on in a new event file: curves are lost, the run is not."""
        self.note(f"{sentence} The curves go on in a new one; what they are drawn from is in metrics.jsonl as well.")
        self.recorder.curves.reopen()
        self._watch_curves()

    def _on_rollout_start(self) -> None:
        if self.resume is not None:
            checkpoint, self.resume = self.resume, None
            try:
                self._go_on(checkpoint)
            except MISFITS as error:
                raise misfit(checkpoint, error) from error
            return
        super()._on_rollout_start()
        if time.monotonic() - self._looked_at >= LOOK_EVERY:
            self._looked_at = time.monotonic()
            self.watch.check()
        if self.interruption.is_due():
            self.save()
            raise Left
        if self._is_due():
            self.save()

    def _is_due(self) -> bool:
        if self.saved is None:  # at once, so that a run which has begun can always be taken up
            return self.every != Interval()
        since = self.model.num_timesteps - self.saved, time.monotonic() - self._saved_at
        return since[0] >= self.every.steps or since[1] >= self.every.seconds

    def save(self) -> None:
        """Save the whole run; an OSError where that cannot be done leaves what was saved before."""
        self.lock.check()
        replay = replay_rings(self.model)
        parts = {
            "agent": agent_state(self.model),
            "environments": snapshot(self.training_env),
            "interventions": self.plasticity.state_dict(),
            "recording": {"recorder": self.recorder.state_dict(), "guard": self.guard.state_dict()},
            "random": global_state(),
        }
        about = {**self.about, "seconds": self.seconds}
        rings = {REPLAY: Ring(*replay)} if replay else {}
        self.store.save(self.model.num_timesteps, parts, about, rings)
        self.saved = self.model.num_timesteps
        self._saved_at = time.monotonic()

    def _go_on(self, checkpoint: Checkpoint) -> None:
        """Put everything as it was."""
        # Interventions first, which may have given the networks another form; generators last, since all may draw.
        self.plasticity.load_state_dict(checkpoint.read("interventions"))
        load_agent_state(self.model, checkpoint.read("agent"))
        recording = checkpoint.read("recording")
        self.recorder.load_state_dict(recording["recorder"])
        self.guard.load_state_dict(recording["guard"])
        if replay := replay_rings(self.model):
            load_replay_position(self.model, checkpoint.load_ring(REPLAY, replay[0]))
        first = restore(self.training_env, checkpoint.read("environments"))
        if first is not None:
            begin_episodes(self.model, first)
        set_global_state(checkpoint.read("random"))
        for callback in self.callbacks:
            callback.num_timesteps = self.model.num_timesteps
        self.resumed()


def read_lengths(checkpoint: Checkpoint) -> dict[str, int]:
    """How long each file of the run was, in bytes."""
    lengths: dict[str, int] = checkpoint.read("recording")["recorder"]["lengths"]
    return lengths


def misfit(checkpoint: Checkpoint | None, error: Exception) -> UsageError:
    """What is said of a checkpoint that is whole but cannot be one of this run."""
    path = checkpoint.path if checkpoint else "there"
    problem = f"{type(error).__name__}: {error}" if isinstance(error, LookupError) else str(error)
    problem = " ".join(problem.split()).rstrip(".") or type(error).__name__
    return UsageError(f"{path} is not a checkpoint of this run ({problem}); --restart begins it anew.")


def when_lost(saved: int | None, every: Interval) -> str:
    """What is left of a run that has ended before its time, and how it goes on, in a sentence."""
    if saved is not None:
        return f"The last checkpoint is of step {saved:,}; the same command goes on from there."
    if every == Interval():
        return "It was told to save no checkpoints: the same command begins anew."
    return "It had not been saved yet: the same command begins anew."
