"""HTTP -> Call -> the service's coroutine -> Reply -> HTTP: the same at every hop.

Checked here, after the chassis has checked path, method, readiness and credentials, in the order of wire.md
§4: content type, size, headers, uuid, query. What a body says is the service's own business.
"""

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from chassis.app import (
    EXCHANGE,
    MOST_BODY_BYTES,
    PASSED_ON,
    Exchange,
    accept_any_expectation,
    create_app,
    expect_continue,
)
from chassis.auth import CALLER
from chassis.errors import (
    Fault,
    InvalidBodyError,
    InvalidHeaderError,
    InvalidQueryParameterError,
    InvalidUriParameterError,
    PayloadTooLargeError,
    RequestTimeoutError,
    UnsupportedMediaTypeError,
    UpstreamTimeoutError,
)
from chassis.settings import Settings
from quoting.call import (
    DEFAULT_TIMEOUT_MS,
    IDEMPOTENCY_HEADER,
    IDENTIFIER,
    IDENTIFIER_TYPE,
    MOST_TIMEOUT_MS,
    TIMEOUT_HEADER,
    TRACEPARENT_HEADER,
    Call,
    Operation,
    Reply,
)
from quoting.documents import openapi

Answer = Callable[[Call], Awaitable[Reply]]
"""A service of the chain: one coroutine from Call to Reply; refuses by raising a QuotingError."""

BODY_SECONDS: Final = 10.0
MOST_QUERY_PARAMETERS: Final = 10

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.IGNORECASE)
_KEY = re.compile(r"[!-~]{1,128}\Z")
_MILLISECONDS = re.compile(r"0*([1-9][0-9]*)\Z")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]*)?\Z")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_JSON_TYPES = frozenset({"application/json"})
_UNNAMED_TYPES = frozenset({"", "application/x-www-form-urlencoded"})


def create_chain_app(
    name: str,
    settings: Settings,
    *,
    log_name: str | None = None,
    query: Sequence[str] = (IDENTIFIER_TYPE, IDENTIFIER),
) -> web.Application:
    """An app for a service of the chain; :func:`add_chain` gives it its coroutine.

    ``query`` names the parameters that look up may bring to this service.
    """
    app = create_app(
        name, settings, log_name=log_name, middlewares=[reservation_keys], openapi=openapi(name, query)
    )
    app[LOOK_UP_PARAMETERS] = frozenset(query)
    return app


LOOK_UP_PARAMETERS: Final = web.AppKey("look_up_parameters", frozenset[str])


def add_chain(app: web.Application, answer: Answer) -> None:
    """Routes the four operations to ``answer``."""
    for operation in Operation:
        app.router.add_route(
            operation.method,
            operation.path,
            _handler(operation, answer, app[LOOK_UP_PARAMETERS]),
            expect_handler=accept_any_expectation,
        )


