"""Many that wait, few round trips: what comes while work is under way goes together in the next batch."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Final, Generic, TypeVar

import asyncpg

MAX_AT_ONCE: Final = 2
MAX_ITEMS: Final = 64

I = TypeVar("I")  # noqa: E741 - an item
O = TypeVar("O")  # noqa: E741 - its outcome


class Batches(Generic[I, O]):
    """Hands items to ``work`` in lists of at most 64, two lists at a time; it gives an outcome for each.

    Items with the same key are never under way in two lists at once: they go in the order they came.

    An item that comes when there is nothing to do goes at once, alone. Where a statement fails for a list, each
    of its items goes again alone, so that one at fault takes no other with it. Who waits is limited by how many
    requests the service has in hand.
    """

    def __init__(
        self, work: Callable[[Sequence[I]], Awaitable[Sequence[O]]], key: Callable[[I], Hashable]
    ) -> None:
        self._work = work
        self._key = key
        self._waiting: deque[tuple[I, asyncio.Future[O]]] = deque()
        self._running: dict[asyncio.Task[None], frozenset[Hashable]] = {}
        self._is_starting = False

    async def one(self, item: I) -> O:
        """The item's outcome. Raises what ``work`` raises."""
        future: asyncio.Future[O] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if not self._is_starting:
            # what else came in this turn of the loop goes with it
            self._is_starting = True
            asyncio.get_running_loop().call_soon(self._start)
        return await future

    def _start(self) -> None:
        self._is_starting = False
        while self._waiting and len(self._running) < MAX_AT_ONCE and (taken := self._take()):
            task = asyncio.create_task(self._run(taken))
            self._running[task] = frozenset(self._key(item) for item, _ in taken)
            task.add_done_callback(self._ended)

    def _take(self) -> "list[tuple[I, asyncio.Future[O]]]":
        """What may go now, of what waits."""
        busy = frozenset[Hashable]().union(*self._running.values())
        taken: list[tuple[I, asyncio.Future[O]]] = []
        left: deque[tuple[I, asyncio.Future[O]]] = deque()
        while self._waiting and len(taken) < MAX_ITEMS:
            each = self._waiting.popleft()
            (left if self._key(each[0]) in busy else taken).append(each)
        self._waiting.extendleft(reversed(left))
        return taken

    def _ended(self, task: "asyncio.Task[None]") -> None:
        del self._running[task]
        self._start()

    async def _run(self, taken: Sequence[tuple[I, "asyncio.Future[O]"]]) -> None:
        (done,) = await asyncio.gather(self._work([item for item, _ in taken]), return_exceptions=True)
        if isinstance(done, asyncpg.PostgresError) and len(taken) > 1:
            for each in taken:
                await self._run([each])
            return
        if isinstance(done, BaseException):
            for _, future in taken:
                if not future.done():
                    future.set_exception(done)
            return
        for (_, future), outcome in zip(taken, done, strict=True):
            if not future.done():  # nobody waits any more
                future.set_result(outcome)
