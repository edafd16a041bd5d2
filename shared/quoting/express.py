"""Messages that are plainly right go on without a task, a message object and a future each.

Whatever is not, or has to wait for more than its turn in the next batch, is left to `chassis.intake`, which takes it
after all or says what is wrong with it. A property test holds the two together.
"""

import asyncio
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from aiohttp import hdrs

from chassis.app import Service, as_error
from chassis.asked import Here, Response
from chassis.auth import Credentials
from chassis.batching import Item
from chassis.content import MAX_BODY_BYTES, require_json
from chassis.deadlines import Deadlines
from chassis.errors import QuotingError, UnavailableError, UpstreamTimeoutError
from chassis.intake import Told, refusal, response, tell
from chassis.messages import Reply
from chassis.tracing import TRACE_HEADER, new_trace_id
from quoting.batch_endpoint import TakeLine, plain_line_of
from quoting.batch_format import PlainHeaders, PlainLine
from quoting.call import (
    DEFAULT_TIMEOUT_MS,
    IDEMPOTENCY_HEADER,
    MAX_TIMEOUT_MS,
    TIMEOUT_HEADER,
    TRACEPARENT_HEADER,
    Call,
    is_traceparent,
    operation_of,
)

_SAID: Final = re.compile(r"[A-Za-z0-9._-]{1,64} [1-9][0-9]{0,4} [!-~]{1,128}\Z")
"""Trace id, time-out and key, each as `quoting.server` takes it."""
_NO_KEY: Final = "-"
_USUAL_TRACEPARENT: Final = 256
"""Characters; a longer one may be more than a header line holds."""
_DEFAULT_TIMEOUT: Final = str(DEFAULT_TIMEOUT_MS)


class Passage(Item[Any, Any]):
    """One message on its way: it waits for its result among others, and then is answered."""

    __slots__ = (
        "_express",
        "_give",
        "_tick",
        "began",
        "call",
        "caller",
        "is_settled",
        "method",
        "operation",
        "path",
        "reply",
        "told",
        "trace_id",
        "waited",
    )

    is_settled: bool

    def __init__(self, express: "CallExpress", call: Call, path: str, began: float, give: "Give") -> None:
        """``path`` is as it came, ``began`` when; ``give`` gives the reply."""
        super().__init__(call, call.deadline)
        self.call = call
        """As it came; ``value`` is what goes on."""
        self.reply: Callable[[Any], Reply]
        """What a result is answered with; raises QuotingError."""
        self.told: Callable[[Exception], Exception] = _as_it_is
        """What a caller is told for an error."""
        self.caller: str | None = None
        """Who calls, from when that would have been looked at: who is refused before it is nobody."""
        self.trace_id = call.trace_id
        self.operation = call.operation
        self.method = call.operation.method
        self.path = path
        self.began = began
        self.waited = 0.0
        self._express = express
        self._give = give
        self.is_settled = False
        self._tick = 0

    def wait(self) -> None:
        """Ends at the deadline."""
        if not self.is_settled:
            self._tick = self._express.deadlines.watch(self, self.deadline)

    def settle(self, result: object) -> None:
        if self.is_settled:
            return
        try:
            reply = self.reply(result)
        except Exception as error:  # noqa: BLE001 - whatever fails, the caller gets an answer
            self.fail(error)
        else:
            self._answer(reply)

    def fail(self, error: BaseException) -> None:
        if self.is_settled:
            return
        if isinstance(error, TimeoutError):
            error = UpstreamTimeoutError()
        elif not isinstance(error, Exception):
            error = UnavailableError(cause=repr(error))
        self._answer(refusal(as_error(self.told(error)), self._express.service, self.trace_id))

    def proceed(self, step: Callable[[], None]) -> None:
        """Does the next step; whatever that raises is what the caller is told."""
        self.told = _as_it_is
        try:
            step()
        except Exception as error:  # noqa: BLE001 - whatever fails, the caller gets an answer
            self.fail(error)

    def end(self) -> None:
        """The deadline has passed."""
        self.fail(UpstreamTimeoutError())

    def _answer(self, reply: Reply) -> None:
        self.is_settled = True
        service = self._express.service
        self._express.deadlines.forget(self, self._tick)
        service.pace.in_hand -= 1
        self._express.tell_later(self, self.operation.path, reply)
        self._give(self, reply)

    @property
    def reply_headers(self) -> dict[str, str]:
        """What each reply carries, an error too."""
        key = self.call.idempotency_key
        return {IDEMPOTENCY_HEADER: key} if key is not None else {}


Give = Callable[[Passage, Reply], None]
Start = Callable[[Passage], bool]
"""What a service does with a call: sets ``value`` and ``reply`` and lets the passage wait for its result, or returns
False where that takes more than a look. Raises QuotingError."""