@web.middleware
async def reservation_keys(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Each reply to a reservation, a refusal too, tells the Idempotency-Key to repeat with (wire.md §3)."""
    if request.method == "POST" and request.match_info.http_exception is None:
        given = request.headers.getall(IDEMPOTENCY_HEADER, ())
        if not given:
            request[EXCHANGE].reply_headers[IDEMPOTENCY_HEADER] = secrets.token_urlsafe(24)
        elif _is_key(given):
            request[EXCHANGE].reply_headers[IDEMPOTENCY_HEADER] = given[0]
    return await handler(request)


def _is_key(given: Sequence[str]) -> bool:
    return len(given) == 1 and _KEY.match(given[0]) is not None


def _handler(
    operation: Operation, answer: Answer, parameters: frozenset[str]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        exchange = request[EXCHANGE]
        body = await read_body(request) if operation.has_body else None
        call = _call(operation, request, exchange, parameters, body)
        if call.deadline <= time.monotonic():
            # the body took all the time; asyncio.timeout alone would let the work begin
            raise UpstreamTimeoutError
        try:
            async with asyncio.timeout(call.deadline - time.monotonic()):
                reply = await answer(call)
        except TimeoutError:
            raise UpstreamTimeoutError from None
        if reply.error_id is not None:
            request[PASSED_ON] = (reply.error_id, f"raised by {reply.raised_by}" if reply.raised_by else None)
        return web.Response(
            status=reply.status,
            body=reply.body,
            headers={hdrs.CONTENT_TYPE: reply.content_type, **dict(reply.headers)},
        )

    return handle


def _call(
    operation: Operation,
    request: web.Request,
    exchange: Exchange,
    parameters: frozenset[str],
    body: bytes | None,
) -> Call:
    """Headers, then uuid, then query: wire.md §4's order."""
    deadline = exchange.began + _timeout_ms(request.headers.getall(TIMEOUT_HEADER, ())) / 1000
    key = None
    if operation.reserves:
        given = request.headers.getall(IDEMPOTENCY_HEADER, ())
        if given and not _is_key(given):
            raise InvalidHeaderError(
                f"{IDEMPOTENCY_HEADER} must be given once: 1 to 128 visible ASCII characters."
            )
        key = exchange.reply_headers[IDEMPOTENCY_HEADER]
    uuid = None
    if "uuid" in request.match_info:
        uuid = request.match_info["uuid"]
        if not _UUID.match(uuid):
            raise InvalidUriParameterError("The uuid in the path must be 8-4-4-4-12 hex digits.")
    traceparent = request.headers.getall(TRACEPARENT_HEADER, ())
    return Call(
        operation=operation,
        caller=request[CALLER],
        authorization=request.headers[hdrs.AUTHORIZATION],
        trace_id=exchange.trace_id,
        deadline=deadline,
        uuid=uuid.lower() if uuid else None,
        query=query_parameters(request, frozenset() if operation.has_body else parameters),
        body=body,
        idempotency_key=key,
        traceparent=(
            traceparent[0] if len(traceparent) == 1 and _TRACEPARENT.match(traceparent[0]) else None
        ),
    )


def _timeout_ms(given: Sequence[str]) -> int:
    """What is left of the caller's time, in milliseconds. Raises InvalidHeaderError."""
    if not given:
        return DEFAULT_TIMEOUT_MS
    match = _MILLISECONDS.match(given[0])
    if len(given) > 1 or match is None:
        raise InvalidHeaderError(f"{TIMEOUT_HEADER} must be given once: digits, 1 to {MOST_TIMEOUT_MS}.")
    digits = match[1]
    return MOST_TIMEOUT_MS if len(digits) > len(str(MOST_TIMEOUT_MS)) else min(int(digits), MOST_TIMEOUT_MS)


def query_parameters(request: web.Request, allowed: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """The query's parameters. Raises InvalidQueryParameterError with all faults at once."""
    raw = request.rel_url.raw_query_string
    if not raw:
        return ()
    try:
        pairs = parse_qsl(
            raw, keep_blank_values=True, errors="surrogateescape", max_num_fields=MOST_QUERY_PARAMETERS
        )
    except ValueError:
        raise InvalidQueryParameterError(
            faults=[Fault("query", f"must hold at most {MOST_QUERY_PARAMETERS} parameters")]
        ) from None
    faults = []
    seen: set[str] = set()
    for name, value in pairs:
        if name not in allowed:
            faults.append(Fault(name, "is not a parameter of this operation", value))
        elif name in seen:
            faults.append(Fault(name, "is there twice", value))
        elif _UNPRINTABLE.search(value):
            faults.append(Fault(name, "must be UTF-8 without control characters", value))
        seen.add(name)
    if faults:
        raise InvalidQueryParameterError(faults=faults)
    return tuple(pairs)


async def read_body(request: web.Request) -> bytes:
    """The whole body, as wire.md §2 and §4 let it in: its type, its size, ten seconds to arrive.

    Raises UnsupportedMediaTypeError, PayloadTooLargeError, ExpectationFailedError, RequestTimeoutError,
    InvalidBodyError.
    """
    _require_json(request)
    if (request.content_length or 0) > MOST_BODY_BYTES:
        raise PayloadTooLargeError
    await expect_continue(request)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while chunk := await request.content.readany():
                size += len(chunk)
                if size > MOST_BODY_BYTES:
                    raise PayloadTooLargeError
                chunks.append(chunk)
    except TimeoutError:
        raise RequestTimeoutError from None
    except (web.RequestPayloadError, HttpProcessingError) as error:
        raise InvalidBodyError(
            "The body did not arrive whole.",
            faults=[Fault("body", "did not arrive whole")],
            cause=str(error),
        ) from None
    return b"".join(chunks)


def _require_json(request: web.Request) -> None:
    """``application/json``, or what curl says where nobody said anything, unless a browser sends it."""
    if hdrs.CONTENT_ENCODING in request.headers:
        raise UnsupportedMediaTypeError
    types = request.headers.getall(hdrs.CONTENT_TYPE, [""])
    media_type, _, rest = types[0].partition(";")
    media_type = media_type.strip().lower()
    charset = dict(_parameters(rest)).get("charset", "utf-8").lower()
    allowed = _JSON_TYPES if hdrs.ORIGIN in request.headers else _JSON_TYPES | _UNNAMED_TYPES
    if len(types) > 1 or media_type not in allowed or charset not in {"utf-8", "utf8"}:
        raise UnsupportedMediaTypeError


def _parameters(text: str) -> list[tuple[str, str]]:
    pairs = (part.partition("=") for part in text.split(";") if part.strip())
    return [(name.strip().lower(), value.strip().strip('"')) for name, _, value in pairs]
