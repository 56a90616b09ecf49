"""How often something happens that costs time: every so many environment steps, or every so many minutes."""

import math
import re
from dataclasses import dataclass

SECONDS = {
    "s": 1,
    "sec": 1,
    "seconds": 1,
    "min": 60,
    "minute": 60,
    "minutes": 60,
    "h": 3600,
    "hour": 3600,
    "hours": 3600,
}
NUMBER = r"\d+(?:\.\d*)?(?:e\d+)?"
PATTERN = re.compile(rf"({NUMBER})\s*([a-z]*)|never", re.IGNORECASE)


@dataclass(frozen=True)
class Interval:
    """An interval in environment steps or in seconds; the one that does not count is infinite, both for never."""

    steps: float = math.inf
    seconds: float = math.inf

    @classmethod
    def parse(cls, text: str) -> "Interval":
        """Read `10000`, `5min`, `90 s`, `2 hours` or `never`.

        Raises:
            ValueError: it is none of these, or nothing; the message is the end of a sentence.
        """
        match = PATTERN.fullmatch(text.strip())
        if match is None or (match[2] and match[2].lower() not in SECONDS):
            raise ValueError(f"must be a number of steps, a time such as 30s, 5min or 2h, or never, not {text!r}")
        if match[1] is None:
            return cls()
        number = float(match[1])
        if not 0 < number < math.inf:
            raise ValueError(f"must be above 0, not {text!r}")
        if match[2]:
            return cls(seconds=number * SECONDS[match[2].lower()])
        if number != int(number):
            raise ValueError(f"must be a whole number of steps, not {text!r}")
        return cls(steps=int(number))
