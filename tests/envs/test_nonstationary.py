"""The wrapper applies a schedule at the right step, in any kind of vectorised environment, and nothing else."""

import pickle
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import yaml

from envs import NonStationary, Tasks, families, make_env, make_plain_env, make_vec_env
from envs.changes import CHANGES
from envs.changes.actions import ActionPermutation
from envs.changes.classic import Pendulum
from envs.changes.observations import ObservationPermutation, ObservationRotation
from envs.changes.rewards import RewardScale
from envs.reading import read_tasks
from envs.schedules import Constant, Drift, Periodic
from envs.verify import verify

ROOT = Path(__file__).parents[2]


def pendulum(boundary: str, period: int = 7, **wrapper: int) -> NonStationary:
    """Pendulum with episodes of 10 steps whose mass is 1 + the number of the task."""
    tasks = Tasks(
        Periodic(period=period, boundary=boundary),
        {"mass": Pendulum(values=tuple(range(1, 100)))},
        seed=wrapper.pop("seed", 0),
    )
    return NonStationary(gym.make("Pendulum-v1", max_episode_steps=10), tasks, **wrapper)


def walk(env: NonStationary, steps: int) -> list[dict]:
    """What happens at each step, with a reset after each end of an episode: one row a transition."""
    rows = []
    _, reset_info = env.reset(seed=0)
    for _ in range(steps):
        clock, mass = env.clock, env.unwrapped.m
        _, _, terminated, truncated, info = env.step(np.zeros(1, np.float32))
        rows.append({"clock": clock, "mass": mass, "truncated": truncated, "reset_info": reset_info, **info})
        reset_info = {}
        if terminated or truncated:
            _, reset_info = env.reset()
    return rows


@pytest.mark.parametrize("boundary", ["immediate", "next_reset", "truncate"])
def test_each_transition_tells_the_task_of_the_next(boundary: str) -> None:
    rows = walk(pendulum(boundary, period=7), 60)
    assert [row["next_task"] for row in rows[:-1]] == [row["task"] for row in rows[1:]]


def test_only_an_episode_that_a_switch_ends_is_marked_as_cut_short() -> None:
    # Episodes of 10 steps, tasks of 14: the other ends are the time limit's.
    rows = walk(pendulum("truncate", period=14), 84)
    ends = {t: row.get("cut_short", False) for t, row in enumerate(rows) if row["truncated"]}
    assert {t for t, cut in ends.items() if cut} == {13, 27, 41, 55, 69, 83}
    assert not any(row.get("cut_short") for row in walk(pendulum("immediate"), 60))
    both = walk(pendulum("truncate", period=10), 20)
    assert [t for t, row in enumerate(both) if row["truncated"]] == [9, 19]
    assert not any(row.get("cut_short") for row in both)


