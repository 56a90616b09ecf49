"""What becomes of jobs: retried, given up, left to others; with an engine that only says it has worked."""

from collections.abc import Callable

import pytest

from checkpoints.lock import BUSY, RunLock
from sweeping import running
from sweeping.engines import Ended, Engine
from sweeping.job import Job
from sweeping.plan import Sweep
from sweeping.running import MISTAKE, run
from tests.sweeping.small import STEPS, Heard


class Pretends(Engine):
    """Ends each job at once.

    Args:
        statuses: for each job what its processes end with, one after another; then 0.
        slots: jobs at a time.
    """

    def __init__(self, statuses: dict[Job, list[int | None]] | None = None, slots: int = 2) -> None:
        self.statuses = statuses or {}
        self.most = slots
        self.started: list[Job] = []
        self.running: list[Job] = []
        self.stopped = False

    def slots(self) -> int:
        return self.most

    def start(self, job: Job) -> None:
        assert job not in self.running
        self.started.append(job)
        self.running.append(job)
        assert len(self.running) <= self.most

    def ended(self, seconds: float) -> list[Ended]:
        if not self.running:
            return []
        job = self.running.pop(0)
        left = self.statuses.get(job, [])
        status = left.pop(0) if left else 0
        if status == 0:
            job.directory.make()
            job.directory.set_status("finished", job.steps // job.cells, 1.0)
        return [Ended(job, status)]

    def leave(self, job: Job) -> None:
        assert job in self.running
        self.statuses[job] = [143]

    def stop(self) -> None:
        self.stopped = True


def test_all_jobs_are_started_once_and_none_that_is_finished(sweep: Sweep) -> None:
    engine = Pretends()
    progress = run(sweep, engine, Heard(), retries=0)
    assert engine.started == sweep.jobs
    assert progress.is_over
    assert set(progress.finished) == set(sweep.jobs)
    again = Pretends()
    assert run(sweep, again, Heard(), retries=0).finished == sweep.jobs
    assert again.started == []


def test_what_fails_is_tried_again_after_the_others_and_then_given_up(sweep: Sweep) -> None:
    first, second, *_ = sweep.jobs
    first.log.parent.mkdir(parents=True)
    first.log.write_text("\n".join(["one", "two", "three", "what it failed from"]))
    engine, heard = Pretends({first: [1, 1, 1], second: [1]}, slots=1), Heard()
    progress = run(sweep, engine, heard, retries=1)
    assert engine.started == [*sweep.jobs, first, second]
    assert progress.failed == {first: "two\nthree\nwhat it failed from"}
    assert len(progress.finished) == 3
    assert any("failed with status 1, for good" in sentence for sentence in heard.said)


def test_a_mistake_is_not_repeated(sweep: Sweep) -> None:
    engine = Pretends({sweep.jobs[0]: [MISTAKE]})
    assert list(run(sweep, engine, Heard(), retries=5).failed) == [sweep.jobs[0]]
    assert engine.started == sweep.jobs


@pytest.mark.parametrize("status", [None, -9, 143])
def test_a_lost_worker_is_no_failure_of_the_job(sweep: Sweep, status: int | None) -> None:
    engine = Pretends({sweep.jobs[0]: [status] * 3})
    assert not run(sweep, engine, Heard(), retries=0).failed
    assert engine.started.count(sweep.jobs[0]) == 4
    engine = Pretends({job: [status] * 1000 for job in sweep.jobs})
    for job in sweep.jobs:
        job.directory.set_status("interrupted", 0)
    assert set(run(sweep, engine, Heard(), retries=0).failed) == set(sweep.jobs), "but it does not go on for ever"


def test_what_another_process_works_on_is_waited_for(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "WAIT_FOR_OTHERS", 0.0)
    engine = Pretends({sweep.jobs[0]: [BUSY, BUSY]})
    assert set(run(sweep, engine, Heard(), retries=0).finished) == set(sweep.jobs)
    assert engine.started.count(sweep.jobs[0]) == 3


def test_no_process_is_started_for_what_another_driver_does(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "WAIT_FOR_OTHERS", 0.0)
    held, done, *others = sweep.jobs
    engine, looked = Pretends(slots=1), list[Job]()

    def leaves(job: Job) -> bool:
        """The other driver does one job meanwhile, and holds another until this one has looked at it twice."""
        if not done.path.exists():
            done.directory.make()
            done.directory.set_status("finished", done.steps, 1.0)
        looked.append(job)
        if looked.count(held) == 3:
            lock.release()
        return False

    held.directory.make()
    with RunLock(held.directory.lock) as lock:
        progress = run(sweep, engine, Heard(), retries=0, is_unwanted=leaves)
    assert set(progress.finished) == set(sweep.jobs)
    assert sorted(engine.started, key=sweep.jobs.index) == [held, *others]
    assert looked.count(held) >= 3


def test_it_leaves_when_asked_to(sweep: Sweep) -> None:
    engine, answers = Pretends(slots=1), iter([False, True])
    progress = run(sweep, engine, Heard(), retries=0, is_leaving=lambda: next(answers))
    assert (len(progress.finished), len(progress.waiting)) == (1, 3)


def test_what_is_not_wanted_any_more_is_given_up(sweep: Sweep) -> None:
    """Whether it is at work, or waits; one that finishes all the same is finished."""
    first, second, third, _ = sweep.jobs
    engine = Pretends(slots=2)
    unwanted = {first, third}
    progress = run(sweep, engine, Heard(), 0, is_unwanted=lambda job: job in unwanted and job.state() == "waiting")
    assert progress.dropped == [first, third]
    assert first not in engine.started
    engine, asked = Pretends(slots=2), list[Job]()
    sweep.jobs = [second, third]
    for job in sweep.jobs:
        job.directory.make()
        job.directory.set_status("interrupted", 0)

    def is_unwanted(job: Job) -> bool:
        asked.append(job)
        return job == third and asked.count(job) > 1  # once it is at work

    progress = run(sweep, engine, Heard(), 0, is_unwanted=is_unwanted)
    assert progress.dropped == [third]
    assert progress.finished == [second]
    assert engine.started == [second, third], "and not again"


def test_an_error_stops_the_engine(sweep: Sweep) -> None:
    engine = Pretends()

    def breaks() -> bool:
        raise RuntimeError("it broke")

    with pytest.raises(RuntimeError, match="it broke"), engine:
        run(sweep, engine, Heard(), retries=0, is_leaving=breaks)
    assert engine.stopped


STATES: dict[str, tuple[Callable[[Job], None], str]] = {
    "nothing": (lambda job: None, "waiting"),
    "interrupted": (lambda job: job.directory.set_status("interrupted", STEPS // 2), "unfinished"),
    "killed": (lambda job: job.directory.set_status("running", STEPS // 2), "unfinished"),
    "failed": (lambda job: job.directory.set_status("failed", STEPS // 2), "failed"),
    "finished": (lambda job: job.directory.set_status("finished", STEPS), "finished"),
}


@pytest.mark.parametrize("name", STATES)
def test_a_job_stands_as_its_directory_says(sweep: Sweep, name: str) -> None:
    (job, *_), (prepare, state) = sweep.jobs, STATES[name]
    if name != "nothing":
        job.directory.make()
    prepare(job)
    assert job.state() == state
    assert job.done() == {"waiting": 0, "finished": STEPS}.get(state, STEPS // 2)


def test_a_job_is_running_while_somebody_holds_its_lock(sweep: Sweep) -> None:
    job = sweep.jobs[0]
    job.directory.make()
    job.directory.set_status("running", 100)
    with RunLock(job.directory.lock):
        assert job.state() == "running"
    assert job.state() == "unfinished"
