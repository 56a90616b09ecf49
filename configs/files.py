"""YAML files: where the shipped ones are, how they are found by name, read and written.

They are read more strictly than YAML asks for: keys are texts and stand once, because the second of two equal keys
would win without a word.
"""

import errno
from pathlib import Path
from typing import Any, Literal

import yaml

from configs.settings import UsageError, did_you_mean

HERE = Path(__file__).parent
Kind = Literal["agents", "benchmarks", "schedules", "sweeps"]
MOST_BYTES = 2**18
"""A file larger than this, 256 KiB, holds no settings."""
MOST_VALUES = 20_000
"""Keys and values of a file, aliases written out."""
DEEPEST = 30
"""Blocks within blocks, aliases written out."""


class StrictLoader(yaml.SafeLoader):
    """YAML of plain values, without tags, of bounded size and depth once its aliases are written out.

    Keys are texts that stand once. Blocks do not contain themselves.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.level = 0
        # By node: how many values it holds and how deep they lie, both counted through aliases.
        self.extents: dict[yaml.Node, tuple[int, int]] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """The next node, measured before anything is made of it."""
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if (tag := getattr(event, "tag", None)) is not None:
            raise _refused(f"the tag {tag!r} is not understood; write a plain value", event)
        if self.level >= DEEPEST:
            raise _refused(f"blocks are nested more than {DEEPEST} deep", event)
        self.level += 1
        node = super().compose_node(parent, index)
        self.level -= 1
        if isinstance(event, yaml.AliasEvent):
            if node not in self.extents:
                raise _refused(f"the block {event.anchor!r} contains itself, it is recursive", event)
        elif node is not None:
            self.extents[node] = self._extent(node, event)
        return node

    def _extent(self, node: yaml.Node, event: yaml.Event) -> tuple[int, int]:
        parts = [] if isinstance(node, yaml.ScalarNode) else node.value
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in parts for part in pair]
        extents = [self.extents[part] for part in parts]
        size = 1 + sum(size for size, _ in extents)
        depth = 1 + max((depth for _, depth in extents), default=0)
        if size > MOST_VALUES:
            raise _refused(f"there are more than {MOST_VALUES:,} values, aliases written out", event)
        if depth > DEEPEST:
            raise _refused(f"blocks are nested more than {DEEPEST} deep, aliases written out", event)
        return size, depth

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A block, complete when it is returned."""
        self.flatten_mapping(node)
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _refused(f"the key {key!r} is no text; write it in quotes", key_node)
            if key in found:
                raise _refused(f"the key {key!r} stands twice", key_node)
            found[key] = self.construct_object(value_node, deep=True)
        return found


def _refused(problem: str, where: Any) -> yaml.MarkedYAMLError:
    """What is wrong with an event or a node of the file."""
    return yaml.MarkedYAMLError(None, None, problem, where.start_mark)


StrictLoader.add_constructor("tag:yaml.org,2002:map", StrictLoader.construct_mapping)


def shipped(kind: Kind) -> dict[str, str]:
    """Names of the shipped files of a kind, each with its one-line description (the file's first comment)."""
    paths = sorted((HERE / kind).glob("*.yaml"))
    return {path.stem: path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ").strip() for path in paths}


def find(kind: Kind, name: str, flag: str) -> Path:
    """The file that a name or a path given to `flag` means; a UsageError where there is none."""
    path = Path(name)
    if is_file(path):
        return path
    if path.suffix in (".yaml", ".yml"):
        raise UsageError(f"{flag}: there is no file {name!r}.")
    names = shipped(kind)
    if name not in names:
        raise UsageError(
            f"{flag}: there is no {kind[:-1]} {name!r}; choose one of {', '.join(names)}, or a YAML file"
            f"{did_you_mean(name, names) or '.'}"
        )
    return HERE / kind / f"{name}.yaml"


def is_file(path: Path) -> bool:
    """Whether there is a regular file at a path, which may be anything that somebody has written."""
    try:
        return path.is_file()
    except OSError:  # a name that is too long, or a folder that may not be entered
        return False


def read(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; a UsageError where it cannot be read or is no mapping."""
    try:
        content = yaml.load(read_bytes(path, MOST_BYTES).decode("utf-8-sig"), StrictLoader)  # a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}).") from error
    except yaml.YAMLError as error:
        mark, what = getattr(error, "problem_mark", None), getattr(error, "problem", None) or error
        where = f" in line {mark.line + 1}" if mark else ""
        raise UsageError(f"{path}: is not valid YAML{where} ({what}).") from error
    except ValueError as error:  # a date that is none, or a number of thousands of digits
        raise UsageError(f"{path}: holds a value that cannot be read ({error}).") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: must hold settings as 'name: value' lines.")
    return content


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes.

    Nothing else is opened: a pipe would be waited for, and a device need not end.

    Raises:
        OSError: there is no such file, or it cannot be read; `strerror` says why.
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "it is no regular file")
        with path.open("rb") as file:
            content = file.read(most + 1)
    except ValueError as error:  # a path that no file can have
        raise OSError(errno.EINVAL, str(error)) from error
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes")
    return content


def merged(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    """Settings over settings, block by block."""
    found = dict(low)
    for key, value in high.items():
        below = low.get(key)
        found[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return found


def write(path: Path, content: dict[str, Any], comment: str) -> None:
    """Write settings in the order given, under a comment."""
    path.write_text(f"# {comment}\n" + yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
