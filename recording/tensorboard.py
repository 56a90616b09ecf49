"""TensorBoard: the curves of a run, its configuration as HParams, and a page with the plots that matter together.

Tags are `task/…` for what is earned, `plasticity/<network>/…` for what becomes of the networks, `events/…` for
switches and resets; SB3's own (`rollout/…`, `train/…`) stand beside them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from stable_baselines3.common.logger import HParam, Logger, TensorBoardOutputFormat

MEASURES = {
    "dormant": "Dormant fraction (tau 0.1)",
    "effective_rank": "Effective rank of the last hidden layer",
    "weight_norm": "Weight norm",
    "grad_norm": "Gradient norm before clipping",
}


class Curves:
    """Writes scalars into the event file that SB3's logger has open, at environment steps.

    Args:
        settings: the configuration, shown in the HParams tab.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings

    def start(self, logger: Logger, networks: Sequence[str]) -> None:
        """Find the writer in the model's logger; write the layout and the HParams."""
        output = next(item for item in logger.output_formats if isinstance(item, TensorBoardOutputFormat))
        assert output.writer is not None
        self.writer = output.writer
        self.writer.add_custom_scalars(layout(networks))
        metrics = {"task/return": 0.0, "task/return_end": 0.0}
        metrics |= {f"plasticity/{network}/{measure}": 0.0 for network in networks for measure in MEASURES}
        hparams = HParam({key: _hparam(value) for key, value in flatten(self.settings).items()}, metrics)
        output.write({"hparams": hparams}, {"hparams": ("stdout", "log", "json", "csv")}, step=0)

    def networks(self, step: int, measures: Mapping[str, Mapping[str, float]], penalties: Mapping[str, float]) -> None:
        """One point of every curve about the networks."""
        for network, found in measures.items():
            for measure, value in found.items():
                self._point(f"plasticity/{network}/{measure}", value, step)
        for name, value in penalties.items():
            self._point(f"penalty/{name}", value, step)

    def progress(self, step: int, task: int, recent_return: float, resets: Counter[str]) -> None:
        """One point of the curves about tasks while they go on."""
        self._point("task/index", task, step)
        self._point("task/return_now", recent_return, step)
        for what in resets or ("units",):
            self._point(f"events/reset_{what}", resets[what], step)

    def task(self, step: int, task: int, mean_return: float, end_return: float) -> None:
        """One finished task."""
        self._point("task/return", mean_return, step)
        self._point("task/return_end", end_return, step)
        self.writer.add_text("events/switch", f"task {task} ended", step)
        self.writer.flush()

    def _point(self, tag: str, value: float, step: int) -> None:
        if value == value:  # a NaN would leave a hole in the plot and a warning in its legend
            self.writer.add_scalar(tag, value, step)


def layout(networks: Sequence[str]) -> dict[str, dict[str, list[Any]]]:
    """The custom-scalars page: what is earned first, then each network's diagnostics side by side."""
    pages: dict[str, dict[str, list[Any]]] = {
        "Tasks": {
            "Return at the end of each task": ["Multiline", ["task/return_end"]],
            "Return over each task": ["Multiline", ["task/return$"]],
            "Return of the last 20 episodes": ["Multiline", ["task/return_now"]],
            "Resets since the last point": ["Multiline", ["events/reset_.*"]],
            "Number of the task": ["Multiline", ["task/index"]],
        }
    }
    for network in networks:
        plots = {title: ["Multiline", [f"plasticity/{network}/{measure}"]] for measure, title in MEASURES.items()}
        pages[f"Network: {network}"] = plots
    return pages


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as `agent.learning_rate: …`."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _hparam(value: Any) -> bool | str | float | int:
    return value if isinstance(value, (bool, str, float, int)) else str(value)
