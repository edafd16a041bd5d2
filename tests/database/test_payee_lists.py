"""List: the caller's own quotes, the newest first, and everybody's for an operator (wire.md §9)."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlencode
from uuid import UUID

import pytest

from dfsp_api import distributed_repository, repository
from dfsp_api.quote_filter import Page, QuoteFilter
from support.messages import OTHER, QUOTE, RESERVE_DESTINATION, TEST, basic
from support.payee import Caller, PayeeResponse, until

ADMIN = basic("admin", "admin")
BEGIN = "2030-01-01T00:00:00.000Z"
ON_ONE_KIND = pytest.mark.parametrize("start", ["postgres"], indirect=True)


@pytest.fixture(params=["postgres", "distributed"])
def start(request, start):
    """Starts a payee of each kind on the test's database."""

    async def start_kind(**settings: object) -> Caller:
        return await start(database_kind=request.param, operators="admin", **settings)

    return start_kind


async def listed(
    payee: Caller, authorization: str = TEST, *, timeout_ms: str = "60000", **query: object
) -> PayeeResponse:
    text = urlencode({name: str(value) for name, value in query.items()})
    return await payee.send(
        "GET",
        f"/v1/quotes{text and '?'}{text}",
        authorization=authorization,
        X_Request_Timeout_Ms=timeout_ms,
    )


async def pages(payee: Caller, authorization: str = TEST, **query: object) -> AsyncIterator[list[dict]]:
    more: dict[str, object] = {}
    while True:
        answer = await listed(payee, authorization, **query, **more)
        assert 200 == answer.status, answer.body
        yield answer.json["quotes"]
        if answer.json["next"] is None:
            return
        more = {"after": answer.json["next"]}


async def whole(payee: Caller, authorization: str = TEST, **query: object) -> list[dict]:
    return [each async for page in pages(payee, authorization, **query) for each in page]


def uuids(quotes: list[dict]) -> list[str]:
    return [each["uuid"] for each in quotes]


async def test_the_items_of_a_list_are_as_a_look_up_shows_them(start, clock):
    payee = await start()
    await clock.set(BEGIN)
    paid = await payee.reserved({**QUOTE, "identifier": "Zoë \U0001f600"})
    await payee.execute(paid, {**QUOTE, "identifier": "Zoë \U0001f600"})
    await clock.set(BEGIN, plus="1 s")
    expired = await payee.reserved(path=RESERVE_DESTINATION)
    await clock.set(BEGIN, plus="301 s")
    reserved = await payee.reserved()

    answer = await listed(payee)

    assert 200 == answer.status
    assert "application/json" == answer.headers["Content-Type"].partition(";")[0]
    assert {"quotes", "next"} == answer.json.keys()
    assert answer.json["next"] is None
    assert ["RESERVED", "EXPIRED", "EXECUTED"] == [each["state"] for each in answer.json["quotes"]]
    assert answer.json["quotes"] == [
        (await payee.look_up(uuid, "")).json for uuid in (reserved, expired, paid)
    ]


async def test_a_caller_without_quotes_gets_an_empty_list(start):
    payee = await start()
    await payee.reserved(authorization=OTHER)

    assert {"quotes": [], "next": None} == (await listed(payee)).json


async def test_a_caller_gets_its_own_quotes_and_an_operator_those_of_all(start, clock):
    payee = await start()
    await clock.set(BEGIN)
    own = await payee.reserved()
    await clock.set(BEGIN, plus="1 s")
    others = await payee.reserved(authorization=OTHER)

    assert [own] == uuids(await whole(payee))
    assert [own] == uuids(await whole(payee, caller="test"))
    assert [others] == uuids(await whole(payee, OTHER))
    assert [(others, "other"), (own, "test")] == [
        (each["uuid"], each["caller"]) for each in await whole(payee, ADMIN)
    ]
    assert [own] == uuids(await whole(payee, ADMIN, caller="test"))
    assert [] == await whole(payee, ADMIN, caller="admin")
    assert [] == await whole(payee, ADMIN, caller="nobody")
    for caller in ("other", "admin", "Test", "nobody"):
        assert (403, "ForbiddenError") == (await listed(payee, caller=caller)).outcome, caller


@ON_ONE_KIND
async def test_a_name_in_another_unicode_form_is_the_same_caller(start):
    payee = await start()

    assert 200 == (await listed(payee, ADMIN, caller="e\u0301")).status


