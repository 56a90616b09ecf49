"""The constants of the classic-control environments, against equations of motion written down here."""

import copy
import math
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from configs.settings import SettingError
from envs import NonStationary, Tasks, make_plain_env
from envs.changes.base import Change, ChangeError
from envs.changes.classic import Acrobot, Cartpole, Constant, MountainCar, Pendulum
from envs.changes.observations import ObservationPermutation
from envs.schedules import Drift, Periodic
from envs.verify import verify

CONTINUOUS = "MountainCarContinuous-v0"
ALL = [
    *[(Cartpole, "CartPole-v1", name) for name in ("gravity", "masscart", "masspole", "length", "force_mag", "tau")],
    *[(Cartpole, "CartPole-v1", name) for name in ("x_threshold", "theta_threshold_radians")],
    *[(Pendulum, "Pendulum-v1", name) for name in ("g", "m", "l", "dt", "max_torque")],
    *[(Acrobot, "Acrobot-v1", name) for name in ("link_length_1", "link_mass_1", "link_mass_2", "link_com_pos_1")],
    *[(Acrobot, "Acrobot-v1", name) for name in ("link_com_pos_2", "link_moi", "torque", "torque_noise_max", "dt")],
    *[(MountainCar, "MountainCar-v0", name) for name in ("gravity", "force")],
    *[(MountainCar, "MountainCar-v0", name) for name in ("goal_position", "goal_velocity", "max_speed")],
    *[(MountainCar, CONTINUOUS, name) for name in ("force", "goal_position", "goal_velocity", "max_speed")],
]
UNSEEN_BY_RANDOM_AGENTS = {"x_threshold", "goal_position", "goal_velocity", "max_speed"}


def bind(change: Change, env_id: str) -> tuple[Change, gym.Env]:
    env = make_plain_env(env_id)
    change.bind(env)
    return change, env


def another(change: Constant) -> float:
    """A value that is not the environment's own."""
    low, high = change.bounds()
    return low + 0.8 * (high - low)


def cartpole_step(state: list[float], push: float, **constants: float) -> list[float]:
    """Euler's step of Barto, Sutton and Anderson's (1983) cart and pole, without friction."""
    c = {"gravity": 9.8, "masscart": 1.0, "masspole": 0.1, "length": 0.5, "force_mag": 10.0, "tau": 0.02} | constants
    x, v, angle, spin = state
    total, sin, cos = c["masscart"] + c["masspole"], math.sin(angle), math.cos(angle)
    force = push * c["force_mag"]
    moment = c["masspole"] * c["length"]
    alpha = (c["gravity"] * sin + cos * (-force - moment * spin**2 * sin) / total) / (
        c["length"] * (4 / 3 - c["masspole"] * cos**2 / total)
    )
    a = (force + moment * (spin**2 * sin - alpha * cos)) / total
    return [x + c["tau"] * v, v + c["tau"] * a, angle + c["tau"] * spin, spin + c["tau"] * alpha]


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *[("gravity", 3.0), ("gravity", -2.0), ("masscart", 2.5), ("masspole", 0.7), ("length", 1.3)],
        *[("force_mag", 4.0), ("force_mag", -10.0), ("tau", 0.05)],
    ],
)
def test_cartpole_steps_as_computed_by_hand(parameter: str, value: float) -> None:
    change, env = bind(Cartpole(parameter=parameter), "CartPole-v1")
    env.reset(seed=0)
    state = [0.1, -0.3, 0.08, 0.6]
    for number, constants in ((value, {parameter: value}), (change.original, {})):
        change.set(number)
        for action, push in ((1, 1.0), (0, -1.0)):
            env.unwrapped.state = np.array(state)
            observation, *_ = env.step(action)
            np.testing.assert_allclose(observation, cartpole_step(state, push, **constants), rtol=1e-6)


