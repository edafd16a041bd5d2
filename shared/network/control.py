"""The control socket of `make run`: `make status`, `make restart` and `make reload` send their commands to it.

It is a Unix socket in the data folder that only its owner can use. A request and its reply are one line of JSON each.
"""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_NAME = ".control.sock"
_MODE = 0o600
# the name of a Unix socket has at most 107 bytes on Linux, and 103 on macOS
_MAX_NAME_BYTES = 103
_MAX_REQUEST_BYTES = 4_096
_MAX_REPLY_BYTES = 262_144
_MAX_CONNECTIONS = 4
_REQUEST_SECONDS = 5.0

Command = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Carries out a request and returns the reply. Raises ControlError to refuse it."""


class ControlError(RuntimeError):
    """A command was refused, or could not be sent. The message is for people."""


class ControlServer:
    """Carries out commands between `open` and `close`, each in a thread."""

    def __init__(self, folder: Path, commands: Mapping[str, Command]) -> None:
        self._folder = folder
        self._commands = commands
        self._socket: socket.socket | None = None
        # if more commands arrive at once, the others are refused
        self._free = threading.Semaphore(_MAX_CONNECTIONS)

    def open(self) -> None:
        """Listen. A socket that an earlier run has left is replaced. Raises OSError."""
        (self._folder / _NAME).unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with _address(self._folder) as address:
            listener.bind(address)
        (self._folder / _NAME).chmod(_MODE)
        listener.listen(_MAX_CONNECTIONS)
        self._socket = listener
        threading.Thread(target=self._accept, args=[listener], name="control", daemon=True).start()

    def close(self) -> None:
        if self._socket is None:
            return
        (self._folder / _NAME).unlink(missing_ok=True)
        with suppress(OSError):  # ends the wait in `accept`
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # closed
                return
            if not self._free.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=self._serve, args=[connection], name="control", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, suppress(OSError):
                connection.settimeout(_REQUEST_SECONDS)
                connection.sendall(_line(self._reply(_read_line(connection, _MAX_REQUEST_BYTES))))
        finally:
            self._free.release()

    def _reply(self, line: bytes) -> Mapping[str, Any]:
        request = _object(line)
        command = self._commands.get(str(request.get("command")))
        if command is None:
            return {"error": "this `make run` does not have that command: it is of another version"}
        try:
            return command(request)
        except ControlError as error:
            return {"error": str(error)}


def send(folder: Path, request: Mapping[str, Any], *, seconds: float = 10) -> dict[str, Any]:
    """Send a request to the `make run` that uses the data folder, and return its reply. Raises ControlError."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(seconds)
            with _address(folder) as address:
                connection.connect(address)
            connection.sendall(_line(request))
            reply = _object(_read_line(connection, _MAX_REPLY_BYTES))
    except TimeoutError:
        raise ControlError(f"`make run` did not answer within {seconds:.0f} s") from None
    except OSError as error:
        raise ControlError(
            f"`make run` does not take commands now, since it starts or stops: {error}"
        ) from None
    if not reply:
        raise ControlError("`make run` did not answer, since it stops or is busy: try again")
    if "error" in reply:
        raise ControlError(str(reply["error"]))
    return reply


@contextmanager
def _address(folder: Path) -> Iterator[str]:
    """Give a name of the socket that is short enough."""
    path = str(folder / _NAME)
    if len(os.fsencode(path)) <= _MAX_NAME_BYTES or not Path("/proc/self/fd").exists():
        yield path
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{_NAME}"
    finally:
        os.close(descriptor)


def _line(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"


def _read_line(connection: socket.socket, max_bytes: int) -> bytes:
    """Return the bytes up to the first line end; what has arrived if there is none."""
    data = b""
    while b"\n" not in data and len(data) < max_bytes and (chunk := connection.recv(max_bytes - len(data))):
        data += chunk
    return data.partition(b"\n")[0]


def _object(line: bytes) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
