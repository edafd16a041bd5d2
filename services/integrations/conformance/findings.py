"""The conformance kit's judgement: what an answer of a webhook means to the provider, by the guide. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import orjson
from aiohttp import hdrs

from integrations.webhook.webhook_response import ERROR_HEADER, TYPES, Headers, typed

RESPONDING = "Responding to Events"


class Verdict(StrEnum):
    """A fault is against the guide; a note is something to think about."""

    OK = "ok"
    NOTE = "note"
    FAULT = "FAULT"


@dataclass(frozen=True, slots=True)
class CheckedResponse:
    """What a webhook answered; `status` is None where nothing came, and `body` where it was too long."""

    status: int | None
    headers: Headers
    body: bytes | None
    cause: str = ""

    @property
    def type(self) -> str | None:
        return None if self.status is None else typed(self.status, self.headers, self.body)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    section: str
    case: str
    verdict: Verdict
    text: str


def judge(section: str, case: str, reply: CheckedResponse, *, wants: Iterable[str] = ()) -> Finding:
    """What an answer means; `wants` are the guide's types that fit the case, where success does not."""
    verdict, text = _judge(reply, frozenset(wants))
    return Finding(section, case, verdict, text)


def _judge(reply: CheckedResponse, wants: frozenset[str]) -> tuple[Verdict, str]:
    if reply.status is None:
        return Verdict.FAULT, f"no answer: {reply.cause}; it would be sent again, and the user told"
    if reply.status >= 400:  # noqa: PLR2004
        return _error(reply, wants)
    if reply.status >= 300:  # noqa: PLR2004
        return Verdict.FAULT, f"{reply.status}: redirects are not followed, the event counts as failed"
    return _success(reply, wants)


def _success(reply: CheckedResponse, wants: frozenset[str]) -> tuple[Verdict, str]:
    if _means_error(reply):
        return (
            Verdict.FAULT,
            f"{reply.status} with an error in it counts as handled: an error is 400 or above",
        )
    if wants:
        return (
            Verdict.NOTE,
            f"{reply.status}: counts as handled, where {_listed(wants)} would tell the user why not",
        )
    if reply.status != 200 or reply.body != b"":  # noqa: PLR2004
        return Verdict.NOTE, f"{reply.status}, counts as handled; the guide says 200 and an empty body"
    return Verdict.OK, "200, handled"


def _error(reply: CheckedResponse, wants: frozenset[str]) -> tuple[Verdict, str]:
    found = reply.type
    if found is None:
        problems = why_generic(reply)
        if problems:
            return Verdict.FAULT, f"{reply.status}: the user sees a Generic error, as {'; '.join(problems)}"
        fitting = f"; {_listed(wants)} would fit" if wants else ""
        return Verdict.NOTE if wants else Verdict.FAULT, f"{reply.status}: a Generic error{fitting}"
    if wants and found not in wants:
        return Verdict.NOTE, f"{reply.status} {found}, where {_listed(wants)} would fit"
    return Verdict.OK if wants else Verdict.NOTE, f"{reply.status} {found}: the user is told so"


def _means_error(reply: CheckedResponse) -> bool:
    return ERROR_HEADER in reply.headers or _type_in(reply.body) in TYPES


def why_generic(reply: CheckedResponse) -> list[str]:
    """Which of the guide's requirements an answer misses that was meant to be typed; none if it was not."""
    in_body = _type_in(reply.body)
    if ERROR_HEADER not in reply.headers and in_body is None:
        return []
    problems = []
    types = reply.headers.getall(hdrs.CONTENT_TYPE, [])
    if len(types) != 1 or types[0].partition(";")[0].strip().lower() != "application/json":
        problems.append(f"its content type is {', '.join(types) or 'missing'}, not application/json")
    if reply.headers.getall(ERROR_HEADER, []) != ["1"]:
        problems.append(f"it has no header {ERROR_HEADER}: 1")
    if in_body not in TYPES:
        problems.append(f"its body's type is {in_body!r}, none of the nine")
    return problems


def _type_in(body: bytes | None) -> str | None:
    try:
        content = orjson.loads(body or b"")
    except orjson.JSONDecodeError:
        return None
    found = content.get("type") if isinstance(content, dict) else None
    return found if isinstance(found, str) else None


def _listed(types: Iterable[str]) -> str:
    return " or ".join(sorted(types))


def judge_repeat(section: str, case: str, first: CheckedResponse, again: CheckedResponse) -> Finding:
    """The same event with the same webhook-id has to be answered in the same way: it was handled once."""
    if (first.status, first.type) == (again.status, again.type):
        return Finding(section, case, Verdict.OK, "answered as the first time")
    text = f"{_told(first)} at first, then {_told(again)}: a repetition must not be a second trade"
    return Finding(section, case, Verdict.FAULT, text)


def _told(reply: CheckedResponse) -> str:
    return "no answer" if reply.status is None else f"{reply.status} {reply.type or ''}".strip()


def judge_unknown_version(section: str, case: str, reply: CheckedResponse) -> Finding:
    """An event in no version that the webhook knows: it cannot have been handled."""
    if reply.status is None or reply.status >= 500:  # noqa: PLR2004
        return Finding(section, case, Verdict.FAULT, f"{_told(reply)}: a plain 4xx would say what is wrong")
    if reply.status < 300:  # noqa: PLR2004
        text = f"{reply.status}: events would be lost without a word when v1 ends"
        return Finding(section, case, Verdict.FAULT, text)
    return Finding(section, case, Verdict.OK, f"{reply.status}: the user is told")
