"""The batch steps MuJoCo's robots as DummyVecEnv does, to the last bit, and refuses what it cannot."""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
import stable_baselines3 as sb3
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from envs import NonStationary, Tasks, make_env, make_plain_env
from envs.batch_mujoco import BatchError, BatchMujoco, supports
from envs.changes import CHANGES
from envs.changes.base import Change
from envs.fleet import skip_islands
from envs.robots import ROBOTS
from envs.schedules import Drift, Periodic

IDS = [f"{robot.__name__}-v5" for robot in ROBOTS.values()]
NO_CONTACTS = {"include_cfrc_ext_in_observation": False, "contact_cost_weight": 0}


def changes(**settings: dict[str, Any]) -> dict[str, Change]:
    """Changes by their registered names, which are their labels, with their settings."""
    return {name: CHANGES[name](**chosen) for name, chosen in settings.items()}


PHYSICS = {
    "mujoco_friction": {},
    "mujoco_gravity": {},
    "mujoco_mass": {"mode": "factor", "low": 0.7, "high": 1.5},
}
EVERYTHING = PHYSICS | {
    "observation_permutation": {},
    "action_permutation": {"probability": 0.7},
    "reward_scale": {"values": (1, -2, 0.5)},
}


def maker(env_id: str, tasks: Tasks, n_envs: int, **kwargs: Any) -> Callable[[], gym.Env]:
    return functools.partial(make_env, env_id, tasks, stride=n_envs, env_kwargs=kwargs)


def pair(
    env_id: str, n_envs: int, tasks: Tasks | None = None, seed: int = 5, **kwargs: Any
) -> tuple[DummyVecEnv, BatchMujoco]:
    """The same rows twice, seeded and reset."""
    if tasks is None:
        tasks = Tasks(Periodic(period=37 * n_envs, boundary="immediate"), changes(**EVERYTHING), seed=3)
    make = maker(env_id, tasks, n_envs, **kwargs)
    dummy, batch = DummyVecEnv([make] * n_envs), BatchMujoco([make] * n_envs)
    assert dummy.seed(seed) == batch.seed(seed)
    np.testing.assert_array_equal(dummy.reset(), batch.reset())
    assert_same(dummy.reset_infos, batch.reset_infos)
    return dummy, batch


