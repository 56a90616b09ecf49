"""The nine rooms, against a list of their doors written down here, and their moving goal."""

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from envs import NonStationary, Tasks
from envs.changes.base import ChangeError
from envs.changes.grid import GOALS, NineRoomsGoal
from envs.nine_rooms import MOVES, NineRooms, distances
from envs.schedules import Drift, Periodic
from envs.verify import verify

UP, DOWN, LEFT, RIGHT = range(4)
DOORS = {
    # Row and column of the upper or left one of the two cells that a door joins.
    *[("down", 4, column) for column in (2, 7, 12)],
    *[("down", 9, column) for column in (2, 7, 12)],
    *[("right", row, column) for row in (2, 12) for column in (4, 9)],
}


def neighbor(row: int, column: int, action: int) -> tuple[int, int]:
    """Where an action leads, by the list of doors."""
    down, right = {UP: (-1, 0), DOWN: (1, 0), LEFT: (0, -1), RIGHT: (0, 1)}[action]
    new_row, new_column = row + down, column + right
    if not (0 <= new_row < 15 and 0 <= new_column < 15):
        return row, column
    if (row // 5, column // 5) != (new_row // 5, new_column // 5):
        way = "down" if down else "right"
        if (way, min(row, new_row), min(column, new_column)) not in DOORS:
            return row, column
    return new_row, new_column


def test_every_step_leads_where_the_doors_let_it() -> None:
    for cell in range(225):
        for action in range(4):
            assert divmod(MOVES[cell][action], 15) == neighbor(*divmod(cell, 15), action)


def test_the_way_is_as_long_as_matrix_powers_say() -> None:
    steps = np.zeros((225, 225), bool)
    for cell in range(225):
        for action in range(4):
            row, column = neighbor(*divmod(cell, 15), action)
            steps[row * 15 + column, cell] = True
    for goal in (0, 7 * 15 + 2, 12 * 15 + 12, 224):
        near = np.arange(225) == goal
        expected = np.where(near, 0, -1)
        for length in range(1, 60):
            near = near | (steps @ near)
            expected[near & (expected < 0)] = length
        assert list(distances(goal)) == expected.tolist()


def walk(env: gym.Env, actions: list[int]) -> list[tuple[float, bool, bool]]:
    return [(reward, ended, info["is_success"]) for _, reward, ended, _, info in map(env.step, actions)]


def test_the_shortest_way_by_hand() -> None:
    env = NineRooms()
    observation, _ = env.reset(seed=0)
    assert (observation.sum(), observation[7 * 15 + 7]) == (1, 1)
    # Through the door below into the room below, and from there through its right door.
    way = [DOWN] * 5 + [RIGHT] * 5
    rewards = walk(env, way)
    assert [reward for reward, *_ in rewards] == pytest.approx([-0.01 * left for left in range(10, 0, -1)])
    assert env.agent == (12, 12)
    assert not any(ended or success for _, ended, success in rewards)
    # Any action ends the episode, with the reward of the goal.
    observation, reward, ended, truncated, info = env.step(UP)
    assert (reward, ended, truncated, info) == (3.0, True, False, {"is_success": True})
    assert observation[11 * 15 + 12] == 1
    observation, _ = env.reset()
    assert observation[7 * 15 + 7] == 1


def test_walls_are_walked_into_in_vain() -> None:
    env = NineRooms()
    env.reset()
    # The middle room has no doors to its left and right.
    for action in (LEFT, RIGHT):
        env.reset()
        walk(env, [action] * 4)
        assert env.agent == (7, 5 if action == LEFT else 9)
    # Also at a wall, a step costs what is left of the way: 3 to the door's row, 4 columns on, 12 and 5 to the goal.
    assert env.step(RIGHT)[1] == pytest.approx(-0.01 * (5 + 2 + 5))


@pytest.mark.parametrize(("reward", "expected"), [("step", -0.01), ("sparse", 0.0)])
def test_other_rewards(reward: str, expected: float) -> None:
    env = NineRooms(goal=(5, 7), reward=reward)
    env.reset()
    assert walk(env, [UP, UP, DOWN]) == [(expected, False, False), (expected, False, False), (3.0, True, True)]


def test_the_goal_moves_at_once() -> None:
    env = NineRooms(show_goal=True)
    assert env.observation_space.shape == (450,)
    observation, _ = env.reset()
    assert np.flatnonzero(observation).tolist() == [7 * 15 + 7, 225 + 12 * 15 + 12]
    env.goal = [7, 8]
    assert env.goal == (7, 8)
    observation, reward, ended, *_ = env.step(RIGHT)
    assert (reward, ended) == (-0.01, False)
    assert np.flatnonzero(observation).tolist() == [7 * 15 + 8, 225 + 7 * 15 + 8]
    assert env.step(RIGHT)[1:3] == (3.0, True)
    assert NineRooms().observation_space.shape == (225,)


def test_rooms_are_drawn() -> None:
    env = NineRooms(goal=(2, 12), render_mode="ansi")
    env.reset()
    lines = env.render().splitlines()
    assert [len(line) for line in lines] == [19] * 19
    assert lines[3] == "#              G  #"
    assert lines[9] == "#     #  A  #     #"
    assert lines[6] == "### ##### ##### ###"
    env = NineRooms(goal=(2, 12), render_mode="rgb_array")
    env.reset()
    image = env.render()
    assert (image.shape, image.dtype) == ((304, 304, 3), np.uint8)
    assert image[9 * 16 + 8, 9 * 16 + 8].argmax() == 2
    assert image[3 * 16 + 8, 15 * 16 + 8].argmax() == 1
    assert NineRooms().render() is None


@pytest.mark.parametrize("goal", [(15, 0), (0, -1), (3,), (1.5, 2)])
def test_only_cells_are_goals(goal: tuple[float, ...]) -> None:
    env = NineRooms()
    with pytest.raises(ValueError, match="the goal must be a row and a column from 0 to 14, not"):
        env.goal = goal
    assert env.goal == (12, 12)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"reward must be one of path, step, sparse, not 'spares'; did you mean 'sparse'\?"
    ):
        NineRooms(reward="spares")
    env = NineRooms()
    env.reset()
    for action in (-1, 4):
        with pytest.raises(ValueError, match=f"an action must be from 0 to 3, not {action}"):
            env.step(action)


