"""Runs the checks, in their order, against one implementation."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from dfsp_quotes.conformance.check import Check
from dfsp_quotes.conformance.checks import CATALOGUE
from dfsp_quotes.conformance.clock import Clock
from dfsp_quotes.conformance.implementation import Implementation, open_session
from dfsp_quotes.conformance.neighbour import Neighbour, always, listening, quote_reply, response
from dfsp_quotes.conformance.options import HOPS, Options, Role
from dfsp_quotes.conformance.result import Fault, NotRunError, Outcome, Report, Result, Skip, cut
from dfsp_quotes.conformance.wire import Request, Response

NEXT_SERVICE: Final = {
    Role.CHAIN: "dfsp-api",
    Role.PAYER: "spsp-client-proxy",
    Role.SPSP_CLIENT_PROXY: "spsp-client",
    Role.SPSP_CLIENT: "spsp-server",
    Role.SPSP_SERVER: "spsp-server-backend",
    Role.SPSP_SERVER_BACKEND: "dfsp-api",
}
RECEIVER_URL: Final = "http://spsp-server"
"""The URL of the recipient's DFSP in the answers of the kit's directory."""


def checks_for(options: Options) -> list[Check]:
    """Return the checks that a run with these options makes, in their order."""
    return [each for each in CATALOGUE if options.role in each.roles and each.part in options.parts]


@dataclass(frozen=True)
class Neighbours:
    """The services that the kit plays for a role, each at its `url`."""

    next_hop: Neighbour | None = None
    directory: Neighbour | None = None


@asynccontextmanager
async def neighbours(options: Options) -> AsyncIterator[Neighbours]:
    """Play the neighbours of a role. Raises NotRunError if an address to listen on is not free."""

    async def reply(_request: Request) -> Response:
        return quote_reply()

    async with AsyncExitStack() as stack:
        next_hop = directory = None
        if options.role in HOPS:
            name = NEXT_SERVICE[options.role]
            playing = listening(Neighbour(name, reply), options.listen, options.listen_url)
            next_hop = await stack.enter_async_context(playing)
        if options.role is Role.SPSP_CLIENT_PROXY:
            answer = always(response(200, {"spspReceiver": RECEIVER_URL}))
            playing = listening(Neighbour("central-directory", answer), options.directory)
            directory = await stack.enter_async_context(playing)
        yield Neighbours(next_hop, directory)


async def run(options: Options, *, clock: Clock | None = None, played: Neighbours | None = None) -> Report:
    """Check an implementation. Raises NotRunError if it cannot be reached or the kit cannot listen.

    `played` are neighbours that listen already; None starts them.
    """
    async with AsyncExitStack() as stack:
        if played is None:
            played = await stack.enter_async_context(neighbours(options))
        session = await stack.enter_async_context(open_session(options))
        implementation = Implementation(options, session, clock or Clock(), played.next_hop, played.directory)
        return await _run(implementation)


async def _run(implementation: Implementation) -> Report:
    options = implementation.options
    began = implementation.clock.now()
    cause = await implementation.is_reachable()
    if cause:
        raise NotRunError(f"{options.url} cannot be reached: {cause}.")
    checks = checks_for(options)
    known, passed = {each.id for each in checks}, set[str]()
    results = []
    for check in checks:
        missing = [each for each in check.needs if each in known and each not in passed]
        result = _blocked(check, options.role, missing) if missing else await _make(check, implementation)
        if result.outcome is Outcome.PASSED:
            passed.add(check.id)
        results.append(result)
    return Report(options.url, options.role, began, tuple(results))


async def _make(check: Check, implementation: Implementation) -> Result:
    implementation.begin()
    began = time.perf_counter()
    outcome, message = Outcome.PASSED, ""
    try:
        await check.function(implementation)
    except Fault as fault:
        outcome, message = Outcome.FAILED, str(fault)
    except Skip as skip:
        outcome, message = Outcome.SKIPPED, str(skip)
    return Result(
        check.id,
        check.part,
        check.section_for(implementation.options.role),
        check.right,
        outcome,
        cut(message),
        tuple(implementation.record.exchanges),
        implementation.record.more,
        time.perf_counter() - began,
    )


def _blocked(check: Check, role: Role, missing: list[str]) -> Result:
    message = f"Not checked, because {' and '.join(dict.fromkeys(missing))} did not pass."
    section = check.section_for(role)
    return Result(check.id, check.part, section, check.right, Outcome.SKIPPED, message, (), 0, 0.0)
