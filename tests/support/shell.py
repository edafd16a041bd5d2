"""The README's curl calls, made without a shell and without curl: tests need neither."""

import base64
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

_SAVES_ID = re.compile(r"id=\$\((.*) \|\s*sed .*\)\s*\Z", re.DOTALL)


@dataclass
class Call:
    """One request of a curl command."""

    url: str = ""
    method: str | None = None
    body: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    async def send(self, client: aiohttp.ClientSession) -> tuple[int, Any]:
        """Status, and what the body is in JSON."""
        method = self.method or ("POST" if self.body is not None else "GET")
        async with client.request(method, self.url, data=self.body, headers=self.headers) as reply:
            content = await reply.read()
            return reply.status, json.loads(content) if content else None


class Story:
    """Commands in their order, with what an earlier one has saved."""

    def __init__(self, client: aiohttp.ClientSession, origins: Mapping[str, str]) -> None:
        """``origins`` are those of the text, and where they are."""
        self._client = client
        self._origins = origins
        self._id = ""

    async def run(self, command: str) -> list[tuple[int, Any]]:
        """The answers to a command's requests."""
        saved = _SAVES_ID.match(command)
        text = (saved[1] if saved else command).replace("\\\n", " ").replace("$id", self._id)
        for origin, place in self._origins.items():
            text = text.replace(origin, place)
        answers = [await call.send(self._client) for call in calls(text)]
        if saved:
            self._id = answers[0][1]["id"]
        return answers


def calls(command: str) -> Iterator[Call]:
    """The requests of one curl command, of whose options it knows those that the README needs."""
    words = iter(shlex.split(command))
    assert "curl" == next(words)
    call = Call()
    for word in words:
        match word:
            case "--next":
                yield call
                call = Call()
            case "-s":
                pass
            case "-X":
                call.method = next(words)
            case "-d":
                call.body = next(words)
            case "-u":
                call.headers["Authorization"] = "Basic " + base64.b64encode(next(words).encode()).decode()
            case "-H":
                name, _, value = next(words).partition(": ")
                call.headers[name] = value
            case _:
                assert word.startswith("http"), word
                call.url = word
    yield call
