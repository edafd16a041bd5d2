"""The five forwarders, each between stand-ins for its neighbours."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import orjson
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from chassis.app import SERVICE
from chassis.logs import LogWriter
from chassis.settings import Settings
from dfsp_api import payer
from spsp_client import app as spsp_client
from spsp_client_proxy import app as spsp_client_proxy
from spsp_server import app as spsp_server
from spsp_server_backend import app as spsp_server_backend
from support.messages import LOOK_UP_QUERY, RESERVE, RESERVE_DESTINATION, UNKNOWN_UUID, headers
from support.serving import Stub, raw, reply, served, stub
from support.settings import load

RECEIVER_URL: Final = "http://spsp-server"
"""What the scripted directory answers."""

# a blank here and an escape there: what is written must stay as it is written
BODY: Final = (
    b'{"currencyCode": "USD", "currencySymbol":"\\u0024", "amount" : "12.50", '
    b'"account": "http://ledger.example/ilp/ledger/v1/accounts/bob", '
    b'"identifier": "30754016", "identifierType": "eur",\n "transferType": "p2p"}'
)
QUOTE_REPLY: Final = b'{"amount" : "13.75",  "expires":"2017-05-11T11:30:03.561Z", "uuid":"x"}'


@dataclass(frozen=True)
class Ask:
    """One request as a caller of the first hop would make it."""

    method: str
    path: str
    query: str = ""
    body: bytes | None = None

    @property
    def target(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path


SOURCE: Final = Ask("POST", RESERVE, body=BODY)
DESTINATION: Final = Ask("POST", RESERVE_DESTINATION, body=BODY)
EXECUTE: Final = Ask("PUT", f"/v1/payments/{UNKNOWN_UUID}", body=BODY)
LOOK_UP: Final = Ask("GET", f"/v1/quote/{UNKNOWN_UUID}", query=LOOK_UP_QUERY)
ASKS: Final = {"source": SOURCE, "destination": DESTINATION, "execute": EXECUTE, "look_up": LOOK_UP}


@dataclass(frozen=True)
class Forwarder:
    """One of the five: its name to callers and the name of its next hop in messages."""

    service: str
    next_service: str
    settings: type[Settings]
    create_app: Callable[[Any], web.Application]


FORWARDERS: Final = {
    "dfsp-api": Forwarder("dfsp-api", "spsp-client-proxy", payer.PayerSettings, payer.create_app),
    "spsp-client-proxy": Forwarder(
        "spsp-client-proxy",
        "spsp-client",
        spsp_client_proxy.SpspClientProxySettings,
        spsp_client_proxy.create_app,
    ),
    "spsp-client": Forwarder(
        "spsp-client", "spsp-server", spsp_client.SpspClientSettings, spsp_client.create_app
    ),
    "spsp-server": Forwarder(
        "spsp-server", "spsp-server-backend", spsp_server.SpspServerSettings, spsp_server.create_app
    ),
    "spsp-server-backend": Forwarder(
        "spsp-server-backend",
        "dfsp-api",
        spsp_server_backend.SpspServerBackendSettings,
        spsp_server_backend.create_app,
    ),
}


@dataclass(frozen=True)
class Answer:
    """A reply, read to its end."""

    status: int
    headers: CIMultiDict[str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def id(self) -> str:
        return self.json["id"]


class Collected(LogWriter):
    """Log lines, kept instead of written."""

    def __init__(self) -> None:
        super().__init__(descriptor=-1)
        self.kept: list[bytes] = []

    def write(self, lines: Iterable[bytes], *, now: bool) -> None:
        self.kept.extend(lines)

    @property
    def text(self) -> str:
        return b"\n".join(self.kept).decode()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.kept]


def collect_lines(app: web.Application) -> Collected:
    """From now on an app's log goes to the test."""
    lines = Collected()
    app[SERVICE].logs.writer = lines
    return lines


