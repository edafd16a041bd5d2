"""The source's checks of one hop: the message that it sends on, and the reply that it passes back (Quote API §I).

The kit sends requests as the neighbour before it, and receives them as the neighbour after it.
"""

from typing import Final
from urllib.parse import parse_qs

from aiohttp import hdrs

from dfsp_quotes.conformance.check import Checks
from dfsp_quotes.conformance.checks.expectations import shown
from dfsp_quotes.conformance.implementation import DESTINATION, SOURCE, Implementation
from dfsp_quotes.conformance.neighbour import QUOTE_UUID, always, response
from dfsp_quotes.conformance.options import HOPS, SAMPLE, Part, Role
from dfsp_quotes.conformance.result import Fault, cut
from dfsp_quotes.conformance.wire import Request, Response, basic

CHECKS: Final = Checks(Part.SOURCE, HOPS)

PASSES: Final = ("hop.request", "hop.reply")
PROXY: Final = (Role.SPSP_CLIENT_PROXY,)
CLIENT: Final = (Role.SPSP_CLIENT,)
READS_URL: Final = frozenset({Role.SPSP_CLIENT_PROXY, Role.SPSP_CLIENT})
"""Roles whose messages differ by the submissionUrl."""


async def forwarded(implementation: Implementation, path: str = SOURCE, **changes: str) -> Request:
    """Send a reservation and return the one request that came of it at the next hop."""
    await implementation.post(implementation.request(**changes), path)
    return only_request(implementation)


def only_request(implementation: Implementation) -> Request:
    received = implementation.next_hop.received
    if len(received) != 1:
        raise Fault(
            f"The next hop, {implementation.next_hop.name}, received {len(received)} requests, not one."
        )
    return received[0]


def error(status: int, id_: str) -> Response:
    """Return a response with an error object, as another service would send it."""
    content: dict[str, object] = {
        "id": id_,
        "message": "The kit says so.",
        "service": "kit",
        "traceId": "kit",
    }
    return response(status, content)


@CHECKS.add("hop.request", "§I.{sends} URL, Method")
async def hop_request(implementation: Implementation) -> None:
    """A POST of /v1/quoteSourceAmount becomes one POST of the same path at the next hop."""
    request = await forwarded(implementation)
    if (request.method, request.path) != ("POST", SOURCE):
        raise Fault(f"The next hop received {cut(request.method, 20)} {cut(request.target, 200)}.")


@CHECKS.add("hop.content-type", "§I.{sends} Headers", needs=["hop.request"])
async def hop_content_type(implementation: Implementation) -> None:
    """The request to the next hop has Content-Type: application/json."""
    request = await forwarded(implementation)
    if request.content_type != "application/json":
        raise Fault(f'The content type at the next hop is "{cut(request.content_type, 80)}".')


@CHECKS.add("hop.accept", "§I.{sends} Headers", needs=["hop.request"])
async def hop_accept(implementation: Implementation) -> None:
    """The request to the next hop accepts application/json."""
    accepted = (await forwarded(implementation)).headers.get(hdrs.ACCEPT)
    if accepted is None or not ("application/json" in accepted or "*/*" in accepted):
        raise Fault(
            "Accept is missing at the next hop." if accepted is None else f"Accept is {cut(accepted, 80)}."
        )


@CHECKS.add("hop.authorization", "§I.{sends} Headers", needs=["hop.request"])
async def hop_authorization(implementation: Implementation) -> None:
    """The credentials of the request are passed on to the next hop unchanged."""
    request = await forwarded(implementation)
    if request.headers.get(hdrs.AUTHORIZATION) != basic(implementation.options.credentials):
        found = "other credentials" if hdrs.AUTHORIZATION in request.headers else "no Authorization"
        raise Fault(f"The next hop received {found}.")