async def test_each_filter_selects_and_all_must_fit(start, clock):
    payee = await start()
    await clock.set(BEGIN)
    first = await payee.reserved({**QUOTE, "identifier": "1"})  # 12.50 arrives, 13.75 is sent
    await clock.set(BEGIN, plus="1 s")
    second = await payee.reserved({**QUOTE, "identifier": "2", "amount": "13.75"}, path=RESERVE_DESTINATION)
    await clock.set(BEGIN, plus="2 s")
    third = await payee.reserved({**QUOTE, "identifier": "1", "amount": "100"})
    await payee.execute(first, {**QUOTE, "identifier": "1"})

    async def found(**query: object) -> list[str]:
        return uuids(await whole(payee, **query))

    assert [third, first] == await found(identifier="1")
    assert [] == await found(identifier="11")
    assert [second, first] == await found(amount="13.7500")
    assert [second, first] == await found(amount="12.5")
    assert [third] == await found(amount="100.00")
    assert [] == await found(amount="1.25")
    assert [second] == await found(uuid=second.upper())
    assert [] == await found(uuid=second, identifier="1")
    assert [] == await found(uuid=UUID(int=1))
    assert [first] == await found(state="EXECUTED")
    assert [third, second] == await found(state="RESERVED")
    assert [third, second] == await found(since="2030-01-01T00:00:01Z")
    assert [third, second] == await found(since="2030-01-01T01:00:01.000+01:00")
    assert [third] == await found(since="2030-01-01T00:00:01.001Z")
    assert [second, first] == await found(until="2030-01-01T00:00:02Z")
    assert [third, second, first] == await found(since="2030-01-01")
    assert [] == await found(until="2030-01-01")
    assert [] == await found(since="2030-01-01T00:00:02Z", until="2030-01-01T00:00:01Z")
    assert [third] == await found(identifier="1", state="RESERVED", since="2030-01-01", amount="100")
    await clock.set(BEGIN, plus="301 s")  # the end of the second quote, to the millisecond
    assert [third] == await found(state="RESERVED")
    assert [second] == await found(state="EXPIRED")


async def test_pages_go_on_where_the_one_before_ended_while_quotes_are_reserved(start):
    payee = await start()
    # reserved at once: many have the same time
    before = {
        answer.json["uuid"]
        for answer in await asyncio.gather(*(payee.reserve(key=f"{n}") for n in range(40)))
    }
    seen: list[str] = []
    sizes = []
    async for page in pages(payee, limit=7):
        seen += uuids(page)
        sizes.append(len(page))
        await payee.reserved()

    assert [7, 7, 7, 7, 7, 5] == sizes
    assert len(seen) == len(set(seen))
    assert before == set(seen)


async def test_a_page_that_ends_with_the_list_has_no_next(start):
    payee = await start()
    for _ in range(3):
        await payee.reserved()

    assert [3] == [len(page) async for page in pages(payee, limit=3)]
    assert [2, 1] == [len(page) async for page in pages(payee, limit=2)]


async def test_a_list_has_50_quotes_unless_another_limit_is_given(start):
    payee = await start()
    await asyncio.gather(*(payee.reserved() for _ in range(60)))

    assert 50 == len((await listed(payee)).json["quotes"])
    assert 60 == len((await listed(payee, limit=200)).json["quotes"])
    assert 1 == len((await listed(payee, limit=1)).json["quotes"])


async def test_the_cursor_of_another_caller_shows_nothing_of_its_quotes(start):
    payee = await start()
    for _ in range(3):
        await payee.reserved(authorization=OTHER)
    own = await payee.reserved()
    cursor = (await listed(payee, OTHER, limit=1)).json["next"]

    assert {own} >= set(uuids(await whole(payee, after=cursor)))


FAULTS = {
    "state": ["", "reserved", "RELEASED_", "EXPIRED,RESERVED"],
    "since": [
        "",
        "yesterday",
        "2030-01-01T00:00:00",
        "2030-02-30",
        "2030-13-01",
        "1893456000",
        "2030-01-01T24:00Z",
    ],
    "until": ["2030-01-01T00:00:00+25:00", "2030-1-1", "20300101", "٢٠٣٠-01-01"],
    "caller": ["", "a" * 65],
    "identifier": ["", "a" * 129],
    "uuid": ["", "x", "0" * 32, f"{UUID(int=1)} ", f"{{{UUID(int=1)}}}"],
    "amount": ["", "0", "-1", "1e3", "12,50", "01", "1" * 19, "NaN"],
    "limit": ["", "0", "-1", "201", "1.5", "ten", "٣", "9" * 30],
    "after": ["", "x", "null", "A" * 31, "A" * 33, "O" + "A" * 31, "A" * 31 + "B", "A" * 31 + "=", "Ä" * 32],
}


