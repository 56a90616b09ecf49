"""YAML is found by name or path, read strictly, and comes back as it was written."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import files
from configs.settings import UsageError


@pytest.mark.parametrize("kind", ["benchmarks", "schedules"])
def test_every_shipped_file_is_found_and_says_what_it_is(kind: files.Kind) -> None:
    shipped = files.shipped(kind)
    assert shipped
    for name, line in shipped.items():
        assert len(line) > 20
        assert files.read(files.find(kind, name, "--x"))


def aliases(first: str, block: str, count: int) -> str:
    """Blocks, each made of the one before."""
    lines = [f"a0: &a0 {first}", *(f"a{n}: &a{n} {block.format(f'a{n - 1}')}" for n in range(1, count))]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["name: value"]),
        ("- a\n- b\n", ["name: value"]),
        ("just words\n", ["name: value"]),
        ("a: [1\n", ["line", "not valid YAML"]),
        ("a: 1\nb: 2\na: 3\n", ["line 3", "'a'", "twice"]),
        ("a: {b: 1, b: 2}\n", ["'b'", "twice"]),
        ("1: 2\n", ["line 1", "key 1", "quotes"]),
        ("a: {on: 2}\n", ["key True", "quotes"]),
        ("a: !!python/object:os.system {}\n", ["line 1", "python/object"]),
        ("a: &a {b: *a}\n", ["recursive"]),
        ("a: 1\n---\nb: 2\n", ["another document"]),
        ("? [1, 2]\n: 3\n", ["key"]),
        ("a: !!int '3'\n", ["line 1", "tag 'tag:yaml.org,2002:int'", "plain value"]),
        ("a: !mine 3\n", ["tag '!mine'"]),
        ("a: &a {<<: *a}\n", ["line 1", "'a'", "recursive"]),
        ("a: &a {x: 1}\nb: {<<: *a, x: 2}\n", ["'x'", "twice"]),
        ("a: " + "[" * 200 + "]" * 200, ["nested more than 30 deep"]),
        (aliases("{b: 1}", "[*{}]", 40), ["nested more than 30 deep"]),
        (aliases("[x, x]", "[*{0}, *{0}]", 20), ["20,000 values"]),
        (aliases("{b: 1}", "{{<<: [*{0}, *{0}]}}", 20), ["20,000 values"]),
        ("a: 2020-13-45\n", ["cannot be read", "month"]),
        ("a: " + "9" * 5000 + "\n", ["cannot be read", "digits"]),
        ("a: b\0\n", ["not valid YAML", "x0000"]),
        ("a: =\n", ["line 1", "value"]),
        ("%TAG ! tag:x,2000:\n---\n!b {}", ["tag"]),
    ],
)
def test_what_is_no_mapping_of_plain_values_is_refused(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as error:
        files.read(path)
    message = str(error.value)
    assert all(word in message for word in ["x.yaml", *words]), message
    assert "\n" not in message


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x81")
    for path in (tmp_path, tmp_path / "none.yaml", tmp_path / "x.yaml"):
        with pytest.raises(UsageError, match="cannot be read"):
            files.read(path)


def test_bytes_that_are_text_on_any_system(tmp_path: Path) -> None:
    for content in (b"\xef\xbb\xbfa: 1\nb: x\n", b"a: 1\r\nb: x\r\n", b"a: 1\nb: x"):
        (tmp_path / "x.yaml").write_bytes(content)
        assert files.read(tmp_path / "x.yaml") == {"a": 1, "b": "x"}
    (tmp_path / "x.yaml").write_text("a: größer\n", encoding="utf-8")
    assert files.read(tmp_path / "x.yaml") == {"a": "größer"}


def test_aliases_within_bounds_are_written_out(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\n")
    assert files.read(tmp_path / "x.yaml") == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}}


@pytest.mark.timeout(10)
def test_nothing_but_a_file_of_settings_size_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    (tmp_path / "plain").write_text("")
    with (tmp_path / "huge.yaml").open("wb") as file:
        file.truncate(100_000_000)
    for name, reason in (
        ("fifo.yaml", "no regular file"),
        ("zero.yaml", "no regular file"),
        (".", "no regular file"),
        ("loop.yaml", "symbolic links"),
        ("huge.yaml", "more than 262,144 bytes"),
        (f"{'x' * 300}.yaml", "File name too long"),
        ("plain/x.yaml", "Not a directory"),
        ("a\0b.yaml", "null byte"),
    ):
        with pytest.raises(UsageError, match=rf"cannot be read \(.*{reason}.*\)\."):
            files.read(tmp_path / name)
        if name != "huge.yaml":
            with pytest.raises(UsageError, match="there is no"):
                files.find("schedules", str(tmp_path / name), "--schedule")


def test_what_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: 1\n")

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(UsageError, match=r"x\.yaml: cannot be read \(Permission denied\)\."):
        files.read(path)
    monkeypatch.setattr(Path, "is_file", denied)
    assert not files.is_file(path)


def test_names_paths_and_what_is_neither(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("kind: constant\n")
    assert files.find("schedules", str(path), "--schedule") == path
    with pytest.raises(UsageError, match=r"--schedule: there is no file '.*gone.yaml'\."):
        files.find("schedules", str(tmp_path / "gone.yaml"), "--schedule")
    with pytest.raises(UsageError, match=r"no schedule 'permutted'; choose one of .*; did you mean 'permuted'\?"):
        files.find("schedules", "permutted", "--schedule")
    with pytest.raises(UsageError, match="no schedule"):
        files.find("schedules", str(tmp_path), "--schedule")


PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
TREES = st.dictionaries(
    st.text(min_size=1, max_size=8),
    st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)),
    max_size=4,
)


@given(TREES)
@settings(max_examples=50, deadline=None)
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "round.yaml"
    files.write(path, tree, "A comment.")
    assert files.read(path) == tree
