"""A partner's request for an integration (design, Provider)."""

import asyncio
import base64
import json
from collections import Counter

import asyncpg
import pytest

from chassis.errors import InvalidBodyError
from chassis.schemas import parse
from integrations.api.schemas import NEW_INTEGRATION
from support.provider import OTHER, PASSWORDS, REQUEST, UNICODE_USER, USER, basic


def request_with(**webhook) -> dict:
    return {**REQUEST, "webhook": {**REQUEST["webhook"], **webhook}}


def faults_of(body: object) -> dict[str, str]:
    """Return the fault of each field of a body that is refused."""
    with pytest.raises(InvalidBodyError) as raised:
        parse(NEW_INTEGRATION, json.dumps(body).encode())
    return {each.key: each.message for each in raised.value.faults}


async def test_the_answer_has_an_id_a_status_and_a_signing_secret(provider):
    got = await provider.ask()

    assert 201 == got.status
    assert "PENDING" == got.json["status"]
    assert got.json["signingSecret"].startswith("whsec_")


async def test_no_answer_contains_a_header_value(provider):
    secret = "a-value-that-is-secret"
    created = await provider.ask(request_with(headers={"x-token": secret}))
    id_ = created.json["id"]
    await provider.do("approve", id_)
    answers = [
        created,
        await provider.send("GET", "/v1/me/integrations"),
        await provider.send("GET", f"/v1/me/integrations/{id_}/deliveries"),
        await provider.send("GET", "/v1/me/notifications"),
        await provider.delete(id_),
    ]

    assert [False] * len(answers) == [secret.encode() in each.body for each in answers]
    assert ["x-token"] == created.json["webhook"]["headerNames"]


async def test_header_values_and_secrets_are_encrypted_at_rest(provider):
    created = (await provider.ask(request_with(headers={"x-token": "a-value-that-is-secret"}))).json
    row = await provider.sql.fetchrow("SELECT * FROM integration")
    stored = b"".join(
        str(value).encode() if not isinstance(value, bytes) else value for value in row.values()
    )

    assert b"a-value-that-is-secret" not in stored
    assert created["signingSecret"].removeprefix("whsec_").encode() not in stored


async def test_data_encrypted_with_an_older_key_can_be_read_after_a_newer_key_is_added(start, hook):
    from cryptography.fernet import Fernet

    from support.provider import KEY

    before = await start()
    id_ = (await before.requested(hook.url))["id"]
    after = await start(encryption_keys=f"{Fernet.generate_key().decode()},{KEY}")
    await after.do("approve", id_)
    log = await after.done(id_)

    assert ["DELIVERED"] == [each["state"] for each in log]


def test_a_malformed_header_is_refused_by_its_name():
    malformed = [
        *(
            ("x-a", value)
            for value in ("b\r\nx-c: d", "b\nx-c: d", "b\r", "b\x00", " b", "b ", "bé", "b\u2028")
        ),
        *((name, "b") for name in ("x-a\r\nx-b", "x-a: b", "x a", "", "x-ä", "x" * 129)),
        *(("x-a", value) for value in (7, None, ["b"], "b" * 4_097)),
    ]

    assert [[f"webhook.headers.{name}"] for name, _ in malformed] == [
        list(faults_of(request_with(headers={"x-good": "fine", name: value}))) for name, value in malformed
    ]


def test_a_reserved_header_is_refused():
    reserved = [
        *(
            "Host",
            "HOST",
            "Content-Length",
            "content-type",
            "Content-Encoding",
            "Connection",
            "Keep-Alive",
            "TE",
        ),
        *("Trailer", "Transfer-Encoding", "Upgrade", "Proxy-Authorization", "Proxy-Connection", "Expect"),
        *("webhook-id", "Webhook-Signature", "webhook-anything"),
    ]

    for name in reserved:
        assert {f"webhook.headers.{name}": "is a reserved header and cannot be set"} == faults_of(
            request_with(headers={name: "x"})
        )


