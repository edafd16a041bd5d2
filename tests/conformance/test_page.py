"""The HTML report in a real Chromium: on a desktop and on a phone, light and dark."""

import pytest

from dfsp_quotes.conformance import html
from support.browser import DESKTOP, PHONE
from support.model import Refused, StillClock
from support.model_payee import CENT, ModelPayee, check_payee

pytestmark = pytest.mark.browser

BACKGROUNDS = {"light": "rgb(246, 247, 249)", "dark": "rgb(21, 24, 28)"}


class WrongInTwoThings(ModelPayee):
    def ensure_same_request(self, known, operation, body):
        pass

    def ensure_not_expired(self, quote):
        if self.clock.now() > quote.expires:
            raise Refused(410, "QuoteExpiredError")

    def destination_amount(self, source):
        return super().destination_amount(source) - CENT


@pytest.fixture(scope="module")
async def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(html(await check_payee(WrongInTwoThings(StillClock()))), encoding="utf-8")
    return path.as_uri()


@pytest.mark.parametrize("color_scheme", BACKGROUNDS)
@pytest.mark.parametrize(("device", "size"), [("phone", PHONE), ("desktop", DESKTOP)])
async def test_the_page_fits_and_follows_the_preferred_colours(page, browser, device, size, color_scheme):
    await browser.prefers(color_scheme)
    await browser.resize(size)
    await browser.show(page)
    await browser.picture(f"conformance-{device}-{color_scheme}", size)
    width, background, loaded = await browser.run(
        "return [document.documentElement.scrollWidth, getComputedStyle(document.body).backgroundColor,"
        " performance.getEntriesByType('resource').length]"
    )

    assert width <= size[0]
    assert (BACKGROUNDS[color_scheme], 0) == (background, loaded)
    assert [] == browser.driver.get_log("browser")


async def test_checks_that_failed_are_open_and_linked_from_the_top(page, browser):
    await browser.resize(PHONE)
    await browser.show(page)
    links, is_open, heights = await browser.run(
        "const links = [...document.querySelectorAll('nav a')];"
        "return [links.map(each => each.textContent),"
        " links.every(each => document.querySelector('#' + CSS.escape(each.textContent)).open),"
        " [...document.querySelectorAll('nav a, summary')].map(each => each.getBoundingClientRect().height)]"
    )

    assert ["expiry.at-the-instant", "idempotency.other-request", "inverse.exact", "inverse.largest"] == links
    assert is_open
    assert min(heights) >= 44

    await browser.press("inverse.exact")
    await browser.picture("conformance-failed-phone", PHONE)

    assert await browser.run(
        "return document.getElementById('inverse.exact').getBoundingClientRect().top >= -1"
    )
