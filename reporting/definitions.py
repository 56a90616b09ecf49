"""What the words of a report mean: its own measures, and the diagnostics in it as their files define them."""

import inspect
from collections.abc import Iterable

from metrics.tasks import FIRST_EPISODES, LAST_EPISODES, SHARE
from reporting.statistics import RESAMPLES

TEXT = f"""
return at the end of a task
    Mean return of the task's last {LAST_EPISODES} episodes; an episode that a switch cut short does not count.
    Returns are undiscounted, of the training episodes themselves.

return in later tasks
    Interquartile mean, the mean of the middle half, of the return at the end of a task, over all runs and all tasks
    but the first, on which all arms are still the same agent (Agarwal et al. 2021, arXiv 2108.13264).

95 % interval
    Percentile bootstrap: {RESAMPLES:,} times whole runs are drawn with replacement, never single tasks, since the
    tasks of a run hang together. One run has no interval, and that of a few is too narrow.

gap to fresh
    Mean, over later tasks and seeds, of what the arm fresh earns more at the end of a task than the arm does with
    the same seed. fresh starts each task with new networks and a new optimiser: the gap tells lost plasticity from
    tasks that are harder.

normalised gap
    The gap as a share of what fresh earns above a random policy: at 0 % the arm is as good as fresh, at 100 % as
    good as random.

probability of improvement over none
    How often a run of the arm earns more than a run of none in the same later task, a tie counted as one half (Mann
    and Whitney 1947); 50 % is no difference.

share of the gap restored
    What an arm that renews one part alone at switches earns more than none, as a share of what fresh earns more
    than none. Shares need not add up, since parts depend on each other.

area under the curve
    Mean return over all steps of a later task, in units of return: who learns sooner has more.

steps to recover
    Environment steps into a later task until the mean of the last {LAST_EPISODES} episodes is at {SHARE:.0%} of
    what fresh earns at the task's end (without fresh: of what the run earned in its first task), counted from a
    random policy's return where that is known. Tasks that end before count with their whole length; the median
    (Kaplan and Meier 1958) takes them as longer.

drop at switches
    Return at the end of a task less the mean of the first {FIRST_EPISODES} episodes of the next.

jump start
    Mean return of a task's first {FIRST_EPISODES} episodes, less that of fresh with the same seed.

forward transfer
    Area under the curve less that of fresh, as a share of what fresh leaves to gain, on a scale from a random
    policy to the best return in the study.

forgetting
    Where tasks come again: return at the end of a visit less the mean of the first {FIRST_EPISODES} episodes of the
    next visit.

moved with the loss
    Spearman's rank correlation, over tasks and runs of none, between the gap in a task and the diagnostic as the
    agent entered it: at the end of the task before or, for switch/…, on the task's first batch. It moved where the
    95 % interval leaves out 0.
"""
"""A measure a paragraph: its name, then what it is."""


MEASURES = {
    name: " ".join(words.split()) for name, words in (part.split("\n", 1) for part in TEXT.strip().split("\n\n"))
}


def definitions(names: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The measures, and those of the named diagnostics that are known, each with its definition in a sentence.

    Args:
        names: such as `actor/dormant`.
    """
    from metrics import METRICS  # PyTorch comes with it

    wanted = {name.split("/")[1] for name in names if "/" in name}
    found: dict[str, str] = {}
    for metric in METRICS.values():
        mine = [name for name in metric.names if name in wanted]
        if mine:
            text = (inspect.getdoc(metric) or metric.title).split("\n\n")[0]
            found[", ".join(mine)] = " ".join(text.split())
    return MEASURES, dict(sorted(found.items()))
