"""Call -> next hop -> Reply: what passes on unchanged and what does not (wire.md §4)."""

import time
from typing import Any, Final

import orjson
from aiohttp import hdrs

from chassis.app import challenge
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
from chassis.outbound import NoAnswerError, Outbound, Received
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


class Link:
    """Sends calls to a next hop."""

    def __init__(self, outbound: Outbound, service: str, next_service: str) -> None:
        """``next_service`` names the next hop in messages, ``service`` this one."""
        self._outbound = outbound
        self._service = service
        self._next = next_service

    async def send(self, call: Call, to: str) -> Reply:
        """The answer of the service at base URL ``to``.

        Raises UpstreamError where it cannot be reached or gives no answer. Does not watch the deadline:
        whoever called does.
        """
        try:
            received = await self._outbound.send(
                call.operation.method, to, call.target, call.headers(time.monotonic()), call.body
            )
        except NoAnswerError as error:
            raise UpstreamError(
                f"{self._next} gave no answer; repeating is safe.", cause=str(error)
            ) from error
        return self._reply(call, received)

    def _reply(self, call: Call, received: Received) -> Reply:
        status, body = received.status, received.body
        content = _json_object(body)
        headers = tuple(
            (name, value) for name in PASSED_HEADERS if (value := _header(received, name)) is not None
        )
        is_error = status >= 400  # noqa: PLR2004
        if (
            content is not None
            and body is not None
            and (
                status == 200  # noqa: PLR2004
                or 400 <= status < 500  # noqa: PLR2004
                or (status >= 500 and _is_error_object(content))  # noqa: PLR2004
            )
        ):
            return Reply(
                status,
                body,
                headers,
                _header(received, hdrs.CONTENT_TYPE) or "application/json",
                str(content.get("id")) if is_error else None,
                str(content.get("service")) if is_error else None,
            )
        if 400 <= status < 500:  # noqa: PLR2004
            error = _OWN_BY_STATUS.get(status, UpstreamError)(
                f"{self._next} refused this with status {status}."
            )
            if isinstance(error, UnauthorizedError) and hdrs.WWW_AUTHENTICATE not in received.headers:
                headers += ((hdrs.WWW_AUTHENTICATE, challenge(self._service)),)
            return Reply(
                status, error_object(error, self._service, call.trace_id), headers, error_id=error.id
            )
        raise UpstreamError(f"{self._next} gave no answer; repeating is safe.", cause=f"status {status}")


def _header(received: Received, name: str) -> str | None:
    """A header of the reply, None where there is none or it holds what no reply of ours can be written with."""
    value = received.headers.get(name)
    return value if value is not None and value.isprintable() else None


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
