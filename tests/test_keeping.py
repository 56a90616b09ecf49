"""Benches keep how each case was measured: one that is measured again dates no other anew, and the pages say so."""

import json
import runpy
import shutil
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
BENCH, DOCS = ROOT / "bench", ROOT / "docs"

SPREAD = {"ratio": 2.0, "low": 1.0, "high": 3.0}
PENDULUM = "SAC, Pendulum, 64x64, tasks of 10,240 steps"
SCRIPTS: dict[str, tuple[list[str], str, Any, tuple[str, ...], str]] = {
    "interventions": (["redo", "--hidden", "64"], "ratios", SPREAD, ("ppo", "methods", "redo"), "64x64"),
    "measuring": (["--cases", PENDULUM, "--rounds", "2"], "run", (1.0, 0.5), ("cases",), PENDULUM),
    "stepping": (["Ant-v5"], "figures", {"dummy": 3.0, "ours": 1.0} | SPREAD, ("environments",), "Ant-v5"),
    "shares": (["--only", "ppo_cheetah"], "microseconds", None, ("cases",), "ppo_cheetah"),
}
"""Of each script: what to measure again, the function that does and what it finds, and where that is kept."""


def patched(main: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, **names: object) -> None:
    """Give a script's functions other values of its names."""
    assert isinstance(main, FunctionType)
    for name, value in names.items():
        monkeypatch.setitem(main.__globals__, name, value)


def cases(tree: Any, place: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """All blocks of a file that say how they were made, by their place."""
    if "made" in tree:
        return {place: tree}
    inner = (cases(part, (*place, key)) for key, part in tree.items() if isinstance(part, dict))
    return {key: found for part in inner for key, found in part.items()}


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_is_not_measured_again_keeps_its_date(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words, function, finds, block, case = SCRIPTS[name]
    monkeypatch.syspath_prepend(str(BENCH))
    script = runpy.run_path(str(BENCH / f"{name}.py"))
    results = tmp_path / f"{name}.json"
    shutil.copy(BENCH / "results" / results.name, results)
    before = cases(json.loads(results.read_text()))
    parts = dict.fromkeys((*script["PARTS"], script["REST"]), 1.0) if name == "shares" else finds
    patched(script["main"], monkeypatch, RESULTS=results, **{function: lambda *arguments: parts})
    monkeypatch.setattr(sys, "argv", [f"elsewhere/{name}.py", *words, "--write"])
    script["main"]()
    after = cases(json.loads(results.read_text()))
    assert list(after) == list(before)
    assert [place for place in after if after[place] != before[place]] == [(*block, case)]
    made = after[*block, case]["made"]
    assert made["date"] == date.today().isoformat()
    assert made["command"].startswith(f"python bench/{name}.py {words[0]} ")
    assert made["command"].endswith("--write")
    assert {"python", "torch", "stable-baselines3", "machine"} <= made.keys()


def test_a_file_that_is_not_there_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    keep = runpy.run_path(str(BENCH / "keeping.py"))["keep"]
    keep(tmp_path / "results" / "new.json", {"one": {"ratio": 1.0}}, "cpu")
    found = json.loads((tmp_path / "results" / "new.json").read_text())
    assert found["cpu"]["one"]["ratio"] == 1
    assert "command" in found["cpu"]["one"]["made"]


@pytest.mark.parametrize(
    ("page", "block", "case", "told"),
    [
        ("methods", ("ppo", "methods", "cbp"), "64x64", "`cbp` 64x64"),
        ("measuring", ("cases",), PENDULUM, PENDULUM),
    ],
)
def test_a_page_says_of_each_case_how_it_was_measured(
    page: str, block: tuple[str, ...], case: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = runpy.run_path(str(DOCS / f"{page}.py"))
    tree = json.loads(script["COSTS"].read_text())
    found = tree
    for key in (*block, case):
        found = found[key]
    before = dict(found["made"])
    found["made"] |= {"date": "2031-01-02", "command": "python bench/again.py", "torch": "9.9"}
    (tmp_path / "costs.json").write_text(json.dumps(tree))
    patched(script["page"], monkeypatch, COSTS=tmp_path / "costs.json")
    text = script["page"]()
    versions = f"Python {before['python']}, torch {before['torch']}, stable-baselines3 {before['stable-baselines3']}"
    again = versions.replace(f"torch {before['torch']}", "torch 9.9")
    first = f"`{before['command']}`, {before['date']}, {versions}"
    assert f" {first}; {told}: `python bench/again.py`, 2031-01-02, {again}." in text


def test_the_page_of_speeds_says_how_each_share_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = runpy.run_path(str(DOCS / "performance.py"))
    tree = json.loads((BENCH / "results" / "shares.json").read_text())
    tree["cases"]["ppo_cheetah"]["made"] |= {"date": "2031-01-02", "command": "python bench/again.py"}
    (tmp_path / "shares.json").write_text(json.dumps(tree))
    patched(script["shares"], monkeypatch, RESULTS=tmp_path)
    text = script["shares"]()
    assert f"`{tree['cases']['ppo_cartpole']['made']['command']}`, " in text
    assert "`python bench/again.py`, 2031-01-02, " in text
