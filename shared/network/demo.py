"""Sends the source's sample through the running chain, pays it, and has it refused: also the smoke test."""

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from network import http, lines, plan
from network.deadline import Deadline
from network.http import Answer
from network.records import Hop, Record, way
from network.tail import LogFolder
from network.terminal import Terminal, plain

CALLER, PASSWORD = "test", "123"
AUTHORIZATION = "Basic " + base64.b64encode(f"{CALLER}:{PASSWORD}".encode()).decode()
# Quote API §I
SAMPLE = {
    "currencyCode": "USD",
    "currencySymbol": "$",
    "amount": "12.50",
    "account": "http://ec2-35-166-236-69.us-west-2.compute.amazonaws.com:8088/ilp/ledger/v1/accounts/bob",
    "identifier": "30754016",
    "identifierType": "eur",
    "transferType": "p2p",
}
_EXPECTED_AMOUNT = "13.75"
_OTHER_AMOUNT = "20.00"
_LOG_SECONDS = 2.0
_DATABASE_SECONDS = 10
_LONGEST = 600
_EXPIRE = "UPDATE quote SET expires = date_trunc('milliseconds', clock_timestamp() - interval '1 second') WHERE uuid = $1"
# what makes the sample answer otherwise than in the source, without anything being wrong
OWN_SETTINGS = (
    "QUOTES_USERS_FILE",
    "QUOTES_FEE_SCHEDULE",
    "QUOTES_DIRECTORY_URL",
    "QUOTES_DIRECTORY_FILE",
    "QUOTES_SUBMISSION_URLS",
)


class DemoError(RuntimeError):
    """A step answered something else than expected."""


class OwnSettingsError(RuntimeError):
    """The sample is not accepted under settings of the user's own, which is no fault."""


@dataclass(frozen=True)
class _Refusal:
    why: str
    status: int
    id: str
    field: str | None = None


