"""What measuring costs: `python bench/measuring.py`.

Trains the same run with no metrics, with the default set and with all, in turns in one process, and prints two figures
for each set: the share of a run's processor time that is spent in measuring, by clocks around all that measures; and
the whole run's time over that of the run without metrics, which has what the clocks don't see as well, event files
above all, and the noise of the machine: it is the median over rounds, with their middle half.
`--write` keeps the figures of each case in `bench/results/measuring.json`, from where `docs/measuring.md` takes them;
those that were not measured now stay as they are.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from keeping import keep
from rich.console import Console
from rich.table import Table
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat

from configs.building import build
from configs.command_line import parse
from recording.directory import RunDirectory
from recording.measuring import Measurer
from recording.recorder import Recorder
from recording.tensorboard import Curves

RESULTS = Path(__file__).parent / "results" / "measuring.json"
SETS = ("none", "default", "all")
CHEETAH = "--config slippery_cheetah --stepping dummy"
PENDULUM = "--agent sac --env Pendulum-v1 --schedule pendulum_mass_drift --network.hidden 64,64"
CASES = {
    "PPO, CartPole, 64x64, the default benchmark": "--steps 61440",
    "PPO, CartPole, 64x64, tasks of 20,480 steps": "--steps 40960 --schedule.period 20480",
    "PPO, HalfCheetah, 256x256, tasks of 20,480 steps": f"{CHEETAH} --schedule.period 20480 --steps 40960",
    "SAC, Pendulum, 64x64, tasks of 10,240 steps": f"{PENDULUM} --schedule.period 10240 --steps 10240",
}
"""Flags of each case. In short tasks costly metrics, due at both ends of each, are measured more often for a step of
training than in the benchmarks."""


class Clock:
    """Adds up the processor time spent in some functions."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed; what it calls is not counted twice."""

        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.process_time()
            self._depth += 1
            try:
                return function(*arguments, **named)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += time.process_time() - began

        return timed


def run(flags: str, metrics: str, folder: Path) -> tuple[float, float]:
    """Train once; returns processor seconds in all, and those spent in measuring."""
    config = parse([*flags.split(), "--metrics", metrics, "--no-preflight"])
    _, env, model, plasticity = build(config)
    directory = RunDirectory(folder)
    directory.create(config)
    model.set_logger(Logger(str(folder), [TensorBoardOutputFormat(str(folder))]))
    clock = Clock()
    measurer = Measurer(config.metrics, config.run.seed, config.run.measure_samples)
    for name in ("collected", "measure", "measure_switch"):
        setattr(measurer, name, clock.around(getattr(measurer, name)))
    recorder = Recorder(
        directory,
        plasticity,
        lambda task: str(task),
        Curves(config.as_dict()),
        measurer,
        config.run.measure_every,
        config.run.measure_costly_every,
    )
    began = time.process_time()
    model.learn(config.run.steps, callback=[recorder, plasticity, _Taps(measurer, clock)])
    seconds = time.process_time() - began
    env.close()
    return seconds, clock.seconds


class _Taps(BaseCallback):
    """Puts clocks around what looks at gradient steps, once it is there."""

    def __init__(self, measurer: Measurer, clock: Clock) -> None:
        super().__init__()
        self.measurer, self.clock = measurer, clock

    def _on_training_start(self) -> None:
        for tap in self.measurer.taps:
            for name in ("start", "stop", "compare", "keep"):
                setattr(tap, name, self.clock.around(getattr(tap, name)))

    def _on_step(self) -> bool:
        return True


def main() -> None:
    """Time all cases, print the table, and keep the figures where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the steps")
    parser.add_argument("--write", action="store_true", help=f"keep the figures in {RESULTS.name}")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.distributions.Distribution.set_default_validate_args(False)
    table = Table("case", "metrics", "share of the time", "time over that of none (middle half)")
    for case in options.cases:
        words = CASES[case].split()
        place = words.index("--steps") + 1
        words[place] = str(round(int(words[place]) * options.scale))
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in SETS}
        for _ in range(options.rounds):
            for name in SETS:
                with tempfile.TemporaryDirectory() as folder:
                    seconds[name].append(run(" ".join(words), name, Path(folder) / "run"))
        figures: dict[str, dict[str, float]] = {}
        for name in SETS[1:]:
            share = statistics.median(inside / whole for whole, inside in seconds[name])
            ratios = [own / plain for (own, _), (plain, _) in zip(seconds[name], seconds["none"], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
            figures[name] = {"share": share, "ratio": middle, "low": low, "high": high}
            table.add_row(case, name, f"{100 * share:.1f} %", f"{middle:.3f} ({low:.3f} to {high:.3f})")
        if options.write:
            keep(RESULTS, {case: figures}, "cases")
    Console().print(table)


if __name__ == "__main__":
    main()
