"""The fake's prices and checks of messages are those of the services, for whatever hypothesis tries."""

import json
from datetime import datetime, timedelta
from decimal import Decimal
from urllib.parse import urlencode

from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import AmountOutOfRangeError, InvalidBodyError, InvalidQueryParameterError
from chassis.queries import query_parameters
from dfsp_api.fee_schedule_file import parse_fee_schedule
from dfsp_api.payee import SAMPLE_FEES
from dfsp_api.quote_filter import EARLIEST, LATEST
from dfsp_api.quote_list import NAMES, filter_of
from dfsp_quotes import AmountOutOfRangeError as FakeAmountOutOfRangeError
from dfsp_quotes import InvalidBodyError as FakeInvalidBodyError
from dfsp_quotes import InvalidQueryParameterError as FakeInvalidQueryParameterError
from dfsp_quotes import Operation, fake_validation
from dfsp_quotes.currencies import FRACTION_DIGITS
from dfsp_quotes.fake_payee import FakePayee
from quoting import validation
from support.messages import QUOTE

SCHEDULE = parse_fee_schedule(SAMPLE_FEES.read_text())
FAKE = FakePayee(Decimal("0.10"), timedelta(minutes=5), ("p2p",))

amounts = st.one_of(
    st.integers(1, 300),
    st.integers(1, 10**11),
    st.integers(99_999_900, 110_000_100),
    st.integers(999_990, 1_100_010),
)


def price(schedule_or_error) -> tuple[str, str] | str:
    try:
        terms = schedule_or_error()
    except (AmountOutOfRangeError, FakeAmountOutOfRangeError) as error:
        return error.message
    source, destination = (
        terms if isinstance(terms, tuple) else (terms.source_amount, terms.destination_amount)
    )
    return str(source), str(destination)


@given(currency=st.sampled_from(["USD", "JPY", "KWD"]), minor_units=amounts)
def test_prices_are_the_same(currency, minor_units):
    amount = format(Decimal(minor_units).scaleb(-FRACTION_DIGITS[currency]), "f")
    request = {**QUOTE, "currencyCode": currency, "amount": amount}

    assert price(lambda: SCHEDULE.price_source(request)) == price(
        lambda: FAKE._price(Operation.QUOTE_SOURCE_AMOUNT, request)
    )
    assert price(lambda: SCHEDULE.price_destination(request)) == price(
        lambda: FAKE._price(Operation.QUOTE_DESTINATION_AMOUNT, request)
    )


SAMPLES = [
    *(
        "12.50",
        "12.505",
        "0",
        "00",
        "0.000",
        "0.01",
        "1e3",
        "-1",
        "1.",
        ".5",
        "9" * 18,
        "9" * 19,
        "0." + "9" * 18,
    ),
    *("USD", "usd", "XAU", "JPY", "KWD", "CLF", "p2p", "P2P", "e" * 32, "e" * 33, "i" * 128, "i" * 129),
    *(
        "http://a.example/",
        "https://a.example:0",
        "https://a.example:99999",
        "http://",
        "//a.example",
        "ftp://a.example",
    ),
    *(
        "http://b@a.example",
        "http://[::1]/",
        "http://[::1",
        "http://a.example/<",
        "http://a.example/" + "x" * 2_040,
    ),
]
texts = st.one_of(st.sampled_from(SAMPLES), st.text("aZ09._- $€é@:/\n\0", max_size=9))
values = st.one_of(texts, st.none(), st.booleans(), st.integers(-5, 5), st.just([]), st.just({}))
names = st.sampled_from([*QUOTE, "sourceAmount", "destinationAmount", "submissionUrl"])


def checked(check, body: bytes) -> dict[str, str] | list[tuple[str, str]]:
    """Return the fields, or the faults by field."""
    try:
        return check(body)
    except InvalidBodyError as error:
        faults: dict[str, str] = {}
        for fault in error.faults:
            faults[fault.key] = (
                f"{faults[fault.key]}; {fault.message}" if fault.key in faults else fault.message
            )
        return sorted(faults.items())
    except FakeInvalidBodyError as error:
        return sorted(error.fields.items())


@given(changed=st.dictionaries(names, values, max_size=3), left_out=st.sets(names, max_size=2))
def test_faults_of_a_message_are_the_same(changed, left_out):
    message = {name: value for name, value in {**QUOTE, **changed}.items() if name not in left_out}
    body = json.dumps(message).encode()

    assert checked(validation.reservation, body) == checked(fake_validation.reservation, body)
    assert checked(validation.payment, body) == checked(fake_validation.payment, body)


LISTED = [
    *(
        "RESERVED",
        "EXECUTED",
        "EXPIRED",
        "reserved",
        "test",
        "a" * 64,
        "a" * 65,
        "50",
        "0",
        "200",
        "201",
        "-1",
    ),
    *(
        "2030-01-01",
        "2030-02-30",
        "2030-01-01T00:00Z",
        "2030-01-01T00:00:00.123456789+01:00",
        "2030-01-01T24:00Z",
    ),
    *("2030-01-01T00:00:00", "2030-01-01t00:00:00z", "2030-01-01T00:00:00 01:00", "20300101", "2030-W01-1"),
    *("12.5", "012", "\u0663", ""),
]
parameters = st.tuples(
    st.sampled_from([*sorted(NAMES - {"after"}), "page"]), st.one_of(st.sampled_from(LISTED), texts)
)


@given(st.lists(parameters, max_size=4))
def test_faults_of_a_list_are_the_same(query):
    """Only the cursor differs."""
    assert listed_by_service(query) == listed_by_fake(query)


def listed_by_service(query: list[tuple[str, str]]) -> dict[str, object]:
    """Return the limit and the times, or the faults by field."""
    try:
        wanted = filter_of(query_parameters(urlencode(query), NAMES))
    except InvalidQueryParameterError as error:
        return {fault.key: fault.message for fault in error.faults}
    return {"limit": wanted.limit, "since": wanted.since, "until": wanted.before.created}


def listed_by_fake(query: list[tuple[str, str]]) -> dict[str, object]:
    try:
        read = fake_validation.listing(query)
    except FakeInvalidQueryParameterError as error:
        return dict(error.fields)
    since, until = read.get("since"), read.get("until")
    return {
        "limit": int(read["limit"]),
        "since": EARLIEST if since is None else datetime.fromisoformat(since),
        "until": LATEST if until is None else datetime.fromisoformat(until),
    }
