"""Calls that there is no room for: refused in a third of the time that it takes to look at them.

Under overload there are several of these for each answer. A test holds what they are told, and what is told of them,
to the ordinary way.
"""

import time
from collections.abc import Callable
from typing import Final

import msgspec

from chassis.app import Service, overloaded
from chassis.intake import Told, refusal, response
from chassis.messages import Reply
from chassis.plain import Plain
from chassis.tracing import TRACE_HEADER, new_trace_id, trace_id_from
from chassis.written import begun
from quoting.call import IDEMPOTENCY_HEADER, is_key, operation_of

TellLater = Callable[[Told, str, Reply], None]

_KEY_HEADER: Final = IDEMPOTENCY_HEADER.lower()
_TRACE_HEADER: Final = TRACE_HEADER.lower()
_TRACE_ID: Final = "~"
"""As often as the trace id is long; no header and no message of ours has one."""
_KEY: Final = "|"
"""Likewise."""
_MAX_PATTERNS: Final = 100


class Refused(msgspec.Struct, gc=False):
    """What is told of one call."""

    trace_id: str
    method: str
    path: str
    began: float
    caller: None = None
    waited: float = 0.0


class TurnedAway:
    """Of one service."""

    def __init__(self, service: Service, tell_later: TellLater) -> None:
        self._service = service
        self._tell_later = tell_later
        self._reply = refusal(overloaded(), service, _TRACE_ID)
        self._patterns: dict[tuple[int, bool, bool], str] = {}
        """By the length of a trace id, whether there is a key, and whether it is the connection's last response."""
        self._at = 0
        """The second they are for, as they have the date."""

    def response(self, request: Plain, waited: float | None, *, is_last: bool) -> bytes | None:
        """The whole response to a call for which it is too late; see `chassis.app.TurnAway`.

        None where there is room, where it is no call, and where it would be told of another error first.
        """
        service = self._service
        operation, _ = operation_of(request.method, request.path)
        if operation is None or not service.pace.is_too_late_to_be_looked_at(waited) or service.is_closed:
            return None
        key = (request.header(_KEY_HEADER) or "") if operation.reserves else ""
        if operation.reserves and not is_key(key):
            return None
        given = request.header(_TRACE_HEADER)
        trace_id = new_trace_id() if given is None else trace_id_from((given,))
        began = time.monotonic() - (waited or 0.0)
        self._tell_later(Refused(trace_id, request.method, request.path, began), operation.path, self._reply)
        pattern = self._pattern(len(trace_id), bool(key), is_last)
        return (pattern % ((trace_id, key, trace_id) if key else (trace_id, trace_id))).encode()

    def _pattern(self, length: int, has_key: bool, is_last: bool) -> str:
        now = int(time.time())
        if now != self._at or len(self._patterns) > _MAX_PATTERNS:
            self._at = now
            self._patterns.clear()
        shape = length, has_key, is_last
        pattern = self._patterns.get(shape)
        if pattern is None:
            pattern = self._patterns[shape] = self._made(*shape)
        return pattern

    def _made(self, length: int, has_key: bool, is_last: bool) -> str:
        service, trace_id = self._service, _TRACE_ID * length
        of_reply = {IDEMPOTENCY_HEADER: _KEY} if has_key else {}
        whole = response(service, trace_id, of_reply, refusal(overloaded(), service, trace_id))
        pattern = begun(whole, is_last=is_last).decode().replace("%", "%%")
        return pattern.replace(trace_id, "%s").replace(_KEY, "%s")