def test_immediate_switches_in_mid_episode() -> None:
    rows = walk(pendulum("immediate"), 30)
    assert [row["mass"] for row in rows] == [1 + t // 7 for t in range(30)]
    assert [row["task"] for row in rows] == [t // 7 for t in range(30)]
    assert [t for t, row in enumerate(rows) if row["truncated"]] == [9, 19, 29]
    switches = {t: row["switch"] for t, row in enumerate(rows) if "switch" in row}
    assert switches == {t: {"task": t // 7, "step": t, "values": {"mass": 1 + t // 7}} for t in (7, 14, 21, 28)}
    assert not any("switch" in row["reset_info"] for row in rows)


def test_next_reset_waits_for_the_end_of_the_episode() -> None:
    rows = walk(pendulum("next_reset"), 30)
    assert [row["mass"] for row in rows] == [1] * 10 + [2] * 10 + [3] * 10
    assert [row["task"] for row in rows] == [0] * 10 + [1] * 10 + [2] * 10
    switches = {t: row["switch"] for t, row in enumerate(rows) if "switch" in row}
    assert switches == {t: {"task": t // 10, "step": t, "values": {"mass": 1 + t // 10}} for t in (10, 20)}
    assert {t: row["reset_info"]["switch"] for t, row in enumerate(rows) if "switch" in row["reset_info"]} == switches


def test_truncate_ends_the_episode_with_the_task() -> None:
    rows = walk(pendulum("truncate", period=14), 42)
    assert [row["mass"] for row in rows] == [1 + t // 14 for t in range(42)]
    assert [t for t, row in enumerate(rows) if row["truncated"]] == [9, 13, 23, 27, 37, 41]
    switches = {t: row["switch"] for t, row in enumerate(rows) if "switch" in row}
    assert switches == {t: {"task": t // 14, "step": t, "values": {"mass": 1 + t // 14}} for t in (14, 28)}
    assert {t: row["reset_info"]["switch"] for t, row in enumerate(rows) if "switch" in row["reset_info"]} == switches


def test_next_reset_skips_tasks_that_pass_within_an_episode() -> None:
    rows = walk(pendulum("next_reset", period=4), 20)
    assert [row["task"] for row in rows] == [0] * 10 + [2] * 10


def test_a_truncated_episode_must_be_reset() -> None:
    env = pendulum("truncate")
    walk(env, 6)
    *_, truncated, _ = env.step(np.zeros(1))
    assert truncated
    with pytest.raises(gym.error.ResetNeeded, match="a switch ended the episode"):
        env.step(np.zeros(1))


def test_termination_at_a_switch_is_no_truncation() -> None:
    plain = gym.make("CartPole-v1")
    plain.reset(seed=0)
    length, terminated = 0, False
    while not terminated:
        _, _, terminated, _, _ = plain.step(1)
        length += 1
    env = NonStationary(gym.make("CartPole-v1"), Tasks(Periodic(period=length), {"r": RewardScale()}))
    env.reset(seed=0)
    for _ in range(length):
        _, _, terminated, truncated, _ = env.step(1)
    assert (terminated, truncated) == (True, False)
    assert env.reset()[1]["switch"]["task"] == 1


@pytest.mark.parametrize("boundary", ["immediate", "next_reset", "truncate"])
def test_observations_are_seen_through_the_task_that_acts_on_them(boundary: str) -> None:
    tasks = Tasks(Periodic(period=5, boundary=boundary), {"o": ObservationPermutation()}, seed=2)
    env = NonStationary(gym.make("CartPole-v1"), tasks)
    raw = NonStationary(gym.make("CartPole-v1"), Tasks(Periodic(period=5, boundary=boundary), {"r": RewardScale()}))
    observation, plain = env.reset(seed=0)[0], raw.reset(seed=0)[0]
    np.testing.assert_array_equal(observation, plain)
    task = 0
    for step in range(1, 40):
        observation, _, terminated, truncated, info = env.step(step % 2)
        plain, *_ = raw.step(step % 2)
        last = terminated or truncated
        task = info["task"] if last or boundary != "immediate" else step // 5
        value = np.array(env.tasks.values(task * 5)["o"])
        np.testing.assert_array_equal(observation, plain[np.abs(value) - 1] * np.sign(value))
        if last:
            observation, plain = env.reset()[0], raw.reset()[0]
            value = np.array(env.tasks.values(env.clock)["o"])
            np.testing.assert_array_equal(observation, plain[np.abs(value) - 1] * np.sign(value))


@pytest.mark.parametrize(("boundary", "moves"), [("immediate", True), ("truncate", True), ("next_reset", False)])
def test_drift_moves_at_every_step_or_every_reset(boundary: str, moves: bool) -> None:
    schedule = Drift(period=40, boundary=boundary)
    env = NonStationary(gym.make("Pendulum-v1", max_episode_steps=10), Tasks(schedule, {"mass": Pendulum()}))
    rows = walk(env, 100)
    expected = [env.tasks.values(t if moves else t // 10 * 10)["mass"] for t in range(100)]
    assert [row["mass"] for row in rows] == expected
    assert [t for t, row in enumerate(rows) if "switch" in row] == [40, 80]


def test_the_clock_counts_the_steps_of_all_environments() -> None:
    env = pendulum("immediate", period=16, stride=4, start=8)
    rows = walk(env, 10)
    assert [row["clock"] for row in rows] == list(range(8, 48, 4))
    assert [row["mass"] for row in rows] == [1 + t // 16 for t in range(8, 48, 4)]
    assert env.clock == 48


def test_a_switch_between_two_steps_of_the_clock_is_noted_where_it_is_applied() -> None:
    rows = walk(pendulum("immediate", period=10, stride=4), 10)
    assert [row["switch"]["step"] for row in rows if "switch" in row] == [12, 20, 32]


def test_setting_the_clock_takes_effect_at_the_next_reset() -> None:
    env = pendulum("truncate")
    env.reset(seed=0)
    env.set_clock(24)
    with pytest.raises(gym.error.ResetNeeded):
        env.step(np.zeros(1))
    _, info = env.reset()
    assert (env.clock, env.unwrapped.m, info["task"]) == (24, 4, 3)
    # Step 24 is not the first of task 3: whoever comes back here has seen that switch before.
    assert "switch" not in info
    env.set_clock(21)
    assert env.reset()[1]["switch"] == {"task": 3, "step": 21, "values": {"mass": 4}}
    assert "switch" not in env.reset()[1]
    assert env.step(np.zeros(1))[4]["switch"]["task"] == 3
    assert "switch" not in env.step(np.zeros(1))[4]


def test_a_stopped_clock_stays_in_its_task() -> None:
    rows = walk(pendulum("truncate", stride=0, start=20), 25)
    assert {(row["clock"], row["mass"], row["task"]) for row in rows} == {(20, 3, 2)}
    assert not any("switch" in row for row in rows)
    with pytest.raises(ValueError, match="stride must be at least 0, not -1"):
        pendulum("truncate", stride=-1)
    with pytest.raises(ValueError, match="clock must be at least 0, not -5"):
        pendulum("truncate", start=-5)


def trajectory(env: gym.Env, steps: int = 250) -> list:
    env.action_space.seed(1)
    found = [env.reset(seed=1)[0]]
    for _ in range(steps):
        observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        found += [observation, reward, terminated, truncated]
        if terminated or truncated:
            found.append(env.reset()[0])
    return found


@pytest.mark.parametrize(
    ("env_id", "names"),
    [
        ("CartPole-v1", ["observation_permutation", "observation_rotation", "action_permutation", "cartpole"]),
        ("Pendulum-v1", ["observation_permutation", "observation_rotation", "reward_scale", "pendulum"]),
        ("HalfCheetah-v5", ["observation_rotation", "action_permutation", "mujoco_friction", "mujoco_gravity"]),
        ("Hopper-v5", ["mujoco_friction", "mujoco_gravity"]),
    ],
)
def test_no_change_is_bit_identical_to_the_plain_environment(env_id: str, names: list[str]) -> None:
    plain = trajectory(make_plain_env(env_id))
    changes = {name: CHANGES[name]() for name in names}
    away_and_back = NonStationary(make_plain_env(env_id), Tasks(Periodic(period=5), changes, seed=1))
    away_and_back.set_clock(7)
    away_and_back.reset()
    away_and_back.set_clock(0)
    away_and_back.course.stride = 0
    constant = make_env(env_id, Tasks(Constant(), changes))
    for env in (make_env(env_id, Tasks(Constant(), {})), constant, away_and_back):
        for mine, theirs in zip(trajectory(env), plain, strict=True):
            np.testing.assert_array_equal(mine, theirs)
            assert type(mine) is type(theirs)
            assert getattr(mine, "dtype", None) == getattr(theirs, "dtype", None)


@pytest.mark.parametrize("boundary", ["immediate", "truncate"])
def test_dummy_and_subprocesses_agree(boundary: str) -> None:
    changes = {"mass": Pendulum(), "rotation": ObservationRotation(), "reward": RewardScale(values=[1, -1])}
    tasks = Tasks(Periodic(period=30, boundary=boundary), changes, seed=5)
    runs = []
    for stepping in ("dummy", "subproc"):
        vec_env = make_vec_env("Pendulum-v1", tasks, n_envs=3, seed=0, stepping=stepping)
        rng = np.random.default_rng(0)
        run = [vec_env.reset()]
        infos = []
        for _ in range(50):
            observations, rewards, dones, step_infos = vec_env.step(rng.uniform(-2, 2, (3, 1)).astype(np.float32))
            # SB3 rounds rewards to single precision in DummyVecEnv only.
            run += [observations, rewards.astype(np.float32), dones]
            infos.append(step_infos)
        runs.append((run, infos))
        assert vec_env.get_attr("clock") == [150] * 3
        assert vec_env.env_method("describe_task", 0) == ["original"] * 3
        assert vec_env.get_attr("tasks")[0].values(35) == tasks.bind(make_plain_env("Pendulum-v1")).values(35)
        vec_env.env_method("set_clock", 60)
        vec_env.reset()
        assert vec_env.get_attr("clock") == [60] * 3
        vec_env.close()
    for mine, theirs in zip(runs[0][0], runs[1][0], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for _, infos in runs:
        # All environments at the same step of the run, each switch once, whether or not SB3 hides the reset's info.
        seen = [[info["switch"]["step"] if "switch" in info else None for info in row] for row in infos]
        assert [row[0] for row in seen if row[0] is not None] == [30, 60, 90, 120]
        assert all(len(set(row)) == 1 for row in seen)
        assert [info["task"] for info in infos[-1]] == [4] * 3
        ends = [step for step, row in enumerate(infos) if "terminal_observation" in row[0]]
        assert ends == ([9, 19, 29, 39, 49] if boundary == "truncate" else [])
        assert all(infos[step][0]["TimeLimit.truncated"] for step in ends)


def test_observations_are_the_users_own() -> None:
    tasks = Tasks(Periodic(period=3, first="drawn"), {"o": ObservationPermutation(), "a": ActionPermutation()})
    env = make_env("CartPole-v1", tasks)
    kept = env.reset(seed=0)[0]
    first = kept.copy()
    _, _, _, _, info = env.step(0)
    np.testing.assert_array_equal(kept, first)
    env.step(0)
    env.step(0)
    env.reset()
    info = env.step(0)[4]
    info["switch"]["values"]["o"][:] = [0, 0, 0, 0]
    assert 0 not in env.get_wrapper_attr("tasks").values(3)["o"]


def test_the_wrapper_is_recorded_in_the_spec() -> None:
    tasks = Tasks(Periodic(period=5, boundary="immediate"), {"mass": Pendulum()}, seed=4)
    env = NonStationary(gym.make("Pendulum-v1"), tasks, stride=2, start=6)
    again = gym.make(env.spec)
    assert again.get_wrapper_attr("clock") == 6
    for mine, theirs in zip(trajectory(env, 30), trajectory(again, 30), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_bound_tasks_travel_without_their_environment() -> None:
    env = make_env("Pendulum-v1", Tasks(Periodic(period=5), {"mass": Pendulum(), "o": ObservationRotation()}))
    tasks = env.get_wrapper_attr("tasks")
    copy = pickle.loads(pickle.dumps(tasks))
    assert len(pickle.dumps(tasks)) < 2000
    assert copy.changes["mass"].env is None
    assert copy.describe(3) == tasks.describe(3)
    assert copy.bind(make_plain_env("Pendulum-v1")).values(20) == tasks.values(20)


def test_making_environments_leaves_nothing_behind(tmp_path: Path) -> None:
    program = """
import sys
sys.path.insert(0, sys.argv[1])
from envs import Tasks, make_vec_env
from envs.changes.mujoco import MujocoFriction
from envs.schedules import Periodic
for env_id in ("HalfCheetah-v5", "HalfCheetah-v4", "CartPole-v0"):
    changes = {} if env_id == "CartPole-v0" else {"friction": MujocoFriction()}
    env = make_vec_env(env_id, Tasks(Periodic(period=4), changes), 2, 0)
    env.reset()
    for _ in range(5):
        env.step([env.action_space.sample() for _ in range(2)])
"""
    command = [sys.executable, "-c", program, str(ROOT)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr, list(tmp_path.iterdir())) == ("", "", [])


@pytest.mark.parametrize("flags", [[], ["-W", "error::RuntimeWarning"]])
def test_an_unstable_simulation_is_told_once(tmp_path: Path, flags: list[str]) -> None:
    program = """
import sys
sys.path.insert(0, sys.argv[1])
from envs import make_plain_env
env = make_plain_env("HalfCheetah-v5")
for _ in range(3):
    env.reset(seed=0)
    env.unwrapped.data.qvel[:] = 1e12
    env.step(env.action_space.sample())
"""
    command = [sys.executable, *flags, "-c", program, str(ROOT)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr.count("The simulation is unstable") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("Cartpole-v1", "there is no environment 'Cartpole-v1'; did you mean 'CartPole-v1'?"),
        ("CartPole", "there is no environment 'CartPole'; did you mean 'CartPole-v1'?"),
        ("HalfCheetah-v9", "there is no environment 'HalfCheetah-v9'; did you mean 'HalfCheetah-v5'?"),
        (
            "tests.environments:Opake-v0",
            "there is no environment 'tests.environments:Opake-v0'; did you mean 'tests.en",
        ),
        ("no_such_module:Env-v0", "no_such_module:Env-v0 cannot be made: No module named 'no_such_module'"),
        ("Ant-v3", "Ant-v3 cannot be made: The mujoco v2 and v3 based environments have been moved"),
    ],
)
@pytest.mark.parametrize("stepping", ["dummy", "subproc"])
def test_unknown_environments(env_id: str, message: str, stepping: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the whole message is compared)
        make_vec_env(env_id, Tasks(Constant(), {}), 2, 0, stepping=stepping)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("env_id", "module", "install"),
    [("LunarLander-v3", "Box2D", "perennial[box2d]"), ("ALE/Pong-v5", "ale_py", "perennial[atari]")],
)
def test_missing_packages_say_what_to_install(env_id: str, module: str, install: str, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    for loaded in [name for name in sys.modules if name.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, loaded)
    with pytest.raises(ValueError, match="a package that it needs is not installed") as error:
        make_plain_env(env_id)
    assert f'pip install "{install}"' in str(error.value)


FITS = {
    "breakout_flavours": "ALE/Breakout-v5?obs_type=ram",
    "calm_then_drift": "Pendulum-v1",
    "direction": "HalfCheetah-v5",
    "failing_motors": "HalfCheetah-v5",
    "friction": "HalfCheetah-v5",
    "friction_and_direction": "HalfCheetah-v5",
    "gravity": "HalfCheetah-v5",
    "gravity_walk": "HalfCheetah-v5",
    "minigrid_rooms": "MiniGrid-Empty-5x5-v0",
    "pendulum_mass_drift": "Pendulum-v1",
    "walker_stand_walk_run": "dm_control/walker-stand-v0",
}


@pytest.mark.parametrize("path", sorted((ROOT / "configs/schedules").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_schedules_run_and_have_an_effect(path: Path) -> None:
    assert path.read_text().startswith("# ")
    tasks = read_tasks(yaml.safe_load(path.read_text()), seed=1)
    env_id = FITS.get(path.stem, "CartPole-v1")
    if (module := families.module_of(env_id)) is not None:
        pytest.importorskip(module)
    rows = verify(env_id, tasks, tasks.start(2) + 1 if tasks.next_switch(0) else 500_000)
    assert {row.change for row in rows} == set(tasks.changes)
    assert (path.stem == "stationary") == (rows == [])
