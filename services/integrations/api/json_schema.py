"""Descriptions, examples and patterns of the fields of requests, for the API description of the checks in `schemas`."""

from typing import Any, Final

from chassis import patterns
from chassis.patterns import pattern_of
from integrations.webhook.headers import NAME as HEADER_NAME
from integrations.webhook.headers import RESERVED, RESERVED_PREFIXES, VALUE

MAX_HEADERS: Final = 32

_CONTROLS: Final = r"\u0000-\u001f\u007f-\u009f"
_WHITE: Final = r" \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
# format characters, separators of lines and paragraphs, and letters without a glyph
_INVISIBLE: Final = (
    r"\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064"
    r"\u2066-\u206f\ufeff\ufff9-\ufffb\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
)
_JOINERS: Final = r"\u034f\u180b-\u180d\u180f\u200c\u200d\ufe00-\ufe0f"
_VISIBLE: Final = (
    f"^[^{_CONTROLS}{_INVISIBLE}]*[^{_CONTROLS}{_INVISIBLE}{_WHITE}{_JOINERS}][^{_CONTROLS}{_INVISIBLE}]*$"
)
_IN_EMAIL: Final = f"[^@{_CONTROLS}{_WHITE}{_INVISIBLE}]"


def _of_any_case(word: str) -> str:
    return "".join(f"[{each.upper()}{each}]" if each.isalpha() else each for each in word)


_RESERVED_NAMES: Final = "|".join(map(_of_any_case, sorted(RESERVED)))
_RESERVED_BEGINNINGS: Final = "|".join(map(_of_any_case, RESERVED_PREFIXES))

NAME: Final = {
    "pattern": _VISIBLE,
    "description": "The user's name at the partner. Without invisible characters.",
    "examples": ["user@example.com"],
}
DESCRIPTION: Final = {
    "pattern": _VISIBLE,
    "description": "The partner's product. Without invisible characters.",
    "examples": ["Foo Bar FX"],
}
STRATEGY_NAME: Final = {
    "pattern": _VISIBLE,
    "description": "The strategy's name. Without invisible characters.",
    "examples": ["Gold High-Risk"],
}
IMAGE_URL: Final = {
    "pattern": patterns.IMAGE_URL,
    "description": "The product's logo: an absolute http or https URL.",
    "examples": ["https://foo.bar/logo.png"],
}
EMAIL: Final = {
    "pattern": f"^{_IN_EMAIL}{{1,64}}@{_IN_EMAIL}{{1,189}}$",
    "description": "The user's e-mail address on this platform.",
    "examples": ["user@example.com"],
}
WEBHOOK_URL: Final = {
    "pattern": r"^[Hh][Tt][Tt][Pp][Ss]?://[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%]+$",
    "minLength": 1,
    "maxLength": 2_048,
    "description": "Where events are sent: an https URL with a public address, without user and fragment. The operator may"
    " allow others.",
    "examples": ["https://foo.bar/api/proquant"],
}
HEADERS: Final[dict[str, Any]] = {
    "description": "Headers of each request to the webhook, 16 KiB in all. No response shows their values.",
    "json_schema": {
        "type": "object",
        "maxProperties": MAX_HEADERS,
        "propertyNames": {
            "pattern": pattern_of(HEADER_NAME),
            "not": {"pattern": f"^(({_RESERVED_NAMES})$|{_RESERVED_BEGINNINGS})"},
        },
        "additionalProperties": {"type": "string", "pattern": pattern_of(VALUE)},
        "examples": [{"x-foo-bar-api-token": "baz"}],
    },
}
QUANTITY: Final[dict[str, Any]] = {
    "description": "A plain decimal number above zero with at most 18 digits, without an exponent. It keeps its digits.",
    "json_schema": {"type": "number", "exclusiveMinimum": 0, "examples": [10]},
}
SINCE_TEXT: Final = "Only events that were created at this time or later."
UNTIL_TEXT: Final = (
    "Only events that were created, or last sent again, at this time or earlier; default: now. If a call is repeated"
    " with the same time, it sends no event a second time."
)
REPLAYED_STATE_TEXT: Final = "Only events in this state. Without it, those that are FAILED or EXPIRED."
SINCE: Final[dict[str, Any]] = {
    "description": SINCE_TEXT,
    "json_schema": {"type": "string", "format": "date-time", "examples": ["2026-01-31T20:00:00Z"]},
}
UNTIL: Final[dict[str, Any]] = {
    "description": UNTIL_TEXT,
    "json_schema": {"type": "string", "format": "date-time", "examples": ["2026-01-31T20:30:00Z"]},
}
REPLAYED_STATE: Final = {"description": REPLAYED_STATE_TEXT, "examples": ["EXPIRED"]}
