"""The source's sample through the whole chain."""

from support.messages import KEY, LOOK_UP_QUERY, QUOTE, RESERVE, TRACE, headers


async def test_the_sample_of_the_source_costs_13_75(chain, client):
    async with client.post(
        chain.url + RESERVE, json=QUOTE, headers=headers(L1p_Trace_Id="sample-1")
    ) as reply:
        content = await reply.json()

    assert 200 == reply.status
    assert ["amount", "expires", "uuid"] == list(content)
    assert "13.75" == content["amount"]
    assert "sample-1" == reply.headers[TRACE]
    assert reply.headers[KEY]


async def test_a_reserved_quote_is_paid_and_looked_up(chain, client):
    async with client.post(chain.url + RESERVE, json=QUOTE, headers=headers()) as reply:
        uuid = (await reply.json())["uuid"]
    async with client.put(f"{chain.url}/v1/payments/{uuid}", json=QUOTE, headers=headers()) as reply:
        paid = await reply.json()
    async with client.get(f"{chain.url}/v1/quote/{uuid}?{LOOK_UP_QUERY}", headers=headers()) as reply:
        seen = await reply.json()

    assert ("EXECUTED", "13.75", "12.50", "1.25") == (
        paid["state"],
        paid["sourceAmount"],
        paid["destinationAmount"],
        paid["fee"],
    )
    assert "EXECUTED" == seen["state"]
    assert paid["executed"] == seen["executed"]
    assert QUOTE == seen["request"]
