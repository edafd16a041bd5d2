"""Whom a service refuses because callers wait."""

import asyncio
import socket

import pytest

from chassis.pace import LEAST_IN_HAND, PRESSURE_SECONDS, Pace

MOST_WAIT = 0.6


@pytest.fixture
def pace():
    return Pace(MOST_WAIT)


def window(pace, *seconds):
    """A window in which answers took so long."""
    for each in seconds:
        pace.answered(each)
    pace._look()
    pace.stop()


async def test_nobody_is_refused_while_answers_are_fast(pace):
    window(pace, 0.05, 3.0)

    assert not pace.is_too_late_for(0.0, 10.0)


async def test_what_has_waited_too_long_is_too_late(pace):
    window(pace, 0.05)

    assert not pace.is_too_late_for(0.5, 10.0)
    assert pace.is_too_late_for(0.56, 10.0)


async def test_who_gives_little_time_is_refused_sooner(pace):
    window(pace, 0.2)

    assert pace.is_too_late_for(0.05, 0.24)
    assert not pace.is_too_late_for(0.05, 0.26)


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
    pace.in_hand = LEAST_IN_HAND
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = socket.create_connection(listener.getsockname())
        receiver, _ = listener.accept()
        with sender, receiver:
            sender.send(b"x")
            await asyncio.sleep(0.2)

            assert pace.waited(receiver) >= 0.15
        assert 0.0 == pace.waited(receiver)  # closed


async def test_with_few_in_hand_nobody_looks_for_how_long_data_waited(pace):
    pace.in_hand = LEAST_IN_HAND - 1

    with socket.socket() as connection:
        assert 0.0 == pace.waited(connection)
    pace.in_hand = LEAST_IN_HAND
    assert 0.0 == pace.waited(None)
