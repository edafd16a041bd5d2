"""The webhook's body as JSON Schema: the fields that `events` reads, and when they are required."""

from typing import Any, Final

from chassis.patterns import PRINTABLE
from signal_receiver.events import MAX_ID_CHARACTERS, MAX_TIMESTAMP, Direction, SignalType

_ID: Final = {"type": "string", "minLength": 1, "maxLength": MAX_ID_CHARACTERS, "pattern": PRINTABLE}
_STRATEGY: Final = {
    "type": "object",
    "required": ["id"],
    "properties": {"id": _ID, "name": {"description": "The strategy's name; not read."}},
}
_ORDER: Final = {
    "type": "object",
    "required": ["direction", "ticker", "quantity", "strategy", "proquantPositionId"],
    "properties": {
        "direction": {"enum": [each.value for each in Direction]},
        "ticker": _ID,
        "quantity": {"type": "number"},
        "strategy": _STRATEGY,
        "proquantPositionId": _ID,
    },
}
_CLOSE: Final = {
    "type": "object",
    "required": ["strategy"],
    "properties": {"strategy": _STRATEGY, "proquantPositionId": {"type": ["string", "null"]}},
}
_TIMESTAMP: Final = {"type": "integer", "minimum": -MAX_TIMESTAMP, "maximum": MAX_TIMESTAMP}


def _trades(data: dict[str, Any]) -> dict[str, Any]:
    return {"required": ["timestamp", "data"], "properties": {"timestamp": _TIMESTAMP, "data": data}}


def _is_of(*types: SignalType) -> dict[str, Any]:
    return {"properties": {"type": {"enum": [each.value for each in types]}}, "required": ["type"]}


_EVENT: Final = {
    "type": "object",
    "description": "The guide describes the events under Integration Events. Only those that trade need `data`.",
    "required": ["type"],
    "properties": {
        "type": {"type": "string", "examples": [SignalType.OPEN.value]},
        "timestamp": {**_TIMESTAMP, "type": ["integer", "null"], "description": "Milliseconds since 1970."},
        "integration": {"description": "The integration; not read."},
        "data": {"description": "What the event is about."},
    },
    "if": _is_of(SignalType.CLOSE),
    "then": _trades(_CLOSE),
    "else": {"if": _is_of(SignalType.OPEN, SignalType.REOPEN), "then": _trades(_ORDER)},
}
ENVELOPE: Final = {
    "type": "object",
    "description": "The event in each version that the platform knows; this service reads `v1`.",
    "required": ["v1"],
    "properties": {
        "v1": {
            "type": "object",
            "required": ["event"],
            "properties": {
                "event": _EVENT,
                "deprecation": {
                    "type": ["string", "null"],
                    "description": "When this version ends; null while no date is known.",
                },
            },
        }
    },
}
