"""No item is lost, doubled, overtaken or left without a result, in whatever order items arrive and batches end."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chassis import batching
from chassis.batching import Batcher, FutureItem, Items
from chassis.errors import UnavailableError, UpstreamTimeoutError

FOR_EVER = time.monotonic() + 3_600
TURNS = 200


@pytest.fixture(autouse=True, scope="module")
def _no_clock():
    """A slot is free when the round trip says so, not after a while: these tests go by turns of the loop."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batching, "RELEASE_SECONDS", 3_600)
        yield


def result_of(batcher, value, deadline):
    item = FutureItem(value, deadline)
    batcher.add(item)
    return item.result


@dataclass
class Trips:
    """Round trips as the test wants them; what they saw."""

    window: int
    most: int
    max_open: int
    turns: list[int]
    """How long each takes."""
    releases: list[bool]
    """Whether it frees its slot half way."""
    faults: list[str]
    """How it ends: well, with an error, or without having settled all."""
    sent: list[list[int]] = field(default_factory=list)
    open: int = 0
    slots: int = 0
    broken: list[str] = field(default_factory=list)

    async def send_many(self, items: Items[int, str], release: Callable[[], None]) -> None:
        number = len(self.sent)
        self.sent.append([item.value for item in items])
        self.open += 1
        self.slots += 1
        self._check(items)
        turns = self.turns[number % len(self.turns)]
        for _ in range(turns // 2):
            await asyncio.sleep(0)
        if self.releases[number % len(self.releases)]:
            self.slots -= 1
            release()
            release()  # once is enough, and twice does no harm
        else:
            release = None  # type: ignore[assignment]
        for _ in range(turns - turns // 2):
            await asyncio.sleep(0)
        self.open -= 1
        self.slots -= release is None
        fault = self.faults[number % len(self.faults)]
        if fault == "raises":
            items[0].settle("first")
            raise OSError("away")
        for item in items[: None if fault == "well" else len(items) // 2]:
            item.settle(f"result of {item.value}")

    def _check(self, items: Items[int, str]) -> None:
        if not 0 < len(items) <= self.most:
            self.broken.append(f"{len(items)} at once")
        if self.open > self.max_open:
            self.broken.append(f"{self.open} open")
        if self.slots > self.window:
            self.broken.append(f"{self.slots} slots taken")


ARRIVALS = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from(["waits", "waits", "late", "leaves"])), max_size=60
)


@settings(deadline=None)
@given(
    window=st.integers(1, 3),
    most=st.integers(1, 5),
    max_open=st.integers(3, 6),
    turns=st.lists(st.integers(0, 9), min_size=1, max_size=5),
    releases=st.lists(st.booleans(), min_size=1, max_size=4),
    faults=st.lists(st.sampled_from(["well", "well", "raises", "half"]), min_size=1, max_size=4),
    arrivals=ARRIVALS,
)
async def test_every_item_has_its_own_end(window, most, max_open, turns, releases, faults, arrivals):
    trips = Trips(window, most, max_open, turns, releases, faults)
    batcher = Batcher(trips.send_many, window=window, max_items=most, max_in_flight=max_open)
    asked: list[asyncio.Future[str]] = []
    for number, (pause, what) in enumerate(arrivals):
        for _ in range(pause):
            await asyncio.sleep(0)
        result = result_of(batcher, number, 0.0 if what == "late" else FOR_EVER)
        asked.append(result)
        if what == "leaves":
            result.cancel()
    async with asyncio.timeout(60):
        results = await asyncio.gather(*asked, return_exceptions=True)

    assert [] == trips.broken
    order = [number for batch in trips.sent for number in batch]
    assert sorted(set(order)) == order  # each once, none overtaken
    for number, (result, (_, what)) in enumerate(zip(results, arrivals, strict=True)):
        if what == "late":
            assert isinstance(result, UpstreamTimeoutError)
        elif what == "leaves":
            assert isinstance(result, asyncio.CancelledError)
        else:
            assert result in (f"result of {number}", "first") or isinstance(
                result, OSError | UnavailableError
            )
            assert number in order
    assert not {number for number, (_, what) in enumerate(arrivals) if what != "waits"} & set(order)
    if set(faults) == {"well"}:
        assert [] == [each for each in results if isinstance(each, OSError | UnavailableError)]
    await batcher.close()
    assert 0 == trips.open


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 8))
async def test_what_comes_in_one_turn_leaves_together(number, most):
    trips = Trips(1, most, 1, [1], [False], ["well"])
    batcher = Batcher(trips.send_many, window=1, max_items=most, max_in_flight=1)
    await asyncio.gather(*(result_of(batcher, each, FOR_EVER) for each in range(number)))

    assert [most] * (number // most) + [number % most] * (number % most > 0) == [
        len(each) for each in trips.sent
    ]


