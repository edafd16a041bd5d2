"""`POST /v1/batch`: many requests in one HTTP request (wire.md §8).

The HTTP request itself needs no credentials and gives no rights. Each line becomes a separate request, which passes
the same checks and gets the same response as if it had come alone.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

from aiohttp import hdrs
from msgspec import ValidationError
from prometheus_client import Histogram

from chassis.content import JSON, is_of_type
from chassis.errors import (
    MALFORMED_HTTP,
    InvalidBodyError,
    InvalidHeaderError,
    InvalidUriParameterError,
    MethodNotAllowedError,
    NotFoundError,
    PayloadTooLargeError,
    QuotingError,
    UnsupportedMediaTypeError,
    error_object,
)
from chassis.exchange import Exchange, RefusingRoute, Route, Routes
from chassis.histogram import ITEMS
from chassis.http.adapter import MAX_FIELD_BYTES
from chassis.http.request import MAX_LINE_BYTES, Read, Request, joined
from chassis.http.response import BodyStream, Respond, Response
from chassis.service import Service
from chassis.tracing import BATCH_SPANS_HEADER, TRACE_HEADER, Line, is_span_id, new_trace_id
from quoting.batch_format import (
    LINE_ERRORS,
    MAX_BATCH_BYTES,
    MEDIA_TYPE,
    AnswerLine,
    RequestLine,
    answer_line,
    read_request,
    split,
)

MAX_ID_SHOWN: Final = 64
SLICE_BYTES: Final = 256 * 1024
"""Total size of the lines whose requests one iteration of the event loop begins.

