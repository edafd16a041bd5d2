"""Call -> next hop -> Reply: what passes on unchanged and what does not (wire.md §4)."""

import time
from typing import Any, Final

import aiohttp
import orjson
from aiohttp import hdrs
from yarl import URL

from chassis.app import MOST_BODY_BYTES, challenge
from chassis.errors import (
    ExpectationFailedError,
    MethodNotAllowedError,
    NotFoundError,
    PayloadTooLargeError,
    QuotingError,
    RequestTimeoutError,
    TooManyRequestsError,
    UnauthorizedError,
    UnsupportedMediaTypeError,
    UpstreamError,
    error_object,
)
from quoting.call import Call, Reply

PASSED_HEADERS: Final = (hdrs.RETRY_AFTER, hdrs.WWW_AUTHENTICATE)

_OWN_BY_STATUS: Final[dict[int, type[QuotingError]]] = {
    error.status: error
    for error in (
        UnauthorizedError,
        NotFoundError,
        MethodNotAllowedError,
        RequestTimeoutError,
        PayloadTooLargeError,
        UnsupportedMediaTypeError,
        ExpectationFailedError,
        TooManyRequestsError,
    )
}
_ERROR_OBJECT_KEYS: Final = ("id", "message", "service", "traceId")

NOTHING_RECEIVED: Final = (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)
"""A connection was refused, or closed before a reply began (:mod:`chassis.outgoing`)."""


class Link:
    """Sends calls to a next hop."""

    def __init__(self, session: aiohttp.ClientSession, service: str, next_service: str) -> None:
        """``next_service`` names the next hop in messages, ``service`` this one."""
        self._session = session
        self._service = service
        self._next = next_service

    async def send(self, call: Call, to: str) -> Reply:
        """The answer of the service at base URL ``to``.

        Raises UpstreamError where it cannot be reached or gives no answer. Does not watch the deadline:
        whoever called does.
        """
        try:
            return await self._once(call, to)
        except NOTHING_RECEIVED:
            pass
        except (aiohttp.ClientError, ValueError) as error:
            raise self._unreachable(error) from error
        try:
            return await self._once(call, to)
        except (aiohttp.ClientError, ValueError) as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> UpstreamError:
        return UpstreamError(f"{self._next} gave no answer; repeating is safe.", cause=cause_of(error))

    async def _once(self, call: Call, to: str) -> Reply:
        async with self._session.request(
            call.operation.method,
            URL(to + call.target, encoded=True),
            data=call.body,
            headers=call.headers(time.monotonic()),
            allow_redirects=False,
        ) as response:
            body = await read_limited(response)
            return self._reply(call, response, body)

    def _reply(self, call: Call, response: aiohttp.ClientResponse, body: bytes | None) -> Reply:
        status = response.status
        content = _json_object(body)
        headers = tuple(
            (name, value) for name in PASSED_HEADERS if (value := _header(response, name)) is not None
        )
        is_error = status >= 400  # noqa: PLR2004
        if (
            content is not None
            and body is not None
            and (
                status == 200 or 400 <= status < 500 or (status >= 500 and _is_error_object(content))  # noqa: PLR2004
            )
        ):
            return Reply(
                status,
                body,
                headers,
                _header(response, hdrs.CONTENT_TYPE) or "application/json",
                str(content.get("id")) if is_error else None,
                str(content.get("service")) if is_error else None,
            )
        if 400 <= status < 500:  # noqa: PLR2004
            error = _OWN_BY_STATUS.get(status, UpstreamError)(
                f"{self._next} refused this with status {status}."
            )
            if isinstance(error, UnauthorizedError) and not any(
                name == hdrs.WWW_AUTHENTICATE for name, _ in headers
            ):
                headers += ((hdrs.WWW_AUTHENTICATE, challenge(self._service)),)
            return Reply(
                status, error_object(error, self._service, call.trace_id), headers, error_id=error.id
            )
        raise UpstreamError(f"{self._next} gave no answer; repeating is safe.", cause=f"status {status}")


def _header(response: aiohttp.ClientResponse, name: str) -> str | None:
    """A header of the reply, None where there is none or it holds what no reply of ours can be written with."""
    value = response.headers.get(name)
    return value if value is not None and value.isprintable() else None


def cause_of(error: Exception) -> str:
    """Kind and message of aiohttp's error; its repr would show the request's headers, credentials too."""
    text = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
    first_line = text.partition("\n")[0]  # further ones hold what the other side sent
    return f"{type(error).__name__}: {first_line}"


async def read_limited(response: aiohttp.ClientResponse) -> bytes | None:
    """The body, None where it is longer than 64 KiB."""
    chunks = []
    left = MOST_BODY_BYTES
    while chunk := await response.content.readany():
        left -= len(chunk)
        if left < 0:
            response.close()
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _json_object(body: bytes | None) -> dict[str, Any] | None:
    if body is None:
        return None
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return content if isinstance(content, dict) else None


def _is_error_object(content: dict[str, Any]) -> bool:
    return all(isinstance(content.get(key), str) for key in _ERROR_OBJECT_KEYS)