@pytest.mark.parametrize(
    ("parameter", "component", "own", "value"),
    [
        *[("x_threshold", 0, 2.4, value) for value in (1.0, 9.0)],
        *[("theta_threshold_radians", 2, math.radians(12), value) for value in (0.1, 0.9)],
    ],
)
@pytest.mark.filterwarnings("ignore:.*not within the observation space")
def test_cartpole_ends_at_its_limits(parameter: str, component: int, own: float, value: float) -> None:
    change, env = bind(Cartpole(parameter=parameter, values=(value,)), "CartPole-v1")
    space = change.observation_space(env.observation_space)
    for number, limit in ((value, value), (change.original, own)):
        change.set(number)
        for distance, ends in ((0.99, False), (1.01, True)):
            for side in (-1, 1):
                env.reset(seed=0)
                state = np.zeros(4)
                state[component] = side * distance * limit
                env.unwrapped.state = state
                observation, _, terminated, *_ = env.step(0)
                assert terminated is ends
                assert space.contains(observation)
    if value < own:
        assert space is env.observation_space
    else:
        high = env.observation_space.high.copy()
        high[component] = 2 * value
        np.testing.assert_array_equal([space.low, space.high], [-high, high])


def acrobot_step(state: list[float], torque: float, **constants: float) -> np.ndarray:
    """One Runge-Kutta step of the double pendulum: its mass matrix times accelerations equals the other torques."""
    c = dict.fromkeys(["l1", "m1", "m2", "moi"], 1.0) | {"c1": 0.5, "c2": 0.5, "dt": 0.2} | constants

    def slope(y: np.ndarray) -> np.ndarray:
        first, second, spin1, spin2 = y
        coupling = c["m2"] * c["l1"] * c["c2"]
        inner = c["m2"] * c["c2"] ** 2 + c["moi"]
        corner = inner + coupling * np.cos(second)
        outer = c["m1"] * c["c1"] ** 2 + c["moi"] + c["m2"] * c["l1"] ** 2 + inner + 2 * coupling * np.cos(second)
        weight2 = 9.8 * c["m2"] * c["c2"] * np.sin(first + second)
        weight1 = 9.8 * (c["m1"] * c["c1"] + c["m2"] * c["l1"]) * np.sin(first) + weight2
        swing = coupling * np.sin(second)
        forces = [
            swing * spin2 * (2 * spin1 + spin2) - weight1,
            torque - swing * spin1**2 - weight2,
        ]
        return np.append([spin1, spin2], np.linalg.solve([[outer, corner], [corner, inner]], forces))

    y, dt = np.array(state), c["dt"]
    k1 = slope(y)
    k2 = slope(y + dt / 2 * k1)
    k3 = slope(y + dt / 2 * k2)
    k4 = slope(y + dt * k3)
    y = y + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return np.array([np.cos(y[0]), np.sin(y[0]), np.cos(y[1]), np.sin(y[1]), y[2], y[3]])


ACROBOT_STATE = [0.4, -0.7, 0.9, -1.1]


@pytest.mark.parametrize(
    ("parameter", "symbol", "value"),
    [
        *[("link_length_1", "l1", 1.7), ("link_mass_1", "m1", 0.4), ("link_mass_2", "m2", 2.2), ("dt", "dt", 0.1)],
        *[("link_com_pos_1", "c1", 0.8), ("link_com_pos_2", "c2", 0.3), ("link_moi", "moi", 1.9)],
    ],
)
def test_acrobot_steps_as_computed_by_hand(parameter: str, symbol: str, value: float) -> None:
    change, env = bind(Acrobot(parameter=parameter), "Acrobot-v1")
    env.reset(seed=0)
    for number, constants in ((value, {symbol: value}), (change.original, {})):
        change.set(number)
        env.unwrapped.state = np.array(ACROBOT_STATE)
        observation, *_ = env.step(2)
        np.testing.assert_allclose(observation, acrobot_step(ACROBOT_STATE, 1.0, **constants), rtol=1e-5)


