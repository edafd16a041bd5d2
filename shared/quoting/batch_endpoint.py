"""`POST /v1/batch`: many messages in one request (wire.md §8).

The envelope needs no credentials and gives no rights: each line meets what it would have met alone.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol

from aiohttp import hdrs, web
from multidict import CIMultiDict

from chassis.app import SERVICE, Service, refused
from chassis.asked import Asked, Response
from chassis.content import MAX_BODY_BYTES, is_of_type, require_json
from chassis.errors import (
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
from chassis.intake import Refusing, Route, Routes, take
from chassis.listener import MAX_FIELD_BYTES, MAX_LINE_BYTES
from chassis.messages import JSON, Message, Reply
from chassis.tracing import TRACE_HEADER, trace_id_from
from quoting.batch_format import (
    BATCH_HEADER,
    BATCH_PATH,
    LINE_ERRORS,
    MAX_BATCH_BYTES,
    MEDIA_TYPE,
    AnswerLine,
    PlainAnswer,
    PlainAnswerHeaders,
    PlainLine,
    RequestLine,
    answer_line,
    read_plain,
    read_request,
    split,
)
from quoting.call import IDEMPOTENCY_HEADER

_UNKNOWN: Final = "none"
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
MAX_ID_SHOWN: Final = 64


TakeLine = Callable[[PlainLine, Callable[[bytes], None]], bool]
"""Whether the line is taken, and its answer will be put; nothing has been done where it is not."""


class Express(Protocol):
    """Answers lines that are plainly right without a task for each."""

    def of_batch(self) -> TakeLine:
        """What takes the lines of one batch."""


def add_batches(app: web.Application, routes: Routes, max_lines: int, express: Express | None = None) -> None:
    """Takes batches of messages to ``routes``, and says so on every reply; 0 lines: takes none."""
    if not max_lines:
        return
    service = app[SERVICE]
    service.announces[BATCH_HEADER] = str(max_lines)
    batches = _Batches(service, routes, max_lines, express)

    def direct(asked: Asked) -> Awaitable[Response] | None:
        return batches.serve(asked) if asked.path == BATCH_PATH else None

    service.direct.append(direct)


class LineMessage(Message):
    """A message that came as a line."""

    __slots__ = ("_address", "_body")

    def __init__(self, line: RequestLine, address: str) -> None:
        path, _, query = line.path.partition("?")
        super().__init__(line.method, path, query, CIMultiDict(line.headers))
        self._address = address
        self._body = line.body

    @property
    def address(self) -> str:
        return self._address

    @property
    def origin(self) -> str:
        return f"http://{self.headers.get(hdrs.HOST, '')}"

    async def body(self) -> bytes:
        require_json(self.headers)
        body = (self._body or "").encode("utf-8", "surrogateescape")
        if len(body) > MAX_BODY_BYTES:
            raise PayloadTooLargeError
        return body


class _Batches:
    def __init__(self, service: Service, routes: Routes, max_lines: int, express: Express | None) -> None:
        self._service = service
        self._express = express
        self._routes = routes
        self._max_lines = max_lines
        self._under_way: set[asyncio.Task[None]] = set()

    async def serve(self, asked: Asked) -> Response:
        service = self._service
        service.in_hand += 1
        try:
            lines = await self._lines(asked)
        except QuotingError as error:
            service.in_hand -= 1
            return refused(error, service, asked.headers.getall(TRACE_HEADER, ()))
        except BaseException:
            service.in_hand -= 1
            raise
        return await self._answered(asked, lines)

    async def _lines(self, asked: Asked) -> list[bytes]:
        """The whole batch, before anything of it is begun. Raises what then stands for all of it."""
        if asked.method != "POST":
            raise MethodNotAllowedError(headers={hdrs.ALLOW: "POST"})
        self._service.refuse_new()
        if not is_of_type(asked.headers, MEDIA_TYPE):
            raise UnsupportedMediaTypeError("A batch must be application/x-ndjson, in UTF-8.")
        lines = split(await asked.read(MAX_BATCH_BYTES))
        if len(lines) > self._max_lines:
            raise PayloadTooLargeError(f"A batch may hold {self._max_lines} lines at most.")
        return list(lines)

    async def _answered(self, asked: Asked, lines: list[bytes]) -> Response:
        """Begins with the first answer: until then the connection may close and all be repeated.

        Where all answers are there by then, they are one reply and one write.
        """
        service = self._service
        service.metrics.batch_lines.observe(len(lines))
        service.envelopes += 1
        answers = _Answers(len(lines), self._ended)
        self._begin(lines, asked.address, answers)
        headers = {hdrs.CONTENT_TYPE: MEDIA_TYPE, hdrs.SERVER: service.name, **service.announces}
        first = await answers.next()
        return Response(200, headers, first, None if answers.are_all_read else answers.rest())

    def _ended(self) -> None:
        """All lines of one batch have been answered: with the last of them it is in hand no more."""
        self._service.envelopes -= 1
        self._service.in_hand -= 1

    def _begin(self, lines: Sequence[bytes], address: str, answers: "_Answers") -> None:
        """Sends the lines that can be read on their way, and answers the others."""
        loop = asyncio.get_running_loop()
        seen: set[int | str] = set()
        take_line = self._express.of_batch() if self._express is not None else _leave
        for number, line in enumerate(lines, 1):
            plain = read_plain(line)
            if plain is not None and plain.id not in seen and take_line(plain, answers.put):
                seen.add(plain.id)
                continue
            try:
                asked = read_request(line)
            except LINE_ERRORS as error:
                answers.put(self._unreadable(number, str(error)))
                continue
            if asked.id in seen:
                answers.put(self._unreadable(number, f"id {str(asked.id)[:MAX_ID_SHOWN]} is there twice"))
                continue
            seen.add(asked.id)
            task = loop.create_task(self._one(asked, address, answers))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _one(self, asked: RequestLine, address: str, answers: "_Answers") -> None:
        answered = b""  # whatever fails, nobody waits for this line any more
        try:
            message = LineMessage(asked, address)
            reply = await take(self._service, message, self._route(asked, message))
            answered = line_of(asked.id, reply, message.trace_id, message.reply_headers)
        finally:
            answers.put(answered)

    def _route(self, asked: RequestLine, message: Message) -> Route:
        error = _misfit(asked)
        if error is not None:
            return Refusing(_UNKNOWN, error)
        return self._routes.find(message.method, message.path) or Refusing(_UNKNOWN, NotFoundError())

    def _unreadable(self, number: int, cause: str) -> bytes:
        error = InvalidBodyError(f"Line {number} of the batch cannot be read: {cause}")
        body = error_object(error, self._service.name, trace_id_from(()))
        return answer_line(
            AnswerLine(None, error.status, {hdrs.CONTENT_TYPE: JSON}, body.decode(), line=number)
        )


def _misfit(asked: RequestLine) -> QuotingError | None:
    """What is wrong with a line that could not have come alone over HTTP."""
    if len(asked.path) > MAX_LINE_BYTES:
        return InvalidUriParameterError("The URL is longer than 8,190 bytes.")
    together = "".join([*asked.headers, *asked.headers.values()])
    if len(together) <= MAX_FIELD_BYTES and together.isprintable():
        return None  # as nearly always
    for name, value in asked.headers.items():
        if len(name) + len(value) > MAX_FIELD_BYTES:
            return InvalidHeaderError("A header line is longer than 8,190 bytes.")
        if not value.isprintable() and _CONTROL.search(value):
            return InvalidHeaderError("This is not well-formed HTTP/1.1.")
    return None


def _leave(_line: PlainLine, _put: Callable[[bytes], None]) -> bool:
    return False


def line_of(id_: int | str, reply: Reply, trace_id: str, reply_headers: Mapping[str, str]) -> bytes:
    """The answer to a line; ``reply_headers`` are what each reply to it carries."""
    headers = {hdrs.CONTENT_TYPE: reply.content_type, TRACE_HEADER: trace_id, **reply_headers}
    if reply.headers:
        headers.update(reply.headers)
    return answer_line(AnswerLine(id_, reply.status, headers, reply.body.decode("utf-8", "replace")))


def plain_line_of(id_: int, reply: Reply, trace_id: str, key: str | None) -> bytes:
    """Likewise, where each reply carries ``key`` as its Idempotency-Key, if there is one."""
    if reply.headers:
        return line_of(id_, reply, trace_id, {} if key is None else {IDEMPOTENCY_HEADER: key})
    headers = PlainAnswerHeaders(reply.content_type, trace_id, key or "")
    return answer_line(PlainAnswer(id_, reply.status, headers, reply.body.decode("utf-8", "replace")))


class _Answers:
    """Answers as they come, read together with all that came in the same turn of the event loop."""

    def __init__(self, expected: int, ended: Callable[[], None]) -> None:
        """Calls ``ended`` when nothing more is expected."""
        self._expected = expected
        self._ended = ended
        self._ready: list[bytes] = []
        self._wake: asyncio.Future[None] | None = None
        if not expected:
            ended()

    @property
    def are_all_read(self) -> bool:
        return not self._expected and not self._ready

    def put(self, line: bytes) -> None:
        self._ready.append(line)
        self._expected -= 1
        if not self._expected:
            self._ended()
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def next(self) -> bytes:
        """What is ready, as soon as something is; empty where nothing more comes."""
        if self._expected and not self._ready:
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        chunk = b"".join(self._ready)
        self._ready.clear()
        return chunk

    async def rest(self) -> AsyncIterator[bytes]:
        while not self.are_all_read:
            yield await self.next()
