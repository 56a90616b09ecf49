"""Configurations that nobody should write, as Hypothesis draws them: command lines, and the YAML files that they name.

Each is made of real names and real settings, so that most get past the first check, with values that are sometimes
right, sometimes at a bound, and sometimes of another kind altogether.
"""

import json
from dataclasses import dataclass, field
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from hypothesis import strategies as st

from configs import files
from configs.command_line import Run
from configs.flags import leaves
from configs.names import CHOICES
from configs.plans import KINDS
from configs.population import Members
from configs.settings import BOUNDS
from envs.changes import CHANGES
from envs.normalize import Normalization
from envs.schedules import COMPOSITIONS

HOSTILE = [
    "", " ", "none", "null", "nan", "inf", "-inf", "-1", "0", "1", "2", "3", "7", "0.5", "2.5", "-0.0", "1e308",
    "-1e308", "1e-320", "1e400", "1e15", "9223372036854775807", "9223372036854775809", "1" + "0" * 400, "9" * 5000,
    "true", "no", "ppo", "\ud800", "\u202etxt", "\0", "a\nb", "\x1b[31m", "[1,2", "[]", "1,2,3", ",", "{}", "()",
    "--quiet", "=", "é", "auto_nan", "auto_1e400", "auto_", "~", "../..", "/dev/zero", "%s", "{0}", "'", '"',
    "x" * 300, "1_0", "0x10", "٣", "all", "default", "none,none", "redo,redo", ".", "..", "/", "a/b",
    "cuda:99999999999999", "s.yaml", "b.yaml",
]  # fmt: skip
"""Texts that were thought of; Hypothesis adds its own."""
SNIPPETS = [
    "", "~", ".nan", ".inf", "-.inf", "0x10", "0b1", "1:30:30", "2020-01-01", "2020-13-45", "'", '"\\0"', "[]", "{}",
    "[[1]]", "[{a: 1}]", "{a: b}", "{a: {b: {c: d}}}", "*undefined", "&a [*a]", "&a {<<: *a}",
    "!!python/object/apply:os.system [x]", "!!binary x", "!!int ''", "!!bool x", "!!set {a}", "!!timestamp x", "<<",
    "=", "- a", "? x", "%TAG", "on", "yes", "| x", "[1, , 2]", "@x", "`x`", "\ud800", "\0", "\t", "9" * 5000, "1e400",
    "[" * 40 + "]" * 40, "[" * 200, "\u2028", "1 # x",
]  # fmt: skip
"""Pieces of YAML, right or wrong, that are more than a text."""
ENVS = ["CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCarContinuous-v0"]
KEYS = ["zzz", "name", "kind", "class", "seed", "a.b", "", "\0", "é", "<<", "'1'", "1", "on", "changes", "parts", "tau"]


@dataclass
class Case:
    """A command line, and the files that lie beside it."""

    words: list[str]
    files: dict[str, str] = field(default_factory=dict)