@ON_ONE_KIND
@pytest.mark.parametrize("name", FAULTS)
async def test_a_malformed_parameter_is_a_400_that_names_it(payee, name):
    for value in FAULTS[name]:
        answer = await listed(payee, **{name: value})

        assert (400, "InvalidQueryParameterError") == answer.outcome, value
        [fault] = answer.json["validationErrors"]
        assert {"key": name, "value": value[:64]} == fault["params"]
        assert name in answer.json["message"]


@ON_ONE_KIND
async def test_all_faults_are_named_at_once(payee):
    answer = await listed(payee, limit="0", after="x", amount="one")

    assert ["limit", "after", "amount"] == [
        fault["params"]["key"] for fault in answer.json["validationErrors"]
    ]


@ON_ONE_KIND
@pytest.mark.parametrize(
    ("query", "name", "message"),
    [
        ("page=2", "page", "is not a parameter of this operation"),
        ("limit=1&limit=1", "limit", "occurs twice"),
        ("identifier=%00", "identifier", "must be UTF-8 without control characters"),
        ("identifier=%ff", "identifier", "must be UTF-8 without control characters"),
    ],
)
async def test_an_unknown_or_repeated_parameter_is_refused_as_elsewhere(payee, query, name, message):
    answer = await payee.send("GET", f"/v1/quotes?{query}")

    assert (400, "InvalidQueryParameterError") == answer.outcome
    assert [(name, message)] == [
        (each["params"]["key"], each["message"]) for each in answer.json["validationErrors"]
    ]


@ON_ONE_KIND
@pytest.mark.parametrize(
    "time",
    [
        "0000-01-01T00:00:00+23:59",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "2030-01-01t00:00:00.123456789123z",
        "2030-01-01T00:00Z",
    ],
)
async def test_times_at_the_edge_of_the_calendar_are_times(payee, time):
    uuid = await payee.reserved()

    assert {200} == {(await listed(payee, since=time)).status, (await listed(payee, until=time)).status}
    assert ([uuid] if time < "2030" else []) == uuids((await listed(payee, since=time)).json["quotes"])


@ON_ONE_KIND
async def test_a_plus_sign_that_is_not_encoded_is_one(payee):
    assert 200 == (await payee.send("GET", "/v1/quotes?since=2030-01-01T00:00:00+01:00")).status


@ON_ONE_KIND
async def test_the_checks_come_in_the_order_of_a_look_up(start):
    payee = await start()
    path = "/v1/quotes?limit=0&caller=other"

    assert 405 == (await payee.send("POST", path, b"{}", authorization="")).status
    assert (
        401 == (await payee.send("GET", path, authorization="Basic eDp5", X_Request_Timeout_Ms="no")).status
    )
    assert (400, "InvalidHeaderError") == (await payee.send("GET", path, X_Request_Timeout_Ms="no")).outcome
    assert (400, "InvalidQueryParameterError") == (await payee.send("GET", path)).outcome
    assert (403, "ForbiddenError") == (await payee.send("GET", "/v1/quotes?caller=other")).outcome


@ON_ONE_KIND
async def test_a_batch_may_not_have_lists(payee):
    body = b'{"id":"1","method":"GET","path":"/v1/quotes","headers":{},"body":null}\n'
    answer = await payee.send("POST", "/v1/batch", body, Content_Type="application/x-ndjson")

    assert b'"status":404' in answer.body.replace(b" ", b"")


async def test_an_operator_finds_a_quote_by_its_uuid_and_others_find_their_own(start, sql):
    payee = await start()
    uuid = await payee.reserved(authorization=OTHER)

    [found] = await whole(payee, ADMIN, uuid=uuid)
    assert (uuid, "other") == (found["uuid"], found["caller"])
    assert [uuid] == uuids(await whole(payee, OTHER, uuid=uuid))
    assert [] == await whole(payee, TEST, uuid=uuid)
    assert [] == await whole(payee, ADMIN, uuid=uuid, caller="test")


@ON_ONE_KIND
@pytest.mark.parametrize(
    ("statement", "kind"),
    [(repository.LIST_OF_QUOTE, "integer"), (distributed_repository.LIST_OF_QUOTE, "timestamptz")],
)
async def test_one_quote_is_found_by_its_index(payee, sql, statement, kind):
    types = f"timestamptz, timestamptz, uuid, integer, text, text, numeric, {kind}, uuid, text"
    await sql.execute("SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off")
    await sql.execute(f"PREPARE list ({types}) AS {statement}")
    uuid, clock = f"'{UUID(int=1)}'", "50" if kind == "integer" else "now()"
    arguments = f"now(), now(), {uuid}, 1, NULL, NULL, NULL, {clock}, {uuid}, NULL"
    plan = await sql.fetch(f"EXPLAIN EXECUTE list ({arguments})")

    assert "quote_pkey" in str(plan)


