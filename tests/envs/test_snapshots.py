"""Environments that are built anew go on from a snapshot as if they had never stopped, to the last bit."""

import copy
import dataclasses
import enum
import functools
import random
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecTransposeImage

from checkpoints import tree as files
from envs import NonStationary, Tasks, make_env, make_plain_env, make_vec_env
from envs.changes import CHANGES
from envs.compositions import Composition
from envs.normalize import Normalization, Normalize, normalize
from envs.processes import Processes
from envs.schedules import Constant, Drift, Periodic, Together
from envs.snapshots import Tree, restore, snapshot, unsupported
from envs.snapshots.objects import Reader, Unsupported, Writer
from envs.snapshots.replay import Replay
from tests.envs.test_every_change import CASES

Make = Callable[[], VecEnv]
BOUNDARIES = ("immediate", "next_reset", "truncate")
CHANCE: dict[str, dict[str, Any]] = {"reward_noise": {}}
NO_CONTACTS = {"include_cfrc_ext_in_observation": False, "contact_cost_weight": 0}


def tasks_of(changes: dict[str, dict[str, Any]], schedule: Any = None, **settings: Any) -> Tasks:
    schedule = schedule or Periodic(period=47, first="drawn", **settings)
    return Tasks(schedule, {name: CHANGES[name](**chosen) for name, chosen in changes.items()}, seed=3)


def drive(vec_env: VecEnv, steps: int) -> list[Any]:
    """All that an agent sees of random steps, drawn from the space of the environments themselves."""
    seen = []
    for _ in range(steps):
        actions = np.array([vec_env.action_space.sample() for _ in range(vec_env.num_envs)])
        observations, rewards, dones, infos = vec_env.step(actions)
        infos = list(copy.deepcopy(infos))
        for info in infos:
            info.get("episode", {}).pop("t", None)
        seen.append([actions, copy.deepcopy(observations), rewards.copy(), dones.copy(), infos])
    return seen


def ends(seen: list[Any]) -> int:
    return sum(int(dones.sum()) for _, _, _, dones, _ in seen)


