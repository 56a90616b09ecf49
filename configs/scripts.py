"""What the scripts at the top have in common: how they end, and how those with few flags read them."""

import argparse
import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, Protocol

from configs.settings import UsageError, did_you_mean

Work = Callable[[list[str]], int]
"""Does what the words of a command line say, and returns the exit status."""


class Main(Protocol):
    """Runs a script."""

    def __call__(self, arguments: Sequence[str] | None = None) -> int:
        """Run a command line, by default the one that the script was called with; returns the exit status."""
        ...


def make_folder(path: Path, flag: str = "--out") -> None:
    """Make the folder that a flag names; a UsageError where that cannot be or nothing can be written to it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".{os.getpid()}.tmp"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(f"{flag} {path} cannot be written to ({error.strerror}).") from error


def called(name: str) -> str:
    """How to call a script again: as `python sweep.py` in a checkout, by its command where it is installed."""
    used = Path(sys.argv[0]).name
    return used if used.startswith("perennial") else f"python {name}"


def script(name: str, statuses: Mapping[type[Exception], int] | None = None) -> Callable[[Work], Main]:
    """Make a script's `main` out of what it does, so that what a user can do something about ends it in a sentence.

    Args:
        name: of the script, with which its sentences begin.
        statuses: of exceptions that end it in a sentence on standard error; the first that fits. A UsageError ends it
            with 2 otherwise.
    """
    known = {**(statuses or {}), UsageError: 2}
    kinds: tuple[type[Exception], ...] = tuple(known)

    def decorate(work: Work) -> Main:
        @functools.wraps(work)
        def main(arguments: Sequence[str] | None = None) -> int:
            _see_own_modules()
            try:
                return work(sys.argv[1:] if arguments is None else list(arguments))
            except KeyboardInterrupt:
                return 130
            except BrokenPipeError:  # whoever read the output has read enough: train.py --help | head
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return 141
            except kinds as error:
                kind = "error: " if isinstance(error, UsageError) else ""
                print(f"{name}: {kind}{error}", file=sys.stderr)
                return next(status for type_, status in known.items() if isinstance(error, type_))

        return main

    return decorate


def _see_own_modules() -> None:
    """Have `--env my_module:MyEnv-v0` find my_module.py in the folder in which the user is."""
    with suppress(OSError):  # a folder that is no longer there
        if (folder := str(Path.cwd())) not in sys.path:
            sys.path.append(folder)  # last, so that nothing there hides a module of ours


class Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line in one sentence, as the rest of the project does."""

    def __init__(self, name: str, description: str | None) -> None:
        # Without abbreviations: --job would be --jobs.
        super().__init__(
            name, description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """The options of a command line; a UsageError where something is wrong with it."""
        options, unknown = self.parse_known_args(words)
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings]
            nearest = did_you_mean(unknown[0].partition("=")[0], flags)
            raise UsageError(f"{unknown[0]!r} is none of its options{nearest or '; --help lists them all.'}")
        return options

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print."""
        raise UsageError(f"{message.rstrip('.')}; --help lists all options.")


class whole:  # noqa: N801 - reads as a type in add_argument
    """A whole number from `low` to `high`, for argparse."""

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high

    def __call__(self, text: str) -> int:
        """The number."""
        if text.isdecimal() and self.low <= int(text) <= self.high:
            return int(text)
        raise argparse.ArgumentTypeError(f"must be a whole number from {self.low} to {self.high}, not {text!r}")
