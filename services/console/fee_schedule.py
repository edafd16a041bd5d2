"""Fee schedules and the explanation of a fee, as the payee shows them. The module does no input or output."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chassis.errors import UnavailableError

MAX_ROWS: Final = 500
CURRENT: Final = "current"
ID: Final = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class FeeStep:
    """A step of a rule. Amounts are in the rule's currency; there is no maximum fee if `most` is None."""

    transfer_type: str
    currency: str
    first: str
    last: str
    flat: str
    percent: str
    least: str
    most: str | None
    rounding: str


@dataclass(frozen=True)
class FeeSchedule:
    """A fee schedule. `since` is when the payee stored it, in ISO 8601; `total` is the number of all steps."""

    id: str
    since: str
    steps: Sequence[FeeStep]
    total: int


@dataclass(frozen=True)
class Explanation:
    """The step that priced a quote, and the fee before it was rounded. `schedule` is the schedule's id."""

    schedule: str
    step: FeeStep
    unrounded: str


def schedule_of(reply: object) -> FeeSchedule:
    """Return the fee schedule in a reply of the payee. Raises UnavailableError if the reply has another form."""
    try:
        return _schedule(reply)
    except (KeyError, TypeError, ValueError) as error:
        raise UnavailableError("The payee's fee schedule has another form than expected.") from error


def explanation_of(quote: Mapping[str, Any]) -> Explanation | None:
    """Return the explanation of a quote's fee; None if the payee shows none, or one of another form."""
    try:
        found = quote["explanation"]
        step = _step({**found, **found["rule"]}, found["step"])
        return Explanation(str(found["schedule"]), step, str(found["unrounded"]))
    except (KeyError, TypeError):
        return None


def _schedule(reply: Any) -> FeeSchedule:  # noqa: ANN401 - JSON
    if not ID.match(reply["id"]):
        raise ValueError("not an id")
    steps = [_step(rule, step) for rule in reply["rules"] for step in rule["step"]]
    return FeeSchedule(reply["id"], str(reply["since"]), steps[:MAX_ROWS], len(steps))


def _step(rule: Mapping[str, Any], step: Mapping[str, Any]) -> FeeStep:
    return FeeStep(
        str(rule["transferType"]),
        str(rule["currencyCode"]),
        str(step["from"]),
        str(step["to"]),
        str(step["flat"]),
        str(step["percent"]),
        str(rule["least"]),
        None if rule.get("most") is None else str(rule["most"]),
        str(rule["rounding"]),
    )
