"""Who waits until there is time to look at him."""

import asyncio

import pytest

from chassis import room
from chassis.pace import Pace
from chassis.room import WaitingRoom


@pytest.fixture
def pace():
    return Pace(0.5, max_in_flight=1_000)


@pytest.fixture
def waiting_room(pace):
    return WaitingRoom(pace)


async def test_nobody_waits_where_there_is_little_to_do(waiting_room):
    assert not waiting_room.is_for_who_comes


async def test_who_comes_first_comes_in_first(waiting_room, pace):
    came_in = []
    for number in range(100):
        waiting_room.add(lambda number=number: came_in.append(number))
    assert 100 == pace.waiting
    async with asyncio.timeout(5):
        while pace.waiting:
            await asyncio.sleep(0)

    assert [*range(100)] == came_in


async def test_others_have_their_turn_meanwhile(waiting_room, pace, monkeypatch):
    monkeypatch.setattr(room, "SLICE_SECONDS", 0.0)
    came_in = []
    for number in range(3):
        waiting_room.add(lambda number=number: came_in.append(number))
    seen = []
    for _ in range(4):
        seen.append(len(came_in))
        await asyncio.sleep(0)

    assert [0, 1, 2, 3] == seen
    assert 0 == pace.waiting


async def test_who_comes_while_others_wait_waits_behind_them(waiting_room, pace):
    waiting_room.add(lambda: None)

    assert waiting_room.is_for_who_comes
    await asyncio.sleep(0)
    assert not waiting_room.is_for_who_comes


async def test_what_fails_fails_alone(waiting_room, pace):
    raised = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context["exception"]))
    came_in = []

    def fail() -> None:
        raise RuntimeError("beyond expectation")

    for begin in (fail, lambda: came_in.append(1), fail, lambda: came_in.append(2)):
        waiting_room.add(begin)
    async with asyncio.timeout(5):
        while pace.waiting:
            await asyncio.sleep(0)

    assert [1, 2] == came_in
    assert ["beyond expectation"] * 2 == [str(each) for each in raised]
