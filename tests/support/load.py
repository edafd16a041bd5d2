"""Steady load: workers reserve, pay and look up quotes. They repeat requests with an unknown outcome (wire.md §3)."""

import asyncio
import itertools
import random
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import asyncpg
import orjson

from support.documented import OUTCOME_UNKNOWN, why_undocumented
from support.messages import KEY, LOOK_UP_QUERY, QUOTE, RESERVE, TRACE, headers

WORKERS: Final = 20
PAUSE_SECONDS: Final = 0.1
GIVE_UP_SECONDS: Final = 60.0
PATIENCE_SECONDS: Final = 10.0
"""Seconds that a response may arrive after its deadline, because the machine may be slow."""


@dataclass(frozen=True)
class RequestOutcome:
    """One request with its response, or with the error of its connection."""

    method: str
    target: str
    trace_id: str
    begun: float
    """Time of the monotonic clock at which the request was sent."""
    seconds: float
    timeout_ms: int
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    error: str | None = None

    @property
    def json(self) -> dict[str, Any]:
        return orjson.loads(self.body)

    @property
    def problem(self) -> str | None:
        """Fault of the response, or the connection error; None if the response is documented and came in time."""
        if self.status is None:
            return f"{self.method} {self.target}: {self.error}"
        late = self.seconds - self.timeout_ms / 1000
        if late > PATIENCE_SECONDS:
            return f"{self.method} {self.target}: {self.status} arrived {late:.1f} s after its deadline"
        wrong = why_undocumented(self.status, self.headers, self.body, self.trace_id)
        return f"{self.method} {self.target}: {wrong}" if wrong else None


@dataclass
class TrackedPayment:
    """One quote: its idempotency key, its request, and all 200 responses about it."""

    key: str
    request: dict[str, str]
    reserved: list[RequestOutcome] = field(default_factory=list)
    executed: list[RequestOutcome] = field(default_factory=list)
    looked_up: list[RequestOutcome] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        return bool(self.reserved and self.executed and self.looked_up)

    @property
    def uuid(self) -> str:
        return self.reserved[0].json["uuid"]


