"""Reserve, show, pay and requote, against the chain."""

import asyncio
import re
import signal
from collections.abc import Iterator

import pytest

from support.command_line import PATIENCE_SECONDS, RESERVE, TO, CommandLine, without_colour
from support.messages import QUOTE
from support.provider import HeldAnswer, until
from support.serving import stub

UNKNOWN = "110ec58a-a0f2-4ac4-8393-c866d813b8d1"


async def test_a_quote_is_reserved_shown_and_paid_once(quotes):
    quote = await quotes.json(*RESERVE, "--symbol", "$")
    uuid = quote["uuid"]
    before = await quotes.json("show", uuid, *TO)
    payment = await quotes.json("pay", uuid, *TO)
    again = await quotes.json("pay", uuid, *TO)
    after = await quotes.json("show", uuid, *TO)

    assert ("13.75", "12.50", "1.25") == (quote["sourceAmount"], quote["destinationAmount"], quote["fee"])
    assert QUOTE == quote["request"]
    assert ("RESERVED", None, QUOTE) == (before["state"], before["executed"], before["request"])
    assert quote["expires"] == before["expires"]
    assert ("EXECUTED", "13.75", "12.50", "1.25", "USD") == (
        payment["state"],
        payment["sourceAmount"],
        payment["destinationAmount"],
        payment["fee"],
        payment["currencyCode"],
    )
    assert payment["executed"] == again["executed"] == after["executed"]
    assert "EXECUTED" == after["state"]


async def test_a_destination_amount_is_what_is_sent(quotes):
    quote = await quotes.json("quote", "destination", "13.75", "USD", *TO)

    assert "quoteDestinationAmount" == quote["operation"]
    assert ("13.75", "12.50") == (quote["sourceAmount"], quote["destinationAmount"])


async def test_the_same_key_gives_the_same_quote_and_requote_another(quotes):
    key = ("--key", "command-line-1")
    first, second = await quotes.json(*RESERVE, *key), await quotes.json(*RESERVE, *key)
    new = await quotes.json("requote", first["uuid"], *TO)

    assert first["uuid"] == second["uuid"]
    assert "command-line-1" == first["idempotencyKey"]
    assert new["uuid"] != first["uuid"] == new["previousUuid"]
    assert ("0.00", "0.00") == (new["difference"], new["feeDifference"])


async def test_a_released_quote_is_shown_as_released_and_cannot_be_paid(quotes):
    uuid = (await quotes.json(*RESERVE))["uuid"]
    released = await quotes.json("release", uuid, *TO)
    shown = await quotes.run("show", uuid, *TO)

    assert {"uuid": uuid, "state": "RELEASED"}.items() <= released.items()
    assert {"uuid", "state", "released", "traceId"} == set(released)
    assert f"released  {released['released']}" in shown.output
    assert "QuoteReleasedError" in await quotes.error(1, "pay", uuid, *TO)


async def test_the_json_of_each_command_has_these_keys(quotes):
    """Programs read them: a key that is missing here breaks them."""
    quote = await quotes.json(*RESERVE)
    terms = {
        "uuid",
        "operation",
        "amount",
        "sourceAmount",
        "destinationAmount",
        "fee",
        "expires",
        "traceId",
        "request",
    }

    assert terms | {"idempotencyKey"} == set(quote)
    assert terms | {"state", "created", "executed", "released", "explanation"} == set(
        await quotes.json("show", quote["uuid"], *TO)
    )
    assert terms | {"idempotencyKey", "previousUuid", "difference", "feeDifference"} == set(
        await quotes.json("requote", quote["uuid"], *TO)
    )
    assert {
        "uuid",
        "state",
        "currencyCode",
        "sourceAmount",
        "destinationAmount",
        "fee",
        "executed",
        "traceId",
    } == set(await quotes.json("pay", quote["uuid"], *TO))


async def test_a_terminal_gets_colours_and_a_pipe_does_not(quotes):
    shown = await quotes.on_terminal(*RESERVE)
    piped = await quotes.run(*RESERVE)
    text = without_colour(shown.output)
    uuid = re.search(r"^quote +(\S+)", text, re.MULTILINE)[1]

    assert 0 == shown.code == piped.code
    assert "\x1b[1m13.75 USD" in shown.output
    assert re.search(r"^arrives +12\.50 USD *$", text, re.MULTILINE)
    assert re.search(r"^fee +1\.25 USD *$", text, re.MULTILINE)
    assert f"Pay with: quotes pay {uuid} {' '.join(TO)}" in text
    assert "\x1b" not in piped.output


async def test_the_state_of_a_quote_has_a_colour(quotes):
    quote = await quotes.json(*RESERVE)
    reserved = await quotes.on_terminal("show", quote["uuid"], *TO)
    paid = await quotes.on_terminal("pay", quote["uuid"], *TO)

    assert "\x1b[32mRESERVED" in reserved.output
    assert "\x1b[1;32mEXECUTED" in paid.output


