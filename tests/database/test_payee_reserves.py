"""Promises 1 and 2: a 200 is a committed quote with exactly those terms; one key is at most one quote."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from support.messages import KEY, OTHER, QUOTE, RESERVE, RESERVE_DESTINATION, keys_of
from support.payee import FIVE_PER_CENT, NO_FEES, rows, waiting_for_lock

LIFETIME = "X-Quote-Lifetime-Ms"
REORDERED = b"""
{ "transferType" : "p2p", "identifierType": "eur", "identifier": "\\u00330754016", "amount": "12.5",
  "account": "http:\\/\\/ec2-35-166-236-69.us-west-2.compute.amazonaws.com:8088\\/ilp\\/ledger\\/v1\\/accounts\\/bob",
  "currencySymbol": "\\u0024", "currencyCode": "USD" }
"""


async def test_a_200_means_a_committed_row_with_exactly_those_terms(payee, sql):
    """Promise 1, over another connection as soon as the reply is there."""
    reply = (await payee.reserve(key="one")).json
    row = await sql.fetchrow("SELECT * FROM quote WHERE uuid = $1", uuid.UUID(reply["uuid"]))

    assert {"amount", "expires", "uuid"} == set(reply)
    assert ("13.75", "13.75", "12.50") == (
        reply["amount"],
        str(row["source_amount"]),
        str(row["destination_amount"]),
    )
    assert ("test", "quoteSourceAmount", None) == (row["caller"], row["operation"], row["executed"])


async def test_expires_is_stored_in_the_milliseconds_of_the_reply(payee, sql):
    """The reply and the row have the same `expires`, to the millisecond."""
    for _ in range(20):
        reply = (await payee.reserve()).json
        stored = await sql.fetchval("SELECT expires FROM quote WHERE uuid = $1", uuid.UUID(reply["uuid"]))

        assert reply["expires"].endswith("Z")
        assert len("2017-05-11T11:30:03.561Z") == len(reply["expires"])
        assert datetime.fromisoformat(reply["expires"]) == stored


async def test_a_quote_can_be_executed_for_the_configured_time(start, clock):
    payee = await start(ttl_seconds="1.5")
    await clock.set("2030-01-01T00:00:00.123456Z")

    assert "2030-01-01T00:00:01.623Z" == (await payee.reserve()).json["expires"]


async def test_a_source_quote_and_a_destination_quote_of_its_amount_are_inverse(payee):
    there = (await payee.reserve()).json["amount"]
    back = (await payee.reserve({**QUOTE, "amount": there}, path=RESERVE_DESTINATION)).json["amount"]

    assert ("13.75", "12.50") == (there, back)


async def test_commits_wait_for_the_disk_whatever_the_roles_setting_is(start, sql, database_url):
    """Promise 1: `synchronous_commit` is on for each connection of the pool."""
    role, name = await sql.fetchrow("SELECT current_user, current_database()")
    await sql.execute(f'ALTER ROLE "{role}" IN DATABASE {name} SET synchronous_commit = off')
    await sql.execute("CREATE TABLE seen (setting text)")
    await sql.execute(
        "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NEW; END $$"
    )
    other = await asyncpg.connect(database_url)
    assert "off" == await other.fetchval("SHOW synchronous_commit")
    await other.close()
    payee = await start(database_connections=1)
    await sql.execute(
        "CREATE TRIGGER see BEFORE INSERT OR UPDATE ON quote FOR EACH ROW EXECUTE FUNCTION see()"
    )

    for _ in range(3):  # also on a connection that is used again
        assert 200 == (await payee.execute(await payee.reserved())).status

    assert ["on"] * 6 == [row["setting"] for row in await sql.fetch("SELECT setting FROM seen")]


async def test_the_same_key_gives_the_same_quote_byte_for_byte(payee, sql):
    """Mojaloop #2119 answered a repeated quote with an error."""
    first = await payee.reserve(key="one")
    again = await payee.reserve(key="one")

    assert (200, first.body) == (again.status, again.body)
    assert 1 == await rows(sql)


