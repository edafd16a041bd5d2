"""Take the submissionUrl out of a call, and check that calls may be sent there (wire.md §1, §4).

A call carries the caller's credentials, so it may be sent only to origins that are configured.
"""

from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from chassis.errors import Fault, InvalidBodyError, InvalidQueryParameterError, SubmissionUrlNotAllowedError
from chassis.json_object import flat, members, without_last, write
from chassis.logs import url_for_log
from quoting.call import SUBMISSION_URL, Call

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def take_submission_url(call: Call) -> tuple[Call, str]:
    """Return the call without its submissionUrl, and the submissionUrl.

    Raises InvalidBodyError or InvalidQueryParameterError if the call has none.
    """
    if call.body is None:
        given = dict(call.query).get(SUBMISSION_URL)
        if given is None:
            raise InvalidQueryParameterError(faults=[Fault(SUBMISSION_URL, "is missing")])
        return call.with_query(tuple(pair for pair in call.query if pair[0] != SUBMISSION_URL)), given
    given = (flat(call.body) or {}).get(SUBMISSION_URL)
    rest = without_last(call.body, SUBMISSION_URL, given) if given is not None else None
    if given is not None and rest is not None:
        return call.with_body(rest), given
    found = members(call.body)
    url = next((member for member in found if member.key == SUBMISSION_URL), None)
    if url is None or not isinstance(url.value, str):
        message = "is missing" if url is None else "must be a string"
        raise InvalidBodyError(faults=[Fault(SUBMISSION_URL, message, url and url.raw)])
    found.remove(url)
    return call.with_body(write(found)), url.value


@lru_cache(maxsize=1_024)  # reservations have few different URLs
def allowed_base(url: str, path: str, allowed: tuple[str, ...]) -> str:
    """Return the configured base URL that `url` begins with. Raises SubmissionUrlNotAllowedError.

    Scheme, host and port may be written in different ways, such as in upper case. The rest of `url` must be exactly the
    path of the base URL and then `path`, the path of the request.
    """
    origin = _origin(url)
    for base in allowed:
        expected = urlsplit(base).path + path
        if origin == _origin(base) and _after_origin(url) == expected:
            return base
    raise SubmissionUrlNotAllowedError(cause=f"submissionUrl {url_for_log(url)}")


def _origin(url: str) -> tuple[str, str, int]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise SubmissionUrlNotAllowedError(cause="not a URL") from None
    scheme = parts.scheme.lower()
    is_plain = url.isascii() and url.isprintable() and not {" ", "\\", "@", "?", "#"} & set(url)
    if scheme not in _DEFAULT_PORTS or not parts.hostname or not is_plain:
        raise SubmissionUrlNotAllowedError(cause=f"submissionUrl {url_for_log(url)}")
    return scheme, parts.hostname, _DEFAULT_PORTS[scheme] if port is None else port


def _after_origin(url: str) -> str:
    """Return the part of a URL after its host and port, exactly as it is written."""
    rest = url.partition("://")[2]
    return rest[rest.index("/") :] if "/" in rest else ""
