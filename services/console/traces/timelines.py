"""The timeline of a trace or quote, from the spans in Postgres and the lines in the log files."""

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import UUID

from chassis.errors import QuotingError
from console.traces.log_search import FoundLines, LogSearch, TimeWindow
from console.traces.span import Span
from console.traces.span_repository import SpanRepository
from console.traces.timeline import Timeline, timeline

MAX_SEARCHES: Final = 2
"""Maximum number of searches of the log files at the same time; further ones wait."""
MAX_WAITING: Final = 16
"""Maximum number of searches that wait; beyond it a page is shown without log lines, and says so."""
MAX_TRACES: Final = 10
"""Maximum number of traces of a quote that a page shows."""
MAX_QUOTES: Final = 10
MAX_WINDOWS: Final = 4
MARGIN_SECONDS: Final = 5.0
"""Searches begin this long before a known time and end this long after it: services write lines late, and clocks differ."""

_NS: Final = 1_000_000_000
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_W3C_TRACE_ID: Final = re.compile(r"[0-9a-f]{32}\Z")


@dataclass(frozen=True)
class TraceTimeline:
    """The timeline of one trace, and whether something is missing from it.

    `w3c_trace_id` is None if no span has arrived. `quotes` are the uuids that the spans and lines name.
    """

    trace: str
    w3c_trace_id: str | None
    quotes: tuple[str, ...]
    timeline: Timeline
    has_all_lines: bool
    problem: str | None

    @property
    def is_empty(self) -> bool:
        return not self.timeline.waterfalls and not self.timeline.other_lines


class Timelines:
    """Makes timelines. `log_search` is None where the console cannot read the log files."""

    def __init__(self, spans: SpanRepository, log_search: LogSearch | None) -> None:
        self.spans = spans
        self.log_search = log_search
        self._turns = asyncio.Semaphore(MAX_SEARCHES)
        self._waiting = 0

    async def of_trace(self, trace: str, windows: Sequence[TimeWindow] = ()) -> TraceTimeline:
        """Return the timeline of a trace, by its L1p or W3C trace id.

        `windows` are the times of its log lines, if they are known; the times of its spans are added.
        """
        spans, problem = await self._spans(trace)
        name = next((span.l1p_trace_id for span in spans if span.l1p_trace_id), _as_logged(trace))
        known = [*windows, *_windows(spans)]
        found = await self._lines(name, known)
        w3c_trace_id = next((span.trace_id for span in spans if not span.is_shared), None)
        quotes = dict.fromkeys(
            uuid
            for uuid in (
                *(span.quote_uuid for span in spans),
                *(line.text_of("uuid") for line in found.lines),
            )
            if uuid and _UUID.match(uuid)
        )
        return TraceTimeline(
            name,
            w3c_trace_id,
            tuple(quotes)[:MAX_QUOTES],
            timeline(spans, found.lines),
            found.is_complete,
            problem,
        )

    async def of_quote(self, uuid: str, windows: Sequence[TimeWindow]) -> list[TraceTimeline]:
        """Return the timelines of the traces that name a quote. `windows` are the times at which it changed."""
        names = dict.fromkeys(await self._traces_by_span(uuid))
        if self.log_search is not None:
            search = self.log_search
            for window in _merged(windows):
                found = await self._search(partial(search.of_quote, uuid, window))
                names.update(dict.fromkeys(line.trace_id for line in found.lines if line.trace_id))
        shown = list(names)[:MAX_TRACES]
        timelines = [await self.of_trace(name, windows) for name in shown]
        return sorted(timelines, key=_start)

    async def _spans(self, trace: str) -> tuple[list[Span], str | None]:
        try:
            return await self.spans.of_trace(trace), None
        except QuotingError as error:
            return [], error.message

    async def _traces_by_span(self, uuid: str) -> list[str]:
        try:
            return [each.trace for each in await self.spans.traces_of_quote(uuid)]
        except QuotingError:  # the timeline of each trace shows this problem, too
            return []

    async def _lines(self, trace: str, windows: Sequence[TimeWindow]) -> FoundLines:
        if self.log_search is None:
            return FoundLines((), is_complete=True)
        search = self.log_search.of_trace
        if not windows:
            return await self._search(partial(search, trace))
        found = [await self._search(partial(search, trace, window)) for window in _merged(windows)]
        lines = tuple(line for each in found for line in each.lines)
        return FoundLines(lines, all(each.is_complete for each in found))

    async def _search(self, search: Callable[[], FoundLines]) -> FoundLines:
        """Search in a thread when it is this search's turn; find nothing if too many wait already."""
        if self._turns.locked() and self._waiting >= MAX_WAITING:
            return FoundLines((), is_complete=False)
        self._waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= 1
        try:
            return await asyncio.to_thread(search)
        finally:
            self._turns.release()


def _windows(spans: Iterable[Span]) -> list[TimeWindow]:
    return [
        TimeWindow(span.start_ns / _NS, (span.start_ns + span.duration_ns) / _NS)
        for span in spans
        if not span.is_shared
    ]


def _merged(windows: Iterable[TimeWindow]) -> list[TimeWindow]:
    """Return the windows with margins, merged where they overlap, so that no line is found twice."""
    merged: list[TimeWindow] = []
    for window in sorted(windows, key=lambda each: each.since):
        since, until = window.since - MARGIN_SECONDS, window.until + MARGIN_SECONDS
        if merged and (since <= merged[-1].until or len(merged) == MAX_WINDOWS):
            merged[-1] = TimeWindow(merged[-1].since, max(merged[-1].until, until))
        else:
            merged.append(TimeWindow(since, until))
    return merged


def _as_logged(trace: str) -> str:
    """Return the L1p trace id of a W3C trace id that was made of a UUID; any other text unchanged."""
    return str(UUID(trace)) if _W3C_TRACE_ID.match(trace) else trace


def _start(each: TraceTimeline) -> int:
    return each.timeline.waterfalls[0].start_ns if each.timeline.waterfalls else 0
