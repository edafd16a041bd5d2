"""Send the sample request of the Quote API through the running chain, pay the quote, and show some refused requests.

It uses only the public API and the logs. It is also a smoke test.
"""

import base64
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import uuid4

from network import http_client, log_format, topology
from network.http_client import HttpReply
from network.log_files import LogFolder
from network.log_records import LoggedHop, LogRecord, order_hops
from network.polling import PollTimer
from network.terminal import Terminal, escape_controls

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
_MAX_EXPIRY_WAIT_SECONDS = 5.0
_SHORT_MS = 100
_MAX_SHOWN_LENGTH = 600
# with these settings the sample may get another reply than in the Quote API, without any fault
SETTINGS_THAT_CHANGE_IT = (
    "QUOTES_USERS_FILE",
    "QUOTES_FEE_SCHEDULE",
    "QUOTES_DIRECTORY_URL",
    "QUOTES_DIRECTORY_FILE",
    "QUOTES_SUBMISSION_URLS",
)


class DemoError(RuntimeError):
    """A reply differs from the expected one."""


@dataclass(frozen=True)
class _Refusal:
    reason: str
    status: int
    id: str
    field: str | None = None


class Demo:
    """Shows a sample quote: `run` prints each step, and raises `DemoError` at the first unexpected reply.

    `own_settings` names the variables that the user has set and that may change the replies.
    """

    def __init__(
        self, origin: str, *, logs: Path, terminal: Terminal, own_settings: Sequence[str] = ()
    ) -> None:
        self._origin = origin
        self._logs = logs
        self._terminal = terminal
        self._own_settings = own_settings
        self.trace_ids: list[str] = []

    def run(self) -> None:
        uuid = self._show_reservation()
        self._show_payment(uuid)
        self._show_refusals()

    def _show_reservation(self) -> str:
        url = f"{self._origin}/v1/quoteSourceAmount"
        self._print_title("Reserve a quote")
        self._print(f"POST {url}")
        key, trace_id = str(uuid4()), self._new_trace_id()
        headers = self._headers(trace_id) | {"Idempotency-Key": key}
        for name, value in headers.items():
            self._print(self._dim(f"{name}: {value}"))
        self._print(json.dumps(SAMPLE))
        with closing(LogFolder(self._logs)) as folder:
            folder.seek_end()
            reply = http_client.send("POST", url, headers=headers, body=_body(SAMPLE))
            self._expect_status(reply, HTTPStatus.OK)
            self._print_title("The request's way through the chain")
            self._print_hops(self._read_hops(folder, trace_id))
        self._print_title("The reply")
        self._print_reply(reply)
        self._print_fee(reply)
        return str(reply.json.get("uuid"))

    def _print_fee(self, reply: HttpReply) -> None:
        amount = str(reply.json.get("amount"))
        try:
            fee = Decimal(amount) - Decimal(SAMPLE["amount"])
        except InvalidOperation:
            raise DemoError(f"the reply's amount is not a number: {amount!r}") from None
        self._print(f"fee: {amount} - {SAMPLE['amount']} = {fee} {SAMPLE['currencyCode']}")
        if amount != _EXPECTED_AMOUNT and not self._own_settings:
            raise DemoError(f"the amount is {amount}; expected {_EXPECTED_AMOUNT}, as in the Quote API")

    def _print_hops(self, hops: Sequence[LoggedHop]) -> None:
        start = hops[0].start_time if hops else 0.0
        self._print(self._dim(f"{'started':>12}  {'took':>10}"))
        for hop in hops:
            started_ms, took_ms = (hop.start_time - start) * 1000, hop.record.duration_ms
            name = log_format.service_column(hop.record.service, self._terminal)
            request = f"{hop.record.text_of('method')} {hop.record.text_of('path')}"
            status = self._status(hop.record.status)
            self._print(
                f"{started_ms:9.0f} ms  {took_ms:7.1f} ms  {name}  {status}  {escape_controls(request)}"
            )
        logged = {hop.record.service for hop in hops}
        for name in self._expected_services():
            if name not in logged:
                self._print(self._dim(f"{name} logged no request: {self._why_not_logged(name)}"))

    @staticmethod
    def _why_not_logged(service: str) -> str:
        if service == topology.DIRECTORY:
            return "spsp-client-proxy had its answer in its cache"
        return f"see its log, or wait: services write their logs within {_LOG_SECONDS:.0f} s unless they are busy"

    def _read_hops(self, folder: LogFolder, trace_id: str) -> list[LoggedHop]:
        """Return the log lines of the trace. Wait for them, because they appear shortly after the reply."""
        found: list[LogRecord] = []
        wanted = trace_id.encode()
        timer = PollTimer(_LOG_SECONDS, 0.05)
        while timer.wait():
            records = folder.parse(folder.next_chunks(), lambda line: wanted in line)
            found += [record for record in records if record.trace_id == trace_id]
            if {record.service for record in found} >= set(self._expected_services()):
                break
        return order_hops(record for record in found if record.is_request)

    def _expected_services(self) -> tuple[str, ...]:
        # a directory of the user's own writes its log elsewhere
        has_own_directory = "QUOTES_DIRECTORY_URL" in self._own_settings
        return tuple(
            name for name in topology.CHAIN if not (has_own_directory and name == topology.DIRECTORY)
        )

    def _show_payment(self, uuid: str) -> None:
        self._print_title("Pay it under exactly these terms")
        reply = self._pay(uuid, SAMPLE)
        self._expect_status(reply, HTTPStatus.OK)
        self._print_reply(reply)
        if reply.json.get("state") != "EXECUTED":
            raise DemoError("the reply's state is not EXECUTED")

    def _show_refusals(self) -> None:
        self._print_title("What is refused (Quote API §III)")
        self._show_refusal(
            str(uuid4()), SAMPLE, _Refusal("a uuid that was never reserved", 404, "QuoteNotFoundError")
        )
        quote = self._reserve()
        changed = {**SAMPLE, "amount": _OTHER_AMOUNT}
        refusal = _Refusal(f"an amount of {_OTHER_AMOUNT} instead", 409, "QuoteMismatchError", "amount")
        self._show_refusal(str(quote.get("uuid")), changed, refusal)
        refusal = _Refusal(f"an expired quote (X-Quote-Lifetime-Ms: {_SHORT_MS})", 410, "QuoteExpiredError")
        quote = self._reserve(lifetime_ms=_SHORT_MS)
        seconds = _seconds_until(quote.get("expires"))
        if seconds > _MAX_EXPIRY_WAIT_SECONDS:  # another payee, which does not know the header
            self._print(
                f"{refusal.reason}: {refusal.status} {refusal.id} (not shown, since this one expires at"
                f" {escape_controls(str(quote.get('expires')))})"
            )
            return
        time.sleep(max(0.0, seconds) + 0.1)
        self._show_refusal(str(quote.get("uuid")), SAMPLE, refusal)

    def _reserve(self, *, lifetime_ms: int | None = None) -> dict[str, Any]:
        headers = self._headers(self._new_trace_id()) | {"Idempotency-Key": str(uuid4())}
        if lifetime_ms is not None:
            headers["X-Quote-Lifetime-Ms"] = str(lifetime_ms)
        reply = http_client.send(
            "POST", f"{self._origin}/v1/quoteSourceAmount", headers=headers, body=_body(SAMPLE)
        )
        self._expect_status(reply, HTTPStatus.OK)
        return reply.json

    def _show_refusal(self, uuid: str, request: Mapping[str, str], refusal: _Refusal) -> None:
        reply = self._pay(uuid, request, f"{refusal.reason}: ")
        self._expect_status(reply, refusal.status)
        error = reply.json
        fields = _error_fields(error)
        field_list = f" [{', '.join(fields)}]" if fields else ""
        text = f"{error.get('id')}: {error.get('message')}{field_list}"
        self._print(f"{self._status(reply.status)}  {escape_controls(text)}")
        if error.get("id") != refusal.id or (refusal.field and refusal.field not in fields):
            raise DemoError(
                f"expected {refusal.id}" + (f" for the field {refusal.field}" if refusal.field else "")
            )

    def _pay(self, uuid: str, request: Mapping[str, str], reason: str = "") -> HttpReply:
        path = f"/v1/payments/{uuid}"
        self._print(f"{reason}PUT {path}")
        headers = self._headers(self._new_trace_id())
        return http_client.send("PUT", self._origin + path, headers=headers, body=_body(request))

    def _new_trace_id(self) -> str:
        self.trace_ids.append(str(uuid4()))
        return self.trace_ids[-1]

    def _headers(self, trace_id: str) -> dict[str, str]:
        return {
            "Content-Type": "application/json",
            "Authorization": AUTHORIZATION,
            "L1p-Trace-Id": trace_id,
        }

    def _expect_status(self, reply: HttpReply, status: int) -> None:
        if reply.status == status:
            return
        text = f"the reply is {reply.status} {escape_controls(reply.text.strip()[:_MAX_SHOWN_LENGTH])}"
        reasons = [*self._own_settings]
        if reply.status == HTTPStatus.UNAUTHORIZED:
            reasons.append("a users file without the sample user")
        hint = f"; {' and '.join(reasons)} may be the reason" if reasons else ""
        raise DemoError(f"{text}\nexpected {status}{hint}")

    def _print_title(self, text: str) -> None:
        self._terminal.print_line()
        self._terminal.print_line(self._terminal.colour(text, "bold"))

    def _print_reply(self, reply: HttpReply) -> None:
        self._print(
            f"{self._status(reply.status)}  {escape_controls(reply.text.strip()[:_MAX_SHOWN_LENGTH])}"
        )

    def _print(self, text: str) -> None:
        self._terminal.print_line(f"  {text}")

    def _status(self, status: int) -> str:
        return self._terminal.colour(str(status), log_format.status_colour(status))

    def _dim(self, text: str) -> str:
        return self._terminal.colour(text, "dim")


def curl(origin: str) -> str:
    """Return the sample request as a curl command for a shell."""
    return f"curl -u {CALLER}:{PASSWORD} -d '{json.dumps(SAMPLE)}' {origin}/v1/quoteSourceAmount"


def _body(request: Mapping[str, str]) -> bytes:
    return json.dumps(request).encode()


def _seconds_until(expires: object) -> float:
    """Return the seconds until a quote's `expires`. Raises DemoError if `expires` is not a time."""
    try:
        return (datetime.fromisoformat(str(expires)) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        raise DemoError(f"the reply's expires is not a time: {expires!r}") from None


def _error_fields(error: Mapping[str, Any]) -> list[str]:
    found = error.get("validationErrors")
    entries = found if isinstance(found, list) else []
    params = [entry.get("params") for entry in entries if isinstance(entry, dict)]
    return [escape_controls(str(param.get("key"))) for param in params if isinstance(param, dict)]
