"""The first view while a real chain breaks: a hop that is stopped, and a Postgres that is killed."""

import os
import re
import signal
import time

import pytest

from network.postgres import EmbeddedPostgres
from support.browser import DESKTOP
from support.console import OPERATOR, PASSWORD, basic

pytestmark = pytest.mark.browser

ON_THE_PAGE = "[data-live='problems']"


async def test_a_stopped_hop_and_a_killed_postgres_appear_and_clear_by_themselves(
    own_chain, start, browser, passable, request, capfd
):
    """The times are printed and not checked: on a machine that is busy they may be longer than five seconds."""
    seconds = {}
    with EmbeddedPostgres(passable / "postgres") as postgres:
        chain = own_chain(database_url=postgres.dsn)
        names = [name for name in chain.network.services if name != "console"]
        console = await start({name: chain.origin(name) for name in names})
        await browser.open(console.url, OPERATOR, PASSWORD)
        await browser.shows("Nothing is wrong.")
        await browser.resize(DESKTOP)
        await browser.until_shown("#quote-counts")
        await browser.run("window.isTheSamePage = true")

        hop = chain.network.children["spsp-server"]
        os.kill(hop.pid, signal.SIGSTOP)
        try:
            seconds["spsp-server is frozen"] = await appears(browser, "spsp-server is frozen")
        finally:
            os.kill(hop.pid, signal.SIGCONT)
        await browser.shows_no_more(ON_THE_PAGE, "spsp-server is frozen")

        postgres.kill()
        title = "The Postgres of dfsp-api is away"
        seconds[title] = await appears(browser, title)
        counts = await browser.text("#quotes-counted")
        postgres.start()
        await browser.shows_no_more(ON_THE_PAGE, title)
        assert True is await browser.run("return window.isTheSamePage")
        page = (await console.get("/", Authorization=basic(OPERATOR))).body.decode()

    assert re.match(r"Counted \d+ s ago\.", counts)
    assert title in page.partition("Cleared in the last hour")[2]
    report = request.config.pluginmanager.get_plugin("terminalreporter")
    with capfd.disabled():
        for problem, after in seconds.items():
            report.write_line(f"\n{problem}: on the page after {after:.1f} s; promised are 5 s")


async def appears(browser, title: str) -> float:
    """Return after how many seconds the problem is on the first view."""
    began = time.monotonic()
    await browser.shows(title)
    return time.monotonic() - began
