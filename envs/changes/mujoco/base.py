"""What changes of a MuJoCo model have in common: finding the model, naming its parts, and what is derived from it."""

from collections import Counter
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, ClassVar, Literal

import gymnasium as gym
import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from configs.settings import SettingError, did_you_mean
from envs.changes.base import Change, ChangeError, ScalarChange

ALL = ("all",)
"""In place of names: whatever the change can be made to."""
PARTS = {
    "body": (mujoco.mjtObj.mjOBJ_BODY, "nbody"),
    "geom": (mujoco.mjtObj.mjOBJ_GEOM, "ngeom"),
    "joint": (mujoco.mjtObj.mjOBJ_JOINT, "njnt"),
    "actuator": (mujoco.mjtObj.mjOBJ_ACTUATOR, "nu"),
}
DRIVEN = {
    int(mujoco.mjtTrn.mjTRN_JOINT): mujoco.mjtObj.mjOBJ_JOINT,
    int(mujoco.mjtTrn.mjTRN_JOINTINPARENT): mujoco.mjtObj.mjOBJ_JOINT,
    int(mujoco.mjtTrn.mjTRN_TENDON): mujoco.mjtObj.mjOBJ_TENDON,
    int(mujoco.mjtTrn.mjTRN_SITE): mujoco.mjtObj.mjOBJ_SITE,
    int(mujoco.mjtTrn.mjTRN_BODY): mujoco.mjtObj.mjOBJ_BODY,
}
SOURCES = ("body_mass", "body_inertia", "dof_armature", "actuator_gear")
"""Fields that changes write, and from which the compiler derives others."""
CONSTANTS = (
    "body_subtreemass",
    "body_invweight0",
    "dof_M0",
    "dof_invweight0",
    "tendon_invweight0",
    "flexedge_invweight0",
    "actuator_acc0",
    "actuator_length0",
    "cam_poscom0",
    "light_poscom0",
)
"""What it derives from them."""


class Constants:
    """What MuJoCo's compiler derives from masses, inertias, armatures and gears, kept in step with them.

    The statistics of the model (`stat`) are not among it: they scale the tolerance of the solver, and stay.

    Args:
        model: the live model, before anything in it is changed.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        # mj_setConst overwrites the state that it is given: that of the simulation would jump.
        self._scratch = mujoco.MjData(model)
        self._sources = {name: np.array(getattr(model, name)) for name in SOURCES}
        self._constants = {name: np.array(getattr(model, name)) for name in CONSTANTS if hasattr(model, name)}

    def refresh(self) -> None:
        """Derive them anew; where no source is changed any more, they are what they were to the last bit."""
        if any(not np.array_equal(getattr(self._model, name), own) for name, own in self._sources.items()):
            mujoco.mj_setConst(self._model, self._scratch)
            return
        for name, own in self._constants.items():
            getattr(self._model, name)[:] = own


@dataclass(kw_only=True)
class MujocoChange(Change):
    """Base of the changes of a MuJoCo model."""

    live = Change.live | {"_model", "_constants"}
    fields: ClassVar[tuple[str, ...]]
    """Fields of `MjModel` that `set` writes to, with a dot for those of its options."""
    derived: ClassVar[bool] = False
    """Whether constants that the compiler derived from the fields are derived anew after it."""

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Find the environment's model."""
        super().bind(env, space)
        model = getattr(env.unwrapped, "model", None)
        if not isinstance(model, mujoco.MjModel):
            raise self.misfit(env, "a MuJoCo environment, such as HalfCheetah-v5")
        self._model = model
        self._constants = Constants(model) if self.derived else None

    def writes(self) -> frozenset[str]:
        """The fields as a whole; subclasses that write to parts of them name these."""
        return frozenset(self.fields)

    def array(self, field: str) -> NDArray[Any]:
        """A field of the live model, to write to."""
        array: NDArray[Any] = attrgetter(field)(self._model)
        return array

    def refresh(self) -> None:
        """Derive anew what is derived from the fields."""
        if self._constants is not None:
            self._constants.refresh()

    def labels(self, kind: str) -> list[str]:
        """What all bodies (geoms, joints, actuators) are called: their names, or else their numbers.

        An actuator without a name is called like the joint (or tendon, site, body) that it drives, as far as that is
        a name for it alone.
        """
        model = self._model
        object_type, size = PARTS[kind]
        found = []
        for number in range(getattr(model, size)):
            name = mujoco.mj_id2name(model, object_type, number)
            driven = DRIVEN.get(int(model.actuator_trntype[number])) if kind == "actuator" else None
            if not name and driven is not None:
                name = mujoco.mj_id2name(model, driven, int(model.actuator_trnid[number, 0]))
            found.append(name or "")
        counts = Counter(found)
        return [name if name and counts[name] == 1 else str(number) for number, name in enumerate(found)]

    def choose(self, kind: str, names: tuple[str, ...], fits: ArrayLike, what: str) -> list[int]:
        """The numbers of the bodies (geoms, joints, actuators) that are named; of all that fit, for `all`.

        Args:
            kind: body, geom, joint or actuator.
            names: their names, as in `labels`.
            fits: for each in the model, whether the change can be made to it.
            what: what those that fit have, to follow "with" or "no".

        Raises:
            ChangeError: nothing is called so, it does not fit, or nothing in the model does.
        """
        assert self.env is not None
        labels, numbers = self.labels(kind), np.flatnonzero(fits).tolist()
        if not numbers:
            raise self.misfit(self.env, f"{'an' if kind == 'actuator' else 'a'} {kind} with {what}")
        if names == ALL:
            return numbers
        allowed = [labels[number] for number in numbers]
        for name in names:
            if name not in allowed:
                problem = f"{kind} {name!r} has no {what}" if name in labels else f"there is no {kind} {name!r}"
                listed = f"choose from {', '.join(allowed)}"
                raise ChangeError(f"{self.name}: {problem}; {listed}{did_you_mean(name, allowed)}")
        return sorted({labels.index(name) for name in names})


