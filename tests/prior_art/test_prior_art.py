"""Faults of other quoting systems, each with a test that this one does not have it.

A test's name begins with the project or the issue where the fault was found.
"""

import asyncio
import os
import signal
import uuid

import asyncpg
import pytest

from chassis.settings import variables
from dfsp_api.payee import PayeeSettings
from support.messages import OTHER, QUOTE, RESERVE_DESTINATION, TEST, UNKNOWN_UUID, basic, keys_of
from support.payee import FIVE_PER_CENT, Caller, rows, until, waiting_for_lock


@pytest.fixture
def payer(chain, client) -> Caller:
    """Calls the whole chain, from its beginning."""
    return Caller(client, chain.url)


async def test_level_one_ledger_held_250_against_a_quote_of_100(payer):
    """Also with another source or destination amount than the quote's."""
    quote = {**QUOTE, "amount": "100.00"}
    uuid_ = await payer.reserved(quote)

    for payment, name in (
        ({**quote, "amount": "250.00"}, "amount"),
        ({**quote, "sourceAmount": "250.00"}, "sourceAmount"),
        ({**quote, "destinationAmount": "250.00"}, "destinationAmount"),
    ):
        refused = await payer.execute(uuid_, payment)
        assert (409, "QuoteMismatchError") == refused.outcome
        assert [name] == keys_of(refused.json)
    assert "RESERVED" == (await payer.look_up(uuid_)).json["state"]


async def test_level_one_ledger_held_on_an_unknown_uuid(payer):
    assert (404, "QuoteNotFoundError") == (await payer.execute(UNKNOWN_UUID)).outcome
    assert (404, "QuoteNotFoundError") == (await payer.look_up(UNKNOWN_UUID)).outcome


async def test_level_one_ledger_held_on_an_expired_quote(payer, chain):
    uuid_ = await payer.reserved()
    await expire(chain.database_url, uuid_)

    assert (410, "QuoteExpiredError") == (await payer.execute(uuid_)).outcome
    assert "EXPIRED" == (await payer.look_up(uuid_)).json["state"]


