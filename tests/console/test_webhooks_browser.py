"""The view *Webhooks* in a real Chromium: the stuck webhook is found and replayed in three clicks."""

import pytest

from support import provider as providers
from support.browser import DESKTOP, PHONE
from support.console import OPERATOR
from support.console import PASSWORD as CONSOLE_PASSWORD
from support.provider import OK, PASSWORDS, USER, Script, types_but_approved, until
from support.serving import reply, stub

pytestmark = pytest.mark.browser

SPOKEN = f"Foo Bar FX of {USER}"


@pytest.fixture(scope="session")
def provider_users(tmp_path_factory):
    return providers.write_users(tmp_path_factory.mktemp("provider") / "users")


@pytest.fixture
async def provider(database_url, provider_users, client):
    async with providers.provider(database_url, provider_users, client) as made:
        yield made


@pytest.fixture
async def console(start, provider):
    return await start(
        {"integrations": provider.url},
        service_user=providers.OPERATOR,
        service_password=PASSWORDS[providers.OPERATOR],
    )


async def test_which_webhook_is_stuck_and_replay_it_takes_three_clicks(console, provider, browser):
    async with stub(Script([OK])) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        hook.answer.lines[:] = [reply(400, b'{"reason": "no room"}')]
        for each in ("OPEN", "CLOSE"):
            await provider.signal(each)
        await provider.done(id_)
        await browser.open(console.url, OPERATOR, CONSOLE_PASSWORD)
        await browser.shows("Problems")
        await browser.press("Webhooks")
        await browser.shows("Failed attempts in a row")
        await browser.picture("console-webhooks-desktop", DESKTOP)
        hook.answer.lines[:] = [OK]
        await browser.press(f"Send failed events to {SPOKEN} again…")
        await browser.shows("2 of 2 failed events")
        await browser.picture("console-replay-phone", PHONE)
        await browser.press("Send 2 events again")
        await browser.shows("Failed events that are being sent again: 2.")
        log = await provider.done(id_)
        await browser.shows("delivered")

    assert {"DELIVERED"} == {each["state"] for each in log}
    assert ["SIGNAL_OPEN", "SIGNAL_CLOSE"] * 2 == types_but_approved(hook)[1:]


async def test_a_paused_endpoint_appears_on_the_open_first_page_and_clears_without_a_reload(
    console, provider, browser
):
    async with stub(Script([OK, OK, reply(410), OK])) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        await browser.open(console.url, OPERATOR, CONSOLE_PASSWORD)
        await browser.shows("Nothing is wrong.")
        await browser.run("window.isTheSamePage = true")
        await provider.signal()
        await browser.shows("1 endpoint is paused")
        assert True is await browser.run("return window.isTheSamePage")
        await browser.press("Show more")
        await browser.shows("the webhook answered with status 410")
        await browser.press(f"Resume {SPOKEN}")
        await browser.shows("The integration is resumed.")
        await browser.press("Now")
        await browser.shows("Nothing is wrong.")


async def test_one_delivery_is_read_on_a_phone_in_the_dark(console, provider, browser):
    async with stub(Script([OK])) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        hook.answer.lines[:] = [reply(422, b'{"reason": "' + b"x" * 300 + b'"}', X_Reason="no-room")]
        await provider.signal()
        await provider.done(id_)
        await browser.open(f"{console.url}/webhooks/{id_}", OPERATOR, CONSOLE_PASSWORD)
        await browser.prefers("dark")
        await browser.resize(PHONE)
        await browser.press("SIGNAL_OPEN")
        await browser.shows("webhook-signature")
        await browser.shows("no-room")
        width = await browser.run("return document.documentElement.scrollWidth")
        small = await browser.run(
            "return [...document.querySelectorAll('main button, main .button')]"
            ".filter((each) => each.getBoundingClientRect().height < 44).length"
        )
        await browser.picture("console-delivery-phone-dark", PHONE)

    assert width <= PHONE[0]
    assert 0 == small


async def test_the_state_of_a_delivery_changes_on_the_open_page(console, provider, browser):
    async with stub(Script([OK])) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        await browser.open(f"{console.url}/webhooks/{id_}", OPERATOR, CONSOLE_PASSWORD)
        await browser.shows("STRATEGY_ENABLED")
        await browser.run("window.isTheSamePage = true")
        await provider.signal()
        await browser.shows("SIGNAL_OPEN")
        await provider.done(id_)

        async def is_delivered():
            return 3 == await browser.run(
                "return document.querySelectorAll('article .state-delivered').length"
            )

        await until(is_delivered)
        assert True is await browser.run("return window.isTheSamePage")
