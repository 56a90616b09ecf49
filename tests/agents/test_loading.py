"""Models are read back as they were, and a file that wants anything else of the reader is refused."""

import base64
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.fx
from sb3_contrib import RecurrentPPO

from agents.loading import load_safely
from configs.settings import UsageError
from tests.models import make

KINDS = ("ppo", "a2c", "trpo", "sac", "td3", "dqn", "tqc", "crossq", "ppo-dict", "ppo-crelu", "sac-spectral-norm")


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_is_read_back(kind: str, tmp_path: Path) -> None:
    model = make(kind)
    model.save(tmp_path / "model.zip")
    found = load_safely(tmp_path / "model.zip")
    assert type(found) is type(model)
    for ours, theirs in zip(found.policy.parameters(), model.policy.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    observation = model.observation_space.sample()
    ours, _ = found.predict(observation, deterministic=True)
    theirs, _ = model.predict(observation, deterministic=True)
    assert (ours == theirs).all()


def test_a_recurrent_model_is_recognised(tmp_path: Path) -> None:
    """Its policies are those of PPO, too."""
    model = RecurrentPPO("MlpLstmPolicy", "CartPole-v1", n_steps=8, batch_size=8, device="cpu")
    model.save(tmp_path / "model.zip")
    assert type(load_safely(tmp_path / "model.zip")) is RecurrentPPO


class Harm:
    """What a pickle can do: call anything."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def tampered(path: Path, key: str, value: Any) -> Path:
    """A model's file in which one entry is another pickle."""
    make("ppo").save(path / "good.zip")
    with zipfile.ZipFile(path / "good.zip") as good, zipfile.ZipFile(path / "bad.zip", "w") as bad:
        for name in good.namelist():
            content = good.read(name)
            if name == "data":
                data = json.loads(content)
                serialized = base64.b64encode(pickle.dumps(value)).decode()
                data[key] = {":type:": "x", ":serialized:": serialized}
                content = json.dumps(data).encode()
            bad.writestr(name, content)
    return path / "bad.zip"


@pytest.mark.parametrize("key", ["policy_class", "policy_kwargs", "observation_space", "action_space"])
def test_a_pickle_that_would_run_something_is_refused_and_does_not_run(key: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    text = f"__import__('os').mkdir({str(mark)!r})"
    for harm in (Harm(os.mkdir, str(mark)), Harm(eval, text), Harm(torch.load, "x")):
        with pytest.raises(UsageError, match=r"names .*, which no network is made of"):
            load_safely(tampered(tmp_path, key, harm))
    with pytest.raises(UsageError, match=r"names torch\.fx\.graph_module\.GraphModule"):  # a module that makes code
        load_safely(tampered(tmp_path, key, torch.fx.GraphModule))
    assert not mark.exists()


@pytest.mark.parametrize("key", ["lr_schedule", "clip_range", "ep_info_buffer", "_last_obs", "anything"])
def test_pickles_that_are_not_needed_are_not_loaded(key: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    load_safely(tampered(tmp_path, key, Harm(os.mkdir, str(mark))))
    assert not mark.exists()


def test_harm_among_the_weights_is_refused(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    torch.save(Harm(os.mkdir, str(mark)), tmp_path / "weights")
    make("ppo").save(tmp_path / "good.zip")
    with zipfile.ZipFile(tmp_path / "good.zip") as good, zipfile.ZipFile(tmp_path / "bad.zip", "w") as bad:
        for name in good.namelist():
            bad.writestr(name, (tmp_path / "weights").read_bytes() if name == "policy.pth" else good.read(name))
    with pytest.raises(UsageError, match="cannot be built as PPO"):
        load_safely(tmp_path / "bad.zip")
    assert not mark.exists()


def test_a_policy_of_ones_own_is_named(tmp_path: Path) -> None:
    make("ppo-norm").save(tmp_path / "model.zip")
    with pytest.raises(UsageError, match=r"tests\.models\.NormedPolicy"):
        load_safely(tmp_path / "model.zip")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"no zip", "is not a model"),
        ({}, "is not a model"),
        ({"data": "[]"}, "lacks what"),
        ({"data": "{}"}, "lacks what"),
        ({"data": "{"}, "is not a model"),
        ({"data": " " * (2**26 + 1)}, "larger than"),
        ({"data": json.dumps(dict.fromkeys(("policy_class", "policy_kwargs", "observation_space", "action_space"), 1))},
         "no policy"),
    ],
)  # fmt: skip
def test_other_files_are_refused_in_one_sentence(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.zip"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in content.items():
                archive.writestr(name, text)
    with pytest.raises(UsageError, match=message):
        load_safely(path)


def test_a_file_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path: Path) -> None:
    make("ppo").save(tmp_path / "good.zip")
    with (
        zipfile.ZipFile(tmp_path / "good.zip") as good,
        zipfile.ZipFile(tmp_path / "bad.zip", "w", zipfile.ZIP_DEFLATED) as bad,
    ):
        for name in good.namelist():
            bad.writestr(name, b"\0" * 2**28 if name == "policy.pth" else good.read(name))
    assert (tmp_path / "bad.zip").stat().st_size < 2**20
    with pytest.raises(UsageError, match=r"would unpack to 268,[\d,]+ bytes, far more than any model of its size"):
        load_safely(tmp_path / "bad.zip")


@pytest.mark.timeout(10)
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.zip")
    with pytest.raises(UsageError, match=r"model\.zip: is no regular file\."):
        load_safely(tmp_path / "model.zip")
