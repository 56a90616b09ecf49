"""YAML files: where the shipped ones are, how they are found by name, read and written.

They are read more strictly than YAML asks for: keys are texts and stand once, because the second of two equal keys
would win without a word.
"""

from pathlib import Path
from typing import Any, Literal

import yaml

from configs.settings import UsageError, did_you_mean

HERE = Path(__file__).parent
Kind = Literal["agents", "benchmarks", "schedules"]


class StrictLoader(yaml.SafeLoader):
    """YAML of plain values, whose keys are texts that stand once, and whose blocks do not contain themselves."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A block, complete when it is returned."""
        self.flatten_mapping(node)
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                problem = f"the key {key!r} is no text; write it in quotes"
            elif key in found:
                problem = f"the key {key!r} stands twice"
            else:
                found[key] = self.construct_object(value_node, deep=True)
                continue
            raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
        return found


StrictLoader.add_constructor("tag:yaml.org,2002:map", StrictLoader.construct_mapping)


def shipped(kind: Kind) -> dict[str, str]:
    """Names of the shipped files of a kind, each with its one-line description (the file's first comment)."""
    paths = sorted((HERE / kind).glob("*.yaml"))
    return {path.stem: path.read_text().splitlines()[0].lstrip("# ").strip() for path in paths}


def find(kind: Kind, name: str, flag: str) -> Path:
    """The file that a name or a path given to `flag` means; a UsageError where there is none."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if path.is_file():
            return path
        raise UsageError(f"{flag}: there is no file {name!r}.")
    path = HERE / kind / f"{name}.yaml"
    if not path.is_file():
        names = shipped(kind)
        raise UsageError(
            f"{flag}: there is no {kind[:-1]} {name!r}; choose one of {', '.join(names)}, or a YAML file"
            f"{did_you_mean(name, names) or '.'}"
        )
    return path


def read(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; a UsageError where it cannot be read or is no mapping."""
    try:
        content = yaml.load(path.read_text(), StrictLoader)  # a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}).") from error
    except yaml.YAMLError as error:
        mark, what = getattr(error, "problem_mark", None), getattr(error, "problem", error)
        where = f" in line {mark.line + 1}" if mark else ""
        raise UsageError(f"{path}: is not valid YAML{where} ({what}).") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: must hold settings as 'name: value' lines.")
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
    path.write_text(f"# {comment}\n" + yaml.safe_dump(content, sort_keys=False))
