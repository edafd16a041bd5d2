"""The user's page in a real Chromium, with its script (design, Provider)."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from integrations.app import NOTIFICATIONS
from support.provider import PASSWORDS, USER, Script, typed, until
from support.serving import reply, stub

pytestmark = pytest.mark.browser

PATIENCE_SECONDS = 20
PHONE, DESKTOP = (390, 844), (1280, 800)


class Browser:
    """A browser that the test's event loop does not wait for."""

    def __init__(self, driver: Chrome, folder: Path | None) -> None:
        self.driver = driver
        self._folder = folder

    async def open(self, url: str) -> None:
        """With credentials, as if they had been typed."""
        host = url.removeprefix("http://")
        await asyncio.to_thread(self.driver.get, f"http://{quote(USER, safe='')}:{PASSWORDS[USER]}@{host}")
        await asyncio.to_thread(self.driver.get, url)

    async def press(self, name: str) -> None:
        """The button or link of this name, once it is there, by the keyboard's way to it."""
        path = f"//*[self::button or self::a or self::summary][@aria-label={name!r} or normalize-space()={name!r}]"
        await self._until(lambda driver: driver.find_element(By.XPATH, path).is_displayed())
        await asyncio.to_thread(lambda: self.driver.find_element(By.XPATH, path).send_keys("\n"))

    async def shows(self, text: str) -> None:
        await self._until(lambda driver: text in driver.find_element(By.TAG_NAME, "main").text)

    async def run(self, script: str) -> object:
        return await asyncio.to_thread(self.driver.execute_script, script)

    async def picture(self, name: str, size: tuple[int, int]) -> None:
        """Where the caller wants pictures."""
        await self.resize(size)
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            await asyncio.to_thread(self.driver.save_screenshot, str(self._folder / f"{name}.png"))

    async def resize(self, size: tuple[int, int]) -> None:
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size is PHONE}
        await asyncio.to_thread(self.driver.execute_cdp_cmd, "Emulation.setDeviceMetricsOverride", metrics)

    async def _until(self, is_so) -> None:
        wait = WebDriverWait(self.driver, PATIENCE_SECONDS, 0.1, ignored_exceptions=[Exception])
        await asyncio.to_thread(wait.until, is_so)


@pytest.fixture
def browser(request, tmp_path) -> Iterator[Browser]:
    options = ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-background-networking",
        "--disable-dev-shm-usage",
        f"--user-data-dir={tmp_path / 'profile'}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=ChromeService("/usr/bin/chromedriver"))
    folder = request.config.getoption("screenshots")
    try:
        yield Browser(driver, Path(folder) if folder else None)
    finally:
        with suppress(OSError):
            driver.quit()


async def test_a_user_approves_enables_and_sees_signals_and_errors_come(provider, browser):
    answers = [*[reply(200, b"")] * 3, typed("InsufficientFunds"), reply(200, b"")]
    async with stub(Script(answers)) as hook:
        await provider.strategy()
        id_ = (await provider.requested(hook.url))["id"]
        await browser.open(provider.url)
        await browser.shows("Wants to receive the signals")
        await browser.picture("requests-phone", PHONE)
        await browser.press("Approve Foo Bar FX")
        await browser.shows("Approved.")
        await browser.press("Gold High-Risk to Foo Bar FX")
        await browser.shows("Enabled.")
        await provider.done(id_)

        await browser.press("Deliveries to Foo Bar FX")
        await browser.shows("STRATEGY_ENABLED")
        await browser.run("window.isTheSamePage = true")
        await provider.signal()
        await browser.shows("SIGNAL_OPEN")
        await provider.done(id_)
        assert True is await browser.run("return window.isTheSamePage")

        await browser.press("All integrations")
        await browser.shows("Notifications")
        await browser.run("window.isTheSamePage = true")
        await until(lambda: provider.app[NOTIFICATIONS]._open.get(USER))
        await provider.signal("CLOSE")
        await browser.shows("Your account does not have enough funds")
        assert True is await browser.run("return window.isTheSamePage")
        await browser.picture("integrations-phone", PHONE)
        await browser.picture("integrations-desktop", DESKTOP)

        await browser.press("Deliveries to Foo Bar FX")
        await browser.shows("InsufficientFunds")
        await browser.picture("deliveries-desktop", DESKTOP)
        refused = "//article[contains(., 'InsufficientFunds')]//button"
        button = await asyncio.to_thread(browser.driver.find_element, By.XPATH, refused)
        await asyncio.to_thread(button.send_keys, "\n")
        await browser.shows("It is being sent again.")
        log = await provider.done(id_)

    assert ["DELIVERED"] * 4 == [each["state"] for each in log]
    assert [] == [
        each["message"]
        for each in browser.driver.get_log("browser")
        if "Content Security Policy" in each["message"] or "page.js" in each["message"]
    ]


async def test_on_a_phone_nothing_is_too_wide_or_too_small_to_touch(provider, browser, hook):
    await provider.enabled(hook.url, description="A" * 300)
    await provider.requested()
    await browser.resize(PHONE)
    await browser.open(provider.url)
    await browser.shows("Requests")
    width = await browser.run("return document.documentElement.scrollWidth")
    small = await browser.run(
        "return [...document.querySelectorAll('button, a:not(.skip), summary, select')]"
        ".filter(each => each.checkVisibility() && each.getBoundingClientRect().height < 44)"
        ".map(each => each.outerHTML)"
    )

    assert (PHONE[0], []) == (width, small)


async def test_a_new_signing_secret_fits_on_a_phone(provider, browser, hook):
    id_ = await provider.approved(hook.url)
    await browser.resize(PHONE)
    await browser.open(f"{provider.url}/integrations/{id_}")
    await browser.press("New signing secret…")
    await browser.press("Make a new secret")
    await browser.shows("whsec_")
    width = await browser.run("return document.documentElement.scrollWidth")
    await browser.press("Deliveries")
    await browser.shows("INTEGRATION_APPROVED")

    assert PHONE[0] == width
    assert "whsec_" not in browser.driver.page_source


async def test_what_has_focus_keeps_it_while_the_page_is_brought_up_to_date(provider, browser, hook):
    await provider.enabled(hook.url)
    await browser.open(provider.url)
    await browser.shows("Gold High-Risk")
    await browser.run("document.querySelector('[role=switch]').focus()")
    await provider.requested(description="Another")
    await browser.shows("Another")

    assert "switch" == await browser.run("return document.activeElement.getAttribute('role')")
