"""The sample of the Quote API through the whole chain."""

import pytest

from support.messages import KEY, QUOTE, RESERVE, TRACE, headers

pytestmark = pytest.mark.batches


async def test_the_sample_request_of_the_quote_api_costs_13_75(chain, client):
    async with client.post(
        chain.url + RESERVE, json=QUOTE, headers=headers(L1p_Trace_Id="sample-1")
    ) as reply:
        content = await reply.json()

    assert 200 == reply.status
    assert ["amount", "expires", "uuid"] == list(content)
    assert "13.75" == content["amount"]
    assert "sample-1" == reply.headers[TRACE]
    assert reply.headers[KEY]
