"""Start, health, logs, metrics, the OpenAPI document and the accounts file."""

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from standardwebhooks import Webhook

from chassis.app import SERVICE
from chassis.run import StartError
from chassis.settings import load
from signal_receiver.app import ReceiverSettings, create_app
from support.receiver import Sender, envelope, settings_of, signal
from support.serving import served

UNREACHABLE = "postgresql://nobody@127.0.0.1:1/nothing"


async def test_a_token_in_a_path_never_appears_in_the_log(logged):
    sender, lines = logged
    requests = [
        ("POST", "/webhook/sEcReT-token"),
        ("POST", "/%77ebhook/sEcReT-token"),
        ("POST", "/webhook/sEcReT-token/"),
        ("POST", "//webhook/sEcReT-token"),
        ("GET", "/webhook/sEcReT-token"),
        ("POST", "/webhooks/sEcReT-token"),
        ("POST", "/sEcReT-token"),
    ]
    for method, path in requests:
        await sender.call(method, path, envelope(signal("OPEN")), authorization=None)

    assert len(requests) == len([line for line in lines if line["event"] == "request"])
    assert "sEcReT" not in json.dumps(lines)


async def test_a_log_line_names_the_account_and_the_typed_error(logged):
    sender, lines = logged
    await sender.send("CLOSE")
    (line,) = [line for line in lines if line["event"] == "request"]

    assert ("sample", "/webhook/{accountToken}", 404, "PositionNotFound") == (
        line["caller"],
        line["path"],
        line["status"],
        line["id"],
    )


async def test_a_deprecated_version_is_logged_once(logged):
    """Guide: It is your responsibility to track the value of deprecation..."""
    sender, lines = logged
    body = json.dumps(envelope(signal("CLOSE"), "2030-01-01T00:00:00.000Z")).encode()
    for _ in range(2):
        await sender.deliver(body)

    assert [("v1", "2030-01-01T00:00:00.000Z")] == [
        (line["version"], line["deprecation"])
        for line in lines
        if line["event"] == "the event version is deprecated"
    ]


async def test_events_are_counted_by_type_and_outcome(receiver):
    await receiver.send("OPEN")
    await receiver.send("OPEN")
    await receiver.deliver({**signal("OPEN"), "type": "MADE_UP"})
    text = (await receiver.call("GET", "/metrics", authorization=None)).body.decode()

    assert 'events_total{outcome="ok",type="SIGNAL_OPEN"} 1.0' in text
    assert 'events_total{outcome="PositionAlreadyExists",type="SIGNAL_OPEN"} 1.0' in text
    assert 'events_total{outcome="ok",type="other"} 1.0' in text
    assert 'requests_total{method="POST",route="/webhook/{accountToken}",status="409"} 1.0' in text


async def test_without_its_database_it_is_not_ready_and_answers_an_untyped_503(users_file, client, tmp_path):
    async with served(create_app(settings_of(UNREACHABLE, users_file, tmp_path))) as url:
        sender = Sender(client, url)
        answers = [
            await sender.call("GET", "/health/ready"),
            await sender.send("OPEN"),
            await sender.call("GET", "/v1/accounts/sample/positions"),
        ]

    assert [503, 503, 503] == [answer.status for answer in answers]
    assert (503, None) == answers[1].outcome
    assert ["database"] == answers[0].json["missing"]


async def test_a_service_that_shuts_down_accepts_no_events(database_url, users_file, client, tmp_path):
    app = create_app(settings_of(database_url, users_file, tmp_path))
    async with served(app) as url:
        app[SERVICE].is_closed = True
        answer = await Sender(client, url).send("OPEN")

    assert (503, None) == answer.outcome