async def test_without_a_key_each_reservation_makes_a_quote_and_returns_a_key_for_it(payee, sql):
    first, second = await payee.reserve(), await payee.reserve()
    again = await payee.reserve(key=first.headers[KEY])

    assert first.json["uuid"] != second.json["uuid"]
    assert first.body == again.body
    assert 2 == await rows(sql)


async def test_the_same_key_of_another_caller_is_another_quote(payee, sql):
    mine = await payee.reserve(key="one")
    others = await payee.reserve(key="one", authorization=OTHER)

    assert mine.json["uuid"] != others.json["uuid"]
    assert 2 == await rows(sql)


async def test_key_order_white_space_and_trailing_zeros_do_not_make_another_body(payee, sql):
    """The Mojaloop quoting service compares hashes of the unparsed text."""
    first = await payee.reserve(key="one")
    again = await payee.reserve(REORDERED, "one")

    assert (200, first.body) == (again.status, again.body)
    assert 1 == await rows(sql)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("amount", "12.51"),
        ("currencyCode", "EUR"),
        ("currencySymbol", "€"),
        ("account", "http://elsewhere/bob"),
        ("identifier", "30754017"),
        ("identifierType", "tel"),
        ("transferType", "p2b"),
    ],
)
async def test_the_same_key_with_another_body_is_refused(payee, sql, name, value):
    first = await payee.reserve(key="one")
    other = await payee.reserve({**QUOTE, name: value}, "one")

    assert (422, "IdempotencyKeyReusedError") == other.outcome
    assert first.body == (await payee.reserve(key="one")).body
    assert 1 == await rows(sql)


async def test_the_same_key_with_another_operation_is_refused(payee, sql):
    await payee.reserve(key="one")

    assert (422, "IdempotencyKeyReusedError") == (
        await payee.reserve(key="one", path=RESERVE_DESTINATION)
    ).outcome
    assert 1 == await rows(sql)


@pytest.mark.parametrize("fees", [FIVE_PER_CENT, NO_FEES, FIVE_PER_CENT.replace("0.01", "20.00")])
async def test_the_same_key_gives_the_same_quote_after_a_change_of_fees(start, sql, tmp_path, fees):
    """Also where the new fees have no rule, or refuse the amount."""
    before = await start()
    (tmp_path / "fees.toml").write_text(fees)
    after = await start(fee_schedule=tmp_path / "fees.toml")
    first = await before.reserve(key="one")
    again = await after.reserve(key="one")

    assert (200, first.body) == (again.status, again.body)
    assert (422, "IdempotencyKeyReusedError") == (
        await after.reserve({**QUOTE, "amount": "12.51"}, "one")
    ).outcome
    assert 1 == await rows(sql)


async def test_only_a_committed_quote_binds_a_key(start, sql, tmp_path):
    """After a refusal for the fees, the same key can be used again, with another body."""
    (tmp_path / "fees.toml").write_text(NO_FEES)
    without = await start(fee_schedule=tmp_path / "fees.toml")
    assert (422, "NoFeeScheduleError") == (await without.reserve(key="one")).outcome
    assert 0 == await rows(sql)
    payee = await start()
    assert (422, "AmountOutOfRangeError") == (
        await payee.reserve({**QUOTE, "amount": "1000000.01"}, "one")
    ).outcome

    assert 200 == (await payee.reserve(key="one")).status


async def test_the_same_key_gives_the_same_quote_after_expires(start, clock, sql):
    payee = await start()
    first = await payee.reserve(key="one")
    await clock.set(first.json["expires"], plus="1 day")

    again = await payee.reserve(key="one")

    assert (200, first.body) == (again.status, again.body)
    assert 1 == await rows(sql)


async def test_the_same_key_gives_the_same_quote_after_execution(payee):
    first = await payee.reserve(key="one")
    assert 200 == (await payee.execute(first.json["uuid"])).status

    again = await payee.reserve(key="one")

    assert (200, first.body) == (again.status, again.body)


