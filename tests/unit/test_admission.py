"""Overload: which requests the load monitor admits, and in which order the queue begins them."""

import asyncio
import socket
import time

import pytest

from chassis import admission
from chassis.admission import (
    MIN_IN_FLIGHT,
    MIN_LATE_SECONDS,
    QUEUE_SHARE,
    RELIEF_SHARE,
    SLICE_SECONDS,
    SLICE_SHARE,
    STANDING_WINDOWS,
    AdmissionQueue,
    LoadMonitor,
)

MAX_WAIT = 0.6
LONG = 10.0


@pytest.fixture
def monitor():
    return LoadMonitor(MAX_WAIT, max_in_flight=200)


def window(monitor, *seconds):
    """One window in which answers took so long."""
    for each in seconds:
        monitor.answered(each)
    monitor._end_window()


def admits(monitor, waited=0.0, left=LONG, *, was_queued=False, is_excess=False):
    return monitor.admits(waited, left, was_queued, is_excess)


def overload(monitor, windows=STANDING_WINDOWS):
    monitor.in_flight = max(monitor.in_flight, MIN_IN_FLIGHT)
    for _ in range(windows):
        admits(monitor, MAX_WAIT + 0.01)
        window(monitor)


def test_a_request_is_admitted_while_answers_are_fast(monitor):
    window(monitor, 0.05, 3.0)

    assert admits(monitor)


def test_under_overload_a_request_that_would_be_answered_after_its_deadline_is_rejected(monitor):
    """The fastest answer of the last window took 0.2 s; Little's law says 0.3 s for 30 requests in flight."""
    window(monitor, *[0.2] * 10)  # a hundred per second

    assert admits(monitor, 0.0, 0.19)
    monitor.is_overloaded = True
    assert admits(monitor, 0.0, 0.21)
    assert not admits(monitor, 0.0, 0.19)
    monitor.in_flight = 30
    window(monitor, *[0.2] * 10)
    assert admits(monitor, 0.0, 0.31)
    assert not admits(monitor, 0.0, 0.29)


def test_under_overload_a_request_that_has_waited_too_long_is_rejected(monitor):
    overload(monitor)

    assert admits(monitor, MAX_WAIT - 0.01)
    assert not admits(monitor, MAX_WAIT + 0.01)


def test_under_overload_requests_in_flight_times_seconds_each_is_the_expected_wait(monitor):
    monitor.in_flight = 80
    for _ in range(30):
        admits(monitor, MAX_WAIT + 0.1)
        window(monitor, *[0.2] * 20)  # two hundred per second

    assert admits(monitor, MAX_WAIT - 0.42)
    assert not admits(monitor, MAX_WAIT - 0.38)


def test_a_window_counts_with_the_time_that_it_took(monitor):
    monitor.in_flight = 50
    for _ in range(10):
        monitor.answered(0.2)
    monitor._end_window(1.0)  # ten per second
    monitor.is_overloaded = True

    assert not admits(monitor)


def test_the_first_window_gives_the_rate(monitor):
    monitor.in_flight = 80
    window(monitor, *[0.2] * 20)
    monitor.is_overloaded = True

    assert admits(monitor, MAX_WAIT - 0.42)
    assert not admits(monitor, MAX_WAIT - 0.38)


def test_a_wait_in_the_socket_does_not_count_while_few_requests_are_in_flight(monitor):
    """Otherwise a service that reads its requests late would answer none of them."""
    monitor.in_flight = MIN_IN_FLIGHT
    window(monitor, *[0.01] * 1_000)
    monitor.is_overloaded = True

    assert not admits(monitor, MAX_WAIT + 1, was_queued=True)
    monitor.in_flight -= 1
    assert admits(monitor, MAX_WAIT + 1, was_queued=True)
    assert not admits(monitor, MAX_WAIT + 1, 0.005, was_queued=True)


def test_overload_lasts_through_a_window_without_answers_and_ends_when_the_service_is_idle(monitor):
    monitor.in_flight = 200
    window(monitor, MAX_WAIT)
    admits(monitor)
    window(monitor)

    assert monitor.is_overloaded
    monitor.in_flight = 0
    window(monitor)
    assert not monitor.is_overloaded


