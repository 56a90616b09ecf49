"""When a run is saved, what belongs to it, and how it goes on from there.

Everything happens at the start of a rollout, the one moment at which an SB3 algorithm has nothing half done: the last
update is over, environments and buffers agree. A run is saved there once its measurements, resets and switches are
done, and taken up at that very place: everything is made anew from configuration and seed, learning begins, and
instead of the first rollout's measurements and resets the saved state is put in, the random generators last. From then
on every number is what it would have been. Members of a population are all at that place at once.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from checkpoints.checkpoint import Checkpoint
from checkpoints.errors import CheckpointError
from checkpoints.lock import RunLock
from checkpoints.segments import Arrays
from checkpoints.store import Store
from checkpoints.tree import Tree
from configs.interval import Interval
from configs.settings import UsageError
from envs.snapshots import unsupported
from recording.failures import FilesWatch
from recording.member import Member
from recording.signals import Interruption

REPLAY = "replay"

MISFITS = (CheckpointError, ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError)
"""What is raised where a state of another form is put in; each part looks at its own, and none executes anything."""

LOOK_EVERY = 1.0
"""Seconds between two looks at the files of the run."""

TELL_EVERY = 5.0
"""Seconds after which whoever looks at the run from outside is told how far it is."""


class Left(KeyboardInterrupt):
    """The run was asked to leave, and has: all of it is saved."""


class Checkpointer:
    """Saves the members of a run between two rollouts, and puts them back where they were.

    Args:
        members: one, or those of a population.
        store: where checkpoints are kept.
        lock: of the run's directory, which must still be this process's when something is saved.
        every: how often to save.
        interruption: tells when the run is asked to leave.
        about: what every checkpoint says of itself, asked for when it is written.
        watch: notices when the run's files are deleted.
        note: told what a user should know.
        resume: the checkpoint to go on from; None where the run begins.
        resumed: called once the run goes on from there.
        tell: told every few seconds how many steps are done, and in how many seconds.

    Attributes:
        saved: step of the newest checkpoint; None while there is none.
    """

    def __init__(
        self,
        members: Sequence[Member],
        store: Store,
        lock: RunLock,
        every: Interval,
        interruption: Interruption,
        about: Callable[[], dict[str, Any]],
        watch: FilesWatch,
        note: Callable[[str], None],
        resume: Checkpoint | None = None,
        resumed: Callable[[], None] = lambda: None,
        tell: Callable[[int, float], None] = lambda steps, seconds: None,
    ) -> None:
        self.members = members
        self.store = store
        self.lock = lock
        self.every = every
        self.interruption = interruption
        self.about = about
        self.watch = watch
        self.note = note
        self.resume = resume
        self.resumed = resumed
        self.tell = tell
        self._told = 0.0
        self.saved = resume.step if resume else None
        self._earlier = float(resume.about["seconds"]) if resume else 0.0
        self._began = self._saved_at = time.monotonic()
        self._looked_at: float | None = None

    @property
    def seconds(self) -> float:
        """How long the run has taken, in all the processes that worked on it."""
        return self._earlier + time.monotonic() - self._began

    @property
    def step(self) -> int:
        """The environment step that all members are at."""
        return self.members[0].model.num_timesteps

    def at_rollout(self) -> None:
        """The start of a rollout, once all callbacks have heard of it: put in what is to be, leave, or save.

        Raises:
            Left: the run has been asked to leave and is saved.
        """
        if self._looked_at is None:
            self._start_watching()
        if self.resume is not None:
            checkpoint, self.resume = self.resume, None
            try:
                self._go_on(checkpoint)
            except MISFITS as error:
                raise misfit(checkpoint, error) from error
            return
        if time.monotonic() - (self._looked_at or 0.0) >= LOOK_EVERY:
            self._looked_at = time.monotonic()
            self.watch.check()
            if time.monotonic() - self._told >= TELL_EVERY:
                self._told = time.monotonic()
                self.tell(self.step, self.seconds)
        if self.interruption.is_due():
            self.save()
            raise Left
        if self._is_due():
            self.save()

    def _start_watching(self) -> None:
        if (reason := unsupported(self.members[0].env)) and self.every != Interval():
            self.note(f"{reason}, so that a run which is taken up begins new episodes.")
        for member in self.members:
            for path in member.recorder.paths():
                self.watch.add(path)
            self._watch_curves(member)
        self._looked_at = time.monotonic()

    def _watch_curves(self, member: Member) -> None:
        for path in member.recorder.curves.paths():
            self.watch.add(path, partial(self._begin_curves, member))

    def _begin_curves(self, member: Member, sentence: str) -> None:
        """Go on in a new event file: curves are lost, the run is not."""
        self.note(f"{sentence} The curves go on in a new one; what they are drawn from is in metrics.jsonl as well.")
        member.recorder.curves.reopen()
        self._watch_curves(member)

    def _is_due(self) -> bool:
        if self.saved is None:  # at once, so that a run which has begun can always be taken up
            return self.every != Interval()
        since = self.step - self.saved, time.monotonic() - self._saved_at
        return since[0] >= self.every.steps or since[1] >= self.every.seconds

    def save(self) -> None:
        """Save the whole run; an OSError where that cannot be done leaves what was saved before."""
        self.lock.check()
        parts = together([member.state() for member in self.members])
        replays = {self._ring(number): member.replay() for number, member in enumerate(self.members)}
        rings = {name: ring for name, ring in replays.items() if ring is not None}
        self.store.save(self.step, parts, {**self.about(), "seconds": self.seconds}, rings)
        self.saved = self.step
        self._saved_at = time.monotonic()

    def _go_on(self, checkpoint: Checkpoint) -> None:
        """Put everything as it was."""
        states = apart({name: checkpoint.read(name) for name in checkpoint.parts}, len(self.members))
        for number, (member, state) in enumerate(zip(self.members, states, strict=True)):
            member.load_state(state, partial(self._load_ring, checkpoint, number))
        self.resumed()

    def _load_ring(self, checkpoint: Checkpoint, number: int, arrays: Arrays) -> int:
        return checkpoint.load_ring(self._ring(number), arrays)

    def _ring(self, number: int) -> str:
        return REPLAY if len(self.members) == 1 else f"{REPLAY}-{number}"


def together(states: Sequence[Mapping[str, Tree]]) -> dict[str, Tree]:
    """The parts of a checkpoint: those of the only member, or lists of all members'."""
    if len(states) == 1:
        return dict(states[0])
    return {name: [state[name] for state in states] for name in states[0]}


def apart(parts: Mapping[str, Tree], count: int) -> list[Mapping[str, Tree]]:
    """The members' states, of which `together` made the parts.

    Raises:
        ValueError: they are of another number of members.
    """
    if count == 1:
        return [parts]
    for name, states in parts.items():
        if not isinstance(states, list) or len(states) != count:
            raise ValueError(f"its part {name!r} is not that of {count} members")
    return [{name: states[number] for name, states in parts.items()} for number in range(count)]


def read_lengths(checkpoint: Checkpoint, count: int = 1) -> list[dict[str, int]]:
    """For each of `count` members, how long each file of it was, in bytes."""
    states = apart({"recording": checkpoint.read("recording")}, count)
    lengths = [state["recording"]["recorder"]["lengths"] for state in states]
    return [{str(name): int(size) for name, size in own.items()} for own in lengths]


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