@CHECKS.add("hop.body", "§I.{sends} Data Params", needs=["hop.request"])
async def hop_body(implementation: Implementation) -> None:
    """The body has the fields of the request with the same values, and no other field."""
    sent = implementation.request()
    await implementation.post(sent)
    found = only_request(implementation).json
    if not isinstance(found, dict):
        raise Fault("The body at the next hop is not a JSON object.")
    expected: dict[str, object] = dict(sent)
    if implementation.options.role in READS_URL:
        found = {name: value for name, value in found.items() if name != "submissionUrl"}
    wrong = [name for name in SAMPLE if found.get(name) != expected[name]]
    more = sorted(set(found) - set(SAMPLE))
    if wrong:
        name = wrong[0]
        raise Fault(f'"{name}" was "{sent[name]}" and is {cut(repr(found.get(name)), 100)} at the next hop.')
    if more:
        raise Fault(f"The next hop received more fields: {cut(', '.join(more), 200)}.")


@CHECKS.add("hop.reply", "§I.{receives} Success Response")
async def hop_reply(implementation: Implementation) -> None:
    """The reply of the next hop comes back: 200 with the same "amount", "expires" and "uuid"."""
    answer = implementation.next_hop.default
    given: list[Response] = []

    async def remember(request: Request) -> Response:
        given.append(await answer(request))
        return given[-1]

    implementation.next_hop.answer = remember
    reply = await implementation.post(implementation.request())
    if not given:
        raise Fault("The next hop received no request.")
    if reply.status != 200:  # noqa: PLR2004
        raise Fault(f"The next hop answered 200, and the reply was {reply.outcome}.")
    if reply.object != given[0].object:
        raise Fault(f"The next hop answered {given[0].body.decode()}, and the reply was {shown(reply)}.")


@CHECKS.add("hop.error", "§III Error cases", needs=PASSES)
async def hop_error(implementation: Implementation) -> None:
    """An error of the receiver DFSP reaches the sender as an error."""
    implementation.next_hop.answer = always(error(422, "AmountOutOfRangeError"))
    reply = await implementation.post(implementation.request())
    if reply.status < 400:  # noqa: PLR2004
        raise Fault(f"The next hop answered 422, and the reply was {reply.outcome}.")


@CHECKS.add("hop.destination", "§IV Notes, first", needs=PASSES)
async def hop_destination(implementation: Implementation) -> None:
    """/v1/quoteDestinationAmount has the same flow: one POST of this path at the next hop, and its reply comes back."""
    reply = await implementation.post(implementation.request(), DESTINATION)
    request = only_request(implementation)
    if (request.method, request.path) != ("POST", DESTINATION):
        raise Fault(f"The next hop received {cut(request.method, 20)} {cut(request.target, 200)}.")
    if reply.status != 200 or reply.object.get("uuid") != QUOTE_UUID:  # noqa: PLR2004
        raise Fault(f"The next hop answered 200, and the reply was {shown(reply)}.")


# spsp-client-proxy: the directory, and the submissionUrl

DIRECTORY: Final = "§I.2 Notes"


def directory_request(implementation: Implementation) -> Request:
    received = implementation.directory.received
    if not received:
        raise Fault("The directory received no request.")
    return received[0]


@CHECKS.add("directory.identifier", f"{DIRECTORY}, first", roles=PROXY)
async def directory_identifier(implementation: Implementation) -> None:
    """The proxy asks the central directory with the identifier and the identifierType of the request."""
    sent = implementation.request()
    await implementation.post(sent)
    request = directory_request(implementation)
    values = parse_qs(request.target.partition("?")[2])
    found = [value for each in values.values() for value in each]
    joined = f"{sent['identifierType']}:{sent['identifier']}"
    if joined not in found and not {sent["identifier"], sent["identifierType"]} <= set(found):
        raise Fault(f"The directory received {cut(request.target, 300)}.")


