"""Interruption: the first signal is noted, the second one obeyed at once; workers of the environment hear nothing."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from recording.signals import Interrupted, Interruption, ignored

ROOT = Path(__file__).parents[2]


def send(number: int, delay: float = 0.0) -> None:
    """Send this process a signal, later where there is a delay."""
    if delay:
        threading.Timer(delay, send, (number,)).start()
    else:
        os.kill(os.getpid(), number)


def lose_a_process(number: int = 0) -> None:
    send(number)
    raise EOFError


def wait(until: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_is_noted_and_told(number: int, status: int) -> None:
    told: list[str] = []
    before = [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]
    with Interruption(told.append) as interruption:
        assert (interruption.requested, interruption.status, interruption.is_due()) == (False, 0, False)
        send(number)
        wait(lambda: bool(told))
        assert (interruption.requested, interruption.status, interruption.is_due()) == (True, status, True)
    assert len(told) == 1
    assert ("Ctrl-C again" in told[0]) == (number == signal.SIGINT)
    assert [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)] == before


def test_a_second_ctrl_c_leaves_at_once() -> None:
    began = time.monotonic()
    with Interruption(lambda sentence: None) as interruption:
        send(signal.SIGINT)
        assert interruption.requested
        with pytest.raises(KeyboardInterrupt) as raised:
            send(signal.SIGINT)
    assert not isinstance(raised.value, Interrupted)
    assert time.monotonic() - began < 5


def test_a_second_sigterm_is_no_reason_to_hurry() -> None:
    with Interruption(lambda sentence: None) as interruption:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        assert interruption.is_due()
    assert interruption.status == 143


def test_without_a_boundary_in_time_the_run_leaves_where_it_is() -> None:
    began = time.monotonic()
    with Interruption(lambda sentence: None, grace=0.3) as interruption:
        send(signal.SIGTERM)
        with pytest.raises(Interrupted):
            os.read(os.pipe()[0], 1)  # a process of the environment that never answers
    assert 0.3 <= time.monotonic() - began < 3
    assert interruption.status == 143


def test_saving_at_a_boundary_may_take_its_time() -> None:
    with Interruption(lambda sentence: None, grace=0.1) as interruption:
        send(signal.SIGINT)
        assert interruption.is_due()
        time.sleep(0.4)
        with pytest.raises(KeyboardInterrupt):  # but a second Ctrl-C leaves even so
            send(signal.SIGINT)


def test_talking_never_happens_in_the_handler() -> None:
    """A print that the signal interrupts cannot be entered again."""
    speakers: list[threading.Thread] = []
    with Interruption(lambda sentence: speakers.append(threading.current_thread())):
        send(signal.SIGINT)
        wait(lambda: bool(speakers))
    assert speakers != [threading.main_thread()]


def test_processes_that_sigterm_has_ended_first_are_an_interruption() -> None:
    with pytest.raises(Interrupted), Interruption(lambda sentence: None):
        lose_a_process(signal.SIGTERM)
    with pytest.raises(EOFError), Interruption(lambda sentence: None):
        lose_a_process()


def test_what_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interruption(lambda sentence: None) as interruption:
            send(signal.SIGINT)
            assert not interruption.requested
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_of_the_main_thread_it_hears_nothing() -> None:
    seen: list[bool] = []

    def elsewhere() -> None:
        with ignored(), Interruption(lambda sentence: None) as interruption:
            seen.append(interruption.requested)

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [False]
    assert signal.getsignal(signal.SIGINT) is before


GROUP = """
import multiprocessing, sys
from recording.signals import Interruption, ignored

def answer(pipe):
    while (question := pipe.recv()) is not None:
        pipe.send(question)

if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")  # as SB3 starts its environments
    pipe, other = context.Pipe()
    worker = context.Process(target=answer, args=(other,), daemon=True)
    with ignored():
        worker.start()
    with Interruption(lambda sentence: print(sentence, flush=True)) as interruption:
        pipe.send("ready")
        print(pipe.recv(), flush=True)
        while not interruption.requested:
            pipe.send("working")
            pipe.recv()
        pipe.send("alive")
        print(pipe.recv(), flush=True)
    pipe.send(None)
    worker.join()
    sys.exit(interruption.status)
"""


def test_ctrl_c_in_a_terminal_leaves_processes_of_the_environment_alone(tmp_path: Path) -> None:
    """A terminal sends SIGINT to the whole group: the run ends by itself, and nobody's traceback is seen."""
    program = tmp_path / "group.py"
    program.write_text(GROUP)
    run = subprocess.Popen(
        [sys.executable, str(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
        os.killpg(run.pid, signal.SIGINT)
        out, err = run.communicate(timeout=60)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    assert err == ""
    assert "Leaving as soon as" in out
    assert "alive\n" in out
    assert run.returncode == 130
