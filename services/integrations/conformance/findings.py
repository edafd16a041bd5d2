"""Compare a webhook's responses with the guide, and say how the provider would understand them. Pure: no I/O."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from aiohttp import hdrs

from chassis.json_object import object_in
from integrations.webhook.webhook_response import ERROR_HEADER, ERROR_TYPES, HttpResponse, error_type_of


class Severity(StrEnum):
    """How serious a finding is. A FAULT breaks a rule of the guide, and a NOTE is a suggestion."""

    OK = "ok"
    NOTE = "note"
    FAULT = "FAULT"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    section: str
    case: str
    severity: Severity
    text: str


def check_response(
    section: str, case: str, response: HttpResponse, *, expected: Iterable[str] = ()
) -> Finding:
    """Return the finding for one response.

    If `expected` is not empty, the event cannot be executed, and these are the error types that fit.
    """
    severity, text = _check(response, frozenset(expected))
    if response.cause is not None and response.status is not None:
        severity, text = Severity.FAULT, f"{text}; {response.cause}"
    return Finding(section, case, severity, text)


def _check(response: HttpResponse, expected: frozenset[str]) -> tuple[Severity, str]:
    status = response.status
    if status is None:
        text = f"no answer: {response.cause}; the provider would send the event again and notify the user"
        return Severity.FAULT, text
    if status >= 400:  # noqa: PLR2004
        return _check_error(response, expected)
    if status >= 300:  # noqa: PLR2004
        return Severity.FAULT, f"{status}: the provider does not follow redirects, so the delivery fails"
    return _check_success(response, expected)


def _check_success(response: HttpResponse, expected: frozenset[str]) -> tuple[Severity, str]:
    status = response.status
    if ERROR_HEADER in response.headers or _type_in(response.body) in ERROR_TYPES:
        text = f"{status} with an error in it counts as success; an error needs a status of 400 or above"
        return Severity.FAULT, text
    if expected:
        text = f"{status} counts as success; {_either(expected)} would tell the user why nothing was traded"
        return Severity.NOTE, text
    if status != 200 or response.body != b"":  # noqa: PLR2004
        return Severity.NOTE, f"{status} counts as success, but the guide asks for 200 with an empty body"
    return Severity.OK, "200"


def _check_error(response: HttpResponse, expected: frozenset[str]) -> tuple[Severity, str]:
    status, found = response.status, error_type_of(response)
    if found is None:
        missed = requirements_missed(response)
        if missed:
            return Severity.FAULT, f"{status}: the user sees a Generic error, because {' and '.join(missed)}"
        if expected:
            return Severity.NOTE, f"{status}: the user sees a Generic error; {_either(expected)} would fit"
        return Severity.FAULT, f"{status}: the user sees a Generic error; the guide asks for 200"
    if expected and found not in expected:
        return Severity.NOTE, f"{status} {found}: {_either(expected)} would fit better"
    return (Severity.OK if expected else Severity.NOTE), f"{status} {found}: the user sees this error"


def requirements_missed(response: HttpResponse) -> list[str]:
    """Return the guide's requirements for a typed error that the response does not meet.

    The list is empty if the response has neither the error header nor a type, and so is not meant as a typed error.
    """
    in_body = _type_in(response.body)
    if ERROR_HEADER not in response.headers and in_body is None:
        return []
    missed = []
    types = response.headers.getall(hdrs.CONTENT_TYPE, [])
    if len(types) != 1 or types[0].partition(";")[0].strip().lower() != "application/json":
        missed.append(f"the content type is {', '.join(types) or 'missing'}, not application/json")
    if response.headers.getall(ERROR_HEADER, []) != ["1"]:
        missed.append(f"the header {ERROR_HEADER}: 1 is missing")
    if in_body not in ERROR_TYPES:
        missed.append(f"the type in the body is {in_body!r}, which is not one of the nine")
    return missed


def _type_in(body: bytes | None) -> str | None:
    found = (object_in(body) or {}).get("type")
    return found if isinstance(found, str) else None


def _either(types: Iterable[str]) -> str:
    return " or ".join(sorted(types))


def check_repetition(section: str, case: str, first: HttpResponse, again: HttpResponse) -> Finding:
    """Check that the webhook gave the same answer to an event that was sent twice with the same webhook-id."""
    if (first.status, error_type_of(first)) == (again.status, error_type_of(again)):
        return Finding(section, case, Severity.OK, "the same answer as to the first")
    text = (
        f"{_summary(first)} to the first, then {_summary(again)} to the same webhook-id; an event that comes again"
        " must not cause a second trade"
    )
    return Finding(section, case, Severity.FAULT, text)


def _summary(response: HttpResponse) -> str:
    return (
        "no answer"
        if response.status is None
        else f"{response.status} {error_type_of(response) or ''}".strip()
    )


def check_unknown_version(section: str, case: str, response: HttpResponse) -> Finding:
    """Check the response to an event that has only unknown versions, so that the webhook cannot have handled it."""
    if response.status is None or response.status >= 500:  # noqa: PLR2004
        text = f"{_summary(response)}: answer a 4xx status, so that the event is not sent again and again"
        return Finding(section, case, Severity.FAULT, text)
    if response.status < 300:  # noqa: PLR2004
        text = f"{response.status}: events would be lost without a sign when v1 ends; answer a 4xx status"
        return Finding(section, case, Severity.FAULT, text)
    return Finding(section, case, Severity.OK, f"{response.status}: the user sees an error")
