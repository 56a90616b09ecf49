"""Changes of worlds of cells."""

from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
import numpy as np

from envs.changes.base import Change, ChangeError
from envs.nine_rooms import ROOM, SIZE, NineRooms

ROOMS = [(row, column) for row in range(3) for column in range(3)]
MIDDLE = (1, 1)


def cells(room: tuple[int, int]) -> list[list[int]]:
    """Row and column of every cell of a room."""
    return [[room[0] * ROOM + row, room[1] * ROOM + column] for row in range(ROOM) for column in range(ROOM)]


def center(room: tuple[int, int]) -> list[int]:
    """Row and column of the cell in the middle of a room."""
    return [room[0] * ROOM + ROOM // 2, room[1] * ROOM + ROOM // 2]


GOALS = {
    "lower": [cell for room in ROOMS if room[0] > 0 and room != MIDDLE for cell in cells(room)],
    "any": [cell for room in ROOMS if room != MIDDLE for cell in cells(room)],
    "centers": [center(room) for room in ROOMS if room != MIDDLE],
}
"""Row and column of all goals that can be drawn. None is in the middle room, where episodes begin."""


@dataclass(kw_only=True)
class NineRoomsGoal(Change):
    """The goal of NineRooms, by its row and column from 0 to 14.

    All cells that can be drawn are equally likely, but for the environment's own goal, which is none of them. A goal
    that is moved in mid-episode and shown (`show_goal`) is first seen after the next step.
    """

    rooms: Literal["lower", "any", "centers"] = "lower"
    """Where goals are: anywhere in the rooms of the two lower rows (lower, as in Chung et al. 2024), anywhere in all
    rooms (any), or in the middle of any room (centers); never in the middle room, where episodes begin."""

    live = Change.live | {"_rooms"}

    def __post_init__(self) -> None:
        super().__post_init__()
        self._own: list[int] | None = None

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Remember the environment's own goal."""
        super().bind(env, space)
        if not isinstance(env.unwrapped, NineRooms):
            raise self.misfit(env, "NineRooms, such as Perennial/NineRooms-v0")
        self._rooms = env.unwrapped
        self._own = list(self._rooms.goal)

    def writes(self) -> frozenset[str]:
        """The goal."""
        return frozenset({"goal"})

    @property
    def original(self) -> list[int] | None:
        """The environment's own goal."""
        return None if self._own is None else self._own.copy()

    def sample(self, rng: np.random.Generator) -> list[int]:
        """Any of the cells that can be drawn."""
        goals = [cell for cell in GOALS[self.rooms] if cell != self._own]
        return goals[rng.integers(len(goals))].copy()

    def check(self, value: Any) -> None:
        """Refuse what is no cell."""
        if (
            not isinstance(value, (list, tuple))
            or len(value) != 2
            or not all(type(place) is int and 0 <= place < SIZE for place in value)
        ):
            raise ChangeError(
                f"{self.name} takes a row and a column from 0 to {SIZE - 1}, such as [2, 12], not {value!r}"
            )

    def set(self, value: list[int]) -> None:
        """Move the goal."""
        self._rooms.goal = tuple(value)

    def context(self, value: list[int]) -> tuple[float, ...]:
        """Row and column."""
        return float(value[0]), float(value[1])

    def context_bounds(self) -> tuple[float, float]:
        """First and last row and column."""
        return 0.0, float(SIZE - 1)

    @property
    def noun(self) -> str:
        """What is changed."""
        return "goal"

    def number(self, value: list[int]) -> str:
        """Row and column."""
        return f"row {value[0]}, column {value[1]}"
