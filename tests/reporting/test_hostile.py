"""Run directories that somebody else may have made: whatever stands in them, a report says what it left out and why."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import report
from configs.settings import UsageError
from reporting import reading
from reporting.random_policy import random_return
from reporting.runs import find_runs, group, read_run
from reporting.summary import summarize
from tests.reporting.synthetic import config, write_run

FILES = ("config.yaml", "status.json", "versions.json", "tasks.csv", "episodes.csv")
CASES = int(os.environ.get("CASES", "2000"))
"""As in `tests/configs/test_bad_input.py`; of run directories, a small part of them."""
SENTENCE = r"[^\n]+[.?]"
NUMBERS = st.sampled_from(
    ["1e400", "-1e400", "nan", "1" + "0" * 400, "9" * 5000, "-1", "0", "1", "1e308", "", "x", "\0", '"']
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def lines_of(*keys: str) -> st.SearchStrategy[str]:
    """Lines of JSON objects with some keys of ours, and anything under them."""
    entry = st.dictionaries(st.sampled_from(keys) | st.text(max_size=3), JSON, max_size=5)
    return st.lists(entry.map(json.dumps), max_size=4).map(lambda lines: "\n".join(lines) + "\n")


def tables(*columns: str) -> st.SearchStrategy[str]:
    """CSV with columns of ours, in any order and amount, and cells of any kind."""
    names = st.lists(st.sampled_from(columns), min_size=1, max_size=len(columns) + 1)
    rows = st.lists(st.lists(NUMBERS | st.integers(0, 9).map(str), min_size=1, max_size=9).map(",".join), max_size=4)
    return st.tuples(names.map(",".join), rows).map(lambda parts: "\n".join([parts[0], *parts[1]]) + "\n")


def configurations() -> st.SearchStrategy[str]:
    """A configuration of which one or two settings are anything."""
    keys = st.sampled_from([*config(), "benchmark", "metrics", "zzz"])
    return st.dictionaries(keys, JSON, max_size=2).map(lambda other: json.dumps(config() | other))


CONTENT: dict[str, st.SearchStrategy[str]] = {
    "config.yaml": configurations(),
    "status.json": lines_of("state", "steps", "seconds"),
    "versions.json": lines_of("python", "command"),
    "tasks.csv": tables("task", "start", "end", "change", "episodes", "return", "return_end", "actor/dormant"),
    "episodes.csv": tables(*reading.COLUMNS),
}


@given(data=st.data())
@settings(max_examples=CASES // 13, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_content_is_summarised_or_refused_in_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "good", returns=[100, 50, 30])
    path = write_run(folder / "bad", "redo", returns=[100, 50, 30])
    name = data.draw(st.sampled_from(FILES))
    content = data.draw(CONTENT[name].map(lambda text: text.encode(errors="surrogatepass")) | st.binary(max_size=50))
    (path / name).write_bytes(content)
    unreadable: list[str] = []
    found = find_runs([folder], unreadable)
    assert "good" in {run.path.name for run in found}
    assert len(found) + len(unreadable) == 2
    for study in group(found):
        summary = summarize(study, None)
        assert all(isinstance(arm.label, str) for arm in summary.arms)
    assert all(re.fullmatch(SENTENCE, sentence) for sentence in unreadable)


@given(key=st.sampled_from(["env", "schedule", "seed"]), value=JSON)
@settings(max_examples=CASES // 33, deadline=None)
def test_a_random_policy_is_tried_only_where_the_configuration_makes_sense(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: Any
) -> None:
    run = read_run(write_run(tmp_path_factory.mktemp("runs") / "run", returns=[100], **{key: value}))
    earned, problem = random_return(run, episodes=1)
    assert earned is not None or re.fullmatch(SENTENCE, problem)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("name", FILES[1:])
def test_what_is_no_plain_file_of_the_run_is_left_out_and_named(tmp_path: Path, name: str) -> None:
    path = write_run(tmp_path / "run", returns=[100])
    (tmp_path / "secret").write_text((path / name).read_text())
    for make, why in (
        (lambda file: file.symlink_to(tmp_path / "secret"), "it is a link to somewhere outside of the run"),
        (lambda file: file.symlink_to("/dev/zero"), "it is a link to somewhere outside of the run"),
        (lambda file: file.symlink_to(file), "it cannot be read (Symlink loop"),
        (os.mkfifo, "it is no regular file"),
        (lambda file: file.mkdir(), "it is no regular file"),
    ):
        (path / name).unlink()
        make(path / name)
        assert any(sentence.startswith(f"{name} left out: {why}") for sentence in read_run(path).missing)
        if (path / name).is_dir():
            (path / name).rmdir()
            (path / name).touch()
    with (path / name).open("wb") as file:
        file.truncate(reading.MOST_BYTES + 1)
    assert f"{name} left out: it has 268,435,457 bytes, and 268,435,456 are the most" in read_run(path).missing


@pytest.mark.timeout(10)
def test_a_configuration_that_is_no_plain_file_of_the_run_is_refused(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", returns=[100])
    (path / "config.yaml").rename(tmp_path / "elsewhere.yaml")
    (path / "config.yaml").symlink_to(tmp_path / "elsewhere.yaml")
    with pytest.raises(UsageError, match=r"config\.yaml: is a link to somewhere outside of the run\."):
        read_run(path)
    (path / "config.yaml").unlink()
    os.mkfifo(path / "config.yaml")
    with pytest.raises(UsageError, match=r"it has no config\.yaml\."):
        read_run(path)


def test_links_within_a_run_and_links_to_runs_are_followed(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", returns=[100])
    (path / "tasks.csv").rename(path / "tasks-1.csv")
    (path / "tasks.csv").symlink_to("tasks-1.csv")
    (tmp_path / "link").symlink_to(path)
    assert len(read_run(tmp_path / "link").tasks) == 1


def test_the_page_names_what_was_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "runs" / "good")
    bad = write_run(tmp_path / "runs" / "bad", "redo")
    (bad / "episodes.csv").unlink()
    (bad / "episodes.csv").symlink_to("/etc/hostname")
    (write_run(tmp_path / "runs" / "worse", seed=1) / "config.yaml").write_text("a: !!python/name:os.system\n")
    words = [str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--random-episodes", "0", "--quiet", "--dpi", "30"]
    assert report.main(words) == 0
    assert capsys.readouterr().err == ""
    page = (tmp_path / "out" / "report.html").read_text()
    assert "episodes.csv left out: it is a link to somewhere outside of the run" in page
    assert "worse/config.yaml: is not valid YAML in line 1" in page
