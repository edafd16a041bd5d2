"""The receiver answers as its OpenAPI document says, whatever the document allows to send."""

import asyncio

import pytest

from support.explored import LONG_EXAMPLES, QUICK, explore, number_of_cases
from support.receiver import SAMPLE, Sender


@pytest.fixture
async def patient(start) -> Sender:
    """A receiver on a machine that may be busy, which must not look like an overloaded service."""
    return await start(max_wait_seconds=60)


async def test_the_receiver_answers_as_its_document_says(patient):
    output = await asyncio.to_thread(explore, patient.url, "receiver", SAMPLE, phases=QUICK)

    assert number_of_cases(output) > 100


@pytest.mark.fault
async def test_the_receiver_answers_many_requests_as_its_document_says(patient):
    output = await asyncio.to_thread(explore, patient.url, "receiver", SAMPLE, examples=LONG_EXAMPLES)

    assert number_of_cases(output) > 300
