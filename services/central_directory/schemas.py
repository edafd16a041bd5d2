"""Schemas of the bodies that the directory's administrator sends (wire.md §5)."""

from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

from chassis.patterns import BASE_URL
from chassis.schemas import Text
from chassis.settings import base_url
from quoting.schemas import Receiver


class Registration(Schema):
    """The body of POST /commands/register."""

    name = Text(required=True, validate=validate.Length(1, 64, error="must be 1 to 64 characters"))

    error_messages = {"unknown": "is not a field of this message"}  # noqa: RUF012


def _is_base_url(value: str) -> None:
    try:
        base_url(value)
    except ValueError as error:
        raise ValidationError(str(error)) from None


class Flag(fields.Boolean):
    """A JSON boolean. marshmallow's own field also accepts ``"yes"`` and 1."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:  # noqa: ANN401
        del attr, data, kwargs
        if not isinstance(value, bool):
            raise ValidationError("must be true or false")
        return value


class NewResource(Receiver):
    """The body of POST /resources."""

    class Meta:
        unknown = "raise"

    error_messages = {"unknown": "is not a field of this message"}  # noqa: RUF012

    spspReceiver = Text(  # noqa: N815 - the source's name
        required=True,
        validate=[validate.Length(1, 2_048, error="must be 1 to 2,048 characters"), _is_base_url],
        metadata={
            "pattern": BASE_URL,
            "description": "Base URL of the DFSP's spsp-server: http or https, without user, query and fragment.",
        },
    )
    primary = Flag(load_default=True)
