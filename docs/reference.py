"""Pages of the reference, one for each room, with all of its modules: a hook of `mkdocs.yml`, which makes them anew."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
ROOMS = (
    "agents",
    "resets",
    "regularizers",
    "optimizers",
    "envs",
    "metrics",
    "reporting",
    "sweeping",
    "recording",
    "checkpoints",
    "configs",
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Called by MkDocs: add the pages."""
    for room in ROOMS:
        files.append(File.generated(config, f"reference/{room}.md", content=page(room)))
    return files


def page(room: str) -> str:
    """A heading for each module, named after its file, and what its docstrings say below."""
    modules = [path for path in sorted((ROOT / room).rglob("*.py")) if path.name != "__init__.py"]
    parts = [
        f"# {room}\n\n::: {room}\n    options: {{show_submodules: false, members: false, show_root_heading: false}}\n"
    ]
    for path in modules:
        file = path.relative_to(ROOT)
        name = ".".join(file.with_suffix("").parts)
        parts.append(f"## {file}\n\n::: {name}\n    options: {{show_root_heading: false, heading_level: 3}}\n")
    return "\n".join(parts)
