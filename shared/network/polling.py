"""Checks a condition repeatedly, with a time limit."""

import time


class PollTimer:
    """Repeats a loop: the body of `while timer.wait():` runs at once, then every `interval_seconds` for `seconds`."""

    def __init__(self, seconds: float, interval_seconds: float = 0.02) -> None:
        self._end = time.monotonic() + seconds
        self._interval_seconds = interval_seconds
        self._is_first = True

    @property
    def seconds_left(self) -> float:
        return max(0.0, self._end - time.monotonic())

    def wait(self) -> bool:
        if self._is_first:
            self._is_first = False
            return True
        if not self.seconds_left:
            return False
        time.sleep(self._interval_seconds)
        return True