async def expire(database_url: str, uuid_: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE quote SET expires = clock_timestamp() WHERE uuid = $1", uuid.UUID(uuid_))
    await connection.close()


async def test_level_one_ledger_gave_a_raw_unique_violation_for_a_second_quote_under_one_id(payer):
    """A second request with one key is refused with its own error."""
    key = str(uuid.uuid4())
    first = await payer.reserve(key=key)
    second = await payer.reserve({**QUOTE, "amount": "250.00"}, key)

    assert 200 == first.status
    assert (422, "IdempotencyKeyReusedError") == second.outcome
    assert first.body == (await payer.reserve(key=key)).body


async def test_level_one_mock_answered_12_812499999999998(start, tmp_path):
    """2.5 % of 12.50 in decimals, with the fraction digits of the currency."""
    (tmp_path / "fees.toml").write_text(FIVE_PER_CENT.replace('"5"', '"2.5"'))
    payee = await start(fee_schedule=tmp_path / "fees.toml")

    assert "12.81" == (await payee.reserve()).json["amount"]


async def test_level_one_mock_answered_a_missing_identifier_with_status_200(payer):
    without = {name: value for name, value in QUOTE.items() if name != "identifier"}
    answer = await payer.reserve(without)

    assert (400, "InvalidBodyError") == answer.outcome
    assert ["identifier"] == keys_of(answer.json)


@pytest.mark.parametrize(
    ("currency", "amount", "source", "fee", "too_fine"),
    [
        ("JPY", "1234", "1358", "124", "1234.0"),
        ("KWD", "1.234", "1.358", "0.124", "1.2345"),
        ("USD", "1.23", "1.36", "0.13", "1.234"),
    ],
)
async def test_level_one_schema_kept_two_decimals_for_every_currency(
    payer, currency, amount, source, fee, too_fine
):
    quote = {**QUOTE, "currencyCode": currency, "amount": amount}
    reply = (await payer.reserve(quote)).json
    paid = (await payer.execute(reply["uuid"], quote)).json

    assert (source, source, amount, fee) == (
        reply["amount"],
        paid["sourceAmount"],
        paid["destinationAmount"],
        paid["fee"],
    )
    assert ["amount"] == keys_of((await payer.reserve({**quote, "amount": too_fine})).json)


async def test_mojaloop_2119_answered_a_repeated_quote_with_an_error(payer):
    key = str(uuid.uuid4())
    first = await payer.reserve(key=key)
    answers = [await payer.reserve(key=key) for _ in range(3)]

    assert [(200, first.body)] * 3 == [(answer.status, answer.body) for answer in answers]


async def test_mojaloop_3473_restarted_the_service_at_a_repeated_quote_id(payer, chain):
    before = chain.network.children["dfsp-api"].pid
    key = str(uuid.uuid4())
    amounts = ["12.50", "13.50"] * 10
    answers = await asyncio.gather(*(payer.reserve({**QUOTE, "amount": amount}, key) for amount in amounts))

    assert [200] * 10 + [422] * 10 == sorted(answer.status for answer in answers)
    assert before == chain.network.children["dfsp-api"].pid
    assert 200 == (await payer.reserve()).status


async def test_mojaloop_3564_stalled_at_20_users_under_table_locks(payee, sql):
    """While the row of one quote is locked, 20 users reserve, pay and look up; the table is not locked."""
    held = await payee.reserved()
    other = sql.transaction()
    await other.start()
    await sql.execute("SELECT FROM quote WHERE uuid = $1 FOR UPDATE", uuid.UUID(held))
    paying = asyncio.create_task(payee.execute(held))
    await waiting_for_lock(sql)

    async def user() -> list[int]:
        uuid_ = await payee.reserved()
        return [(await payee.execute(uuid_)).status, (await payee.look_up(uuid_)).status]

    assert [[200, 200]] * 20 == await asyncio.gather(*(user() for _ in range(20)))
    modes = await sql.fetch(
        "SELECT DISTINCT mode FROM pg_locks WHERE locktype = 'relation' AND relation = 'quote'::regclass"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    assert {row["mode"] for row in modes} <= {"AccessShareLock", "RowShareLock", "RowExclusiveLock"}
    await other.rollback()
    assert 200 == (await paying).status


async def test_mojaloop_ledger_678_accepted_expired_transfers(start, clock, sql):
    """The database's clock decides, in the statement that executes: the clock of this process is many years later."""
    payee = await start()
    await clock.set("2001-01-01T00:00:00.000Z")
    in_time, late = (await payee.reserve()).json, (await payee.reserve()).json
    await clock.set(in_time["expires"], plus="-1 ms")
    assert 200 == (await payee.execute(in_time["uuid"])).status
    await clock.set(late["expires"])

    assert (410, "QuoteExpiredError") == (await payee.execute(late["uuid"])).outcome
    assert 1 == await sql.fetchval("SELECT count(executed) FROM quote")


async def test_mojaloop_4198_and_4444_turned_a_peers_4xx_into_503(payer, chain, client):
    """Byte for byte the answer that the payee gives to a direct request."""
    payee = Caller(client, chain.origin("dfsp-api"))
    key = str(uuid.uuid4())
    reserved = await payer.reserved(key=key)
    expired = await payer.reserved()
    await expire(chain.database_url, expired)
    seen = {}
    for service in (payer, payee):
        answers = [
            await service.reserve({**QUOTE, "amount": "1.00"}, key, L1p_Trace_Id="t"),
            await service.reserve({**QUOTE, "transferType": "p2b"}, L1p_Trace_Id="t"),
            await service.reserve({**QUOTE, "amount": "1000000.01"}, L1p_Trace_Id="t"),
            await service.execute(reserved, {**QUOTE, "amount": "1.00"}, L1p_Trace_Id="t"),
            await service.execute(expired, L1p_Trace_Id="t"),
            await service.execute(UNKNOWN_UUID, L1p_Trace_Id="t"),
        ]
        seen[service] = [(answer.status, answer.body) for answer in answers]

    assert [422, 422, 422, 409, 410, 404] == [status for status, _ in seen[payer]]
    assert seen[payee] == seen[payer]


async def test_mojaloop_4227_and_3651_kept_stale_answers_of_the_directory(payer, chain, client):
    """A 404 is not cached, and SIGHUP empties the cache of the others."""
    directory = Caller(client, chain.origin("central-directory"))
    person = {"identifierType": "eur", "identifier": str(uuid.uuid4().int)[:12]}
    quote = {**QUOTE, **person}

    async def move_to(receiver: str) -> None:
        answer = await directory.send(
            "POST",
            "/resources",
            {**person, "spspReceiver": receiver, "primary": True},
            authorization=basic("admin", "admin"),
        )
        assert answer.status in {200, 201}, answer.body

    assert (404, "ReceiverNotFoundError") == (await payer.reserve(quote)).outcome
    await move_to(chain.origin("spsp-server"))
    assert 200 == (await payer.reserve(quote)).status

    await move_to("http://127.0.0.1:9")
    os.kill(chain.network.children["spsp-client-proxy"].pid, signal.SIGHUP)

    async def is_forgotten() -> bool:
        return (403, "SubmissionUrlNotAllowedError") == (await payer.reserve(quote)).outcome

    await until(is_forgotten)


async def test_mojaloop_4227_remembered_what_one_caller_may_see_for_all(payer):
    """Both callers may use the directory; a quote is its own caller's only."""
    mine = await payer.reserved()

    assert 200 == (await payer.look_up(mine, authorization=TEST)).status
    assert (404, "QuoteNotFoundError") == (await payer.look_up(mine, authorization=OTHER)).outcome


async def test_mojaloop_3613_let_an_unknown_party_and_a_zero_amount_time_out(payer):
    assert (404, "ReceiverNotFoundError") == (await payer.reserve({**QUOTE, "identifier": "nobody"})).outcome
    for amount in ("0", "0.00"):
        refused = await payer.reserve({**QUOTE, "amount": amount})
        assert (400, "InvalidBodyError") == refused.outcome
        assert ["amount"] == keys_of(refused.json)


@pytest.mark.parametrize("amount", ["12.505", "12.5050", "12.500"])
async def test_mojaloop_3632_gave_a_misleading_error_for_3_or_4_decimals(payer, amount):
    refused = await payer.reserve({**QUOTE, "amount": amount})

    assert 400 == refused.status
    assert [
        {
            "message": "must have at most 2 fraction digits in USD",
            "params": {"key": "amount", "value": amount},
        }
    ] == refused.json["validationErrors"]


async def test_mojaloop_quoting_service_hashes_a_request_as_it_came(payer):
    """Key order, white space, escapes and `12.5` for `12.50` are the same request."""
    key = str(uuid.uuid4())
    first = await payer.reserve(key=key)
    turned = "{ " + ",\n ".join(
        f'"{name}" :\t"{value}"' for name, value in reversed({**QUOTE, "amount": "12.5"}.items())
    ) + " }"  # fmt: skip
    again = await payer.reserve(turned.replace("$", "\\u0024").encode(), key)

    assert (200, first.body) == (again.status, again.body)


async def test_rafiki_471_used_a_spent_quote_again(payer):
    """Twenty payments at once and one later: one execution, and all get its reply."""
    uuid_ = await payer.reserved()
    answers = await asyncio.gather(*(payer.execute(uuid_) for _ in range(20)))
    later = await payer.execute(uuid_)

    assert {(200, later.body)} == {(answer.status, answer.body) for answer in answers}
    assert later.json["executed"] == (await payer.look_up(uuid_)).json["executed"]


async def test_rafiki_3141_looked_at_expiry_when_accepting_and_not_when_processing(payee, sql):
    """The payment arrives in time and waits for its row; then the quote has expired."""
    uuid_ = await payee.reserved()
    other = sql.transaction()
    await other.start()
    await sql.execute("SELECT FROM quote FOR UPDATE")
    paying = asyncio.create_task(payee.execute(uuid_))
    await waiting_for_lock(sql)
    await sql.execute("UPDATE quote SET expires = clock_timestamp()")
    await other.commit()

    assert (410, "QuoteExpiredError") == (await paying).outcome
    assert 0 == await sql.fetchval("SELECT count(executed) FROM quote")


async def test_nexuq_393_answered_expired_for_a_finished_transfer(start, clock):
    payee = await start()
    reply = (await payee.reserve()).json
    paid = await payee.execute(reply["uuid"])
    await clock.set(reply["expires"], plus="1 year")
    again = await payee.execute(reply["uuid"])

    assert (200, paid.body) == (again.status, again.body)
    assert "EXECUTED" == (await payee.look_up(reply["uuid"])).json["state"]


async def test_mojaloop_sdk_leaves_its_checks_off_by_default(start, clock, sql):
    """Duplicates and expiry are always checked: no setting switches that off."""
    switches = {name for name, field in variables(PayeeSettings) if isinstance(field.default, bool)}
    assert {"QUOTES_ALLOW_SAMPLE_CREDENTIALS"} == switches
    payee = await start()
    reply = (await payee.reserve({**QUOTE, "amount": "13.75"}, "one", path=RESERVE_DESTINATION)).json
    await clock.set(reply["expires"])

    assert reply == (await payee.reserve({**QUOTE, "amount": "13.75"}, "one", path=RESERVE_DESTINATION)).json
    assert 410 == (await payee.execute(reply["uuid"], {**QUOTE, "amount": "13.75"})).status
    assert 1 == await rows(sql)
