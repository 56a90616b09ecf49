"""Keeps what benches measure, each case with how it was made: one that is measured again dates no other anew."""

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from recording.directory import versions


def keep(path: Path, figures: Mapping[str, Mapping[str, Any]], *place: str) -> None:
    """Put some cases' figures among those of a file; the others there stay as they are.

    Args:
        path: JSON, made where there is none.
        figures: by case.
        place: keys of the block that holds the cases; the whole file without any.
    """
    kept = json.loads(path.read_text()) if path.exists() else {}
    cases = kept
    for key in place:
        cases = cases.setdefault(key, {})
    made = how_made()
    cases |= {case: {**found, "made": made} for case, found in figures.items()}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(kept, indent=1) + "\n")


def how_made() -> dict[str, str]:
    """When, by which command, with what and on what this process makes figures."""
    told = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    processor = next((value.strip() for key, value in told.items() if key.strip() == "model name"), platform.machine())
    return {
        "date": date.today().isoformat(),
        "command": shlex.join(["python", f"bench/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        **versions(),
        "machine": f"{cores()} cores, {processor}",
    }


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0))
