"""Look up (Quote API §IV): the state and the contents of a quote."""

import pytest

from dfsp_api.payee import SAMPLE_FEES, load_fees
from support.messages import LOOK_UP_QUERY, OTHER, QUOTE, RESERVE, RESERVE_DESTINATION, UNKNOWN_UUID
from support.payee import FIVE_PER_CENT, rows, until

SAMPLE = load_fees(SAMPLE_FEES)


@pytest.mark.parametrize(
    ("path", "operation", "amount", "source", "destination"),
    [
        (RESERVE, "quoteSourceAmount", "13.75", "13.75", "12.50"),
        (RESERVE_DESTINATION, "quoteDestinationAmount", "11.36", "12.50", "11.36"),
    ],
)
async def test_a_look_up_returns_the_state_and_the_contents_of_a_quote(
    start, clock, path, operation, amount, source, destination
):
    payee = await start()
    await clock.set("2030-01-01T00:00:00.000Z")
    body = {**QUOTE, "amount": "12.5", "identifier": "Zoë \U0001f600"}
    uuid = await payee.reserved(body, path=path)
    expected = {
        "uuid": uuid,
        "state": "RESERVED",
        "operation": operation,
        "amount": amount,
        "sourceAmount": source,
        "destinationAmount": destination,
        "fee": {RESERVE: "1.25", RESERVE_DESTINATION: "1.14"}[path],
        "expires": "2030-01-01T00:05:00.000Z",
        "created": "2030-01-01T00:00:00.000Z",
        "executed": None,
        "released": None,
        "request": body,
        "explanation": {
            "schedule": SAMPLE.id.hex(),
            "rule": {"transferType": "p2p", "currencyCode": "USD"},
            "step": {"from": "0.01", "to": "1000000.00", "flat": "0.00", "percent": "10"},
            "least": "0.01",
            "most": None,
            "rounding": "up",
            "unrounded": {RESERVE: "1.25", RESERVE_DESTINATION: "1.136"}[path],
        },
    }
    assert expected == (await payee.look_up(uuid, "")).json

    await clock.set("2030-01-01T00:04:59.999Z")
    assert expected == (await payee.look_up(uuid, "")).json
    await clock.set("2030-01-01T00:05:00.000Z")
    assert expected | {"state": "EXPIRED"} == (await payee.look_up(uuid, "")).json
    await clock.set("2030-01-01T00:04:59.999Z")
    assert 200 == (await payee.execute(uuid, body)).status
    await clock.set("2030-01-02T00:00:00.000Z")
    assert (
        expected | {"state": "EXECUTED", "executed": "2030-01-01T00:04:59.999Z"}
        == (await payee.look_up(uuid, "")).json
    )


async def test_a_quote_is_found_with_its_own_receiver_or_without_one(payee, sql):
    """With another identifier or type it is not found."""
    uuid = await payee.reserved()
    for query in ("", LOOK_UP_QUERY, "identifier=30754016", "identifierType=eur"):
        assert 200 == (await payee.look_up(uuid, query)).status, query
    for query in (
        "identifierType=eur&identifier=30754017",
        "identifierType=tel&identifier=30754016",
        "identifier=30754017",
        "identifier=",
        "identifierType=EUR",
    ):
        assert (404, "QuoteNotFoundError") == (await payee.look_up(uuid, query)).outcome, query
    for query in (
        "x=1",
        "identifier=30754016&identifier=30754016",
        "submissionUrl=http://a",
        "identifier=%00",
    ):
        assert (400, "InvalidQueryParameterError") == (await payee.look_up(uuid, query)).outcome, query
    assert 1 == await rows(sql)


async def test_another_callers_quote_and_an_unknown_one_are_not_found(payee):
    uuid = await payee.reserved()

    assert (404, "QuoteNotFoundError") == (await payee.look_up(uuid, authorization=OTHER)).outcome
    assert (404, "QuoteNotFoundError") == (await payee.look_up(UNKNOWN_UUID)).outcome