@pytest.mark.parametrize("value", [0.3, 2.5, -1.0, 0.0])
def test_acrobot_turns_with_the_torque(value: float) -> None:
    change, env = bind(Acrobot(parameter="torque"), "Acrobot-v1")
    env.reset(seed=0)
    change.set(value)
    for action, sign in enumerate((-1, 0, 1)):
        env.unwrapped.state = np.array(ACROBOT_STATE)
        observation, *_ = env.step(action)
        np.testing.assert_allclose(observation, acrobot_step(ACROBOT_STATE, sign * value), rtol=1e-5)


def test_acrobot_has_noise_of_its_own() -> None:
    env = make_plain_env("Acrobot-v1")
    noise, torque = Acrobot(parameter="torque_noise_max"), Acrobot(parameter="torque")
    noise.bind(env)
    torque.bind(env)
    assert noise.bounds() == (0.0, 1.0)
    env.reset(seed=0)
    before = env.unwrapped.np_random.bit_generator.state
    noise.seed(np.random.default_rng(7))
    draws = np.random.default_rng(7)

    def check(size: float, strength: float) -> None:
        for action, sign in ((2, 1), (2, 1), (0, -1), (1, 0)):
            env.unwrapped.state = np.array(ACROBOT_STATE)
            observation, *_ = env.step(noise.action(action))
            expected = sign * strength + (draws.uniform(-size, size) if size else 0.0)
            np.testing.assert_allclose(observation, acrobot_step(ACROBOT_STATE, expected), rtol=1e-5)

    noise.set(0.8)
    check(0.8, 1.0)
    torque.set(3.0)
    check(0.8, 3.0)
    noise.set(0.2)
    check(0.2, 3.0)
    torque.set(torque.original)
    check(0.2, 1.0)
    torque.set(0.5)
    noise.set(noise.original)
    check(0.0, 0.5)
    torque.set(torque.original)
    check(0.0, 1.0)
    assert env.unwrapped.np_random.bit_generator.state == before
    assert not {"AVAIL_TORQUE", "torque_noise_max"} & set(vars(env.unwrapped))


def car_step(position: float, velocity: float, push: float, **constants: float) -> tuple[float, float]:
    """Moore's (1990) car on a hill; at most `max_speed` fast."""
    c = {"gravity": 0.0025, "max_speed": 0.07} | constants
    velocity += push - c["gravity"] * math.cos(3 * position)
    velocity = min(max(velocity, -c["max_speed"]), c["max_speed"])
    return position + velocity, velocity


@pytest.mark.parametrize(("parameter", "value"), [("gravity", 0.004), ("force", 0.0004), ("max_speed", 0.02)])
@pytest.mark.parametrize("env_id", ["MountainCar-v0", CONTINUOUS])
def test_cars_step_as_computed_by_hand(env_id: str, parameter: str, value: float) -> None:
    if env_id == CONTINUOUS and parameter == "gravity":
        pytest.skip("a fixed number there")
    change, env = bind(MountainCar(parameter=parameter), env_id)
    env.reset(seed=0)
    full, own = (np.array([1.0], np.float32), 0.0015) if env_id == CONTINUOUS else (2, 0.001)
    for number, constants in ((value, {parameter: value}), (change.original, {})):
        change.set(number)
        force = constants.pop("force", own)
        for position, velocity in ((-0.3, 0.01), (0.1, 0.06)):
            env.unwrapped.state = np.array([position, velocity])
            observation, *_ = env.step(full)
            np.testing.assert_allclose(observation, car_step(position, velocity, force, **constants), rtol=1e-5)


@pytest.mark.parametrize("env_id", ["MountainCar-v0", CONTINUOUS])
def test_cars_end_at_their_goal(env_id: str) -> None:
    still = np.array([0.0], np.float32) if env_id == CONTINUOUS else 1

    def ends(position: float, velocity: float) -> bool:
        env.reset(seed=0)
        env.unwrapped.state = np.array([position, velocity])
        return env.step(still)[2]

    change, env = bind(MountainCar(parameter="goal_position"), env_id)
    own = 0.45 if env_id == CONTINUOUS else 0.5
    assert change.original == own
    assert change.bounds() == (own / 2, 0.6)
    for goal in (0.2, 0.6, own):
        change.set(goal)
        assert [ends(goal - 0.05, 0.03), ends(goal - 0.005, 0.03)] == [False, True]
    change, env = bind(MountainCar(parameter="goal_velocity"), env_id)
    assert change.bounds() == (0.0, 0.03)
    change.set(0.025)
    assert [ends(own - 0.01, 0.02), ends(own - 0.01, 0.03)] == [False, True]
    change.set(0)
    assert ends(own - 0.01, 0.02)


