"""Quotes survive when all containers are removed and created again."""

from support import compose
from support.client import send
from support.messages import QUOTE, RESERVE


async def test_all_quotes_survive_down_and_up(network, caller):
    urls = {"dfsp2": network.urls["dfsp1"], "dfsp1": network.urls["dfsp2"]}
    first = {}
    for payee, url in urls.items():
        body = {**QUOTE, "identifier": compose.AT[payee]}
        reserved = await send(caller, "POST", url + RESERVE, body, Idempotency_Key=f"kept-{payee}")
        paid = await send(caller, "PUT", f"{url}/v1/payments/{reserved.json['uuid']}", body)
        assert (200, 200) == (reserved.status, paid.status)
        first[payee] = (reserved.body, paid.body)
    before = {dfsp: network.rows(dfsp) for dfsp in compose.AT}

    network.run("down")
    assert not network.containers("dfsp-api")
    network.run("up", "--detach", "--wait")

    assert before == {dfsp: network.rows(dfsp) for dfsp in compose.AT}
    for payee, url in {"dfsp2": network.urls["dfsp1"], "dfsp1": network.urls["dfsp2"]}.items():
        body = {**QUOTE, "identifier": compose.AT[payee]}
        reserved = await send(caller, "POST", url + RESERVE, body, Idempotency_Key=f"kept-{payee}")
        paid = await send(caller, "PUT", f"{url}/v1/payments/{reserved.json['uuid']}", body)
        assert first[payee] == (reserved.body, paid.body)
