"""The whole chain: the source's sample calls, both operations, currencies, logs and recovery."""

import asyncio
import base64
import itertools
import json
import subprocess
import uuid
from decimal import Decimal
from urllib.parse import urlsplit

import pytest

from network.polling import PollTimer
from network.topology import CHAIN
from support.chain import running
from support.client import send
from support.messages import LOOK_UP_QUERY, QUOTE, RESERVE, RESERVE_DESTINATION, TRACE
from support.postgres import fresh_database

pytestmark = pytest.mark.batches

# Quote API §I, to the letter: without a Content-Type, so curl names a form's
SAMPLE_BODY = """{
        "currencyCode": "USD",
        "currencySymbol": "$",
        "amount": "12.50",
        "account": "http://ec2-35-166-236-69.us-west-2.compute.amazonaws.com:8088/ilp/ledger/v1/accounts/bob",
        "identifier": "30754016",
        "identifierType": "eur",
        "transferType": "p2p"%s
    }"""
HOPS = ("spsp-client-proxy", "spsp-client", "spsp-server", "spsp-server-backend", "dfsp-api")


@pytest.mark.parametrize("name", ["dfsp-api-payer", *HOPS])
@pytest.mark.parametrize("operation", [RESERVE, RESERVE_DESTINATION])
def test_the_sources_sample_call_works_at_every_hop(chain, name, operation):
    more = ""
    if name == "spsp-client":
        more = f',\n        "submissionUrl": "{chain.origin("spsp-server")}{operation}"'
    done = subprocess.run(
        [
            *("curl", "--silent", "--show-error", "--max-time", "30", "-X", "POST"),
            *("--header", "Accept: application/json", "--header", "Authorization: Basic dGVzdDoxMjM="),
            *("-d", SAMPLE_BODY % more, chain.origin(name) + operation),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    content = json.loads(done.stdout)

    assert ["amount", "expires", "uuid"] == list(content), content
    assert ("13.75" if operation == RESERVE else "11.36") == content["amount"]


@pytest.mark.parametrize(
    ("currency", "destination", "source", "fee"),
    [
        ("USD", "12.50", "13.75", "1.25"),
        ("EUR", "99.99", "109.99", "10.00"),
        ("JPY", "1250", "1375", "125"),
        ("KWD", "12.501", "13.752", "1.251"),
    ],
)
async def test_the_two_operations_are_inverse_in_every_currency(
    chain, client, currency, destination, source, fee
):
    request = {**QUOTE, "currencyCode": currency}
    up = await send(client, "POST", chain.url + RESERVE, {**request, "amount": destination})
    down = await send(client, "POST", chain.url + RESERVE_DESTINATION, {**request, "amount": source})
    paid = await send(
        client,
        "PUT",
        f"{chain.url}/v1/payments/{down.json['uuid']}",
        {**request, "amount": source, "sourceAmount": source, "destinationAmount": destination},
    )

    assert (source, destination) == (up.json["amount"], down.json["amount"])
    assert (source, destination, fee) == (
        paid.json["sourceAmount"],
        paid.json["destinationAmount"],
        paid.json["fee"],
    )
    assert Decimal(source) - Decimal(destination) == Decimal(fee)


@pytest.mark.parametrize("operation", [RESERVE, RESERVE_DESTINATION])
async def test_a_quote_goes_from_reserved_to_executed(chain, client, operation):
    reserved = await send(client, "POST", chain.url + operation, QUOTE)
    uuid_ = reserved.json["uuid"]
    look_up = f"{chain.url}/v1/quote/{uuid_.upper()}?{LOOK_UP_QUERY}"
    before = (await send(client, "GET", look_up)).json
    paid = await send(client, "PUT", f"{chain.url}/v1/payments/{uuid_.upper()}", QUOTE)
    again = await send(client, "PUT", f"{chain.url}/v1/payments/{uuid_}", {**QUOTE, "amount": "12.5"})
    after = (await send(client, "GET", look_up)).json

    assert ("RESERVED", None, operation.removeprefix("/v1/")) == (
        before["state"],
        before["executed"],
        before["operation"],
    )
    assert reserved.json == {name: before[name] for name in ("amount", "expires", "uuid")}
    assert ["uuid", "state", "sourceAmount", "destinationAmount", "fee", "executed"] == list(paid.json)
    assert (200, paid.body) == (again.status, again.body)
    assert {**before, "state": "EXECUTED", "executed": paid.json["executed"]} == after
    assert QUOTE == after["request"]


def test_a_trace_id_is_in_every_log_and_credentials_are_in_none(chain, register):
    password, trace = f"secret-{uuid.uuid4().hex}", f"way-{uuid.uuid4()}"
    wrong = base64.b64encode(f"test:{password}".encode()).decode()

    async def calls() -> None:
        import aiohttp

        async with aiohttp.ClientSession() as client:
            person = {"identifierType": "eur", "identifier": str(uuid.uuid4())}
            admin = "Basic " + base64.b64encode(b"admin:admin").decode()
            directory = chain.origin("central-directory")
            added = {**person, "spspReceiver": chain.origin("spsp-server")}
            await send(client, "POST", directory + "/resources", added, Authorization=admin)
            response = await send(client, "POST", chain.url + RESERVE, {**QUOTE, **person}, trace=trace)
            assert 200 == response.status
            # rejected at every service, malformed ones too
            for name in CHAIN:
                url = chain.origin(name) + ("/resources" if name == "central-directory" else RESERVE)
                for given in (f"Basic {wrong}", f"Bearer {wrong}", wrong, f"Basic {wrong}x", password):
                    assert 401 == (await send(client, "POST", url, QUOTE, Authorization=given)).status

    asyncio.run(calls())
    timer = PollTimer(60, 0.05)
    missing = set(CHAIN)
    while timer.wait() and missing:
        missing = {name for name in CHAIN if trace not in (chain.logs / f"{name}.log").read_text()}

    assert set() == missing
    for log in chain.logs.iterdir():
        text = log.read_text()
        for secret in (password, wrong, "dGVzdDoxMjM", "b3RoZXI6NDU2", "YWRtaW46YWRtaW4"):
            assert secret not in text, log.name


async def test_a_log_line_has_the_caller_the_request_and_the_outcome(chain, client):
    trace = f"line-{uuid.uuid4()}"
    await send(client, "PUT", f"{chain.url}/v1/payments/{uuid.uuid4()}", QUOTE, trace=trace)
    line: dict = {}
    timer = PollTimer(60, 0.05)
    while timer.wait() and not line:
        line = next((each for each in chain.log_lines("spsp-server") if each.get("traceId") == trace), {})

    assert ("warning", "spsp-server", "test", "PUT", 404, "QuoteNotFoundError") == tuple(
        line[name] for name in ("level", "service", "caller", "method", "status", "id")
    )
    assert line["time"].endswith("Z")
    assert line["duration_ms"] > 0
    assert "dfsp-api" in line["cause"]


@pytest.fixture(scope="module")
def fragile(postgres_url, users_file, tmp_path_factory):
    """A chain that tests break and repair. Its backend accepts eight requests at a time."""
    with (
        fresh_database(postgres_url) as url,
        running(
            tmp_path_factory.mktemp("fragile"),
            url,
            users_file,
            {"spsp-server-backend": {"QUOTES_MAX_IN_FLIGHT": "8"}},
        ) as chain,
    ):
        yield chain


@pytest.mark.parametrize("name", ["central-directory", *HOPS])
async def test_a_paused_service_causes_a_504_and_then_works_again(fragile, client, name):
    child = fragile.network.children[name]
    request = {**QUOTE, "identifier": "30754017"}
    fragile.forget_directory()
    child.pause()
    try:
        response = await send(
            client, "POST", fragile.url + RESERVE, request, trace="stopped", X_Request_Timeout_Ms="700"
        )
    finally:
        child.resume()
    after = await send(client, "POST", fragile.url + RESERVE, request, X_Request_Timeout_Ms="30000")

    assert (504, "UpstreamTimeoutError", "stopped") == (
        response.status,
        response.json["id"],
        response.json["traceId"],
    )
    assert 200 == after.status, after.body


def test_every_service_reads_its_users_again_at_sighup_and_survives(fragile):
    for child in fragile.network.children.values():
        child.reload()
    timer = PollTimer(60, 0.05)
    waiting = set(fragile.network.children)
    while waiting and timer.wait():
        waiting -= {name for name in waiting if fragile.has_logged(name, "the users file was reloaded")}

    assert set() == waiting
    assert all(child.running for child in fragile.network.children.values())


def test_sighup_while_a_service_starts_does_not_end_it(fragile):
    child = fragile.network.children["spsp-client"]
    child.stop()
    child.start()
    for _ in range(20):
        child.reload()
    fragile.network.wait_ready("spsp-client")

    assert child.running


async def test_a_service_at_capacity_causes_a_503(fragile, client):
    child = fragile.network.children["dfsp-api"]
    child.pause()
    try:
        tasks = [
            asyncio.create_task(
                send(
                    client, "POST", fragile.url + RESERVE, QUOTE, trace=f"l-{n}", X_Request_Timeout_Ms="60000"
                )
            )
            for n in range(12)
        ]
        rejected = [await each for each in itertools.islice(asyncio.as_completed(tasks), 4)]
        left = [task for task in tasks if not task.done()]
    finally:
        child.resume()
    await asyncio.gather(*left)

    assert left
    for response in rejected:
        assert (503, "UnavailableError") == (response.status, response.json["id"])
        assert "spsp-server-backend" == response.json["service"]
        assert "1" == response.headers["Retry-After"]


async def test_a_killed_service_causes_a_502_of_the_service_before_it(fragile, client):
    fragile.network.kill("spsp-server")
    response = await send(client, "POST", fragile.url + RESERVE, QUOTE, trace="killed")
    await asyncio.to_thread(fragile.network.restart, "spsp-server")
    after = await send(client, "POST", fragile.url + RESERVE, QUOTE)

    assert (502, "UpstreamError", "spsp-client", "killed") == response.raised
    assert response.headers[TRACE] == "killed"
    assert "spsp-server" in response.json["message"]
    assert 200 == after.status


async def test_a_missing_database_causes_a_503_until_it_is_back(fragile, client, postgres_url):
    import asyncpg

    name = urlsplit(fragile.database_url).path.removeprefix("/")
    key = str(uuid.uuid4())
    server = await asyncpg.connect(postgres_url)
    try:
        await server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name
        )
        await server.execute(f"ALTER DATABASE {name} RENAME TO {name}_away")
        response = await send(client, "POST", fragile.url + RESERVE, QUOTE, trace="away", Idempotency_Key=key)
    finally:
        await server.execute(f"ALTER DATABASE {name}_away RENAME TO {name}")
        await server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        await server.close()
    after = await send(client, "POST", fragile.url + RESERVE, QUOTE, Idempotency_Key=key)

    assert (503, "UnavailableError", "dfsp-api", "away") == response.raised
    assert int(response.headers["Retry-After"]) > 0
    assert name not in response.json["message"]
    assert 200 == after.status
