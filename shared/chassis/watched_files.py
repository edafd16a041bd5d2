"""The files that a running service reads again when they change: users, TLS, fees and the like.

A check once a second finds changed files, so that no signal is needed. SIGHUP makes the service read every file at
once. In both cases the new content takes effect as a whole, or the previous content stays in force. If the new
content is refused, the log names the fault, and readiness has a warning until the file is corrected.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

from chassis.errors import cause_of
from chassis.logs import Logs
from chassis.periodic import periodically
from chassis.text_file import FileState, state_of

LOOK_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 10.0
"""Time after which a refused file is read again although it has not changed: the database may have been away."""
MAX_CAUSE_CHARACTERS: Final = 500

Reload = Callable[[], Awaitable[Mapping[str, object]]]
"""Reads files again and uses their content. Returns figures for the log line.

Raises an exception that names the fault if the content cannot be used, and then nothing has changed.
"""


class WatchedFile:
    """One file, or several that belong together, such as a certificate and its key.

    Create it before the content is read for the first time, so that no change after that is missed.
    """

    def __init__(self, name: str, *paths: Path | None, is_public: bool = False) -> None:
        """`name` is a noun in the singular for the log and for readiness, for example "the fee schedule".

        Readiness needs no credentials, so it names the fault only in a file that `is_public`.
        """
        self.name = name
        self.paths = [path for path in paths if path is not None]
        self._is_public = is_public
        self.cause: str | None = None
        """The reason why the content on disk is not in force; None if it is."""
        self._read_state = self._seen_state = self._state()
        self._retry_at = float("inf")

    @property
    def warning(self) -> str:
        """A text without secrets for a file that was refused."""
        if not self._is_public or self.cause is None:
            return _refusal(self)
        cause = self.cause
        for path in self.paths:
            cause = cause.replace(str(path), path.name)
        return f"{_refusal(self)}: {cause[:MAX_CAUSE_CHARACTERS]}"

    @property
    def shown_paths(self) -> str:
        return ", ".join(map(str, self.paths))

    def is_due(self, now: float) -> bool:
        """Whether the file has to be read again at this check. `now` is a monotonic time in seconds.

        A changed file is due if two checks in a row find the same state, because an editor may still be writing it.
        """
        state = self._state()
        is_settled, self._seen_state = state == self._seen_state, state
        return is_settled and (state != self._read_state or now >= self._retry_at)

    def begin_reading(self) -> None:
        """Note the state of the content that is read now."""
        self._read_state = self._seen_state = self._state()

    def use(self) -> None:
        """Note that the content that was read is in force."""
        self.cause, self._retry_at = None, float("inf")

    def refuse(self, cause: str, now: float) -> None:
        """Note that the content that was read cannot be used."""
        self.cause, self._retry_at = cause, now + RETRY_SECONDS

    def note_written(self) -> None:
        """Note that the service itself has written the file, so that it is not read again."""
        self.begin_reading()
        self.use()

    def _state(self) -> list[FileState]:
        return [state_of(path) for path in self.paths]


class WatchedFiles:
    """All files of one service that are read again when they change."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self._files: list[tuple[WatchedFile, Reload]] = []
        self._one_by_one = asyncio.Lock()

    def add(self, file: WatchedFile, reload: Reload) -> None:
        self._files.append((file, reload))

    @property
    def warnings(self) -> list[str]:
        """A text without secrets for each file whose content on disk is not in force."""
        return [file.warning for file, _ in self._files if file.cause is not None]

    def watched(self) -> AbstractAsyncContextManager[None]:
        """Look for changed files once a second while the context lasts."""
        return periodically("looking for changed files", LOOK_SECONDS, self.look, self._logs.error)

    async def look(self) -> bool:
        """Read the files again that have changed. Return False, as `periodically` wants it."""
        async with self._one_by_one:
            for file, reload in self._files:
                if file.is_due(time.monotonic()):
                    await self._read(file, reload, known=file.cause)
        return False

    async def reload(self) -> None:
        """Read all files again, as SIGHUP requests."""
        if not self._files:
            self._logs.info("nothing to reload")
        async with self._one_by_one:
            for file, reload in self._files:
                await self._read(file, reload)

    async def _read(self, file: WatchedFile, reload: Reload, known: str | None = None) -> None:
        """Read a file again and log the outcome. The fault `known` is in the log already."""
        file.begin_reading()
        try:
            fields = await reload()
        except Exception as error:  # noqa: BLE001 - a file can cause any error, and the watch must not end with it
            file.refuse(cause_of(error), time.monotonic())
            if file.cause != known:
                self._logs.error(_refusal(file), cause=file.cause, file=file.shown_paths)
        else:
            file.use()
            self._logs.info(f"{file.name} was reloaded", file=file.shown_paths, **fields)


def _refusal(file: WatchedFile) -> str:
    return f"{file.name} is refused; the previous content stays in force"