async def test_an_event_that_takes_too_long_gets_an_untyped_503_and_can_be_sent_again(
    receiver, sql, monkeypatch
):
    monkeypatch.setattr("signal_receiver.webhook.RESPONSE_SECONDS", 0.1)
    event = signal("OPEN")
    async with sql.transaction():
        await sql.execute("SELECT FROM account FOR UPDATE")
        late = await receiver.deliver(event, "msg_1")
    monkeypatch.undo()
    again = await receiver.deliver(event, "msg_1")

    assert [(503, None), (200, None)] == [late.outcome, again.outcome]
    assert 1 == len(await receiver.trades())


async def test_the_openapi_document_is_valid_and_lists_operations_and_typed_errors(receiver):
    document = (await receiver.call("GET", "/openapi.json", authorization=None)).json

    OpenAPIV31SpecValidator(document).validate()
    assert {
        "/webhook/{accountToken}",
        "/v1/accounts/{id}/positions",
        "/v1/accounts/{id}/trades",
        "/v1/accounts/{id}/webhook-secret",
        "/v1/prices/{ticker}",
    } <= set(document["paths"])
    assert 9 == len(document["components"]["schemas"]["EventErrorBody"]["properties"]["type"]["enum"])


async def test_it_shares_a_database_without_touching_other_tables(start, database_url):
    connection = await asyncpg.connect(database_url)
    await connection.execute("DROP SCHEMA signal_receiver CASCADE; CREATE TABLE account (id int)")
    sender = await start()
    await sender.send("OPEN")
    found = await connection.fetch("SELECT schemaname FROM pg_tables WHERE tablename = 'account' ORDER BY 1")
    await connection.close()

    assert ["public", "signal_receiver"] == [row["schemaname"] for row in found]


def test_a_file_that_cannot_be_read_is_named_at_start(users_file, tmp_path):
    environment = {
        "QUOTES_USERS_FILE": str(users_file),
        "QUOTES_DATABASE_URL": "postgresql://",
        "QUOTES_INSTRUMENTS": str(tmp_path / "nothing.toml"),
    }

    with pytest.raises(StartError, match=r"nothing\.toml"):
        create_app(load(ReceiverSettings, environment))


async def test_the_log_says_why_credentials_are_invalid(logged):
    sender, lines = logged
    secret = "whsec_" + base64.b64encode(bytes(32)).decode()
    await sender.call("PUT", "/v1/accounts/sample/webhook-secret", {"secret": secret})
    body = json.dumps(envelope(signal("OPEN"))).encode()
    at = datetime.now(UTC) - timedelta(hours=2)
    signature = {
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_1", at, body.decode()),
    }
    answers = [
        await sender.deliver(body, token="nobodys-token"),
        await sender.deliver(body, token="guarded-token"),
        await sender.deliver(body, token="guarded-token", headers={"x-foo-bar-api-token": "?"}),
        await sender.deliver(body),
        await sender.deliver(body, "msg_1", headers=signature),
    ]
    causes = [line["cause"] for line in lines if line.get("id") == "InvalidCredentials"]

    assert [
        "no account has this token",
        "account guarded requires the header x-foo-bar-api-token",
        "the value of the header x-foo-bar-api-token is not that of account guarded",
        "a signature is required; missing: webhook-id, webhook-timestamp, webhook-signature (account sample)",
        (
            "the signature is valid, but its timestamp is about 120 minutes behind this machine's clock, and at most"
            " 5 minutes are accepted: check the clocks of both machines (account sample)"
        ),
    ] == causes
    assert {"The account could not be identified or authorized."} == {
        each.json["message"] for each in answers
    }


async def test_the_metrics_tell_whether_trading_works(receiver):
    async def shown() -> str:
        return (await receiver.call("GET", "/metrics", authorization=None)).body.decode()

    assert "last_trade_timestamp_seconds 1" not in await shown()
    await receiver.send("OPEN")
    async with asyncio.timeout(60):
        while "\npositions_open 1.0\n" not in (text := await shown()):
            await asyncio.sleep(0.01)

    assert "\nlast_trade_timestamp_seconds 1" in text
    assert 'price_age_seconds{ticker="XAUUSD"} ' in text
    assert 'database_statement_duration_seconds_count{statement="write_accounts"} 1.0' in text
