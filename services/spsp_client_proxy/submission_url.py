"""Find the payee's identifier in a call, and build the call's submissionUrl (Quote API §I.2)."""

from chassis.errors import Fault, InvalidBodyError
from chassis.json_object import appended, flat, members
from chassis.schemas import check, check_query
from quoting.call import IDENTIFIER, IDENTIFIER_TYPE, SUBMISSION_URL, Call
from quoting.schemas import RECEIVER
from quoting.validation import is_receiver


def receiver(call: Call) -> tuple[str, str]:
    """Return the payee's identifierType and identifier from a call.

    Raises InvalidBodyError or InvalidQueryParameterError if they are missing or malformed.
    """
    if call.body is None:
        found = check_query(RECEIVER, call.query)
    else:
        found = flat(call.body) or {}
        if SUBMISSION_URL in found or not is_receiver(found):
            found = _receiver_by_member(call.body)
    return found[IDENTIFIER_TYPE], found[IDENTIFIER]


def _receiver_by_member(body: bytes) -> dict[str, str]:
    every = members(body)
    if any(each.key == SUBMISSION_URL for each in every):
        raise InvalidBodyError(faults=[Fault(SUBMISSION_URL, "is not a field of this message")])
    return check(RECEIVER, [each for each in every if each.key in {IDENTIFIER, IDENTIFIER_TYPE}])


def with_submission_url(call: Call, receiver_url: str) -> Call:
    """Return the call with its submissionUrl added. All other parts stay exactly as the caller wrote them."""
    url = receiver_url + call.path
    if call.body is None:
        return call.with_query((*call.query, (SUBMISSION_URL, url)))
    return call.with_body(appended(call.body, SUBMISSION_URL, url))
