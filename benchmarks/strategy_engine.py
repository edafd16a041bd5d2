"""The parties outside the integration services: the strategy engine, a dead webhook, and a sender of POST requests."""

import asyncio
import base64
import itertools
import json
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

import aiohttp
import uvloop
from aiohttp import web

from benchmarks.errors import BenchmarkError
from network.samples import INTEGRATION_CALLERS
from network.topology import HOST

ENGINE: Final = "engine"
VERSION: Final = f"the benchmark's own client on aiohttp {aiohttp.__version__}"
AUTHORIZATION: Final = (
    "Basic " + base64.b64encode(f"{ENGINE}:{INTEGRATION_CALLERS[ENGINE]}".encode()).decode()
)
MAX_CALLS: Final = 256
"""Maximum of engine calls at the same time. A call that waits because of it is late, and the wait counts as lag."""
ANSWER_SECONDS: Final = 30
TICK_SECONDS: Final = 0.001
SIGNAL: Final = {"type": "REOPEN", "direction": "BUY", "ticker": "XAUUSD", "quantity": 0.01}
"""The signal that the engine sends. It is a REOPEN, because the receiver can execute REOPENs in any order."""
OK, ACCEPTED = 200, 202

T = TypeVar("T")


@dataclass(frozen=True)
class SentSignals:
    """The wall-clock time in seconds at which each signal was due, by position id; and the longest delay of a call."""

    due: Mapping[str, float]
    max_late_ms: float


class StrategyEngine:
    """Sends signals to the provider, and serves the dead webhook. Its event loop runs only during its methods.

    `with StrategyEngine() as engine: engine.run(engine.signals(…))`
    """

    def __init__(self) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._is_alive = asyncio.Event()
        self._numbers = itertools.count()
        self.dead_url = ""

    def __enter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)

        async def open_() -> tuple[aiohttp.ClientSession, web.AppRunner]:
            connector = aiohttp.TCPConnector(limit=0)
            return aiohttp.ClientSession(connector=connector, timeout=timeout), await self._serve_dead()

        self._client, self._dead = self.run(open_())
        return self

    def __exit__(self, *_: object) -> None:
        self._is_alive.set()

        async def close() -> None:
            await self._client.close()
            await self._dead.cleanup()

        self.run(close())
        self._runner.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def wait(self, seconds: float) -> None:
        """Run the event loop for some seconds, so that the dead webhook can answer."""
        self.run(asyncio.sleep(seconds))

    def set_dead(self, *, is_dead: bool) -> None:
        """If `is_dead`, the dead webhook accepts requests and does not answer; otherwise it answers with 200."""
        if is_dead:
            self._is_alive.clear()
        else:
            self._is_alive.set()

    async def _serve_dead(self) -> web.AppRunner:
        async def handle(_request: web.Request) -> web.Response:
            await self._is_alive.wait()
            return web.Response()

        app = web.Application()
        app.router.add_post("/", handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, HOST, 0).start()
        self.dead_url = f"http://{HOST}:{runner.addresses[0][1]}/"
        return runner

    async def call(self, method: str, url: str, body: Mapping[str, Any], *, expected: int) -> bytes:
        """Send a request and return the response body. Raises BenchmarkError if the status is not `expected`."""
        headers = {"Authorization": AUTHORIZATION}
        try:
            async with self._client.request(method, url, json=body, headers=headers) as reply:
                content = await reply.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise BenchmarkError(f"{method} {url}: {error!r}") from error
        if reply.status != expected:
            raise BenchmarkError(f"{method} {url} was answered with {reply.status}: {content[:300]!r}")
        return content

    async def signals(
        self, origin: str, run: str, strategies: Sequence[str], schedule: "SignalSchedule"
    ) -> SentSignals:
        """Send each signal when it is due, to the strategies in turn, without waiting for earlier responses.

        An extra call comes first, because the service checks the password at the first call and then once a minute.
        """
        await self.call("GET", f"{origin}/v1/me/integrations", {}, expected=OK)
        slots = asyncio.Semaphore(MAX_CALLS)
        due: dict[str, float] = {}
        began, began_wall = time.monotonic(), time.time()
        max_late = 0.0

        async def send(strategy: str, position: str, after: float) -> None:
            nonlocal max_late
            async with slots:
                max_late = max(max_late, time.monotonic() - began - after)
                url = f"{origin}/v1/strategies/{strategy}/signals"
                body = {"signalId": position, **SIGNAL, "proquantPositionId": position}
                await self.call("POST", url, body, expected=ACCEPTED)

        async with asyncio.TaskGroup() as group:
            for number, after in schedule.times():
                while (early := began + after - time.monotonic()) > 0:
                    await asyncio.sleep(max(early, TICK_SECONDS))
                position = f"{run}-{number}"
                due[position] = began_wall + after
                group.create_task(send(strategies[number % len(strategies)], position, after))
        return SentSignals(due, max_late * 1e3)

    async def posts(self, urls: Sequence[str], run: str, seconds: float) -> tuple[int, float]:
        """Send events to all URLs at once, one after another to each. Return their number and their rate per second."""
        began = time.monotonic()
        until = began + seconds
        counts = await asyncio.gather(*(self._post_until(url, run, until) for url in urls))
        return sum(counts), sum(counts) / (time.monotonic() - began)

    async def _post_until(self, url: str, run: str, until: float) -> int:
        for sent in itertools.count():
            if time.monotonic() >= until:
                return sent
            position = f"{run}-{next(self._numbers)}"
            headers = {"webhook-id": position, "Content-Type": "application/json"}
            async with self._client.post(url, data=event(run, position), headers=headers) as reply:
                content = await reply.read()
            if reply.status != OK:
                raise BenchmarkError(f"the receiver answered with {reply.status}: {content[:300]!r}")
        raise AssertionError  # count does not end


@dataclass(frozen=True)
class SignalSchedule:
    """The times at which signals are due: `rate` signals per second for `seconds`."""

    rate: float
    seconds: float

    def times(self) -> Iterator[tuple[int, float]]:
        """Return the number of each signal and the time at which it is due, in seconds after the start."""
        return ((number, number / self.rate) for number in range(int(self.rate * self.seconds)))


def event(strategy: str, position: str) -> bytes:
    """Return the body of a webhook request, in the form in which the provider writes it."""
    data = {
        **{name: value for name, value in SIGNAL.items() if name != "type"},
        "strategy": {"id": strategy, "name": strategy},
        "proquantPositionId": position,
    }
    content = {
        "timestamp": int(time.time() * 1e3),
        "type": f"SIGNAL_{SIGNAL['type']}",
        "integration": {
            "name": "Benchmark",
            "description": "A lane",
            "imageUrl": "https://foo.bar/logo.png",
            "webhook": {"url": "https://foo.bar/api/proquant", "headers": {}},
        },
        "data": data,
    }
    return json.dumps({"v1": {"deprecation": None, "event": content}}, separators=(",", ":")).encode()
