"""The page: complete, self-contained, and safe whatever a run directory says."""

import base64
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reporting.figures import looks
from reporting.illustrations import Illustration, illustrate
from reporting.page import Picture, render
from reporting.provenance import versions
from reporting.runs import Episodes, Run, Study
from reporting.statistics import Interval
from reporting.summary import ArmSummary, Attribution, Moved, PartEffect, Summary
from reporting.words import best, loss, number, written

NAN = float("nan")
DOT = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
HOSTILE = "<script>alert('x')</script>\"><img src=https://example.org/a onerror=alert(1)> {{ 9 * 9 * 9 }} $x_1$ & "
HEADINGS = [
    "Arms, best first",
    "What the plain agent suffers from",
    "Return at the end of each task",
    "Gap to the fresh agent",
    "Return over the later tasks",
    "Probability of improvement over none",
    "Where the gap comes from",
    "Diagnostics",
    "First batch after each switch",
    "Learning curves",
    "Return on recurring tasks",
    "Diagnostics that moved with the loss of return, and those that did not",
    "What is missing",
    "How to repeat it",
]


class Reader(HTMLParser):
    """What a browser would make of the page: its tags with their attributes, its text, and whether tags are closed."""

    VOID = ("meta", "img", "br", "link", "input")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.headings: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in ("h1", "h2", "h3"):
            self.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings[-1] += data


def run(tmp_path: Path, label: str, seed: int = 0, **other: Any) -> Run:
    given: dict[str, Any] = {
        "path": tmp_path / f"{seed}",
        "config": {},
        "benchmark": "b",
        "label": label,
        "seed": seed,
        "state": "finished",
        "steps": 300,
        "tasks": [{"task": task, "start": 100 * task, "end": 100 * task + 100} for task in range(3)],
        "episodes": Episodes(
            np.arange(10, 301, 10),
            np.repeat([0, 1, 2], 10),
            np.arange(30.0),
            np.full(30, 10),
            np.arange(30) % 10 == 9,
        ),
        "command": f"python train.py --seed {seed}",
    }
    return Run(**given | other)


def arm(label: str, value: float = 50.0, **other: Any) -> ArmSummary:
    cells = np.array([[10.0, value - 1, value - 1], [12.0, value + 1, value + 1]])
    ends = cells.mean(0)
    aggregate = Interval(value, value - 1, value + 1, 2)
    return ArmSummary(label, 2, [0, 1], cells, ends, ends - 1, ends + 1, aggregate, **other)


def full(tmp_path: Path, extra: str = "redo") -> Summary:
    """A study with everything in it."""
    cells = np.array([[0.1, 0.2, 0.3], [0.2, 0.2, NAN]])
    measured = {"diagnostics": {"actor/dormant": cells, "critic/dormant": cells}, "at_switch": {"actor/entropy": cells}}
    gaps: dict[str, Any] = {"gap": Interval(41.5, 30.25, 52.0, 2), "gap_per_task": cells * 100}
    arms = [
        arm("fresh", 90.0, improvement=Interval(1.0, 1.0, 1.0, 2), **measured),
        arm(extra, 60.0, improvement=Interval(0.75, 0.5, 1.0, 2), normalized_gap=Interval(0.3, 0.2, 0.4, 2), **gaps),
        arm("none", 48.5, visits=cells, area=Interval(33.0, 31.0, 35.0, 2), **gaps, **measured),
    ]
    study = Study(
        "b: CartPole-v1, ppo", {each.label: [run(tmp_path, each.label, seed) for seed in (0, 1)] for each in arms}
    )
    restored = PartEffect("actor's head", Interval(0.8, 0.6, 1.0, 2), Interval(80.0, 70.0, 90.0, 2))
    moved = [
        Moved("actor/dormant", Interval(0.72, 0.5, 0.9, 2), 4, True),
        Moved("switch/actor/entropy", Interval(-0.05, -0.4, 0.3, 2), 4, False),
    ]
    return Summary(
        study,
        arms,
        Attribution([restored], "The head restores 80 % of it.", arms[2].gap),
        ["A saturated policy.", "Its entropy is 0.01."],
        moved,
        ["Seed 2 is missing of: none."],
        ["Intervals are from 2 runs."],
    )


