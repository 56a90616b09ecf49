"""Nine rooms: a small world of cells to be walked through, whose goal can move."""

from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from configs.settings import did_you_mean

SIZE = 15
"""Cells in a row and in a column."""
ROOM = 5
"""Cells in a row and in a column of one room."""
CELLS = SIZE * SIZE
START = (7, 7)
STEPS = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""Rows and columns that the four actions go: up, down, left, right."""
PLAN = (
    "###################",
    "#     #     #     #",
    "#     #     #     #",
    "#                 #",
    "#     #     #     #",
    "#     #     #     #",
    "### ##### ##### ###",
    "#     #     #     #",
    "#     #     #     #",
    "#     #     #     #",
    "#     #     #     #",
    "#     #     #     #",
    "### ##### ##### ###",
    "#     #     #     #",
    "#     #     #     #",
    "#                 #",
    "#     #     #     #",
    "#     #     #     #",
    "###################",
)
"""The rooms from above. The walls are drawn as wide as cells, but only lie between them: a door is no cell."""
REWARDS = ("path", "step", "sparse")
GOAL_REWARD = 3.0
STEP_REWARD = -0.01
PIXELS = 16
"""Height and width of a cell in an image."""
COLORS = {"#": (60, 60, 60), " ": (245, 245, 245), "A": (40, 90, 200), "G": (40, 160, 70)}


def drawn_at(place: int) -> int:
    """Where a row of cells is in the plan, or a column."""
    return 1 + place + place // ROOM


def _moves(cell: int) -> tuple[int, ...]:
    """The cells that the actions lead to."""
    row, column = divmod(cell, SIZE)
    ways = [(PLAN[drawn_at(row) + down][drawn_at(column) + right], down, right) for down, right in STEPS]
    return tuple(cell if drawn == "#" else cell + down * SIZE + right for drawn, down, right in ways)


MOVES = tuple(map(_moves, range(CELLS)))


@lru_cache(maxsize=CELLS)
def distances(goal: int) -> tuple[int, ...]:
    """Fewest steps from every cell to the cell `goal`; every way can also be gone back."""
    found = {goal: 0}
    waiting = deque([goal])
    while waiting:
        cell = waiting.popleft()
        for after in MOVES[cell]:
            if after not in found:
                found[after] = found[cell] + 1
                waiting.append(after)
    return tuple(found[cell] for cell in range(CELLS))


class NineRooms(gym.Env[NDArray[np.float32], Any]):
    """Walk from the middle room to a goal that is not shown, but can be moved while the agent lives.

    The gridworld of Chung et al. (2024, "Parseval Regularization for Continual Reinforcement Learning", NeurIPS), with
    the defaults of the authors' code: 15 x 15 cells in nine rooms, of which the left and the right one in the middle
    row cannot be entered from the middle room; four actions, which lead into walls in vain; an observation that is 1
    at the agent's cell and 0 at all others; and no chance in anything. The reward belongs to the cell in which an
    action is taken: -0.01 for each step that the shortest way from there to the goal still has, and 3 at the goal,
    where any action ends the episode. Every episode begins at row 7, column 7, and is cut off after 100 steps where
    the environment is made with that limit.

    There the goal moves every 40 000 steps, in 20 tasks, to any cell of the five rooms that are neither in the top row
    nor the middle one (`envs.changes.grid.NineRoomsGoal` draws the same way), and the episode is truncated then. What
    differs here: an observation is a vector, not an image of one channel that the agent flattens; and the goal is a
    fixed one until it is moved.

    `goal`, its row and its column, can be set at any time and counts from the next step on.

    Args:
        goal: row and column of the goal.
        reward: -0.01 for every step of the shortest way left (path), -0.01 for every step (step) or nothing (sparse)
            before the goal is reached.
        show_goal: whether 225 more observations are 1 at the goal and 0 at all other cells.
        render_mode: `ansi` for text, `rgb_array` for an image.

    Raises:
        ValueError: the goal is no cell, or there is no such reward.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 10}  # noqa: RUF012 (Gymnasium's)

    def __init__(
        self,
        goal: Sequence[int] = (12, 12),
        reward: Literal["path", "step", "sparse"] = "path",
        show_goal: bool = False,
        render_mode: str | None = None,
    ) -> None:
        if reward not in REWARDS:
            raise ValueError(
                f"reward must be one of {', '.join(REWARDS)}, not {reward!r}{did_you_mean(reward, REWARDS)}"
            )
        self.reward = reward
        self.show_goal = show_goal
        self.render_mode = render_mode
        self.action_space = Discrete(len(STEPS))
        self.observation_space = Box(0.0, 1.0, (CELLS * (1 + show_goal),), np.float32)
        self._cell = START[0] * SIZE + START[1]
        self.goal = tuple(goal)

    @property
    def agent(self) -> tuple[int, int]:
        """Row and column of the agent."""
        return divmod(self._cell, SIZE)

    @property
    def goal(self) -> tuple[int, ...]:
        """Row and column of the goal."""
        return divmod(self._goal, SIZE)

    @goal.setter
    def goal(self, goal: Sequence[int]) -> None:
        if len(goal) != 2 or not all(0 <= place < SIZE and place == int(place) for place in goal):
            raise ValueError(f"the goal must be a row and a column from 0 to {SIZE - 1}, not {goal!r}")
        self._goal = int(goal[0]) * SIZE + int(goal[1])
        if self.reward == "path":
            self._rewards = [STEP_REWARD * distance for distance in distances(self._goal)]
        else:
            self._rewards = [STEP_REWARD if self.reward == "step" else 0.0] * CELLS
        self._rewards[self._goal] = GOAL_REWARD

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Put the agent into the middle of the middle room."""
        super().reset(seed=seed)
        self._cell = START[0] * SIZE + START[1]
        return self._observation(), {}

    def step(self, action: int) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Go up (0), down (1), left (2) or right (3)."""
        if not 0 <= action < len(STEPS):
            raise ValueError(f"an action must be from 0 to {len(STEPS) - 1}, not {action}")
        cell = self._cell
        self._cell = MOVES[cell][action]
        reached = cell == self._goal
        return self._observation(), self._rewards[cell], reached, False, {"is_success": reached}

    def _observation(self) -> NDArray[np.float32]:
        observation = np.zeros(CELLS * (1 + self.show_goal), np.float32)
        observation[self._cell] = 1.0
        if self.show_goal:
            observation[CELLS + self._goal] = 1.0
        return observation

    def render(self) -> Any:
        """The rooms from above, with the agent and the goal: as text with A and G, or as an image in blue and green."""
        if self.render_mode not in self.metadata["render_modes"]:
            return None
        rows = [list(row) for row in PLAN]
        for letter, (row, column) in (("G", self.goal), ("A", self.agent)):
            rows[drawn_at(row)][drawn_at(column)] = letter
        if self.render_mode == "ansi":
            return "\n".join(map("".join, rows)) + "\n"
        image = np.array([[COLORS[letter] for letter in row] for row in rows], np.uint8)
        return image.repeat(PIXELS, axis=0).repeat(PIXELS, axis=1)