class CallExpress:
    """Of one service of the chain."""

    def __init__(self, service: Service, start: Start, deadlines: Deadlines) -> None:
        self.service = service
        self.deadlines = deadlines
        self._start = start
        self._untold: list[tuple[Told, str, Reply, float]] = []
        """What has been answered, the pattern of its route, with what and when."""

    def of_batch(self) -> TakeLine:
        """What takes the lines of one batch: whether it has, and nothing has been done where it has not."""
        return partial(self._take_line, _Callers(self.service.credentials).__getitem__)

    def _take_line(self, known: "Known", line: PlainLine, put: Callable[[bytes], None]) -> bool:
        said, id_ = line.headers, line.id

        def give(passage: Passage, reply: Reply) -> None:
            answered = b""  # whatever fails, nobody waits for this line any more
            try:
                answered = plain_line_of(id_, reply, passage.trace_id, passage.call.idempotency_key)
            finally:
                put(answered)

        try:
            body = line.body.encode()
        except UnicodeEncodeError:
            return False
        return self._take(known, line.method, line.path, said, body, 0.0, give)

    def take_whole(self, asked: Here, respond: Callable[[Response], None]) -> bool:
        """Likewise for a request of HTTP."""
        headers, service = asked.headers, self.service
        operation, _ = operation_of(asked.method, asked.path)
        if operation is None:
            return False  # a batch above all, which comes this way, too
        authorization = headers.get(hdrs.AUTHORIZATION)
        if authorization is None or asked.query:
            return False
        try:
            require_json(headers)
        except QuotingError:
            return False

        def give(passage: Passage, reply: Reply) -> None:
            respond(response(service, passage.trace_id, passage.reply_headers, reply))

        said = PlainHeaders(
            authorization,
            headers.get(TRACE_HEADER) or new_trace_id(),
            headers.get(TIMEOUT_HEADER, _DEFAULT_TIMEOUT),
            headers.get(IDEMPOTENCY_HEADER, ""),
            headers.get(TRACEPARENT_HEADER, ""),
        )
        waited = asked.waited
        if waited is None:
            waited = service.pace.waited(asked.connection)
        known = service.credentials.known
        return self._take(known, asked.method, asked.path, said, asked.body, waited, give)

    def tell_later(self, told: Told, pattern: str, reply: Reply) -> None:
        """Tells of it when what goes out in this turn of the loop has gone: others need not wait for the log."""
        self._untold.append((told, pattern, reply, time.monotonic()))
        if len(self._untold) == 1:
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._tell)

    def _tell(self) -> None:
        untold, self._untold = self._untold, []
        tell(self.service, untold)

    def _take(
        self,
        known: "Known",
        method: str,
        path: str,
        said: PlainHeaders,
        body: bytes,
        waited: float,
        give: Give,
    ) -> bool:
        began = time.monotonic() - waited
        call = self._call(known, method, path, said, body, began)
        if call is None or call.deadline <= began + waited:
            return False
        service = self.service
        passage = Passage(self, call, path, began, give)
        passage.waited = waited
        service.pace.in_hand += 1
        try:
            service.refuse_new()
            service.refuse_late(waited, call.deadline - began - waited)
            passage.caller = call.caller
            is_taken = self._start(passage)
        except Exception as error:  # noqa: BLE001 - whatever fails, the caller gets an answer, and others their own
            passage.fail(error)
            return True
        if is_taken:
            passage.wait()
        else:
            service.pace.in_hand -= 1
        return is_taken

    def _call(
        self, known: "Known", method: str, path: str, said: PlainHeaders, body: bytes, began: float
    ) -> Call | None:
        """The call where all of it is plainly right and its caller is known."""
        operation, uuid = operation_of(method, path)
        if operation is None or operation.reserves != bool(said.key):
            return None
        if not _SAID.match(f"{said.trace_id} {said.timeout_ms} {said.key or _NO_KEY}"):
            return None
        traceparent = said.traceparent
        if traceparent and not (len(traceparent) <= _USUAL_TRACEPARENT and is_traceparent(traceparent)):
            return None
        caller = known(said.authorization)
        if caller is None or len(body) > MAX_BODY_BYTES:
            return None
        return Call(
            operation,
            caller,
            said.authorization,
            said.trace_id,
            began + min(int(said.timeout_ms), MAX_TIMEOUT_MS) / 1_000,
            uuid,
            (),
            body,
            said.key or None,
            traceparent or None,
        )


Known = Callable[[str], str | None]
"""The caller's name where an Authorization header was found right lately."""


class _Callers(dict[str, str | None]):
    """Callers by their Authorization headers, for the moment in which one batch is looked at."""

    def __init__(self, credentials: Credentials) -> None:
        super().__init__()
        self._credentials = credentials

    def __missing__(self, header: str) -> str | None:
        caller = self[header] = self._credentials.known(header)
        return caller


def _as_it_is(error: Exception) -> Exception:
    return error
