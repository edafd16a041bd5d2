"""Batches of items that have keys."""

import asyncio

from chassis.batching import Batcher, FutureItem


class BlockedSend:
    """Records the values of each batch, and settles its items once it is released."""

    def __init__(self) -> None:
        self.batches = []
        self.released = asyncio.Event()

    async def __call__(self, items, _release):
        self.batches.append([item.value for item in items])
        await self.released.wait()
        for item in items:
            item.settle(item.value)


async def add_and_settle(batcher, values):
    """Add the values and let the event loop run until the batcher has started what it can start."""
    items = [FutureItem(value) for value in values]
    for item in items:
        batcher.add(item)
    for _ in range(10):
        await asyncio.sleep(0)
    return items


async def test_items_with_one_key_are_never_in_two_batches_in_flight():
    send = BlockedSend()
    batcher = Batcher(send, key=lambda value: value[0])
    items = [*await add_and_settle(batcher, ["a1"]), *await add_and_settle(batcher, ["a2", "b1", "a3"])]
    in_flight = list(send.batches)
    send.released.set()
    results = await asyncio.gather(*(item.result for item in items))

    assert [["a1"], ["b1"]] == in_flight
    assert [["a1"], ["b1"], ["a2", "a3"]] == send.batches
    assert ["a1", "a2", "b1", "a3"] == results
