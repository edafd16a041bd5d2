"""`Call`: one request that travels through the chain (wire.md §1 to §3). Its values never change."""

import re
from enum import Enum
from typing import Final
from urllib.parse import quote, urlencode

import msgspec

from chassis.tracing import TRACE_HEADER, TRACEPARENT_HEADER

IDEMPOTENCY_HEADER: Final = "Idempotency-Key"
TIMEOUT_HEADER: Final = "X-Request-Timeout-Ms"
LIFETIME_HEADER: Final = "X-Quote-Lifetime-Ms"

SUBMISSION_URL: Final = "submissionUrl"
IDENTIFIER: Final = "identifier"
IDENTIFIER_TYPE: Final = "identifierType"

KEY: Final = re.compile(r"[!-~]{1,128}\Z")
is_key: Final = KEY.match

MAX_LIFETIME_MS: Final = 10**15 - 1
is_lifetime: Final = re.compile(r"0{0,15}[1-9][0-9]{0,14}\Z").match
"""A lifetime that some payee may accept; each payee has its own maximum."""

DEFAULT_TIMEOUT_MS: Final = 10_000
MAX_TIMEOUT_MS: Final = 60_000
RESERVE_MS: Final = 10
"""Each hop passes on a hundredth less of the time that is left, but at most this much less.

So the next hop times out first, and this hop can pass on its error, which names the service that does not answer.
Without the reserve each hop would name the hop after it.
"""


class Operation(Enum):
    """One operation of the Quote API. Its method and path are the same at every hop."""

    QUOTE_SOURCE_AMOUNT = ("POST", "/v1/quoteSourceAmount")
    QUOTE_DESTINATION_AMOUNT = ("POST", "/v1/quoteDestinationAmount")
    EXECUTE = ("PUT", "/v1/payments/{uuid}")
    LOOK_UP = ("GET", "/v1/quote/{uuid}")
    RELEASE = ("DELETE", "/v1/quote/{uuid}")

    def __init__(self, method: str, path: str) -> None:
        self.method = method
        self.path = path

    @property
    def reserves(self) -> bool:
        return self.method == "POST"

    @property
    def has_body(self) -> bool:
        return self.method in {"POST", "PUT"}


class Call(msgspec.Struct, frozen=True, gc=False):
    """One request of the chain. Its caller is authenticated, and its headers, uuid and query are well-formed."""

    operation: Operation
    caller: str
    authorization: str
    """The caller's own Authorization header. It is passed on unchanged and never logged."""
    trace_id: str
    deadline: float
    """Seconds on the monotonic clock of this machine."""
    uuid: str | None = None
    query: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    idempotency_key: str | None = None
    traceparent: str | None = None
    lifetime_ms: int | None = None
    """The lifetime that a reservation asks for; None for the payee's default."""

    @property
    def method(self) -> str:
        return self.operation.method

    @property
    def path(self) -> str:
        """The path of the request. It is the same at every hop."""
        return self.operation.path if self.uuid is None else self.operation.path.replace("{uuid}", self.uuid)

    @property
    def target(self) -> str:
        """Path and query, percent-encoded."""
        path = self.operation.path if self.uuid is None else self.path
        return f"{path}?{urlencode(self.query, quote_via=quote)}" if self.query else path

    def with_body(self, body: bytes) -> "Call":
        return msgspec.structs.replace(self, body=body)

    def with_query(self, query: tuple[tuple[str, str], ...]) -> "Call":
        return msgspec.structs.replace(self, query=query)

    def headers(self, now: float) -> dict[str, str]:
        """Return the headers for the next hop (wire.md §3). They include the time that is left at `now`."""
        left_ms = int((self.deadline - now) * 1000)
        left_ms = min(MAX_TIMEOUT_MS, max(1, left_ms - min(RESERVE_MS, left_ms // 100)))
        headers = {
            "Authorization": self.authorization,
            TRACE_HEADER: self.trace_id,
            TIMEOUT_HEADER: str(left_ms),
        }
        if self.idempotency_key is not None:
            headers[IDEMPOTENCY_HEADER] = self.idempotency_key
        if self.lifetime_ms is not None:
            headers[LIFETIME_HEADER] = str(self.lifetime_ms)
        if self.traceparent is not None:
            headers[TRACEPARENT_HEADER] = self.traceparent
        return headers
