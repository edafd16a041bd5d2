"""*Quotes*: search, one quote with its payment and its timeline, one trace, and the requests that failed."""

import re
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from aiohttp import web
from yarl import URL

from chassis.errors import InvalidQueryParameterError, NotFoundError, QuotingError, UnavailableError
from chassis.logs import iso_time
from chassis.page.pages import redirect
from chassis.queries import query_of
from chassis.tracing import w3c_trace_id
from console import quote_list
from console.formats import duration
from console.quote_list import QuoteRow
from console.service_list import PAYEE
from console.settings import L1P_TRACE_ID, TRACE_ID
from console.traces.log_search import TimeWindow
from console.traces.timelines import TraceTimeline
from console.view import Console, View

OK: Final = 200
MAX_FAILED: Final = 100
MAX_DEPTH: Final = 8

_NS: Final = 1_000_000_000
_TRACE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


def view(console: Console) -> View:
    quotes = Quotes(console)
    console.pages.templates.filters["took"] = took
    console.pages.templates.filters["at"] = at
    return View(
        "Quotes",
        "/quotes",
        [
            web.get("/quotes", quotes.list_quotes),
            web.get("/quotes/find", quotes.find),
            web.get("/quotes/failed", quotes.failed),
            web.get("/quotes/{uuid}", quotes.quote),
            web.get("/traces/{trace}", quotes.trace),
        ],
    )


class Quotes:
    """The pages of this view."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._settings = console.settings

    async def list_quotes(self, request: web.Request) -> web.StreamResponse:
        """Show the quotes that the form's filters select."""
        filters = query_of(request, *quote_list.FILTERS)
        query = quote_list.list_query(filters, time.time())
        rows, next_, problems = await self._page_of_quotes(query)
        return self._render(
            request,
            "quotes.html",
            filters=filters,
            states=quote_list.STATES,
            periods=quote_list.PERIODS,
            rows=rows,
            totals=quote_list.totals(rows),
            problems=problems,
            next_page=None if next_ is None else _page("/quotes", {**filters, "after": next_}),
            link=partial(_page, "/quotes"),
        )

    async def find(self, request: web.Request) -> web.StreamResponse:
        """Redirect to the quote with this uuid, or else to the trace with this id."""
        wanted = query_of(request, "id").get("id", "").strip()
        if not _TRACE.match(wanted):
            raise InvalidQueryParameterError("Enter the uuid of a quote or the id of a trace.")
        if quote_list.UUID.match(wanted):
            try:
                await self._quote(wanted.lower())
            except QuotingError:
                pass
            else:
                return redirect(f"/quotes/{wanted.lower()}")
        return redirect(f"/traces/{wanted}")

    async def quote(self, request: web.Request) -> web.StreamResponse:
        """Show one quote with its terms, its payment, and the timeline of each request that names it."""
        uuid = request.match_info["uuid"].lower()
        if not quote_list.UUID.match(uuid):
            raise NotFoundError("A quote's uuid has 32 hexadecimal digits in five groups.")
        row = await self._quote(uuid)
        windows = [TimeWindow(change, change) for change in row.changes]
        found = await self._console.timelines.of_quote(uuid, windows)
        return self._render(request, "quote.html", quote=row, traces=[self._shown(each) for each in found])

    async def trace(self, request: web.Request) -> web.StreamResponse:
        """Show the requests of one trace."""
        trace = request.match_info["trace"]
        if not _TRACE.match(trace):
            raise NotFoundError("A trace id has 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'.")
        found = await self._console.timelines.of_trace(trace)
        return self._render(request, "trace.html", each=self._shown(found))

    async def failed(self, request: web.Request) -> web.StreamResponse:
        """Show the latest requests that failed: of one error id or one caller, if the form says so."""
        filters = query_of(request, "error", "caller")
        problem, found = None, []
        try:
            found = await self._console.timelines.spans.failed(
                filters.get("error") or None, filters.get("caller") or None, MAX_FAILED
            )
        except QuotingError as error:
            problem = error.message
        return self._render(
            request,
            "failed.html",
            filters=filters,
            rows=found,
            problem=problem,
            link=partial(_page, "/quotes/failed"),
        )

    async def _quote(self, uuid: str) -> QuoteRow:
        """Return a quote. Raises NotFoundError, UnavailableError."""
        rows, _, problems = await self._page_of_quotes({"uuid": uuid})
        if problems:
            raise UnavailableError(problems[0])
        if not rows:
            raise NotFoundError("The payee has no quote with this uuid.")
        return rows[0]

    async def _page_of_quotes(self, query: Mapping[str, str]) -> tuple[list[QuoteRow], str | None, list[str]]:
        """Return quotes, the cursor of the next page, and the problems, if there are any."""
        try:
            reply = await self._console.fleet.client.request(PAYEE, "GET", "/v1/quotes", query=query)
            content = reply.json()
        except UnavailableError as error:
            return [], None, [f"The payee's list cannot be read: {error.message}"]
        if reply.status != OK:
            return [], None, quote_list.faults_of(content)
        return quote_list.rows_of(content), quote_list.next_of(content), []

    def _shown(self, found: TraceTimeline) -> dict[str, Any]:
        link = self._settings.traces_link
        if link is not None:
            link = link.replace(TRACE_ID, found.w3c_trace_id or w3c_trace_id(found.trace))
            # spans come from other processes, and so may the id
            link = link.replace(L1P_TRACE_ID, quote(found.trace, safe=""))
        return {
            "found": found,
            "link": link,
            "log_folder": self._settings.log_folder is not None,
            "kept": duration(self._settings.traces_keep_seconds),
        }

    def _render(self, request: web.Request, template: str, **values: object) -> web.StreamResponse:
        return self._console.render(request, template, {"max_depth": MAX_DEPTH, **values})


def _page(path: str, filters: Mapping[str, str], **changes: str) -> str:
    """Return the URL of a page with these filters; an empty one is left out."""
    given = {**filters, **changes}
    return str(URL(path).with_query({name: value for name, value in given.items() if value}))


def took(nanoseconds: float) -> str:
    return duration(nanoseconds / _NS)


def at(nanoseconds: float) -> str:
    """Return Unix time in nanoseconds as ISO 8601."""
    return iso_time(nanoseconds / _NS)
