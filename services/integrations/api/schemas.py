"""marshmallow schemas for the bodies of the API's requests (guide, Creating an Integration)."""

import re
import typing
import unicodedata
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import msgspec
from marshmallow import Schema, ValidationError, fields, validate

from chassis.json_object import Literal
from chassis.schemas import UNPRINTABLE, Text, parse
from integrations.api import json_schema
from integrations.webhook.headers import header_fault

MAX_HEADERS: Final = json_schema.MAX_HEADERS
MAX_HEADER_CHARACTERS: Final = 16 * 1024
MAX_QUANTITY_DIGITS: Final = 18
MAX_EMAIL_CHARACTERS: Final = 254
REPLAYED_STATES: Final = ("FAILED", "EXPIRED", "REFUSED")

_MESSAGES: Final = {"unknown": "is not a field of this message", "type": "must be an object"}
_EMAIL: Final = re.compile(r"[^@\s]{1,64}@[^@\s]{1,189}\Z")
_QUANTITY: Final = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]+)?\Z")
_TIME: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}):([0-9]{2}(?:\.[0-9]+)?)([Zz]|[+-][0-9]{2}:[0-9]{2})\Z"
)
_FIRST_TIME: Final = datetime(1, 1, 1, tzinfo=UTC)
_LAST_TIME: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
STRATEGY_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z")

# letters and symbols by category that have no glyph: Hangul fillers, Khmer inherent vowels, the blank braille pattern
_BLANK: Final = frozenset("\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
# joiners and variation selectors are invisible, but emoji and several scripts need them between other characters
_JOINERS: Final = "\u034f\u180b-\u180d\u180f\u200c\u200d\ufe00-\ufe0f\U000e0100-\U000e01ef"
_JOINER: Final = re.compile(f"[{_JOINERS}]")
_JOINER_AFTER_ASCII: Final = re.compile(f"(?<![^\\x00-\\x7f])(?<![0-9#*])([{_JOINERS}])")


def _length(min_: int, max_: int) -> validate.Length:
    return validate.Length(min_, max_, error=f"must be {min_:,} to {max_:,} characters")


_EMAIL_LENGTH: Final = _length(3, MAX_EMAIL_CHARACTERS)


def _is_visible(value: str) -> None:
    """Raise ValidationError if the text is blank or has invisible characters.

    Invisible characters could change how the text around them is shown.
    """
    shown = _JOINER.sub("", value)
    if value and not shown.strip():
        raise ValidationError("must not be blank")
    joiner = _JOINER_AFTER_ASCII.search(value)
    hidden = next(
        (each for each in shown if each in _BLANK or unicodedata.category(each) in {"Cf", "Zl", "Zp"}),
        joiner and joiner[1],
    )
    if hidden is not None:
        raise ValidationError(f"must not contain invisible characters such as U+{ord(hidden):04X}")


def _is_email(value: str) -> None:
    if not _EMAIL.match(value):
        raise ValidationError("must be an e-mail address")
    _is_visible(value)


def _is_image_url(value: str) -> None:
    try:
        parts = urlsplit(value)
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        is_url = False
    if not is_url or any(character.isspace() or character in '<>"\\^`{|}' for character in value):
        raise ValidationError("must be an absolute http or https URL")


class HeadersField(fields.Field[dict[str, str]]):
    """A JSON object of header names and values. The error messages name the header that is at fault."""

    default_error_messages = {"null": "must be an object"}  # noqa: RUF012 - marshmallow's own form

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, str]:  # noqa: ANN401
        del attr, data, kwargs
        if not isinstance(value, dict):
            raise ValidationError("must be an object")
        faults = {name: [fault] for name, content in value.items() if (fault := header_fault(name, content))}
        seen: set[str] = set()
        for name in value:
            if name.lower() in seen:
                faults.setdefault(name, ["is present twice"])
            seen.add(name.lower())
        if faults:
            raise ValidationError(faults)
        if len(value) > MAX_HEADERS or sum(map(len, [*value, *value.values()])) > MAX_HEADER_CHARACTERS:
            raise ValidationError(f"must be at most {MAX_HEADERS} headers with 16 KiB in all")
        return value


class NewWebhook(Schema):
    """Where events are sent."""

    error_messages = _MESSAGES
    url = Text(required=True, metadata=json_schema.WEBHOOK_URL)
    headers = HeadersField(load_default=dict, metadata=json_schema.HEADERS)


class NewIntegration(Schema):
    """The body of POST /api/integrations/v1/integrations, with which a partner requests an integration."""

    error_messages = _MESSAGES
    name = Text(required=True, validate=[_length(1, 200), _is_visible], metadata=json_schema.NAME)
    description = Text(
        required=True, validate=[_length(1, 500), _is_visible], metadata=json_schema.DESCRIPTION
    )
    imageUrl = Text(  # noqa: N815 - the guide's names
        required=True, validate=[_length(1, 2_048), _is_image_url], metadata=json_schema.IMAGE_URL
    )
    userEmail = Text(required=True, validate=[_EMAIL_LENGTH, _is_email], metadata=json_schema.EMAIL)  # noqa: N815
    webhook = fields.Nested(
        NewWebhook,
        required=True,
        error_messages={"required": "is missing", "null": "must be an object"},
    )


