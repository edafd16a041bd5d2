"""A Quote API in memory, for tests of programs that use the client.

It behaves as the services do: the same replies, errors, idempotency and expiry, with a fee of 10 %. Nothing is kept
after it ends, and nothing leaves the machine.
"""

import binascii
import re
from base64 import b64decode
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from enum import Enum, auto
from types import TracebackType
from typing import Final, Self
from uuid import UUID, uuid4

from aiohttp import web

from dfsp_quotes import fake_validation
from dfsp_quotes.errors import (
    ForbiddenError,
    InvalidHeaderError,
    InvalidQueryParameterError,
    InvalidUriParameterError,
    MethodNotAllowedError,
    NotFoundError,
    PayloadTooLargeError,
    QuoteError,
    ReceiverNotFoundError,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
    UnsupportedMediaTypeError,
)
from dfsp_quotes.fake_payee import ExposureLimit, FakePayee, FakeQuote
from dfsp_quotes.quotes import Operation
from dfsp_quotes.transport import (
    KEY_HEADER,
    LIFETIME_HEADER,
    MAX_BODY_BYTES,
    MAX_TIMEOUT_MS,
    TIMEOUT_HEADER,
    TRACE_HEADER,
)

__all__ = ["ExposureLimit", "FakeQuote", "FakeQuoteServer", "Fault", "ReceivedRequest"]

