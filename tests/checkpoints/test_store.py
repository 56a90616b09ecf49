"""Checkpoints come back equal or not at all: what is damaged, strange or too new is told as what it is."""

import errno
import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from checkpoints import manifest
from checkpoints.checkpoint import Checkpoint
from checkpoints.errors import CheckpointError, UnknownFormatError
from checkpoints.segments import Ring
from checkpoints.store import Store
from tests.trees import canonical

CAPACITY = 12


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


def parts(step: int) -> dict[str, Any]:
    return {"agent": {"weight": torch.full((3, 2), float(step)), "step": step}, "random": {"position": (step, None)}}


def ring(added: int) -> Ring:
    """Row i holds the insertion that is there after so many."""
    rows = np.arange(CAPACITY)
    return Ring({"observations": np.where(rows < added, rows + (added - 1 - rows) // CAPACITY * CAPACITY, -1)}, added)


def save(store: Store, step: int) -> Checkpoint:
    return store.save(step, parts(step), {"versions": {"torch": "2"}}, {"replay": ring(step)})


def content(checkpoint: Checkpoint | None) -> Any:
    """Everything that a checkpoint gives back."""
    if checkpoint is None:
        return None
    arrays = {"observations": np.full(CAPACITY, -1)}
    added = checkpoint.load_ring("replay", arrays)
    state = {part: checkpoint.read(part) for part in checkpoint.parts}
    return checkpoint.step, checkpoint.about, canonical(state), added, arrays["observations"].tolist()


def expected(step: int) -> Any:
    return step, {"versions": {"torch": "2"}}, canonical(parts(step)), step, ring(step).arrays["observations"].tolist()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """With checkpoints at 10 and 15 steps."""
    store = Store(tmp_path / "run" / "checkpoints")
    assert store.newest() is None
    save(store, 10)
    save(store, 15)
    return store


def reopened(store: Store) -> Store:
    return Store(store.folder)


def newest(store: Store) -> Path:
    return store.folder / "step-000000000015"


def test_what_was_saved_comes_back(store: Store) -> None:
    assert content(reopened(store).newest()) == expected(15)
    checkpoint = save(store, 40)
    assert content(checkpoint) == expected(40)
    assert checkpoint.path == store.folder / "step-000000000040"
    assert checkpoint.parts == ["agent", "random"]
    with pytest.raises(CheckpointError, match=r"has no part 'env'; it has agent, random\.$"):
        checkpoint.read("env")
    with pytest.raises(CheckpointError, match="has no ring buffer 'other'"):
        checkpoint.load_ring("other", {"observations": np.zeros(CAPACITY)})


def test_old_ones_and_their_segments_are_removed(store: Store) -> None:
    for step in (20, 25, 30, 47):
        save(store, step)
    assert sorted(path.name for path in store.folder.iterdir()) == [
        "segments",
        "step-000000000030",
        "step-000000000047",
    ]
    needed = {
        segment.name
        for path in store.folder.glob("step-*")
        for segment in Checkpoint.open(path).manifest.rings["replay"].segments
    }
    assert {path.name for path in (store.folder / "segments").iterdir()} == needed
    shutil.rmtree(store.folder / "step-000000000047")
    assert content(reopened(store).newest()) == expected(30)


def test_only_new_rows_of_a_ring_are_written(store: Store) -> None:
    first = {path: path.stat().st_mtime_ns for path in (store.folder / "segments").iterdir()}
    assert {path.name[7:32] for path in first} == {"000000000000-000000000010", "000000000010-000000000015"}
    again = reopened(store)
    again.newest()
    save(again, 17)
    assert all(path.stat().st_mtime_ns == time for path, time in first.items())
    assert content(reopened(store).newest()) == expected(17)


def test_the_same_step_again(store: Store) -> None:
    first = save(store, 15)
    second = store.save(15, parts(16), {}, {})
    assert [first.path.name, second.path.name] == ["step-000000000015-2", "step-000000000015-3"]
    assert {path.name for path in store.folder.glob("step-*")} == {"step-000000000010", "step-000000000015-3"}
    found = reopened(store).newest()
    assert found is not None
    assert found.read("agent")["step"] == 16


def test_what_nobody_continues_from_is_not_removed_by_mistake(store: Store) -> None:
    with pytest.raises(RuntimeError, match="newest"):
        save(reopened(store), 20)
    with pytest.raises(ValueError, match="step 14 is before step 15"):
        save(store, 14)
    assert content(reopened(store).newest()) == expected(15)


def test_a_course_that_was_abandoned_is_removed(store: Store) -> None:
    (newest(store) / "agent.json").write_text("")
    again = reopened(store)
    assert content(again.newest()) == expected(10)
    save(again, 12)
    assert again.damaged == [f"{newest(store)}/agent.json has 0 bytes instead of 51."]
    assert {path.name for path in store.folder.glob("step-*")} == {"step-000000000010", "step-000000000012"}
    assert content(reopened(store).newest()) == expected(12)


def test_states_that_cannot_be_written_leave_no_trace(store: Store) -> None:
    before = sorted(store.folder.rglob("*"))
    for wrong, error in (
        ({"agent": object()}, "agent is of type builtins.object"),
        ({"../agent": 1}, "'../agent' cannot be the name"),
        ({"manifest": 1}, "'manifest' cannot be the name"),
        ({".agent": 1}, "cannot be the name"),
    ):
        with pytest.raises((TypeError, ValueError), match=error):
            store.save(20, wrong, {})
    with pytest.raises(ValueError, match="JSON compliant"):
        store.save(20, {}, {"loss": float("nan")}, {"replay": ring(20)})
    assert sorted(store.folder.rglob("*")) == before


def flip(path: Path, generator: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
    path.write_bytes(data)


def truncate(path: Path, generator: random.Random) -> None:
    os.truncate(path, generator.randrange(path.stat().st_size))


def lengthen(path: Path, generator: random.Random) -> None:
    path.write_bytes(path.read_bytes() + b" ")


@pytest.mark.parametrize("damage", [flip, truncate, lengthen])
def test_damage_to_any_file_is_noticed(store: Store, damage: Callable[[Path, random.Random], None]) -> None:
    generator = random.Random(0)
    new = [segment.name for segment in Checkpoint.open(newest(store)).manifest.rings["replay"].segments][1:]
    paths = [*newest(store).iterdir(), *(store.folder / "segments" / name for name in new)]
    assert len(paths) == 5
    equal = 0
    for path in paths:
        whole = path.read_bytes()
        for _ in range(10):
            damage(path, generator)
            again = reopened(store)
            found = content(again.newest())
            if found == expected(15):  # such as a space for a line break between two keys
                assert path.name == "manifest.json"
                assert not again.damaged
                equal += 1
            else:
                assert found == expected(10)
                assert len(again.damaged) == 1
                assert str(path.name) in again.damaged[0]
                assert again.damaged[0].endswith(".")
            path.write_bytes(whole)
    assert equal < 11


def test_damage_after_it_was_opened_is_noticed_too(store: Store) -> None:
    found = store.newest()
    assert found is not None
    flip(newest(store) / "agent.safetensors", random.Random(0))
    with pytest.raises(CheckpointError, match="checksum"):
        found.read("agent")


def missing(path: Path) -> None:
    (path / "agent.json").unlink()


def linked_file(path: Path) -> None:
    (path / "agent.json").rename(path.parent / "elsewhere")
    (path / "agent.json").symlink_to(path.parent / "elsewhere")


def linked_folder(path: Path) -> None:
    path.rename(path.parent / "elsewhere")
    path.symlink_to(path.parent / "elsewhere")


def linked_segments(path: Path) -> None:
    (path.parent / "segments").rename(path.parent / "elsewhere")
    (path.parent / "segments").symlink_to(path.parent / "elsewhere")


def pipe(path: Path) -> None:
    (path / "agent.json").unlink()
    os.mkfifo(path / "agent.json")


def folder(path: Path) -> None:
    (path / "agent.json").unlink()
    (path / "agent.json").mkdir()


def more(path: Path) -> None:
    (path / "agent.pkl").write_bytes(b"cposix\nsystem\n")


def file(path: Path) -> None:
    shutil.rmtree(path)
    path.touch()


def renamed(path: Path) -> None:
    path.rename(path.with_name("step-000000000016"))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (missing, "agent.json is missing"),
        (linked_file, "agent.json is a link"),
        (linked_folder, "step-000000000015 is not a folder"),
        (linked_segments, "segments is not a folder"),
        (pipe, "agent.json is not a file"),
        (folder, "agent.json is not a file"),
        (more, "holds 'agent.pkl', which is not in its manifest"),
        (file, "step-000000000015 is not a folder"),
        (renamed, "step-000000000016 holds the checkpoint of step 15"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_strange_folders_are_passed_over(store: Store, change: Callable[[Path], None], problem: str) -> None:
    change(newest(store))
    again = reopened(store)
    found = again.newest()
    assert problem in again.damaged[0]
    if change is not linked_segments:
        assert content(found) == expected(10)


def test_what_file_systems_leave_behind_is_no_damage(store: Store) -> None:
    (newest(store) / ".nfs0001").touch()
    assert content(reopened(store).newest()) == expected(15)


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Forge a manifest, with the right checksum."""
    found = json.loads((path / manifest.NAME).read_text())
    del found["sha256"]
    change(found)
    canonical_text = json.dumps(found, sort_keys=True, separators=(",", ":"))
    found["sha256"] = hashlib.sha256(canonical_text.encode()).hexdigest()
    (path / manifest.NAME).write_text(json.dumps(found))


@pytest.mark.parametrize("number", [0, 2, "1", None, True], ids=repr)
def test_another_format_is_no_damage(store: Store, number: Any) -> None:
    rewrite(newest(store), lambda found: found.update(format=number))
    if number is True:
        assert content(reopened(store).newest()) == expected(15)
        return
    with pytest.raises(UnknownFormatError, match=rf"is of format {number!r}; this version knows only format 1\.$"):
        reopened(store).newest()


SEAL = {"size": 0, "sha256": hashlib.sha256(b"").hexdigest()}


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.pop("step"),
        lambda found: found.update(step=-1),
        lambda found: found.update(step=15.0),
        lambda found: found.update(about=[]),
        lambda found: found.update(files=[]),
        lambda found: found["files"].update({"../../x": SEAL}),
        lambda found: found["files"].update({"/etc/passwd": SEAL}),
        lambda found: found["files"].update({"..": SEAL}),
        lambda found: found["files"].update({".hidden": SEAL}),
        lambda found: found["files"].update({"": SEAL}),
        lambda found: found["files"].update({"a\0b": SEAL}),
        lambda found: found["files"].update({"a" * 200: SEAL}),
        lambda found: found["files"].update({"other": None}),
        lambda found: found["files"].update({"other": {"size": -1, "sha256": SEAL["sha256"]}}),
        lambda found: found["files"].update({"other": {"size": 10**30, "sha256": SEAL["sha256"]}}),
        lambda found: found["files"].update({"other": {"size": 0, "sha256": "../../x"}}),
        lambda found: found["files"].update({"other": {"size": 0}}),
        lambda found: found["files"].update({"other": SEAL}),
        lambda found: found.update(rings=None),
        lambda found: found["rings"].update({"../x": found["rings"]["replay"]}),
        lambda found: found["rings"]["replay"].pop("added"),
        lambda found: found["rings"]["replay"].update(segments=3),
        lambda found: found["rings"]["replay"]["segments"][0].update(start=10),
        lambda found: found["rings"]["replay"]["segments"][0].update(end=3),
        lambda found: found["rings"]["replay"]["segments"][0].update(sha256="0" * 64),
        lambda found: found["rings"]["replay"]["segments"][0].update(sha256="../" * 20),
    ],
)
def test_forged_manifests_are_passed_over(store: Store, change: Callable[[dict[str, Any]], object]) -> None:
    rewrite(newest(store), change)
    again = reopened(store)
    assert content(again.newest()) == expected(10)
    assert len(again.damaged) == 1


def test_a_forged_count_of_insertions_is_refused_on_loading(store: Store) -> None:
    rewrite(newest(store), lambda found: found["rings"]["replay"].update(added=2**62))
    checkpoint = reopened(store).newest()
    assert checkpoint is not None
    with pytest.raises(CheckpointError, match="are needed"):
        checkpoint.load_ring("replay", {"observations": np.zeros(CAPACITY, np.int64)})


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", "[" * 10**5, '{"sha256": 1}', "9" * 10**4])
def test_something_else_than_a_manifest_is_passed_over(store: Store, text: str) -> None:
    (newest(store) / manifest.NAME).write_text(text)
    assert content(reopened(store).newest()) == expected(10)


def test_too_large_a_file_is_not_read(store: Store) -> None:
    os.truncate(newest(store) / manifest.NAME, manifest.LIMIT + 1)
    again = reopened(store)
    assert content(again.newest()) == expected(10)
    assert f"at most {manifest.LIMIT} are read" in again.damaged[0]


def test_what_cannot_be_read_is_passed_over(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path, opened = str(newest(store) / "agent.json"), os.open

    def fail(name: Any, *arguments: Any, **named: Any) -> int:
        if str(name) == path:
            raise OSError(errno.EIO, "Input/output error", path)
        return opened(name, *arguments, **named)

    monkeypatch.setattr(os, "open", fail)
    again = reopened(store)
    assert content(again.newest()) == expected(10)
    assert again.damaged == [f"{path} cannot be read (Input/output error)."]


def test_other_things_in_the_folder_are_left_alone(store: Store) -> None:
    (store.folder / "notes.txt").write_text("mine")
    (store.folder / "step-12").mkdir()
    (store.folder / "step-000000000015-1").mkdir()
    save(store, 20)
    assert content(reopened(store).newest()) == expected(20)
    assert (store.folder / "notes.txt").exists()
    assert (store.folder / "step-12").exists()


def test_at_least_one_is_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not 0"):
        Store(tmp_path, keep=0)
