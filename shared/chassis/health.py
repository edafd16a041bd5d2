"""Asks the service on this machine whether it is ready: ``python -m chassis.health``, a container's check.

Reads the same environment as the service. Exit status 0 when ready.

Asked of every container every few seconds, for ever: with the settings' and aiohttp's imports that took a third
of a second of processor time each, and a machine of two cores was busy with nothing but asking. A socket and a
status line take a tenth of that.
"""

import os
import socket
import sys

SECONDS = 3.0


def status() -> str:
    """The status line of /health/ready. Raises OSError."""
    host = os.environ.get("QUOTES_HOST", "127.0.0.1")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    certificate, key = os.environ.get("QUOTES_TLS_CERTIFICATE"), os.environ.get("QUOTES_TLS_KEY")
    with socket.create_connection((host, int(os.environ["QUOTES_PORT"])), SECONDS) as plain:
        if not certificate:
            return _ask(plain)
        import ssl  # half of what this costs, and most often not needed

        # the certificate is the service's name's; who listens on our own loopback is not the question
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(certificate, key)
        with context.wrap_socket(plain) as tls:
            return _ask(tls)


def _ask(connection: socket.socket) -> str:
    connection.sendall(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    with connection.makefile("rb") as answer:
        return answer.readline(100).decode("latin-1").strip()


def main() -> int:
    try:
        said = status()
    except (OSError, KeyError, ValueError) as error:
        print(f"not ready: {error!r}", file=sys.stderr)  # noqa: T201
        return 1
    if said.startswith("HTTP/1.1 200 "):
        return 0
    print(f"not ready: {said}", file=sys.stderr)  # noqa: T201
    return 1


if __name__ == "__main__":
    sys.exit(main())
