"""Whom a service refuses because callers wait."""

import asyncio
import socket

import pytest

from chassis.pace import (
    MIN_IN_FLIGHT,
    PRESSURE_SECONDS,
    SHARE_OF_RELIEF,
    SHARE_OF_THE_WAIT,
    WINDOWS_OF_JAM,
    Pace,
)

MAX_WAIT = 0.6


@pytest.fixture
def pace():
    return Pace(MAX_WAIT, max_in_flight=200)


def window(pace, *seconds):
    """A window in which answers took so long."""
    for each in seconds:
        pace.answered(each)
    pace._look()
    pace.stop()


async def test_nobody_is_refused_while_answers_are_fast(pace):
    window(pace, 0.05, 3.0)

    assert not pace.is_too_late_for(0.0, 10.0)


async def overload(pace, windows=WINDOWS_OF_JAM):
    for _ in range(windows):
        pace.is_too_late_for(MAX_WAIT + 0.01, 10.0)
        window(pace)


async def test_what_would_be_answered_after_its_deadline_is_too_late(pace):
    window(pace, 0.2)

    assert not pace.is_too_late_for(9.0, 0.21)
    assert pace.is_too_late_for(9.0, 0.19)
    assert pace.is_too_late_for(0.0, 0.19)


async def test_under_overload_what_has_waited_long_is_too_late(pace):
    await overload(pace)

    assert not pace.is_too_late_for(MAX_WAIT - 0.01, 10.0)
    assert pace.is_too_late_for(MAX_WAIT + 0.01, 10.0)


async def test_under_overload_what_is_in_hand_says_what_one_more_would_take(pace):
    for _ in range(30):
        pace.is_too_late_for(MAX_WAIT + 0.1, 10.0)
        window(pace, *[0.2] * 10)  # a hundred a second
    pace.in_hand = 50

    assert not pace.is_too_late_for(MAX_WAIT - 0.52, 10.0)
    assert pace.is_too_late_for(MAX_WAIT - 0.48, 10.0)


async def test_a_window_that_took_long_counts_as_long_as_it_was(pace):
    pace.in_hand = 50
    for _ in range(10):
        pace.answered(0.2)
    pace._look(1.0)  # ten a second
    pace.is_overloaded = True

    assert pace.is_too_late_for(0.0, 10.0)


async def test_the_first_window_already_tells_the_rate(pace):
    pace.in_hand = 50
    window(pace, *[0.2] * 10)
    pace.is_overloaded = True

    assert not pace.is_too_late_for(MAX_WAIT - 0.52, 10.0)
    assert pace.is_too_late_for(MAX_WAIT - 0.48, 10.0)


async def test_overload_goes_on_through_a_window_without_answers(pace):
    pace.in_hand = 200
    window(pace, MAX_WAIT)
    pace.is_too_late_for(0.0, 10.0)
    window(pace)

    assert pace.is_overloaded
    pace.in_hand = 0
    window(pace)
    assert not pace.is_overloaded


async def test_there_is_room_for_as_many_as_can_be_answered_well_in_time(pace):
    pace.in_hand = 20
    window(pace, *[0.2] * 10)  # a hundred a second
    pace.is_overloaded = True
    pace.waiting = int(SHARE_OF_THE_WAIT * MAX_WAIT * 100) - 20

    assert pace.has_room
    assert not pace.is_too_late_to_be_looked_at(None)
    pace.waiting += 1
    assert not pace.has_room
    assert pace.is_too_late_to_be_looked_at(None)


async def test_who_hangs_in_hand_takes_nobodys_room_without_overload(pace):
    """One slow receiver holds up nobody else."""
    pace.in_hand = 10_000
    window(pace, *[0.01] * 10)

    assert pace.is_crowded
    assert pace.has_room
    assert not pace.is_too_late_to_be_looked_at(MAX_WAIT - 0.1)
    assert pace.is_too_late_to_be_looked_at(MAX_WAIT + 0.1)


async def test_no_more_wait_than_the_best_rate_of_late_could_answer_in_time(pace):
    """Whatever was answered last: a moment's halt of the next hop refuses nobody."""
    pace.in_hand = 1
    window(pace, *[0.01] * 200)  # 2,000 a second
    for _ in range(5):
        window(pace)
    pace.waiting = int(MAX_WAIT * 2_000 * 0.9)

    assert not pace.is_overloaded
    assert pace.has_room
    pace.waiting = int(MAX_WAIT * 2_000) + 1
    assert not pace.has_room
    assert pace.is_too_late_to_be_looked_at(None)
    pace.in_hand = 0
    window(pace)
    assert pace.has_room