def test_the_queue_has_room_for_requests_that_can_be_answered_well_in_time(monitor):
    monitor.in_flight = 20
    window(monitor, *[0.2] * 10)  # a hundred per second
    monitor.is_overloaded = True
    monitor.queued = int(QUEUE_SHARE * MAX_WAIT * 100) - 20

    assert monitor.has_room
    monitor.queued += 1
    assert not monitor.has_room
    assert not admits(monitor, is_excess=True)


def test_a_slow_receiver_takes_no_room_from_others_without_overload(monitor):
    monitor.in_flight = 10_000
    window(monitor, *[0.01] * 10)

    assert monitor.must_queue
    assert monitor.has_room
    assert admits(monitor, MAX_WAIT - 0.1, was_queued=True)
    assert not admits(monitor, MAX_WAIT + 0.1, was_queued=True)


def test_the_queue_is_no_longer_than_the_best_recent_rate_can_answer_in_time(monitor):
    """A short stall of the next hop rejects nothing."""
    monitor.in_flight = 1
    window(monitor, *[0.01] * 200)  # 2,000 per second
    for _ in range(5):
        window(monitor)
    monitor.queued = int(MAX_WAIT * 2_000 * 0.9)

    assert not monitor.is_overloaded
    assert monitor.has_room
    monitor.queued = int(MAX_WAIT * 2_000) + 1
    assert not monitor.has_room
    monitor.in_flight = 0
    window(monitor)
    assert monitor.has_room


def test_many_requests_in_flight_with_slow_answers_only_are_overload(monitor):
    monitor.in_flight = 200
    window(monitor, MAX_WAIT * RELIEF_SHARE + 0.01)

    assert monitor.is_overloaded


def test_a_slow_receiver_among_fast_ones_is_no_overload(monitor):
    monitor.in_flight = 200
    for _ in range(STANDING_WINDOWS):
        window(monitor, 0.01, *[9.0] * 10)

    assert not monitor.is_overloaded
    assert admits(monitor, 0.3)


def test_a_queue_that_stands_for_fewer_windows_is_no_overload(monitor):
    overload(monitor, STANDING_WINDOWS - 1)
    admits(monitor, MAX_WAIT - 0.01)
    window(monitor)
    overload(monitor, STANDING_WINDOWS - 1)

    assert admits(monitor, MAX_WAIT + 1.0)


def test_a_few_requests_in_flight_are_no_overload_however_late_they_are(monitor):
    monitor.in_flight = MIN_IN_FLIGHT - 1
    for _ in range(10 * STANDING_WINDOWS):
        admits(monitor, MAX_WAIT + 1.0)
        window(monitor, MAX_WAIT + 1.0)

    assert not monitor.is_overloaded
    monitor.queued = 1
    overload(monitor)
    assert monitor.is_overloaded


def test_one_late_request_among_others_is_no_overload(monitor):
    for _ in range(2 * STANDING_WINDOWS):
        admits(monitor, MAX_WAIT + 1.0)
        admits(monitor)
        window(monitor)

    assert admits(monitor, MAX_WAIT + 1.0)


@pytest.mark.parametrize("waited", [None, MAX_WAIT * RELIEF_SHARE - 0.01])
def test_overload_ends_when_a_request_has_waited_briefly_or_none_arrives(monitor, waited):
    overload(monitor)
    if waited is not None:
        admits(monitor, waited)
    window(monitor)

    assert admits(monitor, MAX_WAIT + 1.0)


def test_a_short_deadline_is_no_reason_to_reject_while_answers_are_fast(monitor):
    window(monitor, MIN_LATE_SECONDS / 2)

    assert admits(monitor, 0.0, 0.001)


def test_a_window_without_answers_says_nothing(monitor):
    window(monitor, 5.0)
    window(monitor)

    assert admits(monitor)


