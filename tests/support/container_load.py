"""Load from inside a DFSP's network: `python -m support.container_load <base URL> <identifier> <workers>`.

Runs in a container of the image until SIGTERM. It sends requests with the services' own connection pool. So it follows
the services' rule: repeat a request once if the connection was refused, or was closed before a response began.
"""

import asyncio
import base64
import contextlib
import os
import pickle
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from chassis.http.pool import ConnectionPool, NoResponseError
from chassis.settings import Settings, load
from chassis.tls import Tls
from support.load import Load


@dataclass
class _Reply:
    status: int
    headers: Any
    body: bytes

    async def read(self) -> bytes:
        return self.body


class PoolClient:
    """The methods of `aiohttp.ClientSession` that Load needs, on a connection pool of the services."""

    def __init__(self, pool: ConnectionPool, base: str) -> None:
        self._pool = pool
        self._base = base

    @contextlib.asynccontextmanager
    async def request(
        self, method: str, url: str, *, json: Any, headers: dict[str, str]
    ) -> AsyncIterator[_Reply]:
        body = None if json is None else orjson.dumps(json)
        try:
            async with asyncio.timeout(15):
                received = await self._pool.request(
                    method, self._base, url.removeprefix(self._base), headers, body
                )
        except NoResponseError as error:
            raise aiohttp.ClientError(str(error)) from error
        yield _Reply(received.status, received.headers, received.body or b"")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main(base: str, identifier: str, workers: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    pool = ConnectionPool(Tls(load(Settings, {"QUOTES_USERS_FILE": os.devnull, **os.environ})))
    made = Load(
        [base],
        workers=workers,
        identifier=identifier,
        max_payments=100_000,
        timeout_ms=10_000,
        rest_seconds=0.1,
    )
    async with made.running(PoolClient(pool, base)):  # type: ignore[arg-type]
        _say("running")
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 0.5)
            _say(f"answered {len(made.outcomes)}")
    await pool.close()
    _say("done " + base64.b64encode(pickle.dumps((made.payments, made.outcomes))).decode())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