class NewStrategy(Schema):
    """The body of PUT /v1/strategies/{id}."""

    error_messages = _MESSAGES
    name = Text(required=True, validate=[_length(1, 200), _is_visible], metadata=json_schema.STRATEGY_NAME)
    userEmail = Text(required=True, validate=[_EMAIL_LENGTH, _is_email], metadata=json_schema.EMAIL)  # noqa: N815


class QuantityField(fields.Field[str]):
    """A JSON number, kept as text with all its digits. It is never converted to a binary float."""

    default_error_messages = {"required": "is missing", "null": "must be a number"}  # noqa: RUF012

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:  # noqa: ANN401
        del attr, data, kwargs
        fault = _quantity_fault(value.text if isinstance(value, Literal) else "")
        if fault is not None:
            raise ValidationError(fault)
        return str(value)


def _quantity_fault(text: str) -> str | None:
    if not _QUANTITY.match(text):
        return "must be a plain decimal number such as 10 or 0.25, not a string"
    if len(text.replace(".", "")) > MAX_QUANTITY_DIGITS:
        return f"must have at most {MAX_QUANTITY_DIGITS} digits"
    return None if Decimal(text) else "must be above zero"


def _one_of(*allowed: str) -> validate.OneOf:
    return validate.OneOf(allowed, error=f"must be one of {', '.join(allowed)}")


def time_of(text: str) -> datetime | None:
    """Return a time in the form of RFC 3339, in UTC; None if the text is not one.

    A leap second counts as the second before it, and a time beyond the years 1 to 9999 as the nearest one.
    """
    found = _TIME.match(text)
    if found is None:
        return None
    day, minute, second, zone = found.groups()
    if day.startswith("0000"):
        return _FIRST_TIME
    second = second.replace("60", "59", 1) if second.startswith("60") else second
    try:
        at = datetime.fromisoformat(f"{day}T{minute}:{second}{zone.upper()}")
    except ValueError:
        return None
    try:
        return at.astimezone(UTC)
    except OverflowError:
        return _FIRST_TIME if at.year == 1 else _LAST_TIME


class TimeField(fields.Field[datetime]):
    """A JSON string with a time in the form of RFC 3339."""

    default_error_messages = {"required": "is missing", "null": "must be a string"}  # noqa: RUF012

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:  # noqa: ANN401
        del attr, data, kwargs
        found = time_of(value) if isinstance(value, str) else None
        if found is None:
            raise ValidationError("must be a time such as 2026-01-31T20:00:00Z")
        return found


class NewReplay(Schema):
    """The body of POST /v1/operations/integrations/{id}/replays, with which an operator replays failed events."""

    error_messages = _MESSAGES
    since = TimeField(required=True, metadata=json_schema.SINCE)
    until = TimeField(metadata=json_schema.UNTIL)
    state = Text(validate=_one_of(*REPLAYED_STATES), metadata=json_schema.REPLAYED_STATE)


class NewSignal(Schema):
    """The body of POST /v1/strategies/{id}/signals, with which the strategy engine reports a signal."""

    error_messages = _MESSAGES
    signalId = Text(required=True, validate=_length(1, 128))  # noqa: N815
    type = Text(required=True, validate=_one_of("OPEN", "CLOSE", "REOPEN"))
    direction = Text(required=True, validate=_one_of("BUY", "SELL"))
    ticker = Text(required=True, validate=_length(1, 64))
    quantity = QuantityField(required=True, metadata=json_schema.QUANTITY)
    proquantPositionId = Text(required=True, validate=_length(1, 128))  # noqa: N815


NEW_INTEGRATION: Final = NewIntegration()
NEW_STRATEGY: Final = NewStrategy()
NEW_SIGNAL: Final = NewSignal()
NEW_REPLAY: Final = NewReplay()


class _PlainSignal(msgspec.Struct, forbid_unknown_fields=True):
    """Has the fields of NewSignal, for the fast decoder of parse_signal, which does not accept every valid body."""

    signalId: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]  # noqa: N815
    type: typing.Literal["OPEN", "CLOSE", "REOPEN"]
    direction: typing.Literal["BUY", "SELL"]
    ticker: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    quantity: msgspec.Raw
    proquantPositionId: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]  # noqa: N815


_PLAIN_SIGNAL: Final = msgspec.json.Decoder(_PlainSignal)
_PLAIN_SIGNAL_QUOTES: Final = 22
"""Number of quotation marks around six keys and five strings. A body in which a key is repeated has more."""


def parse_signal(body: bytes) -> dict[str, Any]:
    """Return the fields of a NewSignal body. Raises InvalidBodyError, which names all faults at once.

    A fast decoder comes first and accepts bodies that are clearly valid; only other bodies are checked with the schema.
    The schema alone takes as much time as all other work that is done before a signal is stored.
    """
    return _parse_plain_signal(body) or parse(NEW_SIGNAL, body)


def _parse_plain_signal(body: bytes) -> dict[str, Any] | None:
    """Return the fields of a clearly valid body; None if the schema has to check the body."""
    if b"\\" in body or body.count(b'"') != _PLAIN_SIGNAL_QUOTES:
        return None
    try:
        found = msgspec.structs.asdict(_PLAIN_SIGNAL.decode(body))
        quantity = bytes(found["quantity"]).decode()
        if UNPRINTABLE.search(body.decode()) or _quantity_fault(quantity) is not None:
            return None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return {**found, "quantity": quantity}
