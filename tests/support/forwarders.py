"""Run one of the five forwarders between stubs that take the place of its next hop and the directory."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aiohttp
from aiohttp import web
from yarl import URL

from chassis.settings import Settings
from dfsp_api import payer
from spsp_client import app as spsp_client
from spsp_client_proxy import app as spsp_client_proxy
from spsp_server import app as spsp_server
from spsp_server_backend import app as spsp_server_backend
from support.client import ClientResponse, received, responses_in
from support.internals import CollectedLines, collect_lines
from support.messages import LOOK_UP_QUERY, RESERVE, RESERVE_DESTINATION, UNKNOWN_UUID, headers
from support.serving import Stub, connection, reply, send_bytes, served, stub
from support.settings import load

RECEIVER_URL: Final = "http://spsp-server"
"""URL of the payee's spsp-server in the responses of the directory's stub."""

# blanks and an escape, because each hop has to pass values on as they are written
BODY: Final = (
    b'{"currencyCode": "USD", "currencySymbol":"\\u0024", "amount" : "12.50", '
    b'"account": "http://ledger.example/ilp/ledger/v1/accounts/bob", '
    b'"identifier": "30754016", "identifierType": "eur",\n "transferType": "p2p"}'
)
QUOTE_REPLY: Final = b'{"amount" : "13.75",  "expires":"2017-05-11T11:30:03.561Z", "uuid":"x"}'


@dataclass(frozen=True)
class ClientRequest:
    """A request in the form in which a client sends it to the first service of the chain."""

    method: str
    path: str
    query: str = ""
    body: bytes | None = None

    @property
    def target(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path


SOURCE: Final = ClientRequest("POST", RESERVE, body=BODY)
DESTINATION: Final = ClientRequest("POST", RESERVE_DESTINATION, body=BODY)
EXECUTE: Final = ClientRequest("PUT", f"/v1/payments/{UNKNOWN_UUID}", body=BODY)
LOOK_UP: Final = ClientRequest("GET", f"/v1/quote/{UNKNOWN_UUID}", query=LOOK_UP_QUERY)
RELEASE: Final = ClientRequest("DELETE", f"/v1/quote/{UNKNOWN_UUID}", query=LOOK_UP_QUERY)
OPERATIONS: Final = {
    "source": SOURCE,
    "destination": DESTINATION,
    "execute": EXECUTE,
    "look_up": LOOK_UP,
    "release": RELEASE,
}


@dataclass(frozen=True)
class Forwarder:
    """One of the five forwarders: its name for clients, and the name of its next hop in error messages."""

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


@dataclass
class Hop:
    """A running forwarder with its stubs: the next hop and the directory."""

    forwarder: Forwarder
    app: web.Application
    url: str
    next_url: str
    next_hop: Stub
    """Stub for the next hop. It gets no requests if the test has chosen another URL for the next hop."""
    directory: Stub
    client: aiohttp.ClientSession
    log: CollectedLines

    @property
    def service(self) -> str:
        return self.forwarder.service

    def reset(self) -> None:
        """Clear the received requests and the log, and restore the default responses of the stubs."""
        self.next_hop.answer, self.directory.answer = DEFAULT_REPLY, DEFAULT_DIRECTORY_REPLY
        for kept in (self.next_hop.seen, self.directory.seen, self.log.kept):
            kept.clear()

    def adapted(self, sent: ClientRequest) -> ClientRequest:
        """Return the request in the form that this forwarder needs. For spsp-client, that adds a submissionUrl."""
        if self.service != "spsp-client":
            return sent
        url = self.next_url + sent.path
        if sent.body is None:
            return replace(sent, query=f"{sent.query}&submissionUrl={quote(url, safe='')}")
        return replace(sent, body=sent.body.rstrip()[:-1] + b', "submissionUrl": "%s"}' % url.encode())

    async def send(
        self, sent: ClientRequest = SOURCE, *, adapt: bool = True, **more: str | None
    ) -> ClientResponse:
        """Send a well-formed request. Keywords are headers with "_" in place of "-"; None leaves one out."""
        given = headers() | {name.replace("_", "-"): value for name, value in more.items()}
        if sent.body is None:
            given.setdefault("Content-Type", None)
        return await self.send_with(sent, [(k, v) for k, v in given.items() if v is not None], adapt=adapt)

    async def send_with(
        self, sent: ClientRequest, given: list[tuple[str, str]] | Mapping[str, str], *, adapt: bool = True
    ) -> ClientResponse:
        """Send a request with these headers only."""
        sent = self.adapted(sent) if adapt else sent
        async with self.client.request(
            sent.method,
            URL(self.url + sent.target, encoded=True),
            data=sent.body,
            headers=given,
            allow_redirects=False,
            skip_auto_headers=("Content-Type",),
        ) as response:
            return await received(response)

    def request_bytes(self, sent: ClientRequest = SOURCE, *, adapt: bool = True, **more: str | None) -> bytes:
        """Return the bytes of a well-formed request with `Connection: close`. Keywords are headers, as in `send`."""
        sent = self.adapted(sent) if adapt else sent
        given: dict[str, str | None] = {"Host": "hop", **headers(), "Connection": "close"}
        if sent.body is not None:
            given["Content-Length"] = str(len(sent.body))
        given |= {name.replace("_", "-"): value for name, value in more.items()}
        lines = [f"{sent.method} {sent.target} HTTP/1.1", *(f"{k}: {v}" for k, v in given.items() if v)]
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + (sent.body or b"")

    async def send_bytes(self, *parts: bytes, half_close: bool = False) -> list[ClientResponse]:
        """Send bytes on a new connection, and return the responses that arrive until the connection closes."""
        return responses_in(await send_bytes(self.url, *parts, half_close=half_close))

    async def send_parts(self, *parts: bytes, pause: float = 0) -> ClientResponse:
        """Send bytes on a new connection and return the first response. Waits `pause` seconds after each part."""
        async with connection(self.url) as (reader, writer):
            for part in parts:
                writer.write(part)
                await asyncio.sleep(pause)
            return await response_from(reader)


async def response_from(reader: asyncio.StreamReader) -> ClientResponse:
    """The next response on a connection."""
    [begun] = responses_in(await reader.readuntil(b"\r\n\r\n"))
    return replace(begun, body=await reader.readexactly(int(begun.headers.get("Content-Length", "0"))))


DEFAULT_REPLY: Final = reply(200, QUOTE_REPLY)
DEFAULT_DIRECTORY_REPLY: Final = reply(200, {"spspReceiver": RECEIVER_URL})


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
    """Run a forwarder. Its next hop and its directory are stubs, unless the test passes other URLs.

    ``settings`` are environment variables in lower case without "QUOTES_".
    """
    async with AsyncExitStack() as stack:
        next_hop = await stack.enter_async_context(stub(DEFAULT_REPLY))
        directory = await stack.enter_async_context(stub(DEFAULT_DIRECTORY_REPLY))
        to = next_url or next_hop.url
        environment = {
            "users_file": str(users_file),
            "next_hop": to,
            "submission_urls": to,
            "directory_url": directory_url or directory.url,
            "max_wait_seconds": "60",  # a busy machine must not look like an overloaded service
            **settings,
        }
        loaded = load(
            forwarder.settings, {f"QUOTES_{name.upper()}": value for name, value in environment.items()}
        )
        app = forwarder.create_app(loaded)
        log = collect_lines(app)
        url = await stack.enter_async_context(served(app))
        yield Hop(forwarder, app, url, to, next_hop, directory, client, log)


def authorization(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def pairs(body: bytes) -> list[tuple[str, Any]]:
    """Return the names and values of a JSON object in their order."""
    return json.loads(body, object_pairs_hook=list)
