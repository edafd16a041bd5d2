"""The platform answers as its OpenAPI document says, whatever the document allows to send."""

import asyncio

import pytest

from support.explored import LONG_EXAMPLES, QUICK, explore, number_of_cases
from support.provider import ENGINE, OPERATOR, PASSWORDS, USER


@pytest.fixture
async def url(start, hook) -> str:
    """The URL of a platform with an integration and a strategy. A busy machine must not look like an overloaded one."""
    provider = await start(max_wait_seconds=60)
    await provider.enabled(hook.url, strategy="gold")
    return provider.url


async def test_the_platform_answers_as_its_document_says(url):
    output = await asyncio.to_thread(explore, url, USER, PASSWORDS[USER], phases=QUICK)

    assert number_of_cases(output) > 300


@pytest.mark.fault
@pytest.mark.parametrize("user", [USER, ENGINE, OPERATOR])
async def test_the_platform_answers_many_requests_as_its_document_says(url, user):
    output = await asyncio.to_thread(explore, url, user, PASSWORDS[user], examples=LONG_EXAMPLES)

    assert number_of_cases(output) > 700
