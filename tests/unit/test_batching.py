"""Batcher: which items leave together, and when."""

import asyncio

import pytest

from chassis.batching import Batcher, FutureItem
from chassis.errors import UnavailableError


class Batches:
    """A send function that records its batches and answers once the test lets it."""

    def __init__(self, *, is_blocked=False):
        self.sent = []
        self.may_answer = asyncio.Event()
        if not is_blocked:
            self.may_answer.set()

    async def __call__(self, items, _release):
        self.sent.append([item.value for item in items])
        await self.may_answer.wait()
        for item in items:
            item.settle(item.value)

    async def have(self, number):
        while len(self.sent) < number:
            await asyncio.sleep(0)


def one_at_a_time(batches, max_items=10, **options):
    return Batcher(batches, window=1, max_items=max_items, max_in_flight=1, **options)


def add(batcher, value, **options):
    item = FutureItem(value)
    batcher.add(item, **options)
    return item.result


async def test_an_item_that_may_linger_leaves_with_the_next_item_that_may_not():
    batches = Batches()
    batcher = one_at_a_time(batches, linger_seconds=60.0)
    first = add(batcher, "one", may_linger=True)
    await asyncio.sleep(0.01)
    before = list(batches.sent)
    await add(batcher, "two")

    assert ([], [["one", "two"]]) == (before, batches.sent)
    assert "one" == first.result()


async def test_an_item_that_may_linger_leaves_alone_after_the_linger_time():
    batches = Batches()
    batcher = one_at_a_time(batches, linger_seconds=0.01)
    results = await asyncio.gather(add(batcher, 1, may_linger=True), add(batcher, 2, may_linger=True))

    assert [1, 2] == results
    assert [[1, 2]] == batches.sent


async def test_the_end_of_a_batch_does_not_send_items_that_may_linger():
    batches = Batches(is_blocked=True)
    batcher = one_at_a_time(batches, linger_seconds=60.0)
    first = add(batcher, 1)
    await batches.have(1)
    second = add(batcher, 2, may_linger=True)
    batches.may_answer.set()
    await first
    await asyncio.sleep(0.01)

    assert [[1]] == batches.sent
    assert not second.done()


async def test_with_one_batch_in_flight_at_most_the_next_one_waits_however_long_it_takes():
    batches = Batches(is_blocked=True)
    batcher = one_at_a_time(batches)
    first = add(batcher, 1)
    await batches.have(1)
    second = add(batcher, 2)
    await asyncio.sleep(0.1)  # longer than a batch holds its slot
    before = list(batches.sent)
    batches.may_answer.set()
    await asyncio.gather(first, second)

    assert ([[1]], [[1], [2]]) == (before, batches.sent)


async def test_items_beyond_the_maximum_of_a_batch_leave_in_the_next_batch():
    batches = Batches()
    batcher = one_at_a_time(batches, max_items=2)
    await asyncio.gather(*(add(batcher, number) for number in range(5)))

    assert [[0, 1], [2, 3], [4]] == batches.sent


async def test_items_beyond_the_maximum_that_may_wait_are_refused():
    batches = Batches(is_blocked=True)
    batcher = one_at_a_time(batches, max_waiting=1)
    first = add(batcher, 1)
    await batches.have(1)
    second = add(batcher, 2)
    with pytest.raises(UnavailableError):
        add(batcher, 3)
    batches.may_answer.set()

    assert [1, 2] == await asyncio.gather(first, second)
