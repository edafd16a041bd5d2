"""A minimal HTTP client. It sends one request and reads one reply, without proxies or redirects."""

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

_MAX_BODY_BYTES = 1_048_576


@dataclass(frozen=True)
class HttpReply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    @property
    def json(self) -> dict[str, Any]:
        """Return the body if it is a JSON object, else an empty dictionary."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


def send(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    timeout_seconds: float = 15,
    tls: ssl.SSLContext | None = None,
) -> HttpReply:
    """Send a request and return the reply. It uses TLS if `tls` is given. Raises OSError if there is no reply."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection = (
        http.client.HTTPSConnection(host, parts.port, timeout=timeout_seconds, context=tls)
        if tls
        else http.client.HTTPConnection(host, parts.port, timeout=timeout_seconds)
    )
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, body, dict(headers or {}))
        reply = connection.getresponse()
        return HttpReply(reply.status, dict(reply.getheaders()), reply.read(_MAX_BODY_BYTES))
    except http.client.HTTPException as error:
        raise ConnectionError(f"the reply is not HTTP: {error!r}") from error
    finally:
        connection.close()