@dataclass(kw_only=True)
class MujocoScalar(MujocoChange, ScalarChange):
    """Base of the changes of a MuJoCo model whose value is a number."""

    not_negative: ClassVar[bool] = False
    """Whether the parameter must be at least 0."""

    def _check_sign(self) -> None:
        super()._check_sign()
        given = {"values": self.values or (), "low": (self.low,), "high": (self.high,)} if self.not_negative else {}
        for name, numbers in given.items():
            wrong = next((number for number in numbers if number is not None and number < 0), None)
            if wrong is not None:
                raise SettingError(self, name, f"must be at least 0 for {self.noun}, not {wrong:g}")

    def check(self, value: Any) -> None:
        """Refuse what is no finite number, or not of the sign that it must have."""
        super().check(value)
        if self.not_negative and value < 0:
            raise ChangeError(f"{self.name}: {self.noun} must be at least 0, not {value:g}")

    @property
    def noun(self) -> str:
        """What is changed."""
        return self.name.removeprefix("mujoco_").replace("_", " ")


@dataclass(kw_only=True)
class MujocoParts(MujocoScalar):
    """Base of the changes of one number of several bodies, geoms, joints or actuators.

    As a factor, parts that differ stay different; as an absolute value all of them get the same.
    """

    mode: Literal["absolute", "factor"] = "factor"
    """Whether the values (and low and high) are factors on each part's own number, or that number for all of them."""

    kind: ClassVar[str]
    """Body, geom, joint or actuator."""
    selections: ClassVar[tuple[str, ...]]
    """The settings that hold names."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for selection in self.selections:
            names = tuple(getattr(self, selection))
            setattr(self, selection, names)
            if not names:
                raise SettingError(self, selection, "must name at least one, or be all")

    def bind(self, env: gym.Env[Any, Any], space: gym.Space[Any] | None = None) -> None:
        """Find the parts and read their own numbers."""
        super().bind(env, space)
        self._parts = self.chosen()
        labels = self.labels(self.kind)
        self._written = frozenset(f"{field}[{labels[part]}]" for field in self.fields for part in self._parts)
        self._index = self.index()
        self._pristine = {field: np.array(self.array(field)[self._index]) for field in self.fields}
        numbers = self.numbers()
        self.own = float(numbers[0]) if np.ptp(numbers) == 0 else None
        self.lowest()

    def chosen(self) -> list[int]:
        """The numbers of the parts that are changed."""
        raise NotImplementedError

    def index(self) -> Any:
        """Where the fields hold what is written."""
        return self._parts

    def numbers(self) -> NDArray[Any]:
        """The parts' own numbers, those that an absolute value takes the place of."""
        return self._pristine[self.fields[0]]

    def writes(self) -> frozenset[str]:
        """The parts' entries in the fields."""
        return self._written

    def set(self, value: float | None) -> None:
        """Write the numbers of all chosen parts."""
        for field, own in self._pristine.items():
            changed = own if value is None or self.is_original(value) else self.changed(field, own, value)
            self.array(field)[self._index] = changed
        self.refresh()

    def changed(self, field: str, own: NDArray[Any], value: float) -> ArrayLike:
        """What to write to a field of which the parts have their `own`."""
        return own * value if self.mode == "factor" else value

    @property
    def noun(self) -> str:
        """What is changed, after the names of the first two parts where not all are."""
        names = next((names for selection in self.selections if (names := getattr(self, selection)) != ALL), ())
        first = "+".join(names[:2]) + ("+..." if len(names) > 2 else "")
        return f"{first} {super().noun}".lstrip()