@dataclass
class Hop:
    """A forwarder that runs, and what stands around it."""

    forwarder: Forwarder
    app: web.Application
    url: str
    next_url: str
    next_hop: Stub
    """Not asked where the test has a next hop of its own."""
    directory: Stub
    client: aiohttp.ClientSession
    lines: Collected = field(default_factory=Collected)

    @property
    def service(self) -> str:
        return self.forwarder.service

    def adapted(self, ask: Ask) -> Ask:
        """The request as this hop takes it: spsp-client needs to be told where it is to go."""
        if self.service != "spsp-client":
            return ask
        url = self.next_url + ask.path
        if ask.body is None:
            return replace(ask, query=f"{ask.query}&submissionUrl={quote(url, safe='')}")
        return replace(ask, body=ask.body.rstrip()[:-1] + b', "submissionUrl": "%s"}' % url.encode())

    async def send(self, ask: Ask = SOURCE, *, adapt: bool = True, **more: str | None) -> Answer:
        """Sends a well-formed request; keyword names are headers with _ for -, None leaves one out."""
        given = headers() | {name.replace("_", "-"): value for name, value in more.items()}
        if ask.body is None:
            given.setdefault("Content-Type", None)
        return await self.send_with(ask, [(k, v) for k, v in given.items() if v is not None], adapt=adapt)

    async def send_with(
        self, ask: Ask, given: list[tuple[str, str]] | Mapping[str, str], *, adapt: bool = True
    ) -> Answer:
        """Sends a request with just these headers."""
        ask = self.adapted(ask) if adapt else ask
        async with self.client.request(
            ask.method,
            URL(self.url + ask.target, encoded=True),
            data=ask.body,
            headers=given,
            allow_redirects=False,
            skip_auto_headers=("Content-Type",),
        ) as response:
            return Answer(response.status, CIMultiDict(response.headers), await response.read())

    def written(self, ask: Ask = SOURCE, *, adapt: bool = True, **more: str | None) -> bytes:
        """A well-formed request in bytes, for a connection that closes after the reply."""
        ask = self.adapted(ask) if adapt else ask
        given: dict[str, str | None] = {"Host": "hop", **headers(), "Connection": "close"}
        if ask.body is not None:
            given["Content-Length"] = str(len(ask.body))
        given |= {name.replace("_", "-"): value for name, value in more.items()}
        lines = [f"{ask.method} {ask.target} HTTP/1.1", *(f"{k}: {v}" for k, v in given.items() if v)]
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + (ask.body or b"")

    async def raw(self, data: bytes, *, half_close: bool = False, seconds: float = 5) -> list[Answer]:
        """The replies to these bytes on a connection of their own, until it closes."""
        return answers_in(await raw(self.url, data, half_close=half_close, seconds=seconds))

    async def first(self, *parts: bytes, pause: float = 0) -> Answer:
        """The first reply to these bytes; the rest of an unfinished body the service may wait for in vain."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            for part in parts:
                writer.write(part)
                await asyncio.sleep(pause)
            async with asyncio.timeout(5):
                head = await reader.readuntil(b"\r\n\r\n")
                [begun] = answers_in(head)
                return replace(
                    begun, body=await reader.readexactly(int(begun.headers.get("Content-Length", "0")))
                )
        finally:
            writer.close()


def answers_in(data: bytes) -> list[Answer]:
    """The replies on a connection; interim ones (100 Continue) have no body."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        given = CIMultiDict(line.split(": ", 1) for line in lines)
        length = int(given.get("Content-Length", "0"))
        found.append(Answer(int(status.split(" ")[1]), given, data[:length]))
        data = data[length:]
    return found


@asynccontextmanager
async def hop_of(
    forwarder: Forwarder,
    users_file: Path,
    client: aiohttp.ClientSession,
    *,
    next_url: str | None = None,
    directory_url: str | None = None,
    **settings: str,
) -> AsyncIterator[Hop]:
    """A forwarder with a scripted next hop, and a scripted directory where it asks one.

    ``settings`` are variables without their prefix.
    """
    async with AsyncExitStack() as stack:
        next_hop = await stack.enter_async_context(stub(reply(200, QUOTE_REPLY)))
        directory = await stack.enter_async_context(stub(reply(200, {"spspReceiver": RECEIVER_URL})))
        to = next_url or next_hop.url
        environment = {
            "users_file": str(users_file),
            "next_hop": to,
            "submission_urls": to,
            "directory_url": directory_url or directory.url,
            **settings,
        }
        loaded = load(
            forwarder.settings, {f"QUOTES_{name.upper()}": value for name, value in environment.items()}
        )
        app = forwarder.create_app(loaded)
        lines = collect_lines(app)
        url = await stack.enter_async_context(served(app))
        yield Hop(forwarder, app, url, to, next_hop, directory, client, lines)


def authorization(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def pairs(body: bytes) -> list[tuple[str, Any]]:
    """The members of a JSON object in their order."""
    return json.loads(body, object_pairs_hook=list)


def is_error_object(answer: Answer) -> bool:
    """Whether a reply is the Level One error object of wire.md §4 and nothing else."""
    content = answer.json
    return (
        answer.headers["Content-Type"].startswith("application/json")
        and {"id", "message", "service", "traceId"} <= set(content)
        and set(content) <= {"id", "message", "service", "traceId", "validationErrors"}
        and content["traceId"] == answer.headers["L1p-Trace-Id"]
    )
