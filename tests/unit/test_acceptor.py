"""Accepting connections."""

import asyncio
import errno
import socket

import pytest

from chassis.http.acceptor import MAX_AT_ONCE, Acceptor
from chassis.settings import Settings, load
from chassis.tls import Tls

MANY = 200


class Counted(asyncio.Protocol):
    """Counts the connections made."""

    made: list["Counted"]

    def __init__(self, connection):
        self.connection = connection

    def connection_made(self, transport):
        self.made.append(self)
        self.transport = transport


@pytest.fixture
def tls(users_file):
    return Tls(load(Settings, {"QUOTES_USERS_FILE": str(users_file)}))


@pytest.fixture
async def listener():
    with socket.create_server(("127.0.0.1", 0), backlog=MANY) as made:
        Counted.made = []
        yield made
        for each in Counted.made:
            each.transport.abort()
        await asyncio.sleep(0)


def callers(listener, number):
    return [socket.create_connection(listener.getsockname()) for _ in range(number)]


async def settled(number):
    async with asyncio.timeout(5):
        while len(Counted.made) < number:
            await asyncio.sleep(0.01)


async def test_many_that_wait_are_accepted_in_one_turn_and_all_by_and_by(listener, tls):
    waiting = callers(listener, MANY)
    acceptor = Acceptor(Counted, listener, tls)
    acceptor._accept()

    assert MAX_AT_ONCE == len(acceptor._accepting) + len(Counted.made)
    acceptor.open()
    await settled(MANY)
    peers = {each.connection.getpeername() for each in Counted.made}
    assert all(each.connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) for each in Counted.made)
    assert {each.getsockname() for each in waiting} == peers
    acceptor.close()
    for each in waiting:
        each.close()


async def test_what_is_written_goes_out_at_once_on_any_loop(listener, tls):
    acceptor = Acceptor(Counted, listener, tls)
    acceptor.open()
    [caller] = callers(listener, 1)
    await settled(1)

    assert Counted.made[0].connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    acceptor.close()
    caller.close()


async def test_closed_doors_accept_nobody_and_keep_who_is_in(listener, tls):
    acceptor = Acceptor(Counted, listener, tls)
    acceptor.open()
    first = callers(listener, 1)
    await settled(1)
    acceptor.close()
    second = callers(listener, 1)
    await asyncio.sleep(0.05)

    assert 1 == len(Counted.made)
    assert not Counted.made[0].transport.is_closing()
    for each in first + second:
        each.close()


class Exhausted:
    """A listener for which there are no file descriptors left, for a while."""

    def __init__(self, listener):
        self._listener = listener
        self.refusals = 1

    def fileno(self):
        return self._listener.fileno()

    def setblocking(self, flag):
        self._listener.setblocking(flag)

    def accept(self):
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return self._listener.accept()


async def test_without_file_descriptors_it_rests_and_goes_on(listener, tls):
    exhausted = Exhausted(listener)
    acceptor = Acceptor(Counted, exhausted, tls)
    acceptor.open()
    waiting = callers(listener, 3)
    await settled(3)

    assert 0 == exhausted.refusals
    acceptor.close()
    for each in waiting:
        each.close()
