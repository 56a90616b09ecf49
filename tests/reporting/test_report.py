"""The command `report.py`, end to end on run directories of known numbers: what it writes, says, and how it ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure

import report
from configs.settings import UsageError
from reporting.figures import COLUMN, WIDTH
from tests.reporting.synthetic import write_run, write_study
from tests.reporting.test_page import DOT

ROOT = Path(__file__).parents[2]
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made but not rendered, which is what takes time."""
    monkeypatch.setattr("reporting.writing.png", lambda figure, dpi: DOT)


def page(folder: str = "report") -> str:
    return (Path(folder) / "report.html").read_text(encoding="utf-8")


def test_a_study_becomes_a_page_with_figures_and_a_table(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    widths = {}

    def save_pdf(figure: Figure, path: Path) -> None:  # the real one, tested with the figures, takes a second for each
        widths[path.stem] = figure.get_figwidth()
        path.touch()

    monkeypatch.setattr("reporting.writing.save_pdf", save_pdf)
    write_study(Path("runs"), seeds=2, columns={"actor/dormant": [0.1, 0.2, 0.3, 0.4]})
    assert report.main(["runs", "--out", "a report", "--dpi", "40", "--pdf", "--title", "Mine"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "Plasticity is lost: in later tasks the plain agent earns 60.0 less" in shown.out
    assert [shown.out.index(f"{rank}  {arm} ") for rank, arm in enumerate(["fresh", "redo", "none"], 1)]
    assert "The page: a report/report.html" in shown.out
    assert "<h1>Mine</h1>" in page("a report")
    assert "train.py --seed 1\n" in page("a report").split("How to repeat it")[1]
    pictures = {path.name for path in Path("a report").glob("*.png")}
    assert {f"synthetic_{name}.png" for name in ["return_per_task", "gap_per_task", "diagnostics_actor"]} <= pictures
    assert all(name in page("a report") for name in pictures)
    assert {path.stem for path in Path("a report").glob("*.pdf")} == {Path(name).stem for name in pictures}
    assert widths["synthetic_return_per_task"] == COLUMN
    assert widths["synthetic_diagnostics_actor"] == WIDTH
    assert {path.suffix for path in Path("a report").iterdir()} == {".html", ".png", ".pdf"}


@pytest.mark.usefixtures("undrawn")
def test_several_folders_become_several_studies_in_one_page(capsys: Captured) -> None:
    write_study(Path("runs/a"), seeds=1)
    write_study(Path("runs/b"), {"none": (1.0, 2.0)}, seeds=2, benchmark="other")
    write_study(Path("more"), {"none": (1.0, 2.0)}, seeds=1, benchmark="other", env="Acrobot-v1")
    assert report.main(["runs", "more", "--random-episodes", "1"]) == 0
    shown = capsys.readouterr().out
    assert page().count("<article") == 3
    for title in ["other: CartPole-v1, ppo", "other: Acrobot-v1, ppo", "synthetic: CartPole-v1, ppo"]:
        assert title in shown
        assert f"<h2>{title}</h2>" in page()
    assert Path("report/other_return_per_task.png").exists()
    assert Path("report/other_2_return_per_task.png").exists()


@pytest.mark.usefixtures("undrawn")
def test_unfinished_old_and_empty_runs_are_shown_with_what_they_lack() -> None:
    write_run(Path("runs/going"), state="running", finished=2)
    write_run(Path("runs/old"), "fresh", episodes=False)
    write_run(Path("runs/begun"), "redo", state="running", finished=0)
    assert report.main(["runs", "--quiet", "--random-episodes", "0"]) == 0
    for sentence in [
        "3 arms, 3 runs, 1 seed, up to 4 tasks; 2 runs not finished.",
        "going: running, not finished: 2,000 of 4,000 steps, 2 tasks.",
        "begun: no finished task in tasks.csv.",
        "old: no episodes.csv",
    ]:
        assert sentence in page(), sentence


@pytest.mark.usefixtures("undrawn")
def test_a_random_policy_gives_the_gap_its_scale_unless_it_is_left_out() -> None:
    write_study(Path("runs"), seeds=1)
    assert report.main(["runs", "--quiet"]) == 0
    assert '<th scope="col">normalised gap</th>' in page()
    assert report.main(["runs", "--quiet", "--random-episodes", "0"]) == 0
    assert '<th scope="col">normalised gap</th>' not in page()
    assert "The return of a random policy is not known" in page()
    write_run(Path("module"), env="somebodys_module:Env-v0")
    assert report.main(["module", "--quiet"]) == 0
    assert "No random policy was tried: somebodys_module:Env-v0 names a module" in page()


@pytest.mark.usefixtures("undrawn")
def test_a_run_that_cannot_be_read_is_left_out_with_a_sentence() -> None:
    write_study(Path("runs"), {"none": (1.0, 2.0)}, seeds=1)
    write_run(Path("runs/torn"))
    Path("runs/torn/config.yaml").write_text("{[")
    assert report.main(["runs", "--quiet"]) == 0
    assert "runs/torn/config.yaml" in page()
    assert "<article" in page()


@pytest.mark.usefixtures("undrawn")
def test_a_terminal_is_not_written_to_by_names_of_arms(capsys: Captured) -> None:
    write_run(Path("runs/a"), regularizer={"a\x1b[2J\x07b": {}})
    assert report.main(["runs"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\x07" not in shown


@pytest.mark.usefixtures("undrawn")
def test_the_page_is_the_same_each_time_and_takes_the_place_of_an_older_one() -> None:
    write_study(Path("runs"), seeds=2)
    pages = []
    for _ in range(2):
        assert report.main(["runs", "--quiet"]) == 0
        pages.append(page())
    assert pages[0] == pages[1]
    assert not list(Path("report").glob(".*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "There is no directory 'nowhere'."),
        (["empty"], "empty: there is no run in it"),
        (["file"], "There is no directory 'file'."),
        (["torn"], "torn/config.yaml"),
        ([], "the following arguments are required: runs"),
        (["runs", "--nonsense"], "'--nonsense' is none of its options"),
        (["runs", "--dpi", "many"], "must be a whole number from 30 to 600, not 'many'"),
        (["runs", "--dpi", "5"], "must be a whole number from 30 to 600, not '5'"),
        (["runs", "--random-episodes", "-1"], "random-episodes"),
        (["runs", "--out", "file"], "--out file cannot be written to (File exists)."),
        (["runs", "--out", "file/below"], "--out file/below cannot be written to (Not a directory)."),
        (["runs", "--out", "/proc/report"], "--out /proc/report cannot be written to"),
    ],
)
def test_mistakes_end_in_one_sentence(words: list[str], said: str, capsys: Captured) -> None:
    write_run(Path("runs/a"))
    write_run(Path("torn"))
    Path("torn/config.yaml").write_text("{[")
    Path("empty").mkdir()
    Path("file").touch()
    assert report.main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("report.py: error: ")
    assert shown.err.endswith((".\n", "?\n"))
    assert shown.err.count("\n") == 1
    assert said in shown.err


@pytest.mark.parametrize("package", report.EXTRA)
def test_a_missing_package_is_named_with_what_installs_it(
    package: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    write_run(Path("runs/a"))
    for name in [name for name in sys.modules if name.partition(".")[0] in ("reporting", package)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert report.main(["runs"]) == 2
    assert capsys.readouterr().err == (
        f"report.py: error: {package} is not installed; pip install 'perennial[report]' adds what reports need.\n"
    )
    assert not Path("report").exists()


def test_what_else_is_missing_is_no_mistake_of_the_users() -> None:
    with pytest.raises(ModuleNotFoundError), report.extra_installed():
        raise ModuleNotFoundError(name="torch")


def test_an_interrupt_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "report", interrupt)
    assert report.main(["runs"]) == 130


def test_help_lists_the_options_without_loading_anything() -> None:
    code = (
        "import sys, report\n"
        "try: report.main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert not {'torch', 'matplotlib', 'reporting'} & set(sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    for option in ["--out", "--title", "--pdf", "--dpi", "--random-episodes", "--quiet"]:
        assert option in found.stdout


def test_whole_numbers_have_a_range() -> None:
    assert report.read(["runs", "--dpi", "30"]).dpi == 30
    with pytest.raises(UsageError, match="601"):
        report.read(["runs", "--dpi", "601"])
