"""What a partner may ask for, and what never comes back (design, Provider)."""

import json

import pytest

from chassis.addresses import network_of
from chassis.errors import InvalidBodyError
from chassis.schemas import parse
from integrations.api.schemas import NEW_INTEGRATION
from support.provider import OTHER, REQUEST, USER, basic


def asking(**webhook) -> dict:
    return {**REQUEST, "webhook": {**REQUEST["webhook"], **webhook}}


def faults_of(body: object) -> dict[str, str]:
    """Field to what is wrong with it, of a body that is refused."""
    with pytest.raises(InvalidBodyError) as raised:
        parse(NEW_INTEGRATION, json.dumps(body).encode())
    return {each.key: each.message for each in raised.value.faults}


async def test_the_answer_has_an_id_the_state_and_a_signing_secret(provider):
    got = await provider.ask()

    assert 201 == got.status
    assert "PENDING" == got.json["status"]
    assert got.json["signingSecret"].startswith("whsec_")


async def test_header_values_never_come_back(provider):
    secret = "a-value-that-is-secret"
    created = await provider.ask(asking(headers={"x-token": secret}))
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
    created = (await provider.ask(asking(headers={"x-token": "a-value-that-is-secret"}))).json
    row = await provider.sql.fetchrow("SELECT * FROM integration")
    stored = b"".join(
        str(value).encode() if not isinstance(value, bytes) else value for value in row.values()
    )

    assert b"a-value-that-is-secret" not in stored
    assert created["signingSecret"].removeprefix("whsec_").encode() not in stored


async def test_what_an_older_key_has_encrypted_is_read_with_the_keys_that_came_after_it(start, hook):
    from cryptography.fernet import Fernet

    from support.provider import KEY

    before = await start()
    id_ = (await before.requested(hook.url))["id"]
    after = await start(encryption_keys=f"{Fernet.generate_key().decode()},{KEY}")
    await after.do("approve", id_)
    log = await after.done(id_)

    assert ["DELIVERED"] == [each["state"] for each in log]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-a", "b\r\nx-c: d"),
        ("x-a", "b\nx-c: d"),
        ("x-a", "b\r"),
        ("x-a", "b\x00"),
        ("x-a", " b"),
        ("x-a", "b "),
        ("x-a", "bé"),
        ("x-a", "b\u2028"),
        ("x-a\r\nx-b", "c"),
        ("x-a: b", "c"),
        ("x a", "b"),
        ("", "b"),
        ("x-ä", "b"),
        ("x-a", 7),
        ("x-a", None),
        ("x-a", ["b"]),
        ("x-a", "b" * 4_097),
        ("x" * 129, "b"),
    ],
)
def test_a_header_that_would_inject_is_refused_by_name(name, value):
    faults = faults_of(asking(headers={"x-good": "fine", name: value}))

    assert [f"webhook.headers.{name}"] == list(faults)


@pytest.mark.parametrize(
    "name",
    ["Host", "HOST", "Content-Length", "content-type", "Content-Encoding", "Connection", "Keep-Alive", "TE",
     "Trailer", "Transfer-Encoding", "Upgrade", "Proxy-Authorization", "Proxy-Connection", "Expect",
     "webhook-id", "Webhook-Signature", "webhook-anything"],
)  # fmt: skip
def test_a_partner_may_not_set_what_is_ours(name):
    faults = faults_of(asking(headers={name: "x"}))

    assert {f"webhook.headers.{name}": "is a reserved header and cannot be set"} == faults


def test_a_header_may_not_be_there_twice_in_two_cases():
    faults = faults_of(asking(headers={"X-A": "b", "x-a": "c"}))

    assert {"webhook.headers.x-a": "is present twice"} == faults


async def test_headers_are_bounded_in_number_and_in_all(provider):
    many = await provider.ask(asking(headers={f"x-{number}": "v" for number in range(33)}))
    long = await provider.ask(asking(headers={f"x-{number}": "v" * 4_000 for number in range(5)}))

    assert ({"webhook.headers"}, {"webhook.headers"}) == (set(many.faults), set(long.faults))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "n" * 201),
        ("name", 7),
        ("name", "a\x07b"),
        ("name", " "),
        ("name", "\u2003\u00a0"),
        ("description", "evorppA \u202eSTONK"),
        ("description", "\u2066Bank"),
        ("description", None),
        ("imageUrl", "javascript:alert(1)"),
        ("imageUrl", "https://"),
        ("imageUrl", 'https://foo.bar/"onerror='),
        ("userEmail", "nobody"),
        ("userEmail", "a@b@c d"),
        ("userEmail", "a" * 300 + "@example.com"),
        ("webhook", None),
        ("webhook", []),
        ("webhook", "https://foo.bar"),
        ("more", 1),
    ],
)
def test_what_is_wrong_is_said_by_field(field, value):
    faults = faults_of({**REQUEST, field: value})

    assert [field] == list(faults)


@pytest.mark.parametrize("headers", [None, [], "x-a: b", 7])
def test_headers_must_be_an_object(headers):
    faults = faults_of(asking(headers=headers))

    assert {"webhook.headers": "must be an object"} == faults


async def test_what_is_no_json_object_is_refused(provider):
    bodies = [b"", b"{", b"[]", b'"x"', b"\xff", b'{"name":"a","name":"b"}']
    got = [await provider.ask(body) for body in bodies]

    assert [(400, "InvalidBodyError")] * len(bodies) == [(each.status, each.json["id"]) for each in got]


async def test_a_body_over_64_kib_is_refused(provider):
    got = await provider.ask(asking(headers={"x-a": "b" * 70_000}))

    assert 413 == got.status


async def test_one_address_may_ask_only_so_often(start):
    provider = await start(requests_per_address=3)
    statuses = [(await provider.ask({**REQUEST, "userEmail": f"{n}@example.com"})).status for n in range(4)]
    last = await provider.ask()

    assert [201, 201, 201, 429] == statuses
    assert 1 <= int(last.headers["Retry-After"]) <= 60


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_an_ipv6_network_counts_as_one_address(address, place):
    """Whoever has one has all its addresses, and could ask from another each time."""
    assert place == network_of(address)


async def test_for_one_e_mail_only_so_many_may_ask_whatever_its_case(start):
    provider = await start(requests_per_email=2)
    emails = ["user@example.com", "User@Example.com", "USER@example.com", "another@example.com"]
    statuses = [(await provider.ask({**REQUEST, "userEmail": each})).status for each in emails]

    assert [201, 201, 429, 201] == statuses


async def test_no_more_than_twenty_requests_wait_for_one_user(provider):
    statuses = [(await provider.ask()).status for _ in range(21)]

    assert [201] * 20 + [429] == statuses


async def test_the_answer_is_the_same_whether_the_e_mail_is_known_or_not(provider):
    known = await provider.ask({**REQUEST, "userEmail": USER})
    unknown = await provider.ask({**REQUEST, "userEmail": "nobody@example.com"})

    def shape(got):
        return got.status, list(got.json), {**got.json, "id": "", "signingSecret": "", "userEmail": ""}

    assert shape(known) == shape(unknown)


async def test_a_request_for_an_e_mail_is_that_users_whatever_its_case(provider):
    created = await provider.requested(userEmail="User@Example.COM")
    mine = (await provider.send("GET", "/v1/me/integrations")).json["integrations"]
    theirs = (await provider.send("GET", "/v1/me/integrations", as_=OTHER)).json["integrations"]

    assert ([created["id"]], []) == ([each["id"] for each in mine], theirs)


async def test_other_peoples_pages_change_nothing(provider):
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
