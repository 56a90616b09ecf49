"""What the documentation shows works as it stands, and its table is what the code says."""

import json
import re
import runpy
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import yaml

from agents.plasticity import Plasticity
from configs.callback import plasticity
from envs.changes import CHANGES
from envs.schedules import COMPOSITIONS, SCHEDULES
from metrics import METRICS
from optimizers import OPTIMIZERS
from regularizers import REGULARIZERS, Spectral
from resets import RESETS, ReDo
from sweeping.plan import read_sweep
from sweeping.search import read_searches
from tests import test_contract, test_touches
from tests.methods import METHODS, Method

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def blocks(name: str, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / name).read_text(), re.DOTALL)


def load(name: str, code: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module made from a code block, importable by its name during the test."""
    module = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(code, name, "exec"), vars(module))
    return module


def test_the_walk_through_a_new_method_works_and_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    method_code, test_code = blocks("new_method.md", "python")
    assert method_code.count("\n") + test_code.count("\n") < 60
    method = load("resets.rejuvenate", method_code, monkeypatch)
    test = load("tests.resets.test_rejuvenate", test_code, monkeypatch)
    test.test_a_layer_that_has_grown_is_mixed_and_one_that_has_not_stays()

    monkeypatch.setitem(RESETS, "rejuvenate", method.Rejuvenate)
    row = eval("{" + blocks("new_method.md", "text")[0] + "}", {"Method": Method, "Rejuvenate": method.Rejuvenate})
    monkeypatch.setitem(METHODS, "rejuvenate", row["rejuvenate"])
    for kind in ("ppo", "sac"):
        test_contract.test_acts_in_place_on_every_agent("rejuvenate", kind)
        test_contract.test_idle_is_bit_identical_to_the_plain_agent(kind, "rejuvenate")
        test_contract.test_a_resumed_run_goes_on_bit_for_bit(kind, "rejuvenate")
    test_touches.test_touches_what_it_says_and_nothing_else("rejuvenate")


def test_the_sweeps_that_the_page_shows_can_be_read(tmp_path: Path) -> None:
    shown, tuning = blocks("sweeps.md", "yaml")
    path = tmp_path / "first_look.yaml"
    path.write_text(shown)
    sweep = read_sweep(path)
    assert (sweep.cells, len(sweep.jobs)) == (32, 4)
    path.write_text(tuning)
    sweep = read_sweep(path)
    (search,) = read_searches(sweep, sweep.search)
    assert (search.arm, search.trials, len(search.space)) == ("redo", 16, 2)


def test_the_table_of_methods_is_that_of_the_code() -> None:
    made = runpy.run_path(str(DOCS / "methods.py"))["page"]()
    assert (DOCS / "methods.md").read_text() == made, "run python docs/methods.py"


def test_the_page_on_measuring_is_that_of_the_code() -> None:
    made = runpy.run_path(str(DOCS / "measuring.py"))["page"]()
    assert (DOCS / "measuring.md").read_text() == made, "run python docs/measuring.py"
    for name in METRICS:
        (row,) = re.findall(rf"^\| `{name}` \|.*\|$", made, re.MULTILINE)
        assert len(row.strip("|").split(" | ")) == 5


def test_the_page_on_environments_is_that_of_the_code() -> None:
    made = runpy.run_path(str(DOCS / "environments.py"))
    assert (DOCS / "environments.md").read_text() == made["page"](), "run python docs/environments.py"
    measured = json.loads((ROOT / "bench/results/effects.json").read_text())["effects"]
    assert {key.split()[0] for key in measured} == set(CHANGES) - {"attribute"}
    for name in (*SCHEDULES, *COMPOSITIONS):
        assert any(name in (settings["kind"], title) for title, settings in made["EXAMPLES"].items()) or name == "table"


def test_the_loop_of_ones_own_is_short_and_needs_neither_sb3_nor_torch() -> None:
    script = DOCS / "any_loop.py"
    code = [line for line in script.read_text().splitlines() if line.strip()]
    assert len(code) <= 15
    heavy = "assert not {'torch', 'stable_baselines3'} & set(sys.modules)"
    check = f"import runpy, sys; runpy.run_path({str(script)!r}); {heavy}"
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["step 1,536", "step 3,072", "step 4,608"]


def test_the_table_has_every_cell() -> None:
    page = (DOCS / "methods.md").read_text()
    rows = dict.fromkeys((*RESETS, *REGULARIZERS), 7) | dict.fromkeys(OPTIMIZERS, 5)
    for name, columns in rows.items():
        (row,) = re.findall(rf"^\| `{name}` \|.*\|$", page, re.MULTILINE)
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert len(cells) == columns
        assert all(cells), row


def test_the_file_for_rl_zoo_gives_the_callback_it_shows() -> None:
    text = blocks("other_tools.md", "yaml")[0].replace("!!float ", "")
    (entry,) = yaml.safe_load(text)["CartPole-v1"]["callback"]
    (kwargs,) = entry.values()
    assert list(entry) == ["configs.callback.plasticity"]
    made = plasticity(**kwargs)
    assert isinstance(made, Plasticity)
    assert made.interventions == (ReDo(tau=0.1), Spectral(1e-4))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, r"callback: name at least one reset or regularizer"),
        ({"reset": "redoo"}, r"there is no reset 'redoo'; .* did you mean 'redo'\?"),
        ({"reset": {"redo": {"tu": 1}}}, r"reset.redo.tu is not a setting here; did you mean 'reset.redo.tau'\?"),
        ({"regularizer": {"spectral": {"strength": -1}}}, r"strength must be at least 0, not -1"),
    ],
)
def test_mistakes_in_the_callback_end_in_a_sentence(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        plasticity(**given)
