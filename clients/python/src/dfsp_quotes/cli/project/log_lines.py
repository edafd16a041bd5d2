"""The log lines of the services of `make run`, through the filters of `make logs`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dfsp_quotes.cli.failures import BadInputError, CommandError
from dfsp_quotes.cli.output import print_json
from network import log_viewer
from network.log_filter import LogFilter, LogFilterError, log_filter
from network.log_records import LogRecord
from network.log_viewer import LogOutput, LogsNotFoundError, TerminalOutput
from network.terminal import Terminal

_NAMES: Final = ("QUOTE", "SINCE", "UNTIL", "STATUS", "SERVICE", "DATA")


def filter_of(**options: str | None) -> LogFilter:
    """Return the filter for the options. Raises BadInputError."""
    try:
        return log_filter(**options)
    except LogFilterError as error:
        raise BadInputError(_sentence(error)) from None


def show(data: Path, wanted: LogFilter, service: str | None, *, follow: bool) -> None:
    """Print lines for people. Raises BadInputError; CommandError if there are no lines and `follow` is false."""
    _show(data, TerminalOutput(Terminal(), by_trace=wanted.is_by_trace), wanted, service, follow=follow)


def follow_json(data: Path, wanted: LogFilter, service: str | None) -> None:
    """Print each line as one line of JSON. Raises BadInputError."""
    _show(data, _JsonLines(), wanted, service, follow=True)


def collect(data: Path, wanted: LogFilter, service: str | None) -> dict[str, object]:
    """Return the existing lines as the object of `--json`. Raises BadInputError; CommandError if there are none."""
    output = _Collected()
    _show(data, output, wanted, service, follow=False)
    return {"lines": output.lines, "note": output.text}


def _show(data: Path, output: LogOutput, wanted: LogFilter, service: str | None, *, follow: bool) -> None:
    try:
        log_viewer.existing_folder(data, service)
    except LogsNotFoundError as error:
        raise BadInputError(_sentence(error)) from None
    try:
        log_viewer.show(data, output, wanted, service=service, follow=follow)
    except LogsNotFoundError as error:
        raise CommandError(_sentence(error)) from None
    except OSError as error:
        raise BadInputError(f"A log in {data} cannot be read: {error.strerror}.") from None


class _JsonLines:
    """Prints each line at once."""

    def __init__(self) -> None:
        self.has_reader = Terminal().has_reader

    def show(self, records: Sequence[LogRecord]) -> None:
        for record in records:
            print_json(_content(record), indent=None)

    def note(self, text: str) -> None:
        pass


class _Collected:
    """Keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[dict[str, object]] = []
        self.text: str | None = None

    def has_reader(self) -> bool:
        return True

    def show(self, records: Sequence[LogRecord]) -> None:
        self.lines += map(_content, records)

    def note(self, text: str) -> None:
        self.text = text


def _content(record: LogRecord) -> dict[str, object]:
    """Return the members of a line. If the line is not JSON, they are its service and its text."""
    return {"service": record.service, **(record.fields or {"text": record.text})}


def _sentence(error: Exception) -> str:
    text = str(error)
    for name in _NAMES:
        text = text.replace(name, f"--{name.lower()}")
    return f"{text[0].upper()}{text[1:]}."