class Load:
    """Workers that make payments until they are stopped. Keeps each request and its outcome."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        timeout_ms: int = 4_000,
        max_payments: int = 2_000,
        workers: int = WORKERS,
        identifier: str = QUOTE["identifier"],
        rest_seconds: float = 0.0,
    ) -> None:
        """Requests and their repetitions go to ``urls`` in turn.

        Each worker rests between two payments, because these tests are about faults, not about capacity.
        """
        self._rest_seconds = rest_seconds
        self._workers = workers
        self._request = {**QUOTE, "identifier": identifier}
        self._query = LOOK_UP_QUERY.replace(QUOTE["identifier"], identifier)
        self.payments: list[TrackedPayment] = []
        self.outcomes: list[RequestOutcome] = []
        self._urls: Iterator[str] = itertools.cycle(urls)
        self._timeout_ms = timeout_ms
        self._max_payments = max_payments
        self._stopping = False
        self._random = random.Random(20170511)

    @property
    def problems(self) -> list[str]:
        """The faults of all responses, and all connection errors."""
        return [outcome.problem for outcome in self.outcomes if outcome.problem]

    @property
    def undocumented(self) -> list[str]:
        """The faults of all responses, without connection errors."""
        return [each.problem for each in self.outcomes if each.status is not None and each.problem]

    def statuses(self) -> set[int | None]:
        return {outcome.status for outcome in self.outcomes}

    async def more(self, payments: int, *, seconds: float = 60) -> None:
        """Wait until `payments` further payments are complete."""
        async with asyncio.timeout(seconds):
            wanted = self._complete() + payments
            while self._complete() < wanted:
                await asyncio.sleep(0.02)

    async def until_status(self, *statuses: int, seconds: float = 60) -> None:
        """Wait until a request that is sent from now on has a response with one of these statuses."""
        begun = time.monotonic()
        async with asyncio.timeout(seconds):
            while not any(each.status in statuses for each in self.begun_after(begun)):
                await asyncio.sleep(0.02)

    def begun_after(self, moment: float) -> list[RequestOutcome]:
        """Return the outcomes so far of the requests that were sent after a time of the monotonic clock."""
        return [each for each in self.outcomes if each.begun > moment]

    def _complete(self) -> int:
        return sum(payment.is_complete for payment in self.payments)

    @asynccontextmanager
    async def running(self, client: aiohttp.ClientSession) -> AsyncIterator["Load"]:
        """Run the workers while the block runs. At the end, every worker completes its current payment."""
        self._stopping = False
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._work(client))
            try:
                yield self
            finally:
                self._stopping = True

    async def _work(self, client: aiohttp.ClientSession) -> None:
        while not self._stopping and len(self.payments) < self._max_payments:
            amount = f"{self._random.randrange(1, 100_000)}.{self._random.randrange(100):02}"
            payment = TrackedPayment(f"load-{uuid.uuid4()}", {**self._request, "amount": amount})
            self.payments.append(payment)
            await self._pay(client, payment)
            await asyncio.sleep(self._rest_seconds)

    async def _pay(self, client: aiohttp.ClientSession, payment: TrackedPayment) -> None:
        reserve = await self.until_answered(client, "POST", RESERVE, payment.request, payment.key)
        if reserve is None:
            return
        payment.reserved.append(reserve)
        path = f"/v1/payments/{payment.uuid}"
        execute = await self.until_answered(client, "PUT", path, payment.request)
        if execute is None:
            return
        payment.executed.append(execute)
        path = f"/v1/quote/{payment.uuid}?{self._query}"
        look_up = await self.until_answered(client, "GET", path)
        if look_up is not None:
            payment.looked_up.append(look_up)

    async def until_answered(
        self,
        client: aiohttp.ClientSession,
        method: str,
        target: str,
        body: dict[str, str] | None = None,
        key: str | None = None,
    ) -> RequestOutcome | None:
        """Repeat a request with the same idempotency key until its outcome is known.

        Return the 200 response; None after another outcome, or if the outcome is unknown for GIVE_UP_SECONDS.
        """
        give_up = time.monotonic() + GIVE_UP_SECONDS
        while time.monotonic() < give_up:
            outcome = await self.send(client, method, target, body, key)
            if outcome.status == 200:
                return outcome
            if outcome.status is not None and outcome.status not in OUTCOME_UNKNOWN:
                return None
            await asyncio.sleep(PAUSE_SECONDS)
        return None

    async def send(
        self,
        client: aiohttp.ClientSession,
        method: str,
        target: str,
        body: dict[str, str] | None = None,
        key: str | None = None,
    ) -> RequestOutcome:
        trace_id = str(uuid.uuid4())
        made = headers(**{TRACE: trace_id, "X-Request-Timeout-Ms": str(self._timeout_ms)})
        if key is not None:
            made[KEY] = key
        started = time.monotonic()
        known: dict[str, Any] = {}
        try:
            async with client.request(method, next(self._urls) + target, json=body, headers=made) as reply:
                known = {"status": reply.status, "headers": dict(reply.headers), "body": await reply.read()}
        except (aiohttp.ClientError, TimeoutError) as error:
            known = {"error": repr(error)}
        seconds = time.monotonic() - started
        outcome = RequestOutcome(method, target, trace_id, started, seconds, self._timeout_ms, **known)
        self.outcomes.append(outcome)
        return outcome

    async def repeat_all(self, client: aiohttp.ClientSession) -> None:
        """Reserve, pay and look up each payment once more with the same key, and add the responses to the payment."""
        pending = asyncio.Queue[TrackedPayment]()
        for payment in self.payments:
            pending.put_nowait(payment)

        async def work() -> None:
            while not pending.empty():
                await self._pay(client, pending.get_nowait())

        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(work())


async def broken_promises(load: Load, database_url: str) -> list[str]:
    """Return the differences between the responses to callers and the payee's table (wire.md §7, promises 1 to 3)."""
    connection = await asyncpg.connect(database_url)
    try:
        rows = {str(row["uuid"]): row for row in await connection.fetch("SELECT * FROM quote")}
    finally:
        await connection.close()
    broken = [f"{len(rows)} rows for {len(load.payments)} keys"] if len(rows) != len(load.payments) else []
    return broken + broken_by(load.payments, rows)


def broken_by(payments: Sequence[TrackedPayment], rows: Mapping[str, Any]) -> list[str]:
    """Return the differences between the responses to callers and the payee's rows. `rows` has them by uuid."""
    broken = [fault for payment in payments for fault in _broken(payment, rows)]
    uuids = [payment.uuid for payment in payments if payment.reserved]
    if len(set(uuids)) != len(uuids):
        broken.append("two keys have one quote")
    return broken


def _broken(payment: TrackedPayment, rows: Mapping[str, Any]) -> list[str]:
    if not payment.is_complete:
        return [f"{payment.key} was never completed"]
    row = rows.get(payment.uuid)
    if row is None:
        return [f"{payment.key} was reserved but has no row"]
    broken = []
    if len({outcome.body for outcome in payment.reserved}) != 1:
        broken.append(f"{payment.key} was reserved with different terms")
    if len({outcome.body for outcome in payment.executed}) != 1:
        broken.append(f"{payment.key} was executed more than once")
    quote, execution = payment.reserved[0].json, payment.executed[0].json
    stored = {
        "amount": str(row["source_amount"]),
        "expires": _format_time(row["expires"]),
        "executed": row["executed"] and _format_time(row["executed"]),
        "destination": str(row["destination_amount"]),
        "request": orjson.loads(row["request"]),
    }
    answered = {
        "amount": quote["amount"],
        "expires": quote["expires"],
        "executed": execution["executed"],
        "destination": payment.request["amount"],
        "request": payment.request,
    }
    if stored != answered:
        broken.append(f"{payment.key}: the replies say {answered}, the row says {stored}")
    return broken


def _format_time(time_: Any) -> str:
    return time_.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time_.microsecond // 1000:03}Z"
