"""``/docs``: the API description as a page, from this service alone."""

import asyncio
import json
import re
from urllib.parse import urlsplit

import pytest
from selenium.webdriver.common.by import By

from chassis import docs_page
from support.browser import DESKTOP, PHONE
from support.client import is_error_object
from support.forwarders import ClientRequest
from support.messages import QUOTE

SIZES = {"desktop": DESKTOP, "phone": PHONE}
OPERATION = ".opblock"
WEB = {"http", "https", "ws", "wss"}


def faults_of(browser) -> list[str]:
    """Return the browser's warnings and errors, such as those about the policy."""
    return [each["message"] for each in browser.driver.get_log("browser") if each["level"] != "DEBUG"]


def get(path: str) -> ClientRequest:
    return ClientRequest("GET", path)


async def test_the_page_needs_no_credentials_and_names_the_service(hop):
    page = await hop.send(get("/docs"), adapt=False, Authorization=None)

    assert (200, "text/html; charset=utf-8") == (page.status, page.headers["Content-Type"])
    assert hop.service.encode() in page.body


async def test_the_policy_allows_this_service_alone_and_no_inline_script(payer):
    page = await payer.send(get("/docs"), adapt=False)
    policy = dict(each.strip().split(" ", 1) for each in page.headers["Content-Security-Policy"].split(";"))

    assert "'none'" == policy["default-src"]
    assert ("'self'", "'self'", "'self'") == (
        policy["script-src"],
        policy["style-src"],
        policy["connect-src"],
    )
    assert "'self' data:" == policy["img-src"]
    assert "nosniff" == page.headers["X-Content-Type-Options"]


async def test_the_page_loads_files_of_this_service_only(payer):
    page = await payer.send(get("/docs"), adapt=False)
    links = re.findall(rb'(?:src|href)="([^"]+)"', page.body)

    assert [] == [each for each in links if b":" in each and not each.startswith(b"data:,")]
    assert {f"docs/{name}".encode() for name in docs_page.FILES} <= set(links)


@pytest.mark.parametrize("name", docs_page.FILES)
async def test_a_file_has_its_type_and_the_policy(payer, name):
    file = await payer.send(get(f"/docs/{name}"), adapt=False, Authorization=None)

    assert 200 == file.status
    assert docs_page.FILES[name][1] in file.headers["Content-Type"]
    assert docs_page.HEADERS.items() <= file.headers.items()
    assert (docs_page.FILES[name][0] / name).read_bytes() == file.body


@pytest.mark.parametrize("path", ["/docs/", "/docs/index.html", "/docs/..%2Fapp.py", "/docs/%2Fetc%2Fpasswd"])
async def test_another_file_is_404(payer, path):
    answer = await payer.send(get(path), adapt=False)

    assert (404, "NotFoundError") == (answer.status, answer.id)
    assert is_error_object(answer)


async def shown(browser, url: str, mode: str = "light") -> None:
    """Open a page of this service and wait until its operations are shown."""
    await browser.prefers(mode)
    await asyncio.to_thread(browser.driver.get, url)
    await browser.until_shown(OPERATION)


@pytest.mark.browser
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["light", "dark"])
async def test_the_page_shows_the_operations_without_an_error(payer, browser, size, mode):
    await browser.resize(SIZES[size])
    await shown(browser, f"{payer.url}/docs", mode)
    if size == "desktop":
        await browser.click(".opblock-summary-control")
        await browser.until_shown(".opblock-section-request-body")
    await browser.picture(f"docs-{size}-{mode}", SIZES[size])
    width = await browser.run("return document.documentElement.scrollWidth")
    is_dark = await browser.run("return document.documentElement.classList.contains('dark-mode')")

    assert width <= SIZES[size][0]
    assert is_dark == (mode == "dark")
    assert [] == faults_of(browser)
    requested = {
        urlsplit(message["params"]["request"]["url"])
        for entry in browser.driver.get_log("performance")
        if (message := json.loads(entry["message"])["message"])["method"] == "Network.requestWillBeSent"
    }
    assert {urlsplit(payer.url).netloc} == {each.netloc for each in requested if each.scheme in WEB}


@pytest.mark.browser
async def test_a_request_can_be_tried_on_the_page(payer, browser):
    await shown(browser, f"{payer.url}/docs#/Reserve/quoteSourceAmount")
    await browser.click(".btn.authorize")
    await browser.type("#auth-basic-username", "test")
    await browser.type("#auth-basic-password", "123")
    await browser.click(".auth-btn-wrapper .authorize")
    await browser.click(".auth-btn-wrapper .btn-done")
    await browser.click(".try-out__btn")
    await browser.click(".btn.execute")
    await browser.until_shown(".live-responses-table")
    status = await asyncio.to_thread(
        lambda: (
            browser.driver.find_element(
                By.CSS_SELECTOR, ".live-responses-table tbody .response-col_status"
            ).text
        )
    )

    assert "200" in status
    assert QUOTE.keys() == payer.next_hop.seen[-1].json.keys()
    assert [] == faults_of(browser)
