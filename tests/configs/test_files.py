"""YAML is found by name or path, read strictly, and comes back as it was written."""

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
