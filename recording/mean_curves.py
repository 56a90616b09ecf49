"""The curves of an arm in TensorBoard: the mean over its members, and the range from the lowest to the highest.

They stand in a run of their own beside the members', under the same tags, so that it is drawn with them; the range is
in `range/<tag>/low` and `range/<tag>/high`. A point is the mean of the members that have one at this step: of networks
all of them, of returns those that have finished an episode.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from torch.utils.tensorboard import SummaryWriter

from recording.comparing import by_number
from recording.directory import EVENT_FILES
from recording.tensorboard import Curves, draw

RETURNS = {
    "task/return_now": "Return of the last 20 episodes",
    "task/return_end": "Return at the end of each task",
    "task/return": "Return over each task",
}
LEFT_OUT = ("shade/",)
"""What is drawn for one run only."""
OF_SB3 = ("rollout/", "train/", "time/", "_hparams_/")
"""What SB3 logs by itself, of which no means are made."""
NETWORKS = re.compile(r"(?!(probe|switch|events|penalty|task|final)/)[^/]+/[^/]+/[^/]+")
"""Tags of measures of whole networks on current batches."""
PAGE = "5 mean and range over seeds"


class MeanCurves:
    """Writes the mean of some members' curves.

    Args:
        folder: where.
        members: their curves, once these have been started; they are listened to from now on.
        resumed: whether there is an event file of it before, which has the layout already.
    """

    def __init__(self, folder: Path, members: Sequence[Curves], resumed: bool = False) -> None:
        self.folder = folder
        self.writer = SummaryWriter(str(folder))
        self._values: dict[int, dict[str, list[float]]] = defaultdict(dict)
        for curves in members:
            curves.on_points = self.collect
        if not resumed:
            self.writer.add_custom_scalars(layout(tags_of(members[0])))

    def collect(self, points: Mapping[str, float], step: int) -> None:
        """Take in a member's points of several curves, by tag."""
        for tag, value in points.items():
            if not tag.startswith(LEFT_OUT):
                self._values[step].setdefault(tag, []).append(value)

    def write(self) -> None:
        """Write what has been collected; called where all members are at the same place."""
        for step, found in self._values.items():
            points = {}
            for tag, values in found.items():
                points[tag] = sum(values) / len(values)
                points[f"range/{tag}/low"], points[f"range/{tag}/high"] = min(values), max(values)
            draw(self.writer, points, step)
        self._values.clear()

    def tags(self) -> set[str]:
        """The curves that there are points of which have not been written yet."""
        return {tag for found in self._values.values() for tag in found}

    def lengths(self) -> dict[str, int]:
        """How long each event file is, all points written out."""
        self.writer.flush()
        return {path.name: path.stat().st_size for path in self.folder.glob(EVENT_FILES)}

    def close(self) -> None:
        """Write out everything."""
        self.write()
        self.writer.close()


def tags_of(curves: Curves) -> list[str]:
    """The tags of all measures of whole networks that a member's curves will have."""
    pairs = [(network, metric) for network in curves.measurer.networks for metric in curves.measurer.metrics.values()]
    applying = [(network, metric) for network, metric in pairs if metric.applies(network)]
    return [f"{metric.family}/{network.name}/{name}" for network, metric in applying for name in metric.names]


def layout(tags: Iterable[str]) -> dict[str, dict[str, list[Any]]]:
    """A custom-scalars page: each mean with its range, first returns, then these measures of networks."""
    titles = RETURNS | {tag: tag.partition("/")[2].replace("/", ": ") for tag in tags}
    backwards = reversed(titles.items())  # TensorBoard shows such plots from the last to the first
    return {PAGE: {title: ["Margin", [tag, f"range/{tag}/low", f"range/{tag}/high"]] for tag, title in backwards}}


def merge(folder: Path, members: Sequence[Path]) -> None:
    """Write the mean of members' curves anew, from their event files, once they are finished."""
    for path in folder.glob(EVENT_FILES):
        path.unlink()
    mean = MeanCurves(folder, [], resumed=True)
    for member in members:
        for path in sorted(member.glob(EVENT_FILES), key=by_number):
            for event in EventFileLoader(str(path)).Load():
                for value in event.summary.value:
                    if value.tensor.float_val and not value.tag.startswith(OF_SB3):
                        mean.collect({value.tag: value.tensor.float_val[0]}, event.step)
    mean.writer.add_custom_scalars(layout(sorted(tag for tag in mean.tags() if NETWORKS.fullmatch(tag))))
    mean.close()