def right(hint: Any) -> st.SearchStrategy[str]:
    """Texts for values of a type, at its bounds where it has some; not all are allowed where bounds are strict."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        limits = [getattr(bound, BOUNDS[type(bound)][0]) for bound in arguments[1:] if type(bound) in BOUNDS]
        near = [str(limit + step) for limit in limits for step in (-1, 0, 1)]
        return st.sampled_from(near) | right(arguments[0]) if near else right(arguments[0])
    if origin is Literal:
        return st.sampled_from([str(choice) for choice in arguments])
    if origin in (Union, UnionType):
        return st.one_of([right(option) for option in arguments])
    if origin is tuple:
        return st.lists(right(arguments[0]), max_size=4).map(",".join)
    if hint is bool:
        return st.sampled_from(["true", "false"])
    if hint is int:
        return st.integers(0, 64).map(str)
    if hint is float:
        return st.sampled_from(["0.1", "0.5", "0.9", "0.99", "2", "1e-3"])
    return st.sampled_from(["none", "auto", "text"])


def values(hint: Any, wrong: bool) -> st.SearchStrategy[str]:
    """Texts for a setting of a type, of the right kind or of any."""
    return (
        right(hint)
        if not wrong
        else st.one_of(right(hint), st.sampled_from(HOSTILE), st.text(max_size=6), st.floats().map(str))
    )


def in_yaml(hint: Any, wrong: bool) -> st.SearchStrategy[str]:
    """Values for a setting as they stand in YAML."""
    if not wrong:
        return right(hint).map(_item)
    return st.one_of(right(hint).map(_item), values(hint, wrong).map(json.dumps), st.sampled_from(SNIPPETS))


def _item(text: str) -> str:
    return f"[{text}]" if "," in text else text


@st.composite
def schedules(draw: st.DrawFn) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """What a schedule file holds, and the settings that it could hold as well."""
    kind = draw(st.sampled_from(list(KINDS)))
    if kind in COMPOSITIONS:
        parts = {
            name: draw(_plain(draw(st.sampled_from(["periodic", "drift", "sequence"])))) for name in ("one", "two")
        }
        found: dict[str, Any] = {"kind": kind, "parts": {name: tree for name, (tree, _) in parts.items()}}
        settings = [(f"{name}.{leaf}", hint) for name, (_, own) in parts.items() for leaf, hint in own]
        return found, [*settings, *_settings(KINDS[kind])]
    return draw(_plain(kind))


@st.composite
def _plain(draw: st.DrawFn, kind: str) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    changes = draw(st.lists(st.sampled_from(list(CHANGES)), max_size=2, unique=True))
    tree: dict[str, Any] = {"kind": kind, "changes": {change: {} for change in changes}}
    needed = {"period": "100", "lengths": "[100, 200]", "file": "s.yaml"}
    own = _settings(KINDS[kind])
    tree |= {
        name: text for name, text in needed.items() if name in {leaf for leaf, _ in own} and draw(st.integers(0, 9))
    }
    return tree, own + [(f"{change}.{leaf}", hint) for change in changes for leaf, hint in _settings(CHANGES[change])]


def _settings(kind: type[Any]) -> list[tuple[str, Any]]:
    return [(name, hint) for name, hint, _ in leaves(kind)]


@st.composite
def cases(draw: st.DrawFn, most_settings: int = 4, spoil: bool = True) -> Case:
    """A command line with some settings by flags, and others in a benchmark's or a schedule's file.

    Args:
        draw: Hypothesis's.
        most_settings: how many settings are given at most.
        spoil: whether values are also of the wrong kind, and blocks and keys in the wrong place.
    """
    wrong = spoil and draw(st.booleans())
    choice: dict[str, list[str]] = {
        "agent": [draw(st.sampled_from(list(CHOICES["agent"])))],
        "network": [draw(st.sampled_from(["mlp", "mlp", "mlp", "cnn"]))],
        "optimizer": [draw(st.sampled_from(list(CHOICES["optimizer"])))],
        **{
            group: draw(st.lists(st.sampled_from(list(CHOICES[group])), max_size=2, unique=True))
            for group in ("reset", "regularizer", "metrics")
        },
    }
    tree: dict[str, Any] = {"env": draw(st.sampled_from(ENVS))}
    settings = [*_settings(Run), *((f"normalize.{name}", hint) for name, hint in _settings(Normalization))]
    for group, names in choice.items():
        single = group in ("agent", "network", "optimizer")
        tree[group] = {"name": names[0]} if single else {name: {} for name in names}
        for name in names:
            prefix = f"{group}." if single else f"{group}.{name}."
            settings += [(f"{prefix}{leaf}", hint) for leaf, hint in _settings(CHOICES[group][name])]
    own_schedule = draw(st.booleans())
    block, more = draw(schedules()) if own_schedule else ({}, [])
    tree["schedule"] = "s.yaml" if own_schedule else draw(st.sampled_from(sorted(files.shipped("schedules"))))
    words = ["--config", "b.yaml"]
    # A setting drawn from all of them would almost always be one of a few long lists.
    groups = sorted({name.partition(".")[0] for name, _ in settings})
    for _ in range(draw(st.integers(0, most_settings))):
        group = draw(st.sampled_from([*groups, *(["schedule"] * 3 if more else [])]))
        if group == "schedule":
            name, hint = draw(st.sampled_from(more))
            if draw(st.booleans()):
                _put(block, name.split("."), draw(in_yaml(hint, wrong)))
            else:
                words.append(f"--schedule.{name}={draw(values(hint, wrong))}")
            continue
        name, hint = draw(st.sampled_from([each for each in settings if each[0].partition(".")[0] == group]))
        if draw(st.booleans()):
            _put(tree, name.replace("-", "_").split("."), draw(in_yaml(hint, wrong)))
        else:
            words += [f"--{name}", *draw(st.lists(values(hint, wrong), min_size=1, max_size=1 + wrong))]
    words += draw(many_runs(wrong)) if not draw(st.integers(0, 7)) else []
    if wrong and not draw(st.integers(0, 2)):
        spoiled = draw(st.sampled_from([tree, block]))
        path = [*draw(st.sampled_from([[], ["agent"], ["reset"], ["normalize"], ["changes"], ["parts", "one"]]))]
        _put(spoiled, [*path, draw(st.sampled_from(KEYS))], draw(st.sampled_from(SNIPPETS) | st.just("1")))
    if wrong and not draw(st.integers(0, 4)):
        group = draw(st.sampled_from(sorted(tree)))
        tree[group] = draw(st.sampled_from(SNIPPETS))
    if wrong and not draw(st.integers(0, 4)):
        words += draw(st.lists(st.sampled_from(HOSTILE) | st.text(max_size=5).map("--{}".format), max_size=3))
    return Case(words, {"b.yaml": _yaml(tree), "s.yaml": _yaml(block)})


@st.composite
def many_runs(draw: st.DrawFn, wrong: bool) -> list[str]:
    """Flags that make a population of a run: arms, of one method or several, and seeds."""
    words = []
    for group in ("reset", "regularizer"):
        methods = st.sampled_from(["none", "fresh", *CHOICES[group]] if wrong else list(CHOICES[group]))
        arms = st.lists(methods, min_size=1, max_size=2, unique=not wrong).map("+".join)
        words += [f"--{group}", ",".join(draw(st.lists(arms, min_size=1, max_size=3, unique=not wrong)))]
    for name, hint in _settings(Members):
        few = st.sampled_from(["1", "2", "3,5"])  # a configuration for each takes its time
        words.append(f"--{name}={draw(few if name == 'seeds' else values(hint, wrong))}")
    words += [f"--seeds={draw(st.sampled_from(HOSTILE))}"] if wrong else []
    return draw(st.permutations(words)) if wrong else words


def _put(tree: dict[str, Any], path: list[str], value: str) -> None:
    """Set a value somewhere within blocks; a value that stands where a block has to be gives way."""
    for name in path[:-1]:
        if not isinstance(tree.get(name), dict):
            tree[name] = {}
        tree = tree[name]
    tree[path[-1]] = value


def _yaml(tree: Any) -> str:
    """Blocks in flow style around the pieces of YAML, as they are."""
    if not isinstance(tree, dict):
        return str(tree)
    return "{" + ", ".join(f"{key}: {_yaml(value)}" for key, value in tree.items()) + "}"
