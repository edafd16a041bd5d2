"""A TCP proxy in front of Postgres that can drop all bytes without closing the connections, as some firewalls do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit


class SwallowingProxy:
    def __init__(self, server_url: str) -> None:
        self._server_url = server_url
        self._swallowing: set[asyncio.StreamWriter] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""

    def swallow(self) -> int:
        """From now on, drop all bytes on the connections that are open; return the number of these connections."""
        self._swallowing |= self._open
        return len(self._open) // 2

    def pass_on(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        if writer not in self._swallowing:
            writer.write(data)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await self._connect()
        self._open |= {writer, server_writer}
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await asyncio.gather(self._forward(reader, server_writer), self._forward(server_reader, writer))
        finally:
            self._open -= {writer, server_writer}
            for each in (writer, server_writer):
                each.close()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                self.pass_on(data, writer)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(self._server_url)
        port = parts.port or 5432
        if parts.hostname:
            return await asyncio.open_connection(parts.hostname, port)
        return await asyncio.open_unix_connection(f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.{port}")


@asynccontextmanager
async def swallowing_proxy(server_url: str) -> AsyncIterator[SwallowingProxy]:
    proxy = SwallowingProxy(server_url)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    parts = urlsplit(server_url)
    proxy.url = f"postgresql://{parts.netloc.rpartition('@')[0]}@127.0.0.1:{server.sockets[0].getsockname()[1]}{parts.path}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
