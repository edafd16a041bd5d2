"""The control socket of `make run`, and the commands that use it: `make status`, `make restart` and `make reload`."""

import http.server
import io
import socket
import stat
import threading
from pathlib import Path

import pytest

from network import control, data_lock, operations
from network.control import ControlError, ControlServer
from network.polling import PollTimer
from network.terminal import Terminal


@pytest.fixture(params=["short", "long"])
def folder(tmp_path, request):
    """A data folder. A Unix socket's name may have 107 bytes at most, which a long path exceeds."""
    made = tmp_path / ("x" * 120 if request.param == "long" else "x")
    made.mkdir()
    return made


@pytest.fixture
def serve(folder):
    """Open a control server with these commands; close it afterwards."""
    opened = []

    def serve_(**commands):
        server = ControlServer(folder, commands)
        server.open()
        opened.append(server)
        return server

    yield serve_
    for server in opened:
        server.close()


def refuse(_request):
    raise ControlError("not now")


def test_a_command_gets_its_reply(serve, folder):
    serve(echo=lambda request: {"heard": request["word"]}, refuse=refuse)

    assert {"heard": "ä"} == control.send(folder, {"command": "echo", "word": "ä"})
    with pytest.raises(ControlError, match="not now"):
        control.send(folder, {"command": "refuse"})
    with pytest.raises(ControlError, match="does not have that command"):
        control.send(folder, {"command": "other"})


def test_only_the_owner_can_use_the_socket_and_it_is_removed(serve, folder):
    server = serve()
    [path] = folder.iterdir()
    mode = path.stat().st_mode
    server.close()

    assert stat.S_ISSOCK(mode)
    assert 0o600 == mode & 0o777
    assert [] == list(folder.iterdir())


def test_a_socket_that_a_killed_run_has_left_is_replaced(serve, folder):
    first = serve(which=lambda _: {"number": 1})
    first._socket.close()
    serve(which=lambda _: {"number": 2})

    assert {"number": 2} == control.send(folder, {"command": "which"})


def test_without_a_socket_it_is_said_why(folder):
    with pytest.raises(ControlError, match="does not take commands now, since it starts or stops"):
        control.send(folder, {"command": "status"})


def test_a_slow_command_delays_no_other_and_more_than_four_at_once_are_refused(serve, folder):
    release = threading.Event()
    serve(wait=lambda _: {"ok": release.wait(60)}, status=lambda _: {"ok": True})
    answers = []

    def send_wait() -> None:
        answers.append(control.send(folder, {"command": "wait"}, seconds=60))

    waiting = [threading.Thread(target=send_wait) for _ in range(3)]
    for thread in waiting:
        thread.start()
    assert {"ok": True} == control.send(folder, {"command": "status"}, seconds=60)
    release.set()
    for thread in waiting:
        thread.join(60)

    assert [{"ok": True}] * 3 == answers


@pytest.mark.parametrize(
    "sent", [b"", b"\n", b"[]\n", b"nonsense\n", b"[" * 5_000, b"\xff\n", b'{"command": []}\n']
)
def test_a_malformed_request_gets_an_error_and_ends_nothing(serve, folder, sent):
    serve(status=lambda _: {"ok": True})
    with socket.socket(socket.AF_UNIX) as connection, control._address(folder) as address:
        connection.connect(address)
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(60)
        reply = connection.recv(1_000)

    assert b"does not have that command" in reply
    assert {"ok": True} == control.send(folder, {"command": "status"})


@pytest.fixture
def origin():
    """The origin of a service. Its readiness is what the test sets."""

    class Handler(http.server.BaseHTTPRequestHandler):
        status, body = 200, b'{"status": "ready"}'

        def do_GET(self):
            self.send_response(type(self).status)
            self.end_headers()
            self.wfile.write(type(self).body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", Handler
        server.shutdown()


def process(origin, **more):
    return {
        "name": "spsp-server",
        "pid": 7,
        "port": 8013,
        "origin": origin,
        "uptimeSeconds": 115.9,
        "restarts": 0,
        **more,
    }


@pytest.fixture
def in_use(monkeypatch):
    monkeypatch.setattr(data_lock, "is_in_use", lambda _: True)


def shown(command, folder, *arguments):
    stream = io.StringIO()
    code = command(folder, *arguments, Terminal(stream))
    return code, stream.getvalue().splitlines()


@pytest.mark.usefixtures("in_use")
def test_status_shows_each_process(serve, folder, origin):
    postgres = process(None, name="postgres", pid=6, port=None, restarts=2)
    serve(status=lambda _: {"pid": 5, "services": [postgres, process(origin[0])]})
    code, (first, *lines) = shown(operations.status, folder)

    assert (0, f"make run: process 5, data {folder}") == (code, first)
    assert [
        "service      pid  port  uptime   restarts  health",
        "postgres     6    -     0:01:55  2         running",
        "spsp-server  7    8013  0:01:55  0         ready",
    ] == lines


@pytest.mark.usefixtures("in_use")
@pytest.mark.parametrize(
    ("status", "body", "code", "health"),
    [
        (503, b'{"missing": ["the database is away", "x"]}', 1, "not ready: the database is away; x"),
        (503, b"x", 1, "not ready:"),
        (200, b'{"warnings": ["the fee schedule is refused"]}', 0, "ready, but the fee schedule is refused"),
    ],
)
def test_status_says_what_a_service_lacks(serve, folder, origin, status, body, code, health):
    origin[1].status, origin[1].body = status, body
    serve(status=lambda _: {"pid": 5, "services": [process(origin[0])]})
    found, lines = shown(operations.status, folder)

    assert code == found
    assert lines[-1].endswith(health)


@pytest.mark.usefixtures("in_use")
def test_status_shows_a_process_that_does_not_run(serve, folder):
    serve(
        status=lambda _: {"pid": 5, "services": [process("http://127.0.0.1:1", pid=None, uptimeSeconds=None)]}
    )
    code, lines = shown(operations.status, folder)

    assert (1, "spsp-server  -    8013  -       0         not running") == (code, lines[-1])


@pytest.mark.usefixtures("in_use")
def test_restart_waits_until_the_service_is_ready(serve, folder, origin):
    asked = []

    def restart(request):
        asked.append(request["service"])
        return process(origin[0], pid=9)

    serve(restart=restart)
    code, [line] = shown(operations.restart, folder, "spsp-server")

    assert (0, ["spsp-server"]) == (code, asked)
    assert line.startswith("spsp-server was restarted (process 9) and is ready after ")


def test_without_a_run_it_is_said(folder):
    with pytest.raises(
        ControlError, match=r"no `make run` uses the data folder .*; DATA names another folder"
    ):
        operations.status(folder, Terminal(io.StringIO()))


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.9, "0:00:00"), (3_725, "1:02:05"), (3 * 86_400 + 59, "3 d 0:00:59")]
)
def test_uptime(seconds, expected):
    assert expected == operations.uptime(seconds)


def test_a_command_leaves_no_descriptor_open(serve, folder):
    server = serve(status=lambda _: {"ok": True})
    descriptors = Path("/proc/self/fd")
    before = len([*descriptors.iterdir()])
    for _ in range(20):
        control.send(folder, {"command": "status"})
        # the server refuses a command while the threads of too many earlier ones have not ended
        timer = PollTimer(60, 0.001)
        while timer.wait() and server._free._value < control._MAX_CONNECTIONS:
            pass

    assert len([*descriptors.iterdir()]) < before + 10
