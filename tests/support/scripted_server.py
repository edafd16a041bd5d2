"""A next hop on plain sockets. It can close, reset or hang a connection at moments when no web server would."""

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

HANG: Final = object()


@dataclass(frozen=True)
class Reset:
    """Step of a script: send these bytes, then reset the connection (RST)."""

    after: bytes = b""


@dataclass
class ScriptedServer:
    """A running server. `requests` has the requests that it received, at most one from each connection."""

    url: str
    requests: list[bytes] = field(default_factory=list)


def http(status: int, body: bytes, *headers: str, length: int | None = None) -> bytes:
    """Return the bytes of a response. ``length`` is a wrong Content-Length, if the test wants one."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


@asynccontextmanager
async def scripted_server(*script: bytes | Reset | object) -> AsyncIterator[ScriptedServer]:
    """Run a server that answers each request with the next step of the script, and repeats the last step.

    A step of bytes is sent, and then the connection is closed. With empty bytes, the server closes it without a
    response.
    """
    steps = list(script)
    made = ScriptedServer("")
    connections: set[asyncio.StreamWriter] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            made.requests.append(head + await reader.readexactly(int(length[1]) if length else 0))
            step = steps.pop(0) if len(steps) > 1 else steps[0]
            if step is HANG:
                await reader.read()
            else:
                writer.write(step.after if isinstance(step, Reset) else step)
                await writer.drain()
            if isinstance(step, Reset):
                await asyncio.sleep(0.02)
                connection = writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        for writer in connections:
            writer.close()
        await asyncio.sleep(0)


_reserved: list[socket.socket] = []


def unused_url() -> str:
    """Return a base URL on which no server listens. The port stays reserved, so that no other process takes it."""
    reserved = socket.socket()
    reserved.bind(("127.0.0.1", 0))
    _reserved.append(reserved)
    return f"http://127.0.0.1:{reserved.getsockname()[1]}"