async def test_no_color_is_respected(quotes):
    plain = CommandLine(quotes.home, {**quotes.environment, "NO_COLOR": "1"})
    shown = await plain.on_terminal(*RESERVE)

    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", shown.output)


async def test_a_refusal_has_exit_code_1_and_says_why(quotes):
    message = await quotes.error(1, "show", UNKNOWN, *TO)

    assert re.fullmatch(
        r"No quote with this uuid was reserved with these credentials\. "
        r"\(QuoteNotFoundError, service dfsp-api, trace id [0-9a-f-]{36}\)",
        message,
    )


async def test_the_json_of_a_refusal_has_the_error_object(quotes):
    done = await quotes.run("show", UNKNOWN, "--to", "eur:nobody", "--json")
    error = done.json["error"]

    assert (1, "") == (done.code, done.error)
    assert ("ReceiverNotFoundError", 404, 1, False) == (
        error["id"],
        error["status"],
        error["exitCode"],
        error["isOutcomeUnknown"],
    )
    assert {"message", "service", "traceId", "fields", "idempotencyKey", "retryAfter"} <= set(error)


async def test_a_wrong_password_is_a_refusal_that_does_not_show_it(quotes):
    wrong = CommandLine(quotes.home, {**quotes.environment, "QUOTES_PASSWORD": "correct-horse"})
    done = await wrong.run(*RESERVE, "--user", "somebody-else")

    assert 1 == done.code
    assert "UnauthorizedError" in done.error
    assert "correct-horse" not in done.output + done.error


async def test_a_field_that_the_service_refuses_is_bad_input_and_named(quotes):
    message = await quotes.error(2, "quote", "source", "12.505", "USD", *TO)

    assert message.startswith("amount: must have at most 2 fraction digits")


async def test_no_answer_has_exit_code_3_and_names_the_key(quotes):
    message = await quotes.error(
        3, *RESERVE, "--url", "http://127.0.0.1:1", "--timeout", "0.2", "--key", "k1"
    )

    assert "No connection to http://127.0.0.1:1 was possible." in message
    assert "The same request with --key k1 repeats it." in message


@pytest.fixture
def _with_sigint() -> Iterator[None]:
    """A shell starts tests in the background with SIGINT ignored, and each child would inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_with_sigint")
async def test_ctrl_c_during_a_reservation_names_the_key_that_was_sent(quotes):
    async with stub(HeldAnswer()) as server:
        process = await quotes.start(*RESERVE, "--url", server.url)
        await until(lambda: server.seen)
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(PATIENCE_SECONDS):
            _, error = await process.communicate()
        key = server.seen[0].headers["Idempotency-Key"]
        server.answer.let_go.set()

    assert 130 == process.returncode
    assert (
        f"error: Interrupted. The quote may be reserved all the same: the same command with --key {key} shows it.\n"
        == error.decode()
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "x", *TO), "uuid must be 8-4-4-4-12 hex digits."),
        (("show", UNKNOWN, "--to", "eur"), "The receiver must be TYPE:IDENTIFIER, such as eur:30754016."),
        (("show", UNKNOWN), "Missing option '--to'."),
        (("show",), "Missing argument 'UUID'."),
        (("quote", "source", "1e3", "USD", *TO), "AMOUNT must be a plain decimal number such as 12.50."),
        (("quote", "source", "٣", "USD", *TO), "AMOUNT must be a plain decimal number such as 12.50."),
        (("quote", "source", "0", "USD", *TO), "amount must be a finite number above zero."),
        (("quote", "sideways", "1", "USD", *TO), "No such command 'sideways'."),
        (("show", UNKNOWN, *TO, "--timeout", "0"), "timeout must be above 0 and at most 3,600 seconds."),
        (
            ("show", UNKNOWN, *TO, "--url", "ftp://x"),
            "--url must be an absolute http or https URL without query and fragment.",
        ),
        ((*RESERVE, "--key", "a b"), "idempotency_key must be 1 to 128 visible ASCII characters."),
        (("show", UNKNOWN, *TO, "--jsn"), "No such option: --jsn (Possible options: --json)"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(refusal, monkeypatch, arguments, message):
    access = {"QUOTES_URL": "http://127.0.0.1:1", "QUOTES_USER": "test", "QUOTES_PASSWORD": "123"}
    for name, value in access.items():
        monkeypatch.setenv(name, value)
    account = ("--account", "http://a.example/alice") if "quote" in arguments else ()

    assert message == refusal(*arguments, *account)


async def test_bad_input_with_json_is_an_object(quotes):
    done = await quotes.run("show", "x", *TO, "--json")

    assert (2, "") == (done.code, done.error)
    assert {"error": {"message": "uuid must be 8-4-4-4-12 hex digits.", "exitCode": 2}} == done.json
