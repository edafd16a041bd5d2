"""A request that the next hop got cut off or garbled is sent once more, and is never the caller's fault."""

import pytest

from chassis.errors import BODY_CUT_OFF, MALFORMED_HTTP, RequestTimeoutError
from support.forwarders import QUOTE_REPLY
from support.serving import reply


@pytest.fixture(params=["dfsp-api", "spsp-server"])
async def hop(request, shared_hop):
    return await shared_hop(request.param)


CUT_OFF = {
    "id": "InvalidBodyError",
    "message": "m",
    "service": "s",
    "traceId": "t",
    "validationErrors": [{"message": BODY_CUT_OFF, "params": {"key": "body", "value": None}}],
}
GARBLED = {"id": "InvalidHeaderError", "message": MALFORMED_HTTP, "service": "s", "traceId": "t"}
DAMAGED = {
    "a body cut off": reply(400, CUT_OFF),
    "malformed HTTP": reply(400, GARBLED),
    "a body not complete in time": reply(408, {**GARBLED, "message": RequestTimeoutError().message}),
}


@pytest.mark.parametrize("damage", DAMAGED)
async def test_a_request_that_was_damaged_on_its_way_is_sent_once_more(hop, damage):
    async def damaged_first(seen):
        return await (DAMAGED[damage] if len(hop.next_hop.seen) == 1 else reply(200, QUOTE_REPLY))(seen)

    hop.next_hop.answer = damaged_first

    assert 200 == (await hop.send()).status
    assert 2 == len(hop.next_hop.seen)


@pytest.mark.parametrize("damage", DAMAGED)
async def test_a_request_that_was_damaged_twice_is_502_and_never_the_callers_fault(hop, damage):
    hop.next_hop.answer = DAMAGED[damage]
    response = await hop.send()

    assert (502, "UpstreamError") == (response.status, response.id)
    assert 2 == len(hop.next_hop.seen)