async def test_after_ten_changes_of_the_fees_each_quote_still_explains_itself(start, tmp_path):
    """Each payee starts with another schedule on the same database, and forgets nothing that the others wrote."""
    fees, quotes = tmp_path / "fees.toml", {}
    for percent in range(1, 11):
        fees.write_text(FIVE_PER_CENT.replace('percent = "5"', f'percent = "{percent}"'))
        payee = await start(fee_schedule=fees)
        quotes[percent] = (await payee.reserved(key=f"key-{percent}"), load_fees(fees).id.hex())

    assert 10 == len({schedule for _, schedule in quotes.values()})
    for percent, (uuid, schedule) in quotes.items():
        explained = (await payee.look_up(uuid, "")).json["explanation"]
        assert (str(percent), schedule) == (explained["step"]["percent"], explained["schedule"])


async def test_the_fee_of_a_source_amount_that_is_no_destination_amounts_has_its_rest(payee):
    """0.10 costs 0.11 and 0.11 costs 0.13, so of 0.12 arrive 0.10, and 0.01 is left."""
    uuid = await payee.reserved({**QUOTE, "amount": "0.12"}, path=RESERVE_DESTINATION)
    found = (await payee.look_up(uuid)).json

    assert ("0.10", "0.02", "0.01") == (
        found["destinationAmount"],
        found["fee"],
        found["explanation"]["unrounded"],
    )


async def test_a_fee_schedule_can_be_read_by_its_id_after_it_has_changed(start, tmp_path):
    fees = tmp_path / "fees.toml"
    fees.write_text(FIVE_PER_CENT)
    first = (await (await start(fee_schedule=fees)).send("GET", "/v1/feeSchedules/current")).json
    payee = await start()
    current = (await payee.send("GET", "/v1/feeSchedules/current")).json
    again = await payee.send("GET", f"/v1/feeSchedules/{first['id']}")

    assert (load_fees(fees).id.hex(), SAMPLE.id.hex()) == (first["id"], current["id"])
    assert first == again.json
    assert "5" == first["rules"][0]["step"][0]["percent"]
    for unknown in ("0" * 64, "x", first["id"].upper()):
        refused = await payee.send("GET", f"/v1/feeSchedules/{unknown}")
        assert (404, "FeeScheduleNotFoundError") == (refused.status, refused.json["id"])


async def test_a_quote_is_shown_without_the_explanation_that_this_version_cannot_read(start, sql, tmp_path):
    """Its currency may have left ISO 4217 since. Other quotes in the same statement are explained as ever."""
    fees = tmp_path / "fees.toml"
    fees.write_text(FIVE_PER_CENT)
    old = await (await start(fee_schedule=fees)).reserved()
    await sql.execute("UPDATE fee_schedule SET rules = replace(rules::text, 'USD', 'XXX')::json")
    payee = await start()
    new = await payee.reserved()

    for path in (f"/v1/quote/{old}", f"/v1/quote/{new}"):
        answer = await payee.send("GET", path)
        assert (200, path.endswith(new)) == (answer.status, answer.json["explanation"] is not None)
    listed = (await payee.send("GET", "/v1/quotes")).json["quotes"]
    assert [True, False] == [quote["explanation"] is not None for quote in listed]
    unreadable = await payee.send("GET", f"/v1/feeSchedules/{load_fees(fees).id.hex()}")
    assert (404, "FeeScheduleNotFoundError") == unreadable.outcome


async def test_a_fee_schedule_that_the_database_lost_is_stored_again(start, sql):
    """A standby that takes over may lack the last writes."""
    payee = await start()
    await payee.reserved()
    await sql.execute("DELETE FROM fee_schedule")
    await sql.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'dfsp_api'"
    )

    async def reserves() -> bool:
        return 200 == (await payee.reserve(key="one")).status

    await until(reserves)
    uuid = await payee.reserved(key="two")
    assert None is not (await (await start()).look_up(uuid)).json["explanation"]
