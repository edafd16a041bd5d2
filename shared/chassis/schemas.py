"""Helpers for marshmallow schemas: a text field, and errors that name each faulty field."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from marshmallow import Schema, ValidationError, fields
from marshmallow.exceptions import SCHEMA

from chassis.errors import Fault, InvalidBodyError, InvalidQueryParameterError, QuotingError
from chassis.json_object import Literal, Member, members

UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Text(fields.String):
    """A JSON string without control characters or lone surrogates. Other JSON types are not converted."""

    default_error_messages = {  # noqa: RUF012 - the form that marshmallow wants
        "required": "is missing",
        "null": "must be a string",
        "invalid": "must be a string",
        "control": "must not contain control characters",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:  # noqa: ANN401
        del attr, data, kwargs
        if not isinstance(value, str):
            raise self.make_error("invalid")
        if UNPRINTABLE.search(value):
            raise self.make_error("control")
        return value


def parse(schema: Schema, body: bytes) -> dict[str, Any]:
    """Return the fields of a JSON body. Raises InvalidBodyError, which lists all faults."""
    return check(schema, members(body))


def check(schema: Schema, found: list[Member]) -> dict[str, Any]:
    """Check the members of a JSON body, and return its fields. Raises InvalidBodyError, which lists all faults."""
    return _load(schema, {member.key: member.value for member in found}, InvalidBodyError)


def check_query(schema: Schema, query: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """Return the parameters of a query. Raises InvalidQueryParameterError, which lists all faults."""
    return _load(schema, dict(query), InvalidQueryParameterError)


def _load(schema: Schema, values: Mapping[str, object], error_class: type[QuotingError]) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = schema.load(values)
    except ValidationError as error:
        raise error_class(faults=_faults(error, values)) from None
    return loaded


def _faults(error: ValidationError, values: Mapping[str, object]) -> list[Fault]:
    messages: Mapping[str, Any] = error.normalized_messages()  # type: ignore[no-untyped-call]
    missing = [name for name in messages if name not in values]
    return [  # in the order of the body: marshmallow reports unknown fields in no order
        Fault(key, text, _value_for_error(value))
        for name in [*missing, *(name for name in values if name in messages)]
        for key, text, value in _texts(name, messages[name], values.get(name))
    ]


def _texts(key: str, found: Any, value: object) -> Iterator[tuple[str, str, object]]:  # noqa: ANN401
    """Yield key, message and value of each fault in a field. The key of a nested field is like `webhook.url`."""
    if isinstance(found, dict):
        inside = value if isinstance(value, dict) else {}
        for name, more in found.items():
            at = key if name == SCHEMA else f"{key}.{name}"
            yield from _texts(at, more, inside.get(name))
    else:
        for text in found if isinstance(found, list) else [str(found)]:
            yield key, text, value


def _value_for_error(value: object) -> object:
    """Return a faulty value as an error shows it: a scalar unchanged, any other value as the name of its type."""
    if value is None or isinstance(value, str | bool):
        return value
    return value.text if isinstance(value, Literal) else "an object" if isinstance(value, dict) else "a list"
