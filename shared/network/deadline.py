"""Waiting with an end."""

import time


class Deadline:
    """`while deadline.waits():` goes round at once, then every `pause_seconds` until the time is up."""

    def __init__(self, seconds: float, pause_seconds: float = 0.02) -> None:
        self._end = time.monotonic() + seconds
        self._pause_seconds = pause_seconds
        self._begun = False

    @property
    def left(self) -> float:
        return max(0.0, self._end - time.monotonic())

    def waits(self) -> bool:
        if self._begun:
            if not self.left:
                return False
            time.sleep(self._pause_seconds)
        self._begun = True
        return True
