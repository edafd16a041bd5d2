"""*Quotes* in a real Chromium, on the console of `make run`, which receives the spans of the network."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import pytest

from support import accessibility
from support.browser import DESKTOP, PHONE
from support.chain import free_ports
from support.client import send
from support.messages import QUOTE, RESERVE, TRACE
from support.payee import until
from support.sample_run import SampleRun, sample_run

pytestmark = pytest.mark.browser

VIEWER, PASSWORD = "viewer", "sample"
FROZEN = "spsp-server-backend"
CONSOLE_OFFSET = 9
RECEIVER = "?identifierType=eur&identifier=30754016"


@pytest.fixture(scope="module")
def run() -> Iterator[SampleRun]:
    """The network of `make run`."""
    with TemporaryDirectory() as folder, sample_run(free_ports(), Path(folder) / "data") as started:
        started.wait_until_up()
        yield started


@pytest.fixture(scope="module")
def axe(tmp_path_factory) -> str:
    return accessibility.install(tmp_path_factory.mktemp("axe"))


@pytest.fixture
def console_url(run) -> str:
    return f"http://127.0.0.1:{run.port + CONSOLE_OFFSET}"


class Reader:
    """A person who reads the console. `clicks` counts the links and buttons that were pressed."""

    def __init__(self, browser, url: str) -> None:
        self.browser = browser
        self.url = url
        self.clicks = 0

    async def begin(self) -> None:
        await self.browser.open(self.url, VIEWER, PASSWORD)
        await self.browser.shows("Now")

    async def press(self, name: str) -> None:
        self.clicks += 1
        await self.browser.press(name)

    async def choose(self, name: str, value: str) -> None:
        """Choose an option of the form's list of this name."""
        await self.browser.run(f"document.querySelector('[name={name}]').value = '{value}'")

    async def text(self, selector: str) -> str:
        await self.browser.until_shown(selector)
        return str(await self.browser.run(f"return document.querySelector('{selector}').innerText"))

    async def look_again_until(self, text: str) -> None:
        """Load the page again until it has the text: spans arrive about a second after their request."""

        async def has_text() -> bool:
            await self.browser.show(await self.browser.run("return location.href"))
            return text in await self.text("main")

        await until(has_text)


@pytest.fixture
def reader(browser, console_url) -> Reader:
    return Reader(browser, console_url)


async def reserve(client: aiohttp.ClientSession, run: SampleRun, **headers: str):
    return await send(client, "POST", run.url + RESERVE, QUOTE, **headers)


def process_of(run: SampleRun, module: str) -> int:
    [found] = [pid for pid, command in run.processes().items() if f"-m {module}" in command]
    return found


async def test_why_did_this_request_fail_takes_three_clicks(run, client, reader):
    """A frozen hop: the request ends with 504 at the first hop, and the console names the hop that did not answer."""
    pid = process_of(run, FROZEN.replace("-", "_"))
    os.kill(pid, signal.SIGSTOP)
    try:
        answer = await reserve(client, run, **{TRACE: "frozen-hop", "X-Request-Timeout-Ms": "1500"})
    finally:
        os.kill(pid, signal.SIGCONT)
    assert 504 == answer.status

    await reader.begin()
    await reader.press("Quotes")
    await reader.press("Failed requests")
    await reader.look_again_until("frozen-hop")
    await reader.press("frozen-hop")
    await reader.look_again_until("The error began at")

    assert reader.clicks <= 3
    assert FROZEN in await reader.text("p.first-error")
    await reader.browser.picture("console-failed-desktop", DESKTOP)
    await reader.browser.picture("console-failed-phone", PHONE)


async def test_what_did_a_caller_pay_in_the_last_ten_minutes_takes_two_clicks(run, client, reader):
    for _ in range(2):
        quote = (await reserve(client, run)).json
        paid = await send(client, "PUT", f"{run.url}/v1/payments/{quote['uuid']}", QUOTE)
        assert 200 == paid.status

    await reader.begin()
    await reader.press("Quotes")
    await reader.browser.type("[name=caller]", "test")
    await reader.choose("state", "EXECUTED")
    await reader.choose("last", "600")
    await reader.press("Show")

    assert reader.clicks <= 3
    # the demonstration of `make run` has paid once
    assert "41.25 USD in 3 payments (fees 3.75)" in await reader.text("#totals")
    await reader.browser.picture("console-quotes-desktop", DESKTOP)


