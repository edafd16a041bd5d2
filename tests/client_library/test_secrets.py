"""The password is in no repr, no log line, no error and no traceback."""

import logging
import traceback
from base64 import b64encode

import pytest

from dfsp_quotes import QuoteClient, QuoteError, UnauthorizedError, UnavailableError
from dfsp_quotes.fake import FakeQuoteServer, Fault
from support.quote_client import reserve
from support.scripted_server import http, scripted_server, unused_url

PASSWORD = "correct-horse-battery"
ENCODED = b64encode(f"alice:{PASSWORD}".encode()).decode()


def leaks(text: str) -> bool:
    return PASSWORD in text or ENCODED in text


async def error_of(url: str) -> QuoteError:
    async with QuoteClient(url, "alice", PASSWORD) as client:
        with pytest.raises(QuoteError) as caught:
            await reserve(client, timeout=0.5)
    return caught.value


def texts(error: BaseException | None) -> list[str]:
    """Return everything that a log may show of an error and of all errors behind it."""
    found = []
    while error is not None:
        found += [repr(error), str(error), repr(vars(error)), repr(error.args)]
        error = error.__cause__ or error.__context__
    return found


def test_the_repr_of_a_client_has_no_password():
    client = QuoteClient("http://127.0.0.1:8010", "alice", PASSWORD)

    assert "QuoteClient('http://127.0.0.1:8010', 'alice')" == repr(client)
    assert not leaks(repr(client._transport))


@pytest.mark.parametrize(
    "response",
    [b"", b"this is not HTTP\r\n\r\n", http(503, b""), http(200, b""), http(302, b"", "Location: /")],
)
async def test_no_error_of_a_broken_server_has_the_password(response, caplog):
    caplog.set_level(logging.DEBUG)
    async with scripted_server(response) as server:
        error = await error_of(server.url)

    shown = "".join([*texts(error), *traceback.format_exception(error), caplog.text])
    assert not leaks(shown)


async def test_no_error_without_a_server_has_the_password(caplog):
    caplog.set_level(logging.DEBUG)
    error = await error_of(unused_url())

    assert not leaks("".join([*texts(error), *traceback.format_exception(error), caplog.text]))


async def test_the_log_line_of_a_repetition_names_the_request_and_no_secret(fake, caplog):
    caplog.set_level(logging.INFO, "dfsp_quotes")
    fake.fail(UnavailableError(retry_after=0), Fault.LOST_REQUEST)
    async with QuoteClient(fake.url, fake.name, fake.password) as client:
        quote = await reserve(client)
    first, second = [record.getMessage() for record in caplog.records if record.name == "dfsp_quotes"]

    assert first.startswith("POST /v1/quoteSourceAmount: status 503; attempt 2 follows in ")
    assert second.startswith("POST /v1/quoteSourceAmount: the connection broke: ")
    assert first.endswith(f"(trace id {quote.trace_id})")
    assert not leaks(caplog.text)


async def test_the_fake_keeps_no_credentials():
    async with FakeQuoteServer(users={"alice": PASSWORD}) as fake:
        async with QuoteClient(fake.url, "alice", PASSWORD) as client:
            await reserve(client)

        assert not leaks(repr(fake.received))
        assert "authorization" not in fake.received[0].headers


async def test_a_refused_password_is_in_no_error(fake):
    error = await error_of(fake.url)

    assert UnauthorizedError is type(error)
    assert not leaks("".join(texts(error)))
