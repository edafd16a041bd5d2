"""The sample strategy. The strategy engine registers it with `integrations` for the sample user."""

import base64
import json
import ssl
from http import HTTPStatus

from network import http_client

ID, NAME = "gold", "Gold High-Risk"
USER, PASSWORD = "user@example.com", "sample"
ENGINE, ENGINE_PASSWORD = "engine", "sample"


class StrategyError(RuntimeError):
    """`integrations` did not accept the strategy. Settings of the user may be the cause."""


def register(origin: str, trace_id: str, tls: ssl.SSLContext | None = None) -> None:
    """Register the strategy. This also succeeds if it is already registered. Raises StrategyError."""
    credentials = base64.b64encode(f"{ENGINE}:{ENGINE_PASSWORD}".encode()).decode()
    reply = http_client.send(
        "PUT",
        f"{origin}/v1/strategies/{ID}",
        headers={
            "Content-Type": "application/json",
            "Authorization": f"Basic {credentials}",
            "L1p-Trace-Id": trace_id,
        },
        body=json.dumps({"name": NAME, "userEmail": USER}).encode(),
        tls=tls,
    )
    if reply.status >= HTTPStatus.BAD_REQUEST:
        raise StrategyError(
            f"the sample strategy {ID!r} could not be registered: {reply.status} {reply.text.strip()[:300]}"
        )
