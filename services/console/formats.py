"""Figures as the console's pages show them. An unknown figure is an en dash."""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

UNKNOWN: Final = "–"  # noqa: RUF001 - it stands for no word
SPARK_WIDTH, SPARK_HEIGHT = 120, 24
MINUTE, HOUR, DAY = 60, 3_600, 86_400
_BYTES: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_KIBI: Final = 1024


def duration(seconds: float | None) -> str:
    """Return a time span with one unit, such as `4.2 ms`, `12 s` or `3 h`."""
    if seconds is None or math.isnan(seconds):
        return UNKNOWN
    if seconds < 1:
        return f"{_short(seconds * 1_000)} ms"
    if seconds < 2 * MINUTE:
        return f"{_short(seconds)} s"
    if seconds < 2 * HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.0f} h" if seconds < 2 * DAY else f"{seconds / DAY:.0f} d"


def age(at: float | None, now: float) -> str:
    """Return how long ago a time is, such as `3 s ago`; both are in seconds since 1970."""
    if at is None:
        return "never"
    seconds = max(now - at, 0)
    return f"{seconds:.0f} s ago" if seconds < 2 * MINUTE else f"{duration(seconds)} ago"


def per_second(rate: float | None) -> str:
    return UNKNOWN if rate is None else f"{_short(rate)}/s"


def whole(number: float | None) -> str:
    return UNKNOWN if number is None or math.isnan(number) else f"{number:,.0f}"


def percent(part: float | None) -> str:
    if part is None:
        return UNKNOWN
    return "< 0.1 %" if 0 < part < 0.001 else f"{part * 100:.1f} %"  # noqa: PLR2004 - what the text says


def size(count: float | None) -> str:
    """Return a number of bytes in binary units."""
    if count is None:
        return UNKNOWN
    unit = min(int(math.log(max(count, 1), _KIBI)), len(_BYTES) - 1)
    return f"{_short(count / _KIBI**unit)} {_BYTES[unit]}"


def iso(at: float) -> str:
    """Return a time in seconds since 1970 as ISO 8601, in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def sparkline(values: Sequence[float | None]) -> str:
    """Return the path of a line through the values, from left to right; unknown values are gaps.

    It fits a box of SPARK_WIDTH by SPARK_HEIGHT. The bottom of the box is 0, and the top is the largest value.
    """
    known = [value for value in values if value is not None]
    highest = max(known, default=0.0) or 1.0
    step = SPARK_WIDTH / max(len(values) - 1, 1)
    path, is_drawing = [], False
    for index, value in enumerate(values):
        if value is None:
            is_drawing = False
            continue
        x, y = index * step, SPARK_HEIGHT - 1 - value / highest * (SPARK_HEIGHT - 2)
        # `h0` makes a dot of a single value
        path.append(f"L{x:.1f} {y:.1f}" if is_drawing else f"M{x:.1f} {y:.1f}h0")
        is_drawing = True
    return "".join(path)


def _short(number: float) -> str:
    """Return a number with about three digits."""
    if number >= 100:  # noqa: PLR2004 - three digits
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 10 else f"{number:.2g}"  # noqa: PLR2004 - three digits


FILTERS: Final[Mapping[str, Callable[..., str]]] = {
    "duration": duration,
    "age": age,
    "per_second": per_second,
    "whole": whole,
    "percent": percent,
    "size": size,
    "iso": iso,
    "sparkline": sparkline,
}