async def test_one_that_comes_when_nothing_is_under_way_leaves_in_the_next_turn():
    trips = Trips(2, 64, 4, [0], [False], ["well"])
    batcher = Batcher(trips.send_many)
    result = result_of(batcher, 1, FOR_EVER)
    for _ in range(3):
        await asyncio.sleep(0)

    assert [[1]] == trips.sent
    assert "result of 1" == await result


async def test_a_slot_is_free_again_after_a_while_though_nobody_has_answered(monkeypatch):
    monkeypatch.setattr(batching, "RELEASE_SECONDS", 0.01)
    never = asyncio.Event()
    sent: list[int] = []

    async def send_many(items: Items[int, str], _release: Callable[[], None]) -> None:
        sent.extend(item.value for item in items)
        if items[0].value < 2:
            await never.wait()
        for item in items:
            item.settle("done")

    batcher = Batcher(send_many, window=2, max_items=1)
    slow = [result_of(batcher, each, FOR_EVER) for each in range(2)]
    await asyncio.wait_for(result_of(batcher, 2, FOR_EVER), 60)

    assert [0, 1, 2] == sent
    never.set()
    assert ["done", "done"] == await asyncio.gather(*slow)


async def test_no_more_round_trips_are_open_than_may_be_though_their_slots_are_free():
    never = asyncio.Event()
    sent: list[int] = []

    async def send_many(items: Items[int, str], release: Callable[[], None]) -> None:
        sent.extend(item.value for item in items)
        release()
        await never.wait()
        for item in items:
            item.settle("done")

    batcher = Batcher(send_many, window=2, max_items=1, max_in_flight=5)
    results = [result_of(batcher, each, FOR_EVER) for each in range(9)]
    for _ in range(TURNS):
        await asyncio.sleep(0)
    assert [0, 1, 2, 3, 4] == sent
    never.set()
    async with asyncio.timeout(60):
        assert ["done"] * 9 == await asyncio.gather(*results)


async def test_where_a_crowd_waits_twice_as_many_round_trips_are_under_way():
    never = asyncio.Event()
    sent: list[int] = []

    async def send_many(items: Items[int, str], _release: Callable[[], None]) -> None:
        sent.append(len(items))
        await never.wait()
        for item in items:
            item.settle("done")

    batcher = Batcher(send_many, window=2, max_items=10)
    results = [result_of(batcher, each, FOR_EVER) for each in range(batching.BACKLOG + 30)]
    for _ in range(TURNS):
        await asyncio.sleep(0)
    assert [10] * 3 == sent
    never.set()
    async with asyncio.timeout(60):
        assert ["done"] * len(results) == await asyncio.gather(*results)


async def test_items_beyond_the_limit_of_waiting_ones_are_rejected_and_the_others_are_not():
    trips = Trips(1, 10, 1, [5], [False], ["well"])
    batcher = Batcher(trips.send_many, window=1, max_items=10, max_in_flight=1, max_waiting=3)
    first = result_of(batcher, 0, FOR_EVER)
    await asyncio.sleep(0)
    others = [result_of(batcher, each, FOR_EVER) for each in range(1, 4)]
    with pytest.raises(UnavailableError):
        result_of(batcher, 4, FOR_EVER)

    assert ["result of 0", "result of 1", "result of 2", "result of 3"] == await asyncio.gather(
        first, *others
    )


async def test_at_the_end_nobody_is_left_waiting():
    """Neither who is under way, nor whose round trip has just been made, nor who waits for one."""
    never = asyncio.Event()
    sent = []

    async def send_many(items: Items[int, str], _release: Callable[[], None]) -> None:
        sent.append(len(items))
        await never.wait()

    batcher = Batcher(send_many, window=1, max_items=1)
    results = [result_of(batcher, each, FOR_EVER) for each in range(4)]
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await batcher.close()
        ends = await asyncio.gather(*results, return_exceptions=True)

    assert [UnavailableError] * 4 == [type(end) for end in ends]
    assert [1] == sent
