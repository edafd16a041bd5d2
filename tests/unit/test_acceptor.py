"""Connections are accepted (chassis.http.acceptor)."""

import asyncio
import contextlib
import errno
import os
import resource
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from chassis.http.acceptor import MAX_AT_ONCE, Acceptor
from chassis.http.connection_limit import ConnectionLimit
from chassis.logs import Logs, LogWriter
from chassis.settings import Settings, load
from chassis.tls import Tls
from network.polling import PollTimer

MANY = 200


class Counted(asyncio.Protocol):
    """Keeps the connections that were made."""

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


class Idle(ConnectionLimit):
    """Has this number of idle connections to close at each call."""

    def __init__(self, number=0):
        super().__init__(4_096)
        self.number = number
        self.calls = 0

    def close_idle(self):
        self.calls += 1
        return self.number


def acceptor_for(listener, tls, limit=None):
    logs = Logs("test", LogWriter(-1), human=False)
    return Acceptor(Counted, listener, tls, logs, limit or ConnectionLimit(4_096))


def callers(listener, number):
    return [socket.create_connection(listener.getsockname()) for _ in range(number)]


async def settled(number):
    async with asyncio.timeout(60):
        while len(Counted.made) < number:
            await asyncio.sleep(0.01)


async def test_many_waiting_callers_are_accepted_in_one_iteration(listener, tls):
    waiting = callers(listener, MANY)
    acceptor = acceptor_for(listener, tls)
    acceptor._accept()

    assert MAX_AT_ONCE == len(acceptor._handshakes) + len(Counted.made)
    acceptor.open()
    await settled(MANY)
    peers = {each.connection.getpeername() for each in Counted.made}
    assert all(each.connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) for each in Counted.made)
    assert {each.getsockname() for each in waiting} == peers
    acceptor.close()
    for each in waiting:
        each.close()


async def test_small_writes_are_sent_at_once_on_any_event_loop(listener, tls):
    acceptor = acceptor_for(listener, tls)
    acceptor.open()
    [caller] = callers(listener, 1)
    await settled(1)

    assert Counted.made[0].connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    acceptor.close()
    caller.close()


async def test_a_closed_acceptor_accepts_no_more_and_keeps_open_connections(listener, tls):
    acceptor = acceptor_for(listener, tls)
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
    """A listener that has no free file descriptor for some calls of `accept`."""

    def __init__(self, listener, refusals):
        self._listener = listener
        self.refusals = refusals

    def fileno(self):
        return self._listener.fileno()

    def setblocking(self, flag):
        self._listener.setblocking(flag)

    def accept(self):
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return self._listener.accept()


async def test_idle_connections_are_closed_when_no_file_descriptor_is_free(listener, tls):
    exhausted = Exhausted(listener, refusals=1)
    limit = Idle(1)
    acceptor = acceptor_for(exhausted, tls, limit)
    acceptor.open()
    waiting = callers(listener, 3)
    await settled(3)

    assert 1 == limit.calls
    acceptor.close()
    for each in waiting:
        each.close()


async def test_nothing_is_closed_when_no_file_descriptor_is_free_and_no_caller_waits(listener, tls):
    limit = Idle(1)
    acceptor = acceptor_for(Exhausted(listener, refusals=1), tls, limit)
    acceptor._accept()
    acceptor.close()

    assert 0 == limit.calls


async def test_callers_are_refused_when_no_file_descriptor_is_free(listener, tls, monkeypatch):
    """They would wait for a minute otherwise."""
    logged = []
    monkeypatch.setattr(Logs, "error", lambda _self, event, **fields: logged.append((event, fields)))
    acceptor = acceptor_for(Exhausted(listener, refusals=1), tls)
    waiting = callers(listener, 3)
    for each in waiting:
        each.setblocking(False)
    acceptor._accept()

    for each in waiting:
        assert b"" == await asyncio.wait_for(asyncio.get_running_loop().sock_recv(each, 1), 60)
    assert [
        ("connections cannot be accepted", {"cause": "[Errno 24] Too many open files", "refused": 3})
    ] == logged
    later = callers(listener, 1)
    await settled(1)
    acceptor.close()
    for each in waiting + later:
        each.close()


async def test_a_lack_of_file_descriptors_is_logged_once_a_second(listener, tls, monkeypatch):
    logged = []
    monkeypatch.setattr(Logs, "error", lambda _self, event, **fields: logged.append(fields["refused"]))
    clock = [0.0]
    monkeypatch.setattr("chassis.http.acceptor.time.monotonic", lambda: clock[0])
    acceptor = acceptor_for(Exhausted(listener, refusals=1_000), tls)
    [waiting] = callers(listener, 1)
    for clock[0] in (0.0, 0.1, 0.9, 1.0, 1.5, 2.5):
        acceptor._accept()
    acceptor.close()
    waiting.close()

    assert [0, 0, 0] == logged


def test_a_service_without_free_file_descriptors_still_answers(tmp_path):
    """Seen as: nothing was accepted for a minute, health checks neither, and nothing was logged."""
    log = tmp_path / "log"
    (tmp_path / "users").touch()
    environment = {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "QUOTES_USERS_FILE": str(tmp_path / "users"),
        "QUOTES_PORT": "0",
        "QUOTES_LOG_FILE": str(log),
        "QUOTES_STOP_GRACE_SECONDS": "0",
    }
    command = [sys.executable, "-m", "spsp_server"]
    with subprocess.Popen(command, env=environment) as service, contextlib.ExitStack() as stack:
        try:
            eventually(lambda: '"started"' in log.read_text())
            port = listening_port(service.pid)
            used = len(list(Path(f"/proc/{service.pid}/fd").iterdir()))
            resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (used + 20, used + 20))
            for _ in range(200):
                stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
            for _ in range(3):
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=60) as reply:
                    assert 200 == reply.status
            assert '"event":"connections cannot be accepted"' in log.read_text()
        finally:
            service.kill()


def listening_port(pid):
    """The port of a process on which it listens, from the kernel's tables."""
    sockets = {str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    [address] = [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]
    return int(address.partition(":")[2], 16)


def eventually(is_so):
    timer = PollTimer(30)
    while timer.wait():
        with contextlib.suppress(OSError):
            if is_so():
                return
    raise AssertionError
