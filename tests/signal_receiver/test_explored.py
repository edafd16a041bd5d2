"""The receiver answers as its OpenAPI document says, whatever the document allows to send."""

import asyncio

import pytest

from support.explored import LONG_EXAMPLES, explore, number_of_cases
from support.receiver import SAMPLE


async def test_the_receiver_answers_as_its_document_says(receiver):
    output = await asyncio.to_thread(explore, f"{receiver.url}/openapi.json", "receiver", SAMPLE)

    assert number_of_cases(output) > 100


@pytest.mark.fault
async def test_the_receiver_answers_many_requests_as_its_document_says(receiver):
    document = f"{receiver.url}/openapi.json"
    output = await asyncio.to_thread(explore, document, "receiver", SAMPLE, examples=LONG_EXAMPLES)

    assert number_of_cases(output) > 500