def bare(tmp_path: Path) -> Summary:
    """A study in which nothing can be computed."""
    cells = np.full((1, 1), NAN)
    lone = ArmSummary("redo", 1, [0], cells, cells[0], cells[0], cells[0], Interval(NAN, NAN, NAN, 1))
    some = run(tmp_path, "redo", tasks=[], episodes=None, state="running", command=None, path=tmp_path / "a run's")
    return Summary(Study("b: CartPole-v1, ppo", {"redo": [some]}), [lone])


def page(*summaries: Summary, **other: Any) -> str:
    """The page without real figures."""
    shown = looks(sorted({each.label for summary in summaries for each in summary.arms}))
    pictures = [
        [
            Picture(each, f"{each.name}.png" if each.draw else "", DOT if each.draw else b"")
            for each in illustrate(summary, shown)
        ]
        for summary in summaries
    ]
    given = {"title": "A report", "made_by": "python report.py runs"} | other
    return render(summaries=summaries, pictures=pictures, looks=shown, **given)


def test_every_section_is_there_with_its_figure(tmp_path: Path) -> None:
    read = Reader(page(full(tmp_path)))
    for heading in HEADINGS:
        assert any(found.startswith(heading) for found in read.headings), heading
    assert len([tag for tag, _ in read.tags if tag == "img"]) == 10  # two networks have diagnostics
    assert not read.open
    assert {"Diagnostics of the actor", "Diagnostics of the critic"} <= set(read.headings)


def test_every_section_that_cannot_be_filled_says_why(tmp_path: Path) -> None:
    read = Reader(page(bare(tmp_path)))
    for heading in HEADINGS:
        assert any(found.startswith(heading) for found in read.headings), heading
    assert not [tag for tag, _ in read.tags if tag == "img"]
    for sentence in [
        "there is no arm none and no arm fresh.",
        "nothing can be ranked",
        "No run has finished a task with a whole episode at its end yet.",
        "There is no arm that starts each task afresh",
        "No arm has finished a later task yet.",
        "There is no arm none to compare with.",
        "This takes arms that renew one part of the agent at switches",
        "No diagnostic was recorded at the end of a task.",
        "Nothing was measured on the first batch of a task.",
        "No run has a record of its episodes (episodes.csv).",
        "This takes diagnostics of the arm none",
        "1 arm, 1 run, 1 seed, up to 0 tasks; 1 run not finished.",
        "No run has a record of its versions.",
    ]:
        assert sentence in read.text, sentence


def test_what_run_directories_say_is_shown_and_never_run(tmp_path: Path) -> None:
    summary = full(tmp_path, HOSTILE)
    summary.study.title = summary.study.differing = HOSTILE
    summary.illness, summary.notes, summary.missing = [HOSTILE] * 2, [HOSTILE], [HOSTILE]
    summary.attribution = Attribution([PartEffect(HOSTILE, Interval(1, 0, 2, 2), Interval(1, 0, 2, 2))], HOSTILE)
    summary.moved = [Moved(HOSTILE, Interval(1, 0, 1, 2), 9, True)]
    for each in summary.arms:
        each.diagnostics = {f"{HOSTILE}/{HOSTILE}": np.ones((2, 3))}
        each.at_switch = dict(each.diagnostics)
    folder = tmp_path / "<script>run" / "x"
    folder.mkdir(parents=True)
    (folder / "versions.json").write_text(json.dumps({HOSTILE: HOSTILE, "command": HOSTILE}))
    summary.study.arms[HOSTILE] = [run(tmp_path, HOSTILE, command=HOSTILE, state=HOSTILE, path=folder)]
    text = page(summary, summary, title=HOSTILE, made_by=HOSTILE, left_out=[HOSTILE])
    read = Reader(text)
    check_self_contained(read)
    assert not read.open
    assert read.text.count(HOSTILE) > 20
    assert "729" not in read.text  # no template in it either
    assert str(folder) in read.text