def test_windows_without_answers_are_no_overload(monitor):
    monitor.in_flight = 700
    for _ in range(10):
        window(monitor, 0.02)
        window(monitor)
        window(monitor)
    monitor.queued = 50

    assert not monitor.is_overloaded
    assert monitor.has_room


def test_overload_ends_although_requests_to_a_slow_receiver_stay_in_flight(monitor):
    monitor.in_flight = 700
    window(monitor, *[MAX_WAIT] * 100)
    assert monitor.is_overloaded
    monitor.in_flight = 500
    for _ in range(30):
        admits(monitor, is_excess=not monitor.has_room)
        window(monitor)

    assert not monitor.is_overloaded
    assert monitor.has_room


@pytest.fixture
def connection():
    """Two ends of a connection, and data that waits at the second one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = socket.create_connection(listener.getsockname())
        receiver, _ = listener.accept()
        with sender, receiver:
            sender.send(b"x")
            yield receiver


LINUX = pytest.mark.skipif(
    not hasattr(socket, "TCP_INFO"), reason="only Linux knows how long data has waited"
)


@LINUX
async def test_with_many_requests_in_flight_the_kernel_is_asked_how_long_data_waited(monitor, connection):
    monitor.in_flight = MIN_IN_FLIGHT
    window(monitor, 0.2)
    await asyncio.sleep(0.2)

    assert monitor.waited(connection, time.monotonic()) >= 0.15
    connection.close()
    assert 0.0 == monitor.waited(connection, time.monotonic())


@LINUX
async def test_data_that_arrived_while_the_process_stood_still_has_waited(monitor, connection):
    monitor.start()
    time.sleep(0.5)  # noqa: ASYNC251 - nothing runs, as in a stopped process

    assert monitor.waited(connection, time.monotonic()) >= 0.4
    monitor.stop()


@LINUX
async def test_a_late_heartbeat_shows_that_the_process_stood_still(monitor, connection):
    """The heartbeat may come before the data is read."""
    monitor.start()
    time.sleep(0.5)  # noqa: ASYNC251 - as above
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    monitor._beat()

    assert monitor.waited(connection, time.monotonic()) >= 0.4
    monitor.stop()


async def test_without_load_the_kernel_is_not_asked(monitor, connection, monkeypatch):
    monkeypatch.setattr(admission, "_seconds_since_data", None)
    monitor.in_flight = MIN_IN_FLIGHT - 1
    monitor.start()

    assert 0.0 == monitor.waited(connection, time.monotonic())
    monitor.stop()


async def test_the_queue_begins_requests_in_their_order_some_per_iteration(monitor, monkeypatch):
    clock = iter(range(1_000))
    monkeypatch.setattr(admission.time, "monotonic", lambda: next(clock) * SLICE_SECONDS / 2)
    queue = AdmissionQueue(monitor)
    begun = []
    for number in range(5):
        queue.add(lambda number=number: begun.append(number))
    assert 5 == monitor.queued
    await asyncio.sleep(0)

    assert 0 < len(begun) < 5
    while monitor.queued:
        await asyncio.sleep(0)
    assert [0, 1, 2, 3, 4] == begun


async def test_an_iteration_that_took_long_begins_more_requests(monitor, monkeypatch):
    """Otherwise a service that rejects thousands of requests in each iteration would answer almost none."""
    now = 0.0
    monkeypatch.setattr(admission.time, "monotonic", lambda: now)
    queue = AdmissionQueue(monitor)
    begun = []

    def begin():
        nonlocal now
        now += SLICE_SECONDS / 4
        begun.append(now)

    for _ in range(100):
        queue.add(begin)
    await asyncio.sleep(0)
    assert 4 == len(begun)

    now += 10 * SLICE_SECONDS
    await asyncio.sleep(0)
    assert 4 + 4 * 10 * SLICE_SHARE == len(begun)


async def test_an_error_of_one_request_does_not_stop_the_queue(monitor):
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    queue = AdmissionQueue(monitor)
    begun = []

    def fail():
        raise RuntimeError("unexpected")

    queue.add(fail)
    queue.add(lambda: begun.append("second"))
    for _ in range(3):
        await asyncio.sleep(0)

    assert ["second"] == begun
