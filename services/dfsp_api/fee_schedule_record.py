"""A fee schedule as it is stored and published, and the explanation of a fee (wire.md §9). Pure: no I/O.

The canonical form of a schedule is the JSON of its rules, ordered by transferType and currencyCode, with ordered keys,
without spaces, and with every amount in all fraction digits of its currency. Two files that charge the same fees by
the same steps have the same canonical form, and so the same id.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from decimal import Context, Decimal
from typing import Any, Final

import msgspec
import orjson

from dfsp_api.pricing import FeeRule, FeeSchedule, FeeStep

Rules = Mapping[tuple[str, str], FeeRule]

_EXACT: Final = Context(prec=100)
"""Has more digits than any unrounded fee: a rate has at most 20 digits, and an amount has at most 20, too."""


class StoredFeeSchedule(msgspec.Struct, frozen=True):
    """A fee schedule in the database. ``since`` is when it was stored, shortly before its first quote."""

    schedule: FeeSchedule
    since: datetime


def schedule_id(rules: Rules) -> bytes:
    """Return the SHA-256 of the canonical form."""
    return hashlib.sha256(canonical_form(rules)).digest()


def canonical_form(rules: Rules) -> bytes:
    return orjson.dumps(published_rules(rules), option=orjson.OPT_SORT_KEYS)


def published_rules(rules: Rules) -> list[dict[str, Any]]:
    """Return the rules with the keys of a fee schedule file. A rule without a maximum has no key "most"."""
    return [_published_rule(rules[key]) for key in sorted(rules)]


def _published_rule(rule: FeeRule) -> dict[str, Any]:
    most = {} if rule.max_fee is None else {"most": _amount(rule, rule.max_fee)}
    return {
        "transferType": rule.transfer_type,
        "currencyCode": rule.currency,
        "least": _amount(rule, rule.min_fee),
        **most,
        "rounding": rule.rounding.value,
        "step": [_published_step(rule, step) for step in rule.steps],
    }


def _published_step(rule: FeeRule, step: FeeStep) -> dict[str, str]:
    return {
        "from": _amount(rule, step.first),
        "to": _amount(rule, step.last),
        "flat": _amount(rule, step.flat),
        "percent": _decimal(100 * step.share.numerator, step.share.denominator),
    }


def explanation(schedule: FeeSchedule, rule: FeeRule, destination_amount: Decimal) -> dict[str, Any]:
    """Return how the fee of a quote was calculated, as a look-up shows it (wire.md §9).

    ``unrounded`` is ``flat`` plus ``percent`` of the destination amount, but not less than ``least`` and not more than
    ``most``. Rounded once by ``rounding`` to the currency's minor unit it is the fee. If the sender chose the source
    amount, the fee also has the rest of it that is too small for a larger destination amount.
    """
    destination = int(destination_amount.scaleb(rule.exponent))
    step = rule.step(destination)
    numerator, denominator = rule.unrounded_fee(step, destination)
    key = rule.transfer_type, rule.currency, step.first
    shared = schedule.explained.get(key)
    if shared is None:
        shared = schedule.explained[key] = _explained_step(schedule, rule, step)
    return {**shared, "unrounded": _decimal(numerator, denominator * 10**rule.exponent)}


def _explained_step(schedule: FeeSchedule, rule: FeeRule, step: FeeStep) -> dict[str, Any]:
    """Return the part of an explanation that all quotes with the same step have."""
    return {
        "schedule": schedule.id.hex(),
        "rule": {"transferType": rule.transfer_type, "currencyCode": rule.currency},
        "step": _published_step(rule, step),
        "least": _amount(rule, rule.min_fee),
        "most": None if rule.max_fee is None else _amount(rule, rule.max_fee),
        "rounding": rule.rounding.value,
    }


def _amount(rule: FeeRule, minor_units: int) -> str:
    return format(rule.to_decimal(minor_units), "f")


def _decimal(numerator: int, denominator: int) -> str:
    """Return a fraction that decimal digits can express exactly, as text without trailing zeros."""
    text = format(_EXACT.divide(Decimal(numerator), Decimal(denominator)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