async def test_stubs_are_not_listed(start, sql):
    payee = await start()
    left, kept = await payee.reserved(), await payee.reserved()
    await sql.execute(
        "UPDATE quote SET request = NULL, source_amount = NULL, destination_amount = NULL WHERE uuid = $1",
        UUID(left),
    )

    assert [kept] == uuids(await whole(payee))


@ON_ONE_KIND
async def test_the_lists_of_one_caller_do_not_hold_up_those_of_another(start, monkeypatch):
    payee = await start()
    released = asyncio.Event()
    reading: list[str | None] = []

    async def page(_self, wanted: QuoteFilter, _deadline: float | None = None) -> Page:
        reading.append(wanted.caller)
        await released.wait()
        return Page([], None)

    monkeypatch.setattr(repository.Repository, "page", page)
    lists = [asyncio.create_task(listed(payee)) for _ in range(8)]

    async def number_of_lists(number: int) -> bool:
        return len(reading) >= number

    await until(lambda: number_of_lists(2))
    lists.append(asyncio.create_task(listed(payee, OTHER)))
    await until(lambda: number_of_lists(3))
    first = reading[:]
    released.set()

    assert ["test", "test", "other"] == first
    assert {200} == {(await each).status for each in lists}


async def test_postgres_ends_a_list_whose_time_has_passed(start, sql):
    """Otherwise a caller could start many statements that go on after its short time limit."""
    payee = await start()
    async with sql.transaction():
        await sql.execute("LOCK TABLE quote IN ACCESS EXCLUSIVE MODE")
        answer = await listed(payee, timeout_ms="300")

        async def has_ended() -> bool:
            return not await sql.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )

        await until(has_ended)

    assert (504, "UpstreamTimeoutError") == answer.outcome
    assert 200 == (await listed(payee)).status


@ON_ONE_KIND
async def test_a_list_reads_a_limited_number_of_quotes_and_the_next_page_goes_on(start, monkeypatch):
    """So no filter makes a statement read the whole table."""
    monkeypatch.setattr(repository, "MAX_SCANNED", 10)
    payee = await start()
    rare = [await payee.reserved({**QUOTE, "identifier": "rare"}) for _ in range(2)]
    for _ in range(25):
        await payee.reserved()
    newest = [await payee.reserved({**QUOTE, "identifier": "rare"})]

    sizes = [len(page) async for page in pages(payee, identifier="rare")]

    assert [1, 0, 2] == sizes
    assert newest + rare[::-1] == uuids(await whole(payee, identifier="rare"))
    assert 28 == len(await whole(payee, limit=200))
    assert 28 == len(await whole(payee, ADMIN, limit=10))
    assert 3 == len(await whole(payee, ADMIN, identifier="rare", limit=1))


@ON_ONE_KIND
@pytest.mark.parametrize(
    "statement",
    [
        repository.LIST_OF_ALL,
        repository.LIST_OF_CALLER,
        distributed_repository.LIST_OF_ALL,
        distributed_repository.LIST_OF_CALLER,
    ],
)
async def test_the_statement_reads_an_index_in_its_order(payee, sql, statement):
    """So it can end after a page, without reading the rest of the table."""
    await sql.execute("SET enable_sort = off")  # a small table may be sorted as quickly
    await sql.execute(
        "INSERT INTO quote SELECT gen_random_uuid(), 'caller-' || n % 5, 'quoteSourceAmount', '', '{}', 2, 1,"
        " now() - n * interval '1 s', now(), NULL FROM generate_series(1, 20000) AS n; ANALYZE quote"
    )
    is_plain = statement in {repository.LIST_OF_ALL, repository.LIST_OF_CALLER}
    limit = "50000" if is_plain else "now()"
    values = [
        "'-infinity'",
        "'infinity'",
        f"'{UUID(int=0)}'",
        "51",
        "'RESERVED'",
        "NULL",
        "NULL",
        limit,
        "'caller-1'",
    ]
    for position in reversed(range(9)):
        statement = statement.replace(f"${position + 1}", values[position])
    plan = "\n".join(row[0] for row in await sql.fetch(f"EXPLAIN {statement}"))

    assert ("quote_caller_created" if "caller-1" in statement else "quote_created") in plan
    assert "Sort" not in plan
