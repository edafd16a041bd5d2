"""Send one request as a client, and read the whole response."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
from multidict import CIMultiDict

from support.messages import TRACE, headers


@dataclass(frozen=True)
class ClientResponse:
    """A response, read to its end."""

    status: int
    headers: CIMultiDict[str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def id(self) -> str:
        """The id of an error object."""
        return self.json["id"]

    @property
    def raised(self) -> tuple[int, str, str, str]:
        """Status, error id, service and trace id of an error response."""
        return self.status, self.json["id"], self.json["service"], self.json["traceId"]


async def received(response: aiohttp.ClientResponse) -> ClientResponse:
    return ClientResponse(response.status, CIMultiDict(response.headers), await response.read())


async def send(
    client: aiohttp.ClientSession,
    method: str,
    url: str,
    body: Mapping[str, Any] | bytes | None = None,
    *,
    trace: str | None = None,
    **more: str | None,
) -> ClientResponse:
    """Send a well-formed request. Keywords are headers with "_" in place of "-"; None leaves one out."""
    made = headers()
    if trace is not None:
        made[TRACE] = trace
    for name, value in more.items():
        if value is None:
            del made[name.replace("_", "-")]
        else:
            made[name.replace("_", "-")] = value
    data = orjson.dumps(body) if isinstance(body, dict) else body
    async with client.request(method, url, data=data, headers=made, allow_redirects=False) as response:
        return await received(response)


def responses_in(data: bytes) -> list[ClientResponse]:
    """Return the responses in the bytes of a connection. Interim responses (100 Continue) have no body."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        given = CIMultiDict(line.split(": ", 1) for line in lines)
        length = int(given.get("Content-Length", "0"))
        found.append(ClientResponse(int(status.split(" ")[1]), given, data[:length]))
        data = data[length:]
    return found


def is_error_object(response: ClientResponse) -> bool:
    """Whether a response is the Level One error object of wire.md §4, without any other fields."""
    content = response.json
    return (
        response.headers["Content-Type"].startswith("application/json")
        and {"id", "message", "service", "traceId"} <= set(content)
        and set(content) <= {"id", "message", "service", "traceId", "validationErrors"}
        and content["traceId"] == response.headers["L1p-Trace-Id"]
    )
