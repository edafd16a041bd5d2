"""The checks of messages that the fake makes: the same faults, with the same words, as the services (wire.md §2)."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from dfsp_quotes.currencies import FRACTION_DIGITS
from dfsp_quotes.errors import InvalidBodyError, InvalidQueryParameterError

Check = Callable[[str], Iterator[str]]
"""Yields a message for each fault of a value."""

MAX_AMOUNT_DIGITS: Final = 18
DEFAULT_LIMIT: Final = "50"
MAX_LIMIT: Final = 200
_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?(Z|[ +-][0-9]{2}:[0-9]{2}))?\Z",
    re.IGNORECASE,
)
_AMOUNT: Final = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]+)?\Z")
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def reservation(body: bytes) -> dict[str, str]:
    """Return the seven fields of a reservation. Raises InvalidBodyError with all faults at once."""
    values = _object(body)
    faults = _faults(values, _PARAMETERS, frozenset())
    digits = FRACTION_DIGITS.get(str(values.get("currencyCode")))
    amount = values.get("amount")
    has_checked_currency = digits is not None and "currencyCode" not in faults and "amount" not in faults
    if digits is not None and has_checked_currency and len(str(amount).partition(".")[2]) > digits:
        faults["amount"] = f"must have at most {digits} fraction digits in {values['currencyCode']}"
    return _without_faults(values, faults)


def payment(body: bytes) -> dict[str, str]:
    """Return the seven to nine fields of an execution. Raises InvalidBodyError with all faults at once."""
    values = _object(body)
    return _without_faults(values, _faults(values, {**_PARAMETERS, **_AMOUNTS}, frozenset(_AMOUNTS)))


def receiver(query: Mapping[str, str]) -> dict[str, str]:
    """Return identifierType and identifier of a look-up. Raises InvalidQueryParameterError."""
    wanted = {name: _PARAMETERS[name] for name in ("identifierType", "identifier")}
    faults = _faults(query, wanted, frozenset())
    if faults:
        raise InvalidQueryParameterError(_message(InvalidQueryParameterError, faults), fields=faults)
    return dict(query)


def listing(query: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return the parameters of a list, with a limit, and with times in a form that Python reads.

    Raises InvalidQueryParameterError.
    """
    names = [name for name, _ in query]
    faults: dict[str, str] = {}
    for name, value in query:
        if name not in _LIST:
            faults[name] = "is not a parameter of this operation"
        elif names.count(name) > 1:
            faults[name] = "occurs twice"
        elif _UNPRINTABLE.search(value):
            faults[name] = "must be UTF-8 without control characters"
    if not faults:
        faults = _faults(dict(query), _LIST, frozenset(_LIST))
    if faults:
        raise InvalidQueryParameterError(_message(InvalidQueryParameterError, faults), fields=faults)
    times = {name: _time(value).isoformat() for name, value in query if name in {"since", "until"}}
    return {"limit": DEFAULT_LIMIT, **dict(query), **times}


def _object(body: bytes) -> dict[str, object]:
    try:
        content = json.loads(body.decode())
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise InvalidBodyError("The body is not valid for this operation: it is not a JSON object in UTF-8.")
    return content


def _faults(
    values: Mapping[str, object], checks: Mapping[str, Check], optional: frozenset[str]
) -> dict[str, str]:
    faults = dict.fromkeys(values.keys() - checks.keys(), "is not a field of this message")
    for name, check in checks.items():
        if name in values:
            found = "; ".join(_value_faults(values[name], check))
            faults.update({name: found} if found else {})
        elif name not in optional:
            faults[name] = "is missing"
    return faults


def _value_faults(value: object, check: Check) -> Iterator[str]:
    if not isinstance(value, str):
        yield "must be a string"
    elif _UNPRINTABLE.search(value):
        yield "must not contain control characters"
    else:
        yield from check(value)


