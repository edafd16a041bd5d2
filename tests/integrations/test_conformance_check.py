"""The conformance check, run against right and deliberately wrong webhooks."""

import asyncio
import subprocess
import sys

import pytest
from aiohttp import web

from integrations.conformance.command import main, report
from integrations.conformance.findings import Severity, check_response
from integrations.webhook.webhook_response import ERROR_TYPES, HttpResponse
from support.provider import event, typed
from support.scripted_server import scripted_server, unused_url
from support.serving import Seen, reply, stub


class CorrectWebhook:
    """A webhook that follows the guide: one position for each strategy, and each event once."""

    def __init__(self) -> None:
        self.inbox: dict[str, web.Response] = {}
        self.open: set[str] = set()

    async def __call__(self, seen: Seen) -> web.Response:
        id_ = seen.headers["webhook-id"]
        status, type_ = self.inbox.setdefault(id_, self.judge(seen))
        return await (typed(type_, status) if type_ else reply(status, b""))(seen)

    def judge(self, seen: Seen) -> tuple[int, str | None]:
        if "v1" not in seen.json:
            return 400, None
        happened = event(seen)
        if happened["type"] not in ("SIGNAL_OPEN", "SIGNAL_CLOSE", "SIGNAL_REOPEN"):
            return 200, None
        return self.trade(happened["type"], happened["data"])

    def trade(self, type_: str, data: dict) -> tuple[int, str | None]:
        strategy = data["strategy"]["id"]
        if type_ == "SIGNAL_CLOSE":
            if strategy not in self.open:
                return 404, "PositionNotFound"
            self.open.discard(strategy)
            return 200, None
        if data["ticker"] != "XAUUSD":
            return 422, "UnsupportedInstrument"
        if type_ == "SIGNAL_OPEN" and strategy in self.open:
            return 409, "PositionAlreadyExists"
        if not 1 <= data["quantity"] <= 100:
            return 422, "QuantityTooLow" if data["quantity"] < 1 else "QuantityTooHigh"
        self.open.add(strategy)
        return 200, None


class ForgetfulWebhook(CorrectWebhook):
    """Handles a repeated event twice."""

    async def __call__(self, seen: Seen) -> web.Response:
        self.inbox.clear()
        return await super().__call__(seen)


class WrongWebhook(CorrectWebhook):
    """Answers errors with 200, types in the wrong case, a redirect, and 500 to unknown types."""

    async def __call__(self, seen: Seen) -> web.Response:
        status, type_ = self.judge(seen)
        if "v1" not in seen.json:
            return web.Response()
        happened = event(seen)["type"]
        if happened.endswith("UNKNOWN"):
            return web.Response(status=500)
        if happened == "INTEGRATION_APPROVED":
            return web.Response(status=302, headers={"Location": "/elsewhere"})
        if type_ == "PositionAlreadyExists":
            return await typed(type_, 200)(seen)
        if type_ is not None:
            return await reply(status, {"type": type_.upper()}, x_proquant_error="1")(seen)
        return web.Response(status=status)


@pytest.fixture
def check(capsys):
    """Runs the command; returns its exit status and its report."""

    async def check_(url: str, *more: str) -> tuple[int, str]:
        status = await asyncio.to_thread(main, [url, *more])
        return status, capsys.readouterr().out

    return check_


async def test_the_documented_command_runs_the_check():
    async with stub(CorrectWebhook()) as hook:
        command = [sys.executable, "-m", "integrations", "check", hook.url]
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, check=False, timeout=60
        )

    assert (0, "") == (done.returncode, done.stderr)
    assert "0 faults, 0 notes" in done.stdout


async def test_a_webhook_that_follows_the_guide_has_no_faults(check):
    async with stub(CorrectWebhook()) as hook:
        status, text = await check(hook.url, "--header", "x-token: baz")

    assert 0 == status, text
    assert "0 faults, 0 notes" in text
    assert {"baz"} == {seen.headers["x-token"] for seen in hook.seen}


async def test_all_eight_types_are_sent_and_some_of_them_twice(check):
    async with stub(CorrectWebhook()) as hook:
        await check(hook.url)
    sent = [event(seen)["type"] for seen in hook.seen if "v1" in seen.json]
    ids = [seen.headers["webhook-id"] for seen in hook.seen]

    from integrations.events import EventType

    assert set(EventType) < set(sent)
    assert 3 == len(ids) - len(set(ids))


async def test_the_report_follows_the_guides_sections(check):
    async with stub(CorrectWebhook()) as hook:
        _, text = await check(hook.url)
    sections = [line for line in text.splitlines() if line and not line.startswith(" ")][:-1]

    assert [
        "Handling Events, v1 Event types and data",
        "Responding to Events",
        "Handling Events, Versioning",
    ] == sections


async def test_a_repetition_that_trades_again_is_a_fault(check):
    async with stub(ForgetfulWebhook()) as hook:
        status, text = await check(hook.url)

    assert 1 == status
    assert "FAULT  SIGNAL_OPEN again: 200 to the first, then 409 PositionAlreadyExists" in text
    assert "FAULT  SIGNAL_CLOSE again: 200 to the first, then 404 PositionNotFound" in text


async def test_all_faults_of_a_wrong_webhook_are_found(check):
    async with stub(WrongWebhook()) as hook:
        status, text = await check(hook.url)
    faults = {line.split(": ")[0].removeprefix("  FAULT  ") for line in text.splitlines() if "FAULT" in line}

    assert 1 == status
    assert {
        "INTEGRATION_APPROVED",
        "a second SIGNAL_OPEN",
        "SIGNAL_CLOSE without a position",
        "v9999 alone",
        "SIGNAL_OPEN with an unknown ticker",
        "SIGNAL_OPEN with a tiny quantity",
        "SIGNAL_OPEN with a huge quantity",
    } <= faults
    assert "the type in the body is 'POSITIONNOTFOUND', which is not one of the nine" in text
    assert "does not follow redirects" in text


async def test_the_signatures_can_be_verified(check):
    from standardwebhooks import Webhook

    from integrations.webhook.signing import new_signing_secret

    secret = new_signing_secret()
    async with stub(CorrectWebhook()) as hook:
        await check(hook.url, "--secret", secret)

    for seen in hook.seen:
        Webhook(secret).verify(seen.body, seen.headers)


async def test_a_webhook_that_does_not_answer_is_a_fault(check):
    status, text = await check(unused_url())

    assert 1 == status
    assert "no answer" in text


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["http://x/", "--quantity", "0"],
                                       ["http://x/", "--secret", "whsec_!"],
                                       ["http://x/", "--header", "Host: y"]])  # fmt: skip
def test_invalid_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as raised:
        main(arguments)

    assert 2 == raised.value.code


async def test_a_success_that_cannot_be_read_is_named(check):
    async with scripted_server(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nmore") as hook:
        status, text = await check(hook.url)

    assert 1 == status
    assert "FAULT  INTEGRATION_APPROVED: 200" in text
    assert "the response could not be read after its status line: there are bytes after its end" in text


@pytest.mark.parametrize("type_", sorted(ERROR_TYPES))
def test_a_typed_error_that_fits_is_ok(type_):
    from multidict import CIMultiDict

    headers = CIMultiDict({"Content-Type": "application/json", "x-proquant-error": "1"})
    found = check_response(
        "s", "c", HttpResponse(422, headers, f'{{"type":"{type_}"}}'.encode()), expected=[type_]
    )

    assert Severity.OK is found.severity
    assert "0 faults, 0 notes, 1 ok" in report([found])