async def test_the_same_key_a_hundred_times_at_once_is_one_row(two_processes, sql):
    """Promise 2, over two processes: one row, and one reply."""
    answers = await asyncio.gather(*(two_processes[number % 2].reserve(key="one") for number in range(100)))

    assert {200} == {answer.status for answer in answers}
    assert 1 == len({answer.body for answer in answers})
    assert 1 == await rows(sql)


async def test_two_bodies_with_one_key_at_once_are_one_quote_and_refusals(two_processes, sql):
    """Either body may win; the other one is never answered 200."""
    bodies = [{**QUOTE, "amount": amount} for amount in ("12.50", "12.51")]
    for round_ in range(10):
        answers = await asyncio.gather(
            *(
                two_processes[number % 2].reserve(bodies[number // 2 % 2], f"key-{round_}")
                for number in range(20)
            )
        )

        assert [200] * 10 + [422] * 10 == sorted(answer.status for answer in answers)
        assert 1 == len({answer.body for answer in answers if answer.status == 200})
    assert 10 == await rows(sql)


async def test_a_reservation_waits_for_an_uncommitted_row_of_its_key_and_returns_it(payee, sql, database_url):
    """The INSERT does nothing, and the statement after it sees the committed row."""
    reply = (await payee.reserve(key="one")).json
    await sql.execute("CREATE TEMP TABLE kept AS SELECT * FROM quote; DELETE FROM quote")
    other = sql.transaction()
    await other.start()
    await sql.execute("INSERT INTO quote SELECT * FROM kept")
    waiting = asyncio.create_task(payee.reserve(key="one"))
    await waiting_for_lock(sql)
    await other.commit()

    assert reply == (await waiting).json
    assert 1 == await rows(sql)


async def test_a_uuid_comes_from_the_databases_own_secret(start, sql):
    """A caller and a key do not tell the uuid at another payee."""
    here = await (await start()).reserved(key="one")
    await sql.execute("UPDATE namespace SET secret = sha256('another')")
    there = await (await start()).reserved(key="one")

    assert here != there


BAD_BODIES = {
    "not JSON": b"{",
    "a list": b"[]",
    "empty": b"",
    "not UTF-8": b'{"amount": "\xff"}',
    "duplicate keys": b'{"amount": "1", "amount": "1"}',
    "nested deeply": b'{"amount": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "NaN": b'{"amount": NaN}',
    "a number": {**QUOTE, "amount": 12.5},
    "a huge exponent": {**QUOTE, "amount": "1e999999999"},
    "too many digits": {**QUOTE, "amount": "1" * 19},
    "three fraction digits in USD": {**QUOTE, "amount": "12.500"},
    "nothing": {**QUOTE, "amount": "0.00"},
    "less than nothing": {**QUOTE, "amount": "-1"},
    "gold": {**QUOTE, "currencyCode": "XAU"},
    "a NUL": {**QUOTE, "identifier": "a\0b"},
    "a lone surrogate": {**QUOTE, "currencySymbol": "\ud800"},
    "an unknown field": {**QUOTE, "submissionUrl": "http://spsp-server"},
    "a field missing": {name: value for name, value in QUOTE.items() if name != "account"},
    "null": {**QUOTE, "account": None},
}


@pytest.mark.parametrize("path", [RESERVE, RESERVE_DESTINATION])
async def test_bad_bodies_are_400_and_store_nothing(payee, sql, path):
    for what, body in BAD_BODIES.items():
        answer = await payee.reserve(body, path=path)

        assert (400, "InvalidBodyError") == answer.outcome, what
        assert keys_of(answer.json), what
    assert 0 == await rows(sql)


async def test_other_bad_requests_are_refused_and_store_nothing(payee, sql):
    good = [
        ("POST", RESERVE, {"Authorization": "Basic xx"}, 401),
        ("POST", RESERVE, {KEY: "not visible"}, 400),
        ("POST", RESERVE, {KEY: "k" * 129}, 400),
        ("POST", RESERVE, {"X-Request-Timeout-Ms": "0"}, 400),
        ("POST", RESERVE, {"Content-Type": "text/plain"}, 415),
        ("POST", RESERVE, {"Content-Encoding": "gzip"}, 415),
        ("POST", RESERVE + "?x=1", {}, 400),
        ("POST", "/v1/quote", {}, 404),
        ("PUT", RESERVE, {}, 405),
    ]
    for method, path, more, status in good:
        assert status == (await payee.send(method, path, QUOTE, **more)).status, (path, more)
    assert 413 == (await payee.reserve({**QUOTE, "account": "http://a/" + "a" * 65_536})).status
    assert 0 == await rows(sql)


@pytest.mark.parametrize("name", ["test", "tést:"])
async def test_a_key_of_128_visible_characters_is_kept(payee, name):
    key = (name.encode("ascii", "ignore").decode() + "!~" * 64)[:128]

    assert key == (await payee.reserve(key=key)).headers[KEY]


async def test_created_is_the_databases_clock(start, clock, sql):
    payee = await start()
    await clock.set("2031-02-03T04:05:06.789Z")
    await payee.reserve()

    assert datetime(2031, 2, 3, 4, 5, 6, 789_000, UTC) == await sql.fetchval("SELECT created FROM quote")
    assert timedelta(minutes=5) == await sql.fetchval("SELECT expires - created FROM quote")


async def test_a_reservation_chooses_its_lifetime_to_the_millisecond(start, clock):
    payee = await start(max_ttl_seconds=7)
    await clock.set("2030-01-01T00:00:00.000Z")
    for given, expires in [
        ("1", "00:00:00.001Z"),
        ("2500", "00:00:02.500Z"),
        ("7000", "00:00:07.000Z"),
        (None, "00:05:00.000Z"),
    ]:
        headers = {} if given is None else {LIFETIME: given}
        reply = (await payee.reserve(**headers)).json

        assert f"2030-01-01T{expires}" == reply["expires"], given
        assert reply["expires"] == (await payee.look_up(reply["uuid"])).json["expires"]


async def test_a_lifetime_above_the_maximum_is_refused_and_nothing_is_reserved(start, sql):
    payee = await start(max_ttl_seconds=7)
    refused = await payee.reserve(**{LIFETIME: "7001"})

    assert (400, "InvalidHeaderError") == (refused.status, refused.json["id"])
    assert "X-Quote-Lifetime-Ms must be at most 7000." == refused.json["message"]
    assert 0 == await rows(sql)


async def test_a_lifetime_above_the_maximum_is_refused_before_the_query_and_the_body_are_looked_at(start):
    payee = await start(max_ttl_seconds=7)
    for given, ids in (
        ("7001", ["InvalidHeaderError", "InvalidHeaderError"]),
        ("7000", ["InvalidQueryParameterError", "InvalidBodyError"]),
    ):
        query = await payee.reserve(b"{", path=f"{RESERVE}?x=1", **{LIFETIME: given})
        body = await payee.reserve(b"{", **{LIFETIME: given})

        assert [(400, id_) for id_ in ids] == [query.outcome, body.outcome]


async def test_a_lifetime_is_part_of_what_a_key_stands_for(payee):
    """Even if no fees apply any more, the same request gets its quote, and another lifetime is refused."""
    first = await payee.reserve(key="one", **{LIFETIME: "60000"})
    for given in ("60000", "060000"):
        assert first.body == (await payee.reserve(key="one", **{LIFETIME: given})).body
    for headers in ({LIFETIME: "60001"}, {}):
        refused = await payee.reserve(key="one", **headers)
        assert (422, "IdempotencyKeyReusedError") == (refused.status, refused.json["id"])
    await payee.reserve(key="two")
    assert 422 == (await payee.reserve(key="two", **{LIFETIME: "300000"})).status
