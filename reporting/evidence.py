"""What speaks for one illness or another: the plain agent's measurements against thresholds, each in a sentence."""

from collections.abc import Mapping

import numpy as np

from metrics.tasks import later
from recording.console import number
from reporting.arms import ArmSummary
from reporting.statistics import Cells

LOW_ENTROPY = 0.1
"""Of the entropy on the run's first batch: below it a policy has decided. A choice."""
LARGE_GAP = 10.0
"""Lead of the largest logit, in nats: what is left for all other actions is 5e-5. A choice."""
WORSE = 2.0
"""Error in fitting random targets, in units of a fresh network's, that counts as worse. A choice."""
MOST = 0.5
"""Share of later tasks that counts as most of them. A choice."""
LOW_VARIANCE = 0.1
"""Of the policy's variance between states at the end of the first task. A choice."""


def saturated(plain: ArmSummary) -> tuple[bool | None, str]:
    """Whether the policy had decided before it saw anything of most later tasks; None where it is not known."""
    entropy, gap = _of(plain.at_switch, "entropy"), _of(plain.at_switch, "logit_gap")
    if gap is None or entropy is None:
        return None, (
            "Whether the policy is saturated is not known: its entropy and the lead of its largest logit on the first "
            "batches of tasks were not measured, or it has no logits."
        )
    first = entropy[:, :1]
    with np.errstate(invalid="ignore"):
        decided = (later(entropy) < LOW_ENTROPY * first) & (later(gap) > LARGE_GAP)
    known = ~(np.isnan(later(entropy)) | np.isnan(later(gap)) | np.isnan(first))
    if not known.any():
        return None, "Whether the policy is saturated is not known: the first batches of later tasks are missing."
    amount = float(decided[known].mean())
    medians = [
        float(np.median(values)) for values in (later(entropy)[known], first[~np.isnan(first)], later(gap)[known])
    ]
    return amount >= MOST, (
        f"On the first batch of {int(decided[known].sum())} of {int(known.sum())} later tasks the policy was saturated "
        f"(median entropy {medians[0]:.2g}, on the very first batch {medians[1]:.2g}; median lead of the largest logit "
        f"{medians[2]:.3g})."
    )


def unfit(plain: ArmSummary) -> tuple[bool | None, str]:
    """Whether some network fits random targets clearly worse than a fresh one, and ever worse; None if not known."""
    found = {
        name.split("/")[0]: cells
        for source in (plain.diagnostics, plain.at_switch)
        for name, cells in source.items()
        if name.endswith("/probe_ratio") and not np.isnan(later(cells)).all()
    }
    if not found:
        return None, "Whether the networks can still be trained is not known: the trainability probe was not measured."
    words, unfit = [], False
    for network, cells in found.items():
        per_task = np.array(
            [np.median(task[~np.isnan(task)]) if (~np.isnan(task)).any() else np.nan for task in cells.T]
        )
        known = per_task[~np.isnan(per_task)]
        last = float(np.median(known[-max(1, len(known) // 3) :]))
        worse = last >= WORSE and last > known[0]
        unfit |= bool(worse)
        words.append(f"{network} {number(float(known[0]))} in the first task, {number(last)} in the last third")
    return unfit, f"Error in fitting random targets, in units of a fresh network's: {'; '.join(words)}."


def collapsed(plain: ArmSummary) -> str:
    """A sentence where the policy stays undecided but hardly looks at the state."""
    variance, entropy = _of(plain.diagnostics, "policy_variance"), _of(plain.at_switch, "entropy")
    if variance is None or entropy is None or np.isnan(variance[:, 0]).all():
        return ""
    start, end = float(np.nanmedian(variance[:, 0])), variance[:, -1]
    undecided = later(entropy) >= MOST * entropy[:, :1]
    if np.isnan(end).all() or float(np.nanmedian(end)) >= LOW_VARIANCE * start or undecided.mean() < MOST:
        return ""
    return (
        f"The policy hardly differs between states any more (variance {number(float(np.nanmedian(end)))} at the end of "
        f"the last task, {number(start)} at that of the first), though it is undecided: a collapsed representation."
    )


def _of(source: Mapping[str, Cells], name: str) -> Cells | None:
    """The values of a diagnostic of the actor, or of whichever network has it."""
    found = [key for key in source if key.split("/")[-1] == name]
    key = next((key for key in found if key.startswith("actor")), found[0] if found else None)
    return None if key is None or np.isnan(source[key]).all() else source[key]
