"""Reading an SB3 model's `.zip` without running anything that stands in it.

SB3 keeps what is no JSON in the file as pickles, and a pickle may run any program when it is loaded. Here only what is
needed to build the networks is unpickled, the two spaces, the policy's class and its arguments, by a loader that knows
names of data types, spaces, nonlinearities, optimisers and policies and refuses every other one. Weights are read by
PyTorch's own restricted loader. What else SB3 has pickled (schedules, buffers, noise) is left out: such a model can be
looked at and asked for actions; to train it on, load it with SB3, from a source that you trust.
"""

import base64
import importlib
import io
import json
import pickle
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sb3_contrib
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from torch import nn

from configs.settings import UsageError

DATA_TYPES = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.random._pickle", "__generator_ctor"),
    ("numpy.random._pickle", "__bit_generator_ctor"),
    ("numpy.random._pcg64", "PCG64"),
    ("numpy.random.bit_generator", "SeedSequence"),
    ("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence"),
    ("collections", "OrderedDict"),
    ("agents.policies", "Architecture"),
}
"""Functions and classes that only make numbers, arrays and settings."""

CLASSES = (spaces.Space, nn.Module, torch.optim.Optimizer)
"""A class that is one of these, in the modules below, may be named."""

MODULES = re.compile(
    r"gymnasium\.spaces\.\w+|torch\.nn\.modules\.\w+|torch\.optim\.\w+|agents\.(policies|modules)|optimizers\.\w+"
    r"|stable_baselines3\.(\w+\.policies|common\.(torch_layers|sb2_compat\.rmsprop_tf_like))|sb3_contrib\.(\w+\.)+policies"
)
"""Where they may stand: a class elsewhere, though one of these, may do more than compute when it is made."""

NEEDED = ("observation_space", "action_space", "policy_class", "policy_kwargs")

KNOWN: dict[str, Any] = {
    "learning_rate": 3e-4,
    "clip_range": 0.2,
    "train_freq": 1,
    "target_entropy": -1.0,
    "buffer_size": 1,
    "n_steps": 2,
}
"""What stands for settings of training that are not read, so that a model can be built."""

LARGEST = 2**26
"""Bytes of a model's settings; 64 MiB are far more than any has."""

MOST_UNPACKED = 10
"""Times that a file's size may grow when it is unpacked; SB3 does not compress, and weights hardly can be."""

ALGORITHMS: tuple[type[BaseAlgorithm], ...] = (
    sb3.PPO,
    sb3.A2C,
    sb3_contrib.TRPO,
    sb3_contrib.MaskablePPO,
    sb3.SAC,
    sb3.TD3,
    sb3.DQN,
    sb3_contrib.TQC,
    sb3_contrib.QRDQN,
    sb3_contrib.CrossQ,
    sb3_contrib.ARS,
    sb3_contrib.RecurrentPPO,
)

TELLING = {"PPO": "clip_range", "A2C": None, "TRPO": "cg_max_steps"}
"""Algorithms with the same policies, and the setting that tells them apart."""


def load_safely(path: Path) -> BaseAlgorithm:
    """Read a model that SB3 or sb3-contrib has saved, on the CPU and without an environment.

    Raises:
        UsageError: it is no such file, or it names something that a model has no need of.
    """
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"{path}: is no regular file.")
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > LARGEST + MOST_UNPACKED * path.stat().st_size:
                raise UsageError(f"{path}: would unpack to {unpacked:,} bytes, far more than any model of its size.")
            if archive.getinfo("data").file_size > LARGEST:
                raise UsageError(f"{path}: its settings are larger than {LARGEST:,} bytes.")
            data = json.loads(archive.read("data"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise UsageError(f"{path}: is not a model that Stable-Baselines3 has saved.") from error
    if not isinstance(data, dict) or any(key not in data for key in NEEDED):
        raise UsageError(f"{path}: lacks what a model's networks are built from: {', '.join(NEEDED)}.")
    known = {key: _unpickle(value, f"{path}: {key}") for key, value in data.items() if key in NEEDED}
    others = {key: KNOWN.get(key) for key, value in data.items() if key not in NEEDED and _is_pickled(value)}
    sizes = {key: KNOWN[key] for key in ("buffer_size", "n_steps") if key in data}
    algorithm = _algorithm(known["policy_class"], data, path)
    try:
        return algorithm.load(path, device="cpu", custom_objects=known | others | sizes)
    except (RuntimeError, TypeError, ValueError, AttributeError, KeyError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"{path}: cannot be built as {algorithm.__name__} ({reason}).") from error


def _is_pickled(value: Any) -> bool:
    return isinstance(value, dict) and ":serialized:" in value


def _unpickle(value: Any, where: str) -> Any:
    if not _is_pickled(value):
        return value
    try:
        return _Restricted(io.BytesIO(base64.b64decode(value[":serialized:"]))).load()
    except _ForeignNameError as error:
        raise UsageError(f"{where} names {error}, which no network is made of; the file was not loaded.") from error
    except (pickle.UnpicklingError, EOFError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise UsageError(f"{where} is damaged.") from error


class _ForeignNameError(Exception):
    """A pickle asks for something that is not on the list."""


class _Restricted(pickle.Unpickler):
    """Finds what is on the list, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """The thing of this name, where it may be had."""
        if (module, name) in DATA_TYPES:
            return getattr(importlib.import_module(module), name)
        if MODULES.fullmatch(module) and name.isidentifier():
            try:
                found = getattr(importlib.import_module(module), name, None)
            except ImportError:
                found = None
            if isinstance(found, type) and issubclass(found, CLASSES):
                return found
        raise _ForeignNameError(f"{module}.{name}")


def _algorithm(policy: Any, data: dict[str, Any], path: Path) -> type[BaseAlgorithm]:
    """The algorithm that trains such a policy; files do not say."""
    if not isinstance(policy, type) or not issubclass(policy, BasePolicy):
        raise UsageError(f"{path}: its policy_class is no policy of Stable-Baselines3.")
    # RecurrentPPO's policies are PPO policies, too, but not the other way round.
    closest = max(_closeness(policy, algorithm) for algorithm in ALGORITHMS)
    able = [algorithm for algorithm in ALGORITHMS if _closeness(policy, algorithm) == closest]
    if not closest:
        raise UsageError(f"{path}: no algorithm of Stable-Baselines3 or sb3-contrib trains a {policy.__name__}.")
    for algorithm in able:
        if (setting := TELLING.get(algorithm.__name__)) is not None and setting in data:
            return algorithm
    return next(algorithm for algorithm in able if TELLING.get(algorithm.__name__) is None)


def _closeness(policy: type[BasePolicy], algorithm: type[BaseAlgorithm]) -> int:
    """How much of what a policy derives from is made for an algorithm; 0 where it is not of its kind at all."""
    return max((len(own.__mro__) for own in _policies(algorithm) if issubclass(policy, own)), default=0)


def _policies(algorithm: type[BaseAlgorithm]) -> Iterator[type[BasePolicy]]:
    yield from algorithm.policy_aliases.values()
