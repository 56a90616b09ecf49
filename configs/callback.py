"""The callback made from names and plain values, as other programs' files have them.

rl-zoo3 makes callbacks from its hyperparameter files; this is what to name there (docs/other_tools.md):

    callback:
      - configs.callback.plasticity:
          reset: {redo: {tau: 0.1}}
          regularizer: spectral
"""

from collections.abc import Mapping
from dataclasses import make_dataclass
from typing import Any

from agents.plasticity import Plasticity
from configs.flags import Flags, build, from_mapping
from configs.names import CHOICES, read_block, read_names
from configs.settings import UsageError

ORIGIN = "callback"
Names = str | list[str] | Mapping[str, Mapping[str, Any] | None] | None


def plasticity(reset: Names = None, regularizer: Names = None, seed: int = 0, batch_size: int = 512) -> Plasticity:
    """Interventions by name, with their settings, as one callback.

    Args:
        reset: a name, a list of names, or names with their settings, as in this project's YAML files.
        regularizer: likewise.
        seed: of the interventions' own random generators.
        batch_size: how many observations activations are measured on.

    Raises:
        ValueError: an unknown name or setting, or a value that is not allowed; one sentence.
    """
    given = {"reset": reset, "regularizer": regularizer}
    found: list[Any] = []
    try:
        for group in given:
            blocks = read_block(given[group], group, ORIGIN)
            names = read_names(group, None, list(blocks), ORIGIN)
            flags: Flags = {}
            for name in names:
                flags |= from_mapping(blocks[name], ORIGIN, f"{group}.{name}.")
            inner = make_dataclass(group, [(name, CHOICES[group][name]) for name in names])
            made: Any = build(make_dataclass("Callback", [(group, inner)]), flags)
            found += [getattr(getattr(made, group), name) for name in names]
    except UsageError as error:
        raise ValueError(str(error)) from None
    if not found:
        raise ValueError(f"{ORIGIN}: name at least one reset or regularizer.")
    return Plasticity(*found, seed=seed, batch_size=batch_size)