@pytest.mark.parametrize("show_goal", [False, True])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_rooms_are_a_sound_environment(show_goal: bool) -> None:
    plain = NineRooms(show_goal=show_goal, render_mode="rgb_array")
    gymnasium_check_env(plain, skip_render_check=True)
    sb3_check_env(plain)
    tasks = Tasks(Periodic(period=10**6, first="drawn"), {"goal": NineRoomsGoal()}, seed=2)
    changed = NonStationary(NineRooms(show_goal=show_goal, render_mode="rgb_array"), tasks)
    gymnasium_check_env(changed, skip_render_check=True)
    sb3_check_env(changed)


def bind(change: NineRoomsGoal, **arguments: object) -> tuple[NineRoomsGoal, NineRooms]:
    env = NineRooms(**arguments)
    change.bind(env)
    return change, env


def test_goals_are_drawn_evenly_in_their_rooms() -> None:
    assert {rooms: len(goals) for rooms, goals in GOALS.items()} == {"lower": 125, "any": 200, "centers": 8}
    rng = np.random.default_rng(0)
    for rooms in GOALS:
        change, env = bind(NineRoomsGoal(rooms=rooms))
        drawn = [tuple(change.sample(rng)) for _ in range(2000)]
        assert (12, 12) not in drawn
        counts = np.zeros((15, 15), int)
        np.add.at(counts, tuple(np.transpose(drawn)), 1)
        by_room = counts.reshape(3, 5, 3, 5).sum((1, 3)) / 2000
        assert by_room[1, 1] == 0
        assert (by_room[0] > 0).all() == (rooms != "lower")
        if rooms == "centers":
            others = {(row, column) for row in (2, 7, 12) for column in (2, 7, 12)} - {(7, 7), (12, 12)}
            assert set(drawn) == others
        else:
            # The room of the environment's own goal has a cell less.
            others = by_room[by_room > 0][:-1]
            size = len(GOALS[rooms])
            np.testing.assert_allclose(others, 25 / (size - 1), atol=0.04)
        for value in (change.sample(rng), [4, 4]):
            change.check(value)
            change.set(value)
            assert env.goal == tuple(value)


