"""``GET /v1/feeSchedules/{id}``: its reply and its description (wire.md §9). Pure: no clock, no database, no HTTP."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Final

from marshmallow import fields, validate

from chassis.errors import (
    FeeScheduleNotFoundError,
    InvalidQueryParameterError,
    UnavailableError,
    UpstreamTimeoutError,
)
from chassis.openapi import DescribedOperation, Reply, json_reply, path_parameter
from dfsp_api.fee_schedule_record import StoredFeeSchedule, published_rules
from dfsp_api.pricing import Rounding
from dfsp_api.replies import format_time
from quoting.openapi import COMMON_HEADERS, EXPLANATION_EXAMPLE, LOOK_UP_TAG
from quoting.schemas import SCHEDULE_ID, FeeStep

PATH: Final = "/v1/feeSchedules/{id}"
CURRENT: Final = "current"

_ID: Final = re.compile(r"[0-9a-f]{64}\Z")
_SINCE: Final = "2026-11-21T02:18:51.099Z"


def schedule_id_of(path: str) -> bytes | None:
    """Return the id at the end of a path; None for the schedule in force. Raises FeeScheduleNotFoundError."""
    last = path.rpartition("/")[2]
    if last == CURRENT:
        return None
    if not _ID.match(last):
        raise FeeScheduleNotFoundError
    return bytes.fromhex(last)


def fee_schedule_reply(stored: StoredFeeSchedule) -> Mapping[str, object]:
    return {
        "id": stored.schedule.id.hex(),
        "since": format_time(stored.since),
        "rules": published_rules(stored.schedule.rules),
    }


class FeeRule(Reply):
    """The fees for one pair of transferType and currencyCode."""

    transferType = fields.String(required=True)  # noqa: N815
    currencyCode = fields.String(required=True)  # noqa: N815
    least = fields.String(required=True, metadata={"description": "Minimum fee."})
    most = fields.String(metadata={"description": "Maximum fee; absent: none."})
    rounding = fields.String(
        required=True,
        validate=validate.OneOf([each.value for each in Rounding]),
        metadata={"description": "How a fee is rounded to the currency's minor unit."},
    )
    step = fields.List(fields.Nested(FeeStep), required=True)


class PublishedFeeSchedule(Reply):
    """A fee schedule."""

    id = fields.String(required=True, metadata=SCHEDULE_ID)
    since = fields.AwareDateTime(
        required=True, metadata={"description": "When the payee stored it, shortly before its first quote."}
    )
    rules = fields.List(
        fields.Nested(FeeRule),
        required=True,
        metadata={"description": "Ordered by transferType and currencyCode."},
    )


@cache
def describe() -> DescribedOperation:
    explained = EXPLANATION_EXAMPLE
    rule = {
        **explained["rule"],
        "least": explained["least"],
        "rounding": explained["rounding"],
        "step": [explained["step"]],
    }
    return DescribedOperation(
        id="getFeeSchedule",
        summary="Read a fee schedule",
        tag=LOOK_UP_TAG,
        description="The fee schedule in force, or an earlier one that priced a quote. Its id is the SHA-256 of its rules"
        " as JSON with ordered keys and without spaces. A look-up of a quote names the id in `explanation`.",
        parameters=[
            path_parameter(
                "id",
                f"The id of a fee schedule, or `{CURRENT}` for the one in force.",
                {"type": "string"},
                example=CURRENT,
            ),
            *COMMON_HEADERS,
        ],
        answers={
            200: json_reply(
                "The fee schedule.",
                PublishedFeeSchedule,
                {"id": explained["schedule"], "since": _SINCE, "rules": [rule]},
            )
        },
        errors=(
            FeeScheduleNotFoundError,
            InvalidQueryParameterError,
            UnavailableError,
            UpstreamTimeoutError,
        ),
    )
