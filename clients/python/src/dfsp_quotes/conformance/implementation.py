"""The implementation under test, as the checks see it."""

import itertools
import json
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Final, TypeVar, cast
from urllib.parse import quote, urlencode
from uuid import uuid4

import aiohttp
from aiohttp import hdrs
from multidict import CIMultiDict
from yarl import URL

from dfsp_quotes.conformance.clock import Clock
from dfsp_quotes.conformance.neighbour import Neighbour
from dfsp_quotes.conformance.options import Options, Role
from dfsp_quotes.conformance.result import MAX_EXCHANGES, Exchange, Fault, Skip, cut
from dfsp_quotes.conformance.wire import LIFETIME_MS, Request, Response, basic, encode, read_body

SOURCE: Final = "/v1/quoteSourceAmount"
DESTINATION: Final = "/v1/quoteDestinationAmount"

AMOUNT: Final = re.compile(r"(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?", re.ASCII)
TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", re.ASCII)
UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)

Headers = Mapping[str, str | None]
T = TypeVar("T")


@dataclass(frozen=True)
class Quote:
    """A reserved quote: the request, and the response with its three fields."""

    request: Mapping[str, str]
    response: Response

    def text(self, name: str) -> str:
        """Return a field of the response. Raises Fault if it is missing or is not a string."""
        found = self.response.object.get(name)
        if not isinstance(found, str):
            shown = (
                "is missing" if found is None else f"is {cut(json.dumps(found), 80)}, which is not a string"
            )
            raise Fault(f'"{name}" {shown}.')
        return found

    @property
    def uuid(self) -> str:
        found = self.text("uuid")
        if not UUID.fullmatch(found):
            raise Fault(f'"uuid" is "{cut(found, 80)}", which is not a UUID.')
        return found

    @property
    def amount(self) -> Decimal:
        return decimal(self.text("amount"), "amount")

    @property
    def expires(self) -> datetime:
        return time(self.text("expires"), "expires")


def decimal(text: object, name: str) -> Decimal:
    """Return an amount. Raises Fault if the text is not a decimal number."""
    if not isinstance(text, str) or not AMOUNT.fullmatch(text):
        raise Fault(f'"{name}" is {cut(json.dumps(text), 80)}, which is not a string with a decimal number.')
    return Decimal(text)


def time(text: object, name: str) -> datetime:
    """Return a time. Raises Fault if the text is not ISO 8601 in UTC."""
    if isinstance(text, str) and TIME.fullmatch(text):
        try:
            return datetime.fromisoformat(text).astimezone(UTC)
        except ValueError:
            pass
    raise Fault(
        f'"{name}" is {cut(json.dumps(text), 80)}, which is not a time such as "2017-05-11T11:30:03.561Z".'
    )


@dataclass
class Record:
    """The requests of one check."""

    exchanges: list[Exchange] = field(default_factory=list)
    more: int = 0

    def add(self, exchange: Exchange) -> None:
        if len(self.exchanges) < MAX_EXCHANGES:
            self.exchanges.append(exchange)
        else:
            self.more += 1