async def test_a_sampled_quote_has_a_waterfall_of_spans_with_its_log_lines(run, client, reader):
    sampled = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", TRACE: "sampled"}
    quote = (await reserve(client, run, **sampled)).json

    await reader.begin()
    await reader.press("Quotes")
    await reader.press(quote["uuid"])
    for text in (
        "Made of spans",
        "dfsp-api-payer",
        "reserve quote",
        "1 log line, span of dfsp-api",
    ):
        await reader.look_again_until(text)
    await reader.press("1 log line, span of dfsp-api")
    await reader.browser.shows("quote.uuid")

    await reader.browser.shows("The payer sends")
    await reader.browser.resize(DESKTOP)
    await reader.browser.run("document.querySelector('.waterfall').scrollIntoView()")
    await reader.browser.picture("console-quote-desktop", DESKTOP)


async def test_a_quotes_page_explains_the_fee_and_leads_to_its_schedule(run, client, reader):
    quote = (await reserve(client, run, **{"X-Quote-Lifetime-Ms": "600000"})).json
    released = await send(client, "DELETE", f"{run.url}/v1/quote/{quote['uuid']}{RECEIVER}")
    assert 200 == released.status

    await reader.begin()
    await reader.browser.show(f"{reader.url}/quotes/{quote['uuid']}")
    for text in (
        "(lifetime 10 min)",
        "Released",
        "0.00 plus 10 % of the amount that arrives",
        "at least 0.01",
    ):
        await reader.browser.shows(text)
    await reader.browser.resize(PHONE)
    await reader.browser.run("document.querySelector('#fee').scrollIntoView()")
    await reader.browser.picture("console-fee-phone", PHONE)
    schedule = str(await reader.browser.run("return document.querySelector('#fee a').innerText"))
    await reader.press(schedule)
    await reader.browser.shows("shortly before its first quote")
    await reader.press("Configuration")
    await reader.browser.shows(schedule)

    assert 2 == reader.clicks


async def test_a_quote_that_was_not_sampled_has_a_waterfall_of_log_lines(run, client, reader):
    """The trace id decides whether a request is sampled; this one is not in the 1 %."""
    quote = (await reserve(client, run, **{TRACE: "unsampled"})).json

    await reader.begin()
    await reader.browser.show(f"{reader.url}/quotes/{quote['uuid']}")
    await reader.look_again_until("was not sampled")


@pytest.mark.parametrize("mode", ["light", "dark"])
async def test_no_page_has_a_violation_of_accessibility(run, client, reader, axe, mode):
    browser = reader.browser
    quote = (await reserve(client, run, **{TRACE: "accessible"})).json
    await send(
        client,
        "PUT",
        f"{run.url}/v1/payments/{quote['uuid']}",
        {**QUOTE, "amount": "1.00"},
        trace="accessible",
    )
    found = (await send(client, "GET", f"{run.url}/v1/quote/{quote['uuid']}{RECEIVER}")).json
    await browser.prefers(mode)
    await reader.begin()
    paths = (
        f"/fee-schedules/{found['explanation']['schedule']}",
        "/quotes",
        "/quotes/failed",
        f"/quotes/{quote['uuid']}",
        "/traces/accessible",
        "/traces/unknown",
        "/quotes?since=x",
    )
    for path in paths:
        await browser.show(reader.url + path)
        await browser.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        for size in (DESKTOP, PHONE):
            await browser.resize(size)

            assert [] == await accessibility.violations(browser, axe), f"{path} {mode} {size}"
            assert size[0] >= int(str(await browser.run("return document.documentElement.scrollWidth"))), path
    messages = [each["message"] for each in browser.driver.get_log("browser")]
    assert [] == [each for each in messages if "Content Security Policy" in each]
