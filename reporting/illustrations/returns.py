"""What is earned over time: by task, against the fresh agent, by episode, and where tasks come again."""

from functools import partial

from configs import arms as labels
from reporting import statistics
from reporting.figures import Earned, Line, Looks, learning_curves, over_tasks
from reporting.illustrations.base import Illustration, any_known, from_to, ranked
from reporting.runs import Run
from reporting.summary import Summary


def returns(summary: Summary, looks: Looks) -> Illustration:
    """Return at the end of each task, each arm beside the fresh one."""
    name, title = "return_per_task", "Return at the end of each task"
    lines = {arm.label: Line(arm.per_task, arm.low, arm.high) for arm in summary.arms if any_known(arm.per_task)}
    if not lines:
        return Illustration(name, title, "No run has finished a task with a whole episode at its end yet.")
    return Illustration(
        name,
        title,
        "Mean over runs with its 95 % interval, each run behind it in a fine line. An arm that falls where fresh stays "
        "level loses plasticity; where both fall, the later tasks are harder.",
        partial(over_tasks, lines, looks, "return at the end of the task"),
        "; ".join(f"{label}: {from_to(line.mean())}" for label, line in lines.items()),
    )


def gaps(summary: Summary, looks: Looks) -> Illustration:
    """What the fresh agent earns more, task by task."""
    name, title = "gap_per_task", "Gap to the fresh agent"
    gaps = {arm.label: arm.gap_per_task for arm in summary.arms if arm.label != labels.FRESH}
    lines = {
        label: Line(gap, *statistics.per_task(gap)[1:])
        for label, gap in gaps.items()
        if gap is not None and any_known(gap)
    }
    if not lines:
        if all(arm.label != labels.FRESH for arm in summary.arms):
            why = "There is no arm that starts each task afresh; this makes its runs:"
            return Illustration(name, title, why, command="python train.py … --reset full")
        why = "No run shares its seed with one of the arm fresh." if gaps else "There is no arm beside fresh."
        return Illustration(name, title, why)
    return Illustration(
        name,
        title,
        "What fresh earns more at the end of the task than each arm with the same seed: mean over pairs of runs with "
        "its 95 % interval, each pair in a fine line. Above 0 plasticity is lost; below 0 the arm profits from what it "
        "learnt before.",
        partial(over_tasks, lines, looks, "return of fresh − return of the arm", zero=True),
        "; ".join(f"{label}: {from_to(line.mean())}" for label, line in lines.items()),
    )


def learning(summary: Summary, looks: Looks) -> Illustration:
    """Return of episodes over environment steps."""
    name, title = "learning_curves", "Learning curves"
    arms = {label: [earned for run in runs if (earned := _earned(run)) is not None] for label, runs in ranked(summary)}
    arms = {label: runs for label, runs in arms.items() if runs}
    if not arms:
        return Illustration(name, title, "No run has a record of its episodes (episodes.csv).")
    runs = [run for _, runs in ranked(summary) for run in runs]
    switches = _common_switches(runs)
    end = max(float(earned.step.max()) for each in arms.values() for earned in each)
    marks = "Dotted lines are switches. " if switches else ""
    if not switches and any(len(run.tasks) > 1 for run in runs):
        marks = "Each run switches tasks at steps of its own. "
    return Illustration(
        name,
        title,
        f"Mean return of the episodes that ended within a short stretch of steps, each run in a fine line. {marks}"
        "Episodes cut short by a switch are left out.",
        partial(learning_curves, arms, looks, switches, end=end),
        f"Return of episodes over {end:,.0f} environment steps for {', '.join(arms)}.",
    )


def visits(summary: Summary, looks: Looks) -> Illustration:
    """Return on the first, second, … visit to tasks that come again."""
    name, title = "recurring_tasks", "Return on recurring tasks"
    lines = {arm.label: Line(arm.visits) for arm in summary.arms if arm.visits is not None and any_known(arm.visits)}
    lines = {label: line for label, line in lines.items() if line.runs.shape[1] > 1}
    if not lines:
        recorded = any(run.episodes is not None for _, runs in ranked(summary) for run in runs)
        why = "No task came again in these runs." if recorded else "No run has a record of its episodes (episodes.csv)."
        return Illustration(name, title, why)
    return Illustration(
        name,
        title,
        "Mean return over the whole task at its first, second … visit, over all tasks that came again; each run in a "
        "fine line. A fall from visit to visit speaks for plasticity loss, since the tasks are the same.",
        partial(over_tasks, lines, looks, "return over the task", x_label="visit", first=1),
        "; ".join(f"{label}: {from_to(line.mean(), 'visit', 1)}" for label, line in lines.items()),
    )


def _earned(run: Run) -> Earned | None:
    if run.episodes is None:
        return None
    whole = ~run.episodes.cut_short
    if not whole.any():
        return None
    return Earned(run.episodes.step[whole].astype(float), run.episodes.earned[whole].astype(float))


def _common_switches(runs: list[Run]) -> list[float]:
    """Steps of the switches where all runs share them, as far as each has come; else none."""
    starts = [[float(row["start"]) for row in run.tasks[1:]] for run in runs]
    longest = max(starts, key=len, default=[])
    return longest if all(longest[: len(each)] == each for each in starts) else []
