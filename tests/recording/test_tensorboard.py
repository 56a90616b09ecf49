"""The event files, read back as TensorBoard reads them."""

import re
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from configs.studies import flat
from metrics import DEFAULT, METRICS
from recording.tensorboard import PAGES, layout
from tests.recording.conftest import Recorded

LONGEST = 36


def read(recorded: Recorded) -> Any:
    events = EventAccumulator(str(recorded.directory.path), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    return events


def charts(events: Any) -> list[tuple[str, list[str]]]:
    text = events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    parsed = layout_pb2.Layout.FromString(text)
    found = [(chart.title, list(chart.multiline.tag)) for part in parsed.category for chart in part.chart]
    for chart in (chart for part in parsed.category for chart in part.chart):
        for series in chart.margin.series:
            found.append((chart.title, [f"{tag}$" for tag in (series.value, series.lower, series.upper)]))
    return [(title, tags) for title, tags in found if tags]


def test_tags(recorded: Recorded) -> None:
    tags = read(recorded).Tags()["scalars"]
    assert len(tags) == len({tag[:LONGEST] for tag in tags}), "tags that are cut off must stay distinct"
    assert [tag for tag in tags if len(tag) > LONGEST] == []
    for tag in ("task/index", "task/return", "task/return_end", "rollout/ep_rew_mean", "events/reset_units"):
        assert tag in tags
    assert any(tag.startswith("train/") for tag in tags)
    metrics = recorded.config.metrics
    assert tuple(metrics) == DEFAULT
    for network in recorded.recorder.measurer.networks:
        for metric in metrics.values():
            if metric.applies(network):
                found = {f"{metric.family}/{network.name}/{name}" for name in metric.names} & set(tags)
                assert found, (metric, network.name)
    assert {"probe/actor/dormant", "switch/actor/entropy"} <= set(tags)


def test_no_tag_of_any_metric_is_too_long_and_no_name_is_taken_twice() -> None:
    names = [name for metric in METRICS.values() for name in metric.names]
    assert len(set(names)) == len(names)
    for metric in METRICS.values():
        for name in metric.names:
            assert len(name) <= 16
            for tag in (f"{metric.family}/critic0/{name}", f"probe/critic0/{name}", f"switch/critic0/{name}"):
                assert len(tag) <= LONGEST
        assert any(metric.family in families for families in PAGES.values())


def test_penalties_are_drawn(ppo: Recorded) -> None:
    tags = read(ppo).Tags()["scalars"]
    assert {"penalty/spectral_actor", "penalty/spectral_critic"} <= set(tags)


def test_curves_are_what_the_table_says(recorded: Recorded) -> None:
    events, rows = read(recorded), recorded.directory.read_tasks()
    for tag, column in (("task/return", "return"), ("task/return_end", "return_end")):
        points = [(point.step, point.value) for point in events.Scalars(tag)]
        expected = [(row["end"], pytest.approx(row[column], rel=1e-4)) for row in rows if row["episodes"]]
        assert points == expected
    norms = {point.step: point.value for point in events.Scalars("weights/actor/weight_norm")}
    for row in rows:
        assert norms[row["end"]] == pytest.approx(row["actor/weight_norm"], rel=1e-4)
    index = [point.value for point in events.Scalars("task/index")]
    assert index == sorted(index)
    assert set(index) == {0, 1, 2}
    resets = sum(int(str(row["resets"]).split()[0]) for row in rows)
    assert sum(point.value for point in events.Scalars("events/reset_units")) == resets


def test_every_plot_of_the_pages_has_a_curve(recorded: Recorded) -> None:
    events = read(recorded)
    tags = events.Tags()["scalars"]
    found = charts(events)
    assert len(found) >= 10
    sac = recorded.config.names["agent"] == "sac"
    for title, patterns in found:
        for pattern in patterns:
            # As TensorBoard matches: from the beginning of the tag. A Gaussian policy has no logits.
            assert any(re.match(pattern, tag) for tag in tags) or (
                sac and title.startswith(("Gap of the two largest logits", "Min prob"))
            )
    matched = {tag for _, patterns in found for p in patterns for tag in tags if re.match(p, tag)}
    own = (
        "task/",
        "events/",
        "shade/",
        "switch/",
        *(f"{family}/" for families in PAGES.values() for family in families),
    )
    assert {tag for tag in tags if tag.startswith(own) and tag.count("/") <= 2} == matched - {
        tag for tag in matched if tag.startswith("probe/")
    }


def test_there_are_four_pages_in_their_order() -> None:
    pages = layout([metric() for metric in METRICS.values()])
    assert list(pages) == ["1 learning", "2 tasks", "3 networks", "4 gradients and curvature"]
    plots = [tag for page in pages.values() for kind, tags in page.values() if kind == "Multiline" for tag in tags]
    assert len(plots) == len(set(plots))


def test_plots_do_not_mix_measures() -> None:
    metrics = [metric() for metric in METRICS.values()]
    plots = [plot for page in layout(metrics).values() for plot in page.values() if plot[0] == "Multiline"]
    tags = [f"{m.family}/{network}/{name}" for network in ("actor", "critic") for m in metrics for name in m.names]
    tags += ["task/return", "task/return_now", "task/return_end", "task/index"]
    for _, patterns in plots:
        seen = [tag for tag in tags if any(re.match(pattern, tag) for pattern in patterns)]
        assert len({tag.split("/")[-1] for tag in seen}) <= 1
    assert all(sum(bool(re.match(p, tag)) for _, patterns in plots for p in patterns) == 1 for tag in tags)


def test_the_band_behind_the_return_is_wide_in_odd_tasks_alone(recorded: Recorded) -> None:
    events = read(recorded)
    value, low, high = (events.Scalars(tag) for tag in ("task/return_now", "shade/low", "shade/high"))
    assert [point.step for point in value] == [point.step for point in low] == [point.step for point in high]
    tasks = {point.step: point.value for point in events.Scalars("task/index")}
    earned = [point.value for point in value]
    assert {tasks[point.step] for point in value} >= {0, 1}
    for index, point in enumerate(value):
        if tasks[point.step] % 2:
            assert low[index].value == min(0.0, *earned[: index + 1])
            assert high[index].value == max(0.0, *earned[: index + 1])
        else:
            assert low[index].value == high[index].value == point.value


def test_switches_are_marked(recorded: Recorded) -> None:
    events = read(recorded)
    marks = events.Tensors("events/switch/text_summary")
    assert [mark.step for mark in marks] == [row["end"] for row in recorded.directory.read_tasks()]


def test_hparams_are_the_configuration(recorded: Recorded) -> None:
    content = read(recorded).summary_metadata["_hparams_/session_start_info"].plugin_data.content
    shown = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    expected = flat(recorded.config.as_dict())
    assert set(shown) - {"arm"} == set(expected)
    assert shown["agent.name"].string_value == recorded.config.names["agent"]
    assert shown["seed"].number_value == 5
    assert shown["reset.redo.tau"].number_value == 0.6
