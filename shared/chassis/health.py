"""``python -m chassis.health``: the health check of a container. It exits with status 0 if the service is ready.

It reads the environment variables of the service, but imports neither the settings nor aiohttp. With these imports one
check took a third of a second of processor time, and the checks of all containers kept a machine with two cores busy.
"""

import os
import socket
import sys

SECONDS = 3.0


def status() -> str:
    """Return the first line of the response to /health/ready. Raises OSError."""
    host = os.environ.get("QUOTES_HOST", "127.0.0.1")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    certificate, key = os.environ.get("QUOTES_TLS_CERTIFICATE"), os.environ.get("QUOTES_TLS_KEY")
    with socket.create_connection((host, int(os.environ["QUOTES_PORT"])), SECONDS) as plain:
        if not certificate:
            return _get(plain)
        import ssl  # half of the cost of a check, and seldom needed

        # the certificate names the service, not the loopback address
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(certificate, key)
        with context.wrap_socket(plain) as tls:
            return _get(tls)


def _get(connection: socket.socket) -> str:
    connection.sendall(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    with connection.makefile("rb") as response:
        return response.readline(100).decode("latin-1").strip()


def main() -> int:
    try:
        line = status()
    except (OSError, KeyError, ValueError) as error:
        print(f"not ready: {error!r}", file=sys.stderr)  # noqa: T201
        return 1
    if line.startswith("HTTP/1.1 200 "):
        return 0
    print(f"not ready: {line}", file=sys.stderr)  # noqa: T201
    return 1


if __name__ == "__main__":
    sys.exit(main())
