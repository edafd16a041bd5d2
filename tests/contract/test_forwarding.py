"""One suite over all forwarders: what passes on, and how."""

from chassis.settings import load
from spsp_server import app as spsp_server
from support.messages import QUOTE, RESERVE, headers
from support.serving import reply, served, stub


async def test_an_answer_passes_byte_for_byte(users_file, client):
    body = b'{"amount" : "13.75",  "expires":"2017-05-11T11:30:03.561Z", "uuid":"x"}'
    async with stub(reply(200, body)) as next_hop:
        settings = load(
            spsp_server.SpspServerSettings,
            {"QUOTES_USERS_FILE": str(users_file), "QUOTES_NEXT_HOP": next_hop.url},
        )
        async with (
            served(spsp_server.create_app(settings)) as url,
            client.post(url + RESERVE, json=QUOTE, headers=headers()) as answer,
        ):
            assert body == await answer.read()
