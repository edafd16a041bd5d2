"""The messages of the API, as marshmallow schemas (guide, Creating an Integration)."""

import re
import typing
from decimal import Decimal
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import msgspec
from marshmallow import Schema, ValidationError, fields, validate

from chassis.json_object import Literal
from chassis.schemas import UNPRINTABLE, Text, parse

MAX_HEADERS: Final = 32
MAX_HEADER_CHARACTERS: Final = 16 * 1024
MAX_QUANTITY_DIGITS: Final = 18

_UNKNOWN: Final = {"unknown": "is not a field of this message", "type": "must be an object"}
_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}\Z")
_VALUE: Final = re.compile(r"([\x21-\x7e]([\x20-\x7e\t]{0,4094}[\x21-\x7e])?)?\Z")
_EMAIL: Final = re.compile(r"[^@\s]{1,64}@[^@\s]{1,189}\Z")
_QUANTITY: Final = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]+)?\Z")
_TURNING: Final = re.compile("[\u202a-\u202e\u2066-\u2069]")
ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z")

# what decides how a request is read, and by whom, is not the partner's to say
_OURS: Final = frozenset(
    {
        "host",
        "expect",
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_OUR_PREFIXES: Final = ("content-", "webhook-")


def _length(least: int, most: int) -> validate.Length:
    return validate.Length(least, most, error=f"must be {least:,} to {most:,} characters")


def _is_shown(value: str) -> None:
    """A stranger's words stand among ours where users decide: none may be unseen, or turn round what follows."""
    if value and not value.strip():
        raise ValidationError("must not be blank")
    if _TURNING.search(value):
        raise ValidationError("must not hold characters that turn text round")


def _is_email(value: str) -> None:
    if not _EMAIL.match(value):
        raise ValidationError("must be an e-mail address")


def _is_image_url(value: str) -> None:
    try:
        parts = urlsplit(value)
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        is_url = False
    if not is_url or any(character.isspace() or character in '<>"\\^`{|}' for character in value):
        raise ValidationError("must be an absolute http or https URL")


class Headers(fields.Field[dict[str, str]]):
    """An object of header names and values; faults name the header."""

    default_error_messages = {"null": "must be an object"}  # noqa: RUF012 - marshmallow's own form

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, str]:  # noqa: ANN401
        del attr, data, kwargs
        if not isinstance(value, dict):
            raise ValidationError("must be an object")
        faults = {name: [fault] for name, content in value.items() if (fault := header_fault(name, content))}
        seen: set[str] = set()
        for name in value:
            if name.lower() in seen:
                faults.setdefault(name, ["is there twice"])
            seen.add(name.lower())
        if faults:
            raise ValidationError(faults)
        if len(value) > MAX_HEADERS or sum(map(len, [*value, *value.values()])) > MAX_HEADER_CHARACTERS:
            raise ValidationError(f"must be at most {MAX_HEADERS} headers with 16 KiB in all")
        return value


def header_fault(name: str, value: object) -> str | None:
    """What is wrong with a partner's header; None where nothing is."""
    if not _NAME.match(name):
        return "is not a header's name"
    if name.lower() in _OURS or name.lower().startswith(_OUR_PREFIXES):
        return "is not a header that may be set"
    if not isinstance(value, str) or not _VALUE.match(value):
        return "must be at most 4,096 printable ASCII characters, with none but these at both ends"
    return None


class NewWebhook(Schema):
    """Where events are sent to."""

    error_messages = _UNKNOWN
    url = Text(required=True)
    headers = Headers(load_default=dict)


class NewIntegration(Schema):
    """The body of the guide's POST /api/integrations/v1/integrations."""

    error_messages = _UNKNOWN
    name = Text(required=True, validate=[_length(1, 200), _is_shown])
    description = Text(required=True, validate=[_length(1, 500), _is_shown])
    imageUrl = Text(required=True, validate=[_length(1, 2_048), _is_image_url])  # noqa: N815 - the guide's names
    userEmail = Text(required=True, validate=[_length(3, 254), _is_email])  # noqa: N815
    webhook = fields.Nested(
        NewWebhook,
        required=True,
        error_messages={"required": "is missing", "null": "must be an object"},
    )


class NewStrategy(Schema):
    """The body of PUT /v1/strategies/{id}."""

    error_messages = _UNKNOWN
    name = Text(required=True, validate=[_length(1, 200), _is_shown])
    userEmail = Text(required=True, validate=[_length(3, 254), _is_email])  # noqa: N815


class Quantity(fields.Field[str]):
    """A JSON number, kept as it was written: it never goes through a binary float."""

    default_error_messages = {"required": "is missing", "null": "must be a number"}  # noqa: RUF012

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:  # noqa: ANN401
        del attr, data, kwargs
        fault = _quantity_fault(value.text if isinstance(value, Literal) else "")
        if fault is not None:
            raise ValidationError(fault)
        return str(value)


def _quantity_fault(text: str) -> str | None:
    if not _QUANTITY.match(text):
        return "must be a plain decimal number such as 10 or 0.25, and no string"
    if len(text.replace(".", "")) > MAX_QUANTITY_DIGITS:
        return f"must have at most {MAX_QUANTITY_DIGITS} digits"
    return None if Decimal(text) else "must be above zero"


def _one_of(*allowed: str) -> validate.OneOf:
    return validate.OneOf(allowed, error=f"must be one of {', '.join(allowed)}")


class NewSignal(Schema):
    """The body of POST /v1/strategies/{id}/signals."""

    error_messages = _UNKNOWN
    signalId = Text(required=True, validate=_length(1, 128))  # noqa: N815
    type = Text(required=True, validate=_one_of("OPEN", "CLOSE", "REOPEN"))
    direction = Text(required=True, validate=_one_of("BUY", "SELL"))
    ticker = Text(required=True, validate=_length(1, 64))
    quantity = Quantity(required=True)
    proquantPositionId = Text(required=True, validate=_length(1, 128))  # noqa: N815


NEW_INTEGRATION: Final = NewIntegration()
NEW_STRATEGY: Final = NewStrategy()
NEW_SIGNAL: Final = NewSignal()


class _PlainSignal(msgspec.Struct, forbid_unknown_fields=True):
    """What NewSignal lets through."""

    signalId: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]  # noqa: N815
    type: typing.Literal["OPEN", "CLOSE", "REOPEN"]
    direction: typing.Literal["BUY", "SELL"]
    ticker: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    quantity: msgspec.Raw
    proquantPositionId: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]  # noqa: N815


_PLAIN_SIGNAL: Final = msgspec.json.Decoder(_PlainSignal)
_PLAIN_SIGNAL_QUOTES: Final = 22
"""Of six keys and five strings: a key that is there twice has more."""


def signal(body: bytes) -> dict[str, Any]:
    """The fields of a NewSignal. Raises InvalidBodyError with all faults at once.

    Nearly all are written plainly, without escapes, and are right: these take a short cut, as the schema costs as
    much as all else that is done for a signal before it is stored.
    """
    return _plain_signal(body) or parse(NEW_SIGNAL, body)


def _plain_signal(body: bytes) -> dict[str, Any] | None:
    """None: look closer."""
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