def assert_same(one: Any, other: Any) -> None:
    """Equal bit for bit and of the same types, but for the seconds that an episode took."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            if key != "t":
                assert_same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            assert_same(mine, theirs)
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes()
    else:
        assert one == other or (one != one and other != other)


def walk(
    dummy: DummyVecEnv, batch: BatchMujoco, steps: int, seed: int = 0, dtype: Any = np.float32
) -> list[list[dict]]:
    """Step both with the same random actions, and compare everything; returns the infos."""
    rng = np.random.default_rng(seed)
    infos = []
    for _ in range(steps):
        actions = rng.uniform(-1, 1, (dummy.num_envs, *dummy.action_space.shape)).astype(dtype)
        expected, found = dummy.step(actions), batch.step(actions)
        assert_same(list(expected), list(found))
        assert_same(dummy.reset_infos, batch.reset_infos)
        infos.append(found[3])
    return infos


def episodes(infos: list[list[dict]]) -> int:
    return sum("episode" in info for rows in infos for info in rows)


def switches(infos: list[list[dict]]) -> int:
    return sum("switch" in info for rows in infos for info in rows)


@pytest.mark.parametrize(
    ("env_id", "boundary"),
    [
        ("HalfCheetah-v5", "truncate"),
        ("Hopper-v5", "next_reset"),
        ("Walker2d-v5", "immediate"),
        ("Swimmer-v5", "immediate"),
        ("Ant-v5", "truncate"),
        ("Humanoid-v5", "immediate"),
    ],
)
def test_a_thousand_steps_are_those_of_dummy(env_id: str, boundary: str) -> None:
    tasks = Tasks(Periodic(period=2 * 150, boundary=boundary), changes(**EVERYTHING), seed=3)
    dummy, batch = pair(env_id, 2, tasks, max_episode_steps=320)
    infos = walk(dummy, batch, 500)
    assert switches(infos) >= (2 if boundary == "next_reset" else 6)
    assert dummy.get_attr("clock") == batch.get_attr("clock") == [1000, 1000]
    for name in ("episode_returns", "episode_lengths", "total_steps"):
        assert dummy.get_attr(name) == batch.get_attr(name)


@pytest.mark.parametrize("boundary", ["immediate", "next_reset", "truncate"])
@pytest.mark.parametrize("env_id", ["Hopper-v5", "HalfCheetah-v5"])
def test_every_boundary(env_id: str, boundary: str) -> None:
    tasks = Tasks(Periodic(period=3 * 40, boundary=boundary, signal="info"), changes(**EVERYTHING), seed=1)
    infos = walk(*pair(env_id, 3, tasks, max_episode_steps=55), 200)
    assert switches(infos) >= 6
    assert any(info.get("cut_short", False) for rows in infos for info in rows) == (boundary == "truncate")


BETWEEN = [
    "locomotion_direction",
    *(name for name in CHANGES if name.startswith(("observation_", "action_", "reward_"))),
]


@pytest.mark.parametrize("boundary", ["immediate", "next_reset"])
def test_all_changes_between_agent_and_environment(boundary: str) -> None:
    chosen = changes(**{name: {} for name in BETWEEN})
    tasks = Tasks(Periodic(period=2 * 30, boundary=boundary), chosen, seed=2)
    assert supports("Walker2d-v5", tasks) is None
    assert switches(walk(*pair("Walker2d-v5", 2, tasks), 150)) >= 4


SETTINGS = {
    name: {"mode": "factor", "low": 0.7, "high": 1.5} for name in ("mujoco_mass", "mujoco_damping", "mujoco_gear")
}


@pytest.mark.parametrize("name", [name for name in CHANGES if name.startswith("mujoco_")])
def test_every_change_of_physics(name: str) -> None:
    tasks = Tasks(Periodic(period=2 * 15, boundary="immediate"), changes(**{name: SETTINGS.get(name, {})}), seed=2)
    assert supports("HalfCheetah-v5", tasks) is None
    assert switches(walk(*pair("HalfCheetah-v5", 2, tasks), 40)) == 4


def test_values_that_move_at_every_step_and_are_shown() -> None:
    chosen = changes(mujoco_gravity={}, mujoco_mass=PHYSICS["mujoco_mass"], reward_scale={})
    tasks = Tasks(Drift(period=2 * 50, boundary="immediate", signal="context"), chosen, seed=1)
    dummy, batch = pair("Hopper-v5", 2, tasks)
    assert batch.observation_space.shape == (14,)
    walk(dummy, batch, 120)


@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [
        ("Hopper-v5", {"terminate_when_unhealthy": False, "max_episode_steps": 30, "healthy_reward": 2}),
        ("Walker2d-v5", {"exclude_current_positions_from_observation": False, "frame_skip": 2}),
        ("Swimmer-v5", {"exclude_current_positions_from_observation": False, "ctrl_cost_weight": 0}),
        ("HalfCheetah-v5", {"forward_reward_weight": 3, "ctrl_cost_weight": np.float64(0.3), "max_episode_steps": -1}),
        (
            "Ant-v5",
            {"main_body": 3, "healthy_z_range": (0.5, 0.8), "exclude_current_positions_from_observation": False},
        ),
        ("Ant-v5", {"reset_noise_scale": 0}),
        ("Humanoid-v5", {"reset_noise_scale": 0}),
        ("Humanoid-v5", {"include_cvel_in_observation": False, "include_cfrc_ext_in_observation": False}),
        ("Humanoid-v5", {"include_cinert_in_observation": False, "include_qfrc_actuator_in_observation": False}),
    ],
)
def test_settings_of_the_environments(env_id: str, kwargs: dict[str, Any]) -> None:
    walk(*pair(env_id, 2, **kwargs), 60)


def test_actions_of_double_precision() -> None:
    walk(*pair("Ant-v5", 2), 30, dtype=np.float64)


def test_actions_of_which_some_are_of_another_precision() -> None:
    # Rows whose episode has ended scale their actions, in double precision; the others do not yet.
    tasks = Tasks(Periodic(period=2 * 10, boundary="next_reset"), {"scale": DoubleActions()}, seed=1)
    make = maker("Walker2d-v5", tasks, 2)
    dummy, batch = DummyVecEnv([make] * 2), BatchMujoco.__new__(BatchMujoco)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("envs.batch_mujoco.FITTING", {__name__})
        batch.__init__([make] * 2)
    for vec_env in (dummy, batch):
        vec_env.seed(0)
        vec_env.reset()
    rng = np.random.default_rng(0)
    precisions = set()
    for _ in range(80):
        actions = rng.uniform(-1, 1, (2, 6)).astype(np.float32)
        expected, found = dummy.step(actions), batch.step(actions)
        for one, other in zip(expected[:3], found[:3], strict=True):
            np.testing.assert_array_equal(one, other)
        precisions.add(tuple(type(info["reward_ctrl"]) for info in expected[3]))
        assert [info["reward_ctrl"] for info in expected[3]] == [info["reward_ctrl"] for info in found[3]]
    assert (np.float32, np.float64) in precisions or (np.float64, np.float32) in precisions


@dataclass(kw_only=True)
class DoubleActions(Change):
    """Halves actions in double precision, in every other task."""

    @property
    def original(self) -> float:
        return 1.0

    def listed(self, task: int) -> float:
        return 1.0 if task % 2 == 0 else 0.5

    def bind(self, env: gym.Env, space: gym.Space | None = None) -> None:
        super().bind(env, space)
        self._factor = 1.0

    def set(self, value: float) -> None:
        self._factor = value

    def action(self, action: Any) -> Any:
        return action if self._factor == 1.0 else np.asarray(action, np.float64) * self._factor


def test_a_simulation_that_blows_up(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = Tasks(Periodic(period=2 * 9, boundary="immediate"), changes(mujoco_gravity={"low": 1.0, "high": 1e9}))
    dummy, batch = pair("Hopper-v5", 2, tasks, terminate_when_unhealthy=False)
    # It is told once, and another test may have been told.
    monkeypatch.setattr("envs.mujoco_log._told", set())
    with pytest.warns(RuntimeWarning, match="MuJoCo"):
        infos = walk(dummy, batch, 100)
    assert max(abs(info["x_velocity"]) for rows in infos for info in rows) > 1e3


@pytest.mark.parametrize(("env_id", "kwargs"), [("Hopper-v5", {}), ("Ant-v5", {}), ("Ant-v5", NO_CONTACTS)])
def test_methods_of_rows_take_effect(env_id: str, kwargs: dict[str, Any]) -> None:
    dummy, batch = pair(env_id, 3, **kwargs)
    walk(dummy, batch, 40)
    action = np.full(dummy.action_space.shape, 0.5, np.float32)
    expected = dummy.env_method("step", action, indices=[1])
    found = batch.env_method("step", action, indices=[1])
    assert_same(list(expected[0]), list(found[0]))
    walk(dummy, batch, 40, seed=1)
    for vec_env in (dummy, batch):
        vec_env.env_method("set_clock", 3 * 37 * 5, indices=[0, 2])
        for row in (0, 2):
            vec_env.reset_infos[row] = vec_env.env_method("reset", seed=9, indices=row)[0][1]
        vec_env.env_method("set_wrapper_attr", "note", "hello", indices=0)
    assert batch.get_attr("note", indices=[0]) == ["hello"]
    assert not batch.has_attr("note")
    infos = walk(dummy, batch, 40, seed=2)
    assert infos[0][0]["task"] == 5
    assert batch.env_is_wrapped(Monitor) == [True] * 3
    assert batch.env_is_wrapped(gym.wrappers.ClipAction) == [False] * 3


def test_a_model_changed_by_hand() -> None:
    dummy, batch = pair("HalfCheetah-v5", 2)
    for vec_env in (dummy, batch):
        model = vec_env.get_attr("model")[1]
        model.opt.timestep *= 1.5
        model.body_mass[1:] *= 2
        mujoco.mj_setConst(model, mujoco.MjData(model))
    infos = walk(dummy, batch, 20)
    assert infos[0][0]["x_velocity"] != infos[0][1]["x_velocity"]


def test_attributes_are_set_as_by_dummy() -> None:
    dummy, batch = pair("HalfCheetah-v5", 2)
    for vec_env in (dummy, batch):
        vec_env.set_attr("label", 7, indices=[1])
    assert dummy.get_attr("label", indices=1) == batch.get_attr("label", indices=1) == [7]
    assert not dummy.has_attr("label")
    assert not batch.has_attr("label")


DATA = ("qpos", "qvel", "qacc", "qacc_warmstart", "ctrl", "xpos", "xipos", "geom_xpos", "cinert", "cfrc_ext", "time")


@pytest.mark.parametrize(("env_id", "kwargs"), [("Ant-v5", {}), ("Ant-v5", NO_CONTACTS), ("HalfCheetah-v5", {})])
def test_the_data_of_a_row_are_there_when_asked_for(env_id: str, kwargs: dict[str, Any]) -> None:
    dummy, batch = pair(env_id, 2, **kwargs)
    for steps in (1, 12, 3):
        walk(dummy, batch, steps, seed=steps)
        for expected, found in zip(dummy.get_attr("data"), batch.get_attr("data"), strict=True):
            for name in DATA:
                np.testing.assert_array_equal(getattr(expected, name), getattr(found, name), name)
    # And having asked changes nothing.
    walk(dummy, batch, 60)


def test_after_a_switch_the_data_of_a_row_are_those_of_the_new_physics() -> None:
    tasks = Tasks(Periodic(period=2 * 10, boundary="immediate"), changes(mujoco_gravity={}), seed=1)
    dummy, batch = pair("HalfCheetah-v5", 2, tasks)
    walk(dummy, batch, 10)
    for expected, found in zip(dummy.get_attr("data"), batch.get_attr("data"), strict=True):
        for name in ("qpos", "qvel", "qacc_warmstart", "ctrl", "time"):
            np.testing.assert_array_equal(getattr(expected, name), getattr(found, name), name)
        fresh = mujoco.MjData(batch.get_attr("model")[0])
        fresh.qpos[:], fresh.qvel[:], fresh.ctrl[:] = found.qpos, found.qvel, found.ctrl
        mujoco.mj_forward(batch.get_attr("model")[0], fresh)
        np.testing.assert_array_equal(fresh.xpos, found.xpos)
    walk(dummy, batch, 20, seed=1)


def test_rendering_shows_the_present(monkeypatch: pytest.MonkeyPatch) -> None:
    dummy, batch = pair("HalfCheetah-v5", 2, render_mode="rgb_array")
    walk(dummy, batch, 15)

    def picture(env: HalfCheetahEnv) -> np.ndarray:
        """A stand-in for a picture that needs no graphics: where everything is."""
        drawn = np.abs(env.data.geom_xpos * 50).astype(np.uint8)
        return np.repeat(drawn[:, :, None], 3, axis=2)

    monkeypatch.setattr(HalfCheetahEnv, "render", picture)
    expected, found = dummy.get_images(), batch.get_images()
    np.testing.assert_array_equal(expected, found)
    assert np.ptp(found[0]) > 0
    walk(dummy, batch, 5)
    np.testing.assert_array_equal(dummy.render(), batch.render())
    batch.close()


def test_a_step_needs_a_reset_and_fitting_actions() -> None:
    tasks = Tasks(Periodic(period=100), {})
    batch = BatchMujoco([maker("Hopper-v5", tasks, 2)] * 2)
    with pytest.raises(RuntimeError, match="wait for their first reset"):
        batch.step(np.zeros((2, 3)))
    batch.reset()
    for wrong in (np.zeros((2, 4)), np.zeros((3, 3)), np.zeros(3)):
        with pytest.raises(ValueError, match="must be 2 rows of 3 numbers, not of the shape"):
            batch.step(wrong)
    batch.env_method("set_clock", 50, indices=[1])
    with pytest.raises(gym.error.ResetNeeded, match="its clock was set"):
        batch.step(np.zeros((2, 3)))


def test_without_a_monitor() -> None:
    tasks = Tasks(Periodic(period=40, boundary="truncate"), changes(**EVERYTHING), seed=1)
    make = functools.partial(make_env, "Hopper-v5", tasks, stride=2, monitor=False)
    dummy, batch = DummyVecEnv([make] * 2), BatchMujoco([make] * 2)
    for vec_env in (dummy, batch):
        vec_env.seed(0)
        vec_env.reset()
    infos = walk(dummy, batch, 50)
    assert episodes(infos) == 0
    assert any("terminal_observation" in info for rows in infos for info in rows)


def test_an_agent_learns_the_same() -> None:
    parameters = []
    for vec_env in pair("Hopper-v5", 2):
        model = sb3.PPO("MlpPolicy", vec_env, n_steps=32, batch_size=32, n_epochs=1, seed=0, device="cpu")
        model.learn(64)
        parameters.append([value.detach().numpy().copy() for value in model.policy.parameters()])
    for one, other in zip(*parameters, strict=True):
        np.testing.assert_array_equal(one, other)


TASKS = Tasks(Periodic(period=100), changes(mujoco_friction={}))


@pytest.mark.parametrize(
    ("env_id", "tasks", "kwargs", "reason"),
    [
        ("Hopper-v4", TASKS, {}, "it steps Ant-v5, HalfCheetah-v5, .* only; did you mean 'Hopper-v5'"),
        ("CartPole-v1", TASKS, {}, "it steps Ant-v5, HalfCheetah-v5, "),
        ("Nothing-v0", TASKS, {}, "Nothing"),
        ("Hopper-v5", TASKS, {"xml_file": "/tmp/mine.xml"}, "Gymnasium's own model, not xml_file='/tmp/mine.xml'"),
        ("Hopper-v5", TASKS, {"render_mode": "human"}, "choose render_mode='rgb_array'"),
        ("Hopper-v5?render_mode=human", TASKS, {}, "choose render_mode='rgb_array'"),
        (
            "Hopper-v5",
            Tasks(Periodic(period=100), changes(environment={"ids": ("Walker2d-v5",)})),
            {},
            r"the change environment \(environment\) wraps the environment",
        ),
        (
            "Hopper-v5",
            Tasks(Periodic(period=100), {"mine": DoubleActions()}),
            {},
            r"how the change mine \(double_actions\) acts",
        ),
    ],
)
def test_what_is_not_supported_is_said(env_id: str, tasks: Tasks, kwargs: dict[str, Any], reason: str) -> None:
    assert re.search(reason, supports(env_id, tasks, kwargs) or "supported")


@pytest.mark.parametrize("env_id", IDS)
def test_what_is_supported(env_id: str) -> None:
    assert supports(env_id, TASKS) is None
    assert supports(f"{env_id}?frame_skip=2", TASKS, {"max_episode_steps": 50, "render_mode": "rgb_array"}) is None


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda: make_env("Hopper-v5", TASKS, env_kwargs={"render_mode": "human"}),
            "Hopper-v5 is not supported by the batch: it renders when asked to only",
        ),
        (lambda: make_env("Hopper-v4", TASKS), "Hopper-v4 is not supported by the batch: it steps Ant-v5"),
        (lambda: make_plain_env("Hopper-v5"), "its rows must be made by envs.make_env"),
        (lambda: gym.wrappers.ClipAction(make_env("Hopper-v5", TASKS)), "does not know the wrapper ClipAction"),
        (
            lambda: NonStationary(gym.wrappers.RescaleAction(make_plain_env("Hopper-v5"), 0, 1), TASKS),
            "does not know the wrapper RescaleAction",
        ),
        (
            lambda: Monitor(NonStationary(make_plain_env("Hopper-v5"), TASKS), info_keywords=("task",)),
            "monitors write no file and take no keywords",
        ),
        (
            lambda: make_env("Hopper-v5", Tasks(Periodic(period=100), {"mine": DoubleActions()})),
            r"how the change mine \(double_actions\) acts",
        ),
    ],
)
def test_rows_that_do_not_fit_are_refused(make: Callable[[], gym.Env], reason: str) -> None:
    with pytest.raises(BatchError, match=reason):
        BatchMujoco([make])


def test_rows_must_be_alike() -> None:
    makes = [maker("Hopper-v5", TASKS, 2), maker("Hopper-v5", TASKS, 2, frame_skip=2)]
    with pytest.raises(BatchError, match="same environment with the same settings"):
        BatchMujoco(makes)


def test_an_old_mujoco_has_no_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envs.fleet.Batch", None)
    monkeypatch.setattr(mujoco, "__version__", "3.16.0")
    needs = "it needs mujoco.batch, of MuJoCo 3.17 or newer, and this is MuJoCo 3.16.0"
    assert supports("Hopper-v5", TASKS) == needs
    with pytest.raises(BatchError, match=f"there is no batch: {needs}"):
        BatchMujoco([maker("Hopper-v5", TASKS, 1)])


def test_islands_are_looked_for_where_there_can_be_two() -> None:
    tree = '<body pos="0 0 {}"><freejoint/><geom size="0.1"/></body>'
    off = int(mujoco.mjtDisableBit.mjDSBL_ISLAND)
    for trees, flags in ((1, off), (2, 0)):
        bodies = "".join(tree.format(number) for number in range(trees))
        model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{bodies}</worldbody></mujoco>")
        skip_islands(model)
        assert model.opt.disableflags == flags
