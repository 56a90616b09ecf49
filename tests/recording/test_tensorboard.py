"""The event files, read back as TensorBoard reads them."""

import re
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from recording.tensorboard import MEASURES, flatten, layout
from tests.recording.conftest import Recorded

LONGEST = 36


def read(recorded: Recorded) -> Any:
    events = EventAccumulator(str(recorded.directory.path), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    return events


def charts(events: Any) -> list[tuple[str, list[str]]]:
    text = events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    parsed = layout_pb2.Layout.FromString(text)
    return [(chart.title, list(chart.multiline.tag)) for part in parsed.category for chart in part.chart]


def test_tags(recorded: Recorded) -> None:
    tags = read(recorded).Tags()["scalars"]
    assert len(tags) == len({tag[:LONGEST] for tag in tags}), "tags that are cut off must stay distinct"
    assert [tag for tag in tags if len(tag) > LONGEST] == []
    for tag in ("task/index", "task/return", "task/return_end", "rollout/ep_rew_mean", "events/reset_units"):
        assert tag in tags
    assert any(tag.startswith("train/") for tag in tags)
    networks = {tag.split("/")[1] for tag in tags if tag.startswith("plasticity/")}
    assert {"actor"} < networks
    for network in networks:
        assert {f"plasticity/{network}/{measure}" for measure in MEASURES} <= set(tags)


def test_penalties_are_drawn(ppo: Recorded) -> None:
    tags = read(ppo).Tags()["scalars"]
    assert {"penalty/spectral_actor", "penalty/spectral_critic"} <= set(tags)


def test_curves_are_what_the_table_says(recorded: Recorded) -> None:
    events, rows = read(recorded), recorded.directory.read_tasks()
    for tag, column in (("task/return", "return"), ("task/return_end", "return_end")):
        points = [(point.step, point.value) for point in events.Scalars(tag)]
        expected = [(row["end"], pytest.approx(row[column], rel=1e-4)) for row in rows if row["episodes"]]
        assert points == expected
    norms = {point.step: point.value for point in events.Scalars("plasticity/actor/weight_norm")}
    for row in rows:
        assert norms[row["end"]] == pytest.approx(row["actor/weight_norm"], rel=1e-4)
    index = [point.value for point in events.Scalars("task/index")]
    assert index == sorted(index)
    assert set(index) == {0, 1, 2}
    resets = sum(int(str(row["resets"]).split()[0]) for row in rows)
    assert sum(point.value for point in events.Scalars("events/reset_units")) == resets


def test_every_plot_of_the_page_has_a_curve(recorded: Recorded) -> None:
    events = read(recorded)
    tags = events.Tags()["scalars"]
    found = charts(events)
    assert len(found) >= 6
    for title, patterns in found:
        for pattern in patterns:
            # As TensorBoard matches: from the beginning of the tag.
            assert any(re.match(pattern, tag) for tag in tags), (title, pattern)
    matched = {tag for _, patterns in found for p in patterns for tag in tags if re.match(p, tag)}
    assert {tag for tag in tags if tag.startswith(("task/", "plasticity/", "events/"))} == matched


def test_plots_do_not_mix_measures() -> None:
    plots = [plot for page in layout(["actor", "critic"]).values() for plot in page.values()]
    tags = [f"plasticity/{network}/{measure}" for network in ("actor", "critic") for measure in MEASURES]
    tags += ["task/return", "task/return_end", "task/return_now", "task/index"]
    seen: list[str] = []
    for _, patterns in plots:
        seen += [tag for tag in tags if any(re.match(pattern, tag) for pattern in patterns)]
    assert sorted(seen) == sorted(tags)


def test_switches_are_marked(recorded: Recorded) -> None:
    events = read(recorded)
    marks = events.Tensors("events/switch/text_summary")
    assert [mark.step for mark in marks] == [row["end"] for row in recorded.directory.read_tasks()]


def test_hparams_are_the_configuration(recorded: Recorded) -> None:
    content = read(recorded).summary_metadata["_hparams_/session_start_info"].plugin_data.content
    shown = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    expected = flatten(recorded.config.as_dict())
    assert set(shown) - {"arm"} == set(expected)
    assert shown["agent.name"].string_value == recorded.config.names["agent"]
    assert shown["seed"].number_value == 5
    assert shown["reset.redo.tau"].number_value == 0.6
