"""A real Chromium without a window, driven from a test."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from support.provider import PASSWORDS, USER

PATIENCE_SECONDS = 60
PHONE, DESKTOP = (390, 844), (1280, 800)


class Browser:
    """A browser, driven from threads so that the event loop goes on."""

    def __init__(self, driver: Chrome, folder: Path | None) -> None:
        self.driver = driver
        self._folder = folder

    async def open(self, url: str, name: str = USER, password: str = PASSWORDS[USER]) -> None:
        """Open a page with credentials, as if the user had typed them."""
        host = url.removeprefix("http://")
        await asyncio.to_thread(self.driver.get, f"http://{quote(name, safe='')}:{password}@{host}")
        await asyncio.to_thread(self.driver.get, url)

    async def show(self, url: str) -> None:
        """Open a page that needs no credentials."""
        await asyncio.to_thread(self.driver.get, url)

    async def press(self, name: str) -> None:
        """Press the button or link of this name with the keyboard, as soon as it is shown."""
        path = f"//*[self::button or self::a or self::summary][@aria-label={name!r} or normalize-space()={name!r}]"
        await self._until(lambda driver: driver.find_element(By.XPATH, path).is_displayed())
        await asyncio.to_thread(lambda: self.driver.find_element(By.XPATH, path).send_keys("\n"))

    async def press_first(self, name: str) -> None:
        """Press the first button with this text."""
        button = await asyncio.to_thread(
            self.driver.find_element, By.XPATH, f"//button[normalize-space()={name!r}]"
        )
        await asyncio.to_thread(button.send_keys, "\n")

    async def shows(self, text: str) -> None:
        await self._until(lambda driver: text in driver.find_element(By.TAG_NAME, "main").text)

    async def shows_no_more(self, selector: str, text: str) -> None:
        """Wait until no element of this selector has the text."""
        await self._until(
            lambda driver: all(
                text not in each.text for each in driver.find_elements(By.CSS_SELECTOR, selector)
            )
        )

    async def text(self, selector: str) -> str:
        """Return the text of the first element, as soon as it is shown, with single spaces."""
        await self.until_shown(selector)
        # in one step: a page that is live replaces its elements
        text = str(await self.run(f"return document.querySelector({selector!r}).innerText"))
        return " ".join(text.split())

    async def prefers(self, mode: str) -> None:
        """Emulate a reader who prefers light or dark colours."""
        feature = {"name": "prefers-color-scheme", "value": mode}
        await asyncio.to_thread(
            self.driver.execute_cdp_cmd, "Emulation.setEmulatedMedia", {"features": [feature]}
        )

    async def until_shown(self, selector: str) -> None:
        await self._until(lambda driver: driver.find_element(By.CSS_SELECTOR, selector).is_displayed())

    async def click(self, selector: str) -> None:
        """Click on the first element as soon as it is shown."""
        await self.until_shown(selector)
        script = "document.querySelector(arguments[0]).click()"
        await asyncio.to_thread(self.driver.execute_script, script, selector)

    async def type(self, selector: str, text: str) -> None:
        await self.until_shown(selector)
        element = await asyncio.to_thread(self.driver.find_element, By.CSS_SELECTOR, selector)
        await asyncio.to_thread(element.send_keys, text)

    async def run(self, script: str) -> object:
        return await asyncio.to_thread(self.driver.execute_script, script)

    async def picture(self, name: str, size: tuple[int, int]) -> None:
        """Save a picture if the caller of the tests wants pictures."""
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


@contextmanager
def chromium(profile: Path, screenshots: str) -> Iterator[Browser]:
    """A browser with a new profile; `screenshots` is a folder for pictures, or empty."""
    options = ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-background-networking",
        "--disable-dev-shm-usage",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=ChromeService("/usr/bin/chromedriver"))
    try:
        yield Browser(driver, Path(screenshots) if screenshots else None)
    finally:
        with suppress(OSError):
            driver.quit()
