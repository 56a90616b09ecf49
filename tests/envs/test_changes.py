"""Every change does what it says, measured on the environments themselves."""

import gymnasium as gym
import mujoco
import numpy as np
import pytest

from envs import Tasks, make_env, make_plain_env
from envs.changes import Change, ChangeError, ScalarChange
from envs.changes.actions import ActionPermutation
from envs.changes.classic import Cartpole, Pendulum
from envs.changes.mujoco import MujocoFriction, MujocoGravity
from envs.changes.observations import ObservationPermutation, ObservationRotation
from envs.changes.rewards import RewardScale
from envs.schedules import Drift, Periodic
from envs.verify import VerificationError, verify


def bind(change: Change, env_id: str) -> tuple[Change, gym.Env]:
    env = make_plain_env(env_id)
    change.bind(env)
    return change, env


def floor_friction(env: gym.Env) -> set[float]:
    """Sliding friction at all contacts met in 30 random steps."""
    env.reset(seed=0)
    env.action_space.seed(0)
    met = set()
    for _ in range(30):
        env.step(env.action_space.sample())
        met |= {contact.friction[0] for contact in env.unwrapped.data.contact}
    return met


@pytest.mark.parametrize(("env_id", "own"), [("HalfCheetah-v5", {0.4}), ("Hopper-v5", {2.0})])
def test_friction_is_measured_at_the_contact(env_id: str, own: set[float]) -> None:
    change, env = bind(MujocoFriction(), env_id)
    assert floor_friction(env) == own
    for value in (0.1, 3.0):
        change.set(value)
        assert floor_friction(env) == {value}
    change.set(change.original)
    assert floor_friction(env) == own


def test_friction_as_a_factor_keeps_geoms_apart() -> None:
    change, env = bind(MujocoFriction(mode="factor", low=0.5, high=2), "Hopper-v5")
    assert change.original == 1.0
    change.set(0.5)
    assert sorted(set(env.unwrapped.model.geom_friction[:, 0])) == [0.45, 0.5, 1.0]
    assert change.describe(0.5) == "friction x0.5"


def test_frictions_that_differ_are_not_one_number() -> None:
    with pytest.raises(ValueError, match="f cannot drift away from the environment's own values"):
        Tasks(Drift(period=5), {"f": MujocoFriction()}).bind(make_plain_env("Hopper-v5"))
    Tasks(Drift(period=5, first="drawn"), {"f": MujocoFriction()}).bind(make_plain_env("Hopper-v5"))
    with pytest.raises(ChangeError, match="mujoco_friction needs low and high"):
        bind(MujocoFriction(low=None, high=None), "Hopper-v5")


def test_gravity_by_free_fall() -> None:
    change, env = bind(MujocoGravity(), "HalfCheetah-v5")
    unwrapped = env.unwrapped
    assert change.bounds() == (9.81 / 2, 9.81 * 2)
    for value in (9.81, 3.0, 15.0):
        change.set(value)
        env.reset(seed=0)
        position = unwrapped.init_qpos.copy()
        position[1] = 50.0
        unwrapped.set_state(position, np.zeros(unwrapped.model.nv))
        steps = 10
        for _ in range(steps):
            env.step(np.zeros(6))
        seconds = steps * unwrapped.dt
        # The whole robot falls freely; the simulator's Euler steps add g t dt / 2.
        fallen = value * seconds * (seconds + unwrapped.model.opt.timestep) / 2
        # Derived quantities lag one step of the simulator behind positions.
        mujoco.mj_forward(unwrapped.model, unwrapped.data)
        height = unwrapped.data.subtree_com[0, 2]
        unwrapped.set_state(position, np.zeros(unwrapped.model.nv))
        assert unwrapped.data.subtree_com[0, 2] - height == pytest.approx(fallen, rel=1e-6)


def test_gravity_keeps_its_direction() -> None:
    change, env = bind(MujocoGravity(), "InvertedDoublePendulum-v5")
    own = env.unwrapped.model.opt.gravity.copy()
    change.set(2 * change.own)
    np.testing.assert_allclose(env.unwrapped.model.opt.gravity, 2 * own, rtol=1e-15)
    change.set(change.original)
    np.testing.assert_array_equal(env.unwrapped.model.opt.gravity, own)


