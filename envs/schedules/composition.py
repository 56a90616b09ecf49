"""How several schedules make one: side by side, or one after another. `envs.tasks.Composition` holds the parts."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt

from configs.settings import SettingError
from envs.schedules.base import Timing


@dataclass(kw_only=True)
class Together(Timing):
    """Parts side by side, each with changes and a clock of its own: a new task begins whenever one of them switches."""


@dataclass(kw_only=True)
class Stages(Timing):
    """Parts one after another, each with changes and a clock of its own that starts with it; the last goes on."""

    lengths: tuple[Annotated[int, Gt(0)], ...]
    """Environment steps of the run for which each part goes on, but for the last, which has no end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.lengths = tuple(self.lengths)
        if not self.lengths:
            raise SettingError(self, "lengths", "must list at least one length")