SAMPLE_RATE: Final = Decimal("0.10")
SAMPLE_LIFETIME: Final = timedelta(minutes=5)
_MAX_REQUESTS: Final = 10_000
_SERVICE: Final = "dfsp-api"
_TRACE_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
MAX_LIFETIME_MS: Final = 86_400_000
_LIFETIME: Final = re.compile(r"0{0,15}[1-9][0-9]{0,14}\Z")
_KEY: Final = re.compile(r"[!-~]{1,128}\Z")
_TIMEOUT: Final = re.compile(r"0*[1-9][0-9]*\Z")
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.IGNORECASE)
_MEDIA_TYPES: Final = frozenset({"", "application/json", "application/x-www-form-urlencoded"})
_RETRY_AFTER_ON: Final = (TooManyRequestsError, UnavailableError)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Fault(Enum):
    """A broken connection of one request."""

    LOST_REQUEST = auto()
    """It closes before the request is carried out."""
    LOST_RESPONSE = auto()
    """It closes after the request was carried out."""


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request as it arrived, without its credentials."""

    method: str
    path: str
    headers: Mapping[str, str]
    """By name in lower case."""


class FakeQuoteServer:
    """A Quote API on a free port of this machine, while `async with FakeQuoteServer() as server` runs.

    `QuoteClient(server.url, server.name, server.password)` reaches it. `rate` is the fee's share of the amount that
    arrives; `lifetime` is the time for which a new quote is valid. Both can be changed while it runs. `receivers` are
    the known pairs of identifierType and identifier; None means all. `users` are further callers: passwords by name.
    `operators` are the callers who may list the quotes of all callers and see the exposures. `limits` are exposure limits by
    caller and currency code.
    """

    name: Final = "test"
    password: Final = "123"  # noqa: S105 - opens nothing but this

    def __init__(
        self,
        *,
        rate: Decimal = SAMPLE_RATE,
        lifetime: timedelta = SAMPLE_LIFETIME,
        receivers: Collection[tuple[str, str]] | None = None,
        transfer_types: Collection[str] = ("p2p",),
        users: Mapping[str, str] | None = None,
        operators: Collection[str] = (),
        limits: Mapping[tuple[str, str], ExposureLimit] | None = None,
    ) -> None:
        self.receivers = receivers
        self.received: deque[ReceivedRequest] = deque(maxlen=_MAX_REQUESTS)
        """The last 10,000 requests, also those that failed."""
        self._payee = FakePayee(rate, lifetime, transfer_types, limits)
        self._users = {self.name: self.password, **(users or {})}
        self._operators = frozenset(operators)
        self._faults: deque[QuoteError | Fault] = deque()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._middleware])
        app.router.add_post("/v1/{operation:quoteSourceAmount|quoteDestinationAmount}", self._reserve)
        app.router.add_put("/v1/payments/{uuid}", self._execute)
        app.router.add_get("/v1/quote/{uuid}", self._look_up, allow_head=False)
        app.router.add_delete("/v1/quote/{uuid}", self._release)
        app.router.add_get("/v1/quotes", self._list, allow_head=False)
        app.router.add_get("/v1/exposures", self._exposures, allow_head=False)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def url(self) -> str:
        """The base URL for a client."""
        if self._runner is None:
            raise RuntimeError("the server does not run: use it inside `async with FakeQuoteServer()`")
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    @property
    def quotes(self) -> list[FakeQuote]:
        """All quotes, in the order in which they were reserved."""
        return list(self._payee.quotes.values())

    @property
    def rate(self) -> Decimal:
        return self._payee.rate

    @rate.setter
    def rate(self, rate: Decimal) -> None:
        self._payee.rate = rate

    @property
    def lifetime(self) -> timedelta:
        return self._payee.lifetime

    @lifetime.setter
    def lifetime(self, lifetime: timedelta) -> None:
        self._payee.lifetime = lifetime

    def expire(self, uuid: UUID) -> None:
        """Let a quote expire a second ago. Raises KeyError if there is none with this uuid."""
        quote = self._payee.quotes[uuid]
        quote.expires = min(quote.expires, quote.created) - timedelta(seconds=1)

    def fail(self, *faults: QuoteError | Fault) -> None:
        """Let the next requests fail, one for each fault: with an error as response, or without a response.

        Raises ValueError for an error without a status, which no response can have.
        """
        if any(isinstance(fault, QuoteError) and fault.status is None for fault in faults):
            raise ValueError("an error needs a status; for a lost response use a Fault")
        self._faults.extend(faults)

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        trace_id = request.headers.get(TRACE_HEADER, "")
        trace_id = trace_id if _TRACE_ID.match(trace_id) else str(uuid4())
        headers = {name.lower(): value for name, value in request.headers.items() if name != "Authorization"}
        self.received.append(ReceivedRequest(request.method, request.path, headers))
        fault = self._faults.popleft() if self._faults else None
        try:
            if isinstance(fault, QuoteError):
                raise fault
            response = await self._respond(request, handler, fault)
        except QuoteError as error:
            response = _error_response(error, trace_id)
        response.headers[TRACE_HEADER] = trace_id
        if request.method == "POST" and _KEY.match(request.headers.get(KEY_HEADER, "")):
            response.headers[KEY_HEADER] = request.headers[KEY_HEADER]
        return response

    async def _respond(
        self, request: web.Request, handler: Handler, fault: Fault | None
    ) -> web.StreamResponse:
        if fault is Fault.LOST_REQUEST:
            return _without_response(request)
        try:
            response = await handler(request)
        except web.HTTPNotFound:
            raise NotFoundError from None
        except web.HTTPMethodNotAllowed:
            raise MethodNotAllowedError from None
        return _without_response(request) if fault is Fault.LOST_RESPONSE else response

    async def _reserve(self, request: web.Request) -> web.Response:
        caller = self._authenticate(request)
        body = await _read_body(request)
        _check_timeout(request)
        key, lifetime = _idempotency_key(request), _lifetime(request)
        message = fake_validation.reservation(body)
        self._require_receiver(message)
        operation = Operation(request.match_info["operation"])
        reply = self._payee.reserve(caller, key, operation, message, lifetime)
        response = web.json_response(reply)
        response.headers[KEY_HEADER] = key
        return response

    async def _execute(self, request: web.Request) -> web.Response:
        caller = self._authenticate(request)
        body = await _read_body(request)
        _check_timeout(request)
        uuid = _uuid(request)
        message = fake_validation.payment(body)
        self._require_receiver(message)
        return web.json_response(self._payee.execute(caller, uuid, message))

    async def _look_up(self, request: web.Request) -> web.Response:
        return web.json_response(self._payee.look_up(*self._quote_of(request)))

    async def _release(self, request: web.Request) -> web.Response:
        return web.json_response(self._payee.release(*self._quote_of(request)))

    def _quote_of(self, request: web.Request) -> tuple[str, UUID, Mapping[str, str]]:
        """Return the caller, the uuid and the receiver of a look-up or a release."""
        caller = self._authenticate(request)
        _check_timeout(request)
        uuid = _uuid(request)
        receiver = fake_validation.receiver(request.query)
        self._require_receiver(receiver)
        return caller, uuid, receiver

    async def _list(self, request: web.Request) -> web.Response:
        caller = self._authenticate(request)
        _check_timeout(request)
        query = fake_validation.listing(list(request.query.items()))
        is_operator = caller in self._operators
        if not is_operator and query.get("caller", caller) != caller:
            raise ForbiddenError("Only an operator may list the quotes of another caller.")
        wanted = query.get("caller") if is_operator else caller
        return web.json_response(self._payee.page(wanted, query, with_callers=is_operator))

    async def _exposures(self, request: web.Request) -> web.Response:
        caller = self._authenticate(request)
        _check_timeout(request)
        if request.query:
            raise InvalidQueryParameterError(
                fields=dict.fromkeys(request.query, "is not a parameter of this operation")
            )
        if caller not in self._operators:
            raise ForbiddenError(
                "Only an operator may use this operation. QUOTES_OPERATORS names the operators."
            )
        return web.json_response(self._payee.exposures())

    def _authenticate(self, request: web.Request) -> str:
        """Return the caller's name. Raises UnauthorizedError."""
        scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
        try:
            name, colon, password = b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise UnauthorizedError from None
        if scheme.lower() != "basic" or not colon or self._users.get(name) != password:
            raise UnauthorizedError
        return name

    def _require_receiver(self, message: Mapping[str, str]) -> None:
        if (
            self.receivers is not None
            and (message["identifierType"], message["identifier"]) not in self.receivers
        ):
            raise ReceiverNotFoundError


