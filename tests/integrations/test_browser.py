"""The user's page in a real Chromium, with its script (design, Provider)."""

import asyncio

import pytest

from integrations.app import NOTIFICATIONS
from support.browser import DESKTOP, PHONE
from support.provider import USER, Script, typed, until
from support.serving import reply, stub

pytestmark = pytest.mark.browser

LOGO = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 300 60"><rect width="300" height="60" fill="#0a5"/></svg>'
SPOKEN = "Foo Bar FX, user@example.com"


def messages_of(browser) -> list[str]:
    """Return the browser's messages about the page's own script and its policy."""
    return [
        each["message"]
        for each in browser.driver.get_log("browser")
        if "Content Security Policy" in each["message"] or ".js" in each["message"]
    ]


async def test_a_user_approves_enables_and_sees_signals_and_errors_arrive(provider, browser):
    answers = [*[reply(200, b"")] * 3, typed("InsufficientFunds"), reply(200, b"")]
    async with stub(Script(answers)) as hook:
        await provider.strategy()
        id_ = (await provider.requested(hook.url))["id"]
        await browser.open(provider.url)
        await browser.shows("asks to receive the signals")
        await browser.picture("requests-phone", PHONE)
        await browser.press(f"Approve {SPOKEN}")
        await browser.shows("The integration is approved.")
        await browser.press(f"Gold High-Risk to {SPOKEN}")
        await browser.shows("The strategy is switched on.")
        await provider.done(id_)

        await browser.press(f"Deliveries to {SPOKEN}")
        await browser.shows("STRATEGY_ENABLED")
        await browser.run("window.isTheSamePage = true")
        await provider.signal()
        await browser.shows("BUY 10 XAUUSD for Gold High-Risk")
        await provider.done(id_)
        assert True is await browser.run("return window.isTheSamePage")

        await browser.press("All integrations")
        await browser.shows("Notifications")
        await browser.run("window.isTheSamePage = true")
        await until(lambda: provider.app[NOTIFICATIONS].has_stream(USER))
        await provider.signal("CLOSE")
        await browser.shows("your account at Foo Bar FX does not have enough funds")
        assert True is await browser.run("return window.isTheSamePage")
        await browser.picture("integrations-phone", PHONE)
        await browser.picture("integrations-desktop", DESKTOP)

        await browser.press("Show the event")
        await browser.shows("Show all deliveries")
        await browser.shows("InsufficientFunds")
        await browser.picture("deliveries-phone", PHONE)
        await browser.picture("deliveries-desktop", DESKTOP)
        await browser.press_first("Send again")
        await browser.shows("The event is being sent again.")
        log = await provider.done(id_)

    assert ["DELIVERED"] * 4 == [each["state"] for each in log]
    assert [] == messages_of(browser)


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


async def test_the_focused_element_keeps_the_focus_when_the_page_is_refreshed(provider, browser, hook):
    await provider.enabled(hook.url)
    await browser.open(provider.url)
    await browser.shows("Gold High-Risk")
    await browser.run("document.querySelector('[role=switch]').focus()")
    await provider.requested(description="Another")
    await browser.shows("Another")

    assert "switch" == await browser.run("return document.activeElement.getAttribute('role')")


async def test_times_are_in_the_readers_zone_and_style(provider, browser, hook):
    await asyncio.to_thread(
        browser.driver.execute_cdp_cmd, "Emulation.setTimezoneOverride", {"timezoneId": "Asia/Tokyo"}
    )
    id_ = await provider.approved(hook.url)
    await provider.done(id_)
    await provider.sql.execute("UPDATE event SET created = '2026-01-31T20:00:00Z'")
    await browser.open(f"{provider.url}/integrations/{id_}")
    await browser.shows("Feb 1, 2026, 5:00:00")


async def test_new_notifications_are_marked_and_counted_until_they_are_read(provider, browser):
    async with stub(typed("MarketClosed")) as hook:
        await browser.open(provider.url)
        await until(lambda: provider.app[NOTIFICATIONS].has_stream(USER))
        await browser.run("document.hasFocus = () => false")
        await provider.done(await provider.approved(hook.url))
        await browser.shows("did not accept the message that you approved the integration")
        title = await browser.run("return document.title")
        unread = await browser.run("return document.querySelectorAll('.notice.unread').length")
        await browser.picture("unread-phone", PHONE)
        await browser.run("document.hasFocus = () => true; document.body.click()")
        after = await browser.run("return document.title")
        await browser.open(provider.url)
        await browser.shows("did not accept the message that you approved the integration")
        reloaded = await browser.run("return document.querySelectorAll('.notice.unread').length")

    assert ("(1) Integrations", 1) == (title, unread)
    assert ("Integrations", 0) == (after, reloaded)


async def test_the_page_says_so_when_it_is_not_up_to_date(provider, browser):
    await browser.open(provider.url)
    await until(lambda: provider.app[NOTIFICATIONS].has_stream(USER))
    before = await browser.run("return document.getElementById('stale').hidden")
    await asyncio.to_thread(browser.driver.execute_cdp_cmd, "Network.enable", {})
    await asyncio.to_thread(
        browser.driver.execute_cdp_cmd,
        "Network.emulateNetworkConditions",
        {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0},
    )
    await browser.shows("This page is not up to date")

    assert True is before


async def test_a_wide_logo_is_shown_in_its_shape_and_a_missing_one_by_initials(provider, browser, hook):
    await provider.approved(hook.url)
    await browser.open(provider.url)
    await browser.shows("Foo Bar FX")
    size = await browser.run(
        f"""
        const image = document.querySelector('.avatar').appendChild(new Image());
        image.src = 'data:image/svg+xml,' + encodeURIComponent(`{LOGO}`);
        return image.decode().then(() => [image.clientWidth, image.clientHeight]);
        """
    )
    await browser.picture("logo-phone", PHONE)
    await browser.run("document.querySelector('.avatar img:last-child').remove()")
    initials = await browser.run(
        "document.querySelectorAll('.avatar img').forEach(each => each.hidden = true);"
        "const avatar = document.querySelector('.avatar');"
        "return [avatar.textContent.trim(), parseFloat(getComputedStyle(avatar).fontSize) > 10]"
    )

    assert [128, 48] == size
    assert ["FB", True] == initials


async def test_after_signing_out_the_browser_has_no_credentials(provider, browser):
    """The browser asks for credentials again, and gets none."""
    await browser.open(provider.url)
    await browser.shows("Your integrations")
    await browser.press("Sign out")
    await until(lambda: browser.driver.current_url.endswith("/sign-out"))
    await asyncio.to_thread(browser.driver.get, provider.url)

    assert "Your integrations" not in browser.driver.page_source