class Demo:
    """`run` says each step; raises `DemoError` at the first unexpected answer.

    `settings` are names of variables that the user has set and that change what the sample answers.
    """

    def __init__(
        self, origin: str, *, dsn: str, logs: Path, terminal: Terminal, settings: Sequence[str] = ()
    ) -> None:
        self._origin = origin
        self._dsn = dsn
        self._logs = logs
        self._terminal = terminal
        self._settings = settings
        self.traces: list[str] = []

    def run(self) -> None:
        uuid = self._quote()
        self._pay(uuid)
        self._refusals()

    def _quote(self) -> str:
        url = f"{self._origin}/v1/quoteSourceAmount"
        self._title("A quote is asked for")
        self._say(f"POST {url}")
        key, trace = str(uuid4()), self._new_trace()
        headers = self._headers(trace) | {"Idempotency-Key": key}
        for name, value in headers.items():
            self._say(self._dim(f"{name}: {value}"))
        self._say(json.dumps(SAMPLE))
        with closing(LogFolder(self._logs)) as folder:
            folder.to_end()
            answer = http.send("POST", url, headers=headers, body=_body(SAMPLE))
            if answer.status != HTTPStatus.OK and self._settings:
                raise OwnSettingsError(f"{_told(answer)}\nas {' and '.join(self._settings)} may well have it")
            self._expect(answer, HTTPStatus.OK)
            self._title("Its way through the chain")
            self._way(self._hops(folder, trace))
        self._title("The reply")
        self._show(answer)
        self._fee(answer)
        return str(answer.json.get("uuid"))

    def _fee(self, answer: Answer) -> None:
        amount = str(answer.json.get("amount"))
        if amount != _EXPECTED_AMOUNT and not self._settings:
            raise DemoError(f"expected the amount {_EXPECTED_AMOUNT}, as in the Quote API")
        try:
            fee = Decimal(amount) - Decimal(SAMPLE["amount"])
        except InvalidOperation:
            raise DemoError(f"{amount!r} is no amount") from None
        self._say(f"fee: {amount} - {SAMPLE['amount']} = {fee} {SAMPLE['currencyCode']}")

    def _way(self, hops: Sequence[Hop]) -> None:
        start = hops[0].began if hops else 0.0
        self._say(self._dim(f"{'began after':>12}  {'took':>10}"))
        for hop in hops:
            began, took = (hop.began - start) * 1000, hop.record.duration_ms
            name = lines.service(hop.record.service, self._terminal)
            request = f"{hop.record.word('method')} {hop.record.word('path')}"
            status = self._terminal.paint(str(hop.record.status), lines.status_colour(hop.record.status))
            self._say(f"{began:9.0f} ms  {took:7.1f} ms  {name}  {status}  {plain(request)}")
        if missing := [
            name for name in self._on_the_way() if name not in {hop.record.service for hop in hops}
        ]:
            raise DemoError(f"the logs in {self._logs} say nothing of {', '.join(missing)}")

    def _hops(self, folder: LogFolder, trace: str) -> list[Hop]:
        """Read the trace's lines from the logs, where they arrive a little later than the reply."""
        found: list[Record] = []
        deadline = Deadline(_LOG_SECONDS, 0.05)
        while deadline.waits():
            read = folder.read(folder.chunks(), holding=trace)
            found += [record for record in read if record.trace_id == trace]
            if {record.service for record in found} >= set(self._on_the_way()):
                break
        return way(record for record in found if record.is_request)

    def _on_the_way(self) -> tuple[str, ...]:
        # a directory of the user's own writes its log elsewhere
        elsewhere = "QUOTES_DIRECTORY_URL" in self._settings
        return tuple(name for name in plan.CHAIN if not (elsewhere and name == "central-directory"))

    def _pay(self, uuid: str) -> None:
        self._title("It is paid against exactly those terms")
        answer = self._put(uuid, SAMPLE)
        self._expect(answer, HTTPStatus.OK)
        self._show(answer)
        if answer.json.get("state") != "EXECUTED":
            raise DemoError("expected the state EXECUTED")

    def _refusals(self) -> None:
        self._title("What is refused (Quote API §III)")
        unknown, expired, other = str(uuid4()), self._reserve(), self._reserve()
        self._refused(unknown, SAMPLE, _Refusal("a uuid that nobody reserved", 404, "QuoteNotFoundError"))
        self._say(self._dim("(nobody waits: the demonstration sets its own second quote's `expires` back)"))
        asyncio.run(_expire(self._dsn, expired))
        self._refused(expired, SAMPLE, _Refusal("an expired quote", 410, "QuoteExpiredError"))
        changed = {**SAMPLE, "amount": _OTHER_AMOUNT}
        refusal = _Refusal(f"an amount of {_OTHER_AMOUNT} instead", 409, "QuoteMismatchError", "amount")
        self._refused(other, changed, refusal)

    def _reserve(self) -> str:
        headers = self._headers(self._new_trace()) | {"Idempotency-Key": str(uuid4())}
        answer = http.send(
            "POST", f"{self._origin}/v1/quoteSourceAmount", headers=headers, body=_body(SAMPLE)
        )
        self._expect(answer, HTTPStatus.OK)
        return str(answer.json.get("uuid"))

    def _refused(self, uuid: str, request: Mapping[str, str], refusal: _Refusal) -> None:
        answer = self._put(uuid, request, f"{refusal.why}: ")
        self._expect(answer, refusal.status)
        error = answer.json
        fields = _fields(error)
        named = f" [{', '.join(fields)}]" if fields else ""
        status = self._terminal.paint(str(answer.status), lines.status_colour(answer.status))
        self._say(plain(f"{error.get('id')}: {error.get('message')}{named}"), before=status)
        if error.get("id") != refusal.id or (refusal.field and refusal.field not in fields):
            raise DemoError(f"expected {refusal.id}" + (f" naming {refusal.field}" if refusal.field else ""))

    def _put(self, uuid: str, request: Mapping[str, str], why: str = "") -> Answer:
        path = f"/v1/payments/{uuid}"
        self._say(f"{why}PUT {path}")
        headers = self._headers(self._new_trace())
        return http.send("PUT", self._origin + path, headers=headers, body=_body(request))

    def _new_trace(self) -> str:
        self.traces.append(str(uuid4()))
        return self.traces[-1]

    def _headers(self, trace: str) -> dict[str, str]:
        return {"Content-Type": "application/json", "Authorization": AUTHORIZATION, "L1p-Trace-Id": trace}

    def _expect(self, answer: Answer, status: int) -> None:
        if answer.status != status:
            raise DemoError(f"expected {status}, got {_told(answer)}")

    def _title(self, text: str) -> None:
        self._terminal.say()
        self._terminal.say(self._terminal.paint(text, "bold"))

    def _show(self, answer: Answer) -> None:
        status = self._terminal.paint(str(answer.status), lines.status_colour(answer.status))
        self._say(plain(answer.text.strip()[:_LONGEST]), before=status)

    def _say(self, text: str, *, before: str = "") -> None:
        self._terminal.say(f"  {before}{'  ' if before else ''}{text}")

    def _dim(self, text: str) -> str:
        return self._terminal.paint(text, "dim")


def curl(origin: str) -> str:
    """Return the sample as a line for a shell."""
    return f"curl -u {CALLER}:{PASSWORD} -d '{json.dumps(SAMPLE)}' {origin}/v1/quoteSourceAmount"


async def _expire(dsn: str, uuid: str) -> None:
    connection = await asyncpg.connect(dsn, timeout=_DATABASE_SECONDS)
    try:
        done = await connection.execute(_EXPIRE, UUID(uuid), timeout=_DATABASE_SECONDS)
    finally:
        await connection.close()
    if done != "UPDATE 1":
        raise DemoError(f"the quote {uuid} is not in the database: {done}")


def _body(request: Mapping[str, str]) -> bytes:
    return json.dumps(request).encode()


def _told(answer: Answer) -> str:
    return f"{answer.status} {plain(answer.text.strip()[:_LONGEST])}"


def _fields(error: Mapping[str, Any]) -> list[str]:
    found = error.get("validationErrors")
    entries = found if isinstance(found, list) else []
    params = [entry.get("params") for entry in entries if isinstance(entry, dict)]
    return [plain(str(one.get("key"))) for one in params if isinstance(one, dict)]
