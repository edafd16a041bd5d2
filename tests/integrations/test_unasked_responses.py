"""A response that comes unasked on a kept connection is never taken for the response to the next request.

aiohttp alone gives it to the next request: a webhook that answers an event twice would decide about the next event, too.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from multidict import CIMultiDict
from yarl import URL

from integrations.webhook.client import open_session, post
from integrations.webhook.http_connection import WebhookConnector

EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
UNASKED = b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"


class Webhook:
    """Answers each request; keeps its connections."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.writers: list[asyncio.StreamWriter] = []
        self.url = URL()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(self.answer)
        writer.close()


@pytest.fixture(
    params=[
        EMPTY,
        EMPTY.replace(b"0\r\n\r\n", b"2\r\n\r\n{}"),
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + EMPTY,
    ],
    ids=["no body", "a body", "204", "chunks", "an interim response"],
)
async def webhook(request) -> AsyncIterator[Webhook]:
    made = Webhook(request.param)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = URL("http://{}:{}".format(*server.sockets[0].getsockname()))
    yield made
    server.close()
    for writer in made.writers:
        writer.close()


@pytest.fixture
async def session():
    async with open_session(WebhookConnector(limit=0)) as made:
        yield made


async def status(session, webhook: Webhook) -> int | None:
    return (await post(session, webhook.url, CIMultiDict(), b"", 30.0)).status


async def test_a_connection_is_kept_for_the_next_request(session, webhook):
    statuses = [await status(session, webhook) for _ in range(3)]

    assert 1 == len(set(statuses))
    assert 1 == len(webhook.writers)


async def test_a_second_response_in_one_segment_ends_the_connection(session, webhook):
    expected = await status(session, webhook)
    answer, webhook.answer = webhook.answer, webhook.answer + UNASKED
    assert expected == await status(session, webhook)
    webhook.answer = answer

    assert expected == await status(session, webhook)
    assert 2 == len(webhook.writers)


@pytest.mark.parametrize("unasked", [UNASKED, UNASKED[:20], b"HTTP/1.1 103 Early Hints\r\n\r\n", b"\r\n"])
async def test_a_response_on_an_idle_connection_ends_it(session, webhook, unasked):
    expected = await status(session, webhook)
    webhook.writers[0].write(unasked)
    async with asyncio.timeout(30):
        while session.connector._conns and next(iter(session.connector._conns.values()))[0][0].is_connected():
            await asyncio.sleep(0.01)

    assert expected == await status(session, webhook)
    assert 2 == len(webhook.writers)


async def test_a_response_that_waits_unread_when_the_next_request_is_sent_ends_the_connection(
    session, webhook
):
    expected = await status(session, webhook)
    # on loopback it is in the client's socket at once, and the event loop has no turn before the next request
    webhook.writers[0].write(UNASKED)

    assert expected == await status(session, webhook)
    assert 2 == len(webhook.writers)
