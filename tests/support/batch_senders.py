"""A service that sends batches, and the next hop that takes them."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Final

from chassis import batching
from support.batches import Line, Peer
from support.client import ClientResponse
from support.forwarders import SOURCE, ClientRequest, Hop
from support.internals import requests_in_flight
from support.messages import KEY, TRACE
from support.payee import until
from support.serving import SECONDS

MAX_BODY_BYTES: Final = 64 * 1024

Sent = tuple[ClientRequest, dict[str, str]]
"""A request and its headers."""


@dataclass
class BatchSender:
    """A service, and a next hop that takes its batches."""

    hop: Hop
    peer: Peer
    _blocking: list[asyncio.Task[ClientResponse]] = field(default_factory=list)

    async def together(self, *requests: Sent) -> list[ClientResponse]:
        """Send requests that leave together, and return the responses.

        Others occupy the whole window until all of them wait.
        """
        tasks = await self.waiting(*requests)
        self.peer.release()
        async with asyncio.timeout(SECONDS):
            return await asyncio.gather(*tasks)

    async def waiting(self, *requests: Sent) -> list[asyncio.Task[ClientResponse]]:
        """Send requests that wait for a slot until the peer releases the ones that occupy the window."""
        self.peer.hold()
        before, in_flight = self.peer.holding, requests_in_flight(self.hop.app)
        for number in range(1, batching.WINDOW + 1):  # one by one: two at once would be a batch
            self._blocking.append(asyncio.create_task(self.hop.send()))
            await self.peer.until_holding(before + number)
        tasks = [asyncio.create_task(self.hop.send(sent, **more)) for sent, more in requests]
        await until_in_flight(self.hop, in_flight + batching.WINDOW + len(tasks))
        self.peer.single.clear()
        return tasks


async def until_in_flight(hop: Hop, number: int) -> None:
    """Wait until this number of requests is in flight at the service."""

    async def is_so() -> bool:
        return requests_in_flight(hop.app) >= number

    await until(is_so)


def numbered(number: int, sent: ClientRequest = SOURCE, **more: str) -> list[Sent]:
    """Requests, each with its own trace id and idempotency key."""
    return [(sent, {TRACE: f"trace-{each}", KEY: f"key-{each}", **more}) for each in range(number)]


async def echo_trace_id(received: Line) -> tuple[int, dict[str, str], str]:
    """Respond 200 with the request's own trace id."""
    return 200, {"Content-Type": "application/json"}, json.dumps({"for": received["headers"][TRACE]})