async def _read_body(request: web.Request) -> bytes:
    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type not in _MEDIA_TYPES or "Content-Encoding" in request.headers:
        raise UnsupportedMediaTypeError
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise PayloadTooLargeError from None


def _check_timeout(request: web.Request) -> None:
    if any(not _TIMEOUT.match(value) for value in request.headers.getall(TIMEOUT_HEADER, [])):
        raise InvalidHeaderError(f"{TIMEOUT_HEADER} must be given once: digits, 1 to {MAX_TIMEOUT_MS}.")


def _lifetime(request: web.Request) -> timedelta | None:
    given = request.headers.get(LIFETIME_HEADER)
    if given is None:
        return None
    if not _LIFETIME.match(given):
        raise InvalidHeaderError(
            f"{LIFETIME_HEADER} must be given once, as a whole number of milliseconds above 0."
        )
    if int(given) > MAX_LIFETIME_MS:
        raise InvalidHeaderError(f"{LIFETIME_HEADER} must be at most {MAX_LIFETIME_MS}.")
    return timedelta(milliseconds=int(given))


def _idempotency_key(request: web.Request) -> str:
    key = request.headers.get(KEY_HEADER, str(uuid4()))
    if not _KEY.match(key):
        raise InvalidHeaderError(f"{KEY_HEADER} must be given once: 1 to 128 visible ASCII characters.")
    return key


def _uuid(request: web.Request) -> UUID:
    uuid = request.match_info["uuid"]
    if not _UUID.match(uuid):
        raise InvalidUriParameterError("The uuid in the path must be 8-4-4-4-12 hex digits.")
    return UUID(uuid)


def _limit(error: QuoteError, field: str) -> dict[str, str]:
    """Return the parameters of a field's exceeded limit; empty without one."""
    found = error.limits.get(field)
    if found is None:
        return {}
    values = {"limit": found.limit, "exposure": found.exposure, "requested": found.requested}
    return {name: format(value, "f") for name, value in values.items()}


def _without_response(request: web.Request) -> web.Response:
    """Close the connection, so that the response goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _error_response(error: QuoteError, trace_id: str) -> web.Response:
    content: dict[str, object] = {
        "id": error.id,
        "message": error.message,
        "service": error.service or _SERVICE,
        "traceId": trace_id,
    }
    if error.fields:
        content["validationErrors"] = [
            {"message": message, "params": {"key": name, "value": None, **_limit(error, name)}}
            for name, message in error.fields.items()
        ]
    response = web.json_response(content, status=error.status or 500)
    if isinstance(error, UnauthorizedError):
        response.headers["WWW-Authenticate"] = f'Basic realm="{_SERVICE}", charset="UTF-8"'
    if error.retry_after is not None or isinstance(error, _RETRY_AFTER_ON):
        response.headers["Retry-After"] = str(round(1 if error.retry_after is None else error.retry_after))
    return response
