"""PgBouncer in front of a test's Postgres."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

PROGRAM: Final = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
NEEDED: Final = "needs pgbouncer, for example `apt-get install pgbouncer`"
START_SECONDS: Final = 30

_CONFIGURATION: Final = """
[databases]
* = {server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {pool_mode}
default_pool_size = 20
max_client_conn = 100
{more}
"""


@contextmanager
def pgbouncer(url: str, pool_mode: str, more: str = "") -> Iterator[str]:
    """Run PgBouncer in front of the database at ``url``, and return the URL of the database through PgBouncer."""
    assert PROGRAM is not None, NEEDED
    parts = urlsplit(url)
    host = parts.hostname or parse_qs(parts.query)["host"][0]
    server = f"host={host} port={parts.port or 5432}"
    server += f" user={parts.username}" + (f" password={parts.password}" if parts.password else "")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as folder:
        file = Path(folder) / "pgbouncer.ini"
        file.write_text(_CONFIGURATION.format(server=server, port=port, pool_mode=pool_mode, more=more))
        _let_others_read(Path(folder), file)
        with subprocess.Popen(
            [PROGRAM, "-q", str(file)],
            **_user(host),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                _wait_until_it_listens(port, process)
                yield f"postgresql://{parts.username}@127.0.0.1:{port}{parts.path}"
            finally:
                process.terminate()
                process.wait()


def _user(host: str) -> dict[str, Any]:
    """Return the arguments that start PgBouncer as another user than root, because it refuses to run as root.

    With an embedded Postgres it is the user that owns the socket's folder, because only that user may open the folder.
    """
    if os.getuid():
        return {}
    entry = pwd.getpwuid(Path(host).stat().st_uid) if host.startswith("/") else pwd.getpwnam("nobody")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _let_others_read(*paths: Path) -> None:
    for path in paths:
        path.chmod(0o755)


def _wait_until_it_listens(port: int, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert process.poll() is None, "pgbouncer ended"
            assert time.monotonic() < end, "pgbouncer does not listen"
            time.sleep(0.02)
        else:
            return
