"""MuJoCo's own messages as Python warnings.

Left alone, MuJoCo prints its warnings to the terminal and appends them to a file MUJOCO_LOG.TXT in the current folder,
for every model that it compiles and in every process. Here each kind of message becomes one Python warning a process,
and one that says nothing to the user (Gymnasium's HalfCheetah uses a deprecated attribute in its own model) is dropped.
"""

import re
import sys
import warnings

import mujoco

HARMLESS = "compiler attribute 'settotalmass' is deprecated"

_told: set[str] = set()


def redirect() -> None:
    """Route MuJoCo's warnings through `warnings`, unless the program has installed a handler of its own."""
    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(_warn)


def _warn(message: str) -> None:
    # Numbers (of the joint, of the second) do not make it another message.
    kind = re.sub(r"[\d.]+", "", message)
    if message.startswith(HARMLESS) or kind in _told:
        return
    _told.add(kind)
    try:
        warnings.warn(f"MuJoCo: {message}", RuntimeWarning, stacklevel=2)
    except RuntimeWarning as error:
        # Where warnings are made errors: MuJoCo aborts the whole process on an exception in its handler.
        print(error, file=sys.stderr)
