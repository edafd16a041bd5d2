"""`quotes events`: a local webhook that verifies events, and the signals of a strategy."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from standardwebhooks import Webhook

from dfsp_quotes.cli.received_events import read, signature_problem, webhook_of, without_secrets
from support import provider as provider_support
from support.chain import free_ports
from support.command_line import PATIENCE_SECONDS, CommandLine
from support.provider import STRATEGY, Provider
from support.serving import reply, stub

SECRET = "whsec_hYzqK8wkH1D4Fe5x/rIPnqvFvXtC0kM4tpCFgr+F3fM="
EVENT = {
    "timestamp": 1549623690730,
    "type": "SIGNAL_OPEN",
    "integration": {"name": "a", "webhook": {"url": "https://foo.bar/", "headers": {"x-token": "baz"}}},
    "data": {
        "direction": "BUY",
        "ticker": "XAUUSD",
        "quantity": 10,
        "strategy": {"id": "1", "name": "Gold"},
        "proquantPositionId": "2",
    },
}


def body_of(event: object) -> bytes:
    return json.dumps({"v1": {"deprecation": None, "event": event}}).encode()


def signed(body: bytes, secret: str = SECRET, at: datetime | None = None) -> dict[str, str]:
    at = at or datetime.now(UTC)
    return {
        "webhook-id": "event-1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign("event-1", at, body.decode()),
    }


@pytest.fixture(scope="session")
def provider_users(tmp_path_factory) -> Path:
    return provider_support.write_users(tmp_path_factory.mktemp("provider") / "users")


@pytest.fixture
async def provider(database_url, provider_users, client) -> AsyncIterator[Provider]:
    async with provider_support.provider(database_url, provider_users, client) as started:
        yield started


@asynccontextmanager
async def listening(quotes: CommandLine, *options: object) -> AsyncIterator[asyncio.subprocess.Process]:
    """`quotes events listen` that has printed its address, which is in `url`."""
    process = await quotes.start("events", "listen", "--json", *options)
    try:
        process.url = (await line_of(process))["listening"]
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await process.communicate()


async def line_of(process: asyncio.subprocess.Process) -> dict:
    async with asyncio.timeout(PATIENCE_SECONDS):
        line = await process.stdout.readline()
    return json.loads(line)


async def ended(process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await process.wait()


async def test_a_triggered_signal_arrives_signed(bare, provider):
    port = free_ports()
    created = await provider.requested(f"http://127.0.0.1:{port}/hook")
    (bare.home / "secret").write_text(created["signingSecret"])
    environment = {
        "QUOTES_INTEGRATIONS_URL": provider.url,
        "QUOTES_USER": "engine",
        "QUOTES_PASSWORD": "sample",
    }
    engine = CommandLine(bare.home, environment)
    async with listening(bare, "--port", port, "--secret-file", "secret", "--count", 3) as listener:
        await provider.do("approve", created["id"])
        await provider.strategy()
        await provider.switch("PUT", created["id"])
        sent = await engine.json(
            "events", "trigger", STRATEGY, "OPEN", "BUY", "XAUUSD", "0.10", "--position", "p1"
        )
        received = [await line_of(listener) for _ in range(3)]
        code = await ended(listener)
    [opened] = [each for each in received if each["event"]["type"] == "SIGNAL_OPEN"]

    assert (0, 1, "0.10") == (code, sent["events"], sent["quantity"])
    assert {"valid"} == {each["signature"] for each in received}
    assert [[], [], []] == [each["problems"] for each in received]
    assert ("p1", "BUY", 0.10) == tuple(
        opened["event"]["data"][name] for name in ("proquantPositionId", "direction", "quantity")
    )
    assert {"x-foo-bar-api-token": "***"} == opened["event"]["integration"]["webhook"]["headers"]


async def test_the_same_signal_id_is_one_signal(bare, provider):
    await provider.strategy()
    environment = {
        "QUOTES_INTEGRATIONS_URL": provider.url,
        "QUOTES_USER": "engine",
        "QUOTES_PASSWORD": "sample",
    }
    engine = CommandLine(bare.home, environment)
    arguments = (
        "events",
        "trigger",
        STRATEGY,
        "OPEN",
        "BUY",
        "XAUUSD",
        "10",
        "--signal-id",
        "s1",
        "--position",
        "p",
    )
    first, second = await engine.json(*arguments), await engine.json(*arguments)
    other = await engine.error(1, *[each.replace("BUY", "SELL") for each in arguments])

    assert first == second
    assert "(ConflictError, service integrations, trace id " in other


async def test_the_digits_of_a_quantity_are_sent_as_they_were_written(bare):
    async with stub(reply(202, {"events": 0})) as server:
        environment = {"QUOTES_INTEGRATIONS_URL": server.url, "QUOTES_USER": "e", "QUOTES_PASSWORD": "p"}
        engine = CommandLine(bare.home, environment)
        await engine.json("events", "trigger", "gold", "CLOSE", "SELL", "XAUUSD", "123456789.123456789")

    assert b'"quantity": 123456789.123456789}' in server.seen[0].body
    assert "/v1/strategies/gold/signals" == server.seen[0].target


async def test_a_wrong_signature_is_a_problem_and_exit_code_1(bare, client):
    (bare.home / "secret").write_text(SECRET)
    body = body_of(EVENT)
    async with listening(bare, "--port", 0, "--secret-file", "secret", "--count", 2) as listener:
        for headers in (signed(body), {**signed(body), "webhook-signature": "v1,AAAA"}):
            async with client.post(f"{listener.url}any/path", data=body, headers=headers) as response:
                assert (200, b"") == (response.status, await response.read())
        first, second = await line_of(listener), await line_of(listener)
        code = await ended(listener)

    assert ("valid", False, []) == (first["signature"], first["isRepetition"], first["problems"])
    assert ("invalid", True, ["signature: No matching signature found"]) == (
        second["signature"],
        second["isRepetition"],
        second["problems"],
    )
    assert ("/any/path", "event-1", 1) == (first["path"], first["webhookId"], code)


async def test_each_event_can_be_refused_with_an_error_of_the_guide(bare, client):
    async with (
        listening(bare, "--port", 0, "--respond", "MarketClosed", "--count", 1) as listener,
        client.post(listener.url, data=body_of(EVENT)) as response,
    ):
        assert (400, "1") == (response.status, response.headers["x-proquant-error"])
        assert {"type": "MarketClosed"} == await response.json()


async def test_a_terminal_shows_events_with_colours(bare, client):
    port = free_ports()
    (bare.home / "secret").write_text(SECRET)
    arguments = ("events", "listen", "--port", port, "--secret-file", "secret", "--count", 1)
    shown = asyncio.create_task(bare.on_terminal(*arguments))
    body = body_of(EVENT)
    await provider_support.until(lambda: posted(client, f"http://127.0.0.1:{port}", body))
    done = await shown

    assert 0 == done.code
    assert "\x1b[1mSIGNAL_OPEN" in done.output
    assert "signature \x1b[32mvalid" in done.output


async def posted(client, url: str, body: bytes) -> bool:
    try:
        async with client.post(url, data=body, headers=signed(body)):
            return True
    except OSError:  # it does not listen yet
        return False


@pytest.mark.parametrize(
    ("body", "problems"),
    [
        (body_of(EVENT), []),
        (body_of({**EVENT, "type": "INTEGRATION_APPROVED", "data": None}), []),
        (body_of({**EVENT, "type": "INTEGRATION_APPROVED"}), ["data is not null"]),
        (body_of({**EVENT, "type": "STRATEGY_ENABLED", "data": {"id": "1"}}), ["data has no name"]),
        (body_of({**EVENT, "data": {**EVENT["data"], "ticker": ""}}), []),
        (body_of({**EVENT, "data": None}), ["data is not an object"]),
        (body_of({**EVENT, "type": "X"}), ["type is not one of the guide"]),
        (body_of({**EVENT, "timestamp": True}), ["timestamp is not a whole number of milliseconds"]),
        (body_of({**EVENT, "integration": []}), ["integration is not an object"]),
        (body_of([]), ["the body has no v1.event"]),
        (b'{"v2": {}}', ["the body has no v1.event"]),
        (b"[]", ["the body has no v1.event"]),
        (b"\xff", ["the body is not JSON"]),
        (b"[" * 100_000, ["the body is not JSON"]),
    ],
)
def test_a_body_is_checked_against_the_guide(body, problems):
    assert problems == read(body)[1]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"webhook-timestamp": "x"},
        {"webhook-timestamp": str(10**30)},
        {"webhook-signature": "v1"},
        {"webhook-signature": "v1,a,b"},
        {"webhook-signature": "v1,ä"},
        {"webhook-signature": "v2,AAAA"},
        {"webhook-id": "other"},
    ],
)
def test_no_malformed_signature_is_valid(headers):
    body = body_of(EVENT)
    made = {**signed(body), **headers} if headers else {}

    assert signature_problem(webhook_of(SECRET), made, body)


def test_an_old_signature_is_not_valid():
    body = body_of(EVENT)
    headers = signed(body, at=datetime.now(UTC) - timedelta(minutes=6))

    assert "Message timestamp too old" == signature_problem(webhook_of(SECRET), headers, body)


@pytest.mark.parametrize("event", [None, {}, {"integration": 1}, {"integration": {"webhook": []}}])
def test_an_event_without_headers_is_shown_as_it_is(event):
    assert event == without_secrets(event)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("listen", "--respond", "Nope"), "--respond must be one of InsufficientFunds, QuantityTooLow, "),
        (("listen", "--port", "70000"), "--port must be from 0 to 65535."),
        (("listen", "--count", "0"), "--count must be above 0."),
        (("listen", "--secret-file", "none"), "none cannot be read: No such file or directory."),
        (("listen", "--secret-file", "secret"), "The signing secret must be whsec_ and base64."),
        (("trigger", "a/b", "OPEN", "BUY", "X", "1"), "STRATEGY must be 1 to 128 of "),
        (("trigger", "a", "OPEN", "BUY", "X", "1e3"), "QUANTITY must be a plain decimal number such as 10"),
        (("trigger", "a", "OPN", "BUY", "X", "1"), "Invalid value for 'TYPE': 'OPN' is not one of "),
        (
            ("trigger", "a", "OPEN", "BUY", "X", "1"),
            "--url is missing; set it, or QUOTES_INTEGRATIONS_URL, or integrations_url in ",
        ),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(refusal, tmp_path, arguments, message):
    (tmp_path / "secret").write_text("whsec_!!!")

    assert refusal("events", *arguments).startswith(message)


async def test_a_port_that_is_taken_is_bad_input(bare):
    async with stub(reply()) as server:
        message = await bare.error(2, "events", "listen", "--port", urlsplit(server.url).port)

    assert message.startswith(f"Port {urlsplit(server.url).port} cannot be used: ")
