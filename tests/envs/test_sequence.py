"""Tasks that are whole environments: each is what it is alone, and an agent that joins them has one pair of spaces."""

import copy
import itertools
import pickle
import sys
from collections import Counter

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from configs.settings import SettingError
from envs import NonStationary, Tasks, families, make_env, make_plain_env, make_vec_env, split_id
from envs.changes.base import ChangeError
from envs.changes.environment import Environment
from envs.changes.mujoco import MujocoGravity
from envs.changes.observations import ObservationRotation
from envs.changes.rewards import RewardScale
from envs.schedules import Constant, Periodic
from envs.sequence import EnvSequence, name_of, same, write
from envs.verify import VerificationError, verify


def sequence(env_id: str, ids: list[str], period: int = 60, **settings) -> NonStationary:
    boundary = settings.pop("boundary", "truncate")
    signal = settings.pop("signal", "hidden")
    change = Environment(ids=tuple(ids), **settings)
    schedule = Periodic(period=period, boundary=boundary, signal=signal)
    return NonStationary(make_plain_env(env_id), Tasks(schedule, {"environment": change}))


class FromOutside(gym.ObservationWrapper):
    """What another change might wrap an environment in."""

    __module__ = "envs.changes.others"

    def observation(self, observation):
        return observation


@pytest.mark.parametrize("boundary", ["truncate", "next_reset"])
@pytest.mark.parametrize(
    ("ids", "pad"),
    [
        (["CartPole-v1", "Acrobot-v1?max_episode_steps=70"], True),
        (["MountainCar-v0?max_episode_steps=70", "CartPole-v1", "CartPole-v0"], True),
        (["HalfCheetah-v5?max_episode_steps=40", "HalfCheetah-v4?max_episode_steps=25"], False),
        (["Hopper-v5", "HalfCheetah-v5?max_episode_steps=40", "InvertedPendulum-v5"], True),
        (["Pendulum-v1?max_episode_steps=30", "Pendulum-v1?g=4.5&max_episode_steps=50"], False),
    ],
)
def test_every_task_is_its_environment_alone(ids: list[str], pad: bool, boundary: str) -> None:
    env = sequence(ids[0], ids, boundary=boundary, pad=pad)
    plain = {env_id: make_plain_env(env_id) for env_id in ids}
    seeds = dict.fromkeys(ids, 5)
    rng = np.random.default_rng(0)
    seen, over, met = None, True, []
    for step in range(500):
        if over:
            current = ids[(env.clock // 60) % len(ids)]
            seen, info = env.reset(seed=5 if step == 0 else None)
            expected, _ = plain[current].reset(seed=seeds.pop(current, None))
            assert info["task"] == env.clock // 60
            assert env.get_wrapper_attr("current") == same(current)
        n = len(expected)
        np.testing.assert_array_equal(seen[:n], expected)
        assert not seen[n:].any()
        assert env.observation_space.contains(seen)
        own = plain[current].action_space
        if isinstance(own, Discrete):
            action = own_action = int(rng.integers(own.n))
        else:
            # In eighths, so that stretching and shrinking is exact.
            action = (rng.integers(-8, 9, env.action_space.shape) / 8).astype(np.float32) * env.action_space.high
            own_action = action[: len(own.high)] / env.action_space.high[: len(own.high)] * own.high
        seen, reward, terminated, truncated, info = env.step(action)
        expected, *outcome, _ = plain[current].step(own_action)
        assert [reward, terminated, truncated and not info.get("cut_short", False)] == outcome
        over = terminated or truncated
        if over:
            np.testing.assert_array_equal(seen[: len(expected)], expected)
        met.append(current)
        if boundary == "truncate":
            assert current == ids[(step // 60) % len(ids)]
    # Each returns, and goes on with its own random numbers.
    assert {name for before, name in itertools.pairwise(met) if before != name} == set(ids)


def test_one_environment_alone_is_untouched() -> None:
    env = EnvSequence(plain := make_plain_env("CartPole-v1"), ["CartPole-v0"])
    assert env.observation_space is plain.observation_space
    assert env.action_space is plain.action_space
    alone = make_plain_env("CartPole-v1")
    for start in ("CartPole-v1", "CartPole-v0", "CartPole-v1"):
        env.select(start)
        np.testing.assert_array_equal(env.reset(seed=3)[0], alone.reset(seed=3)[0])
        assert env.env is (plain if start == "CartPole-v1" else env.env)
        for action in (0, 1, 1, 0, 1):
            mine, theirs = env.step(action), alone.step(action)
            np.testing.assert_array_equal(mine[0], theirs[0])
            assert mine[0].dtype == theirs[0].dtype
            assert mine[1:] == theirs[1:]
            assert type(mine[1]) is type(theirs[1])


def test_observations_are_joined_by_hand() -> None:
    env = EnvSequence(make_plain_env("Pendulum-v1"), ["MountainCarContinuous-v0"], pad=True)
    space = env.observation_space
    np.testing.assert_array_equal(space.low, np.array([-1.2, -1, -8], np.float32))
    np.testing.assert_array_equal(space.high, np.array([1, 1, 8], np.float32))
    env.select("MountainCarContinuous-v0")
    observation, _ = env.reset(seed=0)
    assert observation.shape == (3,)
    assert observation.dtype == space.dtype == np.float32
    assert observation[2] == 0
    # 3 numbers in single, 11 in double precision.
    env = EnvSequence(make_plain_env("Pendulum-v1"), ["Hopper-v5?max_episode_steps=9"], pad=True)
    assert env.observation_space.shape == (11,)
    assert env.observation_space.dtype == env.reset(seed=0)[0].dtype == np.float64


def test_actions_are_joined_by_hand() -> None:
    env = EnvSequence(make_plain_env("InvertedPendulum-v5"), ["Hopper-v5", "Pusher-v5"], pad=True)
    np.testing.assert_array_equal(env.action_space.high, [3, 1, 1, 2, 2, 2, 2])
    np.testing.assert_array_equal(env.action_space.low, [-3, -1, -1, -2, -2, -2, -2])
    taken = []

    class Spy(gym.Wrapper):
        def step(self, action):
            taken.append(action)
            return self.env.step(action)

    action = np.array([1.5, -0.25, 0.5, 2, 1, -1, 0], np.float32)
    for name in env.names:
        env.select(name)
        env.env = Spy(env.env)
        env.reset(seed=0)
        env.step(action)
        assert taken[-1].dtype == np.float32
    np.testing.assert_array_equal(taken[0], [1.5])
    np.testing.assert_array_equal(taken[1], [0.5, -0.25, 0.5])
    np.testing.assert_array_equal(taken[2], [1, -0.5, 1, 2, 1, -1, 0])


def test_surplus_discrete_actions_are_action_0() -> None:
    env = EnvSequence(make_plain_env("CartPole-v1"), ["Acrobot-v1"], pad=True)
    assert env.action_space == Discrete(3)
    outcomes = []
    for action in (0, 1, 2):
        env.reset(seed=0)
        outcomes.append(env.step(action)[0])
    np.testing.assert_array_equal(outcomes[2], outcomes[0])
    assert (outcomes[1] != outcomes[0]).any()


@pytest.mark.parametrize(
    ("env_id", "ids", "pad"),
    [
        ("CartPole-v1", ["Acrobot-v1", "CartPole-v1"], True),
        ("Acrobot-v1", ["CartPole-v1"], True),
        ("Pendulum-v1", ["MountainCarContinuous-v0"], True),
        ("HalfCheetah-v5", ["HalfCheetah-v4"], False),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_joined_environments_are_sound(env_id: str, ids: list[str], pad: bool) -> None:
    env = sequence(env_id, ids, period=100_000, pad=pad)
    gymnasium_check_env(env, skip_render_check=True)
    sb3_check_env(env)
    assert env.unwrapped.spec.id == ids[0]


def test_an_agent_learns_through_the_tasks() -> None:
    change = Environment(ids=("CartPole-v1", "Acrobot-v1"), pad=True)
    tasks = Tasks(Periodic(period=100, signal="context"), {"environment": change}, seed=1)
    vec_env = make_vec_env("CartPole-v1", tasks, n_envs=2, seed=0)
    assert vec_env.observation_space.shape == (8,)
    model = PPO("MlpPolicy", vec_env, n_steps=32, batch_size=32, n_epochs=1, seed=0, device="cpu")
    model.learn(320)
    assert vec_env.get_attr("clock") == [320, 320]
    assert vec_env.env_method("get_wrapper_attr", "current") == ["Acrobot-v1"] * 2
    shown = model.rollout_buffer.observations.reshape(2, 32, 8)[..., 6:]
    # Steps 256 to 319, two at a time: 44 are CartPole's, the others Acrobot's.
    np.testing.assert_array_equal(shown[:, :22], np.broadcast_to([1, 0], (2, 22, 2)))
    np.testing.assert_array_equal(shown[:, 22:], np.broadcast_to([0, 1], (2, 10, 2)))


def test_time_limits_are_each_ones_own() -> None:
    ids = ["Pendulum-v1?max_episode_steps=7", "Pendulum-v1?max_episode_steps=-1", "Pendulum-v1"]
    env = EnvSequence(make_plain_env(ids[0]), ids[1:])
    lengths = []
    for text in ids:
        env.select(text)
        env.reset(seed=0)
        lengths.append(next((n for n in range(1, 300) if env.step(np.zeros(1, np.float32))[3]), None))
    assert lengths == [7, None, 200]


def test_a_reset_must_follow() -> None:
    env = EnvSequence(make_plain_env("CartPole-v1"), ["CartPole-v0"])
    env.reset(seed=0)
    env.step(0)
    env.select("CartPole-v0")
    env.reset()
    env.select("CartPole-v1")
    with pytest.raises(gym.error.ResetNeeded, match="another one was selected"):
        env.step(0)
    with pytest.raises(ChangeError, match=r"none of the environments CartPole-v1, CartPole-v0; did you mean 'CartPole"):
        env.select("CartPole-v2")


class Counted(gym.Env):
    """Tells how many of it were made and closed, and what they were seeded with."""

    observation_space, action_space = Box(-1, 1, (2,)), Discrete(2)
    made, closed, seeds = 0, 0, []

    def __init__(self, number: int = 0, render_mode: str | None = None) -> None:
        Counted.made += 1
        self.number, self.render_mode = number, render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        Counted.seeds.append((self.number, seed))
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), 0.0, False, False, {}

    def render(self):
        return self.number

    def close(self) -> None:
        Counted.closed += 1


@pytest.fixture
def counted(monkeypatch) -> type[Counted]:
    monkeypatch.setattr(Counted, "metadata", {"render_modes": ["rgb_array"], "render_fps": 1})
    for name in ("made", "closed"):
        monkeypatch.setattr(Counted, name, 0)
    monkeypatch.setattr(Counted, "seeds", [])
    gym.register("Counted-v0", Counted, disable_env_checker=True)
    yield Counted
    del gym.registry["Counted-v0"]


def test_environments_are_checked_at_once_and_made_when_needed(counted: type[Counted]) -> None:
    ids = ["Counted-v0?number=1", "Counted-v0?number=2", "Counted-v0"]
    env = EnvSequence(make_plain_env("Counted-v0", {"render_mode": "rgb_array"}), ids)
    # Two more to see their spaces, which are closed again.
    assert (counted.made, counted.closed) == (3, 2)
    others = [EnvSequence(make_plain_env("Counted-v0"), ids) for _ in range(4)]
    assert (counted.made, counted.closed) == (7, 2)
    frames = []
    for text in (*ids, *ids):
        env.select(text)
        env.reset(seed=7 if text == ids[0] and not frames else None)
        env.step(0)
        frames.append((env.render(), env.unwrapped.number, env.render_mode))
    assert frames == [(number, number, "rgb_array") for number in (1, 2, 0, 1, 2, 0)]
    assert counted.made == 9
    assert counted.seeds == [(1, 7), (2, 7), (0, 7), (1, None), (2, None), (0, None)]
    env.close()
    assert counted.closed == 5
    for other in others:
        other.close()
    assert counted.closed == 9


def test_a_change_of_the_registry_is_noticed(counted: type[Counted], monkeypatch) -> None:
    assert EnvSequence(make_plain_env("CartPole-v1"), ["Counted-v0"], pad=True).observation_space.shape == (4,)
    monkeypatch.setattr(counted, "observation_space", Box(-1, 1, (9,)))
    del gym.registry["Counted-v0"]
    gym.register("Counted-v0", Counted, disable_env_checker=True)
    assert EnvSequence(make_plain_env("CartPole-v1"), ["Counted-v0"], pad=True).observation_space.shape == (9,)


def test_reset_with_a_seed_seeds_all_environments_anew() -> None:
    env = EnvSequence(make_plain_env("CartPole-v1"), ["Acrobot-v1"], pad=True)
    runs = []
    for _ in range(2):
        run = []
        for number, name in enumerate(["CartPole-v1", "Acrobot-v1", "CartPole-v1", "Acrobot-v1"]):
            env.select(name)
            run.append(env.reset(seed=11 if number == 0 else None)[0])
        runs.append(run)
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0][0] != runs[0][2]).any()
    assert (runs[0][1] != runs[0][3]).any()


def test_the_spec_makes_the_same_again() -> None:
    env = sequence("CartPole-v1", ["Acrobot-v1", "CartPole-v1"], period=20, pad=True)
    env.reset(seed=1)
    assert env.unwrapped.spec.id == "Acrobot-v1"
    assert env.spec.id == "CartPole-v1"
    again = gym.make(env.spec)
    env.reset(seed=1)
    again.reset(seed=1)
    for step in range(60):
        mine, theirs = env.step(step % 2), again.step(step % 2)
        np.testing.assert_array_equal(mine[0], theirs[0])
        assert mine[1:4] == theirs[1:4]
        if mine[2] or mine[3]:
            np.testing.assert_array_equal(env.reset()[0], again.reset()[0])


def test_orders() -> None:
    names = ("CartPole-v1", "Acrobot-v1", "MountainCar-v0", "CartPole-v0")
    cycle = Environment(ids=names)
    assert [cycle.listed(task) for task in range(6)] == [*names, *names[:2]]
    for count in (2, 3, 4):
        shuffle = Environment(ids=names[:count], draw="shuffle")
        listed = [shuffle.listed(task) for task in range(60 * count)]
        rounds = [listed[start : start + count] for start in range(0, 60 * count, count)]
        assert all(sorted(turn) == sorted(names[:count]) for turn in rounds)
        assert len({tuple(turn) for turn in rounds}) >= [2, 6, 20][count - 2]
        assert count == 2 or all(before != after for before, after in itertools.pairwise(listed))
        other = Environment(ids=names[:count], draw="shuffle", order=1)
        assert [other.listed(task) for task in range(60 * count)] != listed
    choice = Environment(ids=names, draw="choice")
    assert choice.listed(3) is None
    rng = np.random.default_rng(0)
    counts = Counter(choice.sample(rng) for _ in range(4000))
    assert all(abs(counts[name] - 1000) < 120 for name in names)


def test_drawn_environments_begin_with_the_runs_own() -> None:
    env = sequence("CartPole-v1", ["Acrobot-v1", "MountainCar-v0"], period=10, draw="choice", pad=True)
    values = [env.tasks.values(step)["environment"] for step in range(0, 400, 10)]
    assert values[0] == "CartPole-v1"
    assert set(values[1:]) == {"Acrobot-v1", "MountainCar-v0"}
    listed = NonStationary(
        make_plain_env("CartPole-v1"), Tasks(Constant(), {"environment": Environment(ids=("CartPole-v0",))})
    )
    listed.reset(seed=0)
    assert listed.unwrapped.spec.id == "CartPole-v0"


def test_values_are_told() -> None:
    ids = ["Acrobot-v1", "CartPole-v1", "MountainCar-v0?max_episode_steps=50", "MountainCar-v0"]
    env = sequence("CartPole-v1", ids, pad=True, signal="context")
    change = env.tasks.changes["environment"]
    assert change.original == "CartPole-v1"
    assert [change.context(text) for text in ids] == [(0, 1, 0, 0), (1, 0, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    assert [env.describe_task(task) for task in range(3)] == ["Acrobot-v1", "CartPole-v1", ids[2]]
    assert change.describe("CartPole-v1") == "CartPole-v1"
    np.testing.assert_array_equal(env.reset(seed=0)[0][6:], [0, 1, 0, 0])
    assert env.observation_space.shape == (10,)
    change.check("MountainCar-v0?max_episode_steps=50")
    change.check("CartPole-v1")
    for wrong in ("MountainCar-v1", 3, "CartPole-v1?a", None):
        with pytest.raises(ChangeError, match="environment must be one of CartPole-v1, Acrobot-v1, MountainCar-v0"):
            change.check(wrong)


def test_bound_changes_travel_without_environments() -> None:
    env = sequence("CartPole-v1", ["Acrobot-v1", "CartPole-v1"], pad=True)
    for tasks in (pickle.loads(pickle.dumps(env.tasks)), copy.deepcopy(env.tasks)):
        change = tasks.changes["environment"]
        assert not hasattr(change, "_sequence")
        assert change.env is None
        assert change.original == "CartPole-v1"
        assert tasks.describe(0) == "Acrobot-v1"
        again = NonStationary(make_plain_env("CartPole-v1"), tasks)
        np.testing.assert_array_equal(again.reset(seed=2)[0], env.reset(seed=2)[0])


def test_verify_tells_environments_from_those_that_only_have_another_name() -> None:
    def tasks(*ids: str) -> Tasks:
        return Tasks(Periodic(period=50), {"environment": Environment(ids=ids, pad=True)})

    rows = verify("CartPole-v1", tasks("CartPole-v1", "Acrobot-v1", "MountainCar-v0"), 200)
    assert [(row.task, row.value) for row in rows] == [(1, "Acrobot-v1"), (2, "MountainCar-v0")]
    with pytest.raises(VerificationError, match=r"in task 0 \(CartPole-v1\?sutton_barto_reward=false\)"):
        verify("CartPole-v1", tasks("CartPole-v1?sutton_barto_reward=false"), 100)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CartPole-v1", "CartPole-v1"),
        ("CartPole-v1?", "CartPole-v1"),
        ("my.module:Env-v0?b=[1, 2]&a=x", "Env-v0?a=x&b=[1, 2]"),
        ("ALE/Pong-v5?obs_type=ram&mode=1", "ALE/Pong-v5?mode=1&obs_type=ram"),
        ('E-v0?a="3"&b=3&c=1.50&d=null', 'E-v0?a="3"&b=3&c=1.5&d=null'),
        ("E-v0?path=a%26b%2Bc%25d", "E-v0?path=a%26b%2Bc%25d"),
    ],
)
def test_texts_that_name_the_same_environment(text: str, expected: str) -> None:
    assert same(text) == expected
    assert same(expected) == expected
    env_id, kwargs = split_id(text)
    assert split_id(write(env_id, kwargs)) == (env_id, kwargs)


@pytest.mark.parametrize(
    ("env_id", "kwargs", "name"),
    [
        ("CartPole-v1", {}, "CartPole-v1"),
        ("CartPole-v1", {"render_mode": "rgb_array"}, "CartPole-v1"),
        ("CartPole-v1", {"sutton_barto_reward": True}, "CartPole-v1?sutton_barto_reward=true"),
        ("Pendulum-v1?g=3", {"max_episode_steps": 5}, "Pendulum-v1?g=3&max_episode_steps=5"),
        ("Pendulum-v1?max_episode_steps=200", {}, "Pendulum-v1"),
        ("Pendulum-v1?max_episode_steps=-1", {}, "Pendulum-v1?max_episode_steps=-1"),
        ("FrozenLake-v1?is_slippery=false", {}, "FrozenLake-v1?is_slippery=false"),
        ("FrozenLake-v1?map_name=4x4", {}, "FrozenLake-v1"),
    ],
)
def test_environments_are_named_by_what_they_were_made_with(env_id: str, kwargs: dict, name: str) -> None:
    env = make_plain_env(env_id, kwargs)
    assert name_of(env) == name
    change = Environment(ids=(env_id,))
    change.bind(change.wrap(env))
    assert change.original == name
    assert change.is_original(env_id) == ("sutton" not in name and "=5" not in name)
    assert name_of(Counted()) == "Counted"


@pytest.mark.parametrize(
    ("env_id", "ids", "pad", "message"),
    [
        ("CartPole-v1", ["Acrobot-v1"], False, r"^CartPole-v1 and Acrobot-v1 have different observations, Box\(\[-4.8"),
        ("CartPole-v1", ["Acrobot-v1"], False, r"\(4,\), float32\) and Box\(\[ -1.*\(6,\), float32\): set pad to join"),
        ("CartPole-v1", ["FrozenLake-v1"], True, r"float32\) and Discrete\(16\): they must be equal or, to be padded"),
        ("MountainCar-v0", ["MountainCarContinuous-v0"], True, r"actions, Discrete\(3\) and Box\(-1.0, 1.0, \(1,\), "),
        ("CartPole-v1", ["CartPole-v0", "CartPole-v9"], True, "no environment 'CartPole-v9'; did you mean 'CartPole-v"),
        ("CartPole-v1", ["CartPole-v0?size=3"], True, "CartPole-v0 cannot be made with size=3: CartPoleEnv.__init__"),
        ("CartPole-v1", ["FrozenLake-v1?map_name=5x5"], True, "FrozenLake-v1.map_name=5x5 cannot be made: '5x5'"),
    ],
)
def test_what_does_not_fit(env_id: str, ids: list[str], pad: bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sequence(env_id, ids, pad=pad)


def test_settings_are_checked() -> None:
    with pytest.raises(SettingError, match="Environment: ids must list at least one environment"):
        Environment(ids=())
    with pytest.raises(SettingError, match=r"ids must name environments, but 'A-v0\?b': behind the question mark"):
        Environment(ids=("CartPole-v1", "A-v0?b"))
    with pytest.raises(SettingError, match="draw must be one of cycle, shuffle, choice, not 'cycel'; did you mean 'cy"):
        Environment(ids=("A-v0",), draw="cycel")
    with pytest.raises(ChangeError, match="environment can change between episodes only: choose boundary truncate or"):
        sequence("CartPole-v1", ["CartPole-v0"], boundary="immediate")


def test_what_else_wraps_the_environment() -> None:
    change = Environment(ids=("CartPole-v0",))
    with pytest.raises(ChangeError, match="must be listed before the change that wraps the environment in FromOutside"):
        change.wrap(FromOutside(make_plain_env("CartPole-v1")))
    with pytest.raises(ChangeError, match="does not fit CartPole-v1: it needs what its own wrap makes"):
        change.bind(make_plain_env("CartPole-v1"))
    wrapped = FromOutside(change.wrap(make_plain_env("CartPole-v1")))
    change.bind(wrapped)
    change.set("CartPole-v0")
    assert wrapped.unwrapped.spec.id == "CartPole-v0"
    assert change.wrap(wrapped) is wrapped


def test_one_sequence_at_a_time() -> None:
    changes = {"one": Environment(ids=("CartPole-v0",)), "two": Environment(ids=("CartPole-v0",))}
    with pytest.raises(ChangeError, match="one and two both change the environment"):
        make_env("CartPole-v1", Tasks(Periodic(period=9), changes))
    changes["two"] = Environment(ids=("CartPole-v0?sutton_barto_reward=true",))
    with pytest.raises(ChangeError, match="sutton_barto_reward=true is none of the environments here: list all in"):
        make_env("CartPole-v1", Tasks(Periodic(period=9), changes))


def test_other_changes_act_on_all_environments() -> None:
    changes = {"environment": Environment(ids=("CartPole-v1", "CartPole-v0")), "reward": RewardScale(values=(3.0,))}
    env = make_env("CartPole-v1", Tasks(Periodic(period=5), changes), monitor=False)
    env.reset(seed=0)
    rewards = []
    for step in range(10):
        _, reward, _, truncated, _ = env.step(step % 2)
        rewards.append(reward)
        if truncated:
            env.reset()
    assert rewards == [3.0] * 10


class Grid(gym.Env):
    """Observations of MiniGrid's shape."""

    observation_space = gym.spaces.Dict(
        {
            "image": Box(0, 255, (2, 2, 3), np.uint8),
            "direction": Discrete(4),
            "mission": gym.spaces.Text(20),
        }
    )
    action_space = Discrete(7)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {"image": np.arange(12, dtype=np.uint8).reshape(2, 2, 3), "direction": 2, "mission": "go"}, {}


def test_observations_of_families_become_vectors() -> None:
    plain = make_plain_env("CartPole-v1")
    assert families.adapt("CartPole-v1", plain) is plain
    assert families.adapt("my:Grid-v0", grid := Grid()) is grid
    for env_id in ("MiniGrid-Empty-5x5-v0", "my.module:MiniGrid-Mine-v0", "BabyAI-GoToLocal-v0"):
        env = families.adapt(env_id, Grid())
        observation, _ = env.reset(seed=0)
        np.testing.assert_array_equal(observation, [0, 0, 1, 0, *range(12)])
        assert observation.dtype == np.float32
        assert env.observation_space.contains(observation)
        np.testing.assert_array_equal(env.observation_space.high, [1] * 4 + [255] * 12)
    env = families.adapt("dm_control/dog-run-v0", gym.wrappers.FilterObservation(Grid(), ("image", "direction")))
    assert env.observation_space.shape == (16,)
    assert [families.module_of(name) for name in ("ALE/Pong-v5", "dm_control/dog-run-v0", "Ant-v5")] == [
        "ale_py",
        "shimmy",
        None,
    ]


def test_missing_packages_are_missed(monkeypatch) -> None:
    for module in ("ale_py", "minigrid", "dm_control", "dm_control.suite", "shimmy"):
        monkeypatch.setitem(sys.modules, module, None)
    for module in ("ale_py", "minigrid", "shimmy"):
        with pytest.raises(ImportError):
            families.load(module)


def test_physics_beside_a_sequence_would_reach_one_environment_alone() -> None:
    sequence = Environment(ids=("HalfCheetah-v4",))
    changes = {"world": sequence, "gravity": MujocoGravity()}
    with pytest.raises(ChangeError, match="gravity would act on one environment alone, of those between which world"):
        make_env("HalfCheetah-v5", Tasks(Periodic(period=5), changes))
    make_env("HalfCheetah-v5", Tasks(Periodic(period=5), {"seen": ObservationRotation(), "world": sequence})).close()
