"""Grouped deadlines: each wait ends once, after its own deadline, unless it is forgotten before."""

import asyncio
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.deadlines import TICK_SECONDS, Deadlines

STEP_SECONDS = 0.002


class Wait:
    """A wait that notes when it ended."""

    def __init__(self) -> None:
        self.ended: list[float] = []

    def end(self) -> None:
        self.ended.append(time.monotonic())


@given(st.lists(st.tuples(st.integers(-2, 15), st.booleans()), max_size=40))
@settings(deadline=None, max_examples=25)
async def test_each_wait_ends_once_after_its_deadline_unless_it_is_forgotten(schedule):
    deadlines = Deadlines()
    began = time.monotonic()
    waits = []
    for step, is_forgotten in schedule:
        wait, deadline = Wait(), began + step * STEP_SECONDS
        tick = deadlines.watch(wait, deadline)
        if is_forgotten:
            deadlines.forget(wait, tick)
        waits.append((wait, deadline, is_forgotten))
    async with asyncio.timeout(60):
        while deadlines._watched:
            await asyncio.sleep(TICK_SECONDS)

    for wait, deadline, is_forgotten in waits:
        assert len(wait.ended) == (0 if is_forgotten else 1)
        assert all(ended >= deadline for ended in wait.ended)
    deadlines.close()


async def test_a_wait_that_ends_may_watch_another_deadline():
    deadlines = Deadlines()
    second = Wait()

    class First(Wait):
        def end(self) -> None:
            deadlines.watch(second, time.monotonic())

    deadlines.watch(First(), time.monotonic())
    async with asyncio.timeout(60):
        while not second.ended:
            await asyncio.sleep(TICK_SECONDS)
