"""A service under test that sends batches, together with the next hop that receives them."""

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
    """A service under test that sends batches to the next hop `peer`."""

    hop: Hop
    peer: Peer
    _blocking: list[asyncio.Task[ClientResponse]] = field(default_factory=list)

    async def together(self, *requests: Sent) -> list[ClientResponse]:
        """Send requests so that the service puts them into one batch; return the responses.

        Other requests occupy every batch slot of the service until all of these requests wait.
        """
        tasks = await self.waiting(*requests)
        self.peer.release()
        async with asyncio.timeout(SECONDS):
            return await asyncio.gather(*tasks)

    async def waiting(self, *requests: Sent) -> list[asyncio.Task[ClientResponse]]:
        """Send requests that wait in the service until `peer.release()`; return their tasks.

        Other requests are sent first and occupy every batch slot, because `peer` does not answer them until then.
        """
        self.peer.hold()
        before, in_flight = self.peer.holding, requests_in_flight(self.hop.app)
        for number in range(
            1, batching.WINDOW + 1
        ):  # one at a time, because two at once would become a batch
            self._blocking.append(asyncio.create_task(self.hop.send()))
            await self.peer.until_holding(before + number)
        tasks = [asyncio.create_task(self.hop.send(sent, **more)) for sent, more in requests]
        await until_in_flight(self.hop, in_flight + batching.WINDOW + len(tasks))
        self.peer.single.clear()
        return tasks


async def until_in_flight(hop: Hop, number: int) -> None:
    """Wait until at least this number of requests is in flight at the service."""

    async def is_so() -> bool:
        return requests_in_flight(hop.app) >= number

    await until(is_so)


def numbered(number: int, sent: ClientRequest = SOURCE, **more: str) -> list[Sent]:
    """Return `number` requests, each with its own trace id and its own idempotency key."""
    return [(sent, {TRACE: f"trace-{each}", KEY: f"key-{each}", **more}) for each in range(number)]


async def echo_trace_id(received: Line) -> tuple[int, dict[str, str], str]:
    """Respond with status 200, and with the trace id of the request in the body."""
    return 200, {"Content-Type": "application/json"}, json.dumps({"for": received["headers"][TRACE]})
