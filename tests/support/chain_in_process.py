"""The whole chain in the test's process: seven services on real sockets. A setting enables or disables batches."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import orjson
from aiohttp import web

from central_directory import app as central_directory
from chassis.settings import Settings
from dfsp_api import payee, payer
from spsp_client import app as spsp_client
from spsp_client_proxy import app as spsp_client_proxy
from spsp_server import app as spsp_server
from spsp_server_backend import app as spsp_server_backend
from support.internals import collect_lines
from support.messages import QUOTE, basic, headers
from support.payee import until
from support.serving import Seen, served, stub
from support.settings import load

SLOW: Final = "slow"
"""Identifier of a payee whose DFSP responds late."""
SLOW_SECONDS: Final = 0.1


@dataclass(frozen=True)
class ChainInProcess:
    url: str
    payee_url: str
    client: aiohttp.ClientSession

    async def batches(self) -> int:
        """Return the number of batches that the payee's service has received."""
        async with self.client.get(f"{self.payee_url}/metrics") as reply:
            text = await reply.text()
        [counted] = [line for line in text.splitlines() if line.startswith("batch_lines_count")]
        return int(float(counted.split()[1]))


async def _slowly(seen: Seen) -> web.StreamResponse:
    await asyncio.sleep(SLOW_SECONDS)
    return web.json_response({"uuid": "slow", "target": seen.target})


class _Starter:
    def __init__(
        self, stack: AsyncExitStack, users_file: Path, batch_lines: int, environment: Mapping[str, str]
    ) -> None:
        self._stack = stack
        self._environment = {
            "QUOTES_USERS_FILE": str(users_file),
            "QUOTES_BATCH_LINES": str(batch_lines),
            # seven services share one event loop: slow responses do not mean overload
            "QUOTES_MAX_WAIT_SECONDS": "60",
            **environment,
        }

    async def start(self, module: object, kind: type[Settings], **settings: str) -> str:
        environment = {f"QUOTES_{name.upper()}": value for name, value in settings.items()}
        app = module.create_app(load(kind, self._environment | environment))  # type: ignore[attr-defined]
        collect_lines(app)
        return await self._stack.enter_async_context(served(app))


@asynccontextmanager
async def chain_in_process(
    users_file: Path,
    client: aiohttp.ClientSession,
    database_url: str,
    folder: Path,
    *,
    batch_lines: int,
    **settings: str,
) -> AsyncIterator[ChainInProcess]:
    """Run the chain. `settings` are environment variables of every service, in lower case without "QUOTES_"."""
    environment = {f"QUOTES_{name.upper()}": value for name, value in settings.items()}
    async with AsyncExitStack() as stack:
        start = _Starter(stack, users_file, batch_lines, environment).start
        slow = await stack.enter_async_context(stub(_slowly))
        payee_url = await start(payee, payee.PayeeSettings, database_url=database_url)
        backend = await start(
            spsp_server_backend, spsp_server_backend.SpspServerBackendSettings, next_hop=payee_url
        )
        server = await start(spsp_server, spsp_server.SpspServerSettings, next_hop=backend)
        sender = await start(
            spsp_client, spsp_client.SpspClientSettings, submission_urls=f"{server},{slow.url}"
        )
        directory = await start(
            central_directory,
            central_directory.CentralDirectorySettings,
            directory_file=str(folder / f"directory-{batch_lines}.json"),
        )
        proxy = await start(
            spsp_client_proxy,
            spsp_client_proxy.SpspClientProxySettings,
            next_hop=sender,
            directory_url=directory,
        )
        url = await start(payer, payer.PayerSettings, next_hop=proxy)
        await _register(client, directory, {QUOTE["identifier"]: server, SLOW: slow.url})

        async def is_ready() -> bool:
            async with client.get(f"{payee_url}/health/ready") as reply:
                return reply.status == 200

        await until(is_ready)
        yield ChainInProcess(url, payee_url, client)


async def _register(client: aiohttp.ClientSession, directory: str, receivers: dict[str, str]) -> None:
    for identifier, receiver in receivers.items():
        resource = {"identifierType": "eur", "identifier": identifier, "spspReceiver": receiver}
        async with client.post(
            f"{directory}/resources",
            data=orjson.dumps(resource),
            headers=headers(basic("admin", "admin")),
        ) as reply:
            assert 201 == reply.status
