"""The platform answers as its OpenAPI document says, whatever the document allows to send."""

import asyncio

import pytest

from support.explored import LONG_EXAMPLES, explore, number_of_cases
from support.provider import ENGINE, PASSWORDS, USER

pytestmark = pytest.mark.parametrize("user", [USER, ENGINE])


@pytest.fixture
async def document(provider, hook) -> str:
    """The URL of the document of a platform with an integration and a strategy."""
    await provider.enabled(hook.url, strategy="gold")
    return f"{provider.url}/openapi.json"


async def test_the_platform_answers_as_its_document_says(document, user):
    output = await asyncio.to_thread(explore, document, user, PASSWORDS[user])

    assert number_of_cases(output) > 300


@pytest.mark.fault
async def test_the_platform_answers_many_requests_as_its_document_says(document, user):
    output = await asyncio.to_thread(explore, document, user, PASSWORDS[user], examples=LONG_EXAMPLES)

    assert number_of_cases(output) > 1_000
