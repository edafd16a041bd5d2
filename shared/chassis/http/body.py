"""Reads the body of a request that aiohttp serves, with a limit for its size and for its time (wire.md §4)."""

import asyncio
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from chassis.content import MAX_BODY_BYTES, require_json, too_large
from chassis.errors import (
    BODY_CUT_OFF,
    ExpectationFailedError,
    Fault,
    InvalidBodyError,
    RequestTimeoutError,
)
from chassis.http.body_budget import BodyBudget, no_room
from chassis.http.request import joined

BODY_SECONDS: Final = 10.0
EXPECTED: Final = web.RequestKey("expected", tuple)
"""The values of the header Expect, if the server has removed it from the request."""


async def read_json(request: web.BaseRequest) -> bytes:
    """Return a body whose media type is JSON. Raises UnsupportedMediaTypeError, and the errors of `read`."""
    require_json(joined(request.headers))
    return await read(request, MAX_BODY_BYTES)


async def read(request: web.BaseRequest, max_bytes: int) -> bytes:
    """Return the body, which may have up to ``max_bytes`` and must arrive within ten seconds.

    Raises PayloadTooLargeError, ExpectationFailedError, RequestTimeoutError, InvalidBodyError, UnavailableError.
    """
    if (request.content_length or 0) > max_bytes:
        raise too_large(max_bytes)
    await _expect_continue(request)
    content = request.content
    if content.is_eof() and content.exception() is None:  # most bodies are complete and need no timer
        body = content.read_nowait()
        if len(body) > max_bytes:
            raise too_large(max_bytes)
        return body
    service = getattr(request.protocol, "service", None)
    budget: BodyBudget | None = service and service.bodies
    address, length = request.remote or "", min(request.content_length or max_bytes, max_bytes)
    if budget is not None and not budget.take(address, length):
        raise no_room()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            chunks = bytearray()
            while chunk := await content.readany():
                chunks += chunk
                if len(chunks) > max_bytes:
                    raise too_large(max_bytes)
            return bytes(chunks)
    except TimeoutError:
        raise RequestTimeoutError from None
    except (web.RequestPayloadError, HttpProcessingError) as error:
        error.__traceback__ = None  # a cycle: the body has the error, and its frames have the body
        raise InvalidBodyError(
            "The body did not arrive completely.",
            faults=[Fault("body", BODY_CUT_OFF)],
            cause=str(error),
        ) from None
    finally:
        if budget is not None:
            budget.give_back(address, length)


async def _expect_continue(request: web.BaseRequest) -> None:
    """Send 100 Continue if the caller waits for it. Raises ExpectationFailedError."""
    expected = request.get(EXPECTED, ())
    if not expected:
        return
    if len(expected) > 1 or expected[0].lower() != "100-continue":
        raise ExpectationFailedError
    if request.version >= (1, 1) and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