def test_a_header_may_not_be_present_twice_in_different_cases():
    faults = faults_of(request_with(headers={"X-A": "b", "x-a": "c"}))

    assert {"webhook.headers.x-a": "is present twice"} == faults


async def test_headers_have_a_maximum_number_and_total_size(provider):
    many = await provider.ask(request_with(headers={f"x-{number}": "v" for number in range(33)}))
    long = await provider.ask(request_with(headers={f"x-{number}": "v" * 4_000 for number in range(5)}))

    assert ({"webhook.headers"}, {"webhook.headers"}) == (set(many.faults), set(long.faults))


def test_each_fault_names_its_field():
    wrong = [
        *(("name", value) for value in ("", "n" * 201, 7, "a\x07b", " ", "\u2003\u00a0")),
        *(("description", value) for value in ("evorppA \u202eSTONK", "\u2066Bank", None)),
        *(("imageUrl", value) for value in ("javascript:alert(1)", "https://", 'https://foo.bar/"onerror=')),
        *(("userEmail", value) for value in ("nobody", "a@b@c d", "a" * 300 + "@example.com")),
        *(("webhook", value) for value in (None, [], "https://foo.bar")),
        ("more", 1),
    ]

    assert [[field] for field, _ in wrong] == [
        list(faults_of({**REQUEST, field: value})) for field, value in wrong
    ]


INVISIBLE = [
    *(
        "\u200b",
        "\u3164",
        "\u2800",
        "\u200e",
        "\u00ad",
        "\u061c",
        "\u115f",
        "\u1160",
        "\u17b4",
        "\u180e",
        "\u2060",
    ),
    *(
        "\u2063",
        "\u206f",
        "\ufeff",
        "\uffa0",
        "\ufff9",
        "\U0001d173",
        "\U000e0001",
        "\u200d",
        "\ufe0f",
        "\u034f",
    ),
]


def test_a_name_that_cannot_be_seen_is_refused():
    """The user would have to decide about a request without a name, or about two that look alike."""
    for field in ("name", "description"):
        for character in INVISIBLE:
            assert [field] == list(faults_of({**REQUEST, field: character * 3})), repr(character)
    for character in INVISIBLE:
        assert ["name"] == list(faults_of({**REQUEST, "name": f"Foo{character} Bar"})), repr(character)
    assert ["userEmail"] == list(faults_of({**REQUEST, "userEmail": "user\u200b@example.com"}))


def test_names_in_any_script_and_emoji_are_accepted():
    names = [
        "Überkonto 💰",
        "日本語",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "क्\u200dष",
        "👩\u200d💻",
        "❤\ufe0f",
        "1\ufe0f\u20e3",
        "한국어",
        "Ünïcödé e\u0301",
    ]

    assert names == [
        parse(NEW_INTEGRATION, json.dumps({**REQUEST, "name": each}).encode())["name"] for each in names
    ]


def test_headers_must_be_an_object():
    for headers in (None, [], "x-a: b", 7):
        assert {"webhook.headers": "must be an object"} == faults_of(request_with(headers=headers))


async def test_a_body_that_is_not_a_json_object_is_refused(provider):
    bodies = [b"", b"{", b"[]", b'"x"', b"\xff", b'{"name":"a","name":"b"}']
    got = [await provider.ask(body) for body in bodies]

    assert [(400, "InvalidBodyError")] * len(bodies) == [(each.status, each.json["id"]) for each in got]


async def test_a_body_over_64_kib_is_refused(provider):
    got = await provider.ask(request_with(headers={"x-a": "b" * 70_000}))

    assert 413 == got.status


async def test_requests_from_one_address_are_limited(start):
    provider = await start(requests_per_address=3)
    statuses = [(await provider.ask({**REQUEST, "userEmail": f"{n}@example.com"})).status for n in range(4)]
    last = await provider.ask()

    assert [201, 201, 201, 429] == statuses
    assert 1 <= int(last.headers["Retry-After"]) <= 60