No usual batch is larger. A larger batch lets other requests run between its slices.
"""

_MAX_USUAL_CHARACTERS: Final = 4_096
_BATCH_SPANS: Final = BATCH_SPANS_HEADER.lower()
_NO_PATTERN: Final = "none"
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class BatchEndpoint:
    """Takes batches of at most `max_lines` requests and lets `routes` answer each request."""

    def __init__(self, service: Service, routes: Routes, max_lines: int) -> None:
        self._service = service
        self._routes = routes
        self._max_lines = max_lines
        self._batch_lines = Histogram(
            "batch_lines", "Lines of a received batch", buckets=ITEMS, registry=service.metrics.registry
        )
        self._reading: set[asyncio.Task[None]] = set()

    def __call__(self, request: Request, respond: Respond) -> None:
        try:
            self._check(request)
            if request.read is None:
                self._begin(request, respond)
            else:
                task = asyncio.get_running_loop().create_task(self._read(request, request.read, respond))
                self._reading.add(task)
                task.add_done_callback(self._reading.discard)
        except QuotingError as error:
            self._service.refuse(error, respond, request.headers.get(TRACE_HEADER.lower()))

    def _check(self, request: Request) -> None:
        if request.method != hdrs.METH_POST:
            raise MethodNotAllowedError(headers={hdrs.ALLOW: hdrs.METH_POST})
        self._service.require_open(further=1)
        if not is_of_type(request.headers, MEDIA_TYPE):
            raise UnsupportedMediaTypeError("A batch must be application/x-ndjson, in UTF-8.")

    async def _read(self, request: Request, read: Read, respond: Respond) -> None:
        try:
            request.body = await read(MAX_BATCH_BYTES)
            self._begin(request, respond)
        except QuotingError as error:
            self._service.refuse(error, respond, request.headers.get(TRACE_HEADER.lower()))

    def _begin(self, request: Request, respond: Respond) -> None:
        """Begin the requests of all lines of a batch. The batch has been read completely.

        The response begins with the first answer. If the connection closes before that, the caller may repeat the
        batch. If all answers exist when the response begins, they are written together.
        """
        if len(request.body) > MAX_BATCH_BYTES:
            raise PayloadTooLargeError(f"A batch may hold at most {MAX_BATCH_BYTES} bytes.")
        lines = split(request.body)
        # the lines are a copy, and aiohttp keeps the request until its response has been sent
        request.body = b""
        if len(lines) > self._max_lines:
            raise PayloadTooLargeError(f"A batch may hold at most {self._max_lines} lines.")
        self._batch_lines.observe(len(lines))
        answers = _BatchAnswers(len(lines), respond)
        self._begin_lines(enumerate(lines, 1), request, answers, set())

    def _begin_lines(
        self,
        lines: Iterator[tuple[int, bytes]],
        request: Request,
        answers: "_BatchAnswers",
        seen: set[int | str],
    ) -> None:
        """Begin the requests of a batch. After SLICE_BYTES, continue in the next iteration of the event loop."""
        left, first_span = SLICE_BYTES, self._first_span(request)
        for number, line in lines:
            try:
                asked = read_request(line)
                if asked.id in seen:
                    raise ValidationError(f"id {str(asked.id)[:MAX_ID_SHOWN]} occurs twice")
                self._begin_line(asked, request, first_span, answers)
                seen.add(asked.id)
            except LINE_ERRORS as error:
                answers.put(self._unreadable(number, str(error)))
            left -= len(line)
            if left < 0:
                asyncio.get_running_loop().call_soon(self._begin_lines, lines, request, answers, seen)
                return

    def _first_span(self, batch: Request) -> str | None:
        """Return the span id for the line with id 0; None if the sender names none, or if this service makes no spans."""
        given = batch.headers.get(_BATCH_SPANS)
        return given if self._service.tracer is not None and given is not None and is_span_id(given) else None

    def _begin_line(
        self, asked: RequestLine, batch: Request, first_span: str | None, answers: "_BatchAnswers"
    ) -> None:
        path, _, query = asked.path.partition("?")
        body = b"" if asked.body is None else asked.body.encode()
        request = Request(
            asked.method,
            path,
            query,
            joined(asked.headers),
            body,
            batch.received,
            batch.address,
            batch.scheme,
            line=None if first_span is None or not isinstance(asked.id, int) else Line(first_span, asked.id),
        )
        error = _unfit(asked)
        route: Route | None = None if error else self._routes.find(request.method, path)
        if route is None:
            route = RefusingRoute(_NO_PATTERN, error or NotFoundError())
        respond = partial(answers.respond, asked.id)
        Exchange(self._service, request, respond, route.pattern).answer(route)

    def _unreadable(self, number: int, cause: str) -> bytes:
        error = InvalidBodyError(f"Line {number} of the batch cannot be read: {cause}")
        body = error_object(error, self._service.name, new_trace_id())
        headers: dict[str, str] = {hdrs.CONTENT_TYPE: JSON}
        return answer_line(AnswerLine(None, error.status, headers, body.decode(), number))


def _unfit(asked: RequestLine) -> QuotingError | None:
    """Return the error with which this request would be refused if it came alone, because of its URL or headers.

    Return None if it would not be refused.
    """
    if len(asked.path) > MAX_LINE_BYTES:
        return InvalidUriParameterError("The URL is longer than 8,190 bytes.")
    together = "".join(asked.headers.values())
    if len(together) <= _MAX_USUAL_CHARACTERS and together.isprintable():
        return None
    for name, value in asked.headers.items():
        if len(name) + len(value) > MAX_FIELD_BYTES:
            return InvalidHeaderError("A header line is longer than 8,190 bytes.")
        if not value.isprintable() and _CONTROL.search(value):
            return InvalidHeaderError(MALFORMED_HTTP)
    return None


class _BatchAnswers:
    """Collects the answers to one batch. The answers of one event loop iteration are written together."""

    def __init__(self, expected: int, respond: Respond) -> None:
        self._missing = expected
        self._stream = BodyStream()
        self._stream.on_ready = self._start
        self._respond = respond
        if not expected:
            self._stream.put(b"", is_last=True)

    def respond(self, id_: int | str, response: Response, reply_headers: Mapping[str, str]) -> None:
        """Add the response to the line that has this id."""
        headers = {"Content-Type": response.content_type, **reply_headers}
        if response.headers:
            headers.update(response.headers)
        line = AnswerLine(id_, response.status, headers, response.body.decode("utf-8", "replace"))
        self.put(answer_line(line))

    def put(self, line: bytes) -> None:
        self._missing -= 1
        self._stream.put(line, is_last=not self._missing)

    def _start(self) -> None:
        stream = self._stream
        first = stream.take()
        response = Response(
            200, first, content_type=MEDIA_TYPE, stream=None if stream.is_finished else stream
        )
        self._respond(response, {})
