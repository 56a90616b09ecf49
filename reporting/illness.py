"""Which illness: a policy that has decided and cannot move, or a network that can no longer be trained.

Both look alike in the return. What tells them apart is measured on the plain agent's later tasks:

- A saturated policy is sure of its actions on the first batch of a task, before it has learnt anything of it: its
  entropy is below a tenth of that of the agent's very first batch, and one logit leads by 10 or more, so that next to
  no gradient comes through (`metrics.policy.saturation`). A new head for the actor alone would then restore most of
  the return. This is what PPO with large offsets of its observations dies of, whether or not capacity is lost as well.
- A body that cannot be trained: copies of the network fit random targets worse than fresh networks do, by a factor of
  2 or more (`metrics.trainability`, Lyle et al. 2022), and more so from task to task; a new head does not help.
- A collapsed representation: the entropy stays, but the policy hardly differs between states any more (Moalla et al.,
  NeurIPS 2024, arXiv 2405.00662).

All thresholds (`reporting.evidence`) are choices. The sentences give the numbers, since no threshold settles it: they
say what the evidence points to, and what is missing to tell.
"""

from collections.abc import Sequence

from configs import arms as labels
from recording.console import share
from reporting import evidence
from reporting.arms import ArmSummary
from reporting.attribution import Attribution

MOST = 0.5
"""Share of the gap that counts as most of it. A choice."""
HEAD = "actor's head"
WHOLE = ("actor", "critic")


def diagnose(arms: Sequence[ArmSummary], attribution: Attribution | None) -> list[str]:
    """What the plain agent suffers from, in sentences with their evidence; empty without an arm none.

    Args:
        arms: of the study.
        attribution: of the gap to parts, where there is one.
    """
    plain = next((arm for arm in arms if arm.label == labels.NONE), None)
    if plain is None or plain.per_task.shape[1] < 2:
        return []
    if plain.gap is None:
        told = "No arm starts afresh at every switch (--reset full), so that it is not known whether anything is lost."
    elif plain.gap.is_positive or (plain.gap.runs == 1 and plain.gap.value > 0):
        told = ""
    else:
        return ["The plain agent loses nothing that could be told from chance, so that there is no illness to name."]
    head = _head(attribution)
    is_saturated, saturation = evidence.saturated(plain)
    is_unfit, fitness = evidence.unfit(plain)
    verdict = _verdict(is_saturated, is_unfit, head, _part(attribution))
    return [
        sentence
        for sentence in (told, verdict, saturation, fitness, _told_of(head), evidence.collapsed(plain))
        if sentence
    ]


def _verdict(
    saturated: bool | None, unfit: bool | None, head: float | None, part: tuple[str, float] | None = None
) -> str:
    """The conclusion, as far as there is one."""
    helps = None if head is None else head >= MOST
    if saturated and not unfit:
        return {
            True: f"This points to a saturated policy{'' if unfit is None else ', not to lost capacity'}.",
            False: "The policy is saturated, but that is not all: a new head does not bring the return back.",
            None: "This points to a saturated policy; an arm that renews the actor's head alone would tell.",
        }[helps]
    if unfit and not saturated:
        return {
            True: "The networks are hard to train, and yet a new head is enough: what fails is near the outputs.",
            False: "This points to networks that can no longer be trained.",
            None: "This points to networks that can no longer be trained; an arm that renews the actor's head alone "
            "would tell whether it is the body.",
        }[helps]
    if saturated and unfit:
        return {
            True: "Both are found, a saturated policy and networks that are hard to train; since a new head brings "
            "most of the return back, it is the saturation that costs it.",
            False: "Both are found, a saturated policy and networks that are hard to train; a new head alone does not "
            "help.",
            None: "Both are found, a saturated policy and networks that are hard to train; an arm that renews the "
            "actor's head alone would tell which of them costs the return.",
        }[helps]
    if saturated is None or unfit is None:
        told = "What the agent suffers from cannot be told from what was measured"
        return f"{told}, but it is near the actor's outputs, since a new head is enough." if helps else f"{told}."
    neither = "Neither a saturated policy nor networks that fit random targets worse than fresh ones is found"
    if part is None:
        return f"{neither}: the loss has another cause."
    return (
        f"{neither}, and yet renewing the {part[0]} alone brings {share(part[1])} of the gap back: what fails is "
        "there, and neither of the two measurements sees it."
    )


def _head(attribution: Attribution | None) -> float | None:
    """Share of the gap that a new head for the actor restores; None where that is not known."""
    parts = attribution.parts if attribution else []
    return next((part.restored.value for part in parts if part.label == HEAD and part.restored), None)


def _part(attribution: Attribution | None) -> tuple[str, float] | None:
    """The part smaller than a whole network that restores most, and its share, where that is most of the gap."""
    parts = attribution.parts if attribution else []
    found = [(part.label, part.restored.value) for part in parts if part.restored and part.label not in WHOLE]
    return max((entry for entry in found if entry[1] >= MOST), key=lambda entry: entry[1], default=None)


def _told_of(head: float | None) -> str:
    return "" if head is None else f"A new head for the actor at every switch restores {share(head)} of the gap."
