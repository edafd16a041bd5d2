"""One request and its whole answer, for tests that look at several at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from support.messages import TRACE, headers


@dataclass(frozen=True)
class Answer:
    """A reply, read."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def raised(self) -> tuple[int, str, str, str]:
        """Status, id, service and trace id of an error."""
        return self.status, self.json["id"], self.json["service"], self.json["traceId"]


async def send(
    client: aiohttp.ClientSession,
    method: str,
    url: str,
    body: Mapping[str, Any] | bytes | None = None,
    *,
    trace: str | None = None,
    **more: str | None,
) -> Answer:
    """Sends a well-formed request; ``more`` are headers, with _ for -, None takes one away."""
    made = headers()
    if trace is not None:
        made[TRACE] = trace
    for name, value in more.items():
        if value is None:
            del made[name.replace("_", "-")]
        else:
            made[name.replace("_", "-")] = value
    data = orjson.dumps(body) if isinstance(body, dict) else body
    async with client.request(method, url, data=data, headers=made, allow_redirects=False) as reply:
        return Answer(reply.status, dict(reply.headers), await reply.read())
