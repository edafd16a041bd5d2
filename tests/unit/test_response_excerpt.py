"""The part of a webhook's response that the attempt log keeps."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from yarl import URL

from integrations.webhook.response_excerpt import (
    HIDDEN,
    MAX_BODY_CHARACTERS,
    MAX_HEADER_CHARACTERS,
    MAX_HEADERS,
    response_excerpt,
)
from integrations.webhook.webhook_response import HttpResponse


def excerpt(body: bytes | None, headers=(), secrets=(), status: int | None = 500):
    return response_excerpt(HttpResponse(status, CIMultiDict(headers), body), secrets)


def test_headers_and_body_are_kept():
    assert {
        "headers": [("Content-Type", "text/plain"), ("X-A", "1")],
        "body": "no\nfunds",
        "isCut": False,
    } == excerpt(b"no\nfunds", [("Content-Type", "text/plain"), ("X-A", "1")])


@pytest.mark.parametrize(("status", "body"), [(None, None), (200, b""), (299, b"")])
def test_nothing_is_kept_without_a_response_or_of_a_success_without_a_body(status, body):
    assert excerpt(body, [("X-A", "1")], status=status) is None


def test_a_body_that_could_not_be_read_is_none():
    assert {"headers": [], "body": None, "isCut": False} == excerpt(None)


def test_a_value_of_the_partners_headers_is_hidden_wherever_it_is_repeated():
    found = excerpt(
        b'{"you sent": "baz", "token": "dXNlcjpwYXNz"}',
        [("X-Echo", "a baz b"), ("Set-Cookie", "session=1")],
        ["baz", "Basic dXNlcjpwYXNz", "x"],
    )

    assert [("X-Echo", f"a {HIDDEN} b"), ("Set-Cookie", HIDDEN)] == found["headers"]
    assert {"you sent": HIDDEN, "token": HIDDEN} == json.loads(found["body"])


def test_a_secret_at_the_end_of_what_is_kept_is_not_shown_in_part():
    found = excerpt(b"-" * (MAX_BODY_CHARACTERS - 4) + b"very-secret", secrets=["very-secret"])

    assert "very" not in found["body"]
    assert found["isCut"]


@given(
    st.binary(max_size=3_000),
    st.lists(st.tuples(st.text(max_size=50), st.text(max_size=500)), max_size=50),
)
def test_whatever_a_webhook_answers_is_limited_and_can_be_stored_as_json(body, headers):
    found = excerpt(body, headers)

    assert len(found["body"]) <= MAX_BODY_CHARACTERS
    assert len(found["headers"]) <= MAX_HEADERS
    assert sum(len(name) + len(value) for name, value in found["headers"]) <= MAX_HEADER_CHARACTERS
    text = json.dumps(found, ensure_ascii=False)
    assert "\x00" not in text
    assert "\\u0000" not in text
    text.encode()


def test_values_in_the_query_of_the_webhook_are_hidden_where_a_redirect_repeats_them():
    url = URL("https://hook.example/in?token=s3cret-%2Fs3cret&format=json", encoded=True)
    location = ("Location", str(url).replace("https", "http"))
    response = HttpResponse(301, CIMultiDict([location]), b"no s3cret-/s3cret in json")
    found = response_excerpt(response, (), url)

    assert [("Location", f"http://hook.example/in?token={HIDDEN}&format=json")] == found["headers"]
    assert f"no {HIDDEN} in json" == found["body"]
