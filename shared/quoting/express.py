"""Lines that are plainly right go on without a task, a message and a future each.

Whatever is not, or would be refused, or has to wait for more than its turn in the next batch, is left to
`chassis.intake`, which takes it after all or says what is wrong with it. A property test holds the two together.
"""

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from chassis.app import Service, as_error
from chassis.bodies import MOST_BODY_BYTES
from chassis.deadlines import Deadlines
from chassis.errors import QuotingError, UnavailableError, UpstreamTimeoutError
from chassis.intake import refusal, tell
from chassis.messages import Reply
from quoting.batches import line_of
from quoting.call import IDEMPOTENCY_HEADER, MOST_TIMEOUT_MS, Call, Operation
from quoting.coalescing import Item
from quoting.lines import PlainLine

Put = Callable[[bytes], None]

_RESERVES: Final[Mapping[str, Operation]] = {each.path: each for each in Operation if each.reserves}
_PAYMENTS: Final = Operation.EXECUTE.path.removesuffix("{uuid}")
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


class Passage(Item[Any, Any]):
    """One line on its way: it waits for its result among others, and then is answered."""

    __slots__ = ("_express", "_id", "_is_settled", "_put", "began", "call", "path", "reply", "tick", "told")

    waited: Final = 0.0

    def __init__(self, express: "CallExpress", call: Call, line: PlainLine, put: Put, began: float) -> None:
        super().__init__(call, call.deadline)
        self.call = call
        """As it came; ``value`` is what goes on."""
        self.reply: Callable[[Any], Reply]
        """What a result is answered with; raises QuotingError."""
        self.told: Callable[[Exception], Exception] = _as_it_is
        """What a caller is told for an error."""
        self.path = line.path
        self.began = began
        self.tick = 0
        self._express = express
        self._id = line.id
        self._put = put
        self._is_settled = False

    @property
    def trace_id(self) -> str:
        return self.call.trace_id

    @property
    def caller(self) -> str:
        return self.call.caller

    @property
    def method(self) -> str:
        return self.call.operation.method

    @property
    def is_settled(self) -> bool:
        return self._is_settled

    def settle(self, result: object) -> None:
        if self._is_settled:
            return
        try:
            reply = self.reply(result)
        except Exception as error:  # noqa: BLE001 - whatever fails, the caller gets an answer
            self.fail(error)
        else:
            self._answer(reply)

    def fail(self, error: BaseException) -> None:
        if self._is_settled:
            return
        if isinstance(error, TimeoutError):
            error = UpstreamTimeoutError()
        elif not isinstance(error, Exception):
            error = UnavailableError(cause=repr(error))
        self._answer(refusal(as_error(self.told(error)), self._express.service, self.trace_id))

    def end(self) -> None:
        """The deadline has passed."""
        self.fail(UpstreamTimeoutError())

    def _answer(self, reply: Reply) -> None:
        self._is_settled = True
        call, service = self.call, self._express.service
        self._express.deadlines.forget(self, self.tick)
        service.pace.in_hand -= 1
        tell(service, self, call.operation.path, reply)
        answered = b""  # whatever fails, nobody waits for this line any more
        try:
            key = call.idempotency_key
            answered = line_of(
                self._id, reply, call.trace_id, {IDEMPOTENCY_HEADER: key} if key is not None else {}
            )
        finally:
            self._put(answered)


Start = Callable[[Passage], bool]
"""What a service does with a call: sets ``value`` and ``reply`` and lets the passage wait for its result, or returns
False where that takes more than a look. Raises QuotingError."""


class CallExpress:
    """Of one service of the chain."""

    def __init__(self, service: Service, start: Start, deadlines: Deadlines) -> None:
        self.service = service
        self.deadlines = deadlines
        self._start = start

    def begin(self, line: PlainLine, put: Put) -> bool:
        """Whether the line is on its way, and its answer will be ``put``; nothing has been done where it is not."""
        began = time.monotonic()
        call = self._call(line, began)
        if call is None:
            return False
        service = self.service
        passage = Passage(self, call, line, put, began)
        service.pace.in_hand += 1
        try:
            service.refuse_new()
            service.refuse_late(0.0, call.deadline - began)
            is_begun = self._start(passage)
        except QuotingError:
            is_begun = False  # it is found again, and told
        if is_begun:
            passage.tick = self.deadlines.watch(passage, call.deadline)
        else:
            service.pace.in_hand -= 1
        return is_begun

    def _call(self, line: PlainLine, now: float) -> Call | None:
        said = line.headers
        operation, uuid = _operation(line.method, line.path)
        if operation is None or operation.reserves != (said.key is not None):
            return None
        try:
            body = line.body.encode()
        except UnicodeEncodeError:
            return None
        caller = self.service.credentials.known(said.authorization)
        if caller is None or len(body) > MOST_BODY_BYTES:
            return None
        deadline = now + min(int(said.timeout_ms), MOST_TIMEOUT_MS) / 1_000
        return Call(
            operation, caller, said.authorization, said.trace_id, deadline, uuid, (), body, said.key, None
        )


def _as_it_is(error: Exception) -> Exception:
    return error


def _operation(method: str, path: str) -> tuple[Operation | None, str | None]:
    if method == "POST":
        return _RESERVES.get(path), None
    if method == "PUT" and path.startswith(_PAYMENTS) and _UUID.match(path, len(_PAYMENTS)):
        return Operation.EXECUTE, path[len(_PAYMENTS) :]
    return None, None
