"""The user's page without scripts: views, forms and refusals (design, Provider)."""

import re
from html import unescape
from html.parser import HTMLParser

from standardwebhooks import Webhook

from chassis.page.form_tokens import FormTokens
from support.provider import KEY, OTHER, REQUEST, STRATEGY, USER, Script, basic, typed, types, until
from support.serving import reply, stub

FORM = "application/x-www-form-urlencoded"


class Elements(HTMLParser):
    """The start tags of a page, in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs) -> None:
        self.found.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


async def view(provider, path: str = "/", as_: str = USER) -> str:
    got = await provider.send("GET", path, as_=as_)
    assert (200, "text/html; charset=utf-8") == (got.status, got.headers["Content-Type"])
    return got.body.decode()


async def post(
    provider, path: str, *, as_: str = USER, token: str | None = None, more: str = "", **headers: str
):
    """Post a form; return status, Location and body of the answer itself."""
    made = {"Authorization": basic(as_), "Content-Type": FORM, **headers}
    body = f"token={FormTokens('integrations', [KEY]).create(as_) if token is None else token}{more}"
    async with provider.client.post(
        provider.url + path, data=body, headers=made, allow_redirects=False
    ) as answer:
        return answer.status, answer.headers.get("Location"), await answer.text()


async def press(provider, page: str, end: str) -> str:
    """Post the one form whose action ends so, as a browser does; return the page that follows."""
    found = re.findall(r'action="([^"]*)">\s*<input type="hidden" name="token" value="([^"]*)">', page)
    ((action, token),) = [each for each in found if each[0].endswith(end)]
    status, location, text = await post(provider, unescape(action), token=token)
    assert 303 == status, text
    return await view(provider, location)


async def states(provider) -> list[str]:
    return [row["state"] for row in await provider.sql.fetch("SELECT state FROM integration")]


async def test_a_request_is_shown_and_can_be_approved(start, hook):
    """Guide: used for visualisation."""
    provider = await start()
    id_ = (await provider.requested(hook.url))["id"]
    page = await press(provider, await view(provider), f"{id_}/approve")
    await until(lambda: types(hook) == ["INTEGRATION_APPROVED"])

    assert ["APPROVED"] == await states(provider)
    assert '<p role="status" class="done">The integration is approved.' in page
    assert all(f">{REQUEST[each]}" in page for each in ("name", "description"))
    assert REQUEST["imageUrl"] in [each["src"] for each in Elements(page).all("img")]


async def test_a_request_can_be_rejected(start):
    provider = await start(deliveries_at_once=0)
    await provider.requested()
    page = await press(provider, await view(provider), "/reject")

    assert ["REJECTED"] == await states(provider)
    assert "The request is rejected." in page


async def test_a_paused_integration_can_be_resumed(start):
    provider = await start(deliveries_at_once=0)
    await provider.requested()
    await provider.sql.execute("UPDATE integration SET state = 'PAUSED'")
    await press(provider, await view(provider), "/resume")

    assert ["APPROVED"] == await states(provider)


async def test_an_approved_integration_can_be_deleted(start):
    provider = await start(deliveries_at_once=0)
    await provider.requested()
    await provider.sql.execute("UPDATE integration SET state = 'APPROVED'")
    page = await press(provider, await view(provider), "/delete")

    assert ["DELETED"] == await states(provider)
    assert '<h2 id="ended">' in page


async def test_a_new_signing_secret_is_shown_once_and_signs(provider, hook):
    id_ = await provider.approved(hook.url)
    await provider.done(id_)
    page = await view(provider, f"/integrations/{id_}")
    ((action, revision),) = re.findall(
        r'action="([^"]*/secret)">(?:\s*<input[^>]*>)*?\s*<input[^>]*name="revision" value="([^"]*)"', page
    )
    status, _, shown = await post(provider, action, more=f"&revision={revision}")
    (secret,) = re.findall(r"whsec_[A-Za-z0-9+/=]+", unescape(shown))
    await provider.strategy()
    await provider.switch("PUT", id_)
    sent = (await until(lambda: [each for each in hook.seen if b"STRATEGY_ENABLED" in each.body]))[0]
    verified = Webhook(secret).verify(sent.body.decode(), dict(sent.headers))

    assert 200 == status
    assert "STRATEGY_ENABLED" == verified["v1"]["event"]["type"]
    assert "whsec_" not in await view(provider) + await view(provider, f"/integrations/{id_}")


async def test_a_form_for_a_new_secret_that_is_sent_again_makes_no_second_secret(start, hook):
    """A browser may send a form again. A second rotation would end the day of the secret in use."""
    provider = await start(deliveries_at_once=0)
    id_ = await provider.approved(hook.url)
    statuses = [
        (await post(provider, f"/integrations/{id_}/secret", more=f"&revision={revision}"))[0]
        for revision in ("", "x", "0", "0", "1")
    ]

    assert [400, 400, 200, 409, 200] == statuses


async def test_an_ended_integration_offers_no_new_secret(start):
    provider = await start(deliveries_at_once=0)
    id_ = (await provider.requested())["id"]
    await provider.do("reject", id_)
    status, _, _ = await post(provider, f"/integrations/{id_}/secret", more="&revision=0")

    assert "/secret" not in await view(provider, f"/integrations/{id_}")
    assert 409 == status


async def test_a_strategy_can_be_switched_on_and_off(provider, hook):
    id_ = await provider.approved(hook.url)
    await provider.strategy()
    switches = []
    page = await view(provider)
    for word in ("enable", "disable"):
        switches += [each["aria-checked"] for each in Elements(page).all("button") if "role" in each]
        page = await press(provider, page, f"/strategies/{STRATEGY}/{word}")
    await provider.done(id_)

    assert ["false", "true"] == switches
    assert {"STRATEGY_ENABLED", "STRATEGY_DISABLED"} < set(types(hook))


async def test_notifications_are_shown(provider):
    async with stub(typed("MarketClosed")) as hook:
        await provider.done(await provider.approved(hook.url))
    page = await view(provider)

    assert "Foo Bar FX (user@example.com) did not accept" in page


async def test_the_attempt_log_filters_by_state_and_replays(provider):
    async with stub(Script([typed("MarketClosed"), reply(200, b"")])) as hook:
        id_ = await provider.approved(hook.url)
        await provider.done(id_)
        refused = await view(provider, f"/integrations/{id_}?state=REFUSED")
        delivered = await view(provider, f"/integrations/{id_}?state=DELIVERED")
        page = await press(provider, refused, "/replay")
        log = await provider.done(id_)

    assert ("MarketClosed" in refused, "MarketClosed" in delivered) == (True, False)
    assert "The event is being sent again." in page
    assert ["DELIVERED"] == [each["state"] for each in log]


async def test_the_attempt_log_continues_on_older_pages(start, hook):
    provider = await start()
    id_ = await provider.approved(hook.url)
    await provider.done(id_)
    await provider.sql.execute(
        "INSERT INTO event (lane_id, seq, integration_id, type, timestamp_ms, expires, state)"
        " SELECT lane_id, seq + n, integration_id, type, timestamp_ms, expires, state"
        " FROM event, generate_series(1, 50) AS n"
    )
    first = await view(provider, f"/integrations/{id_}?state=")
    (older,) = [a["href"] for a in Elements(first).all("a") if "before" in (a["href"] or "")]
    rest = await view(provider, older)

    assert (50, 1) == (first.count('id="e-'), rest.count('id="e-'))


async def test_an_error_is_a_page_that_says_why(start):
    provider = await start(deliveries_at_once=0)
    id_ = (await provider.requested())["id"]
    status, _, text = await post(provider, f"/integrations/{id_}/resume")

    assert 409 == status
    assert (
        '<p role="alert">The integration is PENDING, and this needs an integration that is PAUSED.</p>'
        in text
    )


async def test_another_users_integrations_are_not_shown_and_cannot_be_changed(start):
    provider = await start(deliveries_at_once=0)
    id_ = (await provider.requested())["id"]
    theirs = await view(provider, as_=OTHER)
    log = await provider.send("GET", f"/integrations/{id_}", as_=OTHER)
    status, _, _ = await post(provider, f"/integrations/{id_}/approve", as_=OTHER)

    assert (False, 404, 404) == (id_ in theirs, log.status, status)
    assert ["PENDING"] == await states(provider)


async def test_a_browser_is_asked_for_credentials(provider):
    for path in ["/", "/integrations/x", "/sign-out"]:
        got = await provider.send("GET", path, as_=None)

        assert (401, True) == (got.status, got.headers["WWW-Authenticate"].startswith("Basic "))


async def test_a_form_without_the_users_token_changes_nothing(start):
    provider = await start(deliveries_at_once=0)
    id_ = (await provider.requested())["id"]
    for token in [
        "",
        "nonsense",
        "%C3%A4",
        FormTokens("integrations", [KEY]).create(OTHER),
        FormTokens("integrations", ["k"]).create(USER),
    ]:
        status, _, text = await post(provider, f"/integrations/{id_}/approve", token=token)

        assert (403, True) == (status, 'role="alert"' in text)
        assert ["PENDING"] == await states(provider)


async def test_every_form_needs_a_token(start):
    provider = await start(deliveries_at_once=0)
    id_ = (await provider.requested())["id"]
    ends = ["approve", "reject", "resume", "delete", "secret", f"strategies/{STRATEGY}/enable"]
    ends += [f"strategies/{STRATEGY}/disable", f"deliveries/{id_}/replay"]
    got = [(await post(provider, f"/integrations/{id_}/{end}", token="x"))[0] for end in ends]

    assert [403] * 8 == got


async def test_another_sites_form_changes_nothing_even_with_the_token(start):
    provider = await start(deliveries_at_once=0)
    id_ = (await provider.requested())["id"]
    for headers in [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]:
        status, _, _ = await post(provider, f"/integrations/{id_}/approve", **headers)

        assert 403 == status
        assert ["PENDING"] == await states(provider)


async def test_a_body_that_is_not_a_form_is_refused(start):
    provider = await start(deliveries_at_once=0)
    id_ = (await provider.requested())["id"]
    for media_type in ["text/plain", "application/json", "multipart/form-data; boundary=x"]:
        status, _, _ = await post(provider, f"/integrations/{id_}/approve", **{"Content-Type": media_type})

        assert 415 == status


async def test_a_form_over_64_kib_is_413(start):
    provider = await start(deliveries_at_once=0)
    id_ = (await provider.requested())["id"]
    path = f"/integrations/{id_}/approve"
    statuses = [(await post(provider, path, more=f"&more={'x' * size}"))[0] for size in (65_536, 60_000)]

    assert [413, 303] == statuses


async def test_a_token_made_with_an_older_key_is_accepted(start):
    from cryptography.fernet import Fernet

    provider = await start(encryption_keys=f"{Fernet.generate_key().decode()},{KEY}", deliveries_at_once=0)
    id_ = (await provider.requested())["id"]
    status, _, _ = await post(provider, f"/integrations/{id_}/approve")

    assert 303 == status


async def test_every_answer_of_the_page_has_security_headers(provider):
    for method, path, as_, status in [
        ("GET", "/", USER, 200),
        ("GET", "/live.js", USER, 200),
        ("GET", "/page.css", USER, 200),
        ("GET", "/integrations/nonsense", USER, 404),
        ("GET", "/", None, 401),
        ("GET", "/integrations.js", None, 200),
        ("GET", "/nothing", USER, 404),
        ("OPTIONS", "/", USER, 405),
        ("POST", "/integrations/x/approve", USER, 403),
    ]:
        got = await provider.send(method, path, as_=as_, **{"Sec-Fetch-Site": "cross-site"})
        headers = got.headers

        assert status == got.status
        assert (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src https: data: 'self';"
            " connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        ) == headers["Content-Security-Policy"]
        assert ("nosniff", "same-origin") == (headers["X-Content-Type-Options"], headers["Referrer-Policy"])


async def test_words_of_partners_and_users_are_escaped(provider):
    evil = "\"'><script>alert(1)</script>{{ 7 * 7 }}"
    async with stub(typed("MarketClosed")) as hook:
        id_ = await provider.enabled(hook.url, name=evil, description=evil)
        await provider.strategy(name=evil)
        await provider.done(id_)
    pages = [await view(provider), await view(provider, f"/integrations/{id_}")]
    scripts = [each for page in pages for each in Elements(page).all("script")]

    assert [{"src": f"/{name}.js", "defer": None} for name in ("live", "integrations")] * 2 == scripts
    assert all("&lt;script&gt;alert(1)&lt;/script&gt;{{ 7 * 7 }}" in page for page in pages)


async def test_an_image_is_shown_only_from_https_and_without_a_referrer(start):
    provider = await start(deliveries_at_once=0)
    await provider.requested()
    for url, shown in [
        ("https://foo.bar/logo.png?a=1&b=\"'><script>", True),
        ("javascript:alert(1)", False),
        ("data:text/html,<script>alert(1)</script>", False),
        ("http://foo.bar/logo.png", False),
    ]:
        await provider.sql.execute("UPDATE integration SET image_url = $1", url)
        elements = Elements(await view(provider))

        assert [url] * shown == [each["src"] for each in elements.all("img")]
        assert ["no-referrer"] * shown == [each["referrerpolicy"] for each in elements.all("img")]
        assert 2 == len(elements.all("script"))


async def test_the_page_has_no_inline_scripts_or_styles(provider, hook):
    await provider.enabled(hook.url)
    elements = Elements(await view(provider))
    attributes = {name for _, each in elements.found for name in each}

    assert [] == [name for name in attributes if name.startswith("on") or name == "style"]
    assert [] == elements.all("style")


async def test_every_control_has_a_label_and_every_id_is_unique(provider, hook):
    id_ = await provider.enabled(hook.url)
    await provider.requested()
    for path in ("/", f"/integrations/{id_}"):
        elements = Elements(await view(provider, path))
        ids = [each["id"] for _, each in elements.found if "id" in each]
        labels = [each["for"] for each in elements.all("label")]

        assert sorted(set(ids)) == sorted(ids)
        assert [each["id"] for each in elements.all("select")] == labels
        assert 1 == len(elements.all("main")) == len(elements.all("h1"))


async def test_the_name_is_the_title_and_the_description_the_subtitle(start):
    """Guide: The "title" of the integration... The "subtitle" of the integration."""
    provider = await start(deliveries_at_once=0)
    await provider.requested()
    page = await view(provider)

    assert "<h3>user@example.com</h3>" in page
    assert re.search(r"<p>Foo Bar FX <span", page)


async def test_a_paused_integration_has_a_section_of_its_own(start):
    provider = await start(deliveries_at_once=0)
    await provider.requested()
    hidden = await view(provider)
    await provider.sql.execute("UPDATE integration SET state = 'PAUSED'")
    shown = await view(provider)
    _, _, paused = shown.partition('<h2 id="paused">')

    assert '<section aria-labelledby="paused" hidden>' in hidden
    assert '<section aria-labelledby="paused">' in shown
    assert "/resume" in paused.partition("<h2")[0]


async def test_empty_sections_say_how_to_begin(start):
    page = await view(await start(deliveries_at_once=0))

    assert "None." not in page
    assert "give your e-mail address user@example.com" in page
    assert "An integration that you approve appears here" in page
    assert "You are notified when a delivery fails" in page


async def test_rejecting_and_deleting_ask_first(start):
    provider = await start(deliveries_at_once=0)
    await provider.requested()
    page = await view(provider)
    (asking,) = re.findall(r"<details>(.*?)</details>", page, re.DOTALL)

    assert "Reject…" in asking
    assert "/reject" in asking


async def test_initials_stand_in_for_an_image_that_cannot_be_shown(start):
    provider = await start(deliveries_at_once=0)
    await provider.requested()
    await provider.sql.execute("UPDATE integration SET image_url = 'http://foo.bar/logo.png'")
    page = await view(provider)

    assert re.search(r'<span class="avatar" aria-hidden="true">FB\s*</span>', page)


async def test_a_delivery_shows_the_trade_the_strategy_and_the_response(provider):
    async with stub(Script([reply(200), reply(200), typed("MarketClosed")])) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        await provider.signal(quantity=0.5)
        await provider.done(id_)
        page = unescape(await view(provider, f"/integrations/{id_}?state=REFUSED"))

    assert "Open position" in page
    assert "BUY 0.5 XAUUSD for Gold High-Risk" in page
    assert "refused, status 422, MarketClosed" in page


async def test_send_again_is_offered_only_where_it_works(provider, hook):
    id_ = await provider.enabled(hook.url)
    await provider.signal("OPEN")
    await provider.signal("CLOSE")
    log = await provider.done(id_)
    page = await view(provider, f"/integrations/{id_}")
    offered = set(re.findall(r"deliveries/([^/]+)/replay", page))
    accepted = {
        each["eventId"]
        for each in log
        if (await post(provider, f"/integrations/{id_}/deliveries/{each['eventId']}/replay"))[0] == 303
    }
    await provider.done(id_)
    await provider.switch("DELETE", id_)
    await provider.done(id_)
    disabled = await view(provider, f"/integrations/{id_}?state=DELIVERED")

    assert accepted == offered
    assert {
        each["eventId"] for each in log if each["type"] in {"SIGNAL_CLOSE", "INTEGRATION_APPROVED"}
    } == offered
    assert 1 == len(set(re.findall(r"deliveries/([^/]+)/replay", disabled)))


async def test_a_notification_leads_to_its_event(provider):
    async with stub(Script([reply(200), reply(200), typed("MarketClosed"), reply(200)])) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        await provider.signal("OPEN")
        await provider.signal("CLOSE")
        await provider.done(id_)
    (notification,) = await provider.notifications()
    (link,) = [a["href"] for a in Elements(await view(provider)).all("a") if "event=" in (a["href"] or "")]
    page = await view(provider, link)

    assert f"/integrations/{id_}?event={notification['eventId']}" == link
    assert [notification["eventId"]] == re.findall(r'<article id="e-([^"]+)"', page)


async def test_a_refused_login_is_a_page(provider):
    for path in ["/", "/integrations/00000000-0000-4000-8000-000000000000"]:
        got = await provider.send("GET", path, as_=None)

        assert (401, "text/html; charset=utf-8") == (got.status, got.headers["Content-Type"])
        assert got.headers["WWW-Authenticate"].startswith("Basic ")
        assert "Please sign in" in got.body.decode()


async def test_signing_out_refuses_the_credentials(provider):
    page = await view(provider)
    got = await provider.send("GET", "/sign-out")

    assert '<a href="/sign-out">Sign out</a>' in page
    assert (401, "no-store") == (got.status, got.headers["Cache-Control"])
    assert got.headers["WWW-Authenticate"].startswith("Basic ")


async def test_a_proxy_is_told_not_to_hold_the_stream_back(provider):
    headers = {"Authorization": basic(USER), "Accept": "text/event-stream"}
    async with provider.client.get(f"{provider.url}/v1/me/notifications", headers=headers) as answer:
        assert "no" == answer.headers["X-Accel-Buffering"]
