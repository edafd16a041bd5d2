"""A service that sends batches, and the next hop that takes them."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Final

from chassis import batching
from chassis.app import SERVICE
from support.batches import Line, Peer
from support.forwarders import SOURCE, Answer, Ask, Hop
from support.messages import KEY, TRACE
from support.payee import until

SECONDS: Final = 10
MOST: Final = 64 * 1024


@dataclass
class Sender:
    """A service, and a next hop that takes its batches."""

    hop: Hop
    peer: Peer
    _blocking: list[asyncio.Task[Answer]] = field(default_factory=list)

    async def together(self, *asks: tuple[Ask, dict[str, str]]) -> list[Answer]:
        """Their answers. They leave together: others occupy the whole window until all of them are there."""
        tasks = await self.waiting(*asks)
        self.peer.let_go()
        async with asyncio.timeout(SECONDS):
            return await asyncio.gather(*tasks)

    async def waiting(self, *asks: tuple[Ask, dict[str, str]]) -> list[asyncio.Task[Answer]]:
        """All of them on their way, with the peer holding what they wait for."""
        self.peer.hold()
        before, in_hand = self.peer.holding, self.hop.app[SERVICE].in_hand
        for number in range(1, batching.WINDOW + 1):  # one by one: two at once would be a batch
            self._blocking.append(asyncio.create_task(self.hop.send()))
            await self.peer.until_holding(before + number)
        tasks = [asyncio.create_task(self.hop.send(ask, **more)) for ask, more in asks]
        await are_in_hand(self.hop, in_hand + batching.WINDOW + len(tasks))
        self.peer.alone.clear()
        return tasks


async def are_in_hand(hop: Hop, number: int) -> None:
    """Returns when a service works on so many requests."""

    async def is_so() -> bool:
        return hop.app[SERVICE].in_hand >= number

    await until(is_so)


def asks(number: int, ask: Ask = SOURCE, **more: str) -> list[tuple[Ask, dict[str, str]]]:
    """So many requests, each with a trace id and a key of its own."""
    return [(ask, {TRACE: f"trace-{each}", KEY: f"key-{each}", **more}) for each in range(number)]


async def named(asked: Line) -> tuple[int, dict[str, str], str]:
    """Answers 200 with the request's own trace id."""
    return 200, {"Content-Type": "application/json"}, json.dumps({"for": asked["headers"][TRACE]})
