"""Bodies of requests: type, size and time limit (wire.md §2, §4)."""

import asyncio
from typing import Final

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from chassis.errors import (
    ExpectationFailedError,
    Fault,
    InvalidBodyError,
    PayloadTooLargeError,
    RequestTimeoutError,
    UnsupportedMediaTypeError,
)
from chassis.messages import JSON, Headers

MAX_BODY_BYTES: Final = 64 * 1024
BODY_SECONDS: Final = 10.0

_NO_TYPE: Final = [""]
_PLAIN: Final = ([JSON], _NO_TYPE)
_UNNAMED_TYPES: Final = frozenset({"", "application/x-www-form-urlencoded"})


def require_json(headers: Headers) -> None:
    """Raise UnsupportedMediaTypeError unless the body may be read as JSON.

    No type, or the one that curl sends by default, is accepted too, but not from a browser.
    """
    types = headers.getall(hdrs.CONTENT_TYPE, _NO_TYPE)
    if types in _PLAIN and hdrs.CONTENT_ENCODING not in headers and hdrs.ORIGIN not in headers:
        return
    media_type, charset = _media_type(types[0])
    allowed = {JSON} if hdrs.ORIGIN in headers else {JSON} | _UNNAMED_TYPES
    if (
        hdrs.CONTENT_ENCODING in headers
        or len(types) > 1
        or media_type not in allowed
        or charset not in {"utf-8", "utf8"}
    ):
        raise UnsupportedMediaTypeError


def is_of_type(headers: Headers, media_type: str) -> bool:
    """Whether the headers announce exactly this type, in UTF-8 and without Content-Encoding."""
    types = headers.getall(hdrs.CONTENT_TYPE, _NO_TYPE)
    if hdrs.CONTENT_ENCODING in headers or len(types) > 1:
        return False
    named, charset = _media_type(types[0])
    return named == media_type and charset in {"utf-8", "utf8"}


def _media_type(content_type: str) -> tuple[str, str]:
    """Return media type and charset in lower case."""
    media_type, _, rest = content_type.partition(";")
    pairs = (part.partition("=") for part in rest.split(";") if part.strip())
    parameters = {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
    return media_type.strip().lower(), parameters.get("charset", "utf-8").lower()


def too_large(max_bytes: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(f"The body is longer than the maximum of {max_bytes // 1024:,} KiB.")


async def read_json(request: web.BaseRequest) -> bytes:
    """Return a body in JSON. Raises UnsupportedMediaTypeError, and the errors of `read`."""
    require_json(request.headers)
    return await read(request, MAX_BODY_BYTES)


async def read(request: web.BaseRequest, max_bytes: int) -> bytes:
    """Return the body.

    Raises PayloadTooLargeError, ExpectationFailedError, RequestTimeoutError, InvalidBodyError.
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
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read_on(request, max_bytes)
    except TimeoutError:
        raise RequestTimeoutError from None
    except (web.RequestPayloadError, HttpProcessingError) as error:
        raise InvalidBodyError(
            "The body did not arrive completely.",
            faults=[Fault("body", "did not arrive completely")],
            cause=str(error),
        ) from None


async def _read_on(request: web.BaseRequest, max_bytes: int) -> bytes:
    chunks: list[bytes] = []
    left = max_bytes
    while chunk := await request.content.readany():
        left -= len(chunk)
        if left < 0:
            raise too_large(max_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


async def _expect_continue(request: web.BaseRequest) -> None:
    """Send 100 Continue if the caller waits for it. Raises ExpectationFailedError."""
    expected = request.headers.getall(hdrs.EXPECT, ())
    if not expected:
        return
    if len(expected) > 1 or expected[0].lower() != "100-continue":
        raise ExpectationFailedError
    if request.version >= (1, 1) and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
