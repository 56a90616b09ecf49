"""Environments of optional packages, where these are installed: Atari games, MiniGrid, the DeepMind Control Suite."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from envs import NonStationary, Tasks, make_plain_env, make_vec_env
from envs.changes.base import ChangeError
from envs.changes.environment import Environment
from envs.schedules import Periodic
from envs.verify import verify

ROOT = Path(__file__).parents[2]
FLAVOURS = ("mode=0&difficulty=0", "mode=4&difficulty=0", "mode=4&difficulty=1")
BREAKOUT = tuple(f"ALE/Breakout-v5?obs_type=ram&{flavour}" for flavour in FLAVOURS)
GAMES = tuple(f"ALE/{game}-v5?obs_type=ram&full_action_space=true" for game in ("Pong", "Freeway"))
GRIDS = ("MiniGrid-Empty-5x5-v0", "MiniGrid-DoorKey-5x5-v0", "MiniGrid-LavaGapS5-v0")
WALKER = tuple(f"dm_control/walker-{task}-v0" for task in ("stand", "walk", "run"))

SEQUENCES = [
    pytest.param("ale_py", "ALE/Breakout-v5?obs_type=ram", BREAKOUT, id="flavours"),
    pytest.param("ale_py", GAMES[0], GAMES, id="games"),
    pytest.param("minigrid", GRIDS[0], GRIDS, id="grids"),
    pytest.param("shimmy", WALKER[0], WALKER, id="walker"),
]
PACKAGES = {"ale_py": ["ale_py"], "minigrid": ["minigrid"], "shimmy": ["shimmy", "dm_control"]}


def need(module: str) -> None:
    for package in PACKAGES[module]:
        pytest.importorskip(package)


def tasks(ids: tuple[str, ...], period: int = 40) -> Tasks:
    return Tasks(Periodic(period=period), {"environment": Environment(ids=ids)}, seed=1)


@pytest.mark.parametrize(("module", "env_id", "ids"), SEQUENCES)
def test_every_task_is_its_environment_alone(module: str, env_id: str, ids: tuple[str, ...]) -> None:
    need(module)
    env = NonStationary(make_plain_env(env_id), tasks(ids))
    plain = {name: make_plain_env(name) for name in ids}
    seeds = dict.fromkeys(ids, 3)
    env.action_space.seed(0)
    over, current = True, ids[0]
    for step in range(40 * (len(ids) + 1)):
        if over:
            current = ids[env.clock // 40 % len(ids)]
            seen, _ = env.reset(seed=3 if step == 0 else None)
            np.testing.assert_array_equal(seen, plain[current].reset(seed=seeds.pop(current, None))[0])
        action = env.action_space.sample()
        seen, reward, terminated, truncated, info = env.step(action)
        expected, *outcome, _ = plain[current].step(action)
        np.testing.assert_array_equal(seen, expected)
        assert [reward, terminated, truncated and not info.get("cut_short", False)] == outcome
        over = terminated or truncated
    env.close()


@pytest.mark.parametrize(("module", "env_id", "ids"), SEQUENCES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_sequences_are_sound(module: str, env_id: str, ids: tuple[str, ...]) -> None:
    need(module)
    env = NonStationary(make_plain_env(env_id), tasks(ids, period=100_000))
    env.reset(seed=0)
    sb3_check_env(env)
    if module != "shimmy":
        # It has a random number generator of an older kind, and says nothing of the seed.
        gymnasium_check_env(env, skip_render_check=True)


@pytest.mark.parametrize(("module", "env_id", "ids"), SEQUENCES)
def test_environments_differ(module: str, env_id: str, ids: tuple[str, ...]) -> None:
    need(module)
    others = tuple(name for name in ids if name not in (env_id, BREAKOUT[0]))
    assert [row.value for row in verify(env_id, tasks(others), 40 * len(others))] == list(others)


@pytest.mark.parametrize(("module", "env_id", "ids"), SEQUENCES)
def test_an_agent_learns_through_the_tasks(module: str, env_id: str, ids: tuple[str, ...]) -> None:
    need(module)
    vec_env = make_vec_env(env_id, tasks(ids, period=128), n_envs=2, seed=0)
    model = PPO("MlpPolicy", vec_env, n_steps=32, batch_size=32, n_epochs=2, seed=0, device="cpu")
    before = [parameter.detach().clone() for parameter in model.policy.parameters()]
    model.learn(448)
    assert vec_env.get_attr("clock") == [448, 448]
    assert vec_env.env_method("describe_task", 1) == [ids[1]] * 2
    assert any((old != new).any() for old, new in zip(before, model.policy.parameters(), strict=True))
    assert np.isfinite(model.rollout_buffer.observations).all()
    vec_env.close()


def test_a_flavour_outlasts_seeded_resets() -> None:
    need("ale_py")
    env = NonStationary(make_plain_env(BREAKOUT[0]), tasks(BREAKOUT[1:2]))
    plain = make_plain_env(BREAKOUT[0])
    for seed in (0, 1):
        pair = [game.reset(seed=seed)[0] for game in (env, plain)]
        for _ in range(10):
            assert (pair[0] != pair[1]).any()
            pair = [game.step(1)[0] for game in (env, plain)]


def test_flavours_that_the_game_has_not() -> None:
    need("ale_py")
    wrong = "ALE/Breakout-v5?obs_type=ram&mode=77"
    with pytest.raises(ChangeError, match=r"Breakout-v5\?obs_type=ram&mode=77 cannot be made: Invalid game mode"):
        NonStationary(make_plain_env(BREAKOUT[0]), tasks((wrong,)))


def test_grids_are_seen_without_their_mission() -> None:
    need("minigrid")
    env = make_plain_env("MiniGrid-DoorKey-5x5-v0")
    assert env.observation_space.shape == (4 + 7 * 7 * 3,)
    seen, _ = env.reset(seed=4)
    env.action_space.seed(0)
    directions = set()
    for _ in range(30):
        whole = env.unwrapped.gen_obs()
        assert whole["mission"]
        np.testing.assert_array_equal(seen[:4], np.eye(4)[whole["direction"]])
        np.testing.assert_array_equal(seen[4:], whole["image"].ravel())
        directions.add(int(whole["direction"]))
        seen, *_ = env.step(env.action_space.sample())
    assert len(directions) > 1
    assert make_plain_env("BabyAI-GoToRedBallGrey-v0").observation_space == env.observation_space


def test_walkers_are_those_of_the_suite() -> None:
    need("shimmy")
    env = make_plain_env("dm_control/walker-walk-v0")
    from dm_control import suite

    alone = suite.load("walker", "walk", task_kwargs={"random": np.random.RandomState(8)})
    seen, _ = env.reset(seed=8)
    step = alone.reset()
    rng = np.random.default_rng(0)
    for _ in range(40):
        parts = [np.ravel(step.observation[name]) for name in ("height", "orientations", "velocity")]
        assert sorted(step.observation) == ["height", "orientations", "velocity"]
        np.testing.assert_array_equal(seen, np.concatenate(parts))
        action = rng.uniform(-1, 1, 6)
        step = alone.step(action)
        seen, reward, *_ = env.step(action)
        assert reward == step.reward


def test_walkers_have_episodes_of_a_thousand_steps() -> None:
    need("shimmy")
    env = make_plain_env(WALKER[0])
    env.reset(seed=0)
    ends = [env.step(np.zeros(6))[2:4] for _ in range(1000)]
    assert ends[:-1] == [(False, False)] * 999
    assert ends[-1] == (False, True)


def test_nothing_is_printed(tmp_path: Path) -> None:
    found = [entry.values for entry in SEQUENCES if all(map(importlib.util.find_spec, PACKAGES[entry.values[0]]))]
    if not found:
        pytest.skip("none of the packages is installed")
    program = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from envs import Tasks, make_env, make_plain_env
from envs.changes.environment import Environment
from envs.schedules import Periodic
for _, env_id, ids in {found!r}:
    env = make_env(env_id, Tasks(Periodic(period=4), {{"environment": Environment(ids=ids)}}), monitor=False)
    env.reset(seed=0)
    for _ in range(12):
        if any(env.step(env.action_space.sample())[2:4]):
            env.reset()
    env.close()
    # Its model makes the simulator complain, and dm_control has taken complaints elsewhere.
    make_plain_env("HalfCheetah-v5").close()
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr, list(tmp_path.iterdir())) == ("", "", [])
