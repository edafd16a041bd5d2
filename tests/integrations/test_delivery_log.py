"""Each delivery has a log line, under the trace id of its signal."""

import pytest

from support.internals import collect_lines
from support.provider import OK, Script, typed, until
from support.serving import reply, stub


@pytest.fixture
def lines(provider):
    return collect_lines(provider.app)


async def delivered(lines, number: int, type_: str = "SIGNAL") -> list[dict]:
    """Return the lines of deliveries of these types, when there are `number` of them."""

    def found() -> list[dict] | None:
        matching = [
            line for line in lines.events if line["event"] == "delivery" and line["type"].startswith(type_)
        ]
        return matching if len(matching) >= number else None

    return await until(found)


async def test_a_delivery_is_logged_under_the_trace_id_of_its_signal(provider, lines, hook):
    id_ = await provider.enabled(hook.url)
    await provider.send_signal_with_trace("trace-1")
    [line] = await delivered(lines, 1)
    [event] = [each for each in await provider.done(id_) if each["type"] == "SIGNAL_OPEN"]

    assert {
        "level": "info",
        "service": "integrations",
        "event": "delivery",
        "traceId": "trace-1",
        "integration": id_,
        "eventId": event["eventId"],
        "type": "SIGNAL_OPEN",
        "attempt": 1,
        "outcome": "DELIVERED",
        "status": 200,
        "cause": None,
    }.items() <= line.items()
    assert line["duration_ms"] > 0


async def test_an_event_that_is_about_no_signal_has_no_trace_id(provider, lines, hook):
    await provider.enabled(hook.url)
    found = await delivered(lines, 1, "INTEGRATION_APPROVED")

    assert "traceId" not in found[0]


async def test_each_attempt_is_logged_with_its_outcome(provider, lines):
    async with stub(Script([reply(503, b""), typed("MarketClosed"), OK])) as hook:
        await provider.approved(hook.url)
        await until(provider.notifications)  # the line is written before the attempt is stored
        await provider.pass_time(60)
        first, second = await delivered(lines, 2, "INTEGRATION")

    assert ("warning", 1, "RETRY", 503, "Generic") == _summary(first)
    assert ("info", 2, "REFUSED", 422, "MarketClosed") == _summary(second)


def _summary(line: dict) -> tuple:
    return line["level"], line["attempt"], line["outcome"], line["status"], line["cause"]


async def test_a_close_in_place_of_a_reopen_has_the_trace_id_of_its_signal(provider, lines, hook):
    """It is sent because the user has disabled the strategy while the REOPEN waited for its retry."""
    hook.answer = Script([OK, OK, reply(503, b""), OK])
    id_ = await provider.enabled(hook.url)
    await delivered(lines, 2, "")
    await provider.send_signal_with_trace("trace-1", "REOPEN")
    await delivered(lines, 1)
    await provider.switch("DELETE", id_)
    found = await delivered(lines, 2)

    assert [("SIGNAL_REOPEN", "trace-1"), ("SIGNAL_CLOSE", "trace-1")] == [
        (line["type"], line["traceId"]) for line in found
    ]


async def test_a_signal_that_is_repeated_under_another_trace_id_stays_the_same_signal(provider, lines, hook):
    await provider.enabled(hook.url)
    answers = [
        await provider.send_signal_with_trace(trace, signalId="one") for trace in ("trace-1", "trace-2")
    ]
    [line] = await delivered(lines, 1)

    assert [202, 202] == [each.status for each in answers]
    assert "trace-1" == line["traceId"]
