"""Sends calls to the next hop and decides which parts of its response are passed on (wire.md §4, "Passing on")."""

from typing import Any, Final

from aiohttp import hdrs

from chassis.content import JSON
from chassis.errors import (
    BODY_CUT_OFF,
    MALFORMED_HTTP,
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
from chassis.exchange import Exchange
from chassis.http.pool import NoResponseError, PeerResponse
from chassis.http.request import Headers
from chassis.http.response import Response
from chassis.json_object import object_in
from chassis.patterns import is_uuid
from chassis.service import challenge
from quoting.call import Call
from quoting.peers import Peers

PASSED_HEADERS: Final = (hdrs.RETRY_AFTER, hdrs.WWW_AUTHENTICATE)

_OWN_ERRORS: Final[dict[int, type[QuotingError]]] = {
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
_DAMAGE: Final = frozenset({400, 408})
_DAMAGE_MESSAGES: Final = frozenset({MALFORMED_HTTP, RequestTimeoutError().message})
_ERROR_OBJECT_KEYS: Final = ("id", "message", "service", "traceId")
_MAX_ID_CHARACTERS: Final = 64
MAX_MESSAGE_CHARACTERS: Final = 160
"""Maximum length in the log of the message of another service's error."""


class NextHop:
    """Sends calls to the next service of the chain and answers with its responses."""

    def __init__(self, peers: Peers, service: str, next_service: str) -> None:
        """`service` is the name of this service, `next_service` the name of the next one."""
        self._peers = peers
        self._service = service
        self._next = next_service

    def send(self, exchange: Exchange, call: Call, to: str) -> None:
        """Send `call` to the service at base URL `to`. Its response settles the exchange."""
        exchange.repeat_to = to
        exchange.waits_for = self._next
        exchange.wait(call, self._response, self._explain)
        self._peers.send(to, exchange)

    def _explain(self, error: Exception) -> Exception:
        return self._no_answer(str(error)) if isinstance(error, NoResponseError) else error

    def _no_answer(self, cause: str) -> UpstreamError:
        return UpstreamError(f"{self._next} did not answer. Repeating the request is safe.", cause=cause)

    def _response(self, exchange: Exchange, received: PeerResponse) -> Response | None:
        """Return the response to pass on. Return None if the call was damaged on its way and is sent once more."""
        status, body, headers = received.status, received.body, received.headers
        content = object_in(body)
        if status in _DAMAGE and content is not None and _was_damaged(content):
            to, exchange.repeat_to = exchange.repeat_to, None
            if to is None:
                raise self._no_answer(f"status {status}: the request did not arrive as it was sent")
            self._peers.send(to, exchange)
            return None
        if content is not None and body is not None:
            if status == 200:  # noqa: PLR2004
                if exchange.uuid is None:
                    exchange.uuid = _uuid(content)
                return Response(status, body, _passed(headers), _content_type(headers))
            if 400 <= status < 500 or (status >= 500 and _is_error_object(content)):  # noqa: PLR2004
                error_id = str(content.get("id"))[:_MAX_ID_CHARACTERS]
                return Response(
                    status,
                    body,
                    _passed(headers),
                    _content_type(headers),
                    error_id=error_id,
                    cause=_cause(content),
                    is_upstream=True,
                )
        if 400 <= status < 500:  # noqa: PLR2004
            return self._own_error(exchange, received)
        raise self._no_answer(f"status {status}")

    def _own_error(self, exchange: Exchange, received: PeerResponse) -> Response:
        """Return a response with the status that was received, and an error object of this service.

        It replaces a 4xx response whose body is not a JSON object.
        """
        error = _OWN_ERRORS.get(received.status, UpstreamError)(
            f"{self._next} refused the request with status {received.status}."
        )
        headers = _passed(received.headers)
        if isinstance(error, UnauthorizedError) and "www-authenticate" not in received.headers:
            headers += ((hdrs.WWW_AUTHENTICATE, challenge(self._service)),)
        body = error_object(error, self._service, exchange.trace_id)
        return Response(received.status, body, headers, error_id=error.id)


def _uuid(content: dict[str, Any]) -> str | None:
    """Return the uuid of the quote that a reply names, in lower case, for the log; None if there is none."""
    uuid = content.get("uuid")
    return uuid.lower() if isinstance(uuid, str) and is_uuid(uuid) else None


def _cause(error: dict[str, Any]) -> str:
    """Return the name of the service that raised an error, and the error's message, for the log."""
    cause = f"raised by {str(error.get('service'))[:_MAX_ID_CHARACTERS]}"
    message = error.get("message")
    return f"{cause}: {message[:MAX_MESSAGE_CHARACTERS]}" if isinstance(message, str) else cause


def _was_damaged(content: dict[str, Any]) -> bool:
    """Whether the next hop refused the request because it arrived incomplete or changed.

    Such an error names a fault that no request of this hop has. The caller is not at fault, and the call had no
    effect. So the call can be sent again.
    """
    faults = content.get("validationErrors")
    if isinstance(faults, list) and len(faults) == 1 and isinstance(faults[0], dict):
        return faults[0].get("message") == BODY_CUT_OFF
    return content.get("message") in _DAMAGE_MESSAGES


def _passed(headers: Headers) -> tuple[tuple[str, str], ...]:
    if "retry-after" not in headers and "www-authenticate" not in headers:
        return ()
    return tuple(
        (name, value)
        for name in PASSED_HEADERS
        if (value := headers.get(name.lower())) is not None and value.isprintable()
    )


def _content_type(headers: Headers) -> str:
    content_type = headers.get("content-type", JSON)
    return content_type if content_type == JSON or content_type.isprintable() else JSON


def _is_error_object(content: dict[str, Any]) -> bool:
    return all(isinstance(content.get(key), str) for key in _ERROR_OBJECT_KEYS)
