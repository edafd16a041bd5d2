"""The stronger promises of one hop (wire.md §1, §3, §4)."""

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Final
from uuid import uuid4

from aiohttp import hdrs

from dfsp_quotes.conformance.check import Checks
from dfsp_quotes.conformance.checks.expectations import AT_ONCE, ensure_error_objects, expect, minor_unit
from dfsp_quotes.conformance.checks.hop import CLIENT, PASSES, PROXY, error, forwarded, only_request
from dfsp_quotes.conformance.implementation import SOURCE, Implementation
from dfsp_quotes.conformance.neighbour import QUOTE_UUID, Neighbour, always, listening, quote_reply, response
from dfsp_quotes.conformance.options import HOPS, Address, Part, Role
from dfsp_quotes.conformance.result import Fault, cut
from dfsp_quotes.conformance.wire import KEY, LIFETIME_MS, TIMEOUT_MS, TRACE, Request, Response, encode

CHECKS: Final = Checks(Part.PROMISES, HOPS)

SHORT_MS: Final = 100
"""The time of a request that the next hop does not answer."""
GATHER_SECONDS: Final = 2.0
"""How long the next hop holds a request while it waits for the others."""
STEP_SECONDS: Final = 0.002
"""The time between two answers of the next hop to requests that are in flight together."""


@CHECKS.add("hop.reply-bytes", "wire.md §4 Passing on", needs=PASSES)
async def hop_reply_bytes(implementation: Implementation) -> None:
    """Replies of 200 and of 4xx with a JSON object pass byte for byte, with their status and Retry-After."""
    for status, headers in ((200, {}), (422, {}), (429, {"Retry_After": "7"})):
        body = b'{"id" : "NoFeeScheduleError",\n "amount": "1.10", "message":"\\u00fc", "service":"kit"}'
        implementation.next_hop.answer = always(response(status, body, **headers))
        reply = await implementation.post(implementation.request())
        if (reply.status, reply.body) != (status, body):
            raise Fault(
                f"The next hop answered {status}; status or body of the reply differ ({reply.outcome})."
            )
        if headers and reply.headers.get(hdrs.RETRY_AFTER) != headers["Retry_After"]:
            raise Fault("Retry-After of the next hop is not on the reply.")


@CHECKS.add("credentials.required", "wire.md §3 Authorization")
async def credentials_required(implementation: Implementation) -> None:
    """A request without credentials, or with wrong ones, gets 401 UnauthorizedError, and nothing is sent on."""
    for wrong in (None, "Basic bm9ib2R5Om5vdGhpbmc=", "Bearer abc"):
        reply = await implementation.post(implementation.request(), headers={hdrs.AUTHORIZATION: wrong})
        expect(reply, 401, "UnauthorizedError")
        if hdrs.WWW_AUTHENTICATE not in reply.headers:
            raise Fault("The reply lacks WWW-Authenticate.")
        if implementation.next_hop.received:
            raise Fault("The request was sent on without valid credentials.")


@CHECKS.add("trace.passed-on", "wire.md §3 L1p-Trace-Id", needs=PASSES)
async def trace_passed_on(implementation: Implementation) -> None:
    """The trace id of a request is passed on and is on the reply; a request without one gets one."""
    await _ensure_passed_on(implementation, TRACE)


async def _ensure_passed_on(implementation: Implementation, name: str) -> None:
    """Raise Fault unless a header of a request is at the next hop and on the reply, and is made where it is missing."""
    for given in (str(uuid4()), None):
        implementation.next_hop.received.clear()
        reply = await implementation.post(implementation.request(), headers={name: given})
        returned, passed = reply.headers.get(name), only_request(implementation).headers.get(name)
        if not returned or returned != passed or given not in {None, returned}:
            raise Fault(
                f"The request had {given or 'none'}, the next hop received {cut(passed or 'none', 80)}, and the reply has"
                f" {cut(returned or 'none', 80)}."
            )


@CHECKS.add("idempotency.key-passed-on", "wire.md §3 Idempotency-Key", needs=PASSES)
async def idempotency_key_passed_on(implementation: Implementation) -> None:
    """The idempotency key of a request is passed on and is on the reply; a request without one gets one."""
    await _ensure_passed_on(implementation, KEY)


@CHECKS.add("deadline.passed-on", "wire.md §3 X-Request-Timeout-Ms", needs=PASSES)
async def deadline_passed_on(implementation: Implementation) -> None:
    """The next hop gets the time that is left: more than 0 and no more than the request had; without one at most 10 s."""
    for given, most in (("9000", 9_000), (None, 10_000)):
        implementation.next_hop.received.clear()
        await implementation.post(implementation.request(), headers={TIMEOUT_MS: given})
        passed = only_request(implementation).headers.get(TIMEOUT_MS, "")
        if not (passed.isascii() and passed.isdigit() and len(passed) <= 5 and 0 < int(passed) <= most):  # noqa: PLR2004
            raise Fault(
                f"{TIMEOUT_MS} at the next hop is {cut(passed, 40) or 'missing'}, not from 1 to {most}."
            )


