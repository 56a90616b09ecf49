"""Measure a saved model from the shell: `python -m metrics runs/…/model.zip`.

The file is read without running anything that stands in it (`agents.loading`).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from agents.loading import load_safely
from configs.settings import UsageError
from metrics.diagnosis import diagnose


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; the exit status is 2 after a mistake of the user's."""
    parser = argparse.ArgumentParser(prog="python -m metrics", description="Measures the networks of a saved model.")
    parser.add_argument("model", type=Path, help="a model.zip of Stable-Baselines3, or a run's directory")
    parser.add_argument("--observations", type=Path, help="an .npy or .npz file of them; default: the run's probe.npz")
    parser.add_argument("--metrics", help="names, a,b,…; default: all that can be measured")
    parser.add_argument("--initial", type=Path, help="the model before training, for the distances from there")
    parser.add_argument("--layers", action="store_true", help="also each layer")
    options = parser.parse_args(arguments)
    try:
        path = options.model / "model.zip" if options.model.is_dir() else options.model
        observations, actions = read_observations(options.observations or path.with_name("probe.npz"))
        names = [name.replace("-", "_") for name in options.metrics.split(",") if name] if options.metrics else None
        initial = load_safely(options.initial) if options.initial else None
        found = diagnose(load_safely(path), observations, actions, names, initial)
    except UsageError as error:
        print(f"metrics: error: {error}", file=sys.stderr)
        return 2
    Console(highlight=False).print(found.table(options.layers))
    return 0


def read_observations(path: Path) -> tuple[Any, Any]:
    """Observations, and actions where there are any, of an array file; of an `.npz` those named `observations`."""
    try:
        found = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: there is no such file; name one with --observations.") from error
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"{path}: is no array file that NumPy reads without pickle.") from error
    if isinstance(found, np.ndarray):
        return found, None
    with found:
        try:
            arrays = {key: found[key] for key in found.files}
        except ValueError as error:
            raise UsageError(f"{path}: holds something else than plain arrays.") from error
    actions = arrays.pop("actions", None)
    if "observations" in arrays:
        return arrays["observations"], actions
    parts = {key.partition(".")[2]: array for key, array in arrays.items() if key.startswith("observations.")}
    if not parts:
        raise UsageError(f"{path}: has no array named observations; it has {', '.join(found.files) or 'none'}.")
    return parts, actions


if __name__ == "__main__":
    sys.exit(main())