@pytest.mark.parametrize("parameter", ["gravity", "masscart", "masspole", "length", "force_mag", "tau"])
def test_cartpole_keeps_its_derived_constants(parameter: str) -> None:
    change, env = bind(Cartpole(parameter=parameter), "CartPole-v1")
    cartpole = env.unwrapped
    before = vars(cartpole).copy()
    change.set(3.5)
    assert getattr(cartpole, parameter) == 3.5
    assert cartpole.total_mass == cartpole.masscart + cartpole.masspole
    assert cartpole.polemass_length == cartpole.masspole * cartpole.length
    change.set(change.original)
    assert vars(cartpole) == before


def pendulum_step(angle: float, speed: float, torque: float, **constants: float) -> tuple[np.ndarray, float]:
    c = {"g": 10.0, "m": 1.0, "l": 1.0, "dt": 0.05} | constants
    cost = angle**2 + 0.1 * speed**2 + 0.001 * torque**2
    speed += (3 * c["g"] / (2 * c["l"]) * np.sin(angle) + 3 / (c["m"] * c["l"] ** 2) * torque) * c["dt"]
    angle += speed * c["dt"]
    return np.array([np.cos(angle), np.sin(angle), speed]), -cost


@pytest.mark.parametrize(("parameter", "value"), [("g", 4.0), ("m", 2.5), ("l", 0.7), ("dt", 0.02)])
def test_pendulum_steps_as_computed_by_hand(parameter: str, value: float) -> None:
    change, env = bind(Pendulum(parameter=parameter), "Pendulum-v1")
    env.reset(seed=0)
    change.set(value)
    env.unwrapped.state = np.array([0.3, -0.2])
    observation, reward, *_ = env.step(np.array([1.5], np.float32))
    expected, expected_reward = pendulum_step(0.3, -0.2, 1.5, **{parameter: value})
    np.testing.assert_allclose(observation, expected, rtol=1e-6)
    assert reward == pytest.approx(expected_reward)


@pytest.mark.parametrize("max_torque", [0.5, 6.0])
def test_the_full_action_is_the_full_torque(max_torque: float) -> None:
    tasks = Tasks(Periodic(period=100), {"torque": Pendulum(parameter="max_torque", values=(max_torque,))})
    env = make_env("Pendulum-v1", tasks)
    assert env.action_space == make_plain_env("Pendulum-v1").action_space
    env.reset(seed=0)
    env.unwrapped.state = np.array([0.3, -0.2])
    observation, *_ = env.step(np.array([2.0], np.float32))
    np.testing.assert_allclose(observation, pendulum_step(0.3, -0.2, max_torque)[0], rtol=1e-6)


def test_a_signed_permutation_by_hand() -> None:
    change, _ = bind(ObservationPermutation(), "Pendulum-v1")
    change.set([-3, 1, 2])
    given_ = np.array([0.1, 0.2, 0.3], np.float32)
    seen = change.observation(given_)
    np.testing.assert_array_equal(seen, np.array([-0.3, 0.1, 0.2], np.float32))
    assert seen.dtype == np.float32
    assert not np.shares_memory(seen, given_)


def test_permutations_are_never_the_original_and_stay_in_their_space() -> None:
    rng = np.random.default_rng(0)
    for signs, low in ((True, -8), (False, -8)):
        change, env = bind(ObservationPermutation(signs=signs), "Pendulum-v1")
        space = change.observation_space(env.observation_space)
        assert space.dtype == np.float32
        np.testing.assert_array_equal([space.low, space.high], [[low] * 3, [8] * 3])
        for _ in range(200):
            value = change.sample(rng)
            assert sorted(map(abs, value)) == [1, 2, 3]
            assert value != change.original
            assert signs or min(value) > 0
            change.set(value)
            assert space.contains(change.observation(env.observation_space.sample()))


def test_rotations_by_hand() -> None:
    change, _ = bind(ObservationRotation(), "HalfCheetah-v5")
    rng = np.random.default_rng(0)
    observation = rng.normal(size=17)
    for _ in range(10):
        value = change.sample(rng)
        matrix = change.matrix(value)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(17), atol=1e-12)
        assert np.linalg.det(matrix) == pytest.approx(1)
        change.set(value)
        np.testing.assert_allclose(change.observation(observation), matrix @ observation)
    change.set(0)
    assert change.observation(observation) is observation


