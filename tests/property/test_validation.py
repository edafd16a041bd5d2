"""The fast and the slow check of a message accept the same messages with the same fields."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chassis.errors import InvalidBodyError
from chassis.json_object import flat, members
from chassis.schemas import check, parse
from quoting import validation
from quoting.schemas import PARAMETERS, PAYMENT, RECEIVER, RESERVATION, exponents
from quoting.validation import is_receiver
from support.messages import QUOTE

ENDS = {"reservation": (validation.reservation, RESERVATION), "payment": (validation.payment, PAYMENT)}
AMOUNTS = st.one_of(
    st.from_regex(r"[0-9]{0,20}\.?[0-9]{0,6}", fullmatch=True),
    st.decimals(min_value=0, max_value=10**12, places=3).map(str),
    st.text(max_size=8),
)
HOSTS = st.sampled_from(
    [
        "http://a",
        "https://a.b-c:80",
        "http://",
        "http://u@a",
        "http://[::1]",
        "http://a..b",
        "ftp://a",
        "HTTP://a",
        "http://-a",
        "http://a:0",
        "http://a:99999",
        "http://a" * 500,
    ]
)
ACCOUNTS = st.builds(
    lambda host, rest: host + rest,
    HOSTS,
    st.sampled_from(["", "/", "/x?y#z", "/a b", "/ü", "?q", "/x" * 900]),
)
FIELDS = {
    "currencyCode": st.sampled_from(["USD", "JPY", "KWD", "CLF", "XAU", "usd", ""])
    | st.sampled_from(sorted(exponents())),
    "currencySymbol": st.text(max_size=10),
    "amount": AMOUNTS,
    "account": ACCOUNTS,
    "identifier": st.text(max_size=130),
    "identifierType": st.text("aZ0_-. ", max_size=34),
    "transferType": st.text("aZ0_-. ", max_size=34),
}
MESSAGES = st.fixed_dictionaries(
    {name: st.just(QUOTE[name]) | field for name, field in FIELDS.items()}
).flatmap(
    lambda message: st.sampled_from(
        [message, {**message, "sourceAmount": "1.00"}, {**message, "more": "x"}]
        + [{name: value for name, value in message.items() if name != left_out} for left_out in PARAMETERS]
    )
)


def outcome(work, *arguments):
    try:
        return list(work(*arguments).items())
    except InvalidBodyError as error:
        return error.faults


@pytest.mark.parametrize("end", ENDS)
@given(message=MESSAGES, escaped=st.booleans())
@example(message=QUOTE, escaped=False)
def test_both_checks_have_the_same_result(end, message, escaped):
    fast, schema = ENDS[end]
    body = json.dumps(message, ensure_ascii=escaped).encode("utf-8", "surrogatepass")

    assert outcome(parse, schema, body) == outcome(fast, body)


@pytest.mark.parametrize("end", ENDS)
def test_a_usual_message_needs_the_fast_check_alone(end, monkeypatch):
    monkeypatch.setattr(validation, "parse", None)

    assert QUOTE == ENDS[end][0](json.dumps(QUOTE).encode())


@given(message=MESSAGES)
def test_a_receiver_that_the_fast_check_accepts_is_valid(message):
    body = json.dumps(message, ensure_ascii=False).encode("utf-8", "replace")
    found = flat(body)

    if found is not None and is_receiver(found):
        taken = [member for member in members(body) if member.key in {"identifier", "identifierType"}]
        assert {"identifier": found["identifier"], "identifierType": found["identifierType"]} == check(
            RECEIVER, taken
        )