def _without_faults(values: Mapping[str, object], faults: Mapping[str, str]) -> dict[str, str]:
    if faults:
        raise InvalidBodyError(_message(InvalidBodyError, faults), fields=faults)
    return {name: str(value) for name, value in values.items()}


def _message(kind: type[InvalidBodyError | InvalidQueryParameterError], faults: Mapping[str, str]) -> str:
    name, text = next(iter(faults.items()))
    others = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
    return f"{(kind.__doc__ or '').rstrip('.')}: {name} {text}{others}."


def _time(value: str) -> datetime:
    """Raises ValueError."""
    if not _TIME.match(value):
        raise ValueError("not an ISO 8601 time")
    time = datetime.fromisoformat(value.upper().replace(" ", "+"))
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _is_time(value: str) -> Iterator[str]:
    try:
        _time(value)
    except ValueError:
        yield "must be an ISO 8601 time with Z or an offset, such as 2026-11-21T02:18:51.099Z, or a date"


def _limit(value: str) -> Iterator[str]:
    if not re.match(r"[0-9]{1,9}\Z", value) or not 1 <= int(value) <= MAX_LIMIT:
        yield f"must be a whole number from 1 to {MAX_LIMIT}"


def _length(minimum: int, maximum: int) -> Check:
    def check(value: str) -> Iterator[str]:
        if not minimum <= len(value) <= maximum:
            yield f"must be {minimum} to {maximum:,} characters"

    return check


def _pattern(pattern: str, message: str) -> Check:
    matches = re.compile(pattern).match

    def check(value: str) -> Iterator[str]:
        if not matches(value):
            yield message

    return check


def _currency(value: str) -> Iterator[str]:
    if value not in FRACTION_DIGITS:
        yield "must be an ISO 4217 currency that has a minor unit, in upper case"


def _amount(value: str) -> Iterator[str]:
    if not _AMOUNT.match(value):
        yield "must be a plain decimal number such as 12.50"
    elif len(value.replace(".", "")) > MAX_AMOUNT_DIGITS:
        yield f"must have at most {MAX_AMOUNT_DIGITS} digits"
    elif not value.strip("0."):
        yield "must be above zero"


def _account(value: str) -> Iterator[str]:
    yield from _length(1, 2_048)(value)
    try:
        parts = urlsplit(value)
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or any(each.isspace() or each in '<>"\\^`{|}' for each in value):
        yield "must be an absolute http or https URL"
    elif "@" in parts.netloc:
        yield "must not contain a user or password"


_PARAMETERS: Final[Mapping[str, Check]] = {
    "currencyCode": _currency,
    "currencySymbol": _length(1, 8),
    "amount": _amount,
    "account": _account,
    "identifier": _length(1, 128),
    "identifierType": _pattern(r"[a-z0-9_-]{1,32}\Z", "must be 1 to 32 of a-z, 0-9, _ and -"),
    "transferType": _pattern(r"[A-Za-z0-9_-]{1,32}\Z", "must be 1 to 32 of A-Z, a-z, 0-9, _ and -"),
}
_AMOUNTS: Final[Mapping[str, Check]] = {"sourceAmount": _amount, "destinationAmount": _amount}
_LIST: Final[Mapping[str, Check]] = {
    "uuid": _pattern(
        r"(?i:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})\Z", "must be 8-4-4-4-12 hexadecimal digits"
    ),
    "state": _pattern(
        r"(RESERVED|EXECUTED|RELEASED|EXPIRED)\Z", "must be one of RESERVED, EXECUTED, RELEASED, EXPIRED"
    ),
    "since": _is_time,
    "until": _is_time,
    "caller": _length(1, 64),
    "identifier": _length(1, 128),
    "amount": _amount,
    "limit": _limit,
    "after": _pattern(
        r"[0-9]{11}\.[0-9]{3}_[0-9a-f-]{36}\Z", "must be the value of next in an earlier response"
    ),
}