def assert_same(one: Any, other: Any) -> None:
    """Equal to the last bit, and of the same types."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key, value in one.items():
            assert_same(value, other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            assert_same(mine, theirs)
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    else:
        assert one == other or (one != one and other != other)


def through_files(tree: Tree) -> Tree:
    return files.decode(*files.encode(tree, "env"), "env")


def assert_goes_on(make: Make, before: int, after: int, least_ends: int = 0, anew: Make | None = None) -> None:
    """Go on in environments built anew, from files, and compare with those that were never left."""
    vec_env = make()
    vec_env.action_space.seed(1)
    vec_env.reset()
    drive(vec_env, before)
    assert unsupported(vec_env) is None
    tree = through_files(snapshot(vec_env))
    expected = drive(vec_env, after)
    vec_env.close()
    assert ends(expected) >= least_ends

    built = (anew or make)()
    built.reset()
    drive(built, 5)
    assert restore(built, tree) is None
    if anew is None:
        assert_same(through_files(snapshot(built)), tree)
    assert_same(drive(built, after), expected)
    built.close()


def maker(env_id: str, tasks: Tasks, n_envs: int = 2, stepping: Any = "dummy", **kwargs: Any) -> Make:
    return lambda: make_vec_env(env_id, tasks, n_envs, 5, stepping, **kwargs)


@pytest.mark.parametrize(
    ("place", "case"), list(enumerate(CASES)), ids=[f"{name}-{env_id}" for name, env_id, _ in CASES]
)
def test_every_change(place: int, case: tuple[str, str, dict[str, Any]]) -> None:
    name, env_id, settings = case
    tasks = tasks_of({name: settings, **({} if name in CHANCE else CHANCE)}, boundary=BOUNDARIES[place % 3])
    assert_goes_on(maker(env_id, tasks), 40, 60)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_hundreds_of_steps_through_every_boundary(boundary: Any) -> None:
    changes = {"cartpole": {}, "observation_delay": {}, "action_sticky": {}, "reward_delay": {}}
    assert_goes_on(maker("CartPole-v1", tasks_of(changes, boundary=boundary), 3), 500, 500, least_ends=50)


@pytest.mark.parametrize(
    ("env_id", "before"),
    [
        *[("CartPole-v1", 150), ("Pendulum-v1?max_episode_steps=40", 150), ("Acrobot-v1?max_episode_steps=40", 150)],
        *[("MountainCar-v0?max_episode_steps=40", 150), ("MountainCarContinuous-v0?max_episode_steps=40", 150)],
        *[("Perennial/NineRooms-v0", 150), ("FrozenLake-v1", 50), ("CliffWalking-v1?max_episode_steps=20", 50)],
        *[
            (f"{robot}-v5?max_episode_steps=25", 60)
            for robot in ("HalfCheetah", "Hopper", "Walker2d", "Ant", "Swimmer")
        ],
        *[(f"{robot}-v5?max_episode_steps=25", 60) for robot in ("Humanoid", "HumanoidStandup", "Reacher", "Pusher")],
        *[(f"{robot}-v5?max_episode_steps=25", 60) for robot in ("InvertedPendulum", "InvertedDoublePendulum")],
    ],
)
def test_environments(env_id: str, before: int) -> None:
    assert_goes_on(maker(env_id, tasks_of(CHANCE)), before, before, least_ends=4)


@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [
        *[(f"{robot}-v5", {}) for robot in ("HalfCheetah", "Hopper", "Walker2d", "Swimmer", "Ant", "Humanoid")],
        *[("Ant-v5", NO_CONTACTS), ("Humanoid-v5", NO_CONTACTS)],
    ],
)
def test_the_batch(env_id: str, kwargs: dict[str, Any]) -> None:
    changes: dict[str, dict[str, Any]] = {
        "mujoco_friction": {},
        "mujoco_gravity": {},
        "mujoco_mass": {"mode": "factor", "low": 0.7, "high": 1.5},
        "observation_noise": {},
        "action_delay": {},
    }
    for boundary in BOUNDARIES[::2]:
        tasks = tasks_of(changes, boundary=boundary)
        make = maker(f"{env_id}?max_episode_steps=30", tasks, stepping="batch", env_kwargs=kwargs)
        # Step 47 is where row 0 has switched and row 1 has not, in the one boundary; a multiple of all in none.
        assert_goes_on(make, 47, 50, least_ends=2)


def test_the_batch_between_a_switch_and_the_step_that_follows() -> None:
    tasks = tasks_of({"mujoco_mass": {}}, boundary="immediate")
    make = maker("Humanoid-v5", tasks, 1, "batch", env_kwargs=NO_CONTACTS)
    vec_env = make()
    vec_env.reset()
    drive(vec_env, 47)
    assert vec_env.fleet.changed == {0}  # type: ignore[attr-defined]
    assert_goes_on(make, 47, 20)


class TestBox2d:
    @pytest.fixture(autouse=True)
    def _box2d(self) -> None:
        pytest.importorskip("Box2D")

    @pytest.mark.parametrize(
        ("env_id", "changes", "boundary"),
        [
            ("LunarLander-v3", {"lunar_lander": {"parameter": "gravity"}}, "immediate"),
            ("LunarLander-v3", {"lunar_lander": {"parameter": "gravity_x"}}, "truncate"),
            ("LunarLander-v3", {"lunar_lander": {"parameter": "wind_power"}}, "immediate"),
            ("LunarLander-v3", {"lunar_lander": {"parameter": "main_engine_power"}}, "next_reset"),
            ("LunarLander-v3", {"lunar_lander": {"parameter": "initial_random"}}, "truncate"),
            ("LunarLanderContinuous-v3?enable_wind=true", {"action_delay": {}, "observation_noise": {}}, "immediate"),
            ("BipedalWalker-v3?max_episode_steps=40", {"bipedal_walker": {"parameter": "gravity"}}, "immediate"),
            ("BipedalWalker-v3?max_episode_steps=40", {"bipedal_walker": {"parameter": "friction"}}, "truncate"),
            ("BipedalWalkerHardcore-v3", {"bipedal_walker": {"parameter": "speed_hip"}}, "immediate"),
        ],
    )
    def test_episodes_are_taken_again(self, env_id: str, changes: dict[str, dict[str, Any]], boundary: Any) -> None:
        assert_goes_on(maker(env_id, tasks_of(CHANCE | changes, boundary=boundary)), 130, 100)

    def test_car_racing(self) -> None:
        tasks = tasks_of({"car_racing": {}, **CHANCE}, Periodic(period=9, boundary="immediate", first="drawn"))
        make = maker("CarRacing-v3?max_episode_steps=12", tasks, 1)
        assert_goes_on(lambda: VecTransposeImage(make()), 18, 12, least_ends=1)

    def test_a_world_that_was_used_before(self) -> None:
        """Long falls and many contacts, in a world that an earlier episode would have left its traces in."""
        make = maker("BipedalWalker-v3?max_episode_steps=60", tasks_of(CHANCE), 1)
        assert_goes_on(make, 400, 60, least_ends=1)

    def test_first_episodes_are_those_of_gymnasium(self) -> None:
        stationary = Tasks(Constant(), {})
        for env_id in ("LunarLander-v3", "BipedalWalker-v3"):
            plain, replay = make_plain_env(env_id), make_env(env_id, stationary).env  # type: ignore[attr-defined]
            assert isinstance(replay, Replay)
            assert_same(plain.reset(seed=7)[0], replay.reset(seed=7)[0])
            plain.action_space.seed(1)
            for _ in range(50):
                action = plain.action_space.sample()
                assert_same(plain.step(action)[:4], replay.step(action)[:4])

    def test_a_replay_that_leads_elsewhere_is_an_error(self) -> None:
        make = maker("LunarLander-v3", tasks_of(CHANCE), 1)
        vec_env = make()
        vec_env.action_space.seed(1)
        vec_env.reset()
        drive(vec_env, 30)
        tree = snapshot(vec_env)
        actions = tree["rows"][0]["state"][1]["state"]["actions"]
        assert len(actions) == 30
        actions[3] = (actions[3] + 1) % 4
        with pytest.raises(ValueError, match="do not lead to where they led before"):
            restore(make(), tree)

    def test_what_others_have_drawn_from_its_spaces(self) -> None:
        make = maker("LunarLander-v3", tasks_of(CHANCE), 1)
        vec_env, built = make(), make()
        vec_env.reset()
        drive(vec_env, 20)
        space = vec_env.get_attr("unwrapped")[0].observation_space
        space.seed(3)
        space.sample()
        restore(built, snapshot(vec_env))
        assert_same(built.get_attr("unwrapped")[0].observation_space.sample(), space.sample())

    def test_environments_exchanged(self) -> None:
        ids = ("BipedalWalker-v3?max_episode_steps=50", "BipedalWalkerHardcore-v3?max_episode_steps=50")
        tasks = tasks_of({"environment": {"ids": ids}, **CHANCE}, boundary="truncate")
        assert_goes_on(maker(ids[0], tasks), 70, 60, least_ends=2)

    def test_not_without_a_monitor(self) -> None:
        vec_env = maker("LunarLander-v3", tasks_of(CHANCE), monitor=False)()
        vec_env.reset()
        assert "LunarLander-v3 cannot be read: its world is in Box2D's memory" in str(unsupported(vec_env))


@pytest.mark.parametrize(
    ("ids", "boundary"),
    [
        (("CartPole-v1", "Acrobot-v1?max_episode_steps=30", "MountainCar-v0?max_episode_steps=20"), "truncate"),
        (("Hopper-v5", "HalfCheetah-v5?max_episode_steps=20"), "next_reset"),
        # The run's own environment is not the first.
        (("Pendulum-v1?g=4.5&max_episode_steps=15", "Pendulum-v1?max_episode_steps=20"), "truncate"),
    ],
)
@pytest.mark.parametrize("before", [10, 90])
def test_environments_exchanged(ids: tuple[str, ...], boundary: Any, before: int) -> None:
    tasks = tasks_of({"environment": {"ids": ids, "pad": True}, **CHANCE}, boundary=boundary)
    assert_goes_on(maker(ids[-1], tasks), before, 120, least_ends=2)


def test_values_that_move_and_are_shown() -> None:
    changes = {"pendulum": {}, "observation_scale": {}}
    tasks = tasks_of(changes, Drift(period=31, boundary="immediate", signal="context"))
    assert_goes_on(maker("Pendulum-v1?max_episode_steps=25", tasks), 40, 60, least_ends=2)


def test_several_schedules() -> None:
    parts = {
        "slow": tasks_of({"acrobot": {"parameter": "torque_noise_max"}}, Periodic(period=90)),
        "fast": tasks_of({"action_permutation": {}}, Periodic(period=31)),
    }
    tasks = Composition(Together(boundary="immediate"), parts, seed=2)
    assert_goes_on(maker("Acrobot-v1?max_episode_steps=35", tasks), 60, 90, least_ends=2)


@pytest.mark.parametrize("policy", ["cumulative", "moving", "freeze", "reset"])
def test_normalisation(policy: Any) -> None:
    settings = Normalization(policy=policy, rewards=True, warmup=40)
    make = maker("CartPole-v1", tasks_of({"observation_offset": {}}, boundary="truncate"))
    # In the middle of a warm-up, and after it.
    for before in (50, 75):
        assert_goes_on(lambda: normalize(make(), settings, 0.9), before, 100, least_ends=2)


def test_what_the_normaliser_saw_last() -> None:
    settings = Normalization(policy="cumulative", rewards=True)
    make = maker("Pendulum-v1", tasks_of(CHANCE))
    vec_env, built = (normalize(make(), settings, 0.9) for _ in range(2))
    assert isinstance(vec_env, Normalize)
    assert isinstance(built, Normalize)
    vec_env.reset()
    drive(vec_env, 20)
    restore(built, snapshot(vec_env))
    assert_same(built.get_original_obs(), vec_env.get_original_obs())
    assert_same(built.get_original_reward(), vec_env.get_original_reward())


def forked(env_id: str, tasks: Tasks, n_envs: int, monitor: bool = True) -> Make:
    """Processes that start at once, unlike those that import everything first."""
    make = functools.partial(make_env, env_id, tasks, stride=n_envs, monitor=monitor)

    def made() -> VecEnv:
        vec_env = Processes([make] * n_envs, start_method="fork")
        vec_env.seed(5)
        return vec_env

    return made


def test_processes() -> None:
    """The same bits in one process or many, from one to the other and back."""
    tasks = tasks_of({"cartpole": {}, "observation_noise": {}}, boundary="immediate")
    one, many = maker("CartPole-v1", tasks, 4), forked("CartPole-v1", tasks, 4)
    seen = []
    for make in (one, many):
        vec_env = make()
        vec_env.action_space.seed(1)
        seen.append([vec_env.reset(), drive(vec_env, 200)])
        vec_env.close()
    assert_same(*seen)
    assert ends(seen[0][1]) > 20
    assert_goes_on(many, 60, 60, 4, anew=one)
    assert_goes_on(one, 60, 60, 4, anew=many)


def test_processes_of_other_environments() -> None:
    tasks = tasks_of(CHANCE)
    mute = forked("CartPole-v1", tasks, 1, monitor=False)()
    mute.reset()
    assert unsupported(mute) == "Processes does not tell what its environments hold"
    assert isinstance(restore(mute, snapshot(mute)), np.ndarray)
    others = maker("CartPole-v1", tasks, 1)()
    others.reset()
    with pytest.raises(ValueError, match="Processes does not tell"):
        restore(mute, snapshot(others))
    mute.close()
    pendulum = forked("Pendulum-v1", tasks, 1)()
    with pytest.raises(ValueError, match="the snapshot is not of PendulumEnv"):
        restore(pendulum, snapshot(others))
    pendulum.close()


def test_before_the_first_step_and_the_first_reset() -> None:
    make = maker("CartPole-v1", tasks_of(CHANCE))
    assert_goes_on(make, 0, 40)
    vec_env, built = make(), make()
    tree = snapshot(vec_env)
    restore(built, tree)
    for each in (vec_env, built):
        each.action_space.seed(1)
    assert_same([built.reset(), drive(built, 40)], [vec_env.reset(), drive(vec_env, 40)])


@pytest.mark.parametrize("env_id", ["CartPole-v1", "MountainCar-v0", "Hopper-v5", "Perennial/NineRooms-v0"])
def test_into_environments_that_were_never_reset(env_id: str) -> None:
    vec_env, built = (maker(env_id, tasks_of(CHANCE))() for _ in range(2))
    vec_env.action_space.seed(1)
    vec_env.reset()
    drive(vec_env, 30)
    tree = snapshot(vec_env)
    assert restore(built, tree) is None
    assert_same(snapshot(built), tree)
    assert_same(drive(built, 30), drive(vec_env, 30))


def test_a_snapshot_leaves_no_trace() -> None:
    for make in (
        maker("HalfCheetah-v5", tasks_of({"mujoco_mass": {}}, boundary="immediate"), stepping="batch"),
        maker("CartPole-v1", tasks_of(CHANCE)),
    ):
        seen = []
        for often in (False, True):
            vec_env = make()
            vec_env.action_space.seed(1)
            vec_env.reset()
            steps = []
            for _ in range(60):
                if often:
                    snapshot(vec_env)
                steps += drive(vec_env, 1)
            seen.append(steps)
        assert_same(*seen)


class Opaque(gym.Env[Any, Any]):
    """Holds what cannot be read."""

    def __init__(self) -> None:
        self.observation_space = gym.spaces.Box(-1, 1, (2,), np.float64)
        self.action_space = gym.spaces.Discrete(2)
        self.lock = threading.Lock()

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.number = self.np_random.uniform(-1, 1, 2)
        return self.number, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.number, float(self.number[0]), False, False, {}


def opaque(n_envs: int = 2) -> VecEnv:
    tasks = tasks_of({"observation_offset": {}}, Periodic(period=20, boundary="truncate"))
    vec_env = DummyVecEnv([lambda: Monitor(NonStationary(Opaque(), tasks, n_envs))] * n_envs)
    vec_env.seed(5)
    return normalize(vec_env, Normalization(policy="cumulative"))


def test_what_cannot_be_read_begins_anew_in_its_task() -> None:
    vec_env, built = opaque(), opaque()
    vec_env.reset()
    drive(vec_env, 33)
    assert unsupported(vec_env) == "Opaque cannot be read: it holds _thread.lock, whose state cannot be read"
    tree = through_files(snapshot(vec_env))
    assert isinstance(built, Normalize)
    observations = restore(built, tree)
    assert isinstance(observations, np.ndarray)
    assert built.get_attr("clock") == [66, 66]
    assert built.obs_rms.count == vec_env.obs_rms.count + 2  # type: ignore[attr-defined]
    assert_same(built.normalize_obs(built.get_original_obs()), observations)  # type: ignore[arg-type]
    # Task 3's offset, and other random numbers than those with which the run began.
    ((*_, infos),) = drive(built, 1)
    assert [info["task"] for info in infos] == [3, 3]
    course = built.get_attr("course")[0]
    raw = built.get_original_obs() - np.array(course.values["observation_offset"])  # type: ignore[operator]
    assert (np.abs(raw) <= 1).all()
    seeds = built.get_attr("np_random_seed")
    assert len({*seeds, 5, 6}) == 4
    again = opaque()
    assert_same(restore(again, tree), observations)
    assert again.get_attr("np_random_seed") == seeds


def test_wrappers_that_are_not_known() -> None:
    vec_env, built = (VecFrameStack(maker("Pendulum-v1", tasks_of(CHANCE))(), 2) for _ in range(2))
    vec_env.reset()
    drive(vec_env, 30)
    assert unsupported(vec_env) == "the wrapper VecFrameStack is unknown"
    observations = restore(built, snapshot(vec_env))
    assert isinstance(observations, np.ndarray)
    assert not observations[:, :3].any()
    assert built.get_attr("clock") == [60, 60]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (maker("CartPole-v1", tasks_of(CHANCE), 3), "of 2 environments, not 3"),
        (maker("CartPole-v1", tasks_of({"reward_scale": {}})), "has the changes reward_noise, not reward_scale"),
        (maker("Pendulum-v1", tasks_of(CHANCE)), "the snapshot is not of PendulumEnv in PassiveEnvChecker"),
        (maker("CartPole-v1", tasks_of(CHANCE), 2, monitor=False), "the snapshot is not of CartPole"),
    ],
)
def test_a_snapshot_of_other_environments_is_refused(other: Make, message: str) -> None:
    vec_env = maker("CartPole-v1", tasks_of(CHANCE))()
    vec_env.reset()
    built = other()
    with pytest.raises(ValueError, match=message):
        restore(built, snapshot(vec_env))
    built.close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda tree: tree.pop("rows"),
        lambda tree: tree["rows"][0].pop("state"),
        lambda tree: tree["rows"][0]["state"][1].pop("course"),
        lambda tree: tree["rows"][1]["state"][0].update(attributes=3),
        lambda tree: tree["rows"][0]["state"][-1]["attributes"].update(state=("again", 10**6)),
        lambda tree: tree["rows"][0]["state"][-1]["attributes"].update(state=("object", "System", {})),
        lambda tree: tree["rows"][0]["state"][-1]["attributes"].update(state=()),
        lambda tree: tree.update(resets=3),
    ],
)
def test_a_damaged_snapshot_is_refused(damage: Callable[[Any], Any]) -> None:
    make = maker("CartPole-v1", tasks_of(CHANCE))
    vec_env = make()
    vec_env.reset()
    tree = snapshot(vec_env)
    damage(tree)
    with pytest.raises(ValueError, match="snapshot"):
        restore(make(), tree)


def test_a_model_that_something_else_changes() -> None:
    make = maker("HalfCheetah-v5", tasks_of({"mujoco_friction": {}}), 1)
    vec_env = make()
    vec_env.reset()
    vec_env.get_attr("unwrapped")[0].model.body_mass[1] *= 1.1
    tree = snapshot(vec_env)
    with pytest.raises(ValueError, match="the physics are not those of the snapshot"):
        restore(make(), tree)


def test_bodies_that_sleep() -> None:
    vec_env = maker("HalfCheetah-v5", tasks_of(CHANCE), 1)()
    vec_env.reset()
    vec_env.get_attr("unwrapped")[0].model.opt.enableflags |= int(mujoco.mjtEnableBit.mjENBL_SLEEP)
    assert unsupported(vec_env) == "HalfCheetah-v5 cannot be read: its simulation lets bodies sleep"


class Phase(enum.Enum):
    STAND = 1
    WALK = 2


class Part:
    """An object like those of which environments are built."""

    def __init__(self) -> None:
        self.numbers = np.zeros(3)
        self.same = self.numbers
        self.past: deque[Any] = deque(maxlen=3)
        self.phase = Phase.STAND
        self.rng = np.random.default_rng(0)
        self.own_rng = random.Random(0)
        self.state = np.random.RandomState(0)
        self.table: dict[Any, Any] = {}
        self.ordered: OrderedDict[str, int] = OrderedDict()
        self.step = max
        self.owner: Any = None
        self.long = [0.0] * 40
        self.matrix = np.zeros((2, 3), order="F")
        self.late: Any = None


def test_what_objects_hold() -> None:
    one, other = Part(), Part()
    one.numbers[:] = 1, np.nan, np.inf
    one.past.extend([np.float32(0.1), (1, [2]), {3}, None])
    one.phase, one.owner = Phase.WALK, one
    one.table = {"a": 1, 2: b"b", (1, 2): one.past, None: one.numbers, True: np.array(5)}
    one.ordered["z"] = 2**80
    one.long = [0.1 * number for number in range(50)]
    one.late = [np.random.Generator(np.random.MT19937(4)), np.array(["x", "yz"]), frozenset({1}), 1j * np.ones(2)]
    one.matrix = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    for part in (one,):
        part.rng.normal(), part.own_rng.gauss(0, 1), part.state.standard_normal(3), part.late[0].random()
    del one.step
    one.added = 7  # type: ignore[attr-defined]
    generator = other.rng
    Writer().write(through_files(Reader().read(one)), other)

    assert other.owner is other
    assert other.same is other.numbers is other.table[None]
    assert other.past is other.table[(1, 2)]
    assert other.past.maxlen == 3
    assert list(other.past) == list(one.past)
    assert type(other.ordered) is OrderedDict
    assert other.rng is generator
    assert other.matrix.flags.f_contiguous
    assert not hasattr(other, "step")
    assert other.late[1].tolist() == ["x", "yz"]
    for part in (one, other):
        part.numbers[0] = 9
    for name in ("numbers", "same", "phase", "table", "ordered", "long", "matrix", "added"):
        np.testing.assert_equal(getattr(other, name), getattr(one, name))
    for draw in (
        lambda part: part.rng.normal(size=5).tolist(),
        lambda part: [part.own_rng.gauss(0, 1) for _ in range(5)],
        lambda part: part.state.standard_normal(5).tolist(),
        lambda part: part.late[0].random(5).tolist(),
    ):
        assert draw(one) == draw(other)


def test_what_was_one_becomes_two() -> None:
    """What newly built environments share, but the one that was read did not."""
    one, other = Part(), Part()
    one.same = np.ones(3)
    one.late, other.late = np.random.default_rng(1), other.rng
    Writer().write(Reader().read(one), other)
    assert other.same is not other.numbers
    assert other.late is not other.rng
    assert other.late.random() == np.random.default_rng(1).random()
    assert other.rng.random() == np.random.default_rng(0).random()


@dataclasses.dataclass
class Slotted:
    __slots__ = ("number",)
    number: int


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (iter([1]), "list_iterator"),
        (threading.Lock(), "_thread.lock"),
        (Slotted(1), "Slotted"),
        (np.array([None]), "an array of object"),
        ([Part()], "objects in lists or dictionaries .*Part"),
        ({"part": Part()}, "objects in lists or dictionaries"),
        ((lambda whole: [whole, whole[1:]])(np.zeros(3)), "one shows a part of the other"),
    ],
)
def test_what_cannot_be_read(value: Any, reason: str) -> None:
    with pytest.raises(Unsupported, match=reason):
        Reader().read(value)


@pytest.mark.parametrize(
    ("tree", "old", "message"),
    [
        (("constant", "system"), print, "has system where there is a builtin_function_or_method"),
        (("constant", "print"), None, "has print where there is nothing"),
        (("object", "Part", {}), None, "has a Part where there is nothing"),
        (("object", "Part", {}), Slotted(1), "has a Part where there is a Slotted"),
        (("enum", "WALK"), 2, "has WALK where there is a int"),
        (("generator", "Other", {}), None, "a generator Other"),
        (("bytes", "O", [1], b"12345678"), None, "no arrays of O"),
        (("unheard of",), None, "holds no tuple of this kind"),
        (object(), None, "holds no object of this kind"),
    ],
)
def test_what_a_tree_cannot_do(tree: Any, old: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Writer().write(tree, old)


def test_two_objects_cannot_become_one() -> None:
    part = Part()
    tree = Reader().read([1, 2])
    assert tree == [1, 2]
    both = ("tuple", [("object", "Part", {}), ("object", "Part", {})])
    with pytest.raises(ValueError, match="several objects where there is one Part"):
        Writer().write(both, (part, part))
