"""What messages consist of, as marshmallow has it: text that is text, and faults by field."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from marshmallow import Schema, ValidationError, fields
from marshmallow.exceptions import SCHEMA

from chassis.errors import Fault, InvalidBodyError, InvalidQueryParameterError
from chassis.json_object import Literal, Member, members

UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Text(fields.String):
    """A JSON string, and nothing that could be taken for one; no control characters or lone surrogates."""

    default_error_messages = {  # noqa: RUF012 - marshmallow's own form
        "required": "is missing",
        "null": "must be a string",
        "invalid": "must be a string",
        "control": "must not hold control characters",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:  # noqa: ANN401
        del attr, data, kwargs
        if not isinstance(value, str):
            raise self.make_error("invalid")
        if UNPRINTABLE.search(value):
            raise self.make_error("control")
        return value


def parse(schema: Schema, body: bytes) -> dict[str, Any]:
    """The fields of a body. Raises InvalidBodyError with all faults at once."""
    return check(schema, members(body))


def check(schema: Schema, found: list[Member]) -> dict[str, Any]:
    """The fields of a body that has been taken apart. Raises InvalidBodyError with all faults at once."""
    values = {member.key: member.value for member in found}
    try:
        loaded: dict[str, Any] = schema.load(values)
    except ValidationError as error:
        raise InvalidBodyError(faults=_faults(error, values)) from None
    return loaded


def check_query(schema: Schema, query: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """The parameters of a query. Raises InvalidQueryParameterError with all faults at once."""
    values = dict(query)
    try:
        loaded: dict[str, Any] = schema.load(values)
    except ValidationError as error:
        raise InvalidQueryParameterError(faults=_faults(error, values)) from None
    return loaded


def _faults(error: ValidationError, values: Mapping[str, object]) -> list[Fault]:
    messages: Mapping[str, Any] = error.normalized_messages()  # type: ignore[no-untyped-call]
    return [
        Fault(key, text, _told(value))
        for name, found in messages.items()
        for key, text, value in _texts(name, found, values.get(name))
    ]


def _texts(key: str, found: Any, value: object) -> Iterator[tuple[str, str, object]]:  # noqa: ANN401
    """Each fault of a field, of those inside it too: `webhook.url`."""
    if isinstance(found, dict):
        inside = value if isinstance(value, dict) else {}
        for name, more in found.items():
            at = key if name == SCHEMA else f"{key}.{name}"
            yield from _texts(at, more, inside.get(name))
    else:
        for text in found if isinstance(found, list) else [str(found)]:
            yield key, text, value


def _told(value: object) -> object:
    """A faulty value in an error: scalars as text, the rest by kind."""
    if value is None or isinstance(value, str | bool):
        return value
    return value.text if isinstance(value, Literal) else "an object" if isinstance(value, dict) else "a list"
