"""The sample user's sample strategy, which the strategy engine makes known to `integrations`."""

import base64
import json
from http import HTTPStatus

from network import http

ID, NAME = "gold", "Gold High-Risk"
USER, PASSWORD = "user@example.com", "sample"
ENGINE, ENGINE_PASSWORD = "engine", "sample"


class StrategyError(RuntimeError):
    """The strategy is not taken, as may well be under settings of the user's own."""


def make_known(origin: str) -> None:
    """As often as wanted: it is there, or it is there again. Raises StrategyError."""
    credentials = base64.b64encode(f"{ENGINE}:{ENGINE_PASSWORD}".encode()).decode()
    answer = http.send(
        "PUT",
        f"{origin}/v1/strategies/{ID}",
        headers={"Content-Type": "application/json", "Authorization": f"Basic {credentials}"},
        body=json.dumps({"name": NAME, "userEmail": USER}).encode(),
    )
    if answer.status >= HTTPStatus.BAD_REQUEST:
        raise StrategyError(f"the sample strategy is not there: {answer.status} {answer.text.strip()[:300]}")
