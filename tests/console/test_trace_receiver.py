"""`POST /v1/traces` of a running console: who may send, what is stored, and full queues."""

import asyncio
import gzip
import io
import json

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from chassis.errors import UnavailableError
from console.traces import receiver
from console.traces.otlp import JSON, MAX_BYTES, MAX_SENT_BYTES, PROTOBUF
from console.traces.receiver import TraceReceiver
from support.console import OPERATOR, VIEWER, RunningConsole, basic
from support.otlp_exports import SENT, TRACE_ID, as_protobuf, sent
from support.payee import until
from support.responses import ReceivedResponse

NO_DATABASE = "postgresql://postgres@127.0.0.1:1/none"


async def export(
    console: RunningConsole, body: bytes, media_type: str = JSON, **headers: str
) -> ReceivedResponse:
    given = {"Content-Type": media_type, **{name.replace("_", "-"): value for name, value in headers.items()}}
    async with console.client.post(
        f"{console.url}/v1/traces", data=io.BytesIO(body), headers=given
    ) as response:
        return ReceivedResponse(response.status, await response.read(), response.headers)


async def stored(console: RunningConsole, trace: str = TRACE_ID) -> list[str]:
    return [span.span_id for span in await console.console.timelines.spans.of_trace(trace)]


@pytest.fixture
async def console(start) -> RunningConsole:
    return await ready(await start())


async def ready(console: RunningConsole) -> RunningConsole:
    async def is_ready() -> bool:
        return not await console.console.database.missing()

    await until(is_ready)
    return console


async def test_spans_are_stored_before_the_answer(console):
    got = await export(console, json.dumps(SENT).encode())
    again = await export(console, as_protobuf(SENT), PROTOBUF)

    assert (200, b"{}", JSON) == (got.status, got.body, got.headers["Content-Type"])
    assert (200, b"", PROTOBUF) == (again.status, again.body, again.headers["Content-Type"])
    assert 1 == len(await stored(console))


async def test_a_gzipped_export_is_stored(console):
    got = await export(console, gzip.compress(as_protobuf(SENT)), PROTOBUF, Content_Encoding="gzip")

    assert 200 == got.status
    assert 1 == len(await stored(console))


async def test_spans_at_fault_are_counted_in_the_answer(console):
    got = await export(console, as_protobuf(sent(traceId="00" * 16)), PROTOBUF)

    assert 200 == got.status
    assert 1 == ExportTraceServiceResponse.FromString(got.body).partial_success.rejected_spans


@pytest.mark.parametrize(
    ("body", "headers", "status", "id_"),
    [
        (b"{", {}, 400, "InvalidBodyError"),
        (b"x" * (MAX_SENT_BYTES + 1), {}, 413, "PayloadTooLargeError"),
        (gzip.compress(b"x" * (MAX_BYTES + 1)), {"Content_Encoding": "gzip"}, 413, "PayloadTooLargeError"),
        (b"{}", {"Content_Encoding": "br"}, 415, "UnsupportedMediaTypeError"),
        (b"{}", {"media_type": "text/plain"}, 415, "UnsupportedMediaTypeError"),
    ],
)
async def test_an_export_that_cannot_be_read_is_refused(console, body, headers, status, id_):
    got = await export(console, body, **headers)

    assert (status, id_) == (got.status, got.json["id"])


@pytest.mark.parametrize(("user", "status"), [(None, 401), (OPERATOR, 200), (VIEWER, 200)])
async def test_from_other_networks_credentials_are_needed(start, user, status):
    console = await ready(await start(traces_from="192.0.2.0/24"))
    headers = {} if user is None else {"Authorization": basic(user)}

    assert status == (await export(console, json.dumps(SENT).encode(), **headers)).status
    assert (status == 200) == bool(await stored(console))


async def test_while_the_database_is_away_the_sender_shall_try_again(start):
    console = await start(database_url=NO_DATABASE)
    got = await export(console, json.dumps(SENT).encode())

    assert (503, "1") == (got.status, got.headers["Retry-After"])


class HeldRepository:
    """A repository whose inserts wait."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.inserts: list[int] = []

    async def insert(self, spans, _deadline) -> None:
        await self.released.wait()
        self.inserts.append(len(spans))


async def test_exports_wait_for_their_turn_and_are_stored_together(console, monkeypatch):
    """More exports than there is room for: the last ones are refused at once, and the others stored by few statements."""
    held = HeldRepository()
    monkeypatch.setattr(receiver, "MAX_READING", 1_000)
    monkeypatch.setattr(console.console.timelines.spans, "insert", held.insert)
    room = receiver.MAX_WAITING
    in_statements = receiver.MAX_STATEMENTS * receiver.EXPORTS_PER_STATEMENT
    results = [
        asyncio.create_task(export(console, json.dumps(sent(spanId=f"{number + 1:016x}")).encode()))
        for number in range(room + in_statements + 10)
    ]

    async def are_some_refused() -> bool:
        return any(each.done() for each in results)

    await until(are_some_refused)
    held.released.set()
    statuses = [(await each).status for each in results]

    assert {200, 503} == set(statuses)
    assert room <= statuses.count(200) == sum(held.inserts)
    assert receiver.EXPORTS_PER_STATEMENT == max(held.inserts)


async def test_too_many_exports_that_wait_to_be_read_are_refused(monkeypatch):
    monkeypatch.setattr(receiver, "MAX_READING", 0)

    with pytest.raises(UnavailableError):
        await TraceReceiver(None, ())._read(b"{}", "", JSON)


async def test_old_spans_are_deleted_while_the_console_runs(start, monkeypatch):
    monkeypatch.setattr("console.app.RETENTION_SECONDS", 0.01)
    console = await ready(await start(traces_max_rows=1_000))
    await export(console, json.dumps(SENT).encode())
    await console.console.database.fetch("UPDATE span SET received = received - interval '2 days'")

    async def is_deleted() -> bool:
        return not await stored(console)

    await until(is_deleted)


async def test_the_spans_that_wait_are_limited_too(console, monkeypatch):
    """An export may have thousands of spans, so to count the exports is not enough."""
    held = HeldRepository()
    monkeypatch.setattr(receiver, "MAX_WAITING_SPANS", 1)
    monkeypatch.setattr(console.console.timelines.spans, "insert", held.insert)
    first, second = (
        asyncio.create_task(export(console, json.dumps(sent(spanId=f"{number:016x}")).encode()))
        for number in (1, 2)
    )
    done, _ = await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
    held.released.set()

    assert [503] == [each.result().status for each in done]
    assert {200, 503} == {(await first).status, (await second).status}
    assert 200 == (await export(console, json.dumps(SENT).encode())).status
