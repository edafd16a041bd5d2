"""A load for every service of the network that `make run` starts: quotes with each outcome, and signals that trade."""

import json
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

from network import http_client
from network.http_client import HttpReply
from support.messages import LOOK_UP_QUERY, QUOTE, RESERVE, TEST, UNKNOWN_UUID, basic, headers

USER: Final = basic("user@example.com", "sample")
ENGINE: Final = basic("engine", "sample")
STRATEGY: Final = "load"
CALLERS: Final = 8
"""Number of concurrent callers. With fewer, no requests would wait for others and be sent in a batch."""


@contextmanager
def network_load(origins: Mapping[str, str]) -> Iterator[None]:
    """Send requests from threads while the `with` block runs. `origins` has the base URL of each service."""
    load = _Load(origins)
    load.enable_webhook()
    must_stop = threading.Event()

    def repeat(step: Callable[[], None]) -> None:
        while not must_stop.wait(0.05):
            step()

    with ThreadPoolExecutor(CALLERS + 1) as pool:
        running = [pool.submit(repeat, step) for step in (load.trade, *[load.quote] * CALLERS)]
        try:
            yield
        finally:
            must_stop.set()
        for each in running:
            each.result()


class _Load:
    def __init__(self, origins: Mapping[str, str]) -> None:
        self._origins = origins

    def _send(
        self,
        service: str,
        method: str,
        path: str,
        body: Any = None,
        *,
        by: str | None = TEST,
        expected: tuple[int, ...] = (200,),
        **more: str,
    ) -> HttpReply:
        data = None if body is None else json.dumps(body).encode()
        reply = http_client.send(
            method, self._origins[service] + path, headers=headers(by, **more), body=data, timeout_seconds=60
        )
        assert reply.status in expected, (method, path, reply.status, reply.text)
        return reply

    def quote(self) -> None:
        payer = "dfsp-api-payer"
        paid = self._send(payer, "POST", RESERVE, QUOTE).json["uuid"]
        self._send(payer, "PUT", f"/v1/payments/{paid}", QUOTE)
        self._send(payer, "GET", f"/v1/quote/{paid}?{LOOK_UP_QUERY}")
        self._send(payer, "POST", RESERVE, QUOTE, X_Request_Timeout_Ms="1", expected=(200, 502, 503, 504))
        self._send(payer, "GET", f"/v1/quote/{UNKNOWN_UUID}?{LOOK_UP_QUERY}", expected=(404,))
        self._send(payer, "POST", RESERVE, QUOTE, by=basic("test", "wrong"), expected=(401, 429))

    def enable_webhook(self) -> None:
        service, mine = "integrations", "/v1/me"
        self._send(
            service,
            "PUT",
            f"/v1/strategies/{STRATEGY}",
            {"name": "Load", "userEmail": "user@example.com"},
            by=ENGINE,
        )
        request = {
            "name": "user@example.com",
            "description": "Load",
            "imageUrl": "https://foo.bar/logo.png",
            "userEmail": "user@example.com",
            "webhook": {"url": self._origins["signal-receiver"] + "/webhook/sample"},
        }
        path = "/api/integrations/v1/integrations"
        integration = self._send(service, "POST", path, request, by=None, expected=(201,)).json["id"]
        self._send(service, "POST", f"{mine}/integrations/{integration}/approve", by=USER)
        self._send(service, "PUT", f"{mine}/strategies/{STRATEGY}/integrations/{integration}", by=USER)

    def trade(self) -> None:
        self.signal("OPEN")
        self.signal("CLOSE")

    def signal(self, type_: str) -> None:
        signal = {
            "signalId": str(uuid.uuid4()),
            "type": type_,
            "direction": "BUY",
            "ticker": "XAUUSD",
            "quantity": 1,
            "proquantPositionId": str(uuid.uuid4()),
        }
        path = f"/v1/strategies/{STRATEGY}/signals"
        self._send("integrations", "POST", path, signal, by=ENGINE, expected=(202,))
