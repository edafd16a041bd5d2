"""The source's check that every role passes: the sample call, to the letter (Quote API §I)."""

from typing import Final

from aiohttp import hdrs

from dfsp_quotes.conformance.check import Checks
from dfsp_quotes.conformance.implementation import DESTINATION, SOURCE, Implementation
from dfsp_quotes.conformance.options import Part, Role
from dfsp_quotes.conformance.result import Fault
from dfsp_quotes.conformance.wire import encode

CHECKS: Final = Checks(Part.SOURCE, Role)

CURL_TYPE: Final = "application/x-www-form-urlencoded"
"""The content type that curl sends if a call names none, as the calls of the source do."""


@CHECKS.add("sample-call", "§I.{receives} Sample Call")
async def sample_call(implementation: Implementation) -> None:
    """The sample call of the source works as it is written. It names no content type, so curl sends that of a form."""
    for path in (SOURCE, DESTINATION):
        body = encode(implementation.as_received(path, implementation.request()))
        response = await implementation.send("POST", path, body, {hdrs.CONTENT_TYPE: CURL_TYPE})
        if response.status != 200:  # noqa: PLR2004
            raise Fault(f"The call of {path} was answered with {response.outcome}, not with 200.")