@CHECKS.add("deadline.kept", "wire.md §3 X-Request-Timeout-Ms", needs=PASSES)
async def deadline_kept(implementation: Implementation) -> None:
    """If the next hop does not answer in the time of the request, the reply is 504 UpstreamTimeoutError."""

    async def never(_request: Request) -> Response:
        await asyncio.sleep(implementation.options.timeout + 1)
        return quote_reply()

    implementation.next_hop.answer = never
    reply = await implementation.post(implementation.request(), headers={TIMEOUT_MS: str(SHORT_MS)})
    expect(reply, 504, "UpstreamTimeoutError")


@CHECKS.add("errors.next-hop", "wire.md §4", needs=PASSES)
async def errors_next_hop(implementation: Implementation) -> None:
    """If the next hop answers with something that is no answer, or with a redirect, the reply is 502 UpstreamError."""
    answers = (
        response(200, b"<html>It works!</html>", Content_Type="text/html"),
        response(500, b"Traceback"),
        response(307, b"{}", Location=f"{implementation.next_hop.url}/elsewhere"),
    )
    for answer in answers:
        implementation.next_hop.received.clear()
        implementation.next_hop.answer = always(answer)
        expect(await implementation.post(implementation.request()), 502, "UpstreamError")
        if any(each.path == "/elsewhere" for each in implementation.next_hop.received):
            raise Fault("The redirect was followed, with the caller's credentials.")


@CHECKS.add("errors.object", "wire.md §4")
async def errors_object(implementation: Implementation) -> None:
    """A wrong path gets 404 and a wrong method 405, each with the error object: id, message, service and traceId."""
    await ensure_error_objects(implementation)


@CHECKS.add("lifetime.passed-on", "wire.md §3 X-Quote-Lifetime-Ms", needs=PASSES)
async def lifetime_passed_on(implementation: Implementation) -> None:
    """The lifetime header of a reservation is passed on; a reservation without it has none at the next hop."""
    for given in ("45000", None):
        implementation.next_hop.received.clear()
        await implementation.post(implementation.request(), headers={LIFETIME_MS: given})
        passed = only_request(implementation).headers.get(LIFETIME_MS)
        if passed != given:
            raise Fault(
                f"The request had {given or 'none'}, the next hop received {cut(passed or 'none', 80)}."
            )


@CHECKS.add("flow.execute", "wire.md §1", needs=PASSES)
async def flow_execute(implementation: Implementation) -> None:
    """A transfer passes along the same way as the reservation."""
    content: dict[str, object] = {"uuid": QUOTE_UUID, "state": "EXECUTED"}
    implementation.next_hop.answer = always(response(200, content))
    sent = implementation.request()
    reply = await implementation.execute(QUOTE_UUID, sent)
    request, path = (
        only_request(implementation),
        implementation.options.execute_path.replace("{uuid}", QUOTE_UUID),
    )
    if (request.method, request.path) != (implementation.options.execute_method, path):
        raise Fault(f"The next hop received {cut(request.method, 20)} {cut(request.target, 200)}.")
    if any(request.object.get(name) != value for name, value in sent.items()):
        raise Fault("The fields at the next hop are not those that were sent.")
    if (reply.status, reply.object) != (200, content):
        raise Fault(f"The next hop answered 200, and the reply was {reply.outcome} or has another body.")


@CHECKS.add("flow.look-up", "wire.md §1", needs=PASSES)
async def flow_look_up(implementation: Implementation) -> None:
    """A look-up passes along the same way as the reservation, with identifierType and identifier in its query."""
    await _ensure_passes(implementation, "GET", implementation.look_up)


@CHECKS.add("flow.release", "wire.md §9 Release", needs=PASSES)
async def flow_release(implementation: Implementation) -> None:
    """A release takes the same route as the reservation, with identifierType and identifier in its query."""
    await _ensure_passes(implementation, "DELETE", implementation.release)


async def _ensure_passes(
    implementation: Implementation, method: str, send: Callable[[str, dict[str, str]], Awaitable[Response]]
) -> None:
    """Raise Fault unless the next hop receives the request, and its response comes back."""
    content: dict[str, object] = {"uuid": QUOTE_UUID, "state": "RESERVED"}
    implementation.next_hop.answer = always(response(200, content))
    reply = await send(QUOTE_UUID, implementation.request())
    request = only_request(implementation)
    if (request.method, request.path) != (method, f"/v1/quote/{QUOTE_UUID}"):
        raise Fault(f"The next hop received {cut(request.method, 20)} {cut(request.target, 200)}.")
    if not {"identifierType", "identifier"} <= {each.partition("=")[0] for each in _parameters(request)}:
        raise Fault(f"The query at the next hop is {cut(request.target.partition('?')[2], 200) or 'empty'}.")
    if (reply.status, reply.object) != (200, content):
        raise Fault(f"The next hop answered 200, and the reply was {reply.outcome} or has another body.")


def _parameters(request: Request) -> list[str]:
    return request.target.partition("?")[2].split("&")


