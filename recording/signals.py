"""Leaving when asked to: Ctrl-C and SIGTERM end a run at its next clean boundary, and in any case within seconds.

    with Interruption(notify=console.print) as interruption:
        model.learn(...)  # at each boundary a callback asks interruption.is_due(), saves, and returns False

The first signal is only noted; whoever runs the loop asks for it where the run can be saved. A second Ctrl-C leaves at
once, and so does the first one where no boundary comes in time. Nothing is printed or raised inside of a signal's
handler but these two: a thread that waits beside the run does the talking and looks at the clock.
"""

import ctypes
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PR_SET_PDEATHSIG = 1
"""Of Linux's prctl(2): which signal a process is sent when the one that has started it is gone."""


class Interrupted(KeyboardInterrupt):
    """The run was asked to leave and had to do so before a boundary."""


class Interruption:
    """Listens for SIGINT and SIGTERM while it is entered; outside of the main thread it hears nothing.

    A signal that the process was started to ignore (`nohup`, a job in the background) stays ignored.

    Args:
        notify: given one sentence, in another thread, once the first signal has come.
        grace: seconds that a boundary may take to come; after them `Interrupted` is raised wherever the run is.

    Attributes:
        signal: the first signal that has come, None before.
    """

    def __init__(self, notify: Callable[[str], Any], grace: float = 10.0) -> None:
        self.notify = notify
        self.grace = grace
        self.signal: signal.Signals | None = None
        self._events: queue.SimpleQueue[str | None] = queue.SimpleQueue()  # one that may be used in a signal's handler
        self._handlers: dict[signal.Signals, Any] = {}
        self._thread: threading.Thread | None = None
        self._is_late = self._has_arrived = False  # the thread's word, the run's word

    @property
    def requested(self) -> bool:
        """Whether the run has been asked to leave."""
        return self.signal is not None

    @property
    def status(self) -> int:
        """The exit status of a process that leaves now: 130 after Ctrl-C, 143 after SIGTERM, 0 after neither."""
        return 0 if self.signal is None else 128 + self.signal

    def is_due(self) -> bool:
        """Ask at a boundary: whether to leave here; if so, saving may take as long as it takes."""
        self._has_arrived = self.requested
        return self.requested

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self._thread = threading.Thread(target=self._attend, name="interruption", daemon=True)
            self._thread.start()
            heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self._handlers = {number: signal.signal(number, self._hear) for number in heard}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._has_arrived = True
        self._events.put(None)
        try:
            if self._thread:
                self._thread.join()  # whose signal must find these handlers and no others
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler or signal.SIG_DFL)
        if self.requested and isinstance(error, (EOFError, ConnectionResetError, BrokenPipeError)):
            # Processes of the environment belong to the same group, and SIGTERM has ended them before the run.
            raise Interrupted from error

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = signal.Signals(number)
            again = "; Ctrl-C again leaves at once" if number == signal.SIGINT else ""
            self._events.put(f"Leaving as soon as the run can be saved, within {self.grace:g} seconds{again}.")
        elif self._is_late:
            self._is_late = False
            if not self._has_arrived:
                raise Interrupted
        elif number == signal.SIGINT:
            raise KeyboardInterrupt

    def _attend(self) -> None:
        """Wait for the first signal, then for the end."""
        sentence = self._events.get()
        if sentence is None:
            return
        self.notify(sentence)
        try:
            self._events.get(timeout=self.grace)
        except queue.Empty:
            if not self._has_arrived and self.signal is not None:
                self._is_late = True
                # To the main thread itself, so that what it waits for is cut short too.
                main = threading.main_thread().ident
                assert main is not None
                signal.pthread_kill(main, self.signal)


@contextmanager
def ignored() -> Iterator[None]:
    """Ignore Ctrl-C meanwhile; processes that are started meanwhile ignore it for good.

    A terminal sends Ctrl-C to all processes of a run, but when to leave is for the main one to say.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler or signal.SIG_DFL)


def end_with_parent() -> None:
    """Have this process be killed once the one that has started it is gone, however that ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