def test_the_original_goal_restores_everything() -> None:
    change, env = bind(NineRoomsGoal())
    plain = NineRooms()
    assert change.original == [12, 12]
    assert change.writes() == {"goal"}
    env.reset(seed=0)
    names = set(vars(env))
    change.set([0, 0])
    walk(env, [UP] * 3)
    change.set(change.original)
    assert set(vars(env)) == names
    env.reset(seed=0)
    plain.reset(seed=0)
    for action in np.random.default_rng(0).integers(4, size=300):
        ours, theirs = env.step(action), plain.step(action)
        np.testing.assert_array_equal(ours[0], theirs[0])
        assert ours[1:] == theirs[1:]


def test_the_goal_follows_a_schedule() -> None:
    tasks = Tasks(Periodic(period=30, boundary="truncate"), {"goal": NineRoomsGoal(rooms="centers")}, seed=1)
    env = NonStationary(TimeLimit(NineRooms(), 100), tasks)
    env.reset(seed=0)
    goals = []
    for step in range(90):
        goals.append(env.unwrapped.goal)
        _, _, ended, truncated, _ = env.step(step % 2)
        assert truncated is (step % 30 == 29)
        if ended or truncated:
            env.reset()
    values = [tuple(env.tasks.values(step)["goal"]) for step in range(90)]
    assert goals == values
    assert values[0] == (12, 12) != values[30] != values[60]
    assert env.describe_task(1) == "goal row {}, column {}".format(*values[30])


def test_the_goal_can_be_shown_as_context() -> None:
    schedule = Periodic(period=30, first="drawn", signal="context")
    env = NonStationary(NineRooms(), Tasks(schedule, {"goal": NineRoomsGoal()}, seed=1))
    observation, _ = env.reset(seed=0)
    assert env.observation_space.shape == (227,)
    np.testing.assert_array_equal(
        [env.observation_space.low[225:], env.observation_space.high[225:]], [[0, 0], [14, 14]]
    )
    assert tuple(observation[225:]) == env.unwrapped.goal


def test_every_goal_has_an_effect() -> None:
    gym.register("NineRoomsForTests-v0", NineRooms, max_episode_steps=100)
    try:
        tasks = Tasks(Periodic(period=100), {"goal": NineRoomsGoal()}, seed=1)
        rows = verify("NineRoomsForTests-v0", tasks, 350)
    finally:
        del gym.registry["NineRoomsForTests-v0"]
    assert [row.task for row in rows] == [1, 2, 3]
    assert all(row.effect > 0 for row in rows)


def test_copies_leave_the_environment_behind() -> None:
    change, env = bind(NineRoomsGoal(), goal=(6, 2))
    change.set([14, 14])
    for copied in (copy.deepcopy(change), pickle.loads(pickle.dumps(change))):
        assert copied.env is None
        assert "_rooms" not in vars(copied)
        assert copied.original == [6, 2]
        assert copied.sample(np.random.default_rng(3)) == change.sample(np.random.default_rng(3))
    assert pickle.loads(pickle.dumps(env)).goal == (14, 14)


@pytest.mark.parametrize("value", [[1], [1, 15], [1.0, 2], "ab", 3, [True, 2], None])
def test_tables_hold_cells(value: object) -> None:
    change, _ = bind(NineRoomsGoal())
    with pytest.raises(ChangeError, match="nine_rooms_goal takes a row and a column from 0 to 14, such as"):
        change.check(value)


def test_goals_say_what_they_fit() -> None:
    with pytest.raises(
        ChangeError, match="nine_rooms_goal does not fit CartPole-v1: it needs NineRooms, such as Peren"
    ):
        NineRoomsGoal().bind(gym.make("CartPole-v1"))
    with pytest.raises(ValueError, match="goal"):
        Tasks(Drift(period=5), {"goal": NineRoomsGoal()})