@CHECKS.add("directory.authorization", f"{DIRECTORY}, second", needs=["directory.identifier"], roles=PROXY)
async def directory_authorization(implementation: Implementation) -> None:
    """The proxy uses the credentials of the request for its request to the directory."""
    await implementation.post(implementation.request())
    given = directory_request(implementation).headers.get(hdrs.AUTHORIZATION)
    if given != basic(implementation.options.credentials):
        raise Fault(f"The directory received {'no' if given is None else 'other'} credentials.")


@CHECKS.add("submission-url.added", "§I.2 Data Params", needs=["hop.request"], roles=PROXY)
async def submission_url_added(implementation: Implementation) -> None:
    """The request to spsp-client has the field "submissionUrl", a string that ends with the path of the request."""
    for path in (SOURCE, DESTINATION):
        implementation.next_hop.received.clear()
        found = (await forwarded(implementation, path)).object.get("submissionUrl")
        if not isinstance(found, str) or not found.endswith(path):
            raise Fault(f'"submissionUrl" is {cut(repr(found), 200)} for a POST of {path}.')


@CHECKS.add(
    "submission-url.from-directory",
    f"{DIRECTORY}, third",
    needs=["submission-url.added", "directory.identifier"],
    roles=PROXY,
)
async def submission_url_from_directory(implementation: Implementation) -> None:
    """The submissionUrl is the URL that the directory names for this recipient, followed by the path of the request."""
    for receiver in ("http://spsp-server", "http://other-dfsp.example:8080/quotes"):
        implementation.directory.answer = always(response(200, {"spspReceiver": receiver}))
        implementation.next_hop.received.clear()
        found = (await forwarded(implementation)).object.get("submissionUrl")
        if found != receiver + SOURCE:
            raise Fault(f'The directory named {receiver}, and "submissionUrl" is {cut(repr(found), 200)}.')


@CHECKS.add("directory.unknown", f"{DIRECTORY}, first", needs=["directory.identifier"], roles=PROXY)
async def directory_unknown(implementation: Implementation) -> None:
    """A recipient whom the directory does not know is an error, and nothing is sent on."""
    implementation.directory.answer = always(error(404, "NotFoundError"))
    reply = await implementation.post(implementation.request())
    if reply.status < 400:  # noqa: PLR2004
        raise Fault(f"The directory answered 404, and the reply was {reply.outcome}.")
    if implementation.next_hop.received:
        raise Fault("The request was sent on although the directory answered 404.")


# spsp-client: the submissionUrl

SUBMIT: Final = "§I.3 Notes"


@CHECKS.add("submission-url.followed", SUBMIT, needs=["hop.request"], roles=CLIENT)
async def submission_url_followed(implementation: Implementation) -> None:
    """The request goes to the submissionUrl that it has, also if it names another DFSP."""
    base = implementation.next_hop.url
    for prefix in ("", SECOND_PREFIX):
        implementation.next_hop.received.clear()
        body = {**implementation.request(), "submissionUrl": f"{base}{prefix}{SOURCE}"}
        reply = await implementation.send("POST", SOURCE, body)
        if not implementation.next_hop.received:
            raise Fault(f"Nothing arrived at {base}{prefix}{SOURCE}; the reply was {reply.outcome}.")
        target = only_request(implementation).target
        if target != prefix + SOURCE:
            raise Fault(f"The submissionUrl was {base}{prefix}{SOURCE}; {cut(target, 200)} was called.")


SECOND_PREFIX: Final = "/second-dfsp"
"""A path at the kit that stands for another DFSP; an implementation with a list of allowed URLs must have it there."""


@CHECKS.add("submission-url.removed", "§I.3 Data Params", needs=["hop.request"], roles=CLIENT)
async def submission_url_removed(implementation: Implementation) -> None:
    """The message to spsp-server has no submissionUrl."""
    if "submissionUrl" in (await forwarded(implementation)).object:
        raise Fault("The body at spsp-server has a submissionUrl.")
