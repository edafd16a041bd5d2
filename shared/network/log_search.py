"""Finds the lines of the logs of a folder that a filter accepts."""

import heapq
import itertools
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from network.log_files import LogFolder
from network.log_filter import LogFilter, LogMatcher, names_quote
from network.log_records import LogRecord

MAX_LINES = 10_000


@dataclass(frozen=True)
class FoundLines:
    """Lines that a filter accepts, sorted by time. `is_cut` means that earlier ones were left out."""

    records: list[LogRecord]
    is_cut: bool = False


def find_traces(folder: Path, uuid: str, limit: int) -> dict[str, None]:
    """Return the ids of the traces in which a line names the quote, at most `limit`, in the order of reading."""
    found: dict[str, None] = {}
    needle = uuid.encode()
    with closing(LogFolder(folder)) as logs:
        for record in read_all(logs, lambda line: needle in line):
            if len(found) >= limit:
                break
            if record.trace_id and names_quote(record, uuid):
                found[record.trace_id] = None
    return found


def read_all(logs: LogFolder, may_accept: Callable[[bytes], bool]) -> Iterator[LogRecord]:
    """Parse the lines from the present position to the end for which `may_accept` is true."""
    while chunks := logs.next_chunks():
        yield from logs.parse(chunks, may_accept)


def find_lines(logs: LogFolder, folder: Path, matcher: LogMatcher, limit: int = MAX_LINES) -> FoundLines:
    """Return the last `limit` lines of `logs` that the matcher accepts.

    The folder is searched for the quote of the filter first: a line that names it may be of any service.
    """
    wanted: LogFilter = matcher.filter
    if wanted.quote is not None:
        matcher.traces.update(find_traces(folder, wanted.quote, MAX_LINES))
    if wanted.since is not None:
        logs.seek_since(wanted.since)
    numbers = itertools.count()
    newest: list[tuple[float, int, LogRecord]] = []
    is_cut = False
    for record in read_all(logs, lambda line: matcher.may_accept(line) and matcher.may_be_of_trace(line)):
        if not matcher.accepts(record):
            continue
        entry = record.time, next(numbers), record
        if len(newest) < limit:
            heapq.heappush(newest, entry)
        else:
            heapq.heappushpop(newest, entry)
            is_cut = True
    return FoundLines([record for _, _, record in sorted(newest, key=lambda entry: entry[:2])], is_cut)