def test_a_goal_is_on_the_track_also_as_a_factor() -> None:
    for env_id in ("MountainCar-v0", CONTINUOUS):
        change, _ = bind(MountainCar(parameter="goal_position", mode="factor"), env_id)
        assert change.absolute(change.bounds()[1]) == pytest.approx(0.6)
        assert change.absolute(change.bounds()[1]) <= 0.6
        change.check(1.1)
        with pytest.raises(ChangeError, match=r"goal_position must be at most 0\.6"):
            change.check(1.5)


@pytest.mark.parametrize(("kind", "env_id", "parameter"), ALL)
def test_the_original_restores_everything(kind: type[Constant], env_id: str, parameter: str) -> None:
    plain = make_plain_env(env_id)
    change, env = bind(kind(parameter=parameter), env_id)
    assert change.writes() == {change.attribute}
    attributes = {name: id(value) for name, value in vars(env.unwrapped).items()}
    values = {name: getattr(env.unwrapped, name) for name in dir(env.unwrapped) if name.isupper() or name == "dt"}
    change.set(another(change))
    env.action_space.seed(0)
    env.reset(seed=0)
    for _ in range(5):
        env.step(change.action(env.action_space.sample()))
    change.set(change.original)
    state = ("state", "_np_random", "_np_random_seed", "steps_beyond_terminated", "last_u")
    for name in state:
        attributes.pop(name, None)
    after = {name: id(value) for name, value in vars(env.unwrapped).items() if name not in state}
    # Sums and products of CartPole are computed anew.
    for name in ("total_mass", "polemass_length"):
        if name in attributes:
            attributes.pop(name), after.pop(name)
            assert getattr(env.unwrapped, name) == getattr(plain.unwrapped, name)
    assert after == attributes
    assert values == {name: getattr(env.unwrapped, name) for name in values}
    action = env.action_space.sample()
    assert change.action(action) is action
    for each in (plain, env):
        each.action_space.seed(1)
        each.reset(seed=3)
    for _ in range(60):
        action = plain.action_space.sample()
        ours, theirs = env.step(change.action(action)), plain.step(action)
        np.testing.assert_array_equal(ours[0], theirs[0])
        assert ours[1:] == theirs[1:]
        if theirs[2]:
            plain.reset()
            env.reset()


def test_an_instances_own_attribute_is_restored_as_it_was() -> None:
    env = make_plain_env("Acrobot-v1")
    torques = [-2, 0, 1]
    env.unwrapped.LINK_MASS_1, env.unwrapped.AVAIL_TORQUE = 3, torques
    mass, torque = Acrobot(parameter="link_mass_1"), Acrobot(parameter="torque")
    mass.bind(env)
    torque.bind(env)
    assert (mass.original, torque.original) == (3.0, 2)
    mass.set(1.0)
    torque.set(4.0)
    assert env.unwrapped.AVAIL_TORQUE == [-4, 0, 2]
    mass.set(3.0)
    torque.set(2)
    assert type(env.unwrapped.LINK_MASS_1) is int
    assert env.unwrapped.AVAIL_TORQUE is torques


