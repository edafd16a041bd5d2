"""``GET /v1/exposures``: its reply and its description (wire.md §9). Pure: no clock, no database, no HTTP."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Final

from marshmallow import fields

from chassis.errors import (
    ForbiddenError,
    InvalidQueryParameterError,
    UnavailableError,
    UpstreamTimeoutError,
)
from chassis.openapi import DescribedOperation, Reply, json_reply
from dfsp_api.exposure_limits import Exposure, ExposureLimit, Pair, format_sum
from quoting.openapi import COMMON_HEADERS, LOOK_UP_TAG

PATH: Final = "/v1/exposures"

LimitedExposure = tuple[Pair, ExposureLimit, Exposure]


def exposures_reply(exposures: Iterable[LimitedExposure]) -> Mapping[str, object]:
    return {"exposures": [_content(*each) for each in exposures]}


def _content(pair: Pair, limit: ExposureLimit, exposure: Exposure) -> Mapping[str, object]:
    caller, currency = pair
    return {
        "caller": caller,
        "currencyCode": currency,
        "sum": format_sum(exposure.sum, currency),
        "count": exposure.count,
        "sumLimit": None if limit.sum is None else format_sum(limit.sum, currency),
        "countLimit": limit.count,
    }


class CallerExposure(Reply):
    """The quotes that one caller has reserved in one currency, and its limits."""

    caller = fields.String(required=True)
    currencyCode = fields.String(required=True)  # noqa: N815
    sum = fields.String(
        required=True, metadata={"description": "Sum of the source amounts of the quotes that count."}
    )
    count = fields.Integer(required=True, metadata={"description": "Number of the quotes that count."})
    sumLimit = fields.String(  # noqa: N815
        required=True, allow_none=True, metadata={"description": "The largest sum; null for no limit."}
    )
    countLimit = fields.Integer(  # noqa: N815
        required=True, allow_none=True, metadata={"description": "The largest number; null for no limit."}
    )


class Exposures(Reply):
    """All exposures that have a limit."""

    exposures = fields.List(
        fields.Nested(CallerExposure),
        required=True,
        metadata={"description": "Ordered by caller and currencyCode."},
    )


@cache
def describe() -> DescribedOperation:
    example = {
        "caller": "alice",
        "currencyCode": "USD",
        "sum": "13.75",
        "count": 1,
        "sumLimit": "1000.00",
        "countLimit": None,
    }
    return DescribedOperation(
        id="listExposures",
        summary="List exposures",
        tag=LOOK_UP_TAG,
        description="For operators of the payee: for each caller and currency that has an exposure limit, the quotes that"
        " count, and the limit. A quote counts from its reservation until it is executed, released or expired, by the clock"
        " of the payee's database.",
        parameters=list(COMMON_HEADERS),
        answers={200: json_reply("The exposures.", Exposures, {"exposures": [example]})},
        errors=(ForbiddenError, InvalidQueryParameterError, UnavailableError, UpstreamTimeoutError),
    )