@CHECKS.add("concurrency.own-reply", "wire.md §7", needs=[*PASSES, "hop.body"])
async def concurrency_own_reply(implementation: Implementation) -> None:
    """Requests that are in flight at the same time get each their own reply, in whatever order the next hop answers."""
    arrived, all_arrived = itertools.count(1), asyncio.Event()

    async def answer(request: Request) -> Response:
        number = next(arrived)
        if number == AT_ONCE:
            all_arrived.set()
        # an implementation that sends fewer requests at once is not kept waiting for long
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(all_arrived.wait(), GATHER_SECONDS)
        await asyncio.sleep((AT_ONCE - number) * STEP_SECONDS)  # the last request is answered first
        return quote_reply(amount=str(request.object.get("amount")))

    implementation.next_hop.answer = answer
    amount = Decimal(implementation.options.request["amount"])
    sent = [
        implementation.request(amount=format(amount + minor_unit(amount) * number, "f"))
        for number in range(AT_ONCE)
    ]
    replies = await asyncio.gather(*(implementation.post(each) for each in sent))
    for request, reply in zip(sent, replies, strict=True):
        if reply.status != 200 or reply.object.get("amount") != request["amount"]:  # noqa: PLR2004
            found = cut(repr(reply.object.get("amount")), 80)
            raise Fault(f"The request of {request['amount']} got the reply for {found} ({reply.outcome}).")


@CHECKS.add("directory.list-form", "wire.md §5", roles=PROXY, needs=["submission-url.from-directory"])
async def directory_list_form(implementation: Implementation) -> None:
    """A list of DFSPs is understood, too: the primary one that is registered is the recipient's."""
    first: dict[str, object] = {"name": "first", "shortName": "first", "providerUrl": "http://first.example"}
    dfsps: list[object] = [
        {**first, "primary": False, "registered": True},
        {**first, "providerUrl": "http://second.example", "primary": True, "registered": True},
    ]
    implementation.directory.answer = always(response(200, dfsps))
    found = (await forwarded(implementation)).object.get("submissionUrl")
    if found != "http://second.example" + SOURCE:
        raise Fault(f'"submissionUrl" is {cut(repr(found), 200)}, not http://second.example{SOURCE}.')


@CHECKS.add("directory.errors", "wire.md §5", roles=PROXY, needs=["directory.unknown"])
async def directory_errors(implementation: Implementation) -> None:
    """404 of the directory is 404 ReceiverNotFoundError; an answer that is none is 502 UpstreamError."""
    for answer, status, id_ in (
        (error(404, "NotFoundError"), 404, "ReceiverNotFoundError"),
        (error(500, "InternalError"), 502, "UpstreamError"),
        (response(200, b"[]]"), 502, "UpstreamError"),
    ):
        implementation.directory.answer = always(answer)
        expect(await implementation.post(implementation.request()), status, id_)
        if implementation.next_hop.received:
            raise Fault("The request was sent on.")


@CHECKS.add("submission-url.required", "wire.md §1", roles=CLIENT)
async def submission_url_required(implementation: Implementation) -> None:
    """A request without submissionUrl gets 400 InvalidBodyError that names the field, and nothing is sent on."""
    reply = await implementation.send("POST", SOURCE, encode(implementation.request()))
    expect(reply, 400, "InvalidBodyError")
    if reply.faulty_fields != {"submissionUrl"}:
        raise Fault(
            f"validationErrors names {cut(', '.join(sorted(reply.faulty_fields)), 200) or 'no field'}."
        )
    if implementation.next_hop.received:
        raise Fault("The request was sent on.")


@CHECKS.add("submission-url.foreign", "wire.md §4 SubmissionUrlNotAllowedError", roles=CLIENT)
async def submission_url_foreign(implementation: Implementation) -> None:
    """A submissionUrl at an origin that is not configured gets 403, and the caller's credentials never go there."""
    foreign = Neighbour("foreign origin", always(quote_reply()))
    host = implementation.options.listen.host
    async with listening(foreign, Address(host, 0)):
        body = {**implementation.request(), "submissionUrl": foreign.url + SOURCE}
        reply = await implementation.send("POST", SOURCE, body)
        if foreign.received:
            raise Fault(
                f"The request was sent to {foreign.url}, which is not configured; the reply was {reply.outcome}."
            )
        expect(reply, 403, "SubmissionUrlNotAllowedError")


@CHECKS.add("message.refused", "wire.md §2", roles=[Role.PAYER])
async def message_refused(implementation: Implementation) -> None:
    """The payer's dfsp-api refuses a body with faults with 400 that names all of them, and sends nothing on."""
    body = {**implementation.request(), "amount": "-1", "currencyCode": "usd"}
    reply = await implementation.post(body)
    expect(reply, 400, "InvalidBodyError")
    if reply.faulty_fields != {"amount", "currencyCode"}:
        raise Fault(
            f"validationErrors names {cut(', '.join(sorted(reply.faulty_fields)), 200) or 'no field'}."
        )
    if implementation.next_hop.received:
        raise Fault("The request was sent on.")