@pytest.mark.parametrize(("kind", "env_id", "parameter"), ALL)
def test_every_constant_has_an_effect(kind: type[Constant], env_id: str, parameter: str) -> None:
    settings = {}
    if parameter in UNSEEN_BY_RANDOM_AGENTS:
        settings = {
            "x_threshold": {"low": 0.06, "high": 0.12},
            "goal_position": {"low": -0.39, "high": -0.35},
            "max_speed": {"low": 0.001, "high": 0.002},
            # At the original's goal no random agent arrives at all.
            "goal_velocity": None,
        }[parameter]
    if settings is None:
        pytest.skip("see test_cars_end_at_their_goal")
    rows = verify(env_id, Tasks(Periodic(period=100), {"change": kind(parameter=parameter, **settings)}, seed=1), 300)
    assert [row.task for row in rows] == [1, 2]
    assert all(row.effect > 0 for row in rows)


@pytest.mark.parametrize(
    ("change", "env_id"),
    [
        (Cartpole(parameter="theta_threshold_radians", low=0.5, high=1.0), "CartPole-v1"),
        (Acrobot(), "Acrobot-v1"),
        (Acrobot(parameter="torque_noise_max"), "Acrobot-v1"),
        (MountainCar(), "MountainCar-v0"),
        (MountainCar(parameter="max_speed", low=0.1, high=0.2), CONTINUOUS),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_changed_environments_are_sound(change: Constant, env_id: str) -> None:
    env = NonStationary(make_plain_env(env_id), Tasks(Periodic(period=10**6, first="drawn"), {"change": change}))
    gymnasium_check_env(env, skip_render_check=True)
    sb3_check_env(env)


@pytest.mark.filterwarnings("ignore:.*not within the observation space")
def test_faster_cars_stay_in_their_space() -> None:
    change = MountainCar(parameter="max_speed", values=(0.3,))
    env = NonStationary(make_plain_env("MountainCar-v0"), Tasks(Periodic(period=10**6, first="drawn"), {"c": change}))
    np.testing.assert_array_equal(env.observation_space.high, np.array([0.6, 0.3], np.float32))
    np.testing.assert_array_equal(env.observation_space.low, np.array([-1.2, -0.3], np.float32))
    env.reset(seed=0)
    env.unwrapped.state = np.array([-0.5, 0.5])
    observation, *_ = env.step(2)
    assert observation[1] == np.float32(0.3)
    assert env.observation_space.contains(observation)


def test_wider_observations_go_before_changes_of_observations() -> None:
    wide = Cartpole(parameter="x_threshold", high=5.0)
    wider = Cartpole(parameter="theta_threshold_radians", high=1.0)
    schedule, env = Periodic(period=5), make_plain_env("CartPole-v1")
    permuted = ObservationPermutation()
    bound = Tasks(schedule, {"a": wide, "b": wider, "c": permuted}).bind(env)
    space = bound.changes["b"].observation_space(bound.changes["a"].observation_space(env.observation_space))
    np.testing.assert_array_equal(space.high, np.array([10, np.inf, 2, np.inf], np.float32))
    with pytest.raises(ChangeError, match="cartpole makes the bounds of observations wider; list it before"):
        Tasks(schedule, {"c": permuted, "a": wide}).bind(env)
    Tasks(schedule, {"c": permuted, "a": Cartpole(parameter="x_threshold", low=1.0, high=2.0)}).bind(env)


def test_two_changes_of_one_constant_are_refused() -> None:
    env = make_plain_env("CartPole-v1")
    with pytest.raises(ChangeError, match="a and b both change length"):
        Tasks(Periodic(period=5), {"a": Cartpole(), "b": Cartpole()}).bind(env)
    bound = Tasks(Periodic(period=5), {"a": Cartpole(), "b": Cartpole(parameter="masspole")}).bind(env)
    bound.changes["a"].set(2.0)
    bound.changes["b"].set(0.3)
    assert env.unwrapped.polemass_length == 0.3 * 2.0
    bound.changes["a"].set(0.5)
    assert env.unwrapped.polemass_length == 0.3 * 0.5


@pytest.mark.parametrize(("kind", "env_id", "parameter"), ALL)
def test_copies_leave_the_environment_behind(kind: type[Constant], env_id: str, parameter: str) -> None:
    change, env = bind(kind(parameter=parameter), env_id)
    change.set(another(change))
    for copied in (copy.deepcopy(change), pickle.loads(pickle.dumps(change))):
        assert copied.env is None
        assert "_unwrapped" not in vars(copied)
        assert (copied.original, copied.bounds()) == (change.original, change.bounds())
        assert copied.describe(copied.original) == f"{parameter} original"
        rng, again = np.random.default_rng(0), np.random.default_rng(0)
        assert copied.sample(rng) == change.sample(again)
    change.set(change.original)
    again, _ = bind(copy.deepcopy(change), env_id)
    again.set(another(again))
    assert env.unwrapped is not again._unwrapped


def test_constants_drift() -> None:
    env = make_plain_env("Acrobot-v1")
    tasks = Tasks(Drift(period=10), {"a": Acrobot(parameter="torque", values=(2.0, 4.0), then="hold")}).bind(env)
    assert tasks.values(5) == {"a": pytest.approx(3.0)}
    Tasks(Drift(period=10), {"a": Acrobot(parameter="torque_noise_max")}).bind(env)


@pytest.mark.parametrize(
    ("change", "env_id", "message"),
    [
        (Cartpole(), "Acrobot-v1", "cartpole does not fit Acrobot-v1: it needs CartPole, such as CartPole-v1"),
        (Pendulum(), "CartPole-v1", "pendulum does not fit CartPole-v1: it needs Pendulum, such as Pendulum-v1"),
        (Acrobot(), "CartPole-v1", "acrobot does not fit CartPole-v1: it needs Acrobot, such as Acrobot-v1"),
        (MountainCar(), "CartPole-v1", "mountain_car does not fit CartPole-v1: it needs MountainCar, such as Mount"),
        (MountainCar(parameter="gravity"), CONTINUOUS, "it needs MountainCar with discrete actions to change gravity"),
        (
            MountainCar(parameter="goal_position", values=(0.5, 0.7)),
            "MountainCar-v0",
            "mountain_car: goal_position must be at most 0.6, not 0.7",
        ),
        (
            MountainCar(parameter="goal_velocity", high=0.1),
            "MountainCar-v0",
            "mountain_car: goal_velocity must be at most 0.07, not 0.1",
        ),
        (
            Acrobot(parameter="torque_noise_max", mode="factor"),
            "Acrobot-v1",
            "acrobot cannot multiply torque_noise_max, because it is 0 in this environment; choose mode absolute",
        ),
        (
            MountainCar(parameter="goal_velocity", low=0.05),
            "MountainCar-v0",
            "mountain_car needs other bounds than 0.05 to 0.03 for draw uniform",
        ),
    ],
)
def test_constants_say_what_they_fit(change: Constant, env_id: str, message: str) -> None:
    with pytest.raises(ChangeError, match=message):
        bind(change, env_id)


def test_constants_say_what_they_can_be() -> None:
    with pytest.raises(SettingError, match=r"Acrobot: parameter must be one of .*, not 'link_mass'; did you mean"):
        Acrobot(parameter="link_mass")
    with pytest.raises(SettingError, match="low must be above 0 for link_moi, not 0"):
        Acrobot(parameter="link_moi", low=0)
    with pytest.raises(SettingError, match="low must be at least 0 for goal_velocity, not -1"):
        MountainCar(parameter="goal_velocity", low=-1)
    change, _ = bind(Acrobot(parameter="torque_noise_max"), "Acrobot-v1")
    with pytest.raises(ChangeError, match=r"acrobot: torque_noise_max must be at least 0, not -0\.1"):
        change.check(-0.1)
    change.check(0)
    change, _ = bind(Cartpole(parameter="x_threshold", high=3.0), "CartPole-v1")
    change.check(3.0)
    with pytest.raises(ChangeError, match=r"x_threshold must be at most 3, not 3\.1, because it bounds observations"):
        change.check(3.1)
    with pytest.raises(ChangeError, match="cartpole: x_threshold must be above 0, not 0"):
        change.check(0)
