"""Batches of the provider's outcomes."""

import asyncio

from integrations.delivery.batches import Batches as Outcomes


class Work:
    """Takes lists, and keeps them until it is let go."""

    def __init__(self, *, is_held=False):
        self.lists = []
        self.let_go = asyncio.Event()
        if not is_held:
            self.let_go.set()

    async def __call__(self, items):
        self.lists.append(list(items))
        await self.let_go.wait()
        return items


async def test_what_may_wait_goes_with_the_next_that_may_not():
    work = Work()
    batches = Outcomes(work, 10, 60.0)
    first = batches.add("one", may_wait=True)
    await asyncio.sleep(0.01)
    alone = list(work.lists)
    await batches.add("two")

    assert ([], [["one", "two"]]) == (alone, work.lists)
    assert "one" == first.result()


async def test_what_may_wait_leaves_by_itself_after_its_time():
    work = Work()
    batches = Outcomes(work, 10, 0.01)
    found = await asyncio.wait_for(
        asyncio.gather(batches.add(1, may_wait=True), batches.add(2, may_wait=True)), 5
    )

    assert [1, 2] == found
    assert [[1, 2]] == work.lists


async def test_the_end_of_a_list_takes_nothing_along_that_may_wait():
    work = Work(is_held=True)
    batches = Outcomes(work, 10, 60.0)
    first = batches.add(1)
    await asyncio.sleep(0.01)
    second = batches.add(2, may_wait=True)
    work.let_go.set()
    await first
    await asyncio.sleep(0.01)

    assert [[1]] == work.lists
    assert not second.done()


async def test_more_than_a_list_holds_goes_in_the_next():
    work = Work()
    batches = Outcomes(work, 2, 60.0)
    await asyncio.gather(*(batches.add(number) for number in range(5)))

    assert [[0, 1], [2, 3], [4]] == work.lists
