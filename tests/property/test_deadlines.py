"""Grouped deadlines end a wait as `asyncio.timeout` does, whatever else happens at the same time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chassis import deadlines
from chassis.deadlines import Deadlines

STEP_SECONDS = 0.002
Within = Callable[[float, Awaitable[str]], Awaitable[str]]


@pytest.fixture(autouse=True, scope="module")
def _fine_ticks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deadlines, "TICK_SECONDS", STEP_SECONDS / 4)
        yield


async def by_timeout(deadline: float, work: Awaitable[str]) -> str:
    async with asyncio.timeout(deadline - time.monotonic()):
        return await work


async def work(done: "asyncio.Future[str]", on_cancel: str) -> str:
    """Wait; the case says how a cancellation is handled."""
    try:
        return await done
    except asyncio.CancelledError:
        if on_cancel == "returns":
            return "in spite of it"
        if on_cancel == "raises":
            raise ValueError("because of it") from None
        if on_cancel == "takes its time":
            await asyncio.sleep(0)
        raise


STEPS = st.integers(0, 4)
CASES = {
    "deadline": st.integers(-1, 4),
    "ends": st.none() | STEPS,
    "fails": st.none() | STEPS,
    "cancelled": st.lists(STEPS, max_size=2),
    "on_cancel": st.sampled_from(["ends", "returns", "raises", "takes its time"]),
    "inner": st.none() | st.integers(-1, 4),
}


@dataclass
class Run:
    """One case with one of the two implementations."""

    within: Within
    case: dict[str, Any]
    began: float = field(default_factory=time.monotonic)
    cancelling: int | None = None

    def __post_init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[str] = self.loop.create_future()

    def at(self, step: float) -> float:
        """A time between those of the other events, so that the length of a tick does not change the order."""
        return self.began + (step + 0.25) * STEP_SECONDS

    async def body(self) -> str:
        task = asyncio.current_task()
        assert task is not None
        waiting = work(self.done, self.case["on_cancel"])
        if self.case["inner"] is not None:
            waiting = by_timeout(self.at(self.case["inner"] + 0.5), waiting)
        try:
            return await self.within(self.at(self.case["deadline"]), waiting)
        finally:
            self.cancelling = task.cancelling()

    def end(self, result: str | Exception) -> None:
        if self.done.done():
            return
        if isinstance(result, str):
            self.done.set_result(result)
        else:
            self.done.set_exception(result)

    def schedule(self, task: "asyncio.Task[str]") -> None:
        events: list[tuple[int | None, Callable[[], object]]] = [
            (self.case["ends"], lambda: self.end("the end")),
            (self.case["fails"], lambda: self.end(OSError())),
            *((step, task.cancel) for step in self.case["cancelled"]),
        ]
        for step, event in events:
            if step is not None:
                self.loop.call_at(self.loop.time() + step * STEP_SECONDS, event)

    async def outcome(self) -> tuple[str, int | None]:
        """The result of the task, and its number of cancellations that are not yet complete."""
        task = asyncio.create_task(self.body())
        await asyncio.sleep(0)
        self.schedule(task)
        time.sleep(6 * STEP_SECONDS)  # noqa: ASYNC251 - all events are due in the same iteration of the loop
        for _ in range(5):
            await asyncio.sleep(0)
        self.end("at last")
        [result] = await asyncio.gather(task, return_exceptions=True)
        if not self.done.cancelled():
            self.done.exception()
        return (result if isinstance(result, str) else type(result).__name__), self.cancelling


@given(st.fixed_dictionaries(CASES))
@settings(deadline=None)
@example(
    {
        "deadline": 1,
        "ends": 1,
        "fails": None,
        "cancelled": [1],
        "on_cancel": "ends",
        "inner": None,
    }
)
@example(
    {
        "deadline": 1,
        "ends": None,
        "fails": None,
        "cancelled": [],
        "on_cancel": "returns",
        "inner": None,
    }
)
@example(
    {
        "deadline": 1,
        "ends": None,
        "fails": None,
        "cancelled": [],
        "on_cancel": "raises",
        "inner": None,
    }
)
@example(
    {
        "deadline": 1,
        "ends": None,
        "fails": None,
        "cancelled": [],
        "on_cancel": "ends",
        "inner": 1,
    }
)
async def test_a_grouped_deadline_has_the_outcome_of_asyncio_timeout(case):
    expected = await Run(by_timeout, case).outcome()

    assert expected == await Run(Deadlines().within, case).outcome()


@given(st.lists(st.tuples(st.integers(-2, 30), st.integers(0, 30)), max_size=40))
@settings(deadline=None, max_examples=25)
async def test_each_of_many_waits_ends_at_its_own_deadline(schedule):
    shared = Deadlines()
    began = time.monotonic()

    async def one(deadline: int, takes: int) -> str:
        try:
            return await shared.within(
                began + deadline * STEP_SECONDS, asyncio.sleep(takes * STEP_SECONDS, "done")
            )
        except TimeoutError:
            return "late"

    ends = await asyncio.gather(*(one(*each) for each in schedule))

    for (deadline, takes), end in zip(schedule, ends, strict=True):
        if takes > max(deadline, 0) + 1:
            assert "late" == end
    # a machine may be slow, never early
    assert {"late", "done"} >= set(ends)
    assert {} == shared._watched
    shared.close()


async def test_no_wait_ends_before_its_deadline():
    shared = Deadlines()
    for step in range(1, 20):
        deadline = time.monotonic() + step * 0.000_7
        with pytest.raises(TimeoutError):
            await shared.within(deadline, asyncio.sleep(5))

        assert deadline <= time.monotonic()
