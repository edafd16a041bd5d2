"""Call -> next hop -> Reply: what passes on unchanged and what does not (wire.md §4)."""

from collections.abc import Callable
from functools import partial
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
from chassis.http.pool import NoResponseError, PeerResponse
from chassis.messages import JSON, Reply
from quoting.call import Call
from quoting.express import Passage
from quoting.peers import PLAIN_HEADERS, Peers

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

    def __init__(self, peers: Callable[[], Peers], service: str, next_service: str) -> None:
        """``peers`` are there once the app runs; ``next_service`` names the next hop in messages, ``service``
        this one.
        """
        self._peers = peers
        self._service = service
        self._next = next_service

    async def send(self, call: Call, to: str) -> Reply:
        """The answer of the service at base URL ``to``.

        Raises UpstreamError where it cannot be reached or gives no answer.
        """
        try:
            received = await self._peers().ask(to, call)
        except NoResponseError as error:
            raise self._told(error) from error
        return self._reply(call, received)

    def takes(self, to: str) -> bool:
        """Whether the service at ``to`` takes batches."""
        return self._peers().takes(to)

    def start(self, passage: Passage, call: Call, to: str) -> None:
        """Sends ``call`` for ``passage``, in a batch where the service at ``to`` takes them."""
        passage.value = call
        passage.reply = partial(self._reply, call)
        passage.told = self._told
        self._peers().add(to, passage)

    def _told(self, error: Exception) -> Exception:
        """What a caller is told for an error of the round trip."""
        if not isinstance(error, NoResponseError):
            return error
        return UpstreamError(f"{self._next} gave no answer; repeating is safe.", cause=str(error))

    def _reply(self, call: Call, received: PeerResponse) -> Reply:
        """What passes on and how (wire.md §4, "Passing on"). Raises UpstreamError."""
        status, body = received.status, received.body
        content = _json_object(body)
        if status == 200 and content is not None and body is not None:  # noqa: PLR2004
            if received.headers is PLAIN_HEADERS:
                return Reply(status, body)
            return Reply(status, body, _passed(received), _content_type(received))
        if content is not None and body is not None and _passes(status, content):
            return Reply(
                status,
                body,
                _passed(received),
                _content_type(received),
                str(content.get("id")),
                f"raised by {content.get('service')}",
            )
        if 400 <= status < 500:  # noqa: PLR2004
            return self._told_in_our_words(call, received)
        raise UpstreamError(f"{self._next} gave no answer; repeating is safe.", cause=f"status {status}")

    def _told_in_our_words(self, call: Call, received: PeerResponse) -> Reply:
        """A 4xx without an error object keeps its status."""
        error = _OWN_BY_STATUS.get(received.status, UpstreamError)(
            f"{self._next} refused this with status {received.status}."
        )
        headers = _passed(received)
        if isinstance(error, UnauthorizedError) and hdrs.WWW_AUTHENTICATE not in received.headers:
            headers += ((hdrs.WWW_AUTHENTICATE, challenge(self._service)),)
        body = error_object(error, self._service, call.trace_id)
        return Reply(received.status, body, headers, error_id=error.id)


def _passes(status: int, content: dict[str, Any]) -> bool:
    return 400 <= status < 500 or (status >= 500 and _is_error_object(content))  # noqa: PLR2004


def _passed(received: PeerResponse) -> tuple[tuple[str, str], ...]:
    if hdrs.RETRY_AFTER not in received.headers and hdrs.WWW_AUTHENTICATE not in received.headers:
        return ()
    return tuple((name, value) for name in PASSED_HEADERS if (value := _header(received, name)) is not None)


def _content_type(received: PeerResponse) -> str:
    return _header(received, hdrs.CONTENT_TYPE) or JSON


def _header(received: PeerResponse, name: str) -> str | None:
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
