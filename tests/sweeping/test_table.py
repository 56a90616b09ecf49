"""What is told of a sweep: how far it is, how fast, and how long it will take, by figures worked out by hand."""

import io
from collections import deque

import pytest
from rich.console import Console

from checkpoints.lock import RunLock
from sweeping.job import Job
from sweeping.plan import Sweep
from sweeping.running import Progress
from sweeping.table import LiveTable, duration, look, print_view
from tests.sweeping.small import STEPS


def stands(job: Job, state: str, steps: int, seconds: float) -> None:
    job.directory.make()
    job.directory.set_status(state, steps, seconds)


def test_the_time_left_is_that_of_what_is_left_at_the_speed_of_what_is_done(sweep: Sweep) -> None:
    first, second, third, _ = sweep.jobs
    assert look(sweep).seconds_left() != look(sweep).seconds_left(), "not known yet: nan"
    stands(first, "finished", STEPS, 200)
    stands(second, "interrupted", STEPS // 4, 10)
    assert look(sweep).seconds_left() == pytest.approx(2.75 * 200), "one after another"
    stands(third, "running", STEPS // 2, 300)
    with RunLock(third.directory.lock):
        view = look(sweep)
        assert view.speeds == {third: pytest.approx(STEPS / 600)}
        # 200 and 600 s for a job: 400 on average, for three quarters, a half and a whole of one.
        assert view.seconds_left() == pytest.approx(2.25 * 400)
        assert [view.cells("finished"), view.cells("running"), view.cells("unfinished")] == [1, 1, 1]


@pytest.mark.parametrize(("slots", "left"), [(1, "14 min left"), (2, "7 min left"), (8, "5 min left")])
def test_the_live_table_tells_what_is_done_what_is_at_work_and_what_is_left(
    sweep: Sweep, slots: int, left: str
) -> None:
    first, second, third, fourth = sweep.jobs
    stands(first, "finished", STEPS, 300)
    stands(second, "running", STEPS // 4, 10)
    stands(fourth, "running", 0, 1)
    progress = Progress(sweep, deque([third]), running={second: 0.0}, elsewhere={fourth: 0.0}, finished=[first])
    shown = io.StringIO()
    with LiveTable(sweep, Console(file=shown, force_terminal=True, width=140, height=40), slots) as table:
        table.draw(progress)
        stands(second, "running", STEPS, 20)
        table.draw(progress)  # too soon
    said = shown.getvalue()
    assert f"1 of 4 cells done · 2 running · 31 % of {4 * STEPS:,} steps" in said
    assert left in said, "300 s for a job: three quarters of one, and two; the longest takes all of it"
    assert second.name in said
    assert "25 %" in said
    assert "100 %" not in said
    assert third.name not in said, "it waits"


def test_what_has_failed_is_told_with_its_reason_and_where_all_of_it_is(sweep: Sweep) -> None:
    first, second, *_ = sweep.jobs
    stands(first, "finished", STEPS, 5)
    stands(second, "failed", 10, 1)
    second.log.write_text("a line\nwhat it failed from\n")
    shown = io.StringIO()
    print_view(look(sweep), Console(file=shown, width=400))
    said = shown.getvalue()
    assert [line.split(maxsplit=1) for line in said.splitlines()[2:4]] == [["none", "1/2"], ["redo", "0/2, 1 failed"]]
    assert f"failed: {second.name}" in said
    assert "what it failed from" in said
    assert f"all of it: {second.log}" in said


def test_durations_in_words() -> None:
    seconds = {45: "45 s", 89.6: "90 s", 600: "10 min", 5340: "89 min", 12_000: "3 h 20 min", 356_400: "4 d 3 h"}
    assert {each: duration(each) for each in seconds} == seconds