class Implementation:
    """Sends requests to the implementation under test, and keeps them for the report."""

    def __init__(
        self,
        options: Options,
        session: aiohttp.ClientSession,
        clock: Clock,
        next_hop: Neighbour | None = None,
        directory: Neighbour | None = None,
    ) -> None:
        self.options = options
        self.clock = clock
        self.record = Record()
        self._made: dict[object, object] = {}
        self._next_hop = next_hop
        self._directory = directory
        self._session = session
        self._identifiers = itertools.count(int.from_bytes(uuid4().bytes[:4]) + 10_000_000_000)

    @property
    def next_hop(self) -> Neighbour:
        if self._next_hop is None:
            raise RuntimeError(f"The role {self.options.role} has no next hop.")
        return self._next_hop

    @property
    def directory(self) -> Neighbour:
        if self._directory is None:
            raise RuntimeError(f"The role {self.options.role} has no directory.")
        return self._directory

    def begin(self) -> None:
        """Begin a check: with an empty record, and with neighbours that answer as at the start."""
        self.record = Record()
        for neighbour in (self._next_hop, self._directory):
            if neighbour is not None:
                neighbour.reset()
                neighbour.on_exchange = partial(self._received, self.record)

    def _received(
        self, record: Record, neighbour: Neighbour, request: Request, answer: Response | None
    ) -> None:
        text = answer.text if answer else "(no response: the implementation closed the connection)"
        way = f"{self.options.role} → kit as {neighbour.name}"
        record.add(Exchange(way, request.text, text))

    async def once(self, make: Callable[["Implementation"], Awaitable[T]]) -> T:
        """Return the result of a function that runs once for all checks. Its Fault or Skip is raised each time."""
        if make not in self._made:
            try:
                self._made[make] = await make(self)
            except (Fault, Skip) as error:
                self._made[make] = error
        found = self._made[make]
        if isinstance(found, (Fault, Skip)):
            raise found
        return cast("T", found)

    def request(self, **changes: str) -> dict[str, str]:
        """Return the seven fields of the request, with changes.

        A proxy may cache the directory's answers, so each of its requests is for another recipient.
        """
        made = dict(self.options.request)
        if self.options.role is Role.SPSP_CLIENT_PROXY:
            made["identifier"] = str(next(self._identifiers))
        return made | changes

    def as_received(self, path: str, request: Mapping[str, str]) -> dict[str, str]:
        """Return a body as the role receives it: for spsp-client, with a submissionUrl at the kit."""
        if self.options.role is Role.SPSP_CLIENT:
            return {**request, "submissionUrl": self.next_hop.url + path}
        return dict(request)

    async def send(
        self,
        method: str,
        target: str,
        body: Mapping[str, object] | bytes | None = None,
        headers: Headers | None = None,
    ) -> Response:
        """Send one request. A header that is None is left out. Raises Fault if there is no response."""
        given = CIMultiDict[str | None](
            {
                hdrs.ACCEPT: "application/json",
                hdrs.AUTHORIZATION: basic(self.options.credentials),
                hdrs.CONTENT_TYPE: None if body is None else "application/json",
            }
        )
        given.update(headers or {})
        sent = CIMultiDict({name: value for name, value in given.items() if value is not None})
        request = Request(sent, encode(body), method, target)
        way = f"kit → {self.options.role}"
        position = len(self.record.exchanges)
        try:
            async with self._session.request(
                method,
                URL(self.options.url + target, encoded=True),
                data=None if body is None else request.body,
                headers=sent,
                skip_auto_headers=(hdrs.CONTENT_TYPE,),
                allow_redirects=False,
            ) as reply:
                received = await read_body(reply.content)
                response = Response(CIMultiDict(reply.headers), received, reply.status)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            cause = (
                "none came in time"
                if isinstance(error, TimeoutError)
                else cut(str(error) or repr(error), 200)
            )
            self._insert(position, Exchange(way, request.text, f"(no response: {cause})"))
            raise Fault(f"There was no response to {method} {target.partition('?')[0]}: {cause}.") from error
        self._insert(position, Exchange(way, request.text, response.text))
        return response

    def _insert(self, position: int, exchange: Exchange) -> None:
        """Keep a request before the requests that it caused at the neighbours."""
        if len(self.record.exchanges) < MAX_EXCHANGES:
            self.record.exchanges.insert(position, exchange)
        else:
            self.record.more += 1

    async def post(
        self, request: Mapping[str, str], path: str = SOURCE, headers: Headers | None = None
    ) -> Response:
        """Send the request for a reservation as the role receives it."""
        return await self.send("POST", path, self.as_received(path, request), headers)

    async def reserve(
        self,
        request: Mapping[str, str] | None = None,
        path: str = SOURCE,
        headers: Headers | None = None,
    ) -> Quote:
        """Reserve a quote. Raises Fault if the response is not 200."""
        request = self.request() if request is None else request
        response = await self.post(request, path, headers)
        if response.status != 200:  # noqa: PLR2004
            raise Fault(f"The reservation was answered with {response.outcome}, not with 200.")
        return Quote(request, response)

    async def reserve_short(
        self, headers: Headers | None = None, request: Mapping[str, str] | None = None
    ) -> Quote:
        """Reserve a quote that expires soon, where the implementation offers it."""
        lifetime = self.options.lifetime_ms
        more = {} if lifetime is None else {LIFETIME_MS: str(lifetime)}
        return await self.reserve(request, headers={**more, **(headers or {})})

    async def execute(
        self, uuid: str, request: Mapping[str, str], headers: Headers | None = None
    ) -> Response:
        """Send the transfer for a quote. The source leaves its method and path open."""
        path = self.options.execute_path.replace("{uuid}", uuid)
        return await self.send(self.options.execute_method, path, self.as_received(path, request), headers)

    async def look_up(
        self, uuid: str, request: Mapping[str, str], headers: Headers | None = None
    ) -> Response:
        return await self._on_quote("GET", uuid, request, headers)

    async def release(
        self, uuid: str, request: Mapping[str, str], headers: Headers | None = None
    ) -> Response:
        return await self._on_quote("DELETE", uuid, request, headers)

    async def _on_quote(
        self, method: str, uuid: str, request: Mapping[str, str], headers: Headers | None
    ) -> Response:
        path = f"/v1/quote/{uuid}"
        query = {name: request[name] for name in ("identifierType", "identifier")}
        if self.options.role is Role.SPSP_CLIENT:
            query["submissionUrl"] = self.next_hop.url + path
        return await self.send(method, f"{path}?{urlencode(query, quote_via=quote)}", headers=headers)

    async def is_reachable(self) -> str:
        """Return an empty text if the implementation accepts connections, else the cause."""
        try:
            async with self._session.get(self.options.url + "/", allow_redirects=False):
                return ""
        except (aiohttp.ClientConnectionError, OSError, TimeoutError) as error:
            return cut(str(error) or repr(error), 200)


def _tls(options: Options) -> ssl.SSLContext | bool:
    if options.ca is None:
        return True
    return ssl.create_default_context(cafile=str(options.ca))


def open_session(options: Options) -> aiohttp.ClientSession:
    """Return a session that follows the options and repeats nothing."""
    return aiohttp.ClientSession(
        # a connection for each request, since aiohttp repeats some requests on connections that it uses again
        connector=aiohttp.TCPConnector(limit=0, ssl=_tls(options), force_close=True),
        timeout=aiohttp.ClientTimeout(total=options.timeout),
        skip_auto_headers=(hdrs.ACCEPT_ENCODING,),
        trust_env=False,
    )
