"""TensorBoard: the curves of a run, its configuration and results as HParams, and four pages of plots.

| tag | what |
|---|---|
| `task/…` | what is earned, and which task it is; `shade/…` is the band behind the return in odd tasks |
| `<family>/<network>/<name>` | a metric on the current batch: `units/actor/dormant`; of a layer with `/<layer>` |
| `probe/<network>/<name>` | the same on the probe batch, which stays as it is all through the run |
| `switch/<network>/<name>` | on the first batch of each task, before the agent has learnt from it |
| `events/…`, `penalty/…`, `final/…` | resets; penalties of regularisers; the run in one number each |

SB3's own (`rollout/…`, `train/…`) stand beside them.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import HParam, Logger, TensorBoardOutputFormat
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

from configs.studies import flat
from metrics.base import Metric
from recording.directory import EVENT_FILES
from recording.measuring import Measurement, Measurer

FINAL = ("plasticity_gap", "return_end", "return")
"""A run in numbers, as HParams: what the fresh agent earns more at the ends of tasks, the return there and over all."""

PAGES = {
    "learning": ("policy",),
    "tasks": ("trainability",),
    "networks": ("units", "ranks", "weights"),
    "gradients and curvature": ("gradients", "curvature"),
}
"""Which families of metrics stand on which page."""


class Curves:
    """Writes scalars into the event file that SB3's logger has open, at environment steps.

    Args:
        settings: the configuration, shown in the HParams tab.
        histograms: whether to write histograms of weights and activations as well.
        resumed: whether there are event files of this run before, which have the layout and the HParams already.

    Attributes:
        on_points: told of points of several curves, by tag, and their step.
    """

    def __init__(self, settings: Mapping[str, Any], histograms: bool = False, resumed: bool = False) -> None:
        self.settings = settings
        self.resumed = resumed
        self.lowest, self.highest = 0.0, 0.0  # of the returns so far
        self.on_points: Callable[[Mapping[str, float], int], None] = lambda points, step: None
        self.histograms = histograms

    def start(self, logger: Logger, measurer: Measurer) -> None:
        """Find the writer in the model's logger; write the layout and the HParams."""
        output = next(item for item in logger.output_formats if isinstance(item, TensorBoardOutputFormat))
        assert output.writer is not None
        self.output, self.writer = output, output.writer
        self.measurer = measurer
        metrics = [metric for metric in measurer.metrics.values() if any(map(metric.applies, measurer.networks))]
        self.family = {name: metric.family for metric in metrics for name in metric.names}
        if self.resumed:
            return
        self.writer.add_custom_scalars(layout(metrics))
        finals = {f"final/{name}": 0.0 for name in FINAL}
        hparams = HParam({key: _hparam(value) for key, value in flat(self.settings).items()}, finals)
        output.write({"hparams": hparams}, {"hparams": ("stdout", "log", "json", "csv")}, step=0)

    def state_dict(self) -> dict[str, Any]:
        """What is remembered between two points."""
        return {"lowest": self.lowest, "highest": self.highest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.lowest, self.highest = state["lowest"], state["highest"]

    def lengths(self) -> dict[str, int]:
        """How long each event file of the run is, all points written out."""
        self.writer.flush()
        return {path.name: path.stat().st_size for path in self.paths()}

    def paths(self) -> list[Path]:
        """The event files of the run."""
        return list(Path(self.writer.log_dir).glob(EVENT_FILES))

    def reopen(self) -> None:
        """Write into a new event file from now on."""
        self.writer.close()
        self.output.writer = self.writer = SummaryWriter(self.writer.log_dir)

    def measurement(self, measurement: Measurement) -> None:
        """One point of every curve that was measured."""
        points = {}
        for key, value in measurement.values.items():
            network, name = key.split("/", 1)
            family = self.family.get(name.partition("/")[0], "metrics")
            if measurement.when == "switch":
                family = "switch"
            elif measurement.batch == "probe":
                family = "probe"
            points[f"{family}/{network}/{name}"] = value
        self._draw(points, measurement.step)

    def penalties(self, step: int, penalties: Mapping[str, float]) -> None:
        """One point of each regulariser's curve."""
        self._draw({f"penalty/{name}": value for name, value in penalties.items()}, step)

    def progress(self, step: int, task: int, recent_return: float, resets: Counter[str]) -> None:
        """One point of the curves about tasks while they go on."""
        events = {f"events/reset_{what}": float(resets[what]) for what in resets or ("units",)}
        self._draw({"task/index": task} | self._shaded(task, recent_return) | events, step)

    def _shaded(self, task: int, value: float) -> dict[str, float]:
        """The return so far, and a band behind it in every other task, so that switches are seen on the curve."""
        if math.isnan(value):
            return {}
        self.lowest, self.highest = min(self.lowest, value), max(self.highest, value)
        low, high = (self.lowest, self.highest) if task % 2 else (value, value)
        return {"task/return_now": value, "shade/low": low, "shade/high": high}

    def distributions(self, step: int) -> None:
        """Histograms of every layer's weights and of its units' activations."""
        if not self.histograms:
            return
        for tag, values in self.measurer.distributions(step):
            self.writer.add_histogram(tag, values, step)

    def task(self, step: int, task: int, mean_return: float, end_return: float) -> None:
        """One finished task."""
        self._draw({"task/return": mean_return, "task/return_end": end_return}, step)
        self.writer.add_text("events/switch", f"task {task} ended", step)
        self.writer.flush()

    def finish(self, step: int, finals: Mapping[str, float]) -> None:
        """The run in numbers, for the HParams tab."""
        self._draw({f"final/{name}": value for name, value in finals.items()}, step)
        self.writer.flush()

    def _draw(self, points: Mapping[str, float], step: int) -> None:
        # A NaN would leave a hole in the plot and a warning in its legend.
        known = {tag: value for tag, value in points.items() if not math.isnan(value)}
        draw(self.writer, known, step)
        self.on_points(known, step)


def draw(writer: SummaryWriter, points: Mapping[str, float], step: int) -> None:
    """One point of several curves, by tag; an event for each of them would take many times as long."""
    if points:
        values = [Summary.Value(tag=tag, simple_value=float(value)) for tag, value in points.items()]
        assert writer.file_writer is not None
        writer.file_writer.add_summary(Summary(value=values), step)


def layout(metrics: Sequence[Metric]) -> dict[str, dict[str, list[Any]]]:
    """The custom-scalars pages: what is learnt, the tasks, the networks, gradients and curvature."""
    pages: dict[str, dict[str, list[Any]]] = {page: {} for page in PAGES}
    shaded = ["task/return_now", "shade/low", "shade/high"]
    pages["learning"]["Return of the last 20 episodes"] = _plot("task/return_now$")
    pages["learning"]["The same, odd tasks shaded"] = ["Margin", shaded]  # TensorBoard shows such plots last
    pages["tasks"] |= {
        "Return at the end of each task": _plot("task/return_end$"),
        "Return over each task": _plot("task/return$"),
        "Number of the task": _plot("task/index$"),
    }
    for title, name, family, at_switch in _values(metrics):
        page = next(page for page, families in PAGES.items() if family in families)
        pages[page][title] = _plot(f"(?:{family}|probe)/[^/]+/{name}$")
        if at_switch:
            pages["tasks"][f"{title}, first batch of each task"] = _plot(f"switch/[^/]+/{name}$")
    pages["tasks"]["Resets since the last point"] = _plot("events/reset_.*")
    return {f"{number} {page}": plots for number, (page, plots) in enumerate(pages.items(), 1) if plots}


def _values(metrics: Sequence[Metric]) -> Iterator[tuple[str, str, str, bool]]:
    """Title, name, family and whether it is measured at switches, for each value of each metric."""
    for metric in metrics:
        for name in metric.names:
            title = metric.title if name == metric.names[0] else name.replace("_", " ").capitalize()
            yield title, name, metric.family, metric.at_switch


def _plot(tag: str) -> list[Any]:
    return ["Multiline", [tag]]


def _hparam(value: Any) -> bool | str | float | int:
    return value if isinstance(value, (bool, str, float, int)) else str(value)