async def test_to_be_busy_with_slow_answers_is_overload(pace):
    pace.in_hand = 200
    window(pace, MAX_WAIT * SHARE_OF_RELIEF + 0.01)

    assert pace.is_too_late_for(0.0, 10.0)


async def test_to_be_busy_with_a_slow_receiver_among_fast_ones_is_none(pace):
    pace.in_hand = 200
    for _ in range(WINDOWS_OF_JAM):
        window(pace, 0.01, *[9.0] * 10)

    assert not pace.is_too_late_for(0.3, 10.0)


async def test_a_jam_that_clears_in_a_moment_makes_nobody_be_refused(pace):
    await overload(pace, WINDOWS_OF_JAM - 1)
    pace.is_too_late_for(MAX_WAIT - 0.01, 10.0)
    window(pace)
    await overload(pace, WINDOWS_OF_JAM - 1)

    assert not pace.is_too_late_for(MAX_WAIT + 1.0, 10.0)


async def test_who_has_waited_long_among_others_that_have_not_is_no_overload(pace):
    for _ in range(2 * WINDOWS_OF_JAM):
        pace.is_too_late_for(MAX_WAIT + 1.0, 10.0)
        pace.is_too_late_for(0.0, 10.0)
        window(pace)

    assert not pace.is_too_late_for(MAX_WAIT + 1.0, 10.0)


@pytest.mark.parametrize("seconds", [None, MAX_WAIT * SHARE_OF_RELIEF - 0.01])
async def test_overload_is_over_when_somebody_is_answered_soon_or_nobody_comes(pace, seconds):
    await overload(pace)
    if seconds is not None:
        pace.is_too_late_for(seconds, 10.0)
    window(pace)

    assert not pace.is_too_late_for(MAX_WAIT + 1.0, 10.0)


async def test_where_there_is_no_pressure_little_time_is_no_reason(pace):
    window(pace, PRESSURE_SECONDS / 2)

    assert not pace.is_too_late_for(0.0, 0.001)


async def test_one_slow_answer_among_fast_ones_changes_nothing(pace):
    window(pace, 0.01, *[9.0] * 100)

    assert not pace.is_too_late_for(0.0, 10.0)


async def test_a_window_without_answers_says_nothing(pace):
    window(pace, 5.0)
    window(pace)

    assert not pace.is_too_late_for(0.0, 10.0)


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="only Linux tells how long data has waited")
async def test_the_time_that_data_waits_in_a_socket_is_known(pace):
    pace.in_hand = MIN_IN_FLIGHT
    window(pace, 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = socket.create_connection(listener.getsockname())
        receiver, _ = listener.accept()
        with sender, receiver:
            sender.send(b"x")
            await asyncio.sleep(0.2)

            assert pace.waited(receiver) >= 0.15
        assert 0.0 == pace.waited(receiver)  # closed


async def test_with_few_in_hand_nobody_looks_for_how_long_data_waited(pace):
    pace.in_hand = MIN_IN_FLIGHT - 1

    with socket.socket() as connection:
        assert 0.0 == pace.waited(connection)
    pace.in_hand = MIN_IN_FLIGHT
    assert 0.0 == pace.waited(None)


async def test_a_slow_receiver_makes_nobody_be_refused_where_few_others_come(pace):
    """Windows in which nobody was answered are no overload, and what then comes together has room."""
    pace.in_hand = 700
    for _ in range(10):
        window(pace, 0.02)
        window(pace)
        window(pace)
    pace.waiting = 50

    assert not pace.is_overloaded
    assert pace.has_room


async def test_who_is_busy_with_errors_alone_meets_no_overload(pace):
    pace.in_hand = 700
    for _ in range(WINDOWS_OF_JAM):
        assert not pace.is_too_late_to_be_looked_at(None)
        assert not pace.is_too_late_for(0.0, 10.0)
        window(pace)

    assert not pace.is_overloaded


async def test_overload_ends_although_somebody_hangs_in_hand(pace):
    """Nobody is answered any more where all are refused because of who hangs."""
    pace.in_hand = 700
    window(pace, *[MAX_WAIT] * 100)
    assert pace.is_overloaded
    pace.in_hand = 500
    for _ in range(30):
        if not pace.is_too_late_to_be_looked_at(None):
            pace.is_too_late_for(0.0, 10.0)
        window(pace)

    assert not pace.is_overloaded
    assert pace.has_room