def test_rotations_are_uniform_and_stay_in_their_space() -> None:
    change, env = bind(ObservationRotation(), "Pendulum-v1")
    space = change.observation_space(env.observation_space)
    np.testing.assert_allclose(space.high, np.sqrt(1 + 1 + 64), rtol=2e-6)
    rng = np.random.default_rng(0)
    rotations = np.array([change.matrix(change.sample(rng)) for _ in range(2000)])
    # Haar measure: entries have mean 0, variance 1/n; the trace of SO(3) has mean 0 and variance 1.
    np.testing.assert_allclose(rotations.mean(0), 0, atol=0.06)
    np.testing.assert_allclose((rotations**2).mean(0), 1 / 3, atol=0.04)
    assert np.trace(rotations, axis1=1, axis2=2).var() == pytest.approx(1, abs=0.1)
    corner = env.observation_space.high
    for value in range(1, 100):
        change.set(value)
        seen = change.observation(corner)
        assert seen.dtype == np.float32
        assert space.contains(seen)


def test_actions_are_exchanged() -> None:
    change, _ = bind(ActionPermutation(), "Acrobot-v1")
    change.set([2, 0, 1])
    assert [change.action(np.int64(action)) for action in range(3)] == [2, 0, 1]
    assert change.action(-1) == -1
    change, _ = bind(ActionPermutation(), "HalfCheetah-v5")
    change.set([5, 4, 3, 2, 1, 0])
    action = np.arange(6, dtype=np.float32)
    np.testing.assert_array_equal(change.action(action), action[::-1])


def test_actions_are_exchanged_as_often_as_asked() -> None:
    rng = np.random.default_rng(0)
    always, _ = bind(ActionPermutation(), "Acrobot-v1")
    assert all(always.sample(rng) != [0, 1, 2] for _ in range(100))
    half, _ = bind(ActionPermutation(probability=0.5), "CartPole-v1")
    assert np.mean([half.sample(rng) == [1, 0] for _ in range(2000)]) == pytest.approx(0.5, abs=0.04)


def test_the_reward_is_multiplied() -> None:
    change = RewardScale()
    change.set(-0.5)
    assert change.reward(np.float64(3.0), {}, False) == -1.5
    change.set(1.0)
    assert change.reward(3, {}, False) == 3


class FloorFriction(ScalarChange):
    """Lowers the friction of the floor alone, which contacts with the robot do not notice."""

    own = None

    def bind(self, env: gym.Env, space: gym.Space | None = None) -> None:
        super().bind(env, space)
        self.own = 0.4

    def set(self, value: float) -> None:
        self.env.unwrapped.model.geom("floor").friction[0] = value


def test_verify_finds_changes_that_do_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envs.verify.TRANSITIONS", (100, 400))
    tasks = Tasks(Periodic(period=100), {"real": MujocoFriction(), "floor": FloorFriction(low=0.05, high=0.3)})
    with pytest.raises(
        VerificationError, match=r"floor does nothing in HalfCheetah-v5: in task 1 \(floor friction 0\."
    ):
        verify("HalfCheetah-v5", tasks, 200)
    with pytest.raises(VerificationError, match="gravity does nothing in Swimmer-v5"):
        verify("Swimmer-v5", Tasks(Periodic(period=100), {"gravity": MujocoGravity()}), 200)


def test_verify_looks_ahead_of_a_drift_and_not_beyond_the_run() -> None:
    change = {"mass": Pendulum()}
    assert [row.task for row in verify("Pendulum-v1", Tasks(Drift(period=1000), change), 500)] == [0]
    assert verify("Pendulum-v1", Tasks(Periodic(period=1000), change), 1000) == []
    assert len(verify("Pendulum-v1", Tasks(Periodic(period=10), change), 10**6)) == 8


@pytest.mark.parametrize(
    ("change", "env_id", "message"),
    [
        (MujocoGravity(), "CartPole-v1", "mujoco_gravity does not fit CartPole-v1: it needs a MuJoCo environment"),
        (MujocoGravity(), "Pusher-v5", "it needs an environment that has gravity"),
        (Cartpole(), "Pendulum-v1", "cartpole does not fit Pendulum-v1: it needs CartPole, such as CartPole-v1"),
        (Pendulum(), "CartPole-v1", "pendulum does not fit CartPole-v1: it needs Pendulum, such as Pendulum-v1"),
        (ActionPermutation(), "Pendulum-v1", "it needs discrete actions, or two or more continuous ones"),
        (ActionPermutation(), "Humanoid-v5", None),
        (
            ObservationPermutation(),
            "FrozenLake-v1",
            "observation_permutation does not fit FrozenLake-v1: it needs a vec",
        ),
        (ObservationRotation(), "FrozenLake-v1", "it needs a vector of two or more floating numbers"),
    ],
)
def test_changes_say_what_they_fit(change: Change, env_id: str, message: str | None) -> None:
    if message is None:
        bind(change, env_id)
        return
    with pytest.raises(ChangeError, match=message):
        bind(change, env_id)