def check_self_contained(read: Reader) -> None:
    assert not {tag for tag, _ in read.tags} & {"script", "link", "iframe", "object", "embed", "form", "svg", "base"}
    for tag, attributes in read.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("href", "#").startswith("#")
        assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
        assert tag != "img" or not set(attributes) & {"srcset"}


def test_the_page_needs_nothing_beside_itself(tmp_path: Path) -> None:
    text = page(full(tmp_path))
    read = Reader(text)
    check_self_contained(read)
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    assert "url(" not in text
    policy = next(tag["content"] for _, tag in read.tags if tag.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_a_picture_has_its_size_and_says_what_it_shows() -> None:
    assert Picture(Illustration("a", "A", "b"), "a.png", DOT).size == (1, 1)


def test_episodes_that_were_cut_short_are_in_no_learning_curve(tmp_path: Path) -> None:
    summary = full(tmp_path)  # of the returns 0 to 29, the switches have cut those of 9, 19 and 29 short
    (found,) = [
        each for each in illustrate(summary, looks(["fresh", "redo", "none"])) if each.name == "learning_curves"
    ]
    assert found.draw is not None
    (axes,) = found.draw().axes
    drawn = {float(y) for line in axes.lines if line.get_gid() is None for y in line.get_ydata()}
    assert drawn & {8.0, 9.0, 18.0, 19.0, 28.0, 29.0} == {8.0, 18.0, 28.0}
    assert [line.get_xdata()[0] for line in axes.lines if line.get_gid() == "switch"] == [100.0, 200.0]


def test_switches_are_marked_only_where_all_runs_share_them(tmp_path: Path) -> None:
    summary = full(tmp_path)
    summary.study.arms["none"][0].tasks[2]["start"] = 150
    (found,) = [
        each for each in illustrate(summary, looks(["fresh", "redo", "none"])) if each.name == "learning_curves"
    ]
    assert found.draw is not None
    assert not [line for line in found.draw().axes[0].lines if line.get_gid() == "switch"]
    assert "Each run switches tasks at steps of its own." in found.caption


def test_pictures_are_described_for_who_cannot_see_them(tmp_path: Path) -> None:
    read = Reader(page(full(tmp_path)))
    described = [tag["alt"] for name, tag in read.tags if name == "img"]
    assert "Return at the end of each task. fresh: 11.0 in task 0, 90.0 in task 2; redo:" in described[0]
    assert all(len(each) > 30 for each in described)


def test_tables_have_values_with_intervals_and_no_empty_columns(tmp_path: Path) -> None:
    text = Reader(page(full(tmp_path))).text
    assert "41.530.2 to 52.0" in text
    assert "75 %50 % to 100 %" in text
    assert "33.031.0 to 35.0" in text
    assert "normalised gap" in text.split("What the measures mean")[0]
    assert "forgetting" not in text.split("What the measures mean")[0]


def test_diagnostics_stand_where_they_moved_or_did_not(tmp_path: Path) -> None:
    text = Reader(page(full(tmp_path))).text
    moved, still = text.index("actor/dormant"), text.index("switch/actor/entropy")
    assert text.index("Moved") < moved < text.index("Did not move") < still


def test_definitions_are_those_of_the_diagnostics_in_the_report(tmp_path: Path) -> None:
    text = Reader(page(full(tmp_path))).text.split("What the diagnostics mean")[1]
    assert "Share of tau-dormant units (Sokar et al. 2023)." in text
    assert "effective_rank" not in text


def test_an_arm_has_one_colour_in_all_studies(tmp_path: Path) -> None:
    one, other = full(tmp_path), bare(tmp_path)
    shown = looks(["fresh", "none", "redo"])
    found = [tag["style"] for _, tag in Reader(page(one, other)).tags if tag.get("class") == "dot"]
    assert found.count(f"background:{shown['redo'].color}") == 3  # two tables of the first study, one of the second


def test_several_studies_are_listed_and_linked(tmp_path: Path) -> None:
    one, other = full(tmp_path), bare(tmp_path)
    other.study.title, other.study.differing = "Other", "steps 10"
    read = Reader(page(one, other))
    links = [tag["href"] for name, tag in read.tags if name == "a"]
    assert links == [f"#{tag['id']}" for name, tag in read.tags if name == "article"]
    assert read.text.count("steps 10") == 2


def test_commands_are_as_recorded_or_repeat_a_run_by_its_configuration(tmp_path: Path) -> None:
    text = Reader(page(full(tmp_path))).text
    assert text.count("python train.py --seed 1\n") == 3
    assert "was not recorded" not in text
    text = Reader(page(bare(tmp_path))).text
    assert "a run'\"'\"'s/config.yaml'\n" in text
    assert "The command of 1 run was not recorded" in text


def test_versions_that_differ_are_counted(tmp_path: Path) -> None:
    runs = [run(tmp_path, "none", seed) for seed in range(4)]
    for each, torch in zip(runs, ["2.6", "2.6", "2.7", None], strict=True):
        each.path.mkdir()
        content = "{torn" if torch is None else json.dumps({"python": "3.11", "torch": torch, "command": "x"})
        (each.path / "versions.json").write_text(content)
    assert versions(runs) == [("python", "3.11"), ("torch", "2.6 (2 runs), 2.7 (1 run)")]


@pytest.mark.parametrize(
    ("gap", "sentence"),
    [
        (Interval(30.0, 20.0, 40.0, 3), "Plasticity is lost: in later tasks the plain agent earns 30.0 less than"),
        (
            Interval(-30.0, -40.0, -20.0, 3),
            "No plasticity is lost: in later tasks the plain agent earns 30.0 more than",
        ),
        (
            Interval(3.0, -2.0, 8.0, 3),
            "Plasticity loss is not shown: in later tasks the plain agent earns 3.00 less than",
        ),
        (Interval(3.0, NAN, NAN, 1), "with 1 pair of runs this cannot be told from chance."),
        (None, "none and fresh share no seed"),
    ],
)
def test_the_headline_says_whether_plasticity_is_lost(gap: Interval | None, sentence: str) -> None:
    assert sentence in loss({"none": arm("none", gap=gap), "fresh": arm("fresh")})


def test_the_interval_of_the_headline_is_that_of_its_sentence() -> None:
    more = loss({"none": arm("none", gap=Interval(-30.0, -41.0, -20.0, 3)), "fresh": arm("fresh")})
    assert more.endswith("(95\u00a0% interval 20.0 to 41.0; 3 pairs of runs).")
    unclear = loss({"none": arm("none", gap=Interval(-3.0, -8.0, 2.0, 3)), "fresh": arm("fresh")})
    assert unclear.endswith("(95\u00a0% interval −2.00 to 8.00, which has 0 in it; 3 pairs of runs).")


def test_the_best_arm_is_the_first_that_is_not_started_afresh() -> None:
    assert best([arm("fresh", 90), arm("redo", 80), arm("none", 70)]).startswith("Best arm: redo earns 80.0 (")
    assert best([arm("actor's head renewed", 85), arm("redo", 80), arm("none", 70)]).startswith("Best arm: redo earns")
    assert best([arm("redo", 80), arm("none", 79)]).endswith("their intervals overlap.")
    assert best([arm("redo", 80), arm("none", 70)]).endswith("69.0 to 71.0).")
    assert best([arm("fresh", 90), arm("redo", 80)]).endswith("there is no other arm than fresh to compare it with.")
    assert best([arm("redo", 80)]).endswith("there is no other arm to compare it with.")
    assert "nothing can be ranked" in best([arm("none", NAN)])


def test_numbers_have_three_figures_and_those_of_an_interval_the_same_decimals() -> None:
    assert [number(value) for value in (12345.6, 412.3, 41.23, 4.123, 0.4123, -0.0001, NAN)] == [
        "12,346",
        "412",
        "41.2",
        "4.12",
        "0.412",
        "0.000",
        "–",
    ]
    assert written(Interval(-1.0, -120.0, 3.0, 2)) == ("−1", "−120 to 3")
    assert written(Interval(1.0, NAN, NAN, 1)) == ("1.00", "")
