"""MuJoCo's simulations as arrays.

What a step leads to depends on what MuJoCo itself calls the state. But observations and rewards are also made of what a
step computed on its way, such as positions of bodies, which are those of the state a substep before. So all arrays of
floating numbers are kept whose size the model alone determines. Contacts and constraints are found anew by every step,
and so are whole numbers, which say where in memory something is and are not to be taken from a file.
"""

import zlib
from typing import Any

import mujoco
import numpy as np

SLEEP = int(getattr(mujoco.mjtEnableBit, "mjENBL_SLEEP", 0))
KINDS = "fb"
"""Kinds of arrays that are kept: floating numbers, and what is on or off."""
_lasting: dict[int, list[str]] = {}


def read(data: Any) -> dict[str, Any]:
    """The time and all lasting arrays of an `MjData`."""
    return {"time": float(data.time)} | {name: getattr(data, name).copy() for name in lasting(data)}


def write(data: Any, tree: dict[str, Any]) -> None:
    """Bring what `read` gave into the `MjData` of an equal model.

    Raises:
        ValueError: the model is another one.
    """
    names = lasting(data)
    if set(tree) != {"time", *names} or any(getattr(data, name).shape != np.shape(tree[name]) for name in names):
        raise ValueError("the snapshot is of another MuJoCo model, or of another version of MuJoCo")
    data.time = tree["time"]
    for name in names:
        getattr(data, name)[...] = tree[name]


def lasting(data: Any) -> list[str]:
    """The names of the arrays in which something remains between two steps.

    The others, of contacts and constraints, have another shape at each step, and are empty where nothing was simulated.
    """
    model = data.model
    if model.signature not in _lasting:
        untouched = mujoco.MjData(model)
        arrays = {name: getattr(untouched, name) for name in dir(untouched) if not name.startswith("_")}
        _lasting[model.signature] = [
            name
            for name, array in arrays.items()
            if isinstance(array, np.ndarray) and array.size > 0 and array.dtype.kind in KINDS
        ]
    return _lasting[model.signature]


def obstacle(model: Any) -> str | None:
    """Why simulations of a model cannot be read; None where they can."""
    if model.nplugin:
        return "its simulation has plugins, whose state cannot be read"
    return "its simulation lets bodies sleep" if model.opt.enableflags & SLEEP else None


def checksum(model: Any) -> int:
    """A number that tells the physics of one `MjModel` from those of another."""
    saved = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, saved)
    return zlib.crc32(saved.tobytes())
