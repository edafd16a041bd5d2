"""Starting, health, logs, metrics and documents."""

import asyncio
import json

import asyncpg
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from chassis.app import SERVICE
from chassis.logs import LogWriter
from chassis.run import StartError
from chassis.settings import load
from signal_receiver import accounts_file
from signal_receiver.accounts_file import AccountsError
from signal_receiver.app import ReceiverSettings, create_app
from support.receiver import ACCOUNTS, Sender, envelope, settings_of, signal
from support.serving import served

UNREACHABLE = "postgresql://nobody@127.0.0.1:1/nothing"


@pytest.fixture
async def logged(database_url, users_file, client, tmp_path, monkeypatch):
    """A receiver whose log lines are kept: the sender, and the lines so far."""
    lines: list[dict] = []
    monkeypatch.setattr(LogWriter, "write", lambda _self, new, *, now: lines.extend(map(json.loads, new)))
    async with served(create_app(settings_of(database_url, users_file, tmp_path))) as url:
        sender = Sender(client, url)
        while (await sender.call("GET", "/health/ready")).status != 200:
            await asyncio.sleep(0.01)
        yield sender, lines


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/webhook/sEcReT-token"),
        ("POST", "/%77ebhook/sEcReT-token"),
        ("POST", "/webhook/sEcReT-token/"),
        ("POST", "//webhook/sEcReT-token"),
        ("GET", "/webhook/sEcReT-token"),
        ("POST", "/webhooks/sEcReT-token"),
        ("POST", "/sEcReT-token"),
    ],
)
async def test_a_token_in_a_path_never_appears_in_the_log(logged, method, path):
    sender, lines = logged
    await sender.call(method, path, envelope(signal("OPEN")), authorization=None)

    assert "request" in {line["event"] for line in lines}
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


async def test_a_version_with_an_end_is_told_once(logged):
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


async def test_without_its_database_it_starts_is_not_ready_and_answers_an_untyped_503(
    users_file, client, tmp_path
):
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


async def test_a_stopping_service_takes_no_events(database_url, users_file, client, tmp_path):
    app = create_app(settings_of(database_url, users_file, tmp_path))
    async with served(app) as url:
        app[SERVICE].is_closed = True
        answer = await Sender(client, url).send("OPEN")

    assert (503, None) == answer.outcome


async def test_an_event_that_there_is_no_time_for_is_an_untyped_503_and_may_come_again(
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


async def test_its_document_is_valid_and_names_the_operations_and_the_typed_errors(receiver):
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


async def test_it_shares_a_database_without_touching_what_is_in_it(start, database_url):
    connection = await asyncpg.connect(database_url)
    await connection.execute("CREATE TABLE account (id int)")
    sender = await start()
    await sender.send("OPEN")
    found = await connection.fetch("SELECT schemaname FROM pg_tables WHERE tablename = 'account' ORDER BY 1")
    await connection.close()

    assert ["public", "signal_receiver"] == [row["schemaname"] for row in found]


async def test_a_restart_keeps_funds_and_secrets_and_takes_over_tokens(start, tmp_path, monkeypatch):
    first = await start()
    await first.send("OPEN")
    monkeypatch.setattr(
        "support.receiver.ACCOUNTS", ACCOUNTS.replace('token = "sample"', 'token = "another"')
    )
    second = await start()
    outcomes = [(await second.send("CLOSE", token=token)).outcome for token in ("sample", "another")]

    assert [(401, "InvalidCredentials"), (200, None)] == outcomes
    assert "10000.00" == (await second.account())["funds"]


def test_everybodys_token_is_for_loopback_alone(tmp_path):
    with pytest.raises(StartError, match="the sample token is public"):
        create_app(settings_of("postgresql://", _without_samples(tmp_path), tmp_path, host="0.0.0.0"))


def _without_samples(folder):
    users = folder / "users"
    users.write_text("")
    return users


ONE = '[[account]]\nid = "a"\ntoken = "token-a"\nowner = "receiver"\nfunds = "1.00"\n'
REFUSED = {
    'id = "a"': ('id = "a b"', "id must be"),
    'token = "token-a"': ('token = "a/b"', "token must be"),
    'owner = "receiver"': ('owner = ""', "owner must be"),
    'funds = "1.00"': ('funds = "1.001"', "funds must be"),
    'funds = "1.00"\n': ('funds = "NaN"\n', "funds must be"),
    "[[account]]": ("[[accounts]]", "account"),
    "\n": ("\nheader = {name = 'a b', value = 'c'}\n", "header must"),
}


@pytest.mark.parametrize(("found", "instead", "said"), [(found, *each) for found, each in REFUSED.items()])
def test_accounts_at_fault_are_refused_with_what_is_wrong(found, instead, said):
    with pytest.raises(AccountsError, match=said):
        accounts_file.parse(ONE.replace(found, instead, 1), sample_allowed=True)


@pytest.mark.parametrize("field", ["id", "token"])
def test_no_two_accounts_have_an_id_or_a_token_in_common(field):
    other = ONE.replace('"token-a"', '"token-b"') if field == "id" else ONE.replace('"a"', '"b"')

    with pytest.raises(AccountsError, match=f"same {field}"):
        accounts_file.parse(ONE + other, sample_allowed=True)


def test_a_file_that_cannot_be_read_is_named(users_file, tmp_path):
    environment = {
        "QUOTES_USERS_FILE": str(users_file),
        "QUOTES_DATABASE_URL": "postgresql://",
        "QUOTES_INSTRUMENTS": str(tmp_path / "nothing.toml"),
    }

    with pytest.raises(StartError, match=r"nothing\.toml"):
        create_app(load(ReceiverSettings, environment))