async def test_requests_for_one_e_mail_are_limited_whatever_its_case(start):
    provider = await start(requests_per_email=2)
    emails = ["user@example.com", "User@Example.com", "USER@example.com", "another@example.com"]
    statuses = [(await provider.ask({**REQUEST, "userEmail": each})).status for each in emails]

    assert [201, 201, 429, 201] == statuses


async def test_at_most_twenty_requests_wait_for_one_user(provider):
    statuses = [(await provider.ask()).status for _ in range(21)]

    assert [201] * 20 + [429] == statuses


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_at_most_twenty_requests_at_once_wait_for_one_user_under_any_default_isolation(
    start, database_url, isolation
):
    """Under repeatable read 35 requests waited, under serializable most were 503."""
    sql = await asyncpg.connect(database_url)
    name = await sql.fetchval("SELECT current_database()")
    await sql.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'")
    await sql.close()
    provider = await start(deliveries_at_once=0)
    answers = await asyncio.gather(*(provider.ask() for _ in range(60)))

    assert {201: 20, 429: 40} == Counter(answer.status for answer in answers)


async def test_the_answer_does_not_tell_whether_the_e_mail_is_a_users(provider):
    known = await provider.ask({**REQUEST, "userEmail": USER})
    unknown = await provider.ask({**REQUEST, "userEmail": "nobody@example.com"})

    def shape(got):
        return got.status, list(got.json), {**got.json, "id": "", "signingSecret": "", "userEmail": ""}

    assert shape(known) == shape(unknown)


@pytest.mark.parametrize(
    ("given", "user"),
    [
        ("User@Example.COM", USER),
        ("ÄNNE@EXAMPLE.COM", UNICODE_USER),
        ("a\u0308nne@example.com", UNICODE_USER),
    ],
)
async def test_e_mail_addresses_are_compared_without_case_and_in_one_normal_form(provider, given, user):
    """Also beyond ASCII, where the database's lower() may change nothing."""
    id_ = (await provider.requested(userEmail=given))["id"]
    await provider.strategy(email=given)
    mine = (await provider.send("GET", "/v1/me/integrations", as_=user)).json["integrations"]
    theirs = (await provider.send("GET", "/v1/me/integrations", as_=OTHER)).json["integrations"]
    await provider.do("approve", id_, as_=user)
    enabled = await provider.switch("PUT", id_, as_=user)

    assert ([id_], []) == ([each["id"] for each in mine], theirs)
    assert 200 == enabled.status


async def test_a_user_signs_in_with_the_e_mail_address_in_any_case(provider):
    id_ = (await provider.requested())["id"]
    for name in ("USER@example.com", "User@Example.Com"):
        credentials = base64.b64encode(f"{name}:{PASSWORDS[USER]}".encode()).decode()
        got = await provider.send(
            "GET", "/v1/me/integrations", as_=None, Authorization=f"Basic {credentials}"
        )

        assert [id_] == [each["id"] for each in got.json["integrations"]]


async def test_requests_that_a_browser_sends_for_another_site_are_refused(provider):
    """Every unsafe method with a foreign Origin, or Sec-Fetch-Site cross-site or same-site, is 403."""
    id_ = (await provider.requested())["id"]
    foreign = [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ]
    calls = [
        ("POST", "/api/integrations/v1/integrations"),
        ("POST", f"/v1/me/integrations/{id_}/approve"),
        ("DELETE", f"/v1/me/integrations/{id_}"),
        ("PUT", f"/v1/me/strategies/s/integrations/{id_}"),
    ]
    statuses = set()
    for headers in foreign:
        for method, path in calls:
            made = {"Authorization": basic(USER), "Content-Type": "application/json", **headers}
            body = json.dumps(REQUEST)
            async with provider.client.request(
                method, provider.url + path, data=body, headers=made
            ) as answer:
                statuses.add(answer.status)

    assert {403} == statuses
    assert ["PENDING"] == [row["state"] for row in await provider.sql.fetch("SELECT state FROM integration")]
